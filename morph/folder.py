"""A morph as files: a folder with every frame as a field and as a mesh, a film, a sheet of pictures and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fieldcast.console import jsonable
from fieldcast.fields.files import Provenance, save
from fieldcast.fields.files.atomic import atomic_folder
from fieldcast.fields.files.images import save_png
from fieldcast.fields.files.video import save_mp4
from fieldcast.fields.progress import Progress, silent
from fieldcast.morph.pictures import film, lit, sheet
from fieldcast.morph.priors import Prior
from fieldcast.morph.sequence import Morph

FILM, SHEET, COLUMNS = 320, 160, 8  # pixels a side; pictures in a row
FPS = 12


def write_morph(
    made: Morph,
    prior: Prior,
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
        for i, (latent, mesh) in enumerate(zip(made.latents, meshes, strict=True)):
            save(prior.decode(latent, made.space), stump / "frames" / f"{i:03d}.safetensors", provenance=provenance)
            if len(mesh):
                save(mesh, stump / "frames" / f"{i:03d}.glb")
            progress(i + 1, len(meshes), "writing frames")
        scenes = [lit(mesh) for mesh in meshes]
        save_png(sheet(scenes, made.space, SHEET, COLUMNS), stump / "sheet.png")
        save_mp4(film(scenes, made.space, FILM, progress), stump / "morph.mp4", FPS)
        (stump / "report.json").write_text(json.dumps(jsonable(report), indent=2) + "\n", encoding="utf-8")
