"""Files of TensoRF (`.th`), which its own `load` reads: a field of kind `tensorf` as its model and its alpha mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from fieldcast.fields.field import Field
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.checkpoints.tensorf import NAMES, as_theirs, samples_across
from fieldcast.fields.files.checkpoints.tensorf_mask import MASK, mask_of
from fieldcast.fields.kinds.tensorf import TensorfSizes
from fieldcast.fields.spec import FieldSpec

SIZES = {"lowest": "0", "spacing": "1"}  # its frequencies are powers of two
MODES = {"network": "MLP_Fea", "harmonics": "SH", "none": "RGB"}
FAR = 1e3  # half box sides: TensoRF looks from the camera on, and begins where a ray enters the box


class _PackedBits:
    """Bytes that unpickle as a numpy array, in every version of numpy, which keep theirs in different places."""

    def __init__(self, bits: np.ndarray) -> None:
        self.data = bits.tobytes()

    def __reduce__(self) -> tuple[Any, ...]:
        return np.frombuffer, (self.data, "uint8")


def refusal(spec: FieldSpec) -> str | None:
    """Why TensoRF cannot be that field; None if it can."""
    sizes: TensorfSizes = spec.sizes
    octaves = sizes.shading == "network" and max(sizes.feature_octaves, sizes.view_octaves)
    color = "sigmoid" if sizes.shading == "network" else "shifted_clamp"
    if spec.density.name == "exp" or (spec.density.name == "relu" and spec.density.shift):
        return (
            f"its density is {spec.density.name} of a shifted sum, and theirs softplus of one, or relu of a plain one"
        )
    if octaves and (sizes.lowest or (octaves > 1 and sizes.spacing != 1)):
        return "its frequencies are not 1, 2, 4 and so on; first convert it to another kind"
    if not spec.space.bounded:
        return "its world is contracted"
    return None if spec.color == color else f"its colours are {spec.color} of what its {sizes.shading} gives"


def write_tensorf(field: Field, path: Path, force: bool = False) -> None:
    """Writes a checkpoint, whole or not at all. What TensoRF does not keep, such as the background, is lost."""
    parameters = {NAMES[name]: as_theirs(name, value.detach().cpu()) for name, value in field.named_parameters()}
    found: dict[str, Any] = {"kwargs": settings_of(field.spec), "state_dict": parameters}
    if not field.occupancy.is_full():
        shape, bits = mask_of(field.occupancy)
        box = found["kwargs"]["aabb"].clone()
        found |= {f"{MASK}shape": shape, f"{MASK}mask": _PackedBits(bits), f"{MASK}aabb": box}
    with atomic_path(path, force) as stump:
        torch.save(found, stump)


def settings_of(spec: FieldSpec) -> dict[str, Any]:
    """What TensoRF makes a model of: the arguments of its classes."""
    sizes: TensorfSizes = spec.sizes
    counts = slice(3 if sizes.factors == "vm" else 1)
    return {
        "aabb": torch.tensor(spec.space.aabb).reshape(2, 3),
        "gridSize": list(sizes.resolution),
        "density_n_comp": list(sizes.density_channels)[counts],
        "appearance_n_comp": list(sizes.appearance_channels)[counts],
        "app_dim": sizes.features,
        "density_shift": spec.density.shift,
        "alphaMask_thres": 1e-4,
        "distance_scale": spec.density.scale / spec.space.unit,
        "rayMarch_weight_thres": 1e-4,
        "fea2denseAct": spec.density.name,
        "near_far": [0.0, FAR * spec.space.unit],
        "step_ratio": samples_across(spec.space, sizes.resolution) / spec.steps,
        "shadingMode": MODES[sizes.shading],
        "pos_pe": 0,
        "view_pe": sizes.view_octaves,
        "fea_pe": sizes.feature_octaves,
        "featureC": sizes.hidden,
    }
