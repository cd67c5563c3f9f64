"""Who is who from frame to frame: by the numbers that people have, or by boxes that lie next to each other.

In each frame the pairs of boxes, those last seen and those found, are chosen whose distances add up to the least
(Kuhn's Hungarian method). A distance is that of the middles in diagonals, plus the logarithm of the ratio of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float64

SHORTEST = 0.1  # of the frames: who is there less is left out
FARTHEST = 1.0  # distance of boxes that may be the same person's
UNSURE = 0.05  # keypoints of less confidence do not count for boxes


@dataclass(frozen=True, eq=False)
class Detection:
    """Somebody in a frame. number: who it is, where a file says so."""

    frame: int
    number: int | None
    points: Float64[np.ndarray, "17 2"]
    confidence: Float64[np.ndarray, " 17"]

    @property
    def seen(self) -> bool:
        """Whether there is enough of it to make a box."""
        return int((self.confidence > UNSURE).sum()) >= 2

    def box(self) -> tuple[float, float, float]:
        """The middle, and the diagonal, of what is seen: x, y and pixels."""
        points = self.points[self.confidence > UNSURE]
        low, high = points.min(0), points.max(0)
        x, y = ((low + high) / 2).tolist()
        return x, y, max(1.0, float(np.linalg.norm(high - low)))


def linked(found: list[Detection], frames: int, numbered: bool) -> list[list[Detection]]:
    """The detections of each person in order, of those who are there most first."""
    tracks = _by_number(found) if numbered else _by_boxes(found)
    kept = [track for track in tracks if len(track) >= SHORTEST * frames]
    return sorted(kept, key=len, reverse=True)


def _by_number(found: list[Detection]) -> list[list[Detection]]:
    tracks: dict[int | None, list[Detection]] = {}
    for one in sorted(found, key=lambda one: one.frame):
        tracks.setdefault(one.number, []).append(one)
    return list(tracks.values())


def _by_boxes(found: list[Detection]) -> list[list[Detection]]:
    from scipy.optimize import linear_sum_assignment

    tracks: list[list[Detection]] = []
    for _, here in groupby(sorted(found, key=lambda one: one.frame), key=lambda one: one.frame):
        new = list(here)
        cost = np.array([[distance(track[-1], one) for one in new] for track in tracks]).reshape(len(tracks), len(new))
        # What is too far apart costs the same however far it is: no near pair is given up for it.
        rows, columns = linear_sum_assignment(cost.clip(max=FARTHEST))
        taken = {int(c): int(r) for r, c in zip(rows, columns, strict=True) if cost[r, c] < FARTHEST}
        for i, one in enumerate(new):
            if i in taken:
                tracks[taken[i]].append(one)
            else:
                tracks.append([one])
    return tracks


def distance(a: Detection, b: Detection) -> float:
    """How far the boxes of two detections are apart; 0 for the same box."""
    ax, ay, a_size = a.box()
    bx, by, b_size = b.box()
    return 2 * math.hypot(ax - bx, ay - by) / (a_size + b_size) + abs(math.log(a_size / b_size))
