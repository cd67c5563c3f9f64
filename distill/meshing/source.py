"""Textured mesh to field, without images: rays are traced at it from all around, and it says itself where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fieldcast.distill.fidelity import comparison_views
from fieldcast.distill.meshing.report import MeshReport, likeness, scattered
from fieldcast.distill.report import describe
from fieldcast.fields.field import Field
from fieldcast.fields.fit import fit, gentle_rates, spec_for
from fieldcast.fields.kinds import default_spec
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes import open_scene
from fieldcast.fields.scenes.mesh import read_surfaces
from fieldcast.fields.scenes.surfaces import Surface
from fieldcast.fields.space import Space

STEPS = 600
DENSE = 16  # points of the surface for each cell that it may cross


def field_of_mesh(
    path: Path,
    kind: str,
    sizes: dict[str, Any] | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
    allow_outside: bool = False,
) -> Field:
    """A field of a kind that shows a mesh as it is, without light; in the frame of the mesh.

    It is only taught near the surface: elsewhere it is empty, within as well as without.
    """
    default_spec(kind).resized(sizes or {})  # what is wrong with them is said before anything is looked at
    scene = open_scene(path, "train", progress=progress, allow_outside=allow_outside)
    spec = spec_for(scene, kind).resized(sizes or {})
    steps = steps or STEPS
    shell = cells_of(read_surfaces(path, allow_outside)[0], spec.space, spec.occupancy)
    return fit(
        scene, spec, steps=steps, seed=seed, device=device, within=shell, checkpoint=checkpoint,
        rates=lambda field: gentle_rates(field, steps), resume=resume, progress=progress,
    )  # fmt: skip


def cells_of(surfaces: list[Surface], space: Space, resolution: int) -> Occupancy:
    """The cells that surfaces lie in, and their neighbours."""
    points = torch.from_numpy(scattered(surfaces, DENSE * resolution**2 * 6)).float()
    index = (space.to_unit(points) * resolution).long().clamp(0, resolution - 1)
    cells = torch.zeros((resolution,) * 3)
    cells[index[:, 0], index[:, 1], index[:, 2]] = 1
    near = torch.nn.functional.max_pool3d(cells[None, None], 3, stride=1, padding=1)[0, 0]
    return Occupancy.of_cells(near > 0)


def report_on_field(
    surfaces: list[Surface],
    size: int,
    field: Field,
    *,
    views: int,
    seed: int,
    run: dict[str, Any],
    progress: Progress = silent,
) -> MeshReport:
    """Compares a field with the mesh that it was made of, a file of `size` bytes, from views that it did not learn."""
    lost, cameras = list[str](), comparison_views(field, views, seed)
    like = likeness(field, surfaces, cameras, mesh_first=True, progress=progress)
    faces = sum(len(s) for s in surfaces)
    numbers = 9 * faces + sum(s.texture.size for s in surfaces if s.texture is not None)
    teacher = {"kind": "mesh", "faces": faces, "parameters": numbers, "bytes": size}
    teacher["seconds_per_view"] = like.fidelity.seconds[0]
    resolution = getattr(field.spec.sizes, "resolution", None)
    if resolution:
        lost.append(f"detail finer than its cells, {2 * field.spec.space.unit / resolution:.3g} world units")
    return MeshReport(teacher, describe(field, like.fidelity.seconds[1]), like, None, None, lost, run)
