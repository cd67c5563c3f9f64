"""Checkpoints of PVD, the program of the distillation paper (`.pth`): `mlp`, `vm`, `tensors`, and its `hash`.

Letters: b the bound, s the density logit. PVD clamps s to [-2, 7], or to what the args.txt of the run says, and
distilled `vm` models their 15 appearance features too: teachers, which are trained by another of its programs, do not.
Which one wrote a checkpoint is in the name that it was saved under: `hash2vm_ep0010` is the student of a `hash`. Frame,
box and cells are as in torch-ngp, which it is built on.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.encodings.grids import VmEncoding
from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.named import Shape, checked_tensors, tensors_of
from fieldcast.fields.files.checkpoints.torch_ngp import (
    BOXES,
    COLOR,
    IGNORED,
    OFFSETS,
    SIGMA,
    Setting,
    fill_networks,
    model_of,
    network_shapes,
    read_torch_ngp,
    setting_of,
    settled,
    spec_in,
)
from fieldcast.fields.kernels.voxels import BLOCK
from fieldcast.fields.kinds import build
from fieldcast.fields.kinds.mlp import MlpField, MlpSizes
from fieldcast.fields.kinds.vm import VmField, VmSizes
from fieldcast.fields.kinds.voxels import VoxelsField, VoxelsSizes

CLIP = (-2.0, 7.0)
LEVELS = 14  # of every hash grid of PVD; torch-ngp has 16
VOLUME, BASIS = "tensor_volume.0", "basis_mat.weight"
FACTORS = ("sigma_mat", "sigma_vec", "color_mat", "color_vec")
TRUNK = r"nerf_mlp\.([0-9]{1,2})\.weight"
ARGS = "args.txt"
State = dict[str, Tensor]


def holds_pvd(found: Any) -> bool:
    """Whether what a checkpoint holds looks like a model of PVD."""
    model = model_of(found)
    offsets = model.get(OFFSETS)
    is_hash = isinstance(offsets, Tensor) and offsets.numel() == LEVELS + 1 and SIGMA[0] in model
    return is_hash or any(name in model for name in ("nerf_mlp.0.weight", "sigma_mat.0", VOLUME))


def read_pvd(path: Path, found: Any) -> Field:
    """The field in a checkpoint that holds `found`. Raises InputError for what it is not."""
    state, clip = tensors_of(path, model_of(found), "model"), clip_of(path)
    if VOLUME in state:
        return _tensors(path, state, clip)
    if f"{FACTORS[0]}.0" in state:
        return _vm(path, state, clip, is_student(path, found))
    if "nerf_mlp.0.weight" in state:
        return _mlp(path, state, clip)
    field = read_torch_ngp(path, found)
    field.spec = replace(field.spec, density=replace(field.spec.density, clip=clip))
    return field


def clip_of(path: Path) -> tuple[float, float]:
    """What density logits are clamped to: as the run's args.txt says, in the folder of a checkpoint or above it."""
    for folder in (path.parent, path.parent.parent):
        file = folder / ARGS
        if file.is_file() and file.stat().st_size < 1 << 18:
            text = file.read_text(encoding="utf-8", errors="replace")
            ends = [re.search(rf"\('sigma_clip_{end}', (-?[0-9.]{{1,20}})\)", text) for end in ("min", "max")]
            try:
                low, high = (float(m[1]) if m else d for m, d in zip(ends, CLIP, strict=True))
            except ValueError:
                low, high = 0.0, 0.0
            if low >= high:
                raise InputError(f"{file}: sigma_clip_min and sigma_clip_max: expected two numbers that rise")
            return low, high
    return CLIP


def is_student(path: Path, found: Any) -> bool:
    """Whether the program that distils wrote it, whose names are `hash2vm` where those of teachers are `vm`."""
    stats = found.get("stats")
    saved = stats.get("checkpoints") if isinstance(stats, dict) else None
    name = saved[-1] if isinstance(saved, list) and saved and isinstance(saved[-1], str) else path.name
    return re.match(r"(hash|mlp|vm|tensors)2vm", Path(name).name) is not None


def _checked(path: Path, state: State, wanted: dict[str, Shape], kind: str) -> State:
    return checked_tensors(path, state, wanted | BOXES, f"{kind} model of PVD", IGNORED)


def _mlp(path: Path, state: State, clip: tuple[float, float]) -> Field:
    numbers = sorted(int(m[1]) for name in state if (m := re.fullmatch(TRUNK, name)))
    names = [f"nerf_mlp.{n}" for n in range(numbers[-1] + 1)]
    wanted: dict[str, Shape] = {f"{name}.weight": (None, None) for name in names}
    wanted |= {f"{name}.bias": (None,) for name in names} | dict.fromkeys((*SIGMA, *COLOR), (None, None))
    tensors = _checked(path, state, wanted, "mlp")
    setting = setting_of(path, state, tensors)
    if setting.half is None:
        raise InputError(f"{path}: aabb_train: expected a cube around the origin")
    sizes = _mlp_sizes(path, tensors, names, setting.half)
    shapes = network_shapes(tensors, sizes.code)
    spec = spec_in(path, setting, "mlp", sizes, clip)
    with torch.device("meta"):  # before a layer that is small in the file fills the memory
        for name, layer in zip(names, build(spec).get_submodule("trunk").children(), strict=True):
            assert isinstance(layer, nn.Linear)
            shapes |= {f"{name}.weight": tuple(layer.weight.shape), f"{name}.bias": tuple(layer.bias.shape)}
    checked_tensors(path, {name: tensors[name] for name in shapes}, shapes, "mlp model of PVD")
    field = build(spec)
    assert isinstance(field, MlpField)
    with torch.no_grad():
        for place, (name, layer) in enumerate(zip(names, field.trunk, strict=True)):
            assert isinstance(layer, nn.Linear)
            layer.weight.copy_(tensors[f"{name}.weight"])
            layer.bias.copy_(tensors[f"{name}.bias"])
            if place in (0, sizes.skip):
                layer.weight[:, :3] *= setting.half  # the numbers themselves come first
    fill_networks(field, tensors)
    return settled(field, setting)  # type: ignore[no-any-return]


