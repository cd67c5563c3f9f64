"""Objects from meshes and fields, on a grid."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from fieldcast.distill.meshing.opacity import opacity_grid
from fieldcast.distill.meshing.surface import FIRST, level_set, without_holes
from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.mesh import unit
from fieldcast.fields.scenes.mesh import Caster, Surfaces
from fieldcast.fields.scenes.surfaces import to_srgb
from fieldcast.fields.space import Space, Vector3
from fieldcast.morph.volumes import BAND, FILL, RESOLUTION, Volume, in_grid, world_from_grid

SKIN = 0.6  # cells that the faces of a mesh are thick to each side: sheets are solid, and gaps that narrow are closed
CHUNK = 1 << 16  # points in one query
SPACING = 0.3  # cells between the points that stand for a surface


def volume_of_mesh(mesh: Surfaces, resolution: int = RESOLUTION) -> Volume:
    """A mesh on a grid: what it encloses is filled, and its sheets get a skin.

    Few meshes that people make are watertight: inside is what cannot be reached from outside without coming nearer
    than SKIN to a surface.
    """
    caster = Caster(mesh.parts)
    cube = _cube(caster.center, caster.half, mesh.up)
    corners = _in_cells(np.concatenate([part.corners for part in mesh.parts]), cube, resolution)
    face, distance, c, p = nearest_faces(corners, resolution)
    sdf = np.full((resolution,) * 3, BAND, np.float32)
    away = np.full((resolution,) * 3, np.inf, np.float32)
    away[tuple(c.T)] = distance
    outside = _reached(away > SKIN)
    sdf[~outside & (away > SKIN)] = -BAND
    sdf[tuple(c.T)] = np.where(_beyond(outside, away, c, p), distance - SKIN, -distance - SKIN)
    weights = _weights(corners[face], p)
    rgba = caster.shade(face.astype(np.int32), weights[:, 1], weights[:, 2])
    rgb = spread_colors(c, to_srgb(rgba[:, :3]).clip(0, 1), resolution)
    return Volume(torch.from_numpy(sdf.clip(-BAND, BAND)), torch.from_numpy(rgb), cube)


@torch.no_grad()
def volume_of_field(field: Field, resolution: int = RESOLUTION) -> Volume:
    """What is solid in the box of a field, on a grid about it; what light from outside does not reach is filled.

    Colours are as seen from straight above the surface. Raises InputError when nothing in it is solid.
    """
    space, level = field.spec.space, 1 - math.exp(-FIRST)
    found = opacity_grid(field, resolution)
    solid = np.argwhere(found.values > level)
    if not len(solid):
        raise InputError("expected a field with something solid in it, found none")
    low, high = (solid.min(0) - 0.5) * found.cell + found.origin, (solid.max(0) + 0.5) * found.cell + found.origin
    cube = _cube((low + high) / 2, float((high - low).max()) / 2, space.up)
    grid = without_holes(opacity_grid(field, resolution, within=cube), level)
    turn = world_from_grid(space.up)
    corners = _in_cells(level_set(grid, level).corners(), cube, resolution)
    _, distance, c, p = nearest_faces(corners, resolution)
    inside = in_grid(torch.from_numpy(grid.values > level), turn)
    sdf = torch.where(inside, -BAND, BAND)
    away = torch.from_numpy(distance)
    sdf[tuple(c.T)] = torch.where(inside[tuple(c.T)], -away, away)
    inwards = torch.from_numpy(p - (c + 0.5)) * torch.where(inside[tuple(c.T)], -1, 1)[:, None]
    d = torch.nn.functional.normalize(inwards, dim=-1) @ turn.T.double()
    x = ((torch.from_numpy(p) * 2 / resolution - 1) @ turn.T.double() + d / resolution) * cube.unit
    x += torch.tensor(cube.center, dtype=torch.float64)
    rgb = [
        field(*part)[1].cpu() for part in zip(*(v.float().to(field.device).split(CHUNK) for v in (x, d)), strict=True)
    ]
    colors = torch.from_numpy(spread_colors(c, torch.cat(rgb).numpy(), resolution))
    return Volume(sdf.clamp(-BAND, BAND), colors, cube)


def _cube(center: Float64[np.ndarray, " 3"], half: float, up: Vector3) -> Space:
    """The cube in which what reaches `half` from its centre takes FILL of a side."""
    low, high = (center - half / FILL).tolist(), (center + half / FILL).tolist()
    return Space((low[0], low[1], low[2], high[0], high[1], high[2]), up=up)


def _in_cells(x: Float64[np.ndarray, "*n 3"], cube: Space, resolution: int) -> Float64[np.ndarray, "*n 3"]:
    """World points on the grid's axes, counted in cells."""
    turned = (x - np.asarray(cube.center)) @ world_from_grid(cube.up).double().numpy()
    cells: Float64[np.ndarray, "*n 3"] = (turned / cube.unit + 1) * (resolution / 2)
    return cells


