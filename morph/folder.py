"""A morph as files: a folder with every frame as a field and as a mesh, a film, a sheet of pictures and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fieldcast.console import jsonable
from fieldcast.fields.files import Provenance, save
from fieldcast.fields.files.atomic import atomic_folder
from fieldcast.fields.files.images import save_png
from fieldcast.fields.files.video import save_mp4
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.mesh import Surfaces
from fieldcast.fields.space import Space
from fieldcast.morph.pictures import FRONT, around, film, lit, picture, sheet
from fieldcast.morph.sequence import Morph
from fieldcast.morph.volumes import Volume

FILM, SHEET, COLUMNS = 320, 160, 8  # pixels a side; pictures in a row
FPS = 12


def write_morph(
    made: Morph,
    out: Path,
    report: dict[str, Any],
    provenance: Provenance,
    force: bool = False,
    progress: Progress = silent,
) -> None:
    """Writes the whole folder or nothing."""
    meshes = [volume.mesh() for volume in made.volumes]
    with atomic_folder(out, force) as stump:
        (stump / "frames").mkdir()
        for i, mesh in enumerate(meshes):
            save(made.field(i), stump / "frames" / f"{i:03d}.safetensors", provenance=provenance)
            if len(mesh):
                save(mesh, stump / "frames" / f"{i:03d}.glb")
            progress(i + 1, len(meshes), "writing frames")
        scenes = [lit(mesh) for mesh in meshes]
        save_png(sheet(scenes, made.space, SHEET, min(COLUMNS, len(scenes))), stump / "sheet.png")
        pairs = [(end.volume, scene) for end, scene in zip(made.ends, (scenes[0], scenes[-1]), strict=True)]
        beside = [torch.cat(_beside(given, scene, made.space), 1) for given, scene in pairs if given]
        if beside:
            save_png(torch.cat(beside), stump / "ends.png")
        save_mp4(film(scenes, made.space, FILM, progress), stump / "morph.mp4", FPS)
        (stump / "report.json").write_text(json.dumps(jsonable(report), indent=2) + "\n", encoding="utf-8")


def _beside(given: Volume, frame: Surfaces | None, space: Space) -> list[Tensor]:
    """Pictures of an object as it was given, and of the frame that stands for it, from the same side."""
    front = torch.tensor([FRONT])
    cameras = (around(given.space, front, 2 * SHEET), around(space, front, 2 * SHEET))
    return [picture(scene, camera) for scene, camera in zip((lit(given.mesh()), frame), cameras, strict=True)]
