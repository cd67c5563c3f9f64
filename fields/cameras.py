"""Cameras, the rays through their pixels, and paths of cameras.

Conventions: right-handed world; `c2w` is world_from_camera with OpenGL axes (x right, y up, z back); pixel (0, 0) is
the upper left one and its centre is at (0.5, 0.5); directions have unit length; distances are in world units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fieldcast.fields.space import Space, Vector3


@dataclass(frozen=True)
class Rays:
    """origins [N, 3] in world units and directions [N, 3] of unit length."""

    origins: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: slice | Tensor) -> Rays:
        return Rays(self.origins[index], self.directions[index])

    def to(self, device: torch.device | str) -> Rays:
        return Rays(self.origins.to(device), self.directions.to(device))


@dataclass(frozen=True)
class Cameras:
    """V cameras.

    c2w: [V, 3, 4] world_from_camera, OpenGL axes.
    intrinsics: [V, 4] fx, fy, cx, cy in pixels.
    size: [V, 2] width and height in pixels.
    distortion: [V, 6] k1, k2, k3, k4, p1, p2 of OpenCV's model, or None for ideal lenses.
    fisheye: the distortion is OpenCV's equidistant fisheye model (k1..k4) instead of the radial-tangential one.
    """

    c2w: Float[Tensor, "v 3 4"]
    intrinsics: Float[Tensor, "v 4"]
    size: Int[Tensor, "v 2"]
    distortion: Float[Tensor, "v 6"] | None = None
    fisheye: bool = False

    def __len__(self) -> int:
        return len(self.c2w)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Cameras:
        """A subset of the cameras, by a slice, a list or a tensor of indices."""
        distortion = None if self.distortion is None else self.distortion[index]
        return replace(
            self, c2w=self.c2w[index], intrinsics=self.intrinsics[index], size=self.size[index], distortion=distortion
        )

    def to(self, device: torch.device | str) -> Cameras:
        distortion = None if self.distortion is None else self.distortion.to(device)
        return replace(
            self,
            c2w=self.c2w.to(device),
            intrinsics=self.intrinsics.to(device),
            size=self.size.to(device),
            distortion=distortion,
        )

    @property
    def centers(self) -> Float[Tensor, "v 3"]:
        """Where the cameras stand, in world units."""
        return self.c2w[:, :, 3]

    def resized(self, width: int, height: int) -> Cameras:
        """The same views at another image size. The focal lengths scale with their own axis."""
        size = torch.tensor([[width, height]], device=self.size.device).expand(len(self), 2)
        scale = (size / self.size).to(self.intrinsics.dtype)
        return replace(self, intrinsics=self.intrinsics * scale.repeat(1, 2), size=size.contiguous())

    def undistorted(self) -> Cameras:
        """The same cameras with ideal lenses."""
        return replace(self, distortion=None, fisheye=False)

    def rays(self, camera: Int[Tensor, " n"], pixel: Float[Tensor, "n 2"]) -> Rays:
        """Rays through the image points `pixel` (x right, y down, in pixels) of the cameras numbered `camera`."""
        fx, fy, cx, cy = self.intrinsics[camera].unbind(-1)
        xy = torch.stack([(pixel[:, 0] - cx) / fx, (pixel[:, 1] - cy) / fy], -1)
        if self.distortion is None:
            x, y, z = xy[:, 0], xy[:, 1], torch.ones_like(fx)
        elif self.fisheye:
            x, y, z = undistort_fisheye(xy, self.distortion[camera]).unbind(-1)
        else:
            x, y = undistort(xy, self.distortion[camera]).unbind(-1)
            z = torch.ones_like(fx)
        c2w = self.c2w[camera]
        directions = torch.einsum("nij,nj->ni", c2w[:, :, :3], torch.stack([x, -y, -z], -1))
        return Rays(c2w[:, :, 3], torch.nn.functional.normalize(directions, dim=-1))

    def image_rays(self, index: int) -> Rays:
        """The rays of all pixels of one camera, row by row: [height * width]."""
        width, height = self.size[index].tolist()
        device = self.c2w.device
        rows = torch.arange(height, device=device, dtype=self.c2w.dtype) + 0.5
        columns = torch.arange(width, device=device, dtype=self.c2w.dtype) + 0.5
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        pixel = torch.stack([x.reshape(-1), y.reshape(-1)], -1)
        return self.rays(torch.full((len(pixel),), index, device=device), pixel)


def distort(xy: Float[Tensor, "n 2"], k: Float[Tensor, "n 6"]) -> Float[Tensor, "n 2"]:
    """OpenCV's radial-tangential lens: ideal image-plane points to those on the sensor (focal length 1)."""
    x, y = xy.unbind(-1)
    k1, k2, k3, k4, p1, p2 = k.unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    return torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y),
        ],
        -1,
    )


