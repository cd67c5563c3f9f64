"""The multiresolution hash encoding (Müller et al. 2022), in the storage orders of the programs that have it.

Letters: `u` points of the unit cube; a point sits at `u * scale + shift` in cells of a level, whose grid has `stride`
vertices along a side. All levels share one table: level l owns the `rows` rows that start at `offset`. A level whose
vertices fit is stored densely, x fastest; the others find their vertices with a hash.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.fields.kernels.compiled import (
    Array,
    arrays,
    helper,
    kernel,
    plain_backward,
    runs_compiled,
    zeros_like,
)
from fieldcast.fields.kernels.gather import gather_rows
from fieldcast.fields.kernels.gpu import runs_triton

PRIMES = (1, 2654435761, 805459861)


Storage = Literal["torch-ngp", "tiny-cuda-nn", "nerfstudio"]


@dataclass(frozen=True)
class Level:
    """Where one level lies in the table, and how it finds its vertices. The rows of a hashed level are a power of 2.

    last: the largest number of a lower corner along a side. A dense level may number vertices beyond its rows: such
    numbers begin again at the first row.
    """

    scale: float
    stride: int
    offset: int
    rows: int
    dense: bool
    last: int
    shift: float = 0.5


def hash_levels(
    levels: int,
    base_resolution: int,
    finest_resolution: float,
    log2_table: int,
    storage: Storage = "torch-ngp",
) -> tuple[Level, ...]:
    """The levels of an encoding, coarse to fine; the table has `levels[-1].offset + levels[-1].rows` rows.

    log2_table: a level has at most 2^log2_table rows (3 or more). storage: whose order of rows, and rounding.
    `torch-ngp`, and PVD: a dense level has a vertex at each end of its cells. `tiny-cuda-nn`: one less, so that the
    last vertices along a side are also the first of the next row. `nerfstudio`, its version without tiny-cuda-nn: no
    level is dense, and points are not shifted by half a cell.
    """
    growth = (finest_resolution / base_resolution) ** (1 / max(levels - 1, 1))
    result: list[Level] = []
    for level in range(levels):
        offset = result[-1].offset + result[-1].rows if result else 0
        result.append(LEVELS[storage](base_resolution, growth, level, offset, 2**log2_table))
    return tuple(result)


def _torch_ngp(base: int, growth: float, level: int, offset: int, most: int) -> Level:
    stride = math.ceil(base * growth**level - 1 - 1e-9) + 2  # the rounding of growth^level must not add a vertex
    rows = min(most, _eights(stride**3))
    scale = _single_scale(base, np.float32(math.log2(growth)), level)
    return Level(scale, stride, offset, rows, stride**3 <= rows, stride - 2)


def _tiny_cuda_nn(base: int, growth: float, level: int, offset: int, most: int) -> Level:
    scale = _single_scale(base, np.log2(np.float32(growth)), level)
    stride = math.ceil(scale) + 1
    rows = min(most, _eights(stride**3))
    return Level(scale, stride, offset, rows, stride**3 <= rows, stride - 1)


def _nerfstudio(base: int, growth: float, level: int, offset: int, most: int) -> Level:
    scale = math.floor(np.float32(base) * np.power(np.float32(growth), np.float32(level)))
    return Level(float(scale), scale + 1, offset, most, False, scale, shift=0.0)


def _single_scale(base: int, log2_growth: np.float32, level: int) -> float:
    """Base * growth^level - 1 as both programs compute it on a GPU, rounding to 32 bits after each step.

    That moves points of the finest level by up to a ten-thousandth of a cell, and decides how many vertices there are.
    """
    single = np.float32
    return float(single(np.exp2(single(level) * log2_growth) * single(base)) - single(1))


def _eights(count: int) -> int:
    """The next multiple of 8."""
    return -(-count // 8) * 8


LEVELS: dict[Storage, Callable[[int, float, int, int, int], Level]] = {
    "torch-ngp": _torch_ngp,
    "tiny-cuda-nn": _tiny_cuda_nn,
    "nerfstudio": _nerfstudio,
}


def hash_encode(
    u: Float[Tensor, "n 3"], table: Float[Tensor, "rows c"], levels: tuple[Level, ...]
) -> Float[Tensor, "n lc"]:
    """The c features of every level at each point, coarse to fine: [level 0 c 0, level 0 c 1, ...].

    u: points in [0, 1]^3. Differentiable in `table`, and in `u` where that asks for it.
    """
    if levels[-1].offset + levels[-1].rows > len(table):
        raise ValueError(f"table: expected {levels[-1].offset + levels[-1].rows} rows, found {len(table)}")
    if runs_triton(u, table):
        from fieldcast.fields.kernels.gpu import hashgrid as gpu

        return gpu.hash_encode(u, table, levels)
    if not runs_compiled(u, table):
        return hash_encode_reference(u, table, levels)
    features: Tensor = _HashEncode.apply(u, table, levels)  # type: ignore[no-untyped-call]
    return features


def hash_encode_reference(
    u: Float[Tensor, "n 3"], table: Float[Tensor, "rows c"], levels: tuple[Level, ...]
) -> Float[Tensor, "n lc"]:
    """`hash_encode` in plain torch: any device and precision."""
    return torch.cat([_encode_level(u, table, level) for level in levels], dim=-1)


def _encode_level(u: Float[Tensor, "n 3"], table: Float[Tensor, "rows c"], level: Level) -> Float[Tensor, "n c"]:
    """Trilinear interpolation in one level."""
    position = u * level.scale + level.shift
    cell = position.detach().floor().nan_to_num().clamp(0, level.last)
    upper = position - cell
    weights = (1 - upper, upper)
    rows = table[level.offset : level.offset + level.rows]
    parts = _axis_parts(cell.long(), level)
    result = torch.zeros((), dtype=table.dtype, device=table.device)
    for corner in range(8):
        i, j, k = corner & 1, corner >> 1 & 1, corner >> 2
        x, y, z = parts[i][:, 0], parts[j][:, 1], parts[k][:, 2]
        index = (x + y + z) % level.rows if level.dense else (x ^ y ^ z) & (level.rows - 1)
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


class _HashEncode(torch.autograd.Function):
    """The compiled version: points in parallel forward, levels in parallel backward."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
        ctx.save_for_backward(u, table)
        ctx.levels = levels
        features = u.new_empty(len(u), len(levels) * table.shape[1])
        _forward(len(u), *arrays(u, table), *_level_arrays(levels), features.numpy())
        return features

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, table = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(hash_encode_reference, levels=ctx.levels)
            return *plain_backward(plain, (u, table), (grad,)), None
        levels = _level_arrays(ctx.levels)
        grad_u = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_u = torch.zeros(u.shape)
            _backward_u(len(u), *arrays(u, table, grad), *levels, grad_u.numpy())
        if ctx.needs_input_grad[1]:
            grad_table = zeros_like(table)
            _backward_table(len(ctx.levels), *arrays(u, grad), *levels, grad_table.numpy())
        return grad_u, grad_table, None


