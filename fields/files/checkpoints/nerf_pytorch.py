"""Checkpoints of nerf-pytorch (yenchenlin, `.tar`) and of krrish94's rebuilding of it (`.ckpt`): the fine network.

Letters: W the width of the trunk, e that of encoded positions. Both evaluate frequencies of world positions as they
are; a field knows points of its box, [-1, 1]^3. The box is the one that others use for NeRF-Synthetic, so that x = 1.5
n: the frequencies are so much higher, and so are the weights of the positions themselves.

What neither a checkpoint nor the settings beside it say is taken to be as in NeRF-Synthetic: that box, cameras above
the ground, and white behind it. A model of an LLFF scene in normalised device coordinates opens in those, and says so.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, orbit
from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.named import checked_spec
from fieldcast.fields.files.checkpoints.nerf_settings import settings_beside
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kinds import build
from fieldcast.fields.kinds.nerf import NerfField, NerfSizes
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec

HALF = 1.5  # of the sides of the box, world units
BOX = "half_box"  # where we write it
Tensors = dict[str, Tensor]
Kind = Literal["linear", "rectified"]


@dataclass(frozen=True)
class Layout:
    """What a program calls things. networks: the state dicts, the best one first.

    trunk: the layers' names, the n-th after the first; others: density, code, branch and colour. before: whether the
    layer that sees the encoding again has it before what comes from the others. first_is, code_is: as in `NerfSizes`.
    """

    networks: tuple[str, ...]
    first: str
    trunk: str
    others: tuple[str, str, str, str]
    before: bool
    first_is: Kind
    code_is: Kind


LAYOUTS = (
    Layout(
        ("network_fine_state_dict", "network_fn_state_dict"),
        "pts_linears.0",
        r"pts_linears\.([1-9][0-9]?)",
        ("alpha_linear", "feature_linear", "views_linears.0", "rgb_linear"),
        before=True,
        first_is="rectified",
        code_is="linear",
    ),
    Layout(
        ("model_fine_state_dict", "model_coarse_state_dict"),
        "layer1",
        r"layers_xyz\.([0-9]{1,2})",
        ("fc_alpha", "fc_feat", "layers_dir.0", "fc_rgb"),
        before=False,
        first_is="linear",
        code_is="rectified",
    ),
)


def holds_nerf(found: Any) -> bool:
    """Whether what a checkpoint holds looks like one of these."""
    return isinstance(found, dict) and any(name in found for layout in LAYOUTS for name in layout.networks)


def read_nerf(path: Path, found: dict[str, Any]) -> NerfField:
    """The fine network of a checkpoint that holds `found`, or the only one. Raises InputError for what it is not."""
    there = [(x, n) for x in LAYOUTS for n in x.networks if n in found and not _is_empty(found[n])]
    if not there:
        raise InputError(f"{path}: not a whole NeRF: its networks are empty")
    layout, name = there[0]
    network = found[name]
    if not isinstance(network, dict) or not all(isinstance(v, Tensor) for v in network.values()):
        raise InputError(f"{path}: {name}: expected the tensors of a network")
    tensors = {str(k).removeprefix("module."): v.detach().float() for k, v in network.items()}
    names = layers_of(path, tensors, layout)
    half = half_side(path, found)
    sizes = sizes_of(path, tensors, layout, names, half)
    settings = settings_beside(path)
    spec = FieldSpec(
        kind="nerf",
        sizes=sizes,
        space=Space((-half, -half, -half, half, half, half)),
        density=DensityActivation("relu", scale=half),
        background=settings.background,
    )
    checked_spec(path, spec)
    theirs = [*names, *layout.others]
    with torch.device("meta"):  # before a layer that is small in the file fills the memory
        for layer, name in zip(our_layers(build(spec)), theirs, strict=True):
            weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
            if weight.shape != layer.weight.shape or bias.shape != layer.bias.shape:
                raise InputError(
                    f"{path}: {name}: expected {list(layer.weight.shape)}, found {list(weight.shape)} "
                    f"and {list(bias.shape)}"
                )
    field = build(spec)
    assert isinstance(field, NerfField)
    field.notes = settings.notes
    field.views = None if settings.ndc or BOX in found else synthetic_views(spec.space)
    with torch.no_grad():
        for place, (layer, name) in enumerate(zip(our_layers(field), theirs, strict=True)):
            weight = tensors[f"{name}.weight"]
            if place == 0 or (place == sizes.skip and place < sizes.layers):
                weight = seeing_the_box(weight, 3 * (1 + 2 * sizes.octaves), layout.before or place == 0, half)
            layer.weight.copy_(weight)
            layer.bias.copy_(tensors[f"{name}.bias"])
    return field


def our_layers(field: Field) -> list[nn.Linear]:
    """All layers of a field, the trunk's first."""
    return [layer for layer in field.modules() if isinstance(layer, nn.Linear)]


