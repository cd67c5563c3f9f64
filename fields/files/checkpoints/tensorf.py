"""Checkpoints of TensoRF (apchenstu, `.th`) and of nerfstudio's `tensorf`: the same grids, cut apart or in one piece.

Letters: C components; g samples along x, y or z. A plane [1, C, g_b, g_a] is stored here as [g_b, g_a, C], and a line
[1, C, g, 1] as [g, C].

TensoRF multiplies lengths by `distance_scale` where a field multiplies density; nerfstudio does neither. What a
checkpoint of TensoRF does not say is taken to be as in NeRF-Synthetic: white behind the scene. A model of an LLFF scene
in normalised device coordinates opens in those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from msgspec import Meta
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.named import Shape, checked_tensors, tensors_of
from fieldcast.fields.files.checkpoints.nerfstudio import model_settings
from fieldcast.fields.files.checkpoints.tensorf_mask import corners, occupancy_of
from fieldcast.fields.heads import ColorActivation, DensityActivation
from fieldcast.fields.kinds import build
from fieldcast.fields.kinds.tensorf import TensorfField, TensorfSizes
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec, read

Tensors = dict[str, Tensor]
Factors = Literal["vm", "cp"]
Shading = Literal["network", "harmonics", "none"]
SHADINGS: dict[str, tuple[Shading, ColorActivation]] = {
    "MLP_Fea": ("network", "sigmoid"),
    "MLP": ("network", "sigmoid"),
    "SH": ("harmonics", "shifted_clamp"),
    "RGB": ("none", "shifted_clamp"),
}
# What TensoRF calls the tensors of a field.
NAMES = {
    **{f"density_grid.{what}s.{m}": f"density_{what}.{m}" for what in ("plane", "line") for m in range(3)},
    **{f"appearance_grid.{what}s.{m}": f"app_{what}.{m}" for what in ("plane", "line") for m in range(3)},
    "basis.weight": "basis_mat.weight",
    **{
        f"color_net.layers.{n}.{part}": f"renderModule.mlp.{n}.{part}" for n in (0, 2, 4) for part in ("weight", "bias")
    },
}
NO_MATTER = ("pos_pe", "alphaMask_thres", "rayMarch_weight_thres", "near_far")  # to what a model is
STEP_RATIO = 0.5  # of the distance between samples: the steps of TensoRF

FIELD = "_model.field."
OCTAVES, LOWEST, SPACING = 2, math.log2(2 * math.pi), 2.0  # of nerfstudio, always
# What says of which sizes a model of nerfstudio is.
SHOWING = "density_encoding.line_coef", "color_encoding.line_coef", "B.weight", "mlp_head.layers.0.weight"
# What nerfstudio calls the layers of the network.
LAYERS = {"B": "basis_mat", "mlp_head.layers.0": "renderModule.mlp.0", "mlp_head.layers.1": "renderModule.mlp.2"}
LAYERS["field_output_rgb.net"] = "renderModule.mlp.4"
# Models that were trained in front of random colours or of the last sample's are shown in front of black.
BACKGROUNDS = {"white": 1.0, "black": 0.0, "random": 0.0, "last_sample": 0.0}


@dataclass(frozen=True)
class Settings:
    """`kwargs` of a checkpoint of TensoRF, as far as they matter, but for the box."""

    gridSize: tuple[int, int, int]  # noqa: N815
    density_n_comp: tuple[int, ...]
    appearance_n_comp: tuple[int, ...]
    app_dim: int
    density_shift: float
    distance_scale: Annotated[float, Meta(gt=0, le=1e9)]
    fea2denseAct: Literal["softplus", "relu"]  # noqa: N815
    shadingMode: Literal["MLP_Fea", "MLP", "SH", "RGB"]  # noqa: N815
    view_pe: int
    fea_pe: int
    featureC: int  # noqa: N815
    step_ratio: Annotated[float, Meta(gt=0, le=1e3)] = STEP_RATIO


def holds_tensorf(found: Any) -> bool:
    """Whether what a checkpoint holds looks like a model of either program."""
    if not isinstance(found, dict):
        return False
    kwargs, pipeline = found.get("kwargs"), found.get("pipeline")
    if isinstance(kwargs, dict) and "state_dict" in found:
        return "gridSize" in kwargs
    return isinstance(pipeline, dict) and any(str(name).startswith(f"{FIELD}density_encoding.") for name in pipeline)


def read_tensorf(path: Path, found: dict[str, Any]) -> TensorfField:
    """The field in a checkpoint that holds `found`. Raises InputError for what it is not."""
    return _of_run(path, found["pipeline"]) if "pipeline" in found else _as_released(path, found)


def _as_released(path: Path, found: dict[str, Any]) -> TensorfField:
    """That of TensoRF."""
    kwargs = {name: value for name, value in found["kwargs"].items() if name not in NO_MATTER}
    space = _space(path, "kwargs: aabb", kwargs.pop("aabb", None))
    if kwargs.get("shadingMode") == "MLP_PE":
        raise InputError(f"{path}: shadingMode: MLP_PE is not read: TensoRF itself cannot evaluate its network")
    settings = read(Settings, kwargs, f"{path}: kwargs")
    tensors = tensors_of(path, found["state_dict"], "state_dict")
    factors: Factors = "vm" if any(name.startswith("density_plane") for name in tensors) else "cp"
    shift = settings.density_shift if settings.fea2denseAct == "softplus" else 0.0
    spec = FieldSpec(
        kind="tensorf",
        sizes=_sizes(path, settings, factors),
        space=space,
        density=_density(path, settings.fea2denseAct, shift, settings.distance_scale * space.unit),
        color=SHADINGS[settings.shadingMode][1],
        steps=_steps(space, settings.gridSize, settings.step_ratio),
    )
    occupancy = occupancy_of(path, found, space)
    if occupancy is None:
        return _filled(path, spec, tensors)
    field = _filled(path, replace(spec, occupancy=occupancy.resolution), tensors)
    field.occupancy = occupancy
    return field


def _sizes(path: Path, settings: Settings, factors: Factors) -> TensorfSizes:
    """Sizes, from the settings of TensoRF."""
    sizes = {
        "resolution": settings.gridSize,
        "factors": factors,
        "density_channels": _counts(path, "density_n_comp", settings.density_n_comp, factors),
        "appearance_channels": _counts(path, "appearance_n_comp", settings.appearance_n_comp, factors),
        "features": settings.app_dim,
        "shading": SHADINGS[settings.shadingMode][0],
        "hidden": settings.featureC,
        "feature_octaves": settings.fea_pe if settings.shadingMode == "MLP_Fea" else 0,
        "view_octaves": settings.view_pe,
    }
    return read(TensorfSizes, sizes, f"{path}: kwargs")


def _of_run(path: Path, pipeline: dict[str, Any]) -> TensorfField:
    """That of nerfstudio, in the frame in which it was trained."""
    tensors = tensors_of(path, pipeline, "pipeline", FIELD)
    background = model_settings(path).get("background_color", "white")
    if not isinstance(background, str) or background not in BACKGROUNDS:
        raise InputError(f"{path}: background_color: expected {', '.join(BACKGROUNDS)}, found {background!s:.80}")
    space = _space(path, "aabb", tensors.pop("aabb", None))
    sizes = _sizes_shown(path, tensors)
    spec = FieldSpec(
        kind="tensorf",
        sizes=sizes,
        space=space,
        density=DensityActivation("relu", scale=space.unit),
        background=(BACKGROUNDS[background],) * 3,
        steps=_steps(space, sizes.resolution, STEP_RATIO),
    )
    return _filled(path, spec, _cut_apart(path, sizes, tensors))


def _sizes_shown(path: Path, tensors: Tensors) -> TensorfSizes:
    """Sizes, from the shapes of the tensors of nerfstudio."""
    shapes = {name: tuple(tensors[name].shape) if name in tensors else () for name in SHOWING}
    density, color, basis, hidden = shapes.values()
    if (len(density), len(color), len(basis), len(hidden)) != (4, 4, 2, 2):
        raise InputError(f"{path}: not a whole tensorf: its grids or layers are missing, or of another shape: {shapes}")
    sizes = {
        "resolution": (density[2],) * 3,
        "factors": "vm" if "density_encoding.plane_coef" in tensors else "cp",
        "density_channels": (density[1],) * 3,
        "appearance_channels": (color[1],) * 3,
        "features": basis[0],
        "hidden": hidden[0],
        **{"feature_octaves": OCTAVES, "view_octaves": OCTAVES, "lowest": LOWEST, "spacing": SPACING},
    }
    return read(TensorfSizes, sizes, f"{path}: pipeline")


def _cut_apart(path: Path, sizes: TensorfSizes, tensors: Tensors) -> Tensors:
    """The tensors of nerfstudio under TensoRF's names: its grids hold the three planes, and the three lines, in one."""
    r = sizes.resolution[0]
    wanted: dict[str, Shape] = {f"{layer}.weight": (None, None) for layer in LAYERS}
    wanted |= {f"{layer}.bias": (None,) for layer in LAYERS if layer != "B"}
    for grid, channels in (("density", sizes.density_channels), ("color", sizes.appearance_channels)):
        wanted[f"{grid}_encoding.line_coef"] = (3, channels[0], r, 1)
        if sizes.factors == "vm":
            wanted[f"{grid}_encoding.plane_coef"] = (3, channels[0], r, r)
    checked = checked_tensors(path, tensors, wanted, "tensorf")
    result: Tensors = {}
    for name, value in checked.items():
        stem, _, part = name.rpartition(".")
        if part.endswith("_coef"):
            grid = "density" if stem.startswith("density") else "app"
            result |= {f"{grid}_{part.removesuffix('_coef')}.{m}": value[m : m + 1] for m in range(3)}
        else:
            result[f"{LAYERS[stem]}.{part}"] = value
    return result


