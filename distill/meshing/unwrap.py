"""Texture coordinates: the surface cut into charts, each seen along an axis, packed into a square.

A chart is a connected part of the surface whose faces look most along the same of the six axes, and is projected along
it: nothing is iterated, lengths shrink by a factor of about 2 at most, and 100,000 faces take seconds where conformal
charts took minutes. Letters: F faces, K charts, M texels; texel (x, y) has its centre at (x + 0.5, y + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from fieldcast.errors import InputError
from fieldcast.fields.mesh import Mesh, groups, neighbors, unit
from fieldcast.fields.progress import Progress, silent

AXES = np.concatenate([np.eye(3), -np.eye(3)])
STEEP = 0.45  # the least cosine between a face and the axis that it is seen along
PULL = 0.35  # how much each neighbour's axis counts: fewer and larger charts
SMOOTHING = 8  # rounds in which faces look at their neighbours' axes
MARGIN = 2  # texels around a chart: neighbours must not shine through where it is seen from afar
ROUNDS = 3  # of taking apart what covers itself
CHUNK = 1 << 19  # texels looked at together


@dataclass(frozen=True)
class Texels:
    """The texels whose centres lie in faces.

    place: [M], row by row in the square. face: [M]. weight: [M, 3] barycentric weights of the face's corners.
    """

    place: Int64[np.ndarray, " m"]
    face: Int64[np.ndarray, " m"]
    weight: Float32[np.ndarray, "m 3"]


def unwrap(mesh: Mesh, size: int, progress: Progress = silent) -> tuple[Float64[np.ndarray, "f 3 2"], Texels]:
    """Where each face's corners lie in a square of `size` texels, y downwards; and the texels that lie in faces.

    No texel lies in two faces, but for the few that ROUNDS leave.
    """
    links = neighbors(mesh.faces)
    axis = chosen_axes(mesh, links)
    flat = projected(mesh, axis)
    height = (mesh.corners().mean(1) * AXES[axis]).sum(-1)
    part = axis
    for done in range(ROUNDS):
        chart = groups(len(mesh), links[part[links[:, 0]] == part[links[:, 1]]])
        at = packed(flat, chart, size)
        texels, below = uppermost(rasterized(at, size), height)
        progress(done + 1, ROUNDS, "unwrapping")
        if not len(below):
            break
        part = part.copy()
        part[below] += len(AXES)
    progress(ROUNDS, ROUNDS, "unwrapping")
    return at, texels


def chosen_axes(mesh: Mesh, links: Int64[np.ndarray, "p 2"]) -> Int64[np.ndarray, " f"]:
    """The axis, of AXES, that each face is seen along: near its normal, and if it can be that of its neighbours."""
    cosine = unit(mesh.normals()) @ AXES.T
    axis = cosine.argmax(-1)
    allowed = (cosine > STEEP) | (np.arange(len(AXES)) == axis[:, None])
    for _ in range(SMOOTHING):
        votes = np.zeros_like(cosine)
        for to, of in (links.T, links.T[::-1]):
            votes += np.bincount(to * len(AXES) + axis[of], minlength=votes.size).reshape(votes.shape)
        axis = np.where(allowed, cosine + PULL * votes, -np.inf).argmax(-1)
    result: Int64[np.ndarray, " f"] = axis.astype(np.int64)
    return result


def projected(mesh: Mesh, axis: Int64[np.ndarray, " f"]) -> Float64[np.ndarray, "f 3 2"]:
    """The corners of the faces on the planes across their axes, world units."""
    planes = np.array([[1, 2], [2, 0], [0, 1]])[axis % 3]
    flat: Float64[np.ndarray, "f 3 2"] = np.take_along_axis(mesh.corners(), planes[:, None], 2)
    return flat


def packed(
    flat: Float64[np.ndarray, "f 3 2"], chart: Int64[np.ndarray, " f"], size: int
) -> Float64[np.ndarray, "f 3 2"]:
    """The corners in texels, with the charts side by side, at the largest scale at which they fit in the square."""
    low, high = _bounds(flat, chart)
    side = high - low
    lying = side[:, 0] < side[:, 1]
    side[lying] = side[lying, ::-1]  # the longer side along the shelf
    few, many = 0.0, size / max(float(np.sqrt((side[:, 0] * side[:, 1]).sum())), 1e-30)
    if _shelved(side * few, size) is None:
        raise InputError(f"texture={size}: too small for {len(side)} charts; give more texels or fewer faces")
    for _ in range(12):
        middle = (few + many) / 2
        few, many = (few, middle) if _shelved(side * middle, size) is None else (middle, many)
    corner = _shelved(side * few, size)
    assert corner is not None
    local = flat - low[chart][:, None]
    local[lying[chart]] = local[lying[chart]][..., ::-1]
    placed: Float64[np.ndarray, "f 3 2"] = local * few + corner[chart][:, None] + MARGIN
    return placed


def _bounds(
    flat: Float64[np.ndarray, "f 3 2"], chart: Int64[np.ndarray, " f"]
) -> tuple[Float64[np.ndarray, "k 2"], Float64[np.ndarray, "k 2"]]:
    """The box around each chart."""
    order = np.argsort(chart, kind="stable")
    first = np.searchsorted(chart[order], np.arange(int(chart.max()) + 1))
    return np.minimum.reduceat(flat.min(1)[order], first), np.maximum.reduceat(flat.max(1)[order], first)


def _shelved(side: Float64[np.ndarray, "k 2"], size: int) -> Float64[np.ndarray, "k 2"] | None:
    """The upper left corners of boxes of so many texels on shelves in the square, high ones first; None: no room."""
    whole = np.ceil(side).astype(int) + 2 * MARGIN
    order = np.lexsort([-whole[:, 0], -whole[:, 1]])
    x = y = shelf = 0
    corner = np.zeros(side.shape)
    for k, (width, height) in zip(order.tolist(), whole[order].tolist(), strict=True):
        if x + width > size:
            x, y, shelf = 0, y + shelf, 0
        if width > size or y + height > size:
            return None
        corner[k] = x, y
        x, shelf = x + width, max(shelf, height)
    return corner


def rasterized(at: Float64[np.ndarray, "f 3 2"], size: int) -> Texels:
    """The texels whose centres lie in faces, some of them in two."""
    low = np.ceil(at.min(1) - 0.5).astype(np.int64).clip(0, size - 1)
    high = np.floor(at.max(1) - 0.5).astype(np.int64).clip(0, size - 1)
    span = (high - low + 1).clip(0)
    total = np.concatenate([[0], (span[:, 0] * span[:, 1]).cumsum()])
    parts: list[Texels] = []
    first = 0
    while first < len(at):
        last = max(int(np.searchsorted(total, total[first] + CHUNK, side="right")) - 1, first + 1)
        face = np.repeat(np.arange(first, last), total[first + 1 : last + 1] - total[first:last])
        number = np.arange(total[first], total[last]) - total[face]
        x, y = low[face, 0] + number % span[face, 0], low[face, 1] + number // span[face, 0]
        weight = barycentric(at[face], np.stack([x, y], -1) + 0.5)
        inside = (weight >= 0).all(-1)
        parts.append(Texels((y * size + x)[inside], face[inside], weight[inside].astype(np.float32)))
        first = last
    return Texels(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("place", "face", "weight")))


def barycentric(
    corners: Float64[np.ndarray, "m 3 2"], points: Float64[np.ndarray, "m 2"]
) -> Float64[np.ndarray, "m 3"]:
    """The weights of three corners that make the points; NaN for triangles without an area."""
    a, b, c = corners.transpose(1, 0, 2)
    (ux, uy), (vx, vy), (wx, wy) = (b - a).T, (c - a).T, (points - a).T
    with np.errstate(divide="ignore", invalid="ignore"):
        area = 1 / (ux * vy - uy * vx)
        second, third = (wx * vy - wy * vx) * area, (ux * wy - uy * wx) * area
        return np.stack([1 - second - third, second, third], -1)


def uppermost(texels: Texels, height: Float64[np.ndarray, " f"]) -> tuple[Texels, Int64[np.ndarray, " b"]]:
    """Each texel once, for the highest of its faces; and the faces that lie below another one somewhere.

    A centre exactly on an edge lies in two faces, of which neither is below.
    """
    order = np.lexsort([-height[texels.face], texels.place])
    place, face, weight = texels.place[order], texels.face[order], texels.weight[order]
    repeated = np.concatenate([[False], place[1:] == place[:-1]])
    below = np.unique(face[repeated & (weight.min(-1) > 1e-4)])
    return Texels(place[~repeated], face[~repeated], weight[~repeated]), below
