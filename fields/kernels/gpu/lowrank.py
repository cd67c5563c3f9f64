"""Bilinear planes times linear lines on CUDA. Letters as in `kernels/lowrank.py`.

A program takes some points of one plane m and its line, and the channels in chunks that are read in one go.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fieldcast.fields.kernels.compiled import plain_backward
from fieldcast.fields.kernels.gpu.launch import blocks, contiguous, jit, launch, power_of_two
from fieldcast.fields.kernels.lowrank import Axes, line_lookup_reference, plane_lookup_reference

TILE, CHUNK = 1024, 16  # numbers of a program, and channels of those


def product(u: Tensor, planes: Tensor, lines: Tensor, axes: Axes) -> Tensor:
    """The values [n, 3, c] of planes [3, r, r, c] times lines [3, r, c] that run along `axes`, at points u [n, 3].

    A factor that is 1 everywhere has one sample along an axis.
    """
    values: Tensor = _Product.apply(u, planes, lines, axes)  # type: ignore[no-untyped-call]
    return values


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, planes: Tensor, lines: Tensor, axes: Axes) -> Tensor:
        ctx.save_for_backward(u, planes, lines)
        ctx.axes = axes
        n, c = len(u), planes.shape[-1]
        values = u.new_empty(n, 3, c)
        sizes = _sizes(planes, lines, axes)
        launch(_forward, (blocks(n, sizes["POINTS"]), 3), *contiguous(u, planes, lines), values, n, **sizes)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, planes, lines = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(_product_reference, axes=ctx.axes)
            return *plain_backward(plain, (u, planes, lines), (grad,)), None
        inputs, n, sizes = contiguous(u, planes, lines, grad), len(u), _sizes(planes, lines, ctx.axes)
        programs = blocks(n, sizes["POINTS"])
        result: list[Tensor | None] = [
            torch.zeros_like(tensor, memory_format=torch.contiguous_format) if needed else None
            for tensor, needed in zip((u, planes, lines), ctx.needs_input_grad, strict=False)
        ]
        if result[0] is not None:
            launch(_backward_u, (programs,), *inputs, result[0], n, **sizes)
        if result[1] is not None:
            launch(_backward_planes, (programs, 3), *inputs, result[1], n, **sizes)
        if result[2] is not None:
            launch(_backward_lines, (programs, 3), *inputs, result[2], n, **sizes)
        return *result, None


def _product_reference(u: Tensor, planes: Tensor, lines: Tensor, axes: Axes) -> Tensor:
    return plane_lookup_reference(u, planes) * line_lookup_reference(u, lines, axes)


def _sizes(planes: Tensor, lines: Tensor, axes: Axes) -> dict[str, int]:
    """What kernels are compiled for: samples along planes and lines, the lines' axes, channels, and tiles."""
    width = min(power_of_two(planes.shape[-1]), CHUNK)
    return {
        "R": planes.shape[1],
        "RL": lines.shape[1],
        "AXIS0": axes[0],
        "AXIS1": axes[1],
        "AXIS2": axes[2],
        "C": planes.shape[-1],
        "WIDTH": width,
        "POINTS": TILE // width,
    }


@jit
def _axes(m: tl.tensor, AXIS0: tl.constexpr, AXIS1: tl.constexpr, AXIS2: tl.constexpr) -> Any:
    """The first and the second axis of plane m, and that of its line."""
    return m // 2, 1 + (m + 1) // 2, tl.where(m == 0, AXIS0, tl.where(m == 1, AXIS1, AXIS2))


@jit
def _locate(u: tl.tensor, at: tl.tensor, inside: tl.tensor, R: tl.constexpr) -> Any:
    """The samples below and above a coordinate, and the weight of the upper one."""
    LAST: tl.constexpr = R - 1
    TOP: tl.constexpr = R - 2 if R > 1 else 0
    position = tl.load(u + at, mask=inside, other=0.0) * LAST
    cell = tl.floor(position)
    cell = tl.where(cell > 0.0, cell, 0.0)
    cell = tl.where(cell < TOP, cell, TOP)
    low = cell.to(tl.int32).to(tl.int64)
    return low, tl.minimum(low + 1, LAST), position - cell


