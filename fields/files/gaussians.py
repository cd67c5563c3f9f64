"""What the readers of splat files share: the bytes of a file, and Splats from its numbers once they are in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fieldcast.errors import InputError
from fieldcast.fields.space import Space, Vector3
from fieldcast.fields.splats import Splats

Array = NDArray[Any]
DEGREES = {1: 0, 4: 1, 9: 2, 16: 3}  # of spherical harmonics, by how many there are
FLAT, SURE = -25.0, 30.0  # the least log scale, and the largest opacity logit: files may say log 0 and logit 1
LARGEST = {"mean": 1e9, "log scale": 25.0, "harmonic": 1e4}  # beyond, float32 arithmetic overflows
FIRST_HARMONIC = 0.28209479177387814  # the constant one: colour is 1/2 and this times its coefficient


def read_bytes(path: Path) -> bytes:
    """A whole file, or one line on why it cannot be read."""
    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not data:
        raise InputError(f"{path}: the file is empty")
    return data


def gaussians(
    path: Path,
    means: Array,
    log_scales: Array,
    quats: Array,
    opacities: Array,
    sh: Array,
    *,
    space: Space | None = None,
    background: Vector3 = (1.0, 1.0, 1.0),
) -> Splats:
    """Splats of arrays shaped as its parameters. Raises InputError for none at all and for NaN."""
    if not len(means):
        raise InputError(f"{path}: expected splats, found none")
    log_scales, opacities = np.maximum(log_scales, FLAT), np.clip(opacities, -SURE, SURE)  # NaN stays
    named = {"mean": means, "log scale": log_scales, "quaternion": quats, "opacity": opacities, "harmonic": sh}
    for name, values in named.items():
        limit = LARGEST.get(name, 1e9)
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(values.reshape(len(values), -1)) <= limit).all(1)
        if wrong.any():
            first = int(wrong.argmax())
            raise InputError(
                f"{path}: splat {first}: {name}: expected finite numbers up to {limit:g}, found "
                f"{values[first].ravel()[:4].tolist()}; {int(wrong.sum())} of {len(means)} splats are like that"
            )
    lengths = np.linalg.norm(quats, axis=1)
    if not (lengths > 1e-12).all():
        raise InputError(f"{path}: splat {int(lengths.argmin())}: quaternion: expected a length above 0, found 0")
    parts = [torch.from_numpy(np.array(part, np.float32)) for part in named.values()]
    m, s, q, o, c = parts
    return Splats(m, s, q, o, c, space=space, background=background)


def arrays(splats: Splats) -> tuple[Array, Array, Array, Array, Array]:
    """means, log_scales, unit quats, opacities and sh as float32 in main memory."""
    unit = torch.nn.functional.normalize(splats.quats, dim=-1)
    parts = splats.means, splats.log_scales, unit, splats.opacities, splats.sh
    m, s, q, o, c = (part.detach().cpu().float().numpy() for part in parts)
    return m, s, q, o, c


def sigmoid(logits: Array) -> Array:
    """Opacities of logits."""
    opacities: Array = 1 / (1 + np.exp(-logits.clip(-80, 80)))
    return opacities


def logit(opacities: Array) -> Array:
    """Logits of opacities that were stored in a byte: 0 and 1 stand for what is nearer to them than to the next."""
    inside = opacities.clip(0.25 / 255, 1 - 0.25 / 255)
    logits: Array = np.log(inside / (1 - inside))
    return logits


def to_bytes(values: Array) -> Array:
    """Numbers from 0 to 255, rounded; others become the nearest of these."""
    return np.rint(values).clip(0, 255).astype(np.uint8)
