"""Checkpoints of trainers: what is in one says who reads it, whatever its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.gaussian_checkpoints import holds_gaussians, read_gaussian_checkpoint
from fieldcast.fields.files.nerf_pytorch import holds_nerf, read_nerf
from fieldcast.fields.files.pickles import read_pickle
from fieldcast.fields.splats import Splats

CHECKPOINTS = (".ckpt", ".pt", ".pth", ".tar")
READERS: dict[str, tuple[Callable[[Any], bool], Callable[[Path, Any], Field | Splats]]] = {
    "gsplat, splatfacto": (holds_gaussians, read_gaussian_checkpoint),
    "nerf-pytorch": (holds_nerf, read_nerf),
}


def read_checkpoint(path: Path) -> Field | Splats:
    """The scene in a checkpoint. Raises InputError, one line, for what nobody here knows; runs no code from it."""
    found = read_pickle(path)
    for holds, read in READERS.values():
        if holds(found):
            return read(path, found)
    keys = ", ".join(str(k) for k in list(found)[:8]) if isinstance(found, dict) else type(found).__name__
    raise InputError(f"{path}: a checkpoint of none that is known ({'; '.join(READERS)}): it holds {keys:.120}")
