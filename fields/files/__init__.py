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
from fieldcast.fields.files.native import Provenance, inspect_native, open_native, save_native
from fieldcast.fields.files.splats import (
    SPLAT_FORMATS,
    checked_splat_suffix,
    describe_splats,
    holds_splats,
    read_splats,
    write_splats,
)
from fieldcast.fields.kinds import KINDS, build
from fieldcast.fields.splats import Splats

SUFFIXES = (".safetensors",)


def open(path: str | Path, device: torch.device | str = "cpu") -> Field | Splats:
    """The scene in a file: a field, or splats, as its suffix says.

    Raises InputError, one line, if it is not whole or not one; never runs code from it.
    """
    path = Path(path)
    if path.suffix.lower() in SPLAT_FORMATS:
        return read_splats(path).to(device)
    return open_native(_known_suffix(path), device)


def open_field(path: str | Path, device: torch.device | str = "cpu") -> Field:
    """The field in a file, for what splats cannot do."""
    path = Path(path)
    if path.suffix.lower() in SPLAT_FORMATS:
        raise InputError(
            f"{path}: expected a field, found splats; first: fieldcast convert {path} OUT.safetensors --to hashgrid"
        )
    return open_native(_known_suffix(path), device)


def save(scene: Field | Splats, path: str | Path, *, provenance: Provenance | None = None, force: bool = False) -> None:
    """Writes a scene, whole or not at all. Refuses to replace a file without `force`.

    provenance: of fields; files of splats have no place for it.
    """
    path = Path(path)
    if isinstance(scene, Splats):
        write_splats(scene, path, force)
        return
    if scene.spec.kind not in KINDS:
        raise InputError(
            f"{path}: a {scene.spec.kind} field is made of others and has no file: convert it to a kind first"
        )
    provenance = provenance or Provenance(version=fieldcast.__version__)
    save_native(scene, checked_suffix(path), provenance, force)


def describe(path: Path) -> dict[str, Any]:
    """What a file holds: kind, parameters, bytes, spec, provenance; of a field from its header alone."""
    if path.suffix.lower() in SPLAT_FORMATS:
        return describe_splats(path)
    stored = inspect_native(_known_suffix(path))
    with torch.device("meta"):
        field = build(stored.spec)
    views = stored.shapes.get("views.c2w", ([0], ""))[0][0]
    return {
        "kind": stored.spec.kind,
        "parameters": field.parameter_count(),
        "bytes": path.stat().st_size,
        "views": views,
        "spec": stored.spec.to_json(),
        "provenance": asdict(stored.provenance),
    }


def ancestry(path: Path) -> list[dict[str, Any]]:
    """The provenance of a field file and of all that it was made from, nearest first; splats do not know theirs."""
    if path.suffix.lower() in SPLAT_FORMATS:
        return []
    own = asdict(inspect_native(checked_suffix(path)).provenance)
    parents: list[dict[str, Any]] = own.pop("parents")
    return [own, *parents]


def checked_suffix(path: Path) -> Path:
    """The path itself, if a field can be in a file of that name."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}, found {path.suffix or 'none'}")
    return path


def _known_suffix(path: Path) -> Path:
    """The path itself, if a field can be in a file of that name; else what could be."""
    if path.suffix.lower() not in SUFFIXES:
        known = ", ".join((*SUFFIXES, *SPLAT_FORMATS))
        raise InputError(f"{path}: expected a name that ends in {known}, found {path.suffix or 'none'}")
    return path


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


__all__ = [
    "Provenance",
    "ancestry",
    "checked_splat_suffix",
    "checked_suffix",
    "describe",
    "holds_splats",
    "inspect_native",
    "open",
    "open_field",
    "save",
    "sha256",
]
