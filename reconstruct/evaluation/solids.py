"""What a mesh encloses, as cells of a grid that is the same for all meshes: cell i spans i to i + 1 voxels of an axis.

A cell is filled where its middle is inside, as `triangles.py` says what that is: the winding number, by the majority of
rays along three axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from fieldcast.errors import InputError
from fieldcast.fields.kernels.compiled import Array, helper
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.triangles import crossing

VOXEL = 0.02  # metres
MOST = 2**27  # cells: a cube of 10 m


@dataclass(frozen=True, eq=False)
class Solid:
    """filled: of a box of cells. first: the cell of the grid at which the box begins."""

    filled: Bool[np.ndarray, "x y z"]
    first: Int64[np.ndarray, " 3"]

    @property
    def cells(self) -> int:
        return int(self.filled.sum())


def solid(mesh: Mesh, voxel: float = VOXEL) -> Solid:
    """The cells of `voxel` metres whose middles a mesh encloses."""
    if not len(mesh):
        return Solid(np.zeros((0, 0, 0), np.bool_), np.zeros(3, np.int64))
    corners = mesh.corners() / voxel
    low, high = np.floor(corners.min((0, 1))), np.ceil(corners.max((0, 1)))
    if not np.prod(high - low) <= MOST:
        size = " x ".join(f"{side * voxel:.3g}" for side in high - low)
        raise InputError(f"v_iou: expected people of a few metres, found a surface of {size} m")
    first, shape = low.astype(np.int64), (high - low).astype(np.int64)
    votes = np.zeros(tuple(shape), np.int8)
    for axis in range(3):
        turned = np.roll(shape, -axis)
        passed = np.zeros((turned[1], turned[2], turned[0] + 1), np.int32)
        _cross(corners, axis, np.roll(first, -axis).astype(np.float64), passed)
        winding = passed[..., ::-1].cumsum(-1)[..., ::-1][..., 1:]
        order = [(axis + 1) % 3, (axis + 2) % 3, axis]
        votes += np.transpose(winding != 0, np.argsort(order))
    return Solid(votes >= 2, first)


def iou(a: Solid, b: Solid) -> float | None:
    """The cells that both fill over those that either does; None where neither fills any."""
    both = shared(a, b)
    either = a.cells + b.cells - both
    return both / either if either else None


def shared(a: Solid, b: Solid) -> int:
    """How many cells both fill."""
    first = np.maximum(a.first, b.first)
    last = np.minimum(a.first + a.filled.shape, b.first + b.filled.shape)
    if (last <= first).any():
        return 0
    parts = [s.filled[tuple(slice(i, j) for i, j in zip(first - s.first, last - s.first, strict=True))] for s in (a, b)]
    return int((parts[0] & parts[1]).sum())


@helper
def _cross(corners: Array, axis: int, first: Array, passed: Array) -> None:
    """Adds the signs of crossings with lines along an axis through the middles of cells.

    passed[y, z, k]: of the line y, z of the next two axes, for crossings with k middles of cells before them.
    """
    rows, columns, count = passed.shape[0], passed.shape[1], passed.shape[2] - 1
    one, two = (axis + 1) % 3, (axis + 2) % 3
    for f in range(len(corners)):
        y, z = corners[f, :, one], corners[f, :, two]
        for j in range(max(int(np.ceil(y.min() - first[1] - 0.5)), 0), rows):
            py = first[1] + j + 0.5
            if py > y.max():
                break
            for k in range(max(int(np.ceil(z.min() - first[2] - 0.5)), 0), columns):
                pz = first[2] + k + 0.5
                if pz > z.max():
                    break
                sign, at = crossing(corners[f], axis, py, pz)
                if sign != 0:
                    before = int(np.ceil(at - first[0] - 0.5))
                    passed[j, k, min(max(before, 0), count)] += sign
