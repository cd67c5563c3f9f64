"""What is seen of points in the world by the cameras of a video, one a frame, without their lenses' distortion.

Image points are told as (x, y) at focal length 1: x to the right, y **up**, so that a point at camera coordinates
(X, Y, Z), which is in front where Z < 0, is seen at (-X / Z, -Y / Z).

Letters: T frames, N points.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Cameras

NEAR = 0.1
"""Points are never taken to be nearer to the camera than this, metres."""


def ideal(cameras: Cameras, pixels: Float[Tensor, "t n 2"]) -> Float[Tensor, "t n 2"]:
    """Pixels as image points at focal length 1, whatever the lens."""
    frames, points = pixels.shape[:2]
    rays = cameras.rays(torch.arange(frames).repeat_interleave(points), pixels.reshape(-1, 2))
    local = turned(cameras, rays.directions.reshape(frames, points, 3))
    return local[..., :2] / -local[..., 2:].clamp_max(-1e-6)


def turned(cameras: Cameras, vectors: Float[Tensor, "t n 3"]) -> Float[Tensor, "t n 3"]:
    """Directions of the world in the axes of each frame's camera."""
    return vectors @ cameras.c2w[:, :, :3]


def local(cameras: Cameras, points: Float[Tensor, "t n 3"]) -> Float[Tensor, "t n 3"]:
    """Points of the world in each frame's camera."""
    return turned(cameras, points - cameras.centers[:, None])


def seen(local: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 2"]:
    """Where points of a camera are seen."""
    return local[..., :2] / (-local[..., 2:]).clamp_min(NEAR)


def pixels(cameras: Cameras, ideal: Float[Tensor, "t n 2"]) -> Float[Tensor, "t n 2"]:
    """Image points at focal length 1 as pixels of a lens without distortion."""
    k = cameras.intrinsics[:, None]
    return torch.stack([k[..., 0] * ideal[..., 0] + k[..., 2], k[..., 3] - k[..., 1] * ideal[..., 1]], -1)
