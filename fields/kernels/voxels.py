"""Trilinear interpolation in a sparse voxel grid that is stored in blocks of 8^3 vertices.

Letters: `u` points of the unit cube; vertex (i, j, k), counted along x, y, z, sits at u = (i, j, k) / (resolution - 1)
and is row `blocks[i // 8, j // 8, k // 8] * 512 + (i % 8) * 64 + (j % 8) * 8 + k % 8` of `data`, or the constant
`empty` where the entry of `blocks` is -1.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from fieldcast.fields.kernels.compiled import (
    Array,
    arrays,
    helper,
    kernel,
    plain_backward,
    runs_compiled,
    summing,
    zeros_like,
)
from fieldcast.fields.kernels.gather import gather_rows
from fieldcast.fields.kernels.gpu import runs_triton

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
    if runs_triton(u, data, empty):
        from fieldcast.fields.kernels.gpu import voxels as gpu

        return gpu.trilinear(u, data, blocks, resolution, empty)
    if len(data) == 0 or not runs_compiled(u, data, empty):
        return trilinear_reference(u, data, blocks, resolution, empty)
    if int(blocks.max()) * BLOCK**3 >= len(data) or len(blocks) * BLOCK < resolution:
        raise ValueError(f"blocks: expected numbers of the {len(data) // BLOCK**3} stored blocks, found {blocks.max()}")
    values: Tensor = _Trilinear.apply(u, data, blocks, resolution, empty)  # type: ignore[no-untyped-call]
    return values


def trilinear_reference(
    u: Float[Tensor, "n 3"],
    data: Float[Tensor, "rows c"],
    blocks: Int32[Tensor, "g g g"],
    resolution: int,
    empty: Float[Tensor, " c"],
) -> Float[Tensor, "n c"]:
    """`trilinear` in plain torch: any device and precision."""
    position = u * (resolution - 1)
    cell = position.detach().floor().nan_to_num().clamp(0, max(resolution - 2, 0))
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


class _Trilinear(torch.autograd.Function):
    """The compiled version. Backward, each thread owns every so many lines of 8 vertices and adds to no others."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, data: Tensor, blocks: Tensor, resolution: int, empty: Tensor) -> Tensor:
        ctx.save_for_backward(u, data, blocks, empty)
        ctx.resolution = resolution
        values = u.new_empty(len(u), data.shape[1])
        _forward(len(u), *arrays(u, data, blocks), resolution, *arrays(empty, values))
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, data, blocks, empty = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(trilinear_reference, blocks=blocks, resolution=ctx.resolution, empty=empty)
            return *plain_backward(plain, (u, data), (grad,)), None, None, None
        grad_u = grad_data = None
        if ctx.needs_input_grad[0]:
            grad_u = torch.empty(u.shape)
            _backward_u(len(u), *arrays(u, data, blocks), ctx.resolution, *arrays(empty, grad, grad_u))
        if ctx.needs_input_grad[1]:
            grad_data = zeros_like(data)
            threads = torch.get_num_threads()
            row, weight = np.zeros((len(u), 8), np.int64), np.zeros((len(u), 8), np.float32)
            _locate(len(u), *arrays(u, blocks), ctx.resolution, row, weight)
            _backward_data(threads, row, weight, *arrays(grad, grad_data), threads)
        return grad_u, grad_data, None, None, None


CHUNK = 512  # points whose corners are kept at hand


@helper
def _corners(u: Array, first: int, count: int, blocks: Array, resolution: int, row: Array, weight: Array) -> None:
    """Rows (-1: empty) and weights of the 8 corners around `count` points from `first` on; bit 2 is x, 1 y, 0 z."""
    scale, top, zero = np.float32(resolution - 1), np.float32(max(resolution - 2, 0)), np.float32(0)
    share, place = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.int64)
    for i in range(count):
        for axis in range(3):
            position = u[first + i, axis] * scale
            cell = np.floor(position)
            cell = cell if cell > zero else zero
            cell = cell if cell < top else top
            share[axis, 1] = position - cell
            share[axis, 0] = np.float32(1) - share[axis, 1]
            place[axis, 0] = np.int64(cell)
            place[axis, 1] = place[axis, 0] + 1 if resolution > 1 else 0
        for j in range(8):
            x, y, z = place[0, j >> 2], place[1, j >> 1 & 1], place[2, j & 1]
            block = np.int64(blocks[x >> 3, y >> 3, z >> 3])
            row[i, j] = -1 if block < 0 else block << 9 | (x & 7) << 6 | (y & 7) << 3 | (z & 7)
            weight[i, j] = share[0, j >> 2] * share[1, j >> 1 & 1] * share[2, j & 1]


