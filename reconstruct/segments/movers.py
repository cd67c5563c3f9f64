"""Who moves before a camera that stands still: pixels that differ from the background, in parts of a person's size.

The background is the median picture; it is learned a second time without the pixels that differed at first. What
differs is made whole (gaps of a few pixels close, holes fill), and specks are dropped. Parts that are near enough to be
a head and a body with a strap between them become one.

Letters: T frames, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int32, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.recordings.steadiness import STILL, camera_shift
from fieldcast.reconstruct.segments.background import QUIET, background_of

LEAST = 0.002  # of the picture: what is smaller is a speck
PERSON = 0.3  # of the size of a whole person: what is smaller is a piece of one
BLUR = 0.8  # pixels over which evidence is averaged
CLOSED = 0.008  # of the longer side: gaps that close
MARGIN = 0.015  # of the longer side, about what moved, where the background is not learned
RARE = 0.15  # of the frames: people who are apart in fewer are not counted


@dataclass(frozen=True, eq=False)
class Part:
    """Connected pixels of a frame. middle: x and y, pixels. tall: pixels."""

    mask: Bool[np.ndarray, "h w"]
    area: int
    middle: Float64[np.ndarray, " 2"]
    tall: int

    @staticmethod
    def of(mask: Bool[np.ndarray, "h w"]) -> Part:
        rows, columns = mask.nonzero()
        middle = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
        return Part(mask, len(rows), middle, int(rows.max() - rows.min() + 1))


def moving(recording: Recording, progress: Progress = silent) -> list[Bool[np.ndarray, "h w"]]:
    """What moves in each frame."""
    if not recording.static or _moves(recording.frames):
        raise InputError(
            f"{recording.source}: people cannot be found where the camera moves; give masks in scene.json, keypoints "
            "(--keypoints) or poses (--poses)"
        )
    frames = recording.frames
    background = background_of(frames)
    first = [torch.from_numpy(cleaned(background.evidence(frame))) for frame in frames]
    margin = max(1, round(MARGIN * max(first[0].shape)))
    background = background_of(frames, [_wider(mask, margin) for mask in first])
    found = []
    for t, frame in enumerate(frames):
        # Where somebody was all the time nothing is known of the background: what moved there at first still counts.
        evidence = torch.where(background.known, background.evidence(frame), 6.0 * first[t].float())
        found.append(cleaned(evidence))
        progress(t + 1, len(frames), "finding what moves")
    return found


def _moves(frames: list[UInt8[Tensor, "h w 3"]]) -> bool:
    """Whether the picture as a whole moves: it is shifted, and in half of its pixels that is seen. Before a bare wall
    a person alone looks like a shift."""
    shift, frame = camera_shift(frames)
    change = (frames[frame].float() - frames[0].float()).abs().amax(-1)
    return shift > STILL * max(frames[0].shape) and float(change.median()) > 2 * QUIET


def cleaned(evidence: Tensor) -> Bool[np.ndarray, "h w"]:
    """Pixels that probably show something else than the background, without specks and holes."""
    from scipy import ndimage

    mask = ndimage.gaussian_filter(evidence.numpy(), BLUR) > 0
    around = max(1, round(CLOSED * max(mask.shape)))
    mask = ndimage.binary_closing(np.pad(mask, around), iterations=around)[around:-around, around:-around]
    mask = ndimage.binary_fill_holes(mask)
    pieces, count = ndimage.label(mask)
    area = np.bincount(pieces.ravel(), minlength=count + 1)
    kept = area >= LEAST * mask.size
    kept[0] = False
    found: Bool[np.ndarray, "h w"] = kept[pieces]
    return found


def parts(mask: Bool[np.ndarray, "h w"]) -> list[Part]:
    """The connected parts of a frame, largest first."""
    from scipy import ndimage

    pieces: Int32[np.ndarray, "h w"]
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3)))
    return sorted((Part.of(pieces == i + 1) for i in range(count)), key=lambda part: -part.area)


def persons(every: list[list[Part]]) -> list[list[Part]]:
    """Of each frame, the parts that are as large as a person."""
    largest = [here[0].area for here in every if here]
    if not largest:
        return [[] for _ in every]
    size = float(np.median(largest))
    return [[part for part in here if part.area >= PERSON * size] for here in every]


def count_of(large: list[list[Part]]) -> int:
    """The most people who are apart from each other in more than a few frames."""
    counts = np.array([len(here) for here in large])
    enough = max(2, round(RARE * len(counts)))
    return max((n for n in range(1, counts.max(initial=0) + 1) if (counts >= n).sum() >= enough), default=0)


def _wider(mask: Bool[Tensor, "h w"], margin: int) -> Bool[Tensor, "h w"]:
    from scipy import ndimage

    return torch.from_numpy(ndimage.binary_dilation(mask.numpy(), iterations=margin))