def _mlp_sizes(path: Path, tensors: State, names: list[str], half: float) -> MlpSizes:
    """Sizes, from the shapes of the matrices."""
    width, encoded = tensors[f"{names[0]}.weight"].shape
    octaves, rest = divmod(encoded - 3, 6)
    skips = [i for i, n in enumerate(names) if i > 0 and tensors[f"{n}.weight"].shape[1] == width + encoded]
    code, hidden = len(tensors[f"{names[-1]}.weight"]), max(len(tensors[SIGMA[0]]), len(tensors[COLOR[0]]))
    if rest or octaves < 0 or len(skips) > 1:
        raise InputError(f"{path}: {names[0]}: expected 3 + 6 L encoded numbers and at most one skip, found {encoded}")
    return MlpSizes(len(names), width, skips[0] if skips else 0, octaves, code, hidden, math.log2(half))


def _vm(path: Path, state: State, clip: tuple[float, float], student: bool) -> Field:
    square: Shape = (1, None, None, None)
    wanted: dict[str, Shape] = {f"{name}.{axis}": square for name in FACTORS for axis in range(3)}
    tensors = _checked(path, state, wanted | {BASIS: (15, None)} | dict.fromkeys(COLOR, (None, None)), "vm")
    setting = setting_of(path, state, tensors)
    density, color = tensors["sigma_mat.0"], tensors["color_mat.0"]
    resolution, channels = density.shape[2], (density.shape[1], color.shape[1])
    if not 2 <= resolution <= 8192 or not all(1 <= c <= 1024 for c in channels) or len(tensors[COLOR[0]]) > 1024:
        raise InputError(f"{path}: sigma_mat.0: expected planes of 2 to 8192 cells, found {list(density.shape)}")
    shapes = network_shapes(tensors, None) | {BASIS: (15, 3 * channels[1])}
    for name, count in zip(FACTORS, (channels[0], channels[0], channels[1], channels[1]), strict=True):
        shape: Shape = (1, count, resolution, resolution if name.endswith("mat") else 1)
        shapes |= {f"{name}.{axis}": shape for axis in range(3)}
    checked_tensors(path, {name: tensors[name] for name in shapes}, shapes, "vm model of PVD of equal sides")
    sizes = VmSizes(resolution, *channels, len(tensors[COLOR[0]]), "clamped" if student else "free")
    field = build(spec_in(path, setting, "vm", sizes, clip))
    assert isinstance(field, VmField)
    with torch.no_grad():
        _fill_vm(field.density_vm, tensors, "sigma")
        _fill_vm(field.appearance_vm, tensors, "color")
        field.basis.weight.copy_(tensors[BASIS])
    fill_networks(field, tensors)
    return settled(field, setting)  # type: ignore[no-any-return]


def _fill_vm(encoding: VmEncoding, tensors: State, name: str) -> None:
    for axis in range(3):
        encoding.planes[axis] = tensors[f"{name}_mat.{axis}"][0].permute(1, 2, 0)
        encoding.lines[axis] = tensors[f"{name}_vec.{axis}"][0, :, :, 0].T


def _tensors(path: Path, state: State, clip: tuple[float, float]) -> Field:
    volume = _checked(path, state, {VOLUME: (1, None, None, None, None)}, "tensors")[VOLUME][0]
    channels, *sides = volume.shape
    degrees: dict[int, Literal[0, 1, 2, 3]] = {4: 0, 13: 1, 28: 2, 49: 3}
    degree = degrees.get(channels)
    if degree is None or len(set(sides)) != 1 or not 2 <= sides[0] <= 2048:
        raise InputError(
            f"{path}: {VOLUME}: expected 4, 13, 28 or 49 numbers at equally many places along all axes, "
            f"found {channels} at {' x '.join(str(s) for s in sides)}"
        )
    setting: Setting = setting_of(path, state, {name: state[name].float() for name in BOXES})
    field = build(spec_in(path, setting, "voxels", VoxelsSizes(sides[0], degree), clip))
    assert isinstance(field, VoxelsField)
    blocks = field.spec.sizes.blocks_per_side
    padded = nn.functional.pad(volume.permute(3, 2, 1, 0), (0, 0, *(0, blocks * BLOCK - sides[0]) * 3))
    with torch.no_grad():
        rows = padded.reshape(blocks, BLOCK, blocks, BLOCK, blocks, BLOCK, channels).permute(0, 2, 4, 1, 3, 5, 6)
        field.data.copy_(rows.reshape(-1, channels))
    return settled(field, setting)  # type: ignore[no-any-return]
