"""The kinds of field, and the one table that names them: a new kind is one file here and one line below."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

import torch

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.kinds.cp import CpField
from fieldcast.fields.kinds.hashgrid import HashgridField
from fieldcast.fields.kinds.hybrid import HybridField
from fieldcast.fields.kinds.mlp import MlpField
from fieldcast.fields.kinds.nerf import NerfField
from fieldcast.fields.kinds.planes import PlanesField
from fieldcast.fields.kinds.tensorf import TensorfField
from fieldcast.fields.kinds.vm import VmField
from fieldcast.fields.kinds.voxels import VoxelsField
from fieldcast.fields.spec import FieldSpec, read

KINDS: dict[str, type[Field]] = {
    "mlp": MlpField,
    "hashgrid": HashgridField,
    "vm": VmField,
    "cp": CpField,
    "voxels": VoxelsField,
    "planes": PlanesField,
    "hybrid": HybridField,
    "nerf": NerfField,
    "tensorf": TensorfField,
}


def kind_class(kind: str) -> type[Field]:
    """The class of a kind; an unknown name lists the valid ones."""
    if kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"unknown kind {kind!r}: choose from {', '.join(KINDS)}{hint}")
    return KINDS[kind]


def default_spec(kind: str, **shared: Any) -> FieldSpec:
    """The spec of a kind at its default sizes; `shared` are other attributes of `FieldSpec`."""
    cls = kind_class(kind)
    return FieldSpec(**{"kind": kind, "sizes": cls.Sizes(), "density": cls.default_density, **shared})


def spec_from_json(data: Any, what: str) -> FieldSpec:
    """The inverse of `FieldSpec.to_json`, checked; `what` begins the error messages."""
    spec = read(FieldSpec, data, what)
    try:
        sizes = kind_class(spec.kind).Sizes
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    return replace(spec, sizes=read(sizes, spec.sizes, f"{what}.sizes"))


def build(spec: FieldSpec, seed: int | None = None) -> Field:
    """A field with fresh parameters: those of a seed, or drawn from torch's global generator."""
    if seed is None:
        return kind_class(spec.kind)(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return kind_class(spec.kind)(spec)
