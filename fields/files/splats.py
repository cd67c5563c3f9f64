"""Splats from files and into files: the formats, by suffix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fieldcast.errors import InputError
from fieldcast.fields.files.antimatter import read_antimatter, write_antimatter
from fieldcast.fields.files.gaussian_ply import LONGEST, read_gaussian_ply, write_gaussian_ply
from fieldcast.fields.files.spz import read_spz, write_spz
from fieldcast.fields.splats import Splats


@dataclass(frozen=True)
class SplatFormat:
    """read: a file to splats. write: splats, a path and whether to replace it, to a file."""

    read: Callable[[Path], Splats]
    write: Callable[[Splats, Path, bool], None]


SPLAT_FORMATS = {
    ".ply": SplatFormat(read_gaussian_ply, write_gaussian_ply),
    ".splat": SplatFormat(read_antimatter, write_antimatter),
    ".spz": SplatFormat(read_spz, write_spz),
}


def holds_splats(path: Path) -> bool:
    """Whether a file is one of splats, by its name; of a .ply, which may be a mesh, by what its header names."""
    if path.suffix.lower() != ".ply" or not path.is_file():
        return path.suffix.lower() in SPLAT_FORMATS
    with path.open("rb") as file:
        head = file.read(LONGEST)
    return b" f_dc_0" in head or b" packed_position" in head


def read_splats(path: Path) -> Splats:
    return SPLAT_FORMATS[path.suffix.lower()].read(path)


def write_splats(splats: Splats, path: Path, force: bool = False) -> None:
    SPLAT_FORMATS[checked_splat_suffix(path).suffix.lower()].write(splats, path, force)


def checked_splat_suffix(path: Path) -> Path:
    """The path itself, if splats can be written to a file of that name."""
    if path.suffix.lower() not in SPLAT_FORMATS:
        known = ", ".join(SPLAT_FORMATS)
        raise InputError(f"{path}: expected a name that ends in {known}, found {path.suffix or 'none'}")
    return path


def describe_splats(splats: Splats, path: Path) -> dict[str, Any]:
    """What a file of splats holds."""
    return {
        "kind": "splats",
        "splats": len(splats),
        "degree": splats.degree,
        "parameters": sum(p.numel() for p in splats.parameters()),
        "bytes": path.stat().st_size,
        "spec": {"space": asdict(splats.space), "background": splats.background},
    }
