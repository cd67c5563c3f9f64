"""Checkpoints of torch-ngp (`.pth`), read and written, and what PVD's share with them.

Letters: b the bound. The scene is [-b, b]^3 in the frame into which torch-ngp turns the cameras that it loads, whose
up is y. Our hash grid has its storage order: the tensors are the same under other names, and only networks that are
narrower than the other one are padded. Of runs that kept a moving average of their parameters that one is read.

What a checkpoint does not say is taken to be torch-ngp's default: a finest level of 2048 b cells, white behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.cascades import (
    cascade_count,
    occupancy_of_bits,
)
from fieldcast.fields.files.checkpoints.named import Shape, checked_spec, checked_tensors, tensors_of
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kernels.hashgrid import hash_levels
from fieldcast.fields.kinds import build
from fieldcast.fields.kinds.hashgrid import HashgridField, HashgridSizes
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec

FINEST = 2048  # cells of the finest level along a length of 2
UP = (0.0, 1.0, 0.0)
TABLE, OFFSETS = "encoder.embeddings", "encoder.offsets"
SIGMA, COLOR = ("sigma_net.0.weight", "sigma_net.1.weight"), tuple(f"color_net.{n}.weight" for n in range(3))
BOXES = {"aabb_train": (6,), "aabb_infer": (6,)}
BITS = "density_bitfield"
IGNORED = (BITS, "density_grid", "step_counter", OFFSETS)
DEFAULTS = HashgridSizes(levels=16)


@dataclass(frozen=True)
class Setting:
    """Where a model is: space, the cells in which something is and half the side of its cube; None: no cube."""

    space: Space
    occupancy: Occupancy | None
    half: float | None


def model_of(found: Any) -> dict[str, Any]:
    """The named tensors of a model: of a checkpoint, or themselves."""
    model = found.get("model", found) if isinstance(found, dict) else {}
    return model if isinstance(model, dict) else {}


def holds_torch_ngp(found: Any) -> bool:
    """Whether what a checkpoint holds looks like torch-ngp's hash grid, or PVD's."""
    model = model_of(found)
    return TABLE in model and any(str(name).startswith("sigma_net.") for name in model)


def read_torch_ngp(path: Path, found: Any) -> HashgridField:
    """The field in a checkpoint that holds `found`. Raises InputError for what it is not."""
    names = (TABLE, *SIGMA, *COLOR)
    state = averaged(path, found, tensors_of(path, model_of(found), "model"), names)
    if any(name.startswith("bg_net.") for name in state):
        raise InputError(f"{path}: has a network for what is behind the scene, which fields do not have")
    tensors = checked_tensors(path, state, {**dict.fromkeys(names, (None, None)), **BOXES}, "torch-ngp model", IGNORED)
    setting = setting_of(path, state, tensors)
    if setting.half is None:
        raise InputError(
            f"{path}: aabb_train: expected a cube around the origin, found {tensors['aabb_train'].tolist()}"
        )
    sizes = sizes_of(path, state, tensors, setting.half)
    shapes = network_shapes(tensors, sizes.levels * sizes.channels)
    checked_tensors(path, {n: tensors[n] for n in shapes}, shapes, "torch-ngp model")
    field = build(spec_in(path, setting, "hashgrid", sizes))
    assert isinstance(field, HashgridField)
    with torch.no_grad():
        field.encoding.table.copy_(tensors[TABLE])
    fill_networks(field, tensors)
    return settled(field, setting)  # type: ignore[no-any-return]


def averaged(path: Path, found: Any, state: dict[str, Tensor], trained: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of a model, those that are trained replaced by their moving averages, if the checkpoint has them.

    The averages have no names: they are those of `trained`, in that order.
    """
    average = found.get("ema") if "model" in found else None
    if average is None:
        return state
    shadows = average.get("shadow_params") if isinstance(average, dict) else None
    if not isinstance(shadows, list | tuple) or not all(isinstance(s, Tensor) for s in shadows):
        raise InputError(f"{path}: ema: expected shadow_params, a list of tensors")
    there = [name for name in trained if name in state]
    if [s.shape for s in shadows] != [state[name].shape for name in there]:
        raise InputError(f"{path}: ema: expected averages of the {len(there)} tensors of the model, in its order")
    return state | dict(zip(there, shadows, strict=True))


def setting_of(path: Path, state: dict[str, Tensor], tensors: dict[str, Tensor]) -> Setting:
    """The box, and where in it something is: in the cells that are marched through, in the part that is shown."""
    box, shown = tensors["aabb_train"].tolist(), tensors["aabb_infer"].tolist()
    try:
        space = Space(tuple(box), up=UP)
    except InputError as error:
        raise InputError(f"{path}: aabb_train: {error}") from None
    half = box[3] if [-box[3]] * 3 + [box[3]] * 3 == box and 1e-6 < box[3] < 1e6 else None
    occupancy = None
    if half is not None and BITS in state:
        occupancy = _occupancy(path, state[BITS], half)
    if shown != box:
        whole = occupancy or Occupancy.full(FieldSpec.occupancy)
        occupancy = Occupancy(whole.bits & _shown(space, shown, whole.resolution).bits, whole.resolution)
    return Setting(space, occupancy, half)