CHUNK = 512  # points whose corners are kept at hand


@lru_cache(maxsize=64)
def _level_arrays(levels: tuple[Level, ...]) -> tuple[Array, Array]:
    """The levels as arrays: [scale, shift], and [stride, offset, rows, dense, last] of each."""
    scales = np.array([(level.scale, level.shift) for level in levels], np.float32)
    layout = [(level.stride, level.offset, level.rows, level.dense, level.last) for level in levels]
    return scales, np.array(layout, np.int32)


@helper
def _corners(u: Array, first: int, count: int, scales: Array, layout: Array, index: Array, weight: Array) -> None:
    """Rows and weights of the eight corners around `count` points from `first` on; corner bit 0 is x, 1 y, 2 z."""
    stride, offset, rows, mask, dense = layout[0], layout[1], layout[2], layout[2] - np.int32(1), layout[3] != 0
    scale, shift, zero, one, top = scales[0], scales[1], np.float32(0), np.float32(1), np.float32(layout[4])
    wraps = dense and np.int64(layout[4] + 1) * (1 + stride + stride * stride) >= rows
    step_y = stride if dense else np.int32(2654435761 - 2**32)
    step_z = np.int32(stride * stride) if dense else np.int32(805459861)
    for i in range(count):
        px, py, pz = u[first + i, 0] * scale + shift, u[first + i, 1] * scale + shift, u[first + i, 2] * scale + shift
        cx, cy, cz = np.floor(px), np.floor(py), np.floor(pz)
        cx, cy, cz = (cx if cx > zero else zero), (cy if cy > zero else zero), (cz if cz > zero else zero)
        cx, cy, cz = (cx if cx < top else top), (cy if cy < top else top), (cz if cz < top else top)
        x1, y1, z1 = px - cx, py - cy, pz - cz
        x0, y0, z0 = one - x1, one - y1, one - z1
        weight[0, i], weight[1, i], weight[2, i], weight[3, i] = x0 * y0 * z0, x1 * y0 * z0, x0 * y1 * z0, x1 * y1 * z0
        weight[4, i], weight[5, i], weight[6, i], weight[7, i] = x0 * y0 * z1, x1 * y0 * z1, x0 * y1 * z1, x1 * y1 * z1
        a0, b0, c0 = np.int32(cx), np.int32(np.int32(cy) * step_y), np.int32(np.int32(cz) * step_z)
        a1, b1, c1 = np.int32(a0 + 1), np.int32(b0 + step_y), np.int32(c0 + step_z)
        if dense:
            c0, c1 = np.int32(c0 + offset), np.int32(c1 + offset)
            index[0, i], index[1, i], index[2, i], index[3, i] = a0 + b0 + c0, a1 + b0 + c0, a0 + b1 + c0, a1 + b1 + c0
            index[4, i], index[5, i], index[6, i], index[7, i] = a0 + b0 + c1, a1 + b0 + c1, a0 + b1 + c1, a1 + b1 + c1
        else:
            index[0, i], index[1, i] = ((a0 ^ b0 ^ c0) & mask) + offset, ((a1 ^ b0 ^ c0) & mask) + offset
            index[2, i], index[3, i] = ((a0 ^ b1 ^ c0) & mask) + offset, ((a1 ^ b1 ^ c0) & mask) + offset
            index[4, i], index[5, i] = ((a0 ^ b0 ^ c1) & mask) + offset, ((a1 ^ b0 ^ c1) & mask) + offset
            index[6, i], index[7, i] = ((a0 ^ b1 ^ c1) & mask) + offset, ((a1 ^ b1 ^ c1) & mask) + offset
    if wraps:
        for j in range(8):
            for i in range(count):
                beyond = index[j, i] >= np.uint32(offset + rows)
                index[j, i] -= np.uint32(rows) if beyond else np.uint32(0)


