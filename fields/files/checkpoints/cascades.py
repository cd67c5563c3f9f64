"""Where torch-ngp and PVD take a scene not to be empty: bits of nested grids, in Morton order.

Letters: b half the side of the scene's cube, which is around the origin. Cascade l is a grid of `side`^3 cells over
[-m, m]^3 with m = min(2^l, b), the last one over all of it. Cell (i, j, k) along x, y, z is the bit whose number has
those of i, j and k in turn, i's first.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from fieldcast.fields.occupancy import Occupancy

ROUNDING = 1e-6  # of a cell: faces that meet do not overlap


def cascade_count(half: float) -> int:
    """How many grids a scene of [-half, half]^3 has."""
    return 1 + max(0, math.ceil(math.log2(half)))


def occupancy_of_bits(bits: UInt8[Tensor, " bytes"], half: float, side: int, resolution: int) -> Occupancy:
    """The cells of our grid that any cell of any cascade overlaps that is not empty."""
    order = morton_order(side)
    shifts = torch.arange(8, dtype=torch.uint8)
    flags = ((bits[:, None] >> shifts) & 1).bool().reshape(-1, side**3)
    cells = torch.zeros((resolution,) * 3, dtype=torch.bool)
    for level, flat in enumerate(flags):
        reach = half / min(2.0**level, half)
        cells |= regridded(flat[order].reshape((side,) * 3), (1 - reach) / 2, (1 + reach) / 2, resolution)
    return Occupancy.of_cells(cells)


def bits_of_occupancy(occupancy: Occupancy, half: float, side: int) -> UInt8[Tensor, " bytes"]:
    """The cells of all cascades that overlap a cell of our grid that is not empty."""
    order, cells = morton_order(side), occupancy.cells()
    weights = 2 ** torch.arange(8, dtype=torch.uint8)
    levels = []
    for level in range(cascade_count(half)):
        reach = min(2.0**level, half) / half
        flat = torch.zeros(side**3, dtype=torch.uint8)
        flat[order] = regridded(cells, (1 - reach) / 2, (1 + reach) / 2, side).reshape(-1).to(torch.uint8)
        levels.append((flat.reshape(-1, 8) * weights).sum(-1, dtype=torch.uint8))
    return torch.cat(levels)


def morton_order(side: int) -> Int64[Tensor, " cells"]:
    """The Morton number of each cell (i, j, k), counted with k fastest."""
    place, spread = torch.arange(side), torch.zeros(side, dtype=torch.int64)
    for bit in range(side.bit_length()):
        spread |= ((place >> bit) & 1) << 3 * bit
    return (spread[:, None, None] | spread[:, None] << 1 | spread << 2).reshape(-1)


def regridded(cells: Bool[Tensor, "s s s"], low: float, high: float, resolution: int) -> Bool[Tensor, "r r r"]:
    """Which cells of a grid overlap true ones of another, [0, 1]^3, of which it spans [low, high]^3."""
    side = len(cells)
    edges = side * (low + (high - low) * torch.arange(resolution + 1, dtype=torch.float64) / resolution)
    first = (edges[:-1] + ROUNDING).floor().long()
    last = (edges[1:] - ROUNDING).ceil().long() - 1
    for axis in range(3):
        found = torch.zeros_like(cells.index_select(axis, first.clamp(0, side - 1)))
        for step in range(int((last - first).max()) + 1):
            place = first + step
            inside = (place <= last) & (place >= 0) & (place < side)
            shape = [-1 if a == axis else 1 for a in range(3)]
            found |= cells.index_select(axis, place.clamp(0, side - 1)) & inside.reshape(shape)
        cells = found
    return cells
