"""Runs of nerfstudio's nerfacto and instant-ngp, with tiny-cuda-nn or without it.

Both are a hash grid whose colour also sees an embedding of the photograph. In new views that is the mean of all
embeddings, or 0: a constant, so a bias. Fields are in nerfstudio's frame: turned and scaled from the world of the
capture by the `dataparser_transforms.json` of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.hashgrids import hashgrid_of, seeing_unit_directions, table_shape, table_sizes
from fieldcast.fields.files.checkpoints.named import Shape, checked_tensors, tensors_of
from fieldcast.fields.files.checkpoints.nerfstudio import model_settings
from fieldcast.fields.files.checkpoints.tiny_cuda_nn import MULTIPLES, Layer, Perceptron, fitting
from fieldcast.fields.heads import HARMONICS, DensityActivation
from fieldcast.fields.kinds.hashgrid import HashgridField, HashgridSizes
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec

PREFIX = "_model.field."
BACKGROUNDS = {"white": 1.0, "black": 0.0, "random": 0.0, "last_sample": 0.0}
# What else the field has: not seen in new views, or made for other things than colour and density.
ASIDE = (
    "embedding_transient.",
    "mlp_transient.",
    "field_head_",
    "mlp_semantics.",
    "mlp_pred_normals.",
    "position_encoding.",
    "direction_encoding.",
)
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Packed:
    """Where tiny-cuda-nn's vectors are. base: of the network and its grid, together or apart; again: the same again."""

    base: tuple[str, ...]
    head: str
    again: tuple[str, ...] = ()


PACKED = (
    Packed(("mlp_base.model.params",), "mlp_head.tcnn_encoding.params"),
    Packed(
        ("mlp_base_mlp.tcnn_encoding.params", "mlp_base_grid.tcnn_encoding.params"),
        "mlp_head.tcnn_encoding.params",
        ("mlp_base.0.tcnn_encoding.params", "mlp_base.1.tcnn_encoding.params"),
    ),
    Packed(("mlp_base.params",), "mlp_head.params"),
)
GRID = "mlp_base.model.0.hash_table"
BASE = tuple(f"mlp_base.model.1.layers.{layer}" for layer in range(2))
HEAD = tuple(f"mlp_head.layers.{layer}" for layer in range(3))
EMBEDDING = "embedding_appearance.embedding.weight"
KNOWN: tuple[str, ...] = ("max_res", "num_levels", "log2_hashmap_size")  # settings that newer checkpoints hold
CODE = 15  # numbers that the colour network gets of the other one


def holds_nerfacto(found: Any) -> bool:
    """Whether what a checkpoint holds is one of these."""
    pipeline = found.get("pipeline") if isinstance(found, dict) else None
    names = {GRID, *(name for packed in PACKED for name in packed.base)}
    return isinstance(pipeline, dict) and any(f"{PREFIX}{name}" in pipeline for name in names)


def read_nerfacto(path: Path, found: dict[str, Any]) -> HashgridField:
    """The field of a run. Raises InputError for what it is not, and if the run's settings are not beside it."""
    tensors = tensors_of(path, found["pipeline"], "pipeline", PREFIX)
    tensors = {name: value for name, value in tensors.items() if not name.startswith(ASIDE)}
    settings = model_settings(path)
    known = {name: tensors.pop(name) for name in KNOWN if name in tensors}
    sizes = _sizes(path, known, settings, "nerfstudio" if GRID in tensors else "tiny-cuda-nn")
    parts = _plain(path, tensors) if GRID in tensors else _unpacked(path, tensors, sizes, settings)
    space = _space(path, parts.others["aabb"], settings)
    spec = FieldSpec(
        kind="hashgrid",
        sizes=sizes,
        space=space,
        density=DensityActivation("exp", scale=_number(path, settings, "average_init_density", 1.0) * space.unit),
        background=(BACKGROUNDS.get(str(settings.get("background_color")), 0.0),) * 3,
    )
    return hashgrid_of(path, spec, parts.table, parts.base, _seen(path, parts, settings))


@dataclass(frozen=True)
class Parts:
    """What a field is made of. base: to density and code; head: to colour; others: the tensors by their names."""

    table: Tensor
    base: list[Layer]
    head: list[Layer]
    others: Tensors


def _plain(path: Path, tensors: Tensors) -> Parts:
    """Those of a model that was trained without tiny-cuda-nn."""
    matrices: dict[str, Shape] = {f"{name}.weight": (None, None) for name in BASE + HEAD}
    biases: dict[str, Shape] = {f"{name}.bias": (None,) for name in BASE + HEAD}
    wanted = {GRID: (None, None), **matrices, **biases, "aabb": (2, 3)} | _embedding(tensors)
    checked = checked_tensors(path, tensors, wanted, "nerfacto")
    base: list[Layer] = [(checked[f"{name}.weight"], checked[f"{name}.bias"]) for name in BASE]
    head: list[Layer] = [(checked[f"{name}.weight"], checked[f"{name}.bias"]) for name in HEAD]
    if head[0][0].shape[1] < HARMONICS:
        raise InputError(f"{path}: {HEAD[0]}.weight: expected at least {HARMONICS} inputs")
    head[0] = (seeing_unit_directions(head[0][0]), head[0][1])
    return Parts(checked[GRID], base, head, checked)


