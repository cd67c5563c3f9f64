"""The cells of an occupancy grid as places: what they contain, whatever folds or moves the space between."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldcast.fields.motion import Motion
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.space import Space

CURVED = 0.5  # how much farther than its corners a cell of a contracted space may reach, of their extent


def cell_centers(space: Space, resolution: int, slab: int) -> Float[Tensor, "n 3"]:
    """The world points in the middle of the cells (slab, j, k), n = resolution^2 of them, k fastest."""
    return space.from_unit((_index(resolution, slab) + 0.5) / resolution)


def cell_bounds(
    space: Space, resolution: int, slab: int, motion: Motion | None = None
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """The least and the largest coordinates that the points of the cells (slab, j, k) have once they are moved."""
    corners = (_index(resolution, slab)[:, None] + unit_corners()) / resolution
    x = space.from_unit(corners)
    if motion is not None:
        x = motion(x)
    low, high = x.amin(1), x.amax(1)
    margin = 0.0 if space.bounded else CURVED * (high - low)
    return low - margin, high + margin


def occupied_corners(space: Space, occupancy: Occupancy) -> Float[Tensor, "m 3"]:
    """The world points at the corners of the occupied cells."""
    index = occupancy.cells().nonzero().cpu()
    return space.from_unit((index[:, None] + unit_corners()).reshape(-1, 3) / occupancy.resolution)


def unit_corners() -> Float[Tensor, "8 3"]:
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)


class Sums:
    """How many cells of a grid are occupied between two corners, from sums over the cells before each corner."""

    def __init__(self, occupancy: Occupancy) -> None:
        counted = occupancy.cells().cpu().to(torch.int32)
        for axis in range(3):
            counted = counted.cumsum(axis, dtype=torch.int32)
        self.table = torch.nn.functional.pad(counted, (1, 0, 1, 0, 1, 0))
        self.resolution = occupancy.resolution

    def any_between(self, low: Float[Tensor, "n 3"], high: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
        """Whether any cell that touches the box from `low` to `high`, points of the unit cube, is occupied."""
        slack = 1e-3  # cells: what rounding may move a point by
        first = (low * self.resolution - slack).floor().long().clamp(0, self.resolution)
        last = (high * self.resolution + slack).ceil().long().clamp(0, self.resolution)
        total = torch.zeros(len(low), dtype=torch.int32)
        for corner in unit_corners().bool():
            i, j, k = torch.where(corner, last, first).unbind(1)
            sign = 1 if int(corner.sum()) % 2 else -1
            total += sign * self.table[i, j, k]
        return total > 0


def _index(resolution: int, slab: int) -> Float[Tensor, "n 3"]:
    side = torch.arange(resolution, dtype=torch.float32)
    return torch.cartesian_prod(torch.tensor([float(slab)]), side, side)
