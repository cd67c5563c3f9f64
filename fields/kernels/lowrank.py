"""Bilinear planes and linear lines: the factors of low-rank grids (TensoRF's VM and CP).

Letters: `u` points of the unit cube; `r` samples along an axis, the first at u = 0 and the last at u = 1; `c` channels,
stored last. Plane m spans the axes MATRIX_AXES[m]: its first index runs along the second axis of the pair and its
second index along the first one, as in TensoRF. Line m of a VM grid runs along the remaining axis, VECTOR_AXES[m].
"""

from __future__ import annotations

from typing import Any

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
    summing,
    zeros_like,
)
from fieldcast.fields.kernels.gather import gather_rows
from fieldcast.fields.kernels.gpu import runs_triton

Axes = tuple[int, int, int]
MATRIX_AXES = ((0, 1), (0, 2), (1, 2))
VECTOR_AXES: Axes = (2, 1, 0)


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


def plane_lookup_reference(u: Float[Tensor, "n 3"], planes: Float[Tensor, "3 r r c"]) -> Float[Tensor, "n 3 c"]:
    """`plane_lookup` in plain torch: any device and precision."""
    r = planes.shape[1]
    low, high, upper = _neighbours(u, r)
    result = []
    for plane, (a, b) in zip(planes, MATRIX_AXES, strict=True):
        rows = plane.reshape(r * r, -1)
        ua, ub = upper[:, a, None], upper[:, b, None]
        first = _lerp(gather_rows(rows, low[:, b] * r + low[:, a]), gather_rows(rows, low[:, b] * r + high[:, a]), ua)
        second = _lerp(
            gather_rows(rows, high[:, b] * r + low[:, a]), gather_rows(rows, high[:, b] * r + high[:, a]), ua
        )
        result.append(_lerp(first, second, ub))
    return torch.stack(result, dim=1)


def line_lookup_reference(
    u: Float[Tensor, "n 3"], lines: Float[Tensor, "3 r c"], axes: Axes = (0, 1, 2)
) -> Float[Tensor, "n 3 c"]:
    """`line_lookup` in plain torch: any device and precision."""
    low, high, upper = _neighbours(u, lines.shape[1])
    result = [
        _lerp(gather_rows(line, low[:, a]), gather_rows(line, high[:, a]), upper[:, a, None])
        for line, a in zip(lines, axes, strict=True)
    ]
    return torch.stack(result, dim=1)


def vm_lookup_reference(
    u: Float[Tensor, "n 3"], planes: Float[Tensor, "3 r r c"], lines: Float[Tensor, "3 r c"]
) -> Float[Tensor, "n 3 c"]:
    """`vm_lookup` in plain torch: any device and precision."""
    return plane_lookup_reference(u, planes) * line_lookup_reference(u, lines, VECTOR_AXES)


