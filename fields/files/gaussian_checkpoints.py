"""Checkpoints of splat trainers: gsplat's `.pt` and nerfstudio's splatfacto `.ckpt`. They are read, not written.

A checkpoint is a pickle. torch reads it with an unpickler that knows tensors, containers and a few numpy scalars, and
refuses everything else: opening one runs no code from it.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.gaussians import DEGREES, gaussians
from fieldcast.fields.splats import Splats

NAMES = "means", "scales", "quats", "opacities"
# gsplat and splatfacto: where the parameters are, and what they call the first harmonic and the others.
GSPLAT, SPLATFACTO = ("sh0", "shN"), ("features_dc", "features_rest")
PREFIXES = "_model.gauss_params.", "_model."  # of splatfacto now, and before 1.1


def read_gaussian_checkpoint(path: Path) -> Splats:
    """The splats of a checkpoint, in the frame in which they were trained."""
    found = _loaded(path)
    tensors, (first, others) = _parameters(path, found)
    missing = [name for name in (*NAMES, first, others) if not isinstance(tensors.get(name), Tensor)]
    if missing:
        raise InputError(f"{path}: not a checkpoint of splats: it has no {', '.join(missing)}")
    count = len(tensors["means"]) if tensors["means"].dim() else 0
    shaped = {name: tensors[name].detach().float().cpu() for name in (*NAMES, first, others)}
    rows = shaped[others].shape[1] if shaped[others].dim() == 3 else 0
    if 1 + rows not in DEGREES:
        raise InputError(f"{path}: {others}: expected 0, 3, 8 or 15 harmonics, found {rows}")
    shapes = {"means": (count, 3), "scales": (count, 3), "quats": (count, 4), others: (count, rows, 3)}
    sizes = {"opacities": count, first: count * 3}
    for name, value in shaped.items():
        wanted = shapes.get(name)
        if (wanted and tuple(value.shape) != wanted) or (not wanted and value.numel() != sizes[name]):
            raise InputError(f"{path}: {name}: expected {wanted or sizes[name]}, found {tuple(value.shape)}")
    means, scales, quats, opacities = (shaped[name].numpy() for name in NAMES)
    sh = torch.cat([shaped[first].reshape(count, 1, 3), shaped[others]], 1).numpy()
    return gaussians(path, means, scales, quats, opacities.reshape(count), sh)


def _loaded(path: Path) -> Any:
    """What a pickle of plain things holds."""
    if not path.is_file():
        raise InputError(f"{path}: " + ("expected a file, found a folder" if path.is_dir() else "no such file"))
    scalar = np.float64(0).__reduce__()[0]
    plain: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype(np.float64))]
    try:
        with torch.serialization.safe_globals(plain):
            # The unpickler of weights_only knows data alone; what else is in the file raises.
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        OSError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a whole checkpoint of plain tensors ({reason:.120})") from None


def _parameters(path: Path, found: Any) -> tuple[dict[str, Any], tuple[str, str]]:
    """The named parameters, and what this trainer calls its harmonics."""
    said = found if isinstance(found, dict) else {}
    if isinstance(said.get("splats"), dict):
        return said["splats"], GSPLAT
    pipeline = said.get("pipeline")
    if isinstance(pipeline, dict):
        for prefix in PREFIXES:
            named = {str(k).removeprefix(prefix): v for k, v in pipeline.items() if str(k).startswith(prefix)}
            if "means" in named:
                return named, SPLATFACTO
    raise InputError(f"{path}: expected a checkpoint of gsplat (`splats`) or of nerfstudio's splatfacto (`pipeline`)")