def _filled(path: Path, spec: FieldSpec, tensors: Tensors) -> TensorfField:
    """A field of the tensors of TensoRF, which must be just those that the spec asks for."""
    with torch.device("meta"):
        field = build(spec)
    assert isinstance(field, TensorfField)
    wanted: dict[str, Shape] = {
        NAMES[name]: tuple(as_theirs(name, value).shape) for name, value in field.named_parameters()
    }
    checked = checked_tensors(path, tensors, wanted, "TensoRF")
    ours = {name: as_ours(name, checked[NAMES[name]]) for name, _ in field.named_parameters()}
    everywhere = torch.full(field.occupancy_bits.shape, 255, dtype=torch.uint8)
    field.load_state_dict({**ours, "occupancy_bits": everywhere}, assign=True)
    field.requires_grad_(True)
    return field


def as_ours(name: str, value: Tensor) -> Tensor:
    """A tensor of TensoRF as a field keeps it: channels last. name: the field's own."""
    if ".planes." in name:
        return value[0].permute(1, 2, 0).contiguous()
    return value[0, :, :, 0].t().contiguous() if ".lines." in name else value


def as_theirs(name: str, value: Tensor) -> Tensor:
    """The inverse of `as_ours`."""
    if ".planes." in name:
        return value.permute(2, 0, 1)[None].contiguous()
    return value.t()[None, :, :, None].contiguous() if ".lines." in name else value


