"""The `.splat` of antimatter15's web viewer: 32 bytes a splat and nothing else.

Position and scale as six floats, then bytes: red, green, blue, opacity and the quaternion (w x y z, 128 + 128 q). There
are no harmonics beyond the colour, and colours and opacities are rounded to 1 / 255. The largest and most opaque come
first, so that viewers have something to show while they load.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldcast.errors import InputError
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.gaussians import FIRST_HARMONIC, arrays, gaussians, logit, read_bytes, sigmoid, to_bytes
from fieldcast.fields.splats import Splats

RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
THINNEST = 1e-9  # world units: files may say 0, which has no logarithm


def read_antimatter(path: Path) -> Splats:
    """The splats of a .splat file."""
    data = read_bytes(path)
    if len(data) % RECORD.itemsize:
        raise InputError(
            f"{path}: expected a multiple of {RECORD.itemsize} bytes, found {len(data)}: not a .splat file"
        )
    table = np.frombuffer(data, RECORD)
    with np.errstate(invalid="ignore"):
        negative = table["scale"] < 0
    if negative.any():
        raise InputError(f"{path}: splat {int(negative.any(1).argmax())}: scale: expected 0 or more, found less")
    rgba = table["rgba"].astype(np.float32) / 255
    sh = ((rgba[:, :3] - 0.5) / FIRST_HARMONIC)[:, None]
    quats = (table["quat"].astype(np.float32) - 128) / 128
    return gaussians(path, table["mean"], np.log(np.maximum(table["scale"], THINNEST)), quats, logit(rgba[:, 3]), sh)


def write_antimatter(splats: Splats, path: Path, force: bool = False) -> None:
    """Writes the whole file or nothing. Harmonics beyond the first are dropped."""
    means, log_scales, quats, opacities, sh = arrays(splats)
    table = np.zeros(len(means), RECORD)
    table["mean"], table["scale"] = means, np.exp(log_scales)
    table["rgba"][:, :3] = to_bytes((sh[:, 0] * FIRST_HARMONIC + 0.5) * 255)
    table["rgba"][:, 3] = to_bytes(sigmoid(opacities) * 255)
    table["quat"] = to_bytes(quats * 128 + 128)
    importance = log_scales.sum(1) + np.log(sigmoid(opacities) + 1e-12)
    with atomic_path(path, force) as stump:
        stump.write_bytes(table[np.argsort(-importance, kind="stable")].tobytes())
