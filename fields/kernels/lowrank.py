"""Bilinear planes and linear lines: the factors of low-rank grids (TensoRF's VM and CP).

Letters: `u` points of the unit cube; `r` samples along an axis, the first at u = 0 and the last at u = 1; `c` channels,
stored last. Plane m spans the axes MATRIX_AXES[m]: its first index runs along the second axis of the pair and its
second index along the first one, as in TensoRF. Line m of a VM grid runs along the remaining axis, VECTOR_AXES[m].
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
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

Axes = tuple[int, int, int]
MATRIX_AXES = ((0, 1), (0, 2), (1, 2))
VECTOR_AXES: Axes = (2, 1, 0)
PLACES = np.array([(a, b, along) for (a, b), along in zip(MATRIX_AXES, VECTOR_AXES, strict=True)])


def plane_lookup(u: Float[Tensor, "n 3"], planes: Float[Tensor, "3 r r c"]) -> Float[Tensor, "n 3 c"]:
    """The values of the three planes at each point. Differentiable in `planes`, and in `u` where that asks for it."""
    if not (runs_compiled(u, planes) or runs_triton(u, planes)):
        return plane_lookup_reference(u, planes)
    return _product(u, planes, planes.new_ones(3, 1, planes.shape[-1]), VECTOR_AXES)


def line_lookup(
    u: Float[Tensor, "n 3"], lines: Float[Tensor, "3 r c"], axes: Axes = (0, 1, 2)
) -> Float[Tensor, "n 3 c"]:
    """The values of the three lines at each point; line m runs along axis `axes[m]`."""
    if not (runs_compiled(u, lines) or runs_triton(u, lines)):
        return line_lookup_reference(u, lines, axes)
    return _product(u, lines.new_ones(3, 1, 1, lines.shape[-1]), lines, axes)


def vm_lookup(
    u: Float[Tensor, "n 3"], planes: Float[Tensor, "3 r r c"], lines: Float[Tensor, "3 r c"]
) -> Float[Tensor, "n 3 c"]:
    """The products of plane m and line m at each point: the components of a vector-matrix (VM) decomposition."""
    if not (runs_compiled(u, planes, lines) or runs_triton(u, planes, lines)):
        return vm_lookup_reference(u, planes, lines)
    return _product(u, planes, lines, VECTOR_AXES)


def component_lookup(
    u: Float[Tensor, "n 3"], plane: Float[Tensor, "h w c"], line: Float[Tensor, "r c"], m: int
) -> Float[Tensor, "n c"]:
    """The products of plane m and line m alone, whose axes may have different numbers of samples.

    A factor that is 1 everywhere has one sample along its axes.
    """
    if not runs_compiled(u, plane, line):
        return component_lookup_reference(u, plane, line, m)
    result: Tensor = _Product.apply(u, plane[None], line[None], PLACES[m : m + 1])  # type: ignore[no-untyped-call]
    return result[:, 0]


def plane_lookup_reference(u: Float[Tensor, "n 3"], planes: Float[Tensor, "3 r r c"]) -> Float[Tensor, "n 3 c"]:
    """`plane_lookup` in plain torch: any device and precision."""
    return torch.stack([_bilinear(u[:, a], u[:, b], p) for p, (a, b) in zip(planes, MATRIX_AXES, strict=True)], 1)


def line_lookup_reference(
    u: Float[Tensor, "n 3"], lines: Float[Tensor, "3 r c"], axes: Axes = (0, 1, 2)
) -> Float[Tensor, "n 3 c"]:
    """`line_lookup` in plain torch: any device and precision."""
    return torch.stack([_linear(u[:, axis], line) for line, axis in zip(lines, axes, strict=True)], 1)


def vm_lookup_reference(
    u: Float[Tensor, "n 3"], planes: Float[Tensor, "3 r r c"], lines: Float[Tensor, "3 r c"]
) -> Float[Tensor, "n 3 c"]:
    """`vm_lookup` in plain torch: any device and precision."""
    return plane_lookup_reference(u, planes) * line_lookup_reference(u, lines, VECTOR_AXES)


def component_lookup_reference(
    u: Float[Tensor, "n 3"], plane: Float[Tensor, "h w c"], line: Float[Tensor, "r c"], m: int
) -> Float[Tensor, "n c"]:
    """`component_lookup` in plain torch: any device and precision."""
    a, b = MATRIX_AXES[m]
    return _bilinear(u[:, a], u[:, b], plane) * _linear(u[:, VECTOR_AXES[m]], line)


def _linear(u: Float[Tensor, " n"], line: Float[Tensor, "r c"]) -> Float[Tensor, "n c"]:
    """The values of a line at coordinates."""
    low, high, upper = _neighbours(u, len(line))
    return _lerp(gather_rows(line, low), gather_rows(line, high), upper)


def _bilinear(ua: Float[Tensor, " n"], ub: Float[Tensor, " n"], plane: Float[Tensor, "h w c"]) -> Float[Tensor, "n c"]:
    """The values of a plane at coordinates along its width and its height."""
    height, width, _ = plane.shape
    rows = plane.reshape(height * width, -1)
    (left, right, x), (low, high, y) = _neighbours(ua, width), _neighbours(ub, height)
    first = _lerp(gather_rows(rows, low * width + left), gather_rows(rows, low * width + right), x)
    second = _lerp(gather_rows(rows, high * width + left), gather_rows(rows, high * width + right), x)
    return _lerp(first, second, y)


def _neighbours(u: Float[Tensor, " n"], r: int) -> tuple[Tensor, Tensor, Float[Tensor, "n 1"]]:
    """The samples below and above each coordinate, and how much the upper one weighs."""
    position = u * (r - 1)
    cell = position.detach().floor().nan_to_num().clamp(0, max(r - 2, 0))
    low = cell.long()
    return low, (low + 1).clamp(max=r - 1), (position - cell)[:, None]


def _lerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    return a + (b - a) * weight.to(a.dtype)


def _product(u: Tensor, planes: Tensor, lines: Tensor, axes: Axes) -> Tensor:
    """Planes times lines, compiled. A factor that is 1 everywhere has one sample along an axis."""
    if u.is_cuda:
        from fieldcast.fields.kernels.gpu import lowrank as gpu

        return gpu.product(u, planes, lines, axes)
    places = np.array([(a, b, along) for (a, b), along in zip(MATRIX_AXES, axes, strict=True)])
    result: Tensor = _Product.apply(u, planes, lines, places)  # type: ignore[no-untyped-call]
    return result


def _product_reference(u: Tensor, planes: Tensor, lines: Tensor, places: Array) -> Tensor:
    """`_Product` in plain torch."""
    factors = zip(planes, lines, places.tolist(), strict=True)
    return torch.stack([_bilinear(u[:, a], u[:, b], p) * _linear(u[:, z], line) for p, line, (a, b, z) in factors], 1)


class _Product(torch.autograd.Function):
    """The compiled version, of as many planes and lines as `places` has rows: a plane's two axes, its line's axis.

    Backward, each thread owns every so many strips of samples and adds to no others.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, planes: Tensor, lines: Tensor, places: Array) -> Tensor:
        values = u.new_empty(len(u), len(places), planes.shape[-1])
        # What the planes give is kept for the gradient of the lines: a third of its time.
        kept = torch.empty_like(values) if ctx.needs_input_grad[2] else values.new_empty(0, len(places), 0)
        _forward(len(u), *arrays(u, planes, lines), places, values.numpy(), kept.numpy())
        ctx.save_for_backward(u, planes, lines, kept)
        ctx.places = places
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, planes, lines, kept = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(_product_reference, places=ctx.places)
            return *plain_backward(plain, (u, planes, lines), (grad,)), None
        grad_u = grad_planes = grad_lines = None
        threads = torch.get_num_threads()
        if ctx.needs_input_grad[0]:
            grad_u = torch.zeros(u.shape)
            _backward_u(len(u), *arrays(u, planes, lines), ctx.places, *arrays(grad, grad_u))
        if ctx.needs_input_grad[1]:
            grad_planes = zeros_like(planes)
            _backward_planes(threads, *arrays(u, lines), ctx.places, *arrays(grad, grad_planes), threads)
        if ctx.needs_input_grad[2]:
            grad_lines = zeros_like(lines)
            _backward_lines(threads, *arrays(u, kept), ctx.places, *arrays(grad, grad_lines), threads)
        return grad_u, grad_planes, grad_lines, None


