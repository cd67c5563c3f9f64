"""From opacity on a grid to a surface: the level that agrees with the teacher's depth, without what nobody sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fieldcast.distill.meshing.opacity import Grid
from fieldcast.distill.meshing.sight import CAP, Sight, mistakes
from fieldcast.errors import FieldcastError
from fieldcast.fields.mesh import Mesh, groups, neighbors
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.mesh import Caster

FIRST = 0.5  # optical depth of a cell at the level that is tried first
FACTORS = (2.0, 2.0**0.5)  # between the levels that are tried, first roughly, then finely
MOST = 10  # levels tried
RAYS = 100_000  # that judge a level
SHOWN = 3  # rays that must meet a piece of surface for it to be kept
AGREED = 0.5  # of them must end there in the teacher too


@dataclass(frozen=True)
class Level:
    """opacity: of a cell, at the surface. density: the same in 1 / world unit. error: the mean error of depth, at most
    CAP half box sides each, world units; tried: all levels and their errors.
    """

    opacity: float
    density: float
    error: float
    tried: tuple[tuple[float, float], ...]


def best_level(grid: Grid, sight: Sight, unit: float, progress: Progress = silent) -> Level:
    """The level whose surface lies where the teacher's depth says, found by walking downhill from FIRST.

    unit: half the longest side of the box.
    """
    peak, few = float(grid.values.max()), sight.thinned(RAYS)
    if peak <= 0 or not np.isfinite(sight.depth).any():
        raise FieldcastError("the field is empty: no ray ends in its box, where a surface would be")
    errors: dict[float, float] = {}

    def error(tau: float) -> float:
        if tau not in errors:
            errors[tau] = depth_error(grid, 1 - math.exp(-tau), few, CAP * unit)
            progress(min(len(errors), MOST), MOST, "choosing the level")
        return errors[tau]

    best = min(FIRST, -math.log1p(-peak * 0.5))
    for factor in FACTORS:
        while len(errors) < MOST:
            lower, higher = best / factor, best * factor
            candidates = [best, lower, *([higher] if 1 - math.exp(-higher) < peak else [])]
            before, best = best, min(candidates, key=error)
            if best == before:
                break
    tried = tuple((tau / grid.cell, value) for tau, value in sorted(errors.items()))
    return Level(1 - math.exp(-best), best / grid.cell, errors[best], tried)


def depth_error(grid: Grid, opacity: float, sight: Sight, cap: float) -> float:
    """The mean error of the depth of the surface at a level, world units, where it or the teacher has one."""
    t, _ = sight.hits(Caster([level_set(grid, opacity).surface()]))
    wrong, _ = mistakes(sight, t, cap)
    return float(wrong.mean()) if len(wrong) else math.inf


def level_set(grid: Grid, opacity: float) -> Mesh:
    """The surface between what is more and what is less opaque, closed at the border of the grid (marching cubes)."""
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(np.pad(grid.values, 1), opacity, gradient_direction="ascent")
    world = (vertices.astype(np.float64) - 1) * grid.cell + grid.origin
    return Mesh(world, faces.astype(np.int64))


def without_holes(grid: Grid, opacity: float) -> Grid:
    """The same, but opaque wherever light from outside does not get: cavities have no surface that anybody sees."""
    from scipy.ndimage import label

    clear, _ = label(np.pad(grid.values, 1) < opacity)
    outside = (clear == clear[0, 0, 0])[1:-1, 1:-1, 1:-1]
    inside = ~outside & (grid.values < opacity)
    return Grid(np.where(inside, np.float32(1), grid.values), grid.origin, grid.cell)


def shown_pieces(mesh: Mesh, sight: Sight, tolerance: float) -> Mesh:
    """The connected pieces that rays meet where they end in the teacher too, within `tolerance` world units.

    What no ray meets is hidden; what rays meet and the teacher lets them pass is haze.
    """
    piece = groups(len(mesh), neighbors(mesh.faces))
    count = int(piece.max(initial=-1)) + 1
    t, face = sight.hits(Caster([mesh.surface()]))
    met = face >= 0
    hits = np.bincount(piece[face[met]], minlength=count)
    agree = np.abs(t[met] - sight.depth[met]) < tolerance
    right = np.bincount(piece[face[met]], agree, minlength=count)
    kept = (hits >= SHOWN) & (right >= AGREED * hits)
    if not kept.any():
        raise FieldcastError("the field has no surface: rays end nowhere in it where a level of its density is")
    return mesh.subset(kept[piece])
