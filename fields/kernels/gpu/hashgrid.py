"""The multiresolution hash encoding on CUDA. Letters as in `kernels/hashgrid.py`.

A program takes POINTS points in one level, and the levels come one after the other: the rows of one level at a time
fill the cache. Corner j of a cell is the upper one along x if bit 0 of j is set, along y if bit 1, along z if bit 2.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fieldcast.fields.kernels.compiled import plain_backward
from fieldcast.fields.kernels.gpu.launch import blocks, contiguous, jit, launch, power_of_two
from fieldcast.fields.kernels.gpu.slopes import slopes
from fieldcast.fields.kernels.hashgrid import PRIMES, Level, hash_encode_reference

POINTS = 128  # of a program
PRIME_Y, PRIME_Z = tl.constexpr(PRIMES[1]), tl.constexpr(PRIMES[2])


def hash_encode(u: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
    """The features [n, levels * c] at points u [n, 3] from a table [rows, c] that holds all rows of the levels."""
    features: Tensor = _HashEncode.apply(u, table, levels)  # type: ignore[no-untyped-call]
    return features


class _HashEncode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
        ctx.save_for_backward(u, table)
        ctx.levels = levels
        n, c = len(u), table.shape[1]
        features = u.new_empty(n, len(levels) * c)
        inputs = (*contiguous(u, table), *_level_tensors(levels, u.device))
        launch(_forward, (blocks(n, POINTS), len(levels)), *inputs, features, n, **_sizes(c))
        return features

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, table = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(hash_encode_reference, levels=ctx.levels)
            return *plain_backward(plain, (u, table), (grad,)), None
        levels = _level_tensors(ctx.levels, u.device)
        n, c, count = len(u), table.shape[1], len(ctx.levels)
        grad_u = grad_table = None
        if ctx.needs_input_grad[0]:
            grad_u = torch.zeros_like(u, memory_format=torch.contiguous_format)
            inputs = (*contiguous(u, table, grad), *levels)
            launch(_backward_u, (blocks(n, POINTS),), *inputs, grad_u, n, count, **_sizes(c))
        if ctx.needs_input_grad[1]:
            grad_table = torch.zeros_like(table, memory_format=torch.contiguous_format)
            inputs = (*contiguous(u, grad), *levels)
            launch(_backward_table, (blocks(n, POINTS), count), *inputs, grad_table, n, **_sizes(c))
        return grad_u, grad_table, None


def _sizes(c: int) -> dict[str, int]:
    return {"C": c, "WIDTH": power_of_two(c), "POINTS": POINTS}


@lru_cache(maxsize=64)
def _level_tensors(levels: tuple[Level, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The levels as tensors: [scale, shift], and [stride, offset, rows, dense, last] of each."""
    scales = torch.tensor([(level.scale, level.shift) for level in levels], dtype=torch.float32, device=device)
    layout = [(level.stride, level.offset, level.rows, level.dense, level.last) for level in levels]
    return scales, torch.tensor(layout, dtype=torch.int64, device=device)


@jit
def _factors(layout: tl.tensor, level: tl.tensor) -> Any:
    """What a step along y and one along z add to the number of a vertex; the last cell; whether the level is dense."""
    stride = tl.load(layout + level * 5).to(tl.uint32)
    dense = tl.load(layout + level * 5 + 3) != 0
    step_y = tl.where(dense, stride, tl.full((), PRIME_Y, tl.uint32))
    step_z = tl.where(dense, stride * stride, tl.full((), PRIME_Z, tl.uint32))
    return step_y, step_z, tl.load(layout + level * 5 + 4).to(tl.float32), dense


@jit
def _axis(
    u: tl.tensor, at: tl.tensor, inside: tl.tensor, scale: tl.tensor, shift: tl.tensor, top: tl.tensor, step: tl.tensor
) -> Any:
    """Of one axis: the parts of the numbers of the lower and the upper corners, and the weight of the upper ones."""
    position = tl.load(u + at, mask=inside, other=0.0) * scale + shift
    cell = tl.floor(position)
    cell = tl.where(cell > 0.0, cell, 0.0)
    cell = tl.where(cell < top, cell, top)
    low = cell.to(tl.int32).to(tl.uint32) * step
    return low, low + step, position - cell


@jit
def _row(layout: tl.tensor, level: tl.tensor, dense: tl.tensor, a: tl.tensor, b: tl.tensor, c: tl.tensor) -> Any:
    """The rows of the table that hold vertices with the parts a, b and c."""
    offset, rows = tl.load(layout + level * 5 + 1), tl.load(layout + level * 5 + 2).to(tl.uint32)
    number = a + b + c
    number = tl.where(number >= rows, number - rows, number)
    return offset + tl.where(dense, number, (a ^ b ^ c) & (rows - 1)).to(tl.int64)