def _neighbours(
    u: Float[Tensor, "n 3"], r: int
) -> tuple[Int64[Tensor, "n 3"], Int64[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """The samples below and above each coordinate, and how much the upper one weighs."""
    position = u * (r - 1)
    cell = position.detach().floor().nan_to_num().clamp(0, max(r - 2, 0))
    low = cell.long()
    return low, (low + 1).clamp(max=r - 1), position - cell


def _lerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    return a + (b - a) * weight.to(a.dtype)


def _product(u: Tensor, planes: Tensor, lines: Tensor, axes: Axes) -> Tensor:
    """Planes times lines, compiled. A factor that is 1 everywhere has one sample along an axis."""
    if u.is_cuda:
        from fieldcast.fields.kernels.gpu import lowrank as gpu

        return gpu.product(u, planes, lines, axes)
    result: Tensor = _Product.apply(u, planes, lines, np.array(axes))  # type: ignore[no-untyped-call]
    return result


class _Product(torch.autograd.Function):
    """The compiled version. Backward, each thread owns every so many strips of samples and adds to no others."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, planes: Tensor, lines: Tensor, axes: Array) -> Tensor:
        values = u.new_empty(len(u), 3, planes.shape[-1])
        # What the planes give is kept for the gradient of the lines: a third of its time.
        kept = torch.empty_like(values) if ctx.needs_input_grad[2] else values.new_empty(0, 3, 0)
        _forward(len(u), *arrays(u, planes, lines), axes, values.numpy(), kept.numpy())
        ctx.save_for_backward(u, planes, lines, kept)
        ctx.axes = axes
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, planes, lines, kept = ctx.saved_tensors
        if torch.is_grad_enabled():
            axes: Axes = tuple(ctx.axes.tolist())

            def plain(u: Tensor, planes: Tensor, lines: Tensor) -> Tensor:
                return plane_lookup_reference(u, planes) * line_lookup_reference(u, lines, axes)

            return *plain_backward(plain, (u, planes, lines), (grad,)), None
        grad_u = grad_planes = grad_lines = None
        threads = torch.get_num_threads()
        if ctx.needs_input_grad[0]:
            grad_u = torch.zeros(u.shape)
            _backward_u(len(u), *arrays(u, planes, lines), ctx.axes, *arrays(grad, grad_u))
        if ctx.needs_input_grad[1]:
            grad_planes = zeros_like(planes)
            _backward_planes(threads, *arrays(u, lines), ctx.axes, *arrays(grad, grad_planes), threads)
        if ctx.needs_input_grad[2]:
            grad_lines = zeros_like(lines)
            _backward_lines(threads, *arrays(u, kept), ctx.axes, *arrays(grad, grad_lines), threads)
        return grad_u, grad_planes, grad_lines, None


STRIP = 4  # neighbouring samples that have one owner
FIRST = np.array([a for a, _ in MATRIX_AXES])
SECOND = np.array([b for _, b in MATRIX_AXES])


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
    first: int, last: int, u: Array, planes: Array, lines: Array, axes: Array, values: Array, kept: Array
) -> None:
    """kept: [n, 3, c] what the planes give, or [0, 3, 0] where nobody wants to know."""
    c = values.shape[2]
    for i in range(first, last):
        for m in range(3):
            x0, x1, x = _locate(u[i, FIRST[m]], planes.shape[2])
            y0, y1, y = _locate(u[i, SECOND[m]], planes.shape[1])
            z0, z1, z = _locate(u[i, axes[m]], lines.shape[1])
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
    first: int, last: int, u: Array, lines: Array, axes: Array, grad: Array, grad_planes: Array, threads: int
) -> None:
    n, c = grad.shape[0], grad.shape[2]
    one = np.float32(1)
    for thread in range(first, last):
        for i in range(n):
            for m in range(3):
                y0, y1, y = _locate(u[i, SECOND[m]], grad_planes.shape[1])
                owns0, owns1 = (y0 // STRIP) % threads == thread, (y1 // STRIP) % threads == thread
                if not (owns0 or owns1):
                    continue
                x0, x1, x = _locate(u[i, FIRST[m]], grad_planes.shape[2])
                z0, z1, z = _locate(u[i, axes[m]], lines.shape[1])
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
    first: int, last: int, u: Array, kept: Array, axes: Array, grad: Array, grad_lines: Array, threads: int
) -> None:
    n, c = grad.shape[0], grad.shape[2]
    one = np.float32(1)
    for thread in range(first, last):
        for i in range(n):
            for m in range(3):
                z0, z1, z = _locate(u[i, axes[m]], grad_lines.shape[1])
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
    first: int, last: int, u: Array, planes: Array, lines: Array, axes: Array, grad: Array, grad_u: Array
) -> None:
    for i in range(first, last):
        for m in range(3):
            x0, x1, x = _locate(u[i, FIRST[m]], planes.shape[2])
            y0, y1, y = _locate(u[i, SECOND[m]], planes.shape[1])
            z0, z1, z = _locate(u[i, axes[m]], lines.shape[1])
            plane = planes[m]
            corners = (plane[y0, x0], plane[y0, x1], plane[y1, x0], plane[y1, x1])
            along_x, along_y, along_z = _slopes(corners, lines[m, z0], lines[m, z1], grad[i, m], x, y, z)
            grad_u[i, FIRST[m]] += along_x * np.float32(planes.shape[2] - 1)
            grad_u[i, SECOND[m]] += along_y * np.float32(planes.shape[1] - 1)
            grad_u[i, axes[m]] += along_z * np.float32(lines.shape[1] - 1)
