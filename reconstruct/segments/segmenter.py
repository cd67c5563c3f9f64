"""What a segmenter is, what it is asked, and how people compete for pixels.

A segmenter is asked about all people of a picture at once, with a prompt for each, and answers with a logit a person
and pixel: the log-odds that the person is seen there, rather than the background. Image points are fieldcast's: x
right, y down, the centre of the first pixel at (0.5, 0.5).

Letters: P people, Q = P + 1 with the background, H by W pixels, T frames, N and M points.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.recordings.recording import Recording

SURE = 12.0  # the largest logit that is given: who is that sure is wrong in one of 160,000 pixels
HIDDEN = -SURE

Backdrop = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Of a picture [H, W, 3]: the colours of what is behind people, 0..255, and their standard deviation [H, W], infinite
where they are not known."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """What is believed of a person in a picture.

    mask: how much of each pixel shows the person, 0 to 1. box: left, top, right and bottom edge of what is seen.
    positive: points that show the person; negative: points that do not. All are in pixels.
    """

    mask: Float[Tensor, "h w"]
    box: Float[Tensor, " 4"]
    positive: Float[Tensor, "n 2"]
    negative: Float[Tensor, "m 2"]


@runtime_checkable
class Segmenter(Protocol):
    """Finds people in a picture."""

    def segment(self, image: UInt8[Tensor, "h w 3"], prompts: list[Prompt | None]) -> Float[Tensor, "p h w"]:
        """Log-odds of each person against the background, from -SURE to SURE.

        Whoever has no prompt is HIDDEN all over, unless the segmenter needs none (masks). The same picture and prompts
        give the same logits, and people in another order give theirs in that order.
        """
        ...


@runtime_checkable
class Learner(Protocol):
    """A segmenter that does better once it has seen all frames: how people are dressed, what is behind them."""

    def learned(self, frames: Sequence[UInt8[Tensor, "h w 3"]], prompts: Sequence[list[Prompt | None]]) -> Segmenter:
        """A segmenter for these people in these frames."""
        ...


def segment_frames(
    segmenter: Segmenter,
    frames: Sequence[UInt8[Tensor, "h w 3"]],
    prompts: Sequence[list[Prompt | None]],
    progress: Progress = silent,
) -> Iterator[Float[Tensor, "p h w"]]:
    """The logits of each frame, one after the other, after learning from all of them if the segmenter can."""
    knowing = segmenter.learned(frames, prompts) if isinstance(segmenter, Learner) else segmenter
    for t, (image, asked) in enumerate(zip(frames, prompts, strict=True)):
        yield knowing.segment(image, asked)
        progress(t + 1, len(frames), "finding people")


def shares_of(logits: Float[Tensor, "p h w"]) -> Float[Tensor, "q h w"]:
    """Whose each pixel is: the background's share first, then each person's; they add up to 1 (softmax)."""
    background = logits.new_zeros(1, *logits.shape[1:])
    return torch.cat([background, logits]).softmax(0)


def logits_of(shares: Float[Tensor, "q h w"]) -> Float[Tensor, "p h w"]:
    """The inverse of `shares_of`, from -SURE to SURE; where nothing is the background's, who has more stays ahead."""
    background, people = shares[:1].clamp_min(math.exp(-SURE)).log(), shares[1:].clamp_min(math.exp(-2 * SURE)).log()
    return (people - background).clamp_min(-SURE)


def labels_of(logits: Float[Tensor, "p h w"]) -> UInt8[Tensor, "h w"]:
    """Each pixel's largest share: 0 for the background, or 1 + the number of the person."""
    if len(logits) > 255:
        raise ValueError(f"labels_of: expected at most 255 people, found {len(logits)}")
    return shares_of(logits).argmax(0).to(torch.uint8)


def eight_bit_shares(logits: Float[Tensor, "p h w"]) -> UInt8[Tensor, "p h w"]:
    """Each person's share of each pixel as 0..255, a quarter of the memory: what is kept of all frames."""
    return (shares_of(logits)[1:] * 255).round().to(torch.uint8)


def digest(image: UInt8[Tensor, "h w 3"]) -> bytes:
    """What tells pictures apart: their size and all their bytes."""
    return hashlib.blake2b(image.cpu().contiguous().numpy().tobytes(), key=str(tuple(image.shape)).encode()).digest()


@dataclass(frozen=True, eq=False)
class Source:
    """What segmenters are opened with. folder: of weights (sam) or of mask files (masks); None: there is none. behind:
    what is behind people in each frame, if that is known; else segmenters find out, if the camera stands still.
    """

    recording: Recording
    folder: Path | None = None
    device: torch.device | str = "cpu"
    seed: int = 0
    behind: Backdrop | None = None


def _masks(source: Source) -> Segmenter:
    from fieldcast.reconstruct.segments.masks import MaskFiles

    return MaskFiles.open(source.recording, source.folder)


def _grabcut(source: Source) -> Segmenter:
    from fieldcast.reconstruct.segments.grabcut import GrabCut

    return GrabCut(source.recording.static, source.seed, behind=source.behind)


def _background(source: Source) -> Segmenter:
    from fieldcast.reconstruct.segments.background import Subtraction

    return Subtraction.open(source.recording, source.behind)


def _sam(source: Source) -> Segmenter:
    from fieldcast.reconstruct.segments.sam import open_sam

    return open_sam(source.folder, source.device)


SEGMENTERS = {"masks": _masks, "grabcut": _grabcut, "background": _background, "sam": _sam}


def open_segmenter(
    name: str,
    recording: Recording,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    behind: Backdrop | None = None,
) -> Segmenter:
    """A segmenter for a recording, by its name.

    masks: says what the recording's labels, or the mask files in a folder, say. grabcut: OpenCV's, with what can be
    learned from all frames. background: what differs from the background, if the camera stands still or `behind` tells
    what that is in each frame (grabcut looks at it too). sam: SAM or SAM 2 from a folder of weights, on a device.
    """
    if name not in SEGMENTERS:
        raise InputError(f"segmenter {name}: expected one of {', '.join(SEGMENTERS)}")
    return SEGMENTERS[name](Source(recording, folder, device, seed, behind))
