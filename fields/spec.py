"""What a field is, apart from its tensors: a dataclass that rebuilds it, and its JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from fieldcast.errors import InputError
from fieldcast.fields.heads import ColorActivation, DensityActivation
from fieldcast.fields.space import Space, Vector3

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """Everything that rebuilds a field, but for its tensors.

    kind: a name in `KINDS`. sizes: that kind's own dataclass. space: where the scene is. density, color: activations.
    background: what is seen where nothing is, sRGB 0..1. occupancy: cells per side of the grid that says where the
    field is not empty, a multiple of 8. steps: samples across the box diagonal that the field was made for, which is
    what renderers use unless told otherwise.
    """

    kind: str
    sizes: Any
    space: Space = field(default_factory=Space)
    density: DensityActivation = field(default_factory=DensityActivation)
    color: ColorActivation = "sigmoid"
    background: Vector3 = (1.0, 1.0, 1.0)
    occupancy: Annotated[int, Meta(ge=8, le=1024, multiple_of=8)] = 128
    steps: Annotated[int, Meta(ge=8, le=1 << 16)] = 1024

    def __post_init__(self) -> None:
        if not all(0 <= c <= 1 for c in self.background):
            raise InputError(f"background: expected sRGB values from 0 to 1, found {self.background}")

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts."""
        builtins: dict[str, Any] = msgspec.to_builtins(self)
        return builtins

    def resized(self, sizes: dict[str, Any]) -> FieldSpec:
        """The same with some sizes changed; values may be text, as typed on a command line."""
        if not sizes:
            return self
        current = msgspec.to_builtins(self.sizes)
        for name, value in sizes.items():
            if name not in current:
                raise InputError(f"{self.kind} has no size {name!r}; its sizes are {', '.join(current)}")
            if isinstance(value, str) and isinstance(current[name], list | tuple):
                value = [_whole_number(part) for part in value.split(",")] if value else []
            current[name] = value
        return replace(self, sizes=read(type(self.sizes), current, f"sizes of {self.kind}", lax=True))


def read(cls: type[T], data: Any, what: str, lax: bool = False) -> T:
    """A dataclass from its JSON, checked: types, ranges and names; an InputError says where and why.

    lax: also take numbers written as text.
    """
    try:
        value = msgspec.convert(data, type=cls, strict=not lax)
    except (msgspec.ValidationError, InputError, ValueError, OverflowError) as error:
        raise InputError(f"{what}: {error}") from None
    stray = _stray_keys(data, msgspec.to_builtins(value))
    if stray:
        raise InputError(f"{what}: unknown {', '.join(stray)}")
    return value


def _whole_number(text: str) -> int | str:
    """The number that was typed, or the text itself for `read` to complain about."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text


def _stray_keys(given: Any, known: Any, path: str = "") -> list[str]:
    """The paths of keys in `given` that its checked form does not have."""
    if not isinstance(given, dict) or not isinstance(known, dict):
        return []
    stray = [f"{path}{key}" for key in given if key not in known]
    return stray + [s for k in given if k in known for s in _stray_keys(given[k], known[k], f"{path}{k}.")]
