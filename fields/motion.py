"""How a part of a scene is moved: turned, scaled and shifted. Letters: `x` points, `d` directions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.space import Vector3

Rotation = tuple[Vector3, Vector3, Vector3]
UPRIGHT: Rotation = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Motion:
    """x in the world = scale * rotation @ x in the part + shift. rotation: its rows. shift: world units."""

    rotation: Rotation = UPRIGHT
    scale: float = 1.0
    shift: Vector3 = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        r = torch.tensor(self.rotation, dtype=torch.float64)
        if not (bool(((r @ r.T - torch.eye(3)).abs() < 1e-4).all()) and float(torch.linalg.det(r)) > 0):
            raise InputError(f"motion: expected the rows of a rotation, found {self.rotation}")
        if not (1e-6 <= self.scale <= 1e6):
            raise InputError(f"motion: expected a scale from 1e-6 to 1e6, found {self.scale:g}")
        if not all(abs(value) < 1e30 for value in self.shift):
            raise InputError(f"motion: expected a finite shift, found {self.shift}")

    @staticmethod
    def about(pivot: Vector3, up: Vector3, *, turn: float = 0.0, scale: float = 1.0, by: Vector3) -> Motion:
        """Turns about `up` through `pivot`, anticlockwise seen from above, scales about `pivot`, then shifts.

        turn: degrees. by: world units.
        """
        x, y, z = up
        skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
        rotation = torch.matrix_exp(math.radians(turn) * skew / math.hypot(*up)) if turn else torch.eye(3).double()
        middle = torch.tensor(pivot, dtype=torch.float64)
        shift = middle - scale * rotation @ middle + torch.tensor(by, dtype=torch.float64)
        return Motion(_rotation(rotation), scale, _vector(shift))

    def is_identity(self) -> bool:
        return self == Motion()

    def inverse(self) -> Motion:
        """From the world to the part."""
        r = torch.tensor(self.rotation, dtype=torch.float64)
        shift = -(r.T @ torch.tensor(self.shift, dtype=torch.float64)) / self.scale
        return Motion(_rotation(r.T), 1 / self.scale, _vector(shift))

    def __call__(self, x: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Points of the part in the world."""
        return self.scale * self.turned(x) + x.new_tensor(self.shift)

    def turned(self, d: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Directions of the part in the world; their lengths stay."""
        return d @ d.new_tensor(self.rotation).T


def _vector(values: Tensor) -> Vector3:
    x, y, z = values.tolist()
    return (x, y, z)


def _rotation(rows: Tensor) -> Rotation:
    return (_vector(rows[0]), _vector(rows[1]), _vector(rows[2]))