@kernel
def _forward(first: int, last: int, u: Array, table: Array, scales: Array, layout: Array, features: Array) -> None:
    """All points of a thread go through one level after the other, whose rows then stay in the cache."""
    c = table.shape[1]
    index, w = np.zeros((8, CHUNK), np.uint32), np.zeros((8, CHUNK), np.float32)
    for level in range(len(scales)):
        for at in range(first, last, CHUNK):
            count = min(CHUNK, last - at)
            _corners(u, at, count, scales[level], layout[level], index, w)
            for k in range(0, c, 2):
                other = min(k + 1, c - 1)  # two neighbouring channels at once; of a single one, twice the same
                for i in range(count):
                    a, b = np.float32(0), np.float32(0)
                    for j in range(8):
                        a += w[j, i] * table[index[j, i], k]
                        b += w[j, i] * table[index[j, i], other]
                    features[at + i, level * c + k] = a
                    features[at + i, level * c + other] = b


@kernel
def _backward_table(
    first: int, last: int, u: Array, grad: Array, scales: Array, layout: Array, grad_table: Array
) -> None:
    """The levels `first` to `last`: no two share a row."""
    n, c = u.shape[0], grad_table.shape[1]
    index, w = np.zeros((8, CHUNK), np.uint32), np.zeros((8, CHUNK), np.float32)
    for level in range(first, last):
        for at in range(0, n, CHUNK):
            count = min(CHUNK, n - at)
            _corners(u, at, count, scales[level], layout[level], index, w)
            for k in range(c):
                column = grad_table[:, k]
                for i in range(count):
                    g = grad[at + i, level * c + k]
                    for j in range(8):
                        column[index[j, i]] += w[j, i] * g


@kernel
def _backward_u(
    first: int, last: int, u: Array, table: Array, grad: Array, scales: Array, layout: Array, grad_u: Array
) -> None:
    """The weights of the two corners at the ends of an edge add up to the weight of that edge in the derivative."""
    c = table.shape[1]
    index, w = np.zeros((8, CHUNK), np.uint32), np.zeros((8, CHUNK), np.float32)
    value = np.zeros((8, CHUNK), np.float32)
    for at in range(first, last, CHUNK):
        count = min(CHUNK, last - at)
        for level in range(len(scales)):
            _corners(u, at, count, scales[level], layout[level], index, w)
            value[:] = np.float32(0)
            for k in range(c):
                v = table[:, k]
                for j in range(8):
                    for i in range(count):
                        value[j, i] += v[index[j, i]] * grad[at + i, level * c + k]
            for axis in range(3):
                bit = 1 << axis
                for j in range(8):
                    if j & bit == 0:
                        for i in range(count):
                            slope = (w[j, i] + w[j | bit, i]) * (value[j | bit, i] - value[j, i])
                            grad_u[at + i, axis] += slope * scales[level, 0]