@helper
def _fill_empty(row: Array, weight: Array, count: int, blank: Array) -> None:
    """Let empty corners read row 0 with weight 0, and sum their weights in `blank`."""
    for i in range(count):
        blank[i] = np.float32(0)
        for j in range(8):
            if row[i, j] < 0:
                blank[i] += weight[i, j]
                row[i, j], weight[i, j] = 0, np.float32(0)


@kernel
def _forward(
    first: int, last: int, u: Array, data: Array, blocks: Array, resolution: int, empty: Array, values: Array
) -> None:
    c = values.shape[1]
    row, weight = np.zeros((CHUNK, 8), np.int64), np.zeros((CHUNK, 8), np.float32)
    blank = np.zeros(CHUNK, np.float32)
    for at in range(first, last, CHUNK):
        count = min(CHUNK, last - at)
        _corners(u, at, count, blocks, resolution, row, weight)
        _fill_empty(row, weight, count, blank)
        for i in range(count):
            w0, w1, w2, w3, w4, w5, w6, w7 = (
                weight[i, 0],
                weight[i, 1],
                weight[i, 2],
                weight[i, 3],
                weight[i, 4],
                weight[i, 5],
                weight[i, 6],
                weight[i, 7],
            )
            a, b, d, e = data[row[i, 0]], data[row[i, 1]], data[row[i, 2]], data[row[i, 3]]
            f, g, h, m = data[row[i, 4]], data[row[i, 5]], data[row[i, 6]], data[row[i, 7]]
            for k in range(c):
                near = w0 * a[k] + w1 * b[k] + w2 * d[k] + w3 * e[k]
                values[at + i, k] = near + w4 * f[k] + w5 * g[k] + w6 * h[k] + w7 * m[k] + blank[i] * empty[k]


@kernel
def _locate(first: int, last: int, u: Array, blocks: Array, resolution: int, row: Array, weight: Array) -> None:
    _corners(u, first, last - first, blocks, resolution, row[first:last], weight[first:last])


@kernel
def _backward_data(
    first: int, last: int, row: Array, weight: Array, grad: Array, grad_data: Array, threads: int
) -> None:
    n, c = grad.shape
    for thread in range(first, last):
        for i in range(n):
            for j in range(8):
                at = row[i, j]
                if at >= 0 and (at >> 3) % threads == thread:
                    w = weight[i, j]
                    for k in range(c):
                        grad_data[at, k] += w * grad[i, k]


@summing
def _dot(a: Array, b: Array) -> Any:
    total = np.float32(0)
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@kernel
def _backward_u(
    first: int,
    last: int,
    u: Array,
    data: Array,
    blocks: Array,
    resolution: int,
    empty: Array,
    grad: Array,
    grad_u: Array,
) -> None:
    """The weights of the two corners at the ends of an edge add up to the weight of that edge in the derivative."""
    row, weight = np.zeros((CHUNK, 8), np.int64), np.zeros((CHUNK, 8), np.float32)
    value = np.zeros(8, np.float32)
    for at in range(first, last, CHUNK):
        count = min(CHUNK, last - at)
        _corners(u, at, count, blocks, resolution, row, weight)
        for i in range(count):
            for j in range(8):
                value[j] = _dot(empty if row[i, j] < 0 else data[row[i, j]], grad[at + i])
            for axis in range(3):
                bit = 4 >> axis
                slope = np.float32(0)
                for j in range(8):
                    if j & bit == 0:
                        slope += (weight[i, j] + weight[i, j | bit]) * (value[j | bit] - value[j])
                grad_u[at + i, axis] = slope * np.float32(resolution - 1)
