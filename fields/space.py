"""Where a field lives: its box in the world, and how the world outside the box is folded in.

Letters: `x` world points, `n` points in box units (the box is [-1, 1]^3), `u` points of the unit cube
[0, 1]^3 in which grids are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldcast.errors import InputError

Contraction = Literal["none", "sphere", "cube"]
Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class Space:
    """The part of the world that a field describes.

    aabb: (xmin, ymin, zmin, xmax, ymax, zmax) in world units.
    contraction: `none` for a bounded scene, empty outside the box; `sphere` or `cube` for an unbounded one: what
        lies outside the box is folded into a shell around it with the L2 or the L-infinity norm
        (mip-NeRF 360, eq. 10; nerfacto uses `cube`).
    up: the world direction that points up, unit length; turntables turn about it.
    """

    aabb: tuple[float, float, float, float, float, float] = (-1.0, -1.0, -1.0, 1.0, 1.0, 1.0)
    contraction: Contraction = "none"
    up: Vector3 = (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.aabb[:3], self.aabb[3:]
        if not all(-1e30 < a < b < 1e30 for a, b in zip(low, high, strict=True)):
            raise InputError(f"space.aabb: expected finite minima below maxima, found {self.aabb}")
        if not 0.99 < sum(c * c for c in self.up) < 1.01:
            raise InputError(f"space.up: expected a vector of length 1, found {self.up}")

    @property
    def bounded(self) -> bool:
        return self.contraction == "none"

    @property
    def center(self) -> Vector3:
        a = self.aabb
        return ((a[0] + a[3]) / 2, (a[1] + a[4]) / 2, (a[2] + a[5]) / 2)

    @property
    def unit(self) -> float:
        """Half the longest side of the box, in world units: the length in which fields measure density."""
        a = self.aabb
        return max(a[3] - a[0], a[4] - a[1], a[5] - a[2]) / 2

    def box(self, like: Tensor) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
        """The lower and the upper corner as tensors of `like`'s dtype and device."""
        corners = like.new_tensor(self.aabb)
        return corners[:3], corners[3:]

    def contains(self, x: Float[Tensor, "*n 3"]) -> Bool[Tensor, "*n"]:
        """Which points the field describes: those in the box, or all when the space is contracted."""
        if not self.bounded:
            return torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
        low, high = self.box(x)
        return ((x >= low) & (x <= high)).all(-1)

    def to_unit(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """World points to the unit cube; points outside a bounded box are clamped to its faces."""
        low, high = self.box(x)
        if self.bounded:
            return ((x - low) / (high - low)).clamp(0, 1)
        return (self._contract((2 * x - low - high) / (high - low)) + 2) / 4

    def from_unit(self, u: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """The inverse of `to_unit`. The outer faces of a contracted cube are infinitely far: clamped to 1e6 boxes."""
        low, high = self.box(u)
        if self.bounded:
            return low + u * (high - low)
        return (self._uncontract(4 * u - 2) * (high - low) + low + high) / 2

    def stretch(self, u: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """How many times longer the world is at points of the unit cube, on a ray from the centre, than in the box."""
        if self.bounded:
            return torch.ones(u.shape[:-1], device=u.device)
        return (2 - self._norm(4 * u - 2)[..., 0]).clamp(1e-6, 1) ** -2

    def _norm(self, n: Tensor) -> Tensor:
        norm = n.norm(dim=-1, keepdim=True) if self.contraction == "sphere" else n.abs().amax(-1, keepdim=True)
        return norm.clamp_min(1e-12)

    def _contract(self, n: Tensor) -> Tensor:
        norm = self._norm(n)
        return torch.where(norm <= 1, n, (2 - 1 / norm) / norm * n)

    def _uncontract(self, c: Tensor) -> Tensor:
        norm = self._norm(c)
        return torch.where(norm <= 1, c, c / norm / (2 - norm).clamp_min(1e-6))
