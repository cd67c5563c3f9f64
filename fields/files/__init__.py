"""Scenes from files and into files: `open` and `save` choose the format by suffix and content."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import fieldcast
from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.atomic import check_writable
from fieldcast.fields.files.checkpoints import (
    CHECKPOINTS,
    checkpoint_file,
    holds_checkpoint,
    read_checkpoint,
    recognised,
)
from fieldcast.fields.files.checkpoints.fieldcast_run import check_run_writable, write_run
from fieldcast.fields.files.exports import EXPORTS, export_of
from fieldcast.fields.files.mesh import check_mesh_writable, is_textured, save_mesh
from fieldcast.fields.files.native import Provenance, Stored, inspect_native, open_native, save_native
from fieldcast.fields.files.splats import (
    SPLAT_FORMATS,
    checked_splat_suffix,
    describe_splats,
    holds_splats,
    read_splats,
    write_splats,
)
from fieldcast.fields.kinds import build, has_file
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.scenes import MESH_SUFFIXES
from fieldcast.fields.scenes.mesh import Surfaces, read_mesh
from fieldcast.fields.splats import Splats

SUFFIXES = (".safetensors",)
RUN = "nerfstudio"  # what any field is written as: a folder that nerfstudio opens as a run of our methods


def open(
    path: str | Path, device: torch.device | str = "cpu", *, allow_outside: bool = False
) -> Field | Splats | Surfaces:
    """The scene in a file: a field, splats, or a mesh, as its suffix says; of a .ply, its header; of a trainer's
    checkpoint, what is in it.

    allow_outside: let a mesh name images outside its own folder. Raises InputError, one line, if it is not whole or not
    one; never runs code from it.
    """
    path = Path(path)
    if holds_mesh(path):
        return read_mesh(path, allow_outside, device)
    if path.suffix.lower() in SPLAT_FORMATS:
        return read_splats(path).to(device)
    if holds_checkpoint(path):
        return read_checkpoint(path).to(device)
    return open_native(_known_suffix(path, *MESH_SUFFIXES), device)


def open_field(path: str | Path, device: torch.device | str = "cpu") -> Field:
    """The field in a file, for what splats and meshes cannot do."""
    path = Path(path)
    scene = read_checkpoint(path) if holds_checkpoint(path) else None
    splats = path.suffix.lower() in SPLAT_FORMATS or isinstance(scene, Splats)
    found = "a mesh" if holds_mesh(path) else "splats" if splats else None
    if found:
        raise InputError(
            f"{path}: expected a field, found {found}; first: fieldcast convert {path} OUT.safetensors --to hashgrid"
        )
    return scene.to(device) if isinstance(scene, Field) else open_native(_known_suffix(path), device)


def save(
    scene: Field | Splats | Mesh, path: str | Path, *, provenance: Provenance | None = None, force: bool = False
) -> None:
    """Writes a scene, whole or not at all. Refuses to replace a file without `force`.

    provenance: of fields; files of splats, of meshes and of other programs have no place for it.
    """
    path = Path(path)
    if isinstance(scene, Splats):
        write_splats(scene, path, force)
        return
    if isinstance(scene, Mesh):
        save_mesh(scene, path, force)
        return
    if not has_file(scene.spec):
        raise InputError(
            f"{path}: a {scene.spec.kind} field is made of others and has no file: convert it to a kind first"
        )
    export = export_of(path)
    if export:
        export.check(path, scene.spec)
        export.write(scene, path, force)
        return
    provenance = provenance or Provenance(version=fieldcast.__version__)
    save_native(scene, checked_suffix(path), provenance, force)


def describe(path: Path) -> dict[str, Any]:
    """What a file holds: kind, parameters, bytes, spec, provenance; of a field from its header alone.

    Of a checkpoint also the program that wrote it.
    """
    if path.suffix.lower() in SPLAT_FORMATS:
        return describe_splats(read_splats(path), path)
    program, scene = recognised(path) if holds_checkpoint(path) else (None, None)
    told = {"program": program} if program else {}
    if isinstance(scene, Splats):
        return told | describe_splats(scene, path)
    stored = inspect_native(_known_suffix(path)) if scene is None else Stored(scene.spec, Provenance(), {})
    with torch.device("meta"):
        field = build(stored.spec)
    views = stored.shapes.get("views.c2w", ([0], ""))[0][0]
    return told | {
        "kind": stored.spec.kind,
        "parameters": field.parameter_count(),
        "bytes": checkpoint_file(path).stat().st_size,
        "views": views,
        "spec": stored.spec.to_json(),
        "provenance": asdict(stored.provenance),
    }


def ancestry(path: Path) -> list[dict[str, Any]]:
    """The provenance of a field file and of all that it was made from, nearest first; others do not know theirs."""
    if path.suffix.lower() not in SUFFIXES:
        return []
    own = asdict(inspect_native(path).provenance)
    parents: list[dict[str, Any]] = own.pop("parents")
    return [own, *parents]


def holds_mesh(path: Path) -> bool:
    """Whether a file is a mesh, by its name; of a .ply, which may be splats, by its header."""
    return path.suffix.lower() in MESH_SUFFIXES and not holds_splats(path)


def check_out(path: Path, kind: str, force: bool = False) -> None:
    """Raises InputError unless a scene of a kind, `splats` or `mesh` can be written to a file of that name."""
    export = export_of(path)
    if kind == "mesh":
        check_mesh_writable(path, force)
    elif kind == RUN:
        check_run_writable(path, force)
    elif kind == "splats":
        check_writable(checked_splat_suffix(path), force)
    elif export and export.kind != kind:
        raise InputError(f"{path}: a file of {export.program} holds a {export.kind}: --to {export.kind}")
    else:
        check_writable(path if export else checked_suffix(path), force)


def checked_suffix(path: Path) -> Path:
    """The path itself, if a field can be in a file of that name."""
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join((*SUFFIXES, *EXPORTS))
        raise InputError(f"{path}: expected a name that ends in {known}, found {path.suffix or 'none'}")
    return path


def _known_suffix(path: Path, *more: str) -> Path:
    """The path itself, if a field can be in a file of that name; else what could be, with `more` suffixes."""
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join(dict.fromkeys((*SUFFIXES, *SPLAT_FORMATS, *CHECKPOINTS, *more)))
        raise InputError(f"{path}: expected a name that ends in {known}, found {path.suffix or 'none'}")
    return path


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal; of a run, that of its newest checkpoint."""
    digest = hashlib.sha256()
    with checkpoint_file(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


__all__ = [
    "CHECKPOINTS",
    "RUN",
    "Provenance",
    "ancestry",
    "check_out",
    "checked_suffix",
    "describe",
    "export_of",
    "holds_checkpoint",
    "holds_mesh",
    "holds_splats",
    "inspect_native",
    "is_textured",
    "open",
    "open_field",
    "save",
    "sha256",
    "write_run",
]
