"""Bilinear planes and linear lines: the factors of low-rank grids (TensoRF's VM and CP).

Letters: `u` points of the unit cube; `r` samples along an axis, the first at u = 0 and the last at u = 1; `c` channels,
stored last. Plane m spans the axes MATRIX_AXES[m]: its first index runs along the second axis of the pair and its
second index along the first one, as in TensoRF. Line m of a VM grid runs along the remaining axis, VECTOR_AXES[m].
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.fields.kernels.gather import gather_rows

Axes = tuple[int, int, int]
MATRIX_AXES = ((0, 1), (0, 2), (1, 2))
VECTOR_AXES: Axes = (2, 1, 0)


def plane_lookup(u: Float[Tensor, "n 3"], planes: Float[Tensor, "3 r r c"]) -> Float[Tensor, "n 3 c"]:
    """The values of the three planes at each point. Differentiable in `planes`, and in `u` where that asks for it."""
    return plane_lookup_reference(u, planes)


def line_lookup(
    u: Float[Tensor, "n 3"], lines: Float[Tensor, "3 r c"], axes: Axes = (0, 1, 2)
) -> Float[Tensor, "n 3 c"]:
    """The values of the three lines at each point; line m runs along axis `axes[m]`."""
    return line_lookup_reference(u, lines, axes)


def vm_lookup(
    u: Float[Tensor, "n 3"], planes: Float[Tensor, "3 r r c"], lines: Float[Tensor, "3 r c"]
) -> Float[Tensor, "n 3 c"]:
    """The products of plane m and line m at each point: the components of a vector-matrix (VM) decomposition."""
    return vm_lookup_reference(u, planes, lines)


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
    cell = position.detach().floor().clamp(0, max(r - 2, 0))
    low = cell.long()
    return low, (low + 1).clamp(max=r - 1), position - cell


def _lerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    return a + (b - a) * weight.to(a.dtype)