def _unpacked(path: Path, tensors: Tensors, sizes: HashgridSizes, settings: dict[str, Any]) -> Parts:
    """Those of tiny-cuda-nn's vectors."""
    packed = next(packed for packed in PACKED if packed.base[0] in tensors)
    for name in packed.again:
        tensors.pop(name, None)
    vectors: dict[str, Shape] = dict.fromkeys((*packed.base, packed.head), (None,))
    wanted = {**vectors, "aabb": (2, 3)} | _embedding(tensors)
    checked = checked_tensors(path, tensors, wanted, "nerfacto of tiny-cuda-nn")
    vector = torch.cat([checked[name] for name in packed.base])
    width, wide = (_whole(path, settings, name, 64) for name in ("hidden_dim", "hidden_dim_color"))
    codes = checked[EMBEDDING].shape[1] if EMBEDDING in checked else 0
    rows, channels = table_shape(sizes)
    shape = sizes.levels * channels, width, 1, 1 + CODE
    base = _network(path, packed.base[0], shape, len(vector), rows * channels)
    head = _network(path, packed.head, (HARMONICS + CODE + codes, wide, 2, 3), len(checked[packed.head]), 0)
    table = vector[base.count :].reshape(rows, channels)
    return Parts(table, base.unpacked(vector, fed=0), head.unpacked(checked[packed.head], fed=1), checked)


def _network(path: Path, name: str, shape: tuple[int, int, int, int], count: int, others: int) -> Perceptron:
    network = fitting(*shape, count - others)
    if network is None:
        expected = " or ".join(f"{Perceptron(*shape, multiple).count + others:,}" for multiple in MULTIPLES)
        raise InputError(f"{path}: {name}: expected {expected} numbers for the sizes of its run, found {count:,}")
    return network


def _embedding(tensors: Tensors) -> dict[str, Shape]:
    return {EMBEDDING: (None, None)} if EMBEDDING in tensors else {}


def _seen(path: Path, parts: Parts, settings: dict[str, Any]) -> list[Layer]:
    """The colour network without the inputs that are the embedding, which is a constant."""
    embedding, (weight, bias) = parts.others.get(EMBEDDING), parts.head[0]
    if embedding is None:
        return parts.head
    codes = embedding.shape[1]
    if not 0 < codes < weight.shape[1]:
        raise InputError(f"{path}: {EMBEDDING}: expected fewer numbers than the colour network sees, found {codes}")
    if settings.get("use_average_appearance_embedding"):
        constant = weight[:, -codes:] @ embedding.mean(0)
        bias = constant if bias is None else bias + constant
    return [(weight[:, :-codes], bias), *parts.head[1:]]


def _sizes(path: Path, known: Mapping[str, Tensor], settings: dict[str, Any], storage: str) -> HashgridSizes:
    """Of the grid: those that the checkpoint holds, and the others from the settings."""

    def size(name: str, otherwise: int) -> int:
        if name in known and known[name].numel() == 1:
            return int(known[name])
        return _whole(path, settings, name, otherwise)

    return table_sizes(
        path,
        size("num_levels", 16),
        _whole(path, settings, "features_per_level", 2),
        size("log2_hashmap_size", 19),
        _whole(path, settings, "base_res", 16),
        size("max_res", 2048),
        storage,
    )


def _space(path: Path, aabb: Tensor, settings: dict[str, Any]) -> Space:
    """The whole world around the box of side 2, or the box of the run."""
    if not settings.get("disable_scene_contraction"):
        return Space(contraction="cube")
    x0, y0, z0, x1, y1, z1 = aabb.flatten().tolist()
    try:
        return Space((x0, y0, z0, x1, y1, z1))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _whole(path: Path, settings: dict[str, Any], name: str, otherwise: int) -> int:
    value = settings.get(name, otherwise)
    if not isinstance(value, int) or not 1 <= value <= 1 << 20:
        raise InputError(f"{path}: the setting {name} of its run: expected a whole number, found {value!r:.40}")
    return value


def _number(path: Path, settings: dict[str, Any], name: str, otherwise: float) -> float:
    value = settings.get(name, otherwise)
    if not isinstance(value, int | float) or not 0 < value < 1e6:
        raise InputError(f"{path}: the setting {name} of its run: expected a number above 0, found {value!r:.40}")
    return float(value)
