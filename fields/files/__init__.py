"""Fields from files and into files: `open` and `save` choose the format by suffix and content."""

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
from fieldcast.fields.kinds import KINDS, build

SUFFIXES = (".safetensors",)


def open(path: str | Path, device: torch.device | str = "cpu") -> Field:
    """The field in a file. Raises InputError, one line, if it is not whole or not one; never runs code from it."""
    return open_native(checked_suffix(Path(path)), device)


def save(field: Field, path: str | Path, *, provenance: Provenance | None = None, force: bool = False) -> None:
    """Writes a field, whole or not at all. Refuses to replace a file without `force`."""
    if field.spec.kind not in KINDS:
        raise InputError(
            f"{path}: a {field.spec.kind} field is made of others and has no file: convert it to a kind first"
        )
    provenance = provenance or Provenance(version=fieldcast.__version__)
    save_native(field, checked_suffix(Path(path)), provenance, force)


def describe(path: Path) -> dict[str, Any]:
    """What a field file holds, from its header alone: kind, parameters, bytes, spec, provenance."""
    stored = inspect_native(checked_suffix(path))
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
    """The provenance of a field file and of all that it was made from, nearest first."""
    own = asdict(inspect_native(checked_suffix(path)).provenance)
    parents: list[dict[str, Any]] = own.pop("parents")
    return [own, *parents]


def checked_suffix(path: Path) -> Path:
    """The path itself, if a field can be in a file of that name."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}, found {path.suffix or 'none'}")
    return path


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


__all__ = ["Provenance", "ancestry", "checked_suffix", "describe", "inspect_native", "open", "save", "sha256"]
