"""Trilinear interpolation in a sparse voxel grid that is stored in blocks of 8^3 vertices.

Letters: `u` points of the unit cube; vertex (i, j, k), counted along x, y, z, sits at u = (i, j, k) / (resolution - 1)
and is row `blocks[i // 8, j // 8, k // 8] * 512 + (i % 8) * 64 + (j % 8) * 8 + k % 8` of `data`, or the constant
`empty` where the entry of `blocks` is -1.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from fieldcast.fields.kernels.gather import gather_rows

BLOCK = 8


def trilinear(
    u: Float[Tensor, "n 3"],
    data: Float[Tensor, "rows c"],
    blocks: Int32[Tensor, "g g g"],
    resolution: int,
    empty: Float[Tensor, " c"],
) -> Float[Tensor, "n c"]:
    """The values of the grid at points of the unit cube.

    blocks: the block number of each place of the coarse grid of g = ceil(resolution / 8), -1 for none.
    Differentiable in `data`, and in `u` where that asks for it; `empty` is a constant.
    """
    return trilinear_reference(u, data, blocks, resolution, empty)


def trilinear_reference(
    u: Float[Tensor, "n 3"],
    data: Float[Tensor, "rows c"],
    blocks: Int32[Tensor, "g g g"],
    resolution: int,
    empty: Float[Tensor, " c"],
) -> Float[Tensor, "n c"]:
    """`trilinear` in plain torch: any device and precision."""
    position = u * (resolution - 1)
    cell = position.detach().floor().clamp(0, max(resolution - 2, 0))
    upper = position - cell
    weights = (1 - upper, upper)
    lower = cell.long()
    corners = (lower, (lower + 1).clamp(max=resolution - 1))
    result = torch.zeros((), dtype=data.dtype, device=data.device)
    for corner in range(8):
        i, j, k = corner >> 2, corner >> 1 & 1, corner & 1
        vertex = torch.stack((corners[i][:, 0], corners[j][:, 1], corners[k][:, 2]), dim=-1)
        weight = weights[i][:, 0] * weights[j][:, 1] * weights[k][:, 2]
        result = result + weight.to(data.dtype)[:, None] * _vertex_values(vertex, data, blocks, empty.detach())
    return result


def vertex_rows(
    vertex: Int64[Tensor, "n 3"], blocks: Int32[Tensor, "g g g"]
) -> tuple[Int64[Tensor, " n"], Bool[Tensor, " n"]]:
    """The row of `data` that holds each vertex, and whether there is one (the row is 0 where there is none)."""
    block, inside = vertex // BLOCK, vertex % BLOCK
    number = blocks[block[:, 0], block[:, 1], block[:, 2]].long()
    row = number * BLOCK**3 + (inside[:, 0] * BLOCK + inside[:, 1]) * BLOCK + inside[:, 2]
    return torch.where(number < 0, 0, row), number >= 0


def _vertex_values(
    vertex: Int64[Tensor, "n 3"],
    data: Float[Tensor, "rows c"],
    blocks: Int32[Tensor, "g g g"],
    empty: Float[Tensor, " c"],
) -> Float[Tensor, "n c"]:
    if len(data) == 0:
        return empty.expand(len(vertex), -1)
    row, stored = vertex_rows(vertex, blocks)
    return torch.where(stored[:, None], gather_rows(data, row), empty)