@jit
def _samples(table: tl.tensor, row: tl.tensor, k: tl.tensor, keep: tl.tensor, C: tl.constexpr) -> Any:
    return tl.load(table + row[:, None] * C + k, mask=keep, other=0.0)


@jit
def _add(table: tl.tensor, row: tl.tensor, k: tl.tensor, values: tl.tensor, keep: tl.tensor, C: tl.constexpr) -> None:
    tl.atomic_add(table + row[:, None] * C + k, values, mask=keep, sem="relaxed")


@jit
def _forward(
    u: tl.tensor,
    planes: tl.tensor,
    lines: tl.tensor,
    values: tl.tensor,
    n: tl.tensor,
    R: tl.constexpr,
    RL: tl.constexpr,
    AXIS0: tl.constexpr,
    AXIS1: tl.constexpr,
    AXIS2: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    m = tl.program_id(1)
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    inside = i < n
    first, second, along = _axes(m, AXIS0, AXIS1, AXIS2)
    x0, x1, x = _locate(u, i * 3 + first, inside, R)
    y0, y1, y = _locate(u, i * 3 + second, inside, R)
    z0, z1, z = _locate(u, i * 3 + along, inside, RL)
    row0, row1, line = (m * R + y0) * R, (m * R + y1) * R, m * RL
    x, y, z = x[:, None], y[:, None], z[:, None]
    for channel in range(0, C, WIDTH):
        k = channel + tl.arange(0, WIDTH)[None, :]
        keep = inside[:, None] & (k < C)
        lower = (1 - x) * _samples(planes, row0 + x0, k, keep, C) + x * _samples(planes, row0 + x1, k, keep, C)
        upper = (1 - x) * _samples(planes, row1 + x0, k, keep, C) + x * _samples(planes, row1 + x1, k, keep, C)
        factor = (1 - z) * _samples(lines, line + z0, k, keep, C) + z * _samples(lines, line + z1, k, keep, C)
        tl.store(values + (i[:, None] * 3 + m) * C + k, ((1 - y) * lower + y * upper) * factor, mask=keep)


@jit
def _backward_planes(
    u: tl.tensor,
    planes: tl.tensor,
    lines: tl.tensor,
    grad: tl.tensor,
    grad_planes: tl.tensor,
    n: tl.tensor,
    R: tl.constexpr,
    RL: tl.constexpr,
    AXIS0: tl.constexpr,
    AXIS1: tl.constexpr,
    AXIS2: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    m = tl.program_id(1)
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    inside = i < n
    first, second, along = _axes(m, AXIS0, AXIS1, AXIS2)
    x0, x1, x = _locate(u, i * 3 + first, inside, R)
    y0, y1, y = _locate(u, i * 3 + second, inside, R)
    z0, z1, z = _locate(u, i * 3 + along, inside, RL)
    row0, row1, line = (m * R + y0) * R, (m * R + y1) * R, m * RL
    x, y, z = x[:, None], y[:, None], z[:, None]
    for channel in range(0, C, WIDTH):
        k = channel + tl.arange(0, WIDTH)[None, :]
        keep = inside[:, None] & (k < C)
        factor = (1 - z) * _samples(lines, line + z0, k, keep, C) + z * _samples(lines, line + z1, k, keep, C)
        g = tl.load(grad + (i[:, None] * 3 + m) * C + k, mask=keep, other=0.0) * factor
        _add(grad_planes, row0 + x0, k, (1 - y) * (1 - x) * g, keep, C)
        _add(grad_planes, row0 + x1, k, (1 - y) * x * g, keep, C)
        _add(grad_planes, row1 + x0, k, y * (1 - x) * g, keep, C)
        _add(grad_planes, row1 + x1, k, y * x * g, keep, C)


@jit
def _backward_lines(
    u: tl.tensor,
    planes: tl.tensor,
    lines: tl.tensor,
    grad: tl.tensor,
    grad_lines: tl.tensor,
    n: tl.tensor,
    R: tl.constexpr,
    RL: tl.constexpr,
    AXIS0: tl.constexpr,
    AXIS1: tl.constexpr,
    AXIS2: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    m = tl.program_id(1)
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    inside = i < n
    first, second, along = _axes(m, AXIS0, AXIS1, AXIS2)
    x0, x1, x = _locate(u, i * 3 + first, inside, R)
    y0, y1, y = _locate(u, i * 3 + second, inside, R)
    z0, z1, z = _locate(u, i * 3 + along, inside, RL)
    row0, row1, line = (m * R + y0) * R, (m * R + y1) * R, m * RL
    x, y, z = x[:, None], y[:, None], z[:, None]
    for channel in range(0, C, WIDTH):
        k = channel + tl.arange(0, WIDTH)[None, :]
        keep = inside[:, None] & (k < C)
        lower = (1 - x) * _samples(planes, row0 + x0, k, keep, C) + x * _samples(planes, row0 + x1, k, keep, C)
        upper = (1 - x) * _samples(planes, row1 + x0, k, keep, C) + x * _samples(planes, row1 + x1, k, keep, C)
        g = tl.load(grad + (i[:, None] * 3 + m) * C + k, mask=keep, other=0.0) * ((1 - y) * lower + y * upper)
        _add(grad_lines, line + z0, k, (1 - z) * g, keep, C)
        _add(grad_lines, line + z1, k, z * g, keep, C)


@jit
def _backward_u(
    u: tl.tensor,
    planes: tl.tensor,
    lines: tl.tensor,
    grad: tl.tensor,
    grad_u: tl.tensor,
    n: tl.tensor,
    R: tl.constexpr,
    RL: tl.constexpr,
    AXIS0: tl.constexpr,
    AXIS1: tl.constexpr,
    AXIS2: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
) -> None:
    """One program sums over the three products; what each adds to the three axes is a tile of 4 columns."""
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    inside = i < n
    axis = tl.arange(0, 4)[None, :]
    total = tl.zeros((POINTS, 4), tl.float32)
    for m in range(3):
        first, second, along = _axes(m, AXIS0, AXIS1, AXIS2)
        x0, x1, x = _locate(u, i * 3 + first, inside, R)
        y0, y1, y = _locate(u, i * 3 + second, inside, R)
        z0, z1, z = _locate(u, i * 3 + along, inside, RL)
        row0, row1, line = (m * R + y0) * R, (m * R + y1) * R, m * RL
        x, y, z = x[:, None], y[:, None], z[:, None]
        for channel in range(0, C, WIDTH):
            k = channel + tl.arange(0, WIDTH)[None, :]
            keep = inside[:, None] & (k < C)
            p00, p01 = _samples(planes, row0 + x0, k, keep, C), _samples(planes, row0 + x1, k, keep, C)
            p10, p11 = _samples(planes, row1 + x0, k, keep, C), _samples(planes, row1 + x1, k, keep, C)
            l0, l1 = _samples(lines, line + z0, k, keep, C), _samples(lines, line + z1, k, keep, C)
            g = tl.load(grad + (i[:, None] * 3 + m) * C + k, mask=keep, other=0.0)
            factor, lower, upper = g * (l0 + z * (l1 - l0)), p00 + x * (p01 - p00), p10 + x * (p11 - p10)
            along_x = tl.sum(factor * ((1 - y) * (p01 - p00) + y * (p11 - p10)), axis=1)[:, None] * (R - 1)
            along_y = tl.sum(factor * (upper - lower), axis=1)[:, None] * (R - 1)
            along_z = tl.sum(g * (lower + y * (upper - lower)) * (l1 - l0), axis=1)[:, None] * (RL - 1)
            total += tl.where(axis == first, along_x, 0.0) + tl.where(axis == second, along_y, 0.0)
            total += tl.where(axis == along, along_z, 0.0)
    tl.store(grad_u + i[:, None] * 3 + axis, total, mask=inside[:, None] & (axis < 3))