def _space(path: Path, name: str, aabb: Any) -> Space:
    low, high = corners(path, name, aabb)
    (x, y, z), (u, v, w) = low.tolist(), high.tolist()
    return Space((x, y, z, u, v, w))


def _density(path: Path, name: Literal["softplus", "relu"], shift: float, scale: float) -> DensityActivation:
    try:
        return DensityActivation(name, shift, scale)
    except InputError as error:
        raise InputError(f"{path}: kwargs: {error}") from None


def _counts(path: Path, name: str, counts: tuple[int, ...], factors: Factors) -> tuple[int, ...]:
    """The components of three planes or lines; TensoRF takes the first number for all lines of CP."""
    if len(counts) < (3 if factors == "vm" else 1):
        raise InputError(f"{path}: kwargs: {name}: expected three numbers, found {list(counts)}")
    return counts[:3] if factors == "vm" else counts[:1] * 3


def samples_across(space: Space, resolution: tuple[int, ...]) -> float:
    """The diagonal of the box, in mean distances of samples, of which TensoRF makes steps of `step_ratio`."""
    a = space.aabb
    sides = [a[i + 3] - a[i] for i in range(3)]
    return 3 * math.hypot(*sides) / sum(side / max(n - 1, 1) for side, n in zip(sides, resolution, strict=True))


def _steps(space: Space, resolution: tuple[int, ...], ratio: float) -> int:
    return min(max(round(samples_across(space, resolution) / ratio), 8), 1 << 16)