def synthetic_views(space: Space, count: int = 60) -> Cameras:
    """Cameras where those of NeRF-Synthetic are: on the upper half of a sphere about the scene, evenly.

    Nobody has seen it from below, where a network says anything: conversions must not learn from there.
    """
    place = (torch.arange(count) + 0.5) / count
    azimuth = torch.arange(count) * (math.pi * (3 - 5**0.5))  # the golden angle
    return orbit(space, azimuth, place.asin(), 4.03, width=400, height=400, fov=0.6911)


def half_side(path: Path, found: dict[str, Any]) -> float:
    """Half the side of the box: what a checkpoint that we wrote says, which is nothing to the program."""
    half = found.get(BOX, HALF)
    if not isinstance(half, int | float) or not 1e-6 < half < 1e6:
        raise InputError(f"{path}: {BOX}: expected a length, found {half!s:.40}")
    return float(half)


def _is_empty(network: Any) -> bool:
    """Whether a program kept no network there."""
    return network is None or (isinstance(network, dict) and not network)


def layers_of(path: Path, tensors: Tensors, layout: Layout) -> list[str]:
    """The names of the trunk's layers; all other layers are there, and nothing else."""
    later = sorted(int(m[1]) for k in tensors if (m := re.fullmatch(layout.trunk + r"\.weight", k)))
    stem = layout.trunk.split(r"\.")[0]
    # One that is absent between others is missing.
    names = [layout.first, *(f"{stem}.{n}" for n in range(later[0], later[-1] + 1))] if later else [layout.first]
    wanted = {f"{name}.{part}" for name in (*names, *layout.others) for part in ("weight", "bias")}
    missing, stray = sorted(wanted - tensors.keys()), sorted(tensors.keys() - wanted)
    if missing or stray or len(names) < 2:
        parts = [
            f"{what} {', '.join(some[:5])}" for what, some in (("missing", missing), ("unexpected", stray)) if some
        ]
        hint = "; networks without view directions are not read" if f"{layout.others[3]}.weight" in missing else ""
        raise InputError(f"{path}: not a whole NeRF: {'; '.join(parts) or 'a trunk of one layer'}{hint}")
    flat = [k for k in wanted if tensors[k].dim() != (2 if k.endswith("weight") else 1)]
    if flat:
        raise InputError(f"{path}: {flat[0]}: expected a matrix and a vector, found {list(tensors[flat[0]].shape)}")
    odd = [k for k in sorted(wanted) if not bool(tensors[k].isfinite().all())]
    if odd:
        raise InputError(f"{path}: {odd[0]}: expected finite numbers")
    return names


def sizes_of(path: Path, tensors: Tensors, layout: Layout, names: list[str], half: float) -> NerfSizes:
    """Sizes, from the shapes of the matrices."""
    width, encoded = tensors[f"{names[0]}.weight"].shape
    skips = [i for i, name in enumerate(names) if i > 0 and tensors[f"{name}.weight"].shape[1] == width + encoded]
    if len(skips) > 1:
        raise InputError(f"{path}: {names[skips[1]]}: expected at most one layer that sees the positions again")
    branch, seen = tensors[f"{layout.others[2]}.weight"].shape
    return NerfSizes(
        layers=len(names),
        width=width,
        skip=skips[0] if skips else 0,
        octaves=_octaves(path, names[0], encoded),
        view_octaves=_octaves(path, layout.others[2], seen - width),
        lowest=math.log2(half),
        first=layout.first_is,
        code=layout.code_is,
        branch=branch,
    )


def _octaves(path: Path, name: str, encoded: int) -> int:
    """How many octaves make an encoding so wide; the numbers themselves come first."""
    octaves, rest = divmod(encoded - 3, 6)
    if octaves < 0 or rest or octaves > 24:
        raise InputError(f"{path}: {name}: expected 3 + 6 L encoded numbers, found {encoded}")
    return octaves


def seeing_the_box(weight: Tensor, encoded: int, before: bool, half: float) -> Tensor:
    """A matrix that was made for world positions, before or behind other inputs, for points of the box before them."""
    if not before:
        weight = torch.cat([weight[:, -encoded:], weight[:, :-encoded]], 1)
    return torch.cat([half * weight[:, :3], weight[:, 3:]], 1)
