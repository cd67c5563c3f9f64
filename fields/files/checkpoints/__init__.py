"""Checkpoints of trainers: what is in one says who reads it, whatever its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.fieldcast_run import holds_run, read_run
from fieldcast.fields.files.checkpoints.gaussians import holds_gaussians, read_gaussian_checkpoint
from fieldcast.fields.files.checkpoints.nerf_pytorch import holds_nerf, read_nerf
from fieldcast.fields.files.checkpoints.nerfstudio import CONFIG, newest_checkpoint
from fieldcast.fields.files.checkpoints.pickles import read_pickle
from fieldcast.fields.splats import Splats

CHECKPOINTS = (".ckpt", ".pt", ".pth", ".tar")
READERS: dict[str, tuple[Callable[[Any], bool], Callable[[Path, Any], Field | Splats]]] = {
    "fieldcast in nerfstudio": (holds_run, read_run),
    "gsplat, splatfacto": (holds_gaussians, read_gaussian_checkpoint),
    "nerf-pytorch": (holds_nerf, read_nerf),
}


def holds_checkpoint(path: Path) -> bool:
    """Whether a path is one of a trainer's: a checkpoint by its name, or a nerfstudio run or its `config.yml`."""
    return path.suffix.lower() in CHECKPOINTS or path.name == CONFIG or (path / CONFIG).is_file()


def checkpoint_file(path: Path) -> Path:
    """The path itself; of a nerfstudio run or its `config.yml`, that of its newest checkpoint."""
    return newest_checkpoint(path) if path.name == CONFIG or path.is_dir() else path


def read_checkpoint(path: Path) -> Field | Splats:
    """The scene in a checkpoint, or in the newest one of a run. Runs no code from it.

    Raises InputError, one line, for what nobody here knows.
    """
    path = checkpoint_file(path)
    found = read_pickle(path)
    for holds, read in READERS.values():
        if holds(found):
            return read(path, found)
    keys = ", ".join(str(k) for k in list(found)[:8]) if isinstance(found, dict) else type(found).__name__
    raise InputError(f"{path}: a checkpoint of none that is known ({'; '.join(READERS)}): it holds {keys:.120}")