STRIP = 4  # neighbouring samples that have one owner


@helper
def _locate(u: Any, r: int) -> tuple[Any, Any, Any]:
    """The samples below and above a coordinate, and the weight of the upper one."""
    position = u * np.float32(r - 1)
    cell, top = np.floor(position), np.float32(max(r - 2, 0))
    cell = cell if cell > np.float32(0) else np.float32(0)
    cell = cell if cell < top else top
    low = np.int64(cell)
    return low, (low + 1 if r > 1 else 0), position - cell


@kernel
def _forward(
    first: int, last: int, u: Array, planes: Array, lines: Array, places: Array, values: Array, kept: Array
) -> None:
    """kept: [n, m, c] what the planes give, or [0, m, 0] where nobody wants to know."""
    c = values.shape[2]
    for i in range(first, last):
        for m in range(len(places)):
            x0, x1, x = _locate(u[i, places[m, 0]], planes.shape[2])
            y0, y1, y = _locate(u[i, places[m, 1]], planes.shape[1])
            z0, z1, z = _locate(u[i, places[m, 2]], lines.shape[1])
            one = np.float32(1)
            w00, w01, w10, w11 = (one - y) * (one - x), (one - y) * x, y * (one - x), y * x
            p00, p01, p10, p11 = planes[m, y0, x0], planes[m, y0, x1], planes[m, y1, x0], planes[m, y1, x1]
            l0, l1 = lines[m, z0], lines[m, z1]
            if len(kept):
                for k in range(c):
                    plane = w00 * p00[k] + w01 * p01[k] + w10 * p10[k] + w11 * p11[k]
                    kept[i, m, k] = plane
                    values[i, m, k] = plane * ((one - z) * l0[k] + z * l1[k])
            else:
                for k in range(c):
                    plane = w00 * p00[k] + w01 * p01[k] + w10 * p10[k] + w11 * p11[k]
                    values[i, m, k] = plane * ((one - z) * l0[k] + z * l1[k])


