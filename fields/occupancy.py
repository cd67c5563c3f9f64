"""Where a scene is not empty: one bit a cell of the unit cube."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.fields.kernels.marching import occupied
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.space import Space


@dataclass(frozen=True)
class Occupancy:
    """`resolution`^3 cells over u in [0, 1]^3.

    bits: [resolution^3 / 8]; the cell (i, j, k) along x, y, z is bit `c & 7` of byte `c >> 3`, where
        c = (i * resolution + j) * resolution + k.
    """

    bits: UInt8[Tensor, " bytes"]
    resolution: int

    @staticmethod
    def of_cells(cells: Bool[Tensor, "r r r"]) -> Occupancy:
        """From one boolean a cell, x first."""
        weights = 2 ** torch.arange(8, dtype=torch.uint8, device=cells.device)
        bits = (cells.reshape(-1, 8).to(torch.uint8) * weights).sum(-1, dtype=torch.uint8)
        return Occupancy(bits, len(cells))

    @staticmethod
    def full(resolution: int) -> Occupancy:
        return Occupancy(torch.full((resolution**3 // 8,), 255, dtype=torch.uint8), resolution)

    def cells(self) -> Bool[Tensor, "r r r"]:
        """One boolean a cell, x first."""
        shifts = torch.arange(8, dtype=torch.uint8, device=self.bits.device)
        bits = (self.bits[:, None] >> shifts) & 1
        return bits.bool().reshape((self.resolution,) * 3)

    def contains(self, u: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
        """Whether points of the unit cube lie in occupied cells."""
        return occupied(u, self.bits, self.resolution)

    def fraction(self) -> float:
        """The occupied part of the cube, 0 to 1."""
        return float(self.cells().float().mean())

    def is_full(self) -> bool:
        return bool((self.bits == 255).all())

    def grown(self) -> Occupancy:
        """With all neighbours of occupied cells, those across edges and corners too."""
        cells = self.cells()
        for axis in range(3):
            grown, last = cells.clone(), self.resolution - 1
            for to, of in ((0, 1), (1, 0)):
                grown.narrow(axis, to, last).logical_or_(cells.narrow(axis, of, last))
            cells = grown
        return Occupancy.of_cells(cells)

    def __and__(self, other: Occupancy) -> Occupancy:
        """The cells that are occupied in both, of one resolution."""
        return Occupancy(self.bits & other.bits, self.resolution)

    def iou(self, other: Occupancy) -> float:
        """Intersection over union with a grid of the same resolution, 0 to 1; 1 if both are empty."""
        a, b = self.cells(), other.cells()
        union = int((a | b).sum())
        return int((a & b).sum()) / union if union else 1.0


def cell_density(
    density: Callable[[Tensor], Tensor],
    space: Space,
    within: Occupancy,
    *,
    tries: int = 2,
    chunk: int = 1 << 17,
    generator: torch.Generator | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "r r r"]:
    """The largest density (1 / world unit) found at `tries` random points of each cell of `within`, [r, r, r], x first.

    0 in the cells that `within` says are empty: nobody looks there.
    """
    device, resolution = within.bits.device, within.resolution
    best = torch.zeros(resolution**3, device=device)
    cells = within.cells().reshape(-1).nonzero()[:, 0]
    for start in range(0, len(cells), chunk):
        index = cells[start : start + chunk]
        for _ in range(tries):
            u = (unravel(index, resolution) + torch.rand(len(index), 3, generator=generator).to(device)) / resolution
            best[index] = torch.maximum(best[index], density(space.from_unit(u)))
        progress(start + len(index), len(cells), "looking where the field is empty")
    return best.reshape((resolution,) * 3)


def unravel(index: Tensor, resolution: int) -> Float[Tensor, "n 3"]:
    """Flat cell numbers to (i, j, k) as floats."""
    return torch.stack([index // resolution**2, index // resolution % resolution, index % resolution], -1).float()


def threshold(space: Space, in_training: bool = False) -> float:
    """The density (1 / world unit) below which a cell counts as empty.

    In training about Instant-NGP's (0.01 per sqrt(3) / 1024 of its unit cube, two half box sides): fog that is dropped
    is made up for. In a finished field less, since nothing makes up for what is dropped any more: a cell of 1 / 128 of
    the box is then at most 0.8 % opaque.
    """
    return (3.0 if in_training else 0.5) / space.unit


def diagonal(space: Space) -> float:
    """The length of the box's diagonal, in world units."""
    a = space.aabb
    return float(sum((a[i + 3] - a[i]) ** 2 for i in range(3)) ** 0.5)
