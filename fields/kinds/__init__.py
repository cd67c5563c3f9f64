"""The kinds of field, and the two tables that name them: a new kind is one file here and one line below."""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
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

MADE = {
    "composed": "fieldcast.fields.composed:Composed",
    "shell": "fieldcast.reconstruct.avatars.shell:Shell",
    "posed": "fieldcast.reconstruct.avatars.posed:Posed",
}
"""Kinds that are made of other fields, not taught, by module and class. Files hold them, with the specs of what they
are made of inside their sizes. They may live in rooms that build on this one: each is imported when it is asked for.
"""

DEEPEST, MOST = 40, 1024  # levels of a spec's JSON, four for each field within a field, and how many fields it may name


def kind_class(kind: str) -> type[Field]:
    """The class of a kind that can be taught; an unknown name lists the valid ones."""
    if kind in MADE:
        raise InputError(f"a {kind} is made of other fields, not taught: choose from {', '.join(KINDS)}")
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
    _check_nesting(data, what)
    return _with_sizes(read(FieldSpec, data, what), what)


def has_file(spec: FieldSpec) -> bool:
    """Whether files hold fields of a spec: of a kind that is in a table, and made of such if of others."""
    if spec.kind not in MADE:
        return spec.kind in KINDS
    try:
        spec_from_json(spec.to_json(), "spec")
    except InputError:
        return False
    return True


def build(spec: FieldSpec, seed: int | None = None) -> Field:
    """A field with fresh parameters: those of a seed, or drawn from torch's global generator."""
    if seed is None:
        return _any_class(spec.kind)(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _any_class(spec.kind)(spec)


def _any_class(kind: str) -> type[Field]:
    """The class of a kind, be it taught or made of others."""
    if kind not in MADE:
        return kind_class(kind)
    module, name = MADE[kind].split(":")
    found: type[Field] = getattr(import_module(module), name)
    return found


def _with_sizes(spec: FieldSpec, what: str) -> FieldSpec:
    """A spec whose sizes were plain JSON, and so of the specs within them."""
    try:
        sizes = _any_class(spec.kind).Sizes
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    return replace(spec, sizes=_within(read(sizes, spec.sizes, f"{what}.sizes"), f"{what}.sizes"))


def _within(value: Any, what: str) -> Any:
    """Sizes, and what is in them, in which each spec has sizes of its own kind."""
    if isinstance(value, FieldSpec):
        return _with_sizes(value, what)
    if isinstance(value, tuple):
        return tuple(_within(part, f"{what}[{i}]") for i, part in enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _within(getattr(value, f.name), f"{what}.{f.name}") for f in fields(value)}
        return replace(value, **changed)
    return value


def _check_nesting(data: Any, what: str) -> None:
    """Raises InputError if fields within fields are more or deeper than anybody makes; nothing recurses before that."""
    level, named = [data] if isinstance(data, dict | list) else [], 0
    for _ in range(DEEPEST):
        values = [v for part in level for v in (part.values() if isinstance(part, dict) else part)]
        level = [value for value in values if isinstance(value, dict | list)]
        named += sum(isinstance(value, dict) and "kind" in value for value in level)
        if named > MOST:
            raise InputError(f"{what}: expected at most {MOST} fields within the field, found more")
        if not level:
            return
    raise InputError(f"{what}: expected at most {DEEPEST} levels of fields within fields, found more")
