"""The named tensors of a checkpoint: which must be there, and of which shapes. Nothing is ignored silently."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.kinds import spec_from_json
from fieldcast.fields.spec import FieldSpec

Shape = tuple[int | None, ...]


def tensors_of(path: Path, found: Any, where: str, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a state dict whose names begin with `prefix`, without it; `where` it lies stands in errors."""
    if not isinstance(found, dict):
        raise InputError(f"{path}: {where}: expected named tensors, found {type(found).__name__}")
    named = {str(k).removeprefix(prefix): v for k, v in found.items() if str(k).startswith(prefix)}
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{path}: {where}: {prefix}{name:.80}: expected a tensor, found {type(value).__name__}")
    return named


def checked_tensors(
    path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Shape], what: str, ignored: Collection[str] = ()
) -> dict[str, Tensor]:
    """The wanted ones in float32: all are there, finite, of those shapes (None: any length), and nothing else is.

    what: what the checkpoint is not, if they are not. ignored: names that may be there beside them. Raises InputError.
    """
    missing = [name for name in wanted if name not in tensors]
    stray = [name for name in tensors if name not in wanted and name not in ignored]
    if missing or stray:
        parts = [f"{kind} {_listed(some)}" for kind, some in (("missing", missing), ("unexpected", stray)) if some]
        raise InputError(f"{path}: not a whole {what}: {'; '.join(parts)}")
    for name, shape in wanted.items():
        found = tuple(tensors[name].shape)
        if len(found) != len(shape) or any(w not in (None, f) for w, f in zip(shape, found, strict=True)):
            expected = ", ".join("any" if length is None else str(length) for length in shape)
            raise InputError(f"{path}: {name}: expected [{expected}] numbers, found {list(found)}")
        if not bool(tensors[name].isfinite().all()):
            raise InputError(f"{path}: {name}: expected finite numbers")
    return {name: tensors[name].detach().float() for name in wanted}


def checked_spec(path: Path, spec: FieldSpec) -> FieldSpec:
    """The spec, if what was found in a checkpoint is in the ranges of our kinds. Raises InputError."""
    return spec_from_json(spec.to_json(), str(path))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"{name:.80}" for name in names[:5]) + more
