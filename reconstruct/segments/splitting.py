"""What moves, split into people: labels for frames of which nobody said who is where.

In frames with as many parts as people each part is somebody. Within a run of such frames they go on as whoever was
nearest; from run to run they are linked by where they were going and by their colours (Kuhn's Hungarian method).
Between runs people touch or hide each other: every pixel goes to whom it suits best, by its colour and by where that
person was expected, which is on the straight line between where they were last and where they are next.

Letters: T frames, P people, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.segments.colours import Colours, colours_of
from fieldcast.reconstruct.segments.movers import Part, count_of, moving, parts, persons

RECENT = 6  # frames from which it follows where somebody goes
DRESS = 0.5  # statures of distance that a unit of log-likelihood of colours is worth
STRAY = 0.08  # statures by which shapes differ from what was expected
CLOTH = 0.5  # how much colours count for a pixel
NEAR = 0.35  # statures from where somebody is expected: a piece that is farther off is nobody's
LEAST = 0.05  # of what is usually seen of somebody: of whom less is seen is hidden


@dataclass(eq=False)
class Track:
    """Somebody: the part that shows them alone, by frame."""

    parts: dict[int, Part]

    def middle(self, frame: int) -> Float64[np.ndarray, " 2"]:
        """Where they are, or are expected: between frames on the straight line, beyond them as they went."""
        known = sorted(self.parts)
        if known[0] <= frame <= known[-1]:
            at = np.array([self.parts[t].middle for t in known])
            return np.array([np.interp(frame, known, column) for column in at.T])
        near = known[:RECENT] if frame < known[0] else known[-RECENT:]
        edge = known[0] if frame < known[0] else known[-1]
        return np.asarray(self.parts[edge].middle + self._speed(near) * (frame - edge))

    def _speed(self, frames: list[int]) -> Float64[np.ndarray, " 2"]:
        """Pixels a frame."""
        if len(frames) < 2:
            return np.zeros(2)
        at = np.array([self.parts[t].middle for t in frames])
        return np.asarray(np.polyfit(np.array(frames, float), at, 1)[0])

    def shape(self, frame: int) -> Bool[np.ndarray, "h w"]:
        """What they are expected to look like: as in the nearest frame in which they are alone."""
        nearest = min(self.parts, key=lambda t: abs(t - frame))
        part = self.parts[nearest]
        moved: Bool[np.ndarray, "h w"] = shifted(part.mask, self.middle(frame) - part.middle)
        return moved

    @property
    def tall(self) -> float:
        return float(np.median([part.tall for part in self.parts.values()]))

    @property
    def area(self) -> float:
        return float(np.median([part.area for part in self.parts.values()]))


def shifted(mask: Bool[np.ndarray, "h w"], by: Float64[np.ndarray, " 2"]) -> Bool[np.ndarray, "h w"]:
    """A mask moved by whole pixels, x and y; what leaves the picture is gone."""
    found = np.zeros_like(mask)
    rows, columns = mask.nonzero()
    x, y = np.rint(by).astype(int)
    rows, columns = rows + y, columns + x
    there = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    found[rows[there], columns[there]] = True
    return found


def found_people(recording: Recording, people: int | None, progress: Progress = silent) -> list[UInt8[Tensor, "h w"]]:
    """Labels of each frame: 0 for the background, 1 + the number of the person, from left to right as they are first
    seen apart. people: how many there are; None: as many as are apart from each other in some frames."""
    masks = moving(recording, progress)
    every = [parts(mask) for mask in masks]
    large = persons(every)
    count = people if people is not None else count_of(large)
    if not count:
        raise InputError(f"{recording.source}: nobody moves before the background; give masks, keypoints or poses")
    apart = [t for t, here in enumerate(large) if len(here) >= count]
    if not apart:
        most = max(len(here) for here in large)
        raise InputError(
            f"{recording.source}: expected {count} people who are apart from each other in some frame, found at most "
            f"{most} that move; give masks, keypoints or poses"
        )
    tracks = linked(recording, {t: large[t][:count] for t in apart})
    colours = [_colours(recording, track) for track in tracks]
    return [_labels(recording, t, masks[t], tracks, colours) for t in range(len(recording))]


def linked(recording: Recording, apart: dict[int, list[Part]]) -> list[Track]:
    """Parts of frames in which all people are apart, by person."""
    frames = sorted(apart)
    first = sorted(apart[frames[0]], key=lambda part: part.middle[0])
    tracks = [Track({frames[0]: part}) for part in first]
    for before, frame in pairwise(frames):
        dressed = frame - before > 1
        colours = [_colours(recording, track) for track in tracks] if dressed else None
        for track, part in zip(tracks, _assigned(recording, frame, tracks, apart[frame], colours), strict=True):
            track.parts[frame] = part
    return tracks


def _assigned(
    recording: Recording, frame: int, tracks: list[Track], here: list[Part], colours: list[Colours] | None
) -> list[Part]:
    """For each track its part: the nearest ones in sum, by colours too if people were not apart in between."""
    from scipy.optimize import linear_sum_assignment

    cost = np.array(
        [[np.linalg.norm(track.middle(frame) - part.middle) / track.tall for part in here] for track in tracks]
    )
    if colours is not None:
        for i, colour in enumerate(colours):
            seen = colour.evidence(recording.frames[frame]).numpy()
            cost[i] -= DRESS * np.array([seen[part.mask].mean() for part in here])
    _, columns = linear_sum_assignment(cost)
    return [here[j] for j in columns]


def _colours(recording: Recording, track: Track, most: int = 24) -> Colours:
    """What somebody wears, from frames in which they are alone."""
    chosen = sorted(track.parts)[:: max(1, len(track.parts) // most)]
    return colours_of((recording.frames[t], torch.from_numpy(track.parts[t].mask)) for t in chosen)


def _labels(
    recording: Recording, frame: int, mask: Bool[np.ndarray, "h w"], tracks: list[Track], colours: list[Colours]
) -> UInt8[Tensor, "h w"]:
    """Who is where in one frame: each pixel whose it is by colour and expectation, each whole part its person's."""
    from scipy.ndimage import gaussian_filter

    alone = [track.parts.get(frame) for track in tracks]
    away = np.stack([_distance(track.shape(frame)) / track.tall for track in tracks])
    worn = np.stack([gaussian_filter(c.evidence(recording.frames[frame]).numpy(), 1.0) for c in colours])
    score = CLOTH * worn - 0.5 * (away / STRAY).clip(max=6) ** 2
    labels = np.where(mask & (away.min(0) < NEAR), 1 + score.argmax(0), 0)
    for p, part in enumerate(alone):
        if part is not None:
            labels[part.mask] = p + 1
    for p, track in enumerate(tracks):
        if (labels == p + 1).sum() < LEAST * track.area:
            labels[labels == p + 1] = 0
    return torch.from_numpy(labels.astype(np.uint8))


def _distance(mask: Bool[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    """Pixels to a mask; infinite for an empty one."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return np.full(mask.shape, 1e6)
    return np.asarray(distance_transform_edt(~mask))
