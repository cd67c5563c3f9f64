"""A part of the world with flat sides: what edits cut along."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.space import Vector3

NUMBER = r"[-+]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][-+]?\d{1,3})?"


@dataclass(frozen=True)
class Box:
    """low, high: opposite corners, world units; the faces belong to the box.

    >>> Box.parse("-1,-1,0, 1,1,2")
    Box(low=(-1.0, -1.0, 0.0), high=(1.0, 1.0, 2.0))
    """

    low: Vector3
    high: Vector3

    def __post_init__(self) -> None:
        if not all(-1e30 < a < b < 1e30 for a, b in zip(self.low, self.high, strict=True)):
            raise InputError(f"box: expected finite minima below maxima, found {self}")

    def __str__(self) -> str:
        return ",".join(f"{value:.6g}" for value in (*self.low, *self.high))

    @staticmethod
    def parse(text: str) -> Box:
        """The box that was typed: six numbers, the lower corner first."""
        values = numbers(text, 6, "a box x0,y0,z0,x1,y1,z1 in world units")
        return Box((values[0], values[1], values[2]), (values[3], values[4], values[5]))

    def __and__(self, other: Box) -> Box | None:
        """What both contain; None if they do not overlap."""
        low = tuple(map(max, self.low, other.low))
        high = tuple(map(min, self.high, other.high))
        return Box(low, high) if all(a < b for a, b in zip(low, high, strict=True)) else None  # type: ignore[arg-type]

    @property
    def center(self) -> Vector3:
        a, b = self.low, self.high
        return ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, (a[2] + b[2]) / 2)

    def contains(self, x: Float[Tensor, "*n 3"]) -> Bool[Tensor, "*n"]:
        """Which world points lie in the box."""
        return ((x >= x.new_tensor(self.low)) & (x <= x.new_tensor(self.high))).all(-1)

    def corners(self) -> Float[Tensor, "8 3"]:
        """Ordered by x, then y, then z."""
        return torch.cartesian_prod(*torch.tensor([self.low, self.high]).unbind(1))


def numbers(text: str, count: int, what: str) -> list[float]:
    """`count` numbers between commas, as typed; `what` they should be stands in the error."""
    parts = [part.strip() for part in text.split(",")]
    values = [float(part) if re.fullmatch(NUMBER, part, re.ASCII) else math.nan for part in parts]
    if len(values) != count or not all(map(math.isfinite, values)):
        raise InputError(f"expected {what}, found {text[:80]!r}")
    return values
