"""Gaussians in the world to Gaussians on a picture: EWA splatting (Zwicker et al. 2001; 3DGS, section 4), as gsplat's.

Letters: `R` turns world to camera axes (OpenCV's: x right, y down, z forward), `p` a mean in them, `z` its depth,
`cov` a covariance, `J` the derivative of the pixel by the point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras

BLUR = 0.3  # pixels^2, added to the covariance on the picture: no splat is thinner than a pixel
BEYOND = 0.3  # half pictures: means further outside than this have the shape of those that are not


@dataclass(frozen=True)
class Footprints:
    """The splats in front of a camera, nearest first.

    index: which splats. means: [N, 2] pixels. conics: [N, 3] inverse covariances (xx, xy, yy), 1 / pixels^2. z: [N] the
    depth along the camera's axis, world units.
    """

    index: Int64[Tensor, " n"]
    means: Float[Tensor, "n 2"]
    conics: Float[Tensor, "n 3"]
    z: Float[Tensor, " n"]


def project(
    means: Float[Tensor, "n 3"],
    scales: Float[Tensor, "n 3"],
    quats: Float[Tensor, "n 4"],
    cameras: Cameras,
    camera: int,
    near: float,
) -> Footprints:
    """What the splats are on the picture of one camera; those nearer than `near` (world units) are left out.

    scales: standard deviations along the axes, world units. quats: w, x, y, z of any length. Differentiable.
    """
    if cameras.distortion is not None:
        raise InputError("splats can be seen through ideal lenses alone; use cameras.undistorted()")
    c2w, intrinsics = cameras.c2w[camera].to(means.dtype), cameras.intrinsics[camera].to(means.dtype)
    R = (c2w[:, :3] * c2w.new_tensor([1, -1, -1])).T
    p = (means - c2w[:, 3]) @ R.T
    with torch.no_grad():
        z, order = p[:, 2].sort(stable=True)
        index = order[z > near]
    p, M = p[index], R @ rotations(quats[index]) * scales[index][:, None]
    J = _derivative(p, intrinsics, cameras.size[camera])
    half = J @ M
    cov = half @ half.mT + BLUR * torch.eye(2, dtype=p.dtype, device=p.device)
    a, b, c = cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1]
    det = (a * c - b * b).clamp_min(1e-10)
    pixel = p[:, :2] / p[:, 2:] * intrinsics[:2] + intrinsics[2:]
    return Footprints(index, pixel, torch.stack([c, -b, a], -1) / det[:, None], p[:, 2])


def _derivative(p: Float[Tensor, "n 3"], intrinsics: Float[Tensor, " 4"], size: Tensor) -> Float[Tensor, "n 2 3"]:
    """J at the means, or at the nearest point that is not far outside the picture: it grows without bounds there."""
    focal, center = intrinsics[:2], intrinsics[2:]
    spare = BEYOND * 0.5 * size / focal
    slope = p[:, :2] / p[:, 2:]
    slope = torch.maximum(torch.minimum(slope, (size - center) / focal + spare), -center / focal - spare)
    fx, fy = (focal / p[:, 2:]).unbind(-1)
    x, y = slope.unbind(-1)
    zero = torch.zeros_like(fx)
    rows = [fx, zero, -fx * x, zero, fy, -fy * y]
    return torch.stack(rows, -1).reshape(-1, 2, 3)


def rotations(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Rotation matrices of quaternions w, x, y, z of any length."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def ray_lengths(cameras: Cameras, camera: int) -> Float[Tensor, "h w"]:
    """How long the way along the ray of each pixel is for one unit along the camera's axis."""
    width, height = cameras.size[camera].tolist()
    fx, fy, cx, cy = cameras.intrinsics[camera]
    x = (torch.arange(width, device=fx.device) + 0.5 - cx) / fx
    y = (torch.arange(height, device=fx.device) + 0.5 - cy) / fy
    lengths: Tensor = (1 + x * x + (y * y)[:, None]).sqrt()
    return lengths
