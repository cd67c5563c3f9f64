"""The triangles of a mesh in a tree of boxes: the nearest of them to a point, and whether a point is inside.

The nearest may be asked for among those that face a given way: ones that face away from it count as `farther` away than
they are. So a point of a sleeve finds the arm, and not the hip that it hangs beside.

The tree is a complete binary one over the triangles in Morton order, LEAF in each leaf: node i has the children 2 i and
2 i + 1, and node 1 is all of the mesh. Everything is float64.

A point is inside where the winding number is not zero, counted along a ray: +1 for each face that the ray leaves
through, -1 for each that it enters by. Parts of a body that run into each other are so inside, where parity would have
them outside. Rays go along the three axes and the majority decides, so that a ray which slips through a small hole
changes nothing.

Letters: N points, F faces, L leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from fieldcast.fields.kernels.compiled import Array, helper, kernel
from fieldcast.fields.mesh import Mesh

LEAF = 4
BITS = 10  # of each coordinate in the Morton order
DEEP = 64  # places on the stack; a path to a leaf and its siblings take 2 log2(L)


@dataclass(frozen=True, eq=False)
class Nearest:
    """points: on the surface, and the weights of the corners of their faces. distance: metres, infinity where there is
    none within reach; face: -1 there.
    """

    points: Float64[np.ndarray, "n 3"]
    weights: Float64[np.ndarray, "n 3"]
    distance: Float64[np.ndarray, " n"]
    face: Int64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Triangles:
    """corners: of the faces in Morton order. order: the number of each in its mesh. boxes: low, high of each node."""

    corners: Float64[np.ndarray, "f 3 3"]
    order: Int64[np.ndarray, " f"]
    boxes: Float64[np.ndarray, "nodes 6"]

    @classmethod
    def of(cls, mesh: Mesh) -> Triangles:
        """A mesh without faces has nothing near and nothing inside."""
        corners = mesh.corners()
        order = _morton(corners.mean(1))
        return cls(np.ascontiguousarray(corners[order]), order, _boxes(corners[order]))

    def nearest(
        self,
        points: Float64[np.ndarray, "n 3"],
        within: float = math.inf,
        facing: Float64[np.ndarray, "n 3"] | None = None,
        farther: float = 0.0,
    ) -> Nearest:
        """The nearest points of the surface that are closer than `within`, metres.

        facing: the way that the faces should face, for each point. farther: metres that are added to the distance of
        those that face away from it, before they are compared.
        """
        count = len(points)
        square, face, weights = np.zeros(count), np.zeros(count, np.int64), np.full((count, 3), np.nan)
        toward = np.zeros((count, 3)) if facing is None else np.ascontiguousarray(facing)
        limit, points = within * within, np.ascontiguousarray(points)
        _nearest(count, points, toward, farther, self.corners, self.boxes, limit, square, face, weights)
        there = face >= 0
        found, number = np.full((count, 3), np.nan), np.full(count, -1)
        found[there] = (self.corners[face[there]] * weights[there, :, None]).sum(1)
        number[there] = self.order[face[there]]
        return Nearest(found, weights, np.where(there, np.sqrt(square), np.inf), number)

    def inside(self, points: Float64[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
        """Whether points are inside; those on the surface may be either."""
        votes = np.zeros(len(points), np.int64)
        for axis in range(3):
            winding = np.zeros(len(points), np.int64)
            _winding(len(points), np.ascontiguousarray(points), self.corners, self.boxes, axis, winding)
            votes += winding != 0
        decided: Bool[np.ndarray, " n"] = votes >= 2
        return decided


def nearest_reference(mesh: Mesh, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, " n"]:
    """`Triangles.nearest(...).distance`, by looking at every face with trimesh's own closest points."""
    from trimesh.triangles import closest_point

    corners = mesh.corners()
    away = [np.linalg.norm(closest_point(corners, np.broadcast_to(x, (len(corners), 3))) - x, axis=-1) for x in points]
    nearest: Float64[np.ndarray, " n"] = np.array([a.min() for a in away])
    return nearest