def _occupancy(path: Path, bits: Tensor, half: float) -> Occupancy | None:
    """The cells that are marched through; None while a run did not look for them yet."""
    count = cascade_count(half)
    side = round((bits.numel() * 8 / count) ** (1 / 3)) if bits.dim() == 1 else 0
    # A grid that is no power of two has no Morton order that fills it.
    if bits.dtype != torch.uint8 or side not in (8, 16, 32, 64, 128, 256) or side**3 * count != bits.numel() * 8:
        raise InputError(f"{path}: {BITS}: expected {count} grids of bits, found {list(bits.shape)} of {bits.dtype}")
    return occupancy_of_bits(bits, half, side, side) if bool(bits.any()) else None


def _shown(space: Space, shown: list[float], resolution: int) -> Occupancy:
    """The cells of a box of which any part lies in another."""
    cells = torch.ones((resolution,) * 3, dtype=torch.bool)
    for axis in range(3):
        low, high = space.aabb[axis], space.aabb[axis + 3]
        edges = low + (high - low) * torch.arange(resolution + 1, dtype=torch.float64) / resolution
        kept = (edges[1:] > shown[axis]) & (edges[:-1] < shown[axis + 3])
        cells &= kept.reshape([-1 if a == axis else 1 for a in range(3)])
    return Occupancy.of_cells(cells)


def sizes_of(path: Path, state: dict[str, Tensor], tensors: dict[str, Tensor], half: float) -> HashgridSizes:
    """Sizes, from the table and from where its levels begin."""
    offsets, table = state.get(OFFSETS), tensors[TABLE]
    if offsets is None or offsets.dim() != 1 or offsets.is_floating_point() or not 2 <= len(offsets) <= 33:
        raise InputError(f"{path}: {OFFSETS}: expected where up to 32 levels begin")
    rows = [b - a for a, b in zip(offsets.tolist(), offsets.tolist()[1:], strict=False)]
    finest, channels = FINEST * half, table.shape[1]
    if channels not in (1, 2, 4, 8) or finest != round(finest) or not 2 <= finest <= 1 << 20:
        raise InputError(
            f"{path}: {TABLE}: expected 1, 2, 4 or 8 features and a bound of whole cells, found {channels} and {half:g}"
        )
    log2_table = min(26, max(4, math.ceil(math.log2(max(*rows, 1)))))
    hidden = max(len(tensors[SIGMA[0]]), len(tensors[COLOR[0]]))
    # The first level tells how many cells it has, unless it is hashed.
    for base in (DEFAULTS.base_resolution, min(8192, max(2, round(max(rows[0], 1) ** (1 / 3)) - 1))):
        fits = rows == [level.rows for level in hash_levels(len(rows), base, round(finest), log2_table)]
        if fits and offsets[0] == 0 and len(table) == sum(rows) and hidden <= 1024:
            return HashgridSizes(len(rows), cast(Any, channels), log2_table, base, round(finest), hidden=hidden)
    raise InputError(
        f"{path}: {OFFSETS}: expected levels of up to {finest:g} cells, 2048 times the bound, in the {len(table):,} "
        f"rows of {TABLE}; found {rows!s:.120}"
    )


def network_shapes(tensors: dict[str, Tensor], encoded: int | None) -> dict[str, Shape]:
    """What the two networks must be, given their widths; encoded: what goes into the first one, None if it is not."""
    color = len(tensors[COLOR[0]])
    shapes: dict[str, Shape] = {COLOR[0]: (color, 31), COLOR[1]: (color, color), COLOR[2]: (3, color)}
    if encoded is not None:
        sigma = len(tensors[SIGMA[0]])
        shapes |= {SIGMA[0]: (sigma, encoded), SIGMA[1]: (16, sigma)}
    return shapes


def spec_in(path: Path, setting: Setting, kind: str, sizes: Any, clip: tuple[float, float] | None = None) -> FieldSpec:
    """The spec of a model: density is e^logit, in its own unit. Raises InputError for sizes out of range."""
    spec = FieldSpec(
        kind=kind,
        sizes=sizes,
        space=setting.space,
        density=DensityActivation("exp", scale=setting.space.unit, clip=clip),
        occupancy=setting.occupancy.resolution if setting.occupancy else FieldSpec.occupancy,
    )
    return checked_spec(path, spec)


@torch.no_grad()
def fill_networks(field: Field, tensors: dict[str, Tensor]) -> None:
    """Gives a field the two networks, padded with zeros where ours are wider."""
    pairs = [("color_net.layers", COLOR), ("sigma_net", SIGMA)]
    for ours, names in pairs[: 2 if SIGMA[0] in tensors else 1]:
        layers = [layer for layer in field.get_submodule(ours).children() if isinstance(layer, nn.Linear)]
        for layer, name in zip(layers, names, strict=True):
            layer.weight.zero_()
            layer.weight[: tensors[name].shape[0], : tensors[name].shape[1]] = tensors[name]


def settled(field: Any, setting: Setting) -> Any:
    """The field, which knows where it is empty if that is known."""
    if setting.occupancy is not None:
        field.occupancy = setting.occupancy
    return field
