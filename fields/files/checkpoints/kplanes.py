"""Checkpoints of K-Planes (sarafridov, `.pth`) and of its port to nerfstudio (`.ckpt`): static scenes with networks.

Letters: C channels of a scale, r samples along an axis. The two networks are tiny-cuda-nn's: one vector that holds the
matrices, outputs first, one behind the other; inputs and outputs are padded to multiples of 16, and inputs that are
padding are 1. There are no biases. What is 1, or does not change over the scene, is added to the column of the constant
harmonic; where the density network has such inputs, the planes get a channel of ones.

Density is exp(s - 1), or relu(s), of the last output of the density network. Beyond its box K-Planes goes on with what
is at the faces, as far as it looks; a field is empty there.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.named import checked_tensors, tensors_of
from fieldcast.fields.files.checkpoints.nerfstudio import model_settings
from fieldcast.fields.heads import FEATURES, DensityActivation
from fieldcast.fields.kinds.planes import PlanesField, PlanesSizes
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec

WIDTH = 64  # of both networks
HARMONICS, FIRST_HARMONIC = 16, 0.5 / math.pi**0.5
LARGEST = 1 << 18  # bytes of a config.csv, which has about two thousand
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """What a program calls things. where, prefix: of the field. plane: of a scale and a pair of axes.

    embedding: one row a picture. others: what may be there beside, and does not count.
    """

    where: str
    prefix: str
    plane: str
    embedding: str
    others: tuple[str, ...]


ORIGINAL = Layout(
    "model",
    "field.",
    "grids.{}.{}",
    "appearance_embedding.weight",
    ("direction_encoder.params", "test_appearance_embedding.weight"),
)
PORT = Layout(
    "pipeline",
    "_model.field.",
    "grids.{}.plane_coefs.{}",
    "appearance_ambedding.embedding.weight",  # as it is spelt there
    ("direction_encoding.params",),
)
DISTORTION = "spatial_distortion.global_translation", "spatial_distortion.global_scale"


@dataclass(frozen=True)
class Settings:
    """What a model computes besides its tensors. concat: scales are side by side, not added; None: not known."""

    contracted: bool = False
    activation: str = "trunc_exp"
    concat: bool | None = None
    average: bool = True
    background: str = "white"


def holds_kplanes(found: Any) -> bool:
    """Whether what a checkpoint holds looks like K-Planes."""
    return _layout(found) is not None


def _layout(found: Any) -> Layout | None:
    for layout in (ORIGINAL, PORT):
        inside = found.get(layout.where) if isinstance(found, dict) else None
        if isinstance(inside, dict) and layout.prefix + layout.plane.format(0, 0) in inside:
            return layout
    return None


def read_kplanes(path: Path, found: dict[str, Any]) -> PlanesField:
    """The field of a checkpoint that holds `found`. Raises InputError, one line, for what a field cannot be."""
    layout = _layout(found)
    assert layout is not None
    tensors = tensors_of(path, found[layout.where], layout.where, layout.prefix)
    settings = _port_settings(path) if layout is PORT else _settings(path, tensors)
    scales = _scales(path, tensors, layout)
    tensors = checked_tensors(path, tensors, _wanted(tensors, layout, scales), "K-Planes", layout.others)
    planes = [torch.stack([_plane(tensors[layout.plane.format(s, p)]) for p in range(3)]) for s in range(scales)]
    networks = _networks(path, tensors, planes, layout, settings)
    return _field(_space(path, tensors, settings), planes, networks, settings)


def _field(
    space: Space, planes: list[Tensor], networks: tuple[list[Tensor], list[Tensor], bool], settings: Settings
) -> PlanesField:
    sigma, color, ones = networks
    if ones:
        planes = [torch.cat([p, torch.ones_like(p[..., :1])], -1) for p in planes]
    spec = FieldSpec(
        kind="planes",
        sizes=PlanesSizes(
            resolutions=tuple(p.shape[1] for p in planes), channels=planes[0].shape[-1], combine="product", hidden=WIDTH
        ),
        space=space,
        density=DensityActivation(
            *(("relu", 0.0) if settings.activation == "relu" else ("exp", -1.0)), scale=space.unit
        ),
        background=(0.0, 0.0, 0.0) if settings.background == "black" else (1.0, 1.0, 1.0),
    )
    with torch.device("meta"):
        field = PlanesField(spec)
    names = {f"encoding.planes.{s}": plane for s, plane in enumerate(planes)}
    names |= {f"sigma_net.{2 * place}.weight": weight for place, weight in enumerate(sigma)}
    names |= {f"color_net.layers.{2 * place}.weight": weight for place, weight in enumerate(color)}
    names["occupancy_bits"] = torch.full((spec.occupancy**3 // 8,), 255, dtype=torch.uint8)
    field.load_state_dict({name: value.contiguous() for name, value in names.items()}, assign=True)
    return field.requires_grad_(True)


def _scales(path: Path, tensors: Tensors, layout: Layout) -> int:
    """How many scales there are. Raises InputError for scenes in time, linear decoders and grids that are no cubes."""
    pattern = re.escape(layout.plane.format("S", "P")).replace("S", "([0-9]{1,3})").replace("P", "([0-9])")
    there = [m for name in tensors if (m := re.fullmatch(pattern, name))]
    if any(int(m[2]) > 2 for m in there):
        raise InputError(f"{path}: expected three planes a scale, found more: scenes that change in time are not read")
    if "color_basis.params" in tensors:
        raise InputError(f"{path}: color_basis.params: expected networks, found a linear decoder, which is not read")
    scales = 1 + max(int(m[1]) for m in there)
    if scales > 16:
        raise InputError(f"{path}: expected at most 16 scales, found {scales}")
    for m in there:
        shape = list(tensors[m[0]].shape)
        if len(shape) < 3 or shape[-1] != shape[-2] or not (2 <= shape[-1] <= 8192 and 1 <= shape[-3] < 1024):
            raise InputError(
                f"{path}: {m[0]}: expected 1 to 1023 channels, and as many samples along each axis, 2 to 8192, "
                f"found {shape}"
            )
    return scales


def _wanted(tensors: Tensors, layout: Layout, scales: int) -> dict[str, tuple[int | None, ...]]:
    """The shapes of all tensors that count."""
    batch = (1,) if layout is ORIGINAL else ()
    wanted: dict[str, tuple[int | None, ...]] = {"aabb": (2, 3)}
    channels = tensors[layout.plane.format(0, 0)].shape[-3]
    for scale in range(scales):
        first = tensors.get(layout.plane.format(scale, 0))
        side = None if first is None else first.shape[-1]
        wanted |= {layout.plane.format(scale, pair): (*batch, channels, side, side) for pair in range(3)}
    wanted |= {"sigma_net.params": (None,), "color_net.params": (None,)}
    wanted |= {name: shape for name, shape in ((layout.embedding, (None, None)),) if name in tensors}
    return wanted | {name: (3,) for name in DISTORTION if any(n in tensors for n in DISTORTION)}


def _plane(plane: Tensor) -> Tensor:
    """[1, C, r, r] or [C, r, r], the later axis first, to [r, r, C]."""
    return plane.reshape(plane.shape[-3:]).permute(1, 2, 0)


def _networks(
    path: Path, tensors: Tensors, planes: list[Tensor], layout: Layout, settings: Settings
) -> tuple[list[Tensor], list[Tensor], bool]:
    """The matrices of sigma_net and color_net as a field has them; and whether the planes need a channel of ones."""
    channels, scales = planes[0].shape[-1], len(planes)
    name, sigma = "sigma_net.params", tensors["sigma_net.params"]
    widths = {True: scales * channels, False: channels}
    fits = [concat for concat, width in widths.items() if len(sigma) == _count(width, 1)]
    chosen = settings.concat if settings.concat is not None else (fits or [True])[0]
    first, last = _matrices(path, name, sigma, widths[chosen], 1)
    padding = first[:, widths[chosen] :].sum(1)
    first = first[:, : widths[chosen]].reshape(WIDTH, -1, channels).expand(-1, scales, -1)
    ones = bool(padding.any())
    if ones:
        constant = torch.zeros(WIDTH, scales, 1)
        constant[:, 0, 0] = padding
        first = torch.cat([first, constant], -1)
    last = torch.cat([last[FEATURES - 1 : FEATURES], last[: FEATURES - 1]])  # density is the last of theirs

    embedding = tensors.get(layout.embedding)
    code = 0 if embedding is None else embedding.shape[1]
    seen = HARMONICS + FEATURES - 1
    color = _matrices(path, "color_net.params", tensors["color_net.params"], seen + code, 2)
    constant = color[0][:, seen + code :].sum(1)
    if embedding is not None and settings.average:
        constant = constant + color[0][:, seen : seen + code] @ embedding.mean(0)
    color[0] = color[0][:, :seen].clone()
    color[0][:, 0] += constant / FIRST_HARMONIC
    return [first.flatten(1), last], [*color[:-1], color[-1][:3]], ones


def _count(inputs: int, hidden: int) -> int:
    """How many numbers a network has."""
    return WIDTH * (_padded(inputs) + (hidden - 1) * WIDTH + FEATURES)


def _padded(width: int) -> int:
    return -(-width // 16) * 16


def _matrices(path: Path, name: str, params: Tensor, inputs: int, hidden: int) -> list[Tensor]:
    """The matrices of a network of `hidden` hidden layers; inputs and outputs as they are padded."""
    if len(params) != _count(inputs, hidden):
        raise InputError(f"{path}: {name}: expected {_count(inputs, hidden):,} numbers, found {len(params):,}")
    shapes = [(WIDTH, _padded(inputs)), *[(WIDTH, WIDTH)] * (hidden - 1), (FEATURES, WIDTH)]
    parts = params.split([rows * columns for rows, columns in shapes])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _space(path: Path, tensors: Tensors, settings: Settings) -> Space:
    """The box; of a contracted scene that which is not folded."""
    low, high = tensors["aabb"].double()
    if settings.contracted:
        translation = tensors.get(DISTORTION[0], torch.zeros(3)).double()
        scale = tensors.get(DISTORTION[1], torch.ones(3)).double()
        if not bool((scale > 0).all()):
            raise InputError(f"{path}: {DISTORTION[1]}: expected numbers above 0, found {scale.tolist()}")
        low, high = (-1 - translation) / scale, (1 - translation) / scale
    try:
        return Space((*low.tolist(), *high.tolist()), "cube" if settings.contracted else "none")
    except InputError as error:
        raise InputError(f"{path}: aabb: {error}") from None


def _settings(path: Path, tensors: Tensors) -> Settings:
    """What `config.csv` beside a checkpoint says, if it is there; whether space is folded is in the checkpoint."""
    config = path.with_name("config.csv")
    text = {}
    try:
        if config.is_file() and config.stat().st_size <= LARGEST:
            lines = config.read_text(encoding="utf-8").splitlines()
            text = {key: value for key, _, value in (line.partition("\t") for line in lines)}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{config}: cannot be read: {error!s:.120}") from None
    return Settings(
        contracted=DISTORTION[0] in tensors,
        activation=_known(config, "density_activation", text, {"trunc_exp": "trunc_exp", "relu": "relu"}, "trunc_exp"),
        concat=_known(config, "concat_features_across_scales", text, {"True": True, "False": False}, None),
    )


def _known(config: Path, key: str, text: dict[str, str], values: dict[str, Any], otherwise: Any) -> Any:
    """The value of a setting; `otherwise` if the file does not say."""
    if key not in text:
        return otherwise
    if text[key] not in values:
        raise InputError(f"{config}: {key}: expected {' or '.join(values)}, found {text[key]:.40}")
    return values[text[key]]


def _port_settings(path: Path) -> Settings:
    """What the `config.yml` of a run says."""
    model = model_settings(path)
    return Settings(
        contracted=model.get("is_contracted") is True,
        concat=model.get("concat_features_across_scales") is not False,
        average=model.get("use_average_appearance_embedding") is not False,
        background=str(model.get("background_color", "white")),
    )
