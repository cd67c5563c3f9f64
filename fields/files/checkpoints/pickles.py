"""Checkpoints that torch has pickled, read as plain tensors: opening one runs no code from it."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.atomic import atomic_path


class Bytes:
    """A numpy array of bytes in a pickle, such as packed bits: what it holds, and no array.

    numpy itself would make arrays of any objects, and take the shape and the type of what it is told on trust.
    """

    values: UInt8[Tensor, " n"] = torch.zeros(0, dtype=torch.uint8)

    def __setstate__(self, state: Any) -> None:
        """What numpy keeps of an array: a version, its shape, type and order, and what it holds."""
        plain = isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], np.dtype)
        if not plain or state[2] != np.uint8 or not isinstance(state[4], bytes) or state[1] != (len(state[4]),):
            raise ValueError("numpy arrays of anything but a row of bytes are not read")
        self.values = _tensor_of(state[4])


def _new_bytes(*_: Any) -> Bytes:
    """Where numpy makes an empty array, of which it is told later what it holds."""
    return Bytes()


def _bytes_of(data: Any, kind: Any = "") -> Bytes:
    """What `numpy.frombuffer` says of bytes."""
    if not isinstance(data, bytes) or kind != "uint8":
        raise ValueError("numpy arrays of anything but a row of bytes are not read")
    found = Bytes()
    found.values = _tensor_of(data)
    return found


def _tensor_of(data: bytes) -> UInt8[Tensor, " n"]:
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


ARRAYS: list[Any] = [
    type(np.dtype(np.uint8)),
    (Bytes, "numpy.ndarray"),
    (_new_bytes, "numpy.core.multiarray._reconstruct"),
    (_new_bytes, "numpy._core.multiarray._reconstruct"),
    (_bytes_of, "numpy.frombuffer"),
]


def read_pickle(path: Path) -> Any:
    """What a checkpoint holds: tensors, containers, numbers and text. Raises InputError, one line, for anything else.

    torch reads it with an unpickler that knows those, a few numpy scalars and rows of bytes, and refuses everything
    else.
    """
    if not path.is_file():
        raise InputError(f"{path}: " + ("expected a file, found a folder" if path.is_dir() else "no such file"))
    _check_archive(path)
    scalar = np.float64(0).__reduce__()[0]
    plain: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype(np.float64))]
    try:
        with torch.serialization.safe_globals(plain + ARRAYS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it may not be able to read: it says so if it is not
            # The unpickler of weights_only knows data alone; what else is in the file raises.
            found = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:  # the unpickler trips over a damaged file in every way that Python has
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a whole checkpoint of plain tensors ({reason:.120})") from None
    _check_tensors(path, found)
    return found


def write_pickle(found: Any, path: Path, force: bool) -> None:
    """Writes what `read_pickle` gives, whole or not at all."""
    archive = (
        io.BytesIO()
    )  # torch says of a full disk what nobody else does; in an archive without a name nothing varies
    torch.save(found, archive)
    with atomic_path(path, force) as stump:
        stump.write_bytes(archive.getbuffer())


def _check_tensors(path: Path, found: Any) -> None:
    """Raises InputError for a tensor that shows the same numbers again and again: a copy would fill the memory."""
    waiting, seen = [("", found)], set[int]()  # a list may hold itself
    while waiting:
        name, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}".lstrip("."), item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{name}[{place}]", item) for place, item in enumerate(value)]
        elif isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise InputError(f"{path}: {name:.80}: expected plain numbers, found a tensor of another make")
            held = value.untyped_storage().nbytes()
            if value.numel() * value.element_size() > held:
                raise InputError(
                    f"{path}: {name:.80}: expected {list(value.shape)} numbers, found {held:,} bytes of them"
                )


def _check_archive(path: Path) -> None:
    """Raises InputError if what an archive unpacks to is larger than itself: torch stores, and does not compress."""
    if not zipfile.is_zipfile(path):
        return  # as torch wrote them before 1.6
    try:
        with zipfile.ZipFile(path) as archive:
            squeezed = [info for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
            total = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: a damaged archive ({error})") from None
    if squeezed or total > path.stat().st_size:
        raise InputError(
            f"{path}: unpacks to {total:,} bytes: torch does not compress its checkpoints, this one is not its"
        )