def spread_colors(
    c: Int64[np.ndarray, "n 3"], colors: Float32[np.ndarray, "n 3"], resolution: int
) -> Float32[np.ndarray, "r r r 3"]:
    """The colours of some cells, and of each other cell that of the nearest of them."""
    from scipy.ndimage import distance_transform_edt

    unknown, rgb = np.ones((resolution,) * 3, bool), np.zeros((resolution,) * 3 + (3,), np.float32)
    unknown[tuple(c.T)], rgb[tuple(c.T)] = False, colors
    nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
    spread: Float32[np.ndarray, "r r r 3"] = rgb[tuple(nearest)]
    return spread


def nearest_faces(
    corners: Float64[np.ndarray, "f 3 3"], resolution: int
) -> tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, " n"], Int64[np.ndarray, "n 3"], Float64[np.ndarray, "n 3"]]:
    """Cells within BAND + SKIN of a surface: the nearest face of each, how far it is, the cell, its nearest point."""
    from scipy.ndimage import distance_transform_edt
    from scipy.spatial import cKDTree
    from trimesh.triangles import closest_point

    points, owner = _spread(corners)
    if not len(points):
        raise InputError("expected a mesh with a surface, found faces without area")
    empty, reach = np.ones((resolution,) * 3, bool), BAND + SKIN
    empty[tuple(points.astype(np.int64).clip(0, resolution - 1).T)] = False
    c = np.argwhere(distance_transform_edt(empty) < reach + 1)
    middle = c + 0.5
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    _, index = tree.query(middle, distance_upper_bound=reach + SPACING)
    c, middle, index = c[index < len(points)], middle[index < len(points)], index[index < len(points)]
    face = owner[index]
    nearest = closest_point(corners[face], middle)
    distance = np.linalg.norm(nearest - middle, axis=-1).astype(np.float32)
    kept = distance < reach
    return face[kept], distance[kept], c[kept], nearest[kept]


def _spread(corners: Float64[np.ndarray, "f 3 3"]) -> tuple[Float64[np.ndarray, "n 3"], Int64[np.ndarray, " n"]]:
    """Points at most about SPACING apart on every face, and the face of each: the same for the same mesh."""
    a, b, c = corners.transpose(1, 0, 2)
    longest = np.max([np.linalg.norm(s, axis=-1) for s in (b - a, c - b, a - c)], axis=0)
    rows = np.ceil(longest / SPACING).astype(np.int64).clip(1)
    rows[np.linalg.norm(np.cross(b - a, c - a), axis=-1) < 1e-6] = 0  # faces without area
    points, owner = [np.zeros((0, 3))], [np.zeros(0, np.int64)]
    for n in np.unique(rows[rows > 0]):
        faces = (rows == n).nonzero()[0]
        i, j = (k.ravel() for k in np.mgrid[: n + 1, : n + 1])
        w = np.stack([i, j, n - i - j], -1)[i + j <= n] / n
        points.append(np.einsum("nk,fkx->fnx", w, corners[faces]).reshape(-1, 3))
        owner.append(np.repeat(faces, len(w)))
    return np.concatenate(points), np.concatenate(owner)


def _reached(free: Bool[np.ndarray, "r r r"]) -> Bool[np.ndarray, "r r r"]:
    """The free cells that can be reached from beyond the grid, from face to face."""
    from scipy.ndimage import label

    parts, _ = label(np.pad(free, 1, constant_values=True))
    reached: Bool[np.ndarray, "r r r"] = (parts == parts[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return reached


def _beyond(
    outside: Bool[np.ndarray, "r r r"],
    away: Float32[np.ndarray, "r r r"],
    c: Int64[np.ndarray, "n 3"],
    nearest: Float64[np.ndarray, "n 3"],
) -> Bool[np.ndarray, " n"]:
    """Which cells near a surface are on its outer side: those from which going away from it leads outside."""
    middle = c + 0.5
    probe = np.floor(middle + unit(middle - nearest) * 1.5 * SKIN).astype(np.int64).clip(0, len(away) - 1)
    sealed = ~outside & (away > SKIN)
    here, there = sealed[tuple(c.T)], sealed[tuple(probe.T)]
    beyond: Bool[np.ndarray, " n"] = ~(here | (there & ~outside[tuple(c.T)]))
    return beyond


def _weights(corners: Float64[np.ndarray, "n 3 3"], p: Float64[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    """The barycentric weights of points on faces."""
    from trimesh.triangles import points_to_barycentric

    weights = points_to_barycentric(corners, p, method="cramer")
    clipped: Float32[np.ndarray, "n 3"] = np.nan_to_num(weights, nan=1 / 3).clip(0, 1).astype(np.float32)
    return clipped
