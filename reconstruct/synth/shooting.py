"""Where the cameras of a synthetic scene stand: one that records, and some that it does not know of.

Letters: T frames, P people, V views. Metres, radians; the people are about the origin and the first camera at +z.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, look_at, pinhole

FOV = math.radians(40)
HEIGHT, AIM = 1.35, 0.88  # of the camera and of what it looks at
NEAREST, FARTHEST = 2.4, 8.0
MARGIN = 0.9  # of the half picture, that people fill
AZIMUTHS = (45.0, 90.0, 180.0, 270.0)  # degrees, of the held-out cameras
UP = torch.tensor([0.0, 1.0, 0.0])

Orbit = Callable[[Float64[np.ndarray, " t"], np.random.Generator], tuple[Float64[np.ndarray, " t"], ...]]


def recording_cameras(
    motion: str, times: Float64[np.ndarray, " t"], points: Float[Tensor, "t n 3"], size: int, rng: np.random.Generator
) -> Cameras:
    """A camera a frame, as near as it can be with all people in the picture. points: of the people, frame by frame."""
    if motion not in MOTIONS:
        raise InputError(f"camera {motion!r}: expected one of {', '.join(MOTIONS)}")
    azimuth, shake = MOTIONS[motion](times, rng)
    for distance in np.arange(NEAREST, FARTHEST, 0.1):
        cameras = around(azimuth, float(distance), shake, size)
        if _holds(cameras, points):
            break
    return cameras


def around(
    azimuth: Float64[np.ndarray, " v"], distance: float, shake: Float64[np.ndarray, "v 6"], size: int
) -> Cameras:
    """Cameras on a circle that look at its middle. shake: what is added to where each stands and to where it looks."""
    eye = np.stack([distance * np.sin(azimuth), np.full(len(azimuth), HEIGHT), distance * np.cos(azimuth)], -1)
    target = np.tile([0.0, AIM, 0.0], (len(azimuth), 1))
    poses = look_at(torch.from_numpy(eye + shake[:, :3]), torch.from_numpy(target + shake[:, 3:]), UP.double())
    return pinhole(poses.float(), size, size, FOV)


def held_out_cameras(recorded: Cameras, count: int) -> Cameras:
    """A little farther away than the recording's first one, round the people, for each of `count` moments."""
    distance = 1.15 * float(recorded.c2w[0, [0, 2], 3].norm())
    azimuth = np.tile(np.radians(AZIMUTHS), count)
    return around(azimuth, distance, np.zeros((len(azimuth), 6)), int(recorded.size[0, 0]))


def project(cameras: Cameras, points: Float[Tensor, "v n 3"]) -> Float[Tensor, "v n 3"]:
    """Pixels x and y of points, each camera's own, and how far they are in front of it."""
    local = torch.einsum("vji,vnj->vni", cameras.c2w[:, :, :3], points - cameras.c2w[:, None, :, 3])
    depth = -local[..., 2]
    focal, middle = cameras.intrinsics[:, None, :2], cameras.intrinsics[:, None, 2:]
    flat = local[..., :2] * torch.tensor([1.0, -1.0]) / depth[..., None]
    return torch.cat([focal * flat + middle, depth[..., None]], -1)


def _holds(cameras: Cameras, points: Float[Tensor, "t n 3"]) -> bool:
    """Whether all points are well within the pictures."""
    pixels = project(cameras, points)
    inside = (pixels[..., :2] / cameras.size[:, None] - 0.5).abs() < MARGIN / 2
    return bool(inside.all() and (pixels[..., 2] > 0).all())


def _static(
    times: Float64[np.ndarray, " t"], rng: np.random.Generator
) -> tuple[Float64[np.ndarray, " t"], Float64[np.ndarray, "t 6"]]:
    return np.zeros(len(times)), np.zeros((len(times), 6))


def _orbiting(
    times: Float64[np.ndarray, " t"], rng: np.random.Generator
) -> tuple[Float64[np.ndarray, " t"], Float64[np.ndarray, "t 6"]]:
    """To and fro round the people, in front of them in the middle of the clip."""
    return math.radians(35) * np.sin(0.9 * times), np.zeros((len(times), 6))


def _handheld(
    times: Float64[np.ndarray, " t"], rng: np.random.Generator
) -> tuple[Float64[np.ndarray, " t"], Float64[np.ndarray, "t 6"]]:
    """A person with a camera: a slow sway of some centimetres, and a quicker tremble of some millimetres."""
    shake = np.zeros((len(times), 6))
    for size, slowest, fastest in ((0.05, 0.1, 0.7), (0.006, 2.0, 5.0)):
        hertz, phase = rng.uniform(slowest, fastest, (4, 1, 6)), rng.uniform(0, 2 * math.pi, (4, 1, 6))
        shake += size * np.sin(2 * math.pi * hertz * times[:, None] + phase).sum(0) / 2
    return math.radians(4) * np.sin(0.5 * times), shake


MOTIONS = {"static": _static, "orbit": _orbiting, "handheld": _handheld}
