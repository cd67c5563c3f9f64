"""Checkpoints of splat trainers: gsplat's `.pt` and nerfstudio's splatfacto `.ckpt`. They are read, not written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.gaussians import DEGREES, gaussians
from fieldcast.fields.splats import Splats

NAMES = "means", "scales", "quats", "opacities"
# gsplat and splatfacto: where the parameters are, and what they call the first harmonic and the others.
GSPLAT, SPLATFACTO = ("sh0", "shN"), ("features_dc", "features_rest")
PREFIXES = "_model.gauss_params.", "_model."  # of splatfacto now, and before 1.1


def holds_gaussians(found: Any) -> bool:
    """Whether what a checkpoint holds looks like splats."""
    return _named(found) is not None


def read_gaussian_checkpoint(path: Path, found: Any) -> Splats:
    """The splats of a checkpoint that holds `found`, in the frame in which they were trained."""
    named = _named(found)
    if named is None:
        raise InputError(
            f"{path}: expected a checkpoint of gsplat (`splats`) or of nerfstudio's splatfacto (`pipeline`)"
        )
    tensors, (first, others) = named
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


def _named(found: Any) -> tuple[dict[str, Any], tuple[str, str]] | None:
    """The named parameters, and what this trainer calls its harmonics; None: they are not there."""
    if not isinstance(found, dict):
        return None
    if isinstance(found.get("splats"), dict):
        return found["splats"], GSPLAT
    pipeline = found.get("pipeline")
    if isinstance(pipeline, dict):
        for prefix in PREFIXES:
            named = {str(k).removeprefix(prefix): v for k, v in pipeline.items() if str(k).startswith(prefix)}
            if "means" in named:
                return named, SPLATFACTO
    return None
