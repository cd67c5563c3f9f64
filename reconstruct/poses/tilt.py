"""How far a camera of which nothing is known looks down, and how high it stands, from people on a level floor.

Somebody of mean stature who stands at a depth has their soles and the top of their head at two places of the picture;
which two depends on the tilt and on the height of the camera. Both are found by least squares over all people and
frames. Where people hardly come nearer or go away, what is usual decides: eye level, and all but level.

Letters: N people seen in frames. Metres, radians; image points at focal length 1, y up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.space import Vector3

STATURE = 1.7
USUAL = ((0.08, 0.15), (1.5, 0.4))  # tilt downwards and height of cameras: mean and spread
STATURES = 0.1  # spread of statures; it is the same person's in all frames
EFFECTIVE = 6.0  # frames of a person that tell something new


@dataclass(frozen=True)
class Tilt:
    """down: radians. height: of the camera above the floor, metres."""

    down: float
    height: float

    @property
    def up(self) -> Vector3:
        """Up, in the axes of the camera."""
        return (0.0, math.cos(self.down), math.sin(self.down))

    def tops(self, soles: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """Where the tops of heads of mean stature are above soles on the floor, as y at focal length 1."""
        c, s = math.cos(self.down), math.sin(self.down)
        depth = self.height / np.maximum(s - soles * c, 1e-3)
        return np.asarray((depth * soles + STATURE * c) / np.maximum(depth - STATURE * s, 0.1))

    def depths(self, soles: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """How far along the camera's axis soles on the floor are."""
        return np.asarray(self.height / np.maximum(math.sin(self.down) - soles * math.cos(self.down), 1e-3))


def tilt_of(seen: list[Float64[np.ndarray, "n 2"]]) -> Tilt:
    """The likeliest tilt and height. seen: of each person, y of the top of the head and of the soles, by frame."""
    from scipy.optimize import least_squares

    means, spreads = np.array(USUAL).T

    def off(found: Float64[np.ndarray, " 2"]) -> Float64[np.ndarray, " m"]:
        tilt = Tilt(float(found[0]), float(found[1]))
        wrong = [(found - means) / spreads]
        for ends in seen:
            share = math.sqrt(min(1.0, EFFECTIVE / len(ends))) / STATURES
            wrong.append(share * tilt.depths(ends[:, 1]) * (tilt.tops(ends[:, 1]) - ends[:, 0]))
        return np.concatenate(wrong)

    bounds = ([-0.5, 0.3], [0.8, 4.0])
    best = least_squares(off, means, loss="soft_l1", bounds=bounds)
    return Tilt(float(best.x[0]), float(best.x[1]))


def is_guess(cameras: Cameras) -> bool:
    """Whether these are the cameras that are guessed where none is known (`recordings.pictures.guessed`)."""
    width, height = cameras.size[0].tolist()
    lens = torch.tensor([max(width, height), max(width, height), width / 2, height / 2], dtype=torch.float32)
    still: Float[Tensor, "3 4"] = torch.eye(4)[:3]
    same = torch.equal(cameras.c2w, still.expand_as(cameras.c2w))
    return same and bool(((cameras.intrinsics - lens).abs() <= 1).all())