@jit
def _forward(
    u: tl.tensor,
    table: tl.tensor,
    scales: tl.tensor,
    layout: tl.tensor,
    features: tl.tensor,
    n: tl.tensor,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    level = tl.program_id(1)
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    k = tl.arange(0, WIDTH)[None, :]
    inside = i < n
    keep = inside[:, None] & (k < C)
    scale, shift = tl.load(scales + level * 2), tl.load(scales + level * 2 + 1)
    step_y, step_z, top, dense = _factors(layout, level)
    x0, x1, x = _axis(u, i * 3, inside, scale, shift, top, 1)
    y0, y1, y = _axis(u, i * 3 + 1, inside, scale, shift, top, step_y)
    z0, z1, z = _axis(u, i * 3 + 2, inside, scale, shift, top, step_z)
    total = tl.zeros((POINTS, WIDTH), tl.float32)
    for j in tl.static_range(8):
        row = _row(layout, level, dense, x1 if j & 1 else x0, y1 if j & 2 else y0, z1 if j & 4 else z0)
        weight = (x if j & 1 else 1 - x) * (y if j & 2 else 1 - y) * (z if j & 4 else 1 - z)
        total += weight[:, None] * tl.load(table + row[:, None] * C + k, mask=keep, other=0.0)
    tl.store(features + (i[:, None] * tl.num_programs(1) + level) * C + k, total, mask=keep)


@jit
def _backward_table(
    u: tl.tensor,
    grad: tl.tensor,
    scales: tl.tensor,
    layout: tl.tensor,
    grad_table: tl.tensor,
    n: tl.tensor,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    level = tl.program_id(1)
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    k = tl.arange(0, WIDTH)[None, :]
    inside = i < n
    keep = inside[:, None] & (k < C)
    scale, shift = tl.load(scales + level * 2), tl.load(scales + level * 2 + 1)
    step_y, step_z, top, dense = _factors(layout, level)
    x0, x1, x = _axis(u, i * 3, inside, scale, shift, top, 1)
    y0, y1, y = _axis(u, i * 3 + 1, inside, scale, shift, top, step_y)
    z0, z1, z = _axis(u, i * 3 + 2, inside, scale, shift, top, step_z)
    g = tl.load(grad + (i[:, None] * tl.num_programs(1) + level) * C + k, mask=keep, other=0.0)
    for j in tl.static_range(8):
        row = _row(layout, level, dense, x1 if j & 1 else x0, y1 if j & 2 else y0, z1 if j & 4 else z0)
        weight = (x if j & 1 else 1 - x) * (y if j & 2 else 1 - y) * (z if j & 4 else 1 - z)
        tl.atomic_add(grad_table + row[:, None] * C + k, weight[:, None] * g, mask=keep, sem="relaxed")


@jit
def _shared(table: tl.tensor, row: tl.tensor, k: tl.tensor, g: tl.tensor, keep: tl.tensor, C: tl.constexpr) -> Any:
    """What rows of the table have in common with a gradient: their inner product."""
    return tl.sum(tl.load(table + row[:, None] * C + k, mask=keep, other=0.0) * g, axis=1)


@jit
def _backward_u(
    u: tl.tensor,
    table: tl.tensor,
    grad: tl.tensor,
    scales: tl.tensor,
    layout: tl.tensor,
    grad_u: tl.tensor,
    n: tl.tensor,
    levels: tl.tensor,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    """One program sums over all levels."""
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    k = tl.arange(0, WIDTH)[None, :]
    inside = i < n
    keep = inside[:, None] & (k < C)
    along_x = tl.zeros((POINTS,), tl.float32)
    along_y = tl.zeros((POINTS,), tl.float32)
    along_z = tl.zeros((POINTS,), tl.float32)
    for level in range(levels):
        scale, shift = tl.load(scales + level * 2), tl.load(scales + level * 2 + 1)
        step_y, step_z, top, dense = _factors(layout, level)
        x0, x1, x = _axis(u, i * 3, inside, scale, shift, top, 1)
        y0, y1, y = _axis(u, i * 3 + 1, inside, scale, shift, top, step_y)
        z0, z1, z = _axis(u, i * 3 + 2, inside, scale, shift, top, step_z)
        g = tl.load(grad + (i[:, None] * levels + level) * C + k, mask=keep, other=0.0)
        v000 = _shared(table, _row(layout, level, dense, x0, y0, z0), k, g, keep, C)
        v001 = _shared(table, _row(layout, level, dense, x0, y0, z1), k, g, keep, C)
        v010 = _shared(table, _row(layout, level, dense, x0, y1, z0), k, g, keep, C)
        v011 = _shared(table, _row(layout, level, dense, x0, y1, z1), k, g, keep, C)
        v100 = _shared(table, _row(layout, level, dense, x1, y0, z0), k, g, keep, C)
        v101 = _shared(table, _row(layout, level, dense, x1, y0, z1), k, g, keep, C)
        v110 = _shared(table, _row(layout, level, dense, x1, y1, z0), k, g, keep, C)
        v111 = _shared(table, _row(layout, level, dense, x1, y1, z1), k, g, keep, C)
        slope_x, slope_y, slope_z = slopes(v000, v001, v010, v011, v100, v101, v110, v111, x, y, z)
        along_x += slope_x * scale
        along_y += slope_y * scale
        along_z += slope_z * scale
    tl.store(grad_u + i * 3, along_x, mask=inside)
    tl.store(grad_u + i * 3 + 1, along_y, mask=inside)
    tl.store(grad_u + i * 3 + 2, along_z, mask=inside)
