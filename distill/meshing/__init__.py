"""Field to textured mesh: the surface where the teacher's depth is, its colours as they are seen from outside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from msgspec import Meta

from fieldcast.distill.meshing.decimation import simplified
from fieldcast.distill.meshing.opacity import opacity_grid
from fieldcast.distill.meshing.paint import Paint, painted, seen, seen_sides, vertex_colors
from fieldcast.distill.meshing.sight import look_around
from fieldcast.distill.meshing.surface import Level, best_level, level_set, shown_pieces, without_holes
from fieldcast.distill.meshing.unwrap import unwrap
from fieldcast.distill.viewpoints import Viewpoints
from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.spec import read

VIEWS = 16  # from which depth is compared and pieces must be seen
PIXELS = 200  # a side of theirs
EYES = 32  # from which colours are looked at
TOLERANCE = 2.0  # cells by which a surface may lie off the teacher's depth and still be the one that it shows


@dataclass(frozen=True)
class MeshSizes:
    """resolution: cells along the longest side of the box. faces: at most about so many. texture: texels a side."""

    resolution: Annotated[int, Meta(ge=8, le=512)] = 256
    faces: Annotated[int, Meta(ge=100, le=10_000_000)] = 100_000
    texture: Annotated[int, Meta(ge=64, le=8192)] = 2048


def mesh_sizes(sizes: dict[str, Any]) -> MeshSizes:
    """The default sizes with some changed; values may be text, as typed on a command line."""
    known = msgspec.to_builtins(MeshSizes())
    for name in sizes:
        if name not in known:
            raise InputError(f"mesh has no size {name!r}; its sizes are {', '.join(known)}")
    return read(MeshSizes, {**known, **sizes}, "sizes of mesh", lax=True)


def mesh_of(
    field: Field,
    sizes: MeshSizes | None = None,
    *,
    textured: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[Mesh, Level]:
    """A mesh of what a field shows in its box, in its world frame, and the level of density that the surface is at.

    It has colours at its vertices and, if `textured`, a texture. Raises FieldcastError when the field is empty.
    """
    sizes = sizes or MeshSizes()
    viewpoints, generator = Viewpoints(field, (PIXELS, PIXELS)), torch.Generator().manual_seed(seed)
    grid = opacity_grid(field, sizes.resolution, progress)
    sight = look_around(field, viewpoints.draw(VIEWS, generator), progress)
    level = best_level(grid, sight, field.spec.space.unit, progress)
    tolerance = TOLERANCE * grid.cell
    mesh = level_set(without_holes(grid, level.opacity), level.opacity)
    mesh = simplified(shown_pieces(mesh, sight, tolerance), sizes.faces)
    mesh = shown_pieces(mesh, sight, tolerance)  # without the crumbs that have come off
    centers = viewpoints.draw(EYES, generator).centers.double().numpy()
    sides = seen_sides(mesh, centers, grid.cell / 2, progress)
    paint = seen(field, sides, grid.cell)
    mesh = replace(mesh, up=field.space.up, colors=vertex_colors(mesh, paint, progress))
    if not textured:
        return mesh, level
    return with_texture(mesh, paint, sizes.texture, progress), level


def with_texture(mesh: Mesh, paint: Paint, size: int, progress: Progress = silent) -> Mesh:
    """A mesh with a texture of `size` texels a side, in place of the one that it may have."""
    at, texels = unwrap(mesh, size, progress)
    texture = painted(mesh, texels, size, paint, progress)
    return replace(mesh, uv=(at / size).astype(np.float32), texture=texture)


__all__ = ["Level", "MeshSizes", "mesh_of", "mesh_sizes", "with_texture"]
