"""Named tensors and a JSON object in one safetensors file. Opening one can run no code."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.files.atomic import atomic_path

KEY = "fieldcast"  # the metadata entry that holds our JSON


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any], force: bool = False) -> None:
    """Writes all or nothing; an existing file is only replaced with `force`."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with atomic_path(path, force) as stump:
        try:
            save_file(plain, stump, metadata={KEY: json.dumps(meta, sort_keys=True)})
        except SafetensorError as error:
            raise _write_error(path, error) from None


def _write_error(path: Path, error: SafetensorError) -> Exception:
    """The OSError that safetensors tells of in its own words, such as `I/O error: ... (os error 28)`."""
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return FieldcastError(f"{path}: cannot be written: {error}")
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))


def read_meta(path: Path) -> tuple[dict[str, Any], dict[str, tuple[list[int], str]]]:
    """The JSON object of a file, and the shape and dtype of each of its tensors, without reading them."""
    with _opened(path) as file:
        shapes = {}
        for name in file.keys():  # noqa: SIM118 -- not a dict
            view = file.get_slice(name)
            shapes[name] = (view.get_shape(), str(view.get_dtype()))
        return _meta(path, file), shapes


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON object of a file. Raises InputError if a number in it is not finite."""
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a dict
        meta = _meta(path, file)
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise InputError(f"{path}: tensor {name} holds {bad} values that are NaN or infinite")
    return tensors, meta


def _opened(path: Path) -> Any:
    """The open file, or one line on what is wrong with it."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: expected a file, found a folder")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def _meta(path: Path, file: Any) -> dict[str, Any]:
    text = (file.metadata() or {}).get(KEY)
    if text is None:
        raise InputError(f"{path}: a safetensors file, but not one of fieldcast's: it has no {KEY!r} metadata")
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its {KEY!r} metadata is not JSON ({error})") from None
    if not isinstance(meta, dict):
        raise InputError(f"{path}: its {KEY!r} metadata: expected an object, found {type(meta).__name__}")
    return meta