def undistort(xy: Float[Tensor, "n 2"], k: Float[Tensor, "n 6"], iterations: int = 8) -> Float[Tensor, "n 2"]:
    """The inverse of `distort`, by Newton's method with a numeric 2x2 Jacobian in float64."""
    target, k = xy.double(), k.double()
    guess, eps = target.clone(), 1e-6
    for _ in range(iterations):
        residual = distort(guess, k) - target
        dx = (distort(guess + target.new_tensor([eps, 0]), k) - target - residual) / eps
        dy = (distort(guess + target.new_tensor([0, eps]), k) - target - residual) / eps
        det = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]
        det = torch.where(det.abs() < 1e-9, torch.ones_like(det), det)
        step_x = (residual[:, 0] * dy[:, 1] - residual[:, 1] * dy[:, 0]) / det
        step_y = (residual[:, 1] * dx[:, 0] - residual[:, 0] * dx[:, 1]) / det
        guess = guess - torch.stack([step_x, step_y], -1).clamp(-0.5, 0.5)
    return guess.to(xy.dtype)


def undistort_fisheye(xy: Float[Tensor, "n 2"], k: Float[Tensor, "n 6"], iterations: int = 10) -> Float[Tensor, "n 3"]:
    """Sensor points of OpenCV's fisheye lens to directions (x right, y down, z forward) of unit length.

    theta_d = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8) is solved for theta by Newton's method.
    """
    theta_d = xy.norm(dim=-1)
    theta = theta_d.clamp(max=math.pi)
    k1, k2, k3, k4 = k[:, :4].unbind(-1)
    for _ in range(iterations):
        t2 = theta * theta
        value = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))) - theta_d
        slope = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))
        theta = theta - value / torch.where(slope.abs() < 1e-6, torch.ones_like(slope), slope)
    planar = torch.sin(theta)[:, None] * xy / theta_d.clamp_min(1e-12)[:, None]
    return torch.cat([planar, torch.cos(theta)[:, None]], -1)


def look_at(
    eye: Float[Tensor, "v 3"], target: Float[Tensor, "v 3"], up: Float[Tensor, " 3"] | Float[Tensor, "v 3"]
) -> Float[Tensor, "v 3 4"]:
    """Poses (c2w) that stand at `eye`, look at `target` and keep `up` upwards."""
    back = torch.nn.functional.normalize(eye - target, dim=-1)
    up = up.expand_as(back)
    right = torch.linalg.cross(up, back)
    # Looking straight along `up` leaves the roll free: take any axis that is not parallel to it.
    spare = torch.linalg.cross(torch.roll(up, 1, dims=-1), back)
    right = torch.where(right.norm(dim=-1, keepdim=True) > 1e-6, right, spare)
    right = torch.nn.functional.normalize(right, dim=-1)
    return torch.stack([right, torch.linalg.cross(back, right), back, eye], -1)


def pinhole(c2w: Float[Tensor, "v 3 4"], width: int, height: int, fov: float) -> Cameras:
    """Ideal cameras at the poses `c2w`; `fov` is the angle in radians across the shorter image side."""
    focal = 0.5 * min(width, height) / math.tan(fov / 2)
    intrinsics = c2w.new_tensor([focal, focal, width / 2, height / 2]).expand(len(c2w), 4).contiguous()
    size = torch.tensor([width, height], device=c2w.device).expand(len(c2w), 2).contiguous()
    return Cameras(c2w, intrinsics, size)


def up_frame(up: Vector3) -> Float[Tensor, "3 3"]:
    """A rotation whose third column is `up`: columns 0 and 1 span the ground."""
    z = torch.tensor(up)
    seed = torch.eye(3)[int(z.abs().argmin())]
    x = torch.nn.functional.normalize(torch.linalg.cross(seed, z), dim=-1)
    return torch.stack([x, torch.linalg.cross(z, x), z], -1)


def orbit(
    space: Space,
    azimuth: Float[Tensor, " v"],
    elevation: Float[Tensor, " v"],
    radius: Float[Tensor, " v"] | float,
    *,
    width: int,
    height: int,
    fov: float,
) -> Cameras:
    """Cameras around the centre of the box, looking at it.

    azimuth, elevation: radians; elevation is positive above the ground that `space.up` stands on. radius: world units.
    """
    local = torch.stack(
        [azimuth.cos() * elevation.cos(), azimuth.sin() * elevation.cos(), elevation.sin()], -1
    ) * torch.as_tensor(radius).reshape(-1, 1)
    center = torch.tensor(space.center)
    eye = center + local @ up_frame(space.up).T
    return pinhole(look_at(eye, center.expand_as(eye), torch.tensor(space.up)), width, height, fov)