def inside_reference(mesh: Mesh, points: Float64[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """`Triangles.inside` of closed meshes, by the solid angles of all faces (van Oosterom and Strackee 1983, eq. 8)."""
    found = np.zeros(len(points), np.bool_)
    for i, x in enumerate(points):
        a, b, c = (mesh.corners() - x).transpose(1, 0, 2)
        la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
        over = (a * np.cross(b, c)).sum(-1)
        under = la * lb * lc + (a * b).sum(-1) * lc + (a * c).sum(-1) * lb + (b * c).sum(-1) * la
        found[i] = abs(2 * np.arctan2(over, under).sum()) > 2 * math.pi  # 4 pi times a winding number
    return found


def _morton(points: Float64[np.ndarray, "f 3"]) -> Int64[np.ndarray, " f"]:
    """The order of points along a Morton curve."""
    low = points.min(0, initial=np.inf)
    extent = max(float((points - low).max(initial=0.0)), 1e-30)
    cell = ((points - low) / extent * (2**BITS - 1)).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for bit in range(BITS):
        for axis in range(3):
            code |= (cell[:, axis] >> bit & 1) << (3 * bit + axis)
    order: Int64[np.ndarray, " f"] = np.argsort(code, kind="stable")
    return order


def _boxes(corners: Float64[np.ndarray, "f 3 3"]) -> Float64[np.ndarray, "nodes 6"]:
    """Of all nodes of the tree; those of leaves without a triangle are infinitely far from everything."""
    leaves = 1 << max(math.ceil(len(corners) / LEAF) - 1, 0).bit_length()
    padded = np.full((2, leaves * LEAF, 3), np.inf)
    padded[1] = -np.inf
    padded[0, : len(corners)], padded[1, : len(corners)] = corners.min(1), corners.max(1)
    low, high = padded[0].reshape(-1, LEAF, 3).min(1), padded[1].reshape(-1, LEAF, 3).max(1)
    boxes = np.zeros((2 * leaves, 6))
    while True:
        boxes[len(low) : 2 * len(low)] = np.concatenate([low, high], 1)
        if len(low) == 1:
            return boxes
        low, high = low.reshape(-1, 2, 3).min(1), high.reshape(-1, 2, 3).max(1)


@helper
def _to_box(box: Array, x: float, y: float, z: float) -> Any:
    """The squared distance of a point from a box; infinity for an empty one."""
    dx = max(max(box[0] - x, x - box[3]), 0.0)
    dy = max(max(box[1] - y, y - box[4]), 0.0)
    dz = max(max(box[2] - z, z - box[5]), 0.0)
    return dx * dx + dy * dy + dz * dz


@helper
def _to_segment(a: Array, b: Array, x: float, y: float, z: float) -> tuple[Any, Any]:
    """The squared distance of a point from a segment, and how far along it the nearest point is, 0 to 1."""
    bx, by, bz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    px, py, pz = x - a[0], y - a[1], z - a[2]
    length = bx * bx + by * by + bz * bz
    t = 0.0
    if length > 0.0:
        t = min(max((px * bx + py * by + pz * bz) / length, 0.0), 1.0)
    dx, dy, dz = px - t * bx, py - t * by, pz - t * bz
    return dx * dx + dy * dy + dz * dz, t


@helper
def _to_triangle(corner: Array, x: float, y: float, z: float) -> tuple[Any, Any, Any]:
    """The squared distance of a point from a triangle, and the weights of corners 1 and 2 at the nearest point.

    That is where the point falls upon the plane, if it falls inside, or else the nearest point of the three sides.
    """
    bx, by, bz = corner[1, 0] - corner[0, 0], corner[1, 1] - corner[0, 1], corner[1, 2] - corner[0, 2]
    cx, cy, cz = corner[2, 0] - corner[0, 0], corner[2, 1] - corner[0, 1], corner[2, 2] - corner[0, 2]
    px, py, pz = x - corner[0, 0], y - corner[0, 1], z - corner[0, 2]
    nx, ny, nz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
    square = nx * nx + ny * ny + nz * nz
    if square > 0.0:
        v = (nx * (py * cz - pz * cy) + ny * (pz * cx - px * cz) + nz * (px * cy - py * cx)) / square
        w = (nx * (by * pz - bz * py) + ny * (bz * px - bx * pz) + nz * (bx * py - by * px)) / square
        if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
            height = px * nx + py * ny + pz * nz
            return height * height / square, v, w
    best, t = _to_segment(corner[0], corner[1], x, y, z)
    v, w = t, 0.0
    away, t = _to_segment(corner[0], corner[2], x, y, z)
    if away < best:
        best, v, w = away, 0.0, t
    away, t = _to_segment(corner[1], corner[2], x, y, z)
    if away < best:
        best, v, w = away, 1.0 - t, t
    return best, v, w


@helper
def _against(corner: Array, way: Array) -> Any:
    """Whether a triangle faces away from a direction."""
    bx, by, bz = corner[1, 0] - corner[0, 0], corner[1, 1] - corner[0, 1], corner[1, 2] - corner[0, 2]
    cx, cy, cz = corner[2, 0] - corner[0, 0], corner[2, 1] - corner[0, 1], corner[2, 2] - corner[0, 2]
    return (by * cz - bz * cy) * way[0] + (bz * cx - bx * cz) * way[1] + (bx * cy - by * cx) * way[2] < 0.0


@kernel
def _nearest(
    first: int,
    last: int,
    points: Array,
    toward: Array,
    farther: float,
    corners: Array,
    boxes: Array,
    limit: float,
    square: Array,
    face: Array,
    weights: Array,
) -> None:
    """Down the nearer child first, and into no box that is farther than the nearest triangle so far."""
    stack, leaves = np.zeros(DEEP, np.int64), len(boxes) // 2
    for i in range(first, last):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        best, number, top = limit, -1, 1
        stack[0] = 1
        while top > 0:
            top -= 1
            node = stack[top]
            if not _to_box(boxes[node], x, y, z) < best:
                continue
            if node >= leaves:
                start = (node - leaves) * LEAF
                for f in range(start, min(start + LEAF, len(corners))):
                    away, v, w = _to_triangle(corners[f], x, y, z)
                    cost = away
                    if away < best and _against(corners[f], toward[i]):
                        cost = (math.sqrt(away) + farther) ** 2
                    if cost < best:
                        best, number, square[i] = cost, f, away
                        weights[i, 0], weights[i, 1], weights[i, 2] = 1.0 - v - w, v, w
                continue
            near = 2 * node
            if _to_box(boxes[near + 1], x, y, z) < _to_box(boxes[near], x, y, z):
                near += 1
            stack[top], stack[top + 1] = near ^ 1, near
            top += 2
        face[i] = number


@helper
def _left(ax: float, ay: float, bx: float, by: float, px: float, py: float) -> Any:
    """Whether p is to the left of the line from a to b.

    Lines go from the lesser of the two ends, by x and then by y, to the greater, and what is on one is to its right: as
    if p were moved by (d^2, -d) for a tiny d. The answer for b to a is the exact opposite of that for a to b. So a ray
    through a side or a corner meets one of the triangles around it, as any ray beside does.
    """
    swap = bx < ax or (bx == ax and by < ay)
    if swap:
        ax, ay, bx, by = bx, by, ax, ay
    return ((bx - ax) * (py - ay) - (by - ay) * (px - ax) > 0.0) != swap


@helper
def crossing(corner: Array, axis: int, py: float, pz: float) -> tuple[Any, Any]:
    """How a line along an axis passes a triangle: +1 outwards, -1 inwards, 0 beside it; and at which coordinate.

    py, pz: where the line is on the next axis and the one after.
    """
    y, z = (axis + 1) % 3, (axis + 2) % 3
    ay, az, by, bz, cy, cz = corner[0, y], corner[0, z], corner[1, y], corner[1, z], corner[2, y], corner[2, z]
    side = _left(ay, az, by, bz, py, pz)
    if _left(by, bz, cy, cz, py, pz) != side or _left(cy, cz, ay, az, py, pz) != side:
        return 0, 0.0
    area = (by - ay) * (cz - az) - (bz - az) * (cy - ay)
    if area == 0.0:
        return 0, 0.0
    v = ((py - ay) * (cz - az) - (pz - az) * (cy - ay)) / area
    w = ((by - ay) * (pz - az) - (bz - az) * (py - ay)) / area
    at = corner[0, axis] + v * (corner[1, axis] - corner[0, axis]) + w * (corner[2, axis] - corner[0, axis])
    return (1 if side else -1), at


@kernel
def _winding(first: int, last: int, points: Array, corners: Array, boxes: Array, axis: int, winding: Array) -> None:
    """The signs of all faces that rays from points cross on their way along an axis."""
    stack, leaves = np.zeros(DEEP, np.int64), len(boxes) // 2
    y, z = (axis + 1) % 3, (axis + 2) % 3
    for i in range(first, last):
        px, py, pz = points[i, axis], points[i, y], points[i, z]
        top, total = 1, 0
        stack[0] = 1
        while top > 0:
            top -= 1
            node = stack[top]
            box = boxes[node]
            if not (box[3 + axis] >= px and box[y] <= py <= box[3 + y] and box[z] <= pz <= box[3 + z]):
                continue
            if node >= leaves:
                start = (node - leaves) * LEAF
                for f in range(start, min(start + LEAF, len(corners))):
                    sign, at = crossing(corners[f], axis, py, pz)
                    if sign != 0 and at > px:
                        total += sign
                continue
            stack[top], stack[top + 1] = 2 * node, 2 * node + 1
            top += 2
        winding[i] = total
