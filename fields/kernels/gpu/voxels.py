"""Trilinear interpolation in blocks of 8^3 vertices on CUDA. Letters as in `kernels/voxels.py`.

Corner j of a voxel is the upper one along x if bit 2 of j is set, along y if bit 1, along z if bit 0.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fieldcast.fields.kernels.compiled import plain_backward
from fieldcast.fields.kernels.gpu.launch import blocks, contiguous, jit, launch, power_of_two
from fieldcast.fields.kernels.gpu.slopes import slopes
from fieldcast.fields.kernels.voxels import BLOCK, trilinear_reference

TILE, CHUNK = 1024, 32  # numbers of a program, and channels of those


def trilinear(u: Tensor, data: Tensor, table: Tensor, resolution: int, empty: Tensor) -> Tensor:
    """The values [n, c] at points u [n, 3] of the blocks `data` [rows, c] whose places are in `table` [g, g, g].

    A block whose number is beyond those that are stored counts as empty: to look for one would be to wait for the GPU.
    """
    if len(table) * BLOCK < resolution:
        raise ValueError(f"blocks: expected {blocks(resolution, BLOCK)} a side, found {len(table)}")
    values: Tensor = _Trilinear.apply(u, data, table, resolution, empty)  # type: ignore[no-untyped-call]
    return values


class _Trilinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, data: Tensor, table: Tensor, resolution: int, empty: Tensor) -> Tensor:
        ctx.save_for_backward(u, data, table, empty)
        ctx.resolution = resolution
        n, sizes = len(u), _sizes(data, table, resolution)
        values = u.new_empty(n, data.shape[1])
        inputs = contiguous(u, data, table, empty)
        launch(_forward, (blocks(n, sizes["POINTS"]),), *inputs, values, n, len(data), **sizes)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, data, table, empty = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(trilinear_reference, blocks=table, resolution=ctx.resolution, empty=empty)
            return *plain_backward(plain, (u, data), (grad,)), None, None, None
        n, rows, sizes = len(u), len(data), _sizes(data, table, ctx.resolution)
        programs = (blocks(n, sizes["POINTS"]),)
        grad_u = grad_data = None
        if ctx.needs_input_grad[0]:
            grad_u = torch.zeros_like(u, memory_format=torch.contiguous_format)
            launch(_backward_u, programs, *contiguous(u, data, table, empty, grad), grad_u, n, rows, **sizes)
        if ctx.needs_input_grad[1]:
            grad_data = torch.zeros_like(data, memory_format=torch.contiguous_format)
            launch(_backward_data, programs, *contiguous(u, table, grad), grad_data, n, rows, **sizes)
        return grad_u, grad_data, None, None, None


def _sizes(data: Tensor, table: Tensor, resolution: int) -> dict[str, int]:
    """What kernels are compiled for: vertices and blocks along a side, channels, and tiles."""
    width = min(power_of_two(data.shape[1]), CHUNK)
    return {"R": resolution, "G": len(table), "C": data.shape[1], "WIDTH": width, "POINTS": TILE // width}


@jit
def _locate(u: tl.tensor, at: tl.tensor, inside: tl.tensor, R: tl.constexpr) -> Any:
    """The vertices below and above a coordinate, and the weight of the upper one."""
    LAST: tl.constexpr = R - 1
    TOP: tl.constexpr = R - 2 if R > 1 else 0
    position = tl.load(u + at, mask=inside, other=0.0) * LAST
    cell = tl.floor(position)
    cell = tl.where(cell > 0.0, cell, 0.0)
    cell = tl.where(cell < TOP, cell, TOP)
    low = cell.to(tl.int32)
    return low, tl.minimum(low + 1, LAST), position - cell


@jit
def _row(
    table: tl.tensor, x: tl.tensor, y: tl.tensor, z: tl.tensor, inside: tl.tensor, rows: tl.tensor, G: tl.constexpr
) -> Any:
    """The rows of vertices, -1 for those that are not stored."""
    number = tl.load(table + ((x >> 3) * G + (y >> 3)) * G + (z >> 3), mask=inside, other=-1).to(tl.int64)
    row = number * 512 + ((x & 7) * 64 + (y & 7) * 8 + (z & 7))
    return tl.where((number >= 0) & (row < rows), row, -1)


@jit
def _forward(
    u: tl.tensor,
    data: tl.tensor,
    table: tl.tensor,
    empty: tl.tensor,
    values: tl.tensor,
    n: tl.tensor,
    rows: tl.tensor,
    R: tl.constexpr,
    G: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    inside = i < n
    x0, x1, x = _locate(u, i * 3, inside, R)
    y0, y1, y = _locate(u, i * 3 + 1, inside, R)
    z0, z1, z = _locate(u, i * 3 + 2, inside, R)
    for channel in range(0, C, WIDTH):
        k = channel + tl.arange(0, WIDTH)
        keep = inside[:, None] & (k < C)[None, :]
        blank = tl.load(empty + k, mask=k < C, other=0.0)[None, :]
        total = tl.zeros((POINTS, WIDTH), tl.float32)
        for j in tl.static_range(8):
            row = _row(table, x1 if j & 4 else x0, y1 if j & 2 else y0, z1 if j & 1 else z0, inside, rows, G)[:, None]
            weight = (x if j & 4 else 1 - x) * (y if j & 2 else 1 - y) * (z if j & 1 else 1 - z)
            corner = tl.load(data + row * C + k[None, :], mask=keep & (row >= 0), other=0.0)
            total += weight[:, None] * tl.where(row >= 0, corner, blank)
        tl.store(values + i[:, None] * C + k[None, :], total, mask=keep)


@jit
def _backward_data(
    u: tl.tensor,
    table: tl.tensor,
    grad: tl.tensor,
    grad_data: tl.tensor,
    n: tl.tensor,
    rows: tl.tensor,
    R: tl.constexpr,
    G: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    inside = i < n
    x0, x1, x = _locate(u, i * 3, inside, R)
    y0, y1, y = _locate(u, i * 3 + 1, inside, R)
    z0, z1, z = _locate(u, i * 3 + 2, inside, R)
    for channel in range(0, C, WIDTH):
        k = channel + tl.arange(0, WIDTH)[None, :]
        keep = inside[:, None] & (k < C)
        g = tl.load(grad + i[:, None] * C + k, mask=keep, other=0.0)
        for j in tl.static_range(8):
            row = _row(table, x1 if j & 4 else x0, y1 if j & 2 else y0, z1 if j & 1 else z0, inside, rows, G)[:, None]
            weight = (x if j & 4 else 1 - x) * (y if j & 2 else 1 - y) * (z if j & 1 else 1 - z)
            tl.atomic_add(grad_data + row * C + k, weight[:, None] * g, mask=keep & (row >= 0), sem="relaxed")


@jit
def _shared(
    data: tl.tensor, row: tl.tensor, k: tl.tensor, g: tl.tensor, blank: tl.tensor, keep: tl.tensor, C: tl.constexpr
) -> Any:
    """What vertices, stored or empty, have in common with a gradient: their inner product."""
    stored = (row >= 0)[:, None]
    corner = tl.load(data + row[:, None] * C + k[None, :], mask=keep & stored, other=0.0)
    return tl.sum(g * tl.where(stored, corner, blank), axis=1)


@jit
def _backward_u(
    u: tl.tensor,
    data: tl.tensor,
    table: tl.tensor,
    empty: tl.tensor,
    grad: tl.tensor,
    grad_u: tl.tensor,
    n: tl.tensor,
    rows: tl.tensor,
    R: tl.constexpr,
    G: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    inside = i < n
    x0, x1, x = _locate(u, i * 3, inside, R)
    y0, y1, y = _locate(u, i * 3 + 1, inside, R)
    z0, z1, z = _locate(u, i * 3 + 2, inside, R)
    along_x = tl.zeros((POINTS,), tl.float32)
    along_y = tl.zeros((POINTS,), tl.float32)
    along_z = tl.zeros((POINTS,), tl.float32)
    for channel in range(0, C, WIDTH):
        k = channel + tl.arange(0, WIDTH)
        keep = inside[:, None] & (k < C)[None, :]
        blank = tl.load(empty + k, mask=k < C, other=0.0)[None, :]
        g = tl.load(grad + i[:, None] * C + k[None, :], mask=keep, other=0.0)
        v000 = _shared(data, _row(table, x0, y0, z0, inside, rows, G), k, g, blank, keep, C)
        v001 = _shared(data, _row(table, x0, y0, z1, inside, rows, G), k, g, blank, keep, C)
        v010 = _shared(data, _row(table, x0, y1, z0, inside, rows, G), k, g, blank, keep, C)
        v011 = _shared(data, _row(table, x0, y1, z1, inside, rows, G), k, g, blank, keep, C)
        v100 = _shared(data, _row(table, x1, y0, z0, inside, rows, G), k, g, blank, keep, C)
        v101 = _shared(data, _row(table, x1, y0, z1, inside, rows, G), k, g, blank, keep, C)
        v110 = _shared(data, _row(table, x1, y1, z0, inside, rows, G), k, g, blank, keep, C)
        v111 = _shared(data, _row(table, x1, y1, z1, inside, rows, G), k, g, blank, keep, C)
        slope_x, slope_y, slope_z = slopes(v000, v001, v010, v011, v100, v101, v110, v111, x, y, z)
        along_x += slope_x * (R - 1)
        along_y += slope_y * (R - 1)
        along_z += slope_z * (R - 1)
    tl.store(grad_u + i * 3, along_x, mask=inside)
    tl.store(grad_u + i * 3 + 1, along_y, mask=inside)
    tl.store(grad_u + i * 3 + 2, along_z, mask=inside)
