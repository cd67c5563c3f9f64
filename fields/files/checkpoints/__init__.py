"""Checkpoints of trainers: what is in one says who reads it. Its name says only who takes it apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.arrays import Archive, open_archive
from fieldcast.fields.files.checkpoints.fieldcast_run import holds_run, read_run
from fieldcast.fields.files.checkpoints.gaussians import holds_gaussians, read_gaussian_checkpoint
from fieldcast.fields.files.checkpoints.instant_ngp import File, open_snapshot, read_snapshot
from fieldcast.fields.files.checkpoints.kplanes import holds_kplanes, read_kplanes
from fieldcast.fields.files.checkpoints.nerf_pytorch import holds_nerf, read_nerf
from fieldcast.fields.files.checkpoints.nerfacto import holds_nerfacto, read_nerfacto
from fieldcast.fields.files.checkpoints.nerfstudio import CONFIG, newest_checkpoint
from fieldcast.fields.files.checkpoints.pickles import read_pickle
from fieldcast.fields.files.checkpoints.plenoxels import holds_plenoxels, read_plenoxels
from fieldcast.fields.files.checkpoints.pvd import holds_pvd, read_pvd
from fieldcast.fields.files.checkpoints.tensorf import holds_tensorf, read_tensorf
from fieldcast.fields.files.checkpoints.torch_ngp import holds_torch_ngp, read_torch_ngp
from fieldcast.fields.files.checkpoints.vanilla_nerf import holds_vanilla_nerf, read_vanilla_nerf
from fieldcast.fields.splats import Splats

# What a file holds, none of which is run, by its suffix.
CHECKPOINTS: dict[str, Callable[[Path], Any]] = {
    ".ckpt": read_pickle,
    ".pt": read_pickle,
    ".pth": read_pickle,
    ".tar": read_pickle,
    ".th": read_pickle,
    ".npz": open_archive,
    ".ingp": open_snapshot,
    ".msgpack": open_snapshot,
}
READERS: dict[str, tuple[Callable[[Any], bool], Callable[[Path, Any], Field | Splats]]] = {
    "fieldcast in nerfstudio": (holds_run, read_run),
    "gsplat, splatfacto": (holds_gaussians, read_gaussian_checkpoint),
    "nerf-pytorch": (holds_nerf, read_nerf),
    "nerfacto, instant-ngp of nerfstudio": (holds_nerfacto, read_nerfacto),
    "Instant-NGP": (lambda found: isinstance(found, File), read_snapshot),
    "K-Planes": (holds_kplanes, read_kplanes),
    "Plenoxels": (holds_plenoxels, read_plenoxels),
    "TensoRF, tensorf of nerfstudio": (holds_tensorf, read_tensorf),
    "nerfstudio vanilla-nerf": (holds_vanilla_nerf, read_vanilla_nerf),
    "PVD": (holds_pvd, read_pvd),
    "torch-ngp": (holds_torch_ngp, read_torch_ngp),
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
    return recognised(path)[1]


def recognised(path: Path) -> tuple[str, Field | Splats]:
    """The program that wrote a checkpoint, and the scene in it; see `read_checkpoint`."""
    path = checkpoint_file(path)
    found = CHECKPOINTS.get(path.suffix.lower(), read_pickle)(path)
    for program, (holds, read) in READERS.items():
        if holds(found):
            return program, read(path, found)
    raise InputError(f"{path}: {_unknown(found)}; what is read: {', '.join(READERS)}")


def _unknown(found: Any) -> str:
    """What can be said of what nobody here reads."""
    named = found.members if isinstance(found, Archive) else found
    if not isinstance(named, dict):
        return f"expected a checkpoint, found {type(found).__name__:.40}"
    pipeline = named.get("pipeline")
    if isinstance(pipeline, dict):
        parts = dict.fromkeys(".".join(str(key).split(".")[1:3]) for key in pipeline if str(key).startswith("_model."))
        return f"a run of nerfstudio by a method that is not known: its model has {', '.join(parts) or 'no part':.120}"
    return (
        f"a checkpoint of no program that is known: it holds {', '.join(map(str, list(named)[:8])) or 'nothing':.120}"
    )
