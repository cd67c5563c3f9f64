"""The multiresolution hash encoding (Müller et al. 2022), in the storage order of torch-ngp and PVD.

Letters: `u` points of the unit cube; level l has `scale` = base * growth^l - 1, so that a point sits at
`u * scale + 0.5` in cells; its grid has `stride` = resolution + 1 vertices along a side. All levels share one table:
level l owns the `rows` rows that start at `offset`. A level whose vertices fit is stored densely, x fastest; the
others find their vertices with a hash.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.fields.kernels.gather import gather_rows

PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class Level:
    """Where one level lies in the table, and how it finds its vertices. The rows of a hashed level are a power of 2."""

    scale: float
    stride: int
    offset: int
    rows: int
    dense: bool


def hash_levels(levels: int, base_resolution: int, finest_resolution: int, log2_table: int) -> tuple[Level, ...]:
    """The levels of an encoding, coarse to fine; the table has `levels[-1].offset + levels[-1].rows` rows.

    log2_table: a level has at most 2^log2_table rows (3 or more).
    """
    growth = (finest_resolution / base_resolution) ** (1 / max(levels - 1, 1))
    result: list[Level] = []
    offset = 0
    for level in range(levels):
        scale = base_resolution * growth**level - 1
        stride = math.ceil(scale - 1e-9) + 2  # the rounding of growth^level must not add a vertex
        rows = min(2**log2_table, -(-(stride**3) // 8) * 8)
        result.append(Level(scale, stride, offset, rows, stride**3 <= rows))
        offset += rows
    return tuple(result)


def hash_encode(
    u: Float[Tensor, "n 3"], table: Float[Tensor, "rows c"], levels: tuple[Level, ...]
) -> Float[Tensor, "n lc"]:
    """The c features of every level at each point, coarse to fine: [level 0 c 0, level 0 c 1, ...].

    u: points in [0, 1]^3. Differentiable in `table`, and in `u` where that asks for it.
    """
    return hash_encode_reference(u, table, levels)


def hash_encode_reference(
    u: Float[Tensor, "n 3"], table: Float[Tensor, "rows c"], levels: tuple[Level, ...]
) -> Float[Tensor, "n lc"]:
    """`hash_encode` in plain torch: any device and precision."""
    return torch.cat([_encode_level(u, table, level) for level in levels], dim=-1)


def _encode_level(u: Float[Tensor, "n 3"], table: Float[Tensor, "rows c"], level: Level) -> Float[Tensor, "n c"]:
    """Trilinear interpolation in one level."""
    position = u * level.scale + 0.5
    cell = position.detach().floor().clamp(0, level.stride - 2)
    upper = position - cell
    weights = (1 - upper, upper)
    rows = table[level.offset : level.offset + level.rows]
    parts = _axis_parts(cell.long(), level)
    result = torch.zeros((), dtype=table.dtype, device=table.device)
    for corner in range(8):
        i, j, k = corner & 1, corner >> 1 & 1, corner >> 2
        x, y, z = parts[i][:, 0], parts[j][:, 1], parts[k][:, 2]
        index = x + y + z if level.dense else (x ^ y ^ z) & (level.rows - 1)
        weight = weights[i][:, 0] * weights[j][:, 1] * weights[k][:, 2]
        result = result + weight.to(table.dtype)[:, None] * gather_rows(rows, index)
    return result


def _axis_parts(cell: Int64[Tensor, "n 3"], level: Level) -> tuple[Int64[Tensor, "n 3"], Int64[Tensor, "n 3"]]:
    """What each axis adds to the index of the lower and of the upper corner of a cell.

    The hash is defined on uint32. Its rows are a power of 2, so products in int64 give the same low bits.
    """
    factors = cell.new_tensor((1, level.stride, level.stride**2) if level.dense else PRIMES)
    lower = cell * factors
    return lower, lower + factors
