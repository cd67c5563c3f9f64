"""How the two bones of a limb turn so that its end is where it is wanted, by the law of cosines.

A limb goes from its start (hip, shoulder) by its hinge (knee, elbow) to its end (ankle, wrist). It bends about one
axis, that about which it is bent at rest, so that knees and elbows never bend the wrong way.

Letters: T frames. Turns are rotation matrices, world_from_rest. Metres and radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

Place = Float64[np.ndarray, " 3"]
Places = Float64[np.ndarray, "t 3"]
Turns = Float64[np.ndarray, "t 3 3"]

SOFT = 0.96  # of the length: beyond it a limb stretches ever more slowly, and never wholly
AXES = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}


@dataclass(frozen=True, eq=False)
class Limb:
    """Where a limb's joints are at rest."""

    start: Place
    hinge: Place
    end: Place

    @property
    def upper(self) -> Place:
        return np.asarray(self.hinge - self.start)

    @property
    def lower(self) -> Place:
        return np.asarray(self.end - self.hinge)

    @property
    def length(self) -> float:
        """Of both bones."""
        return float(np.linalg.norm(self.upper) + np.linalg.norm(self.lower))


def reach(limb: Limb, start: Places, target: Places, pole: Places) -> tuple[Turns, Turns]:
    """The turns of both bones, so that a limb that begins at `start` ends at `target`, or as near as it can.

    pole: the side towards which the hinge points, any length, not along the limb.
    """
    way = target - start
    distance = softened(np.linalg.norm(way, axis=-1), limb.length)
    along = unit(way)
    side = unit(pole - (pole * along).sum(-1, keepdims=True) * along)
    a, b = np.linalg.norm(limb.upper), np.linalg.norm(limb.lower)
    angle = np.arccos(np.clip((a**2 + distance**2 - b**2) / (2 * a * distance), -1, 1))[:, None]
    upper = np.cos(angle) * along + np.sin(angle) * side
    lower = unit(distance[:, None] * along - a * upper)
    axis = np.cross(side, along)
    rest = np.cross(limb.upper, limb.lower)
    return frames(upper, axis) @ frame(limb.upper, rest).T, frames(lower, axis) @ frame(limb.lower, rest).T


def softened(distance: Float64[np.ndarray, " t"], length: float) -> Float64[np.ndarray, " t"]:
    """Distances that a limb of this length can span: unchanged up to SOFT of it, then ever closer to all of it."""
    start, room = SOFT * length, 0.999 * length * (1 - SOFT)
    beyond = np.maximum(distance - start, 0)
    return np.asarray(np.minimum(distance, start) + room * (1 - np.exp(-beyond / room)))


def frames(first: Places, second: Places) -> Turns:
    """Rotations whose first column is `first` and whose second lies in the plane of both."""
    x = unit(first)
    y = unit(second - (second * x).sum(-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], -1)


def frame(first: Place, second: Place) -> Float64[np.ndarray, "3 3"]:
    """`frames` for a single pair."""
    return np.asarray(frames(first[None], second[None])[0])


def unit(vectors: Places) -> Places:
    """Vectors at length 1; those of no length stay so."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def about(axis: str, angle: Float64[np.ndarray, " t"]) -> Turns:
    """Turns about an axis of the world, `x`, `y` or `z`: counter-clockwise for who looks against it."""
    i, j = AXES[axis]
    turns = np.tile(np.eye(3), (len(angle), 1, 1))
    turns[:, i, i] = turns[:, j, j] = np.cos(angle)
    turns[:, j, i] = np.sin(angle)
    turns[:, i, j] = -np.sin(angle)
    return turns
