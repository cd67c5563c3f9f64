"""Textured mesh to field, without images: rays are traced at it from all around, and it says itself where it is."""

from __future__ import annotations

from pathlib import Path

import torch

from fieldcast.distill.meshing.report import scattered
from fieldcast.fields.field import Field
from fieldcast.fields.fit import fit, gentle_rates
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.mesh import Surfaces, mesh_views
from fieldcast.fields.scenes.surfaces import Surface
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec

STEPS = 600
DENSE = 16  # points of the surface for each cell that it may cross


def field_of_mesh(
    mesh: Surfaces,
    spec: FieldSpec,
    *,
    steps: int = STEPS,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Field:
    """A field that shows a mesh as it is, without light; in the frame of the mesh.

    It is only taught near the surface: elsewhere it is empty, within as well as without.
    """
    scene = mesh_views(mesh, progress=progress)
    shell = cells_of(mesh.parts, spec.space, spec.occupancy)
    return fit(
        scene, spec, steps=steps, seed=seed, device=mesh.device, within=shell, checkpoint=checkpoint,
        rates=lambda field: gentle_rates(field, steps), resume=resume, progress=progress,
    )  # fmt: skip


def cells_of(surfaces: list[Surface], space: Space, resolution: int) -> Occupancy:
    """The cells that surfaces lie in, and their neighbours."""
    points = torch.from_numpy(scattered(surfaces, DENSE * resolution**2 * 6)).float()
    index = (space.to_unit(points) * resolution).long().clamp(0, resolution - 1)
    cells = torch.zeros((resolution,) * 3, dtype=torch.bool)
    cells[index[:, 0], index[:, 1], index[:, 2]] = True
    return Occupancy.of_cells(cells).grown()