@kernel
def _backward_planes(
    first: int, last: int, u: Array, lines: Array, places: Array, grad: Array, grad_planes: Array, threads: int
) -> None:
    n, c = grad.shape[0], grad.shape[2]
    one = np.float32(1)
    for thread in range(first, last):
        for i in range(n):
            for m in range(len(places)):
                y0, y1, y = _locate(u[i, places[m, 1]], grad_planes.shape[1])
                owns0, owns1 = (y0 // STRIP) % threads == thread, (y1 // STRIP) % threads == thread
                if not (owns0 or owns1):
                    continue
                x0, x1, x = _locate(u[i, places[m, 0]], grad_planes.shape[2])
                z0, z1, z = _locate(u[i, places[m, 2]], lines.shape[1])
                l0, l1 = lines[m, z0], lines[m, z1]
                if owns0:
                    left, right = grad_planes[m, y0, x0], grad_planes[m, y0, x1]
                    for k in range(c):
                        share = (one - y) * grad[i, m, k] * ((one - z) * l0[k] + z * l1[k])
                        left[k] += (one - x) * share
                        right[k] += x * share
                if owns1:
                    left, right = grad_planes[m, y1, x0], grad_planes[m, y1, x1]
                    for k in range(c):
                        share = y * grad[i, m, k] * ((one - z) * l0[k] + z * l1[k])
                        left[k] += (one - x) * share
                        right[k] += x * share


@kernel
def _backward_lines(
    first: int, last: int, u: Array, kept: Array, places: Array, grad: Array, grad_lines: Array, threads: int
) -> None:
    n, c = grad.shape[0], grad.shape[2]
    one = np.float32(1)
    for thread in range(first, last):
        for i in range(n):
            for m in range(len(places)):
                z0, z1, z = _locate(u[i, places[m, 2]], grad_lines.shape[1])
                low, high = grad_lines[m, z0], grad_lines[m, z1]
                if (z0 // STRIP) % threads == thread:
                    for k in range(c):
                        low[k] += (one - z) * (grad[i, m, k] * kept[i, m, k])
                if (z1 // STRIP) % threads == thread:
                    for k in range(c):
                        high[k] += z * (grad[i, m, k] * kept[i, m, k])


@summing
def _slopes(corners: tuple[Array, ...], line0: Array, line1: Array, grad: Array, x: Any, y: Any, z: Any) -> Any:
    """The derivatives of sum(grad * plane * line) by the places x, y within a cell and z between two samples."""
    p00, p01, p10, p11 = corners
    along_x, along_y, along_z = np.float32(0), np.float32(0), np.float32(0)
    for k in range(len(grad)):
        lower, upper = p00[k] + x * (p01[k] - p00[k]), p10[k] + x * (p11[k] - p10[k])
        factor = grad[k] * (line0[k] + z * (line1[k] - line0[k]))
        along_x += factor * ((p01[k] - p00[k]) + y * ((p11[k] - p10[k]) - (p01[k] - p00[k])))
        along_y += factor * (upper - lower)
        along_z += grad[k] * (lower + y * (upper - lower)) * (line1[k] - line0[k])
    return along_x, along_y, along_z


@kernel
def _backward_u(
    first: int, last: int, u: Array, planes: Array, lines: Array, places: Array, grad: Array, grad_u: Array
) -> None:
    for i in range(first, last):
        for m in range(len(places)):
            x0, x1, x = _locate(u[i, places[m, 0]], planes.shape[2])
            y0, y1, y = _locate(u[i, places[m, 1]], planes.shape[1])
            z0, z1, z = _locate(u[i, places[m, 2]], lines.shape[1])
            plane = planes[m]
            corners = (plane[y0, x0], plane[y0, x1], plane[y1, x0], plane[y1, x1])
            along_x, along_y, along_z = _slopes(corners, lines[m, z0], lines[m, z1], grad[i, m], x, y, z)
            grad_u[i, places[m, 0]] += along_x * np.float32(planes.shape[2] - 1)
            grad_u[i, places[m, 1]] += along_y * np.float32(planes.shape[1] - 1)
            grad_u[i, places[m, 2]] += along_z * np.float32(lines.shape[1] - 1)
