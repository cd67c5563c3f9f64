"""Where conversions look from: cameras drawn from the field's own knowledge of itself, without a dataset."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fieldcast.fields.cameras import Cameras, look_at, orbit
from fieldcast.fields.field import Field
from fieldcast.fields.paths import FOV, RADIUS
from fieldcast.fields.renderable import Renderable


class Viewpoints:
    """An endless supply of cameras for a field.

    A field that knows the views it was seen from is looked at from between them: a view is moved a random part of the
    way to one of its nearest neighbours and turned a little (PVD-AL draws its poses from the real cameras' range in
    the same spirit). Other fields are seen from a sphere around their box, all over.
    """

    def __init__(self, field: Field | Renderable, size: tuple[int, int] | None = None) -> None:
        """size: width and height of the pictures in pixels; None: that of the field's views, or 200 x 200."""
        self.space, self.size = field.space, size
        self.views = field.views.to("cpu") if field.views is not None and len(field.views) >= 2 else None
        if self.views is not None:
            distance = torch.cdist(self.views.centers, self.views.centers)
            distance.fill_diagonal_(math.inf)
            self.neighbors = distance.topk(min(6, len(self.views) - 1), largest=False).indices

    def draw(self, count: int, generator: torch.Generator) -> Cameras:
        """`count` cameras, on the CPU."""
        cameras = self._between(count, generator) if self.views is not None else self._around(count, generator)
        return cameras.resized(*self.size) if self.size else cameras

    def _around(self, count: int, generator: torch.Generator) -> Cameras:
        azimuth, height = torch.rand(2, count, generator=generator)
        radius = RADIUS * self.space.unit
        width, rows = self.size or (200, 200)
        return orbit(
            self.space, azimuth * 2 * math.pi, torch.asin(2 * height - 1), radius, width=width, height=rows, fov=FOV
        )

    def _between(self, count: int, generator: torch.Generator) -> Cameras:
        assert self.views is not None
        first = torch.randint(len(self.views), (count,), generator=generator)
        pick = torch.randint(self.neighbors.shape[1], (count,), generator=generator)
        second = self.neighbors[first, pick]
        part = 0.5 * torch.rand(count, 1, generator=generator)
        a, b = self.views[first], self.views[second]
        eye = a.centers + part * (b.centers - a.centers)
        center = torch.tensor(self.space.center)
        # Keep the distance to the subject: the chord between two cameras on a sphere cuts its inside.
        if self.space.bounded:
            distance = (a.centers - center).norm(dim=-1, keepdim=True)
            distance = distance + part * ((b.centers - center).norm(dim=-1, keepdim=True) - distance)
            eye = center + torch.nn.functional.normalize(eye - center, dim=-1) * distance
        back = torch.nn.functional.normalize(a.c2w[:, :, 2] + part * (b.c2w[:, :, 2] - a.c2w[:, :, 2]), dim=-1)
        c2w = look_at(eye, eye - back, a.c2w[:, :, 1] + part * (b.c2w[:, :, 1] - a.c2w[:, :, 1]))
        turned = torch.einsum("vij,vjk->vik", c2w[:, :, :3], small_turns(count, math.radians(3), generator))
        return Cameras(torch.cat([turned, c2w[:, :, 3:]], -1), a.intrinsics, a.size)


def small_turns(count: int, angle: float, generator: torch.Generator) -> Tensor:
    """Random rotations [count, 3, 3] of up to about `angle` radians about each axis."""
    x, y, z = angle * (2 * torch.rand(3, count, generator=generator) - 1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(count, 3, 3)
    return torch.matrix_exp(skew)
