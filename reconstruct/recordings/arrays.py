"""Arrays of numbers in the .npy and .npz files of other programs, which hold texts and objects beside them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fieldcast.errors import InputError

LARGEST = 1 << 30  # bytes of an array
Numbers = np.ndarray[Any, np.dtype[Any]]


def read_npy(path: Path) -> Numbers:
    """The numbers of an .npy file."""
    if not path.is_file():
        raise InputError(f"{path}: " + ("expected a file, found a folder" if path.is_dir() else "no such file"))
    with _complaints(path):
        # Mapped, a file that claims to be larger than it is fails before any memory is asked for.
        return _plain(np.array(np.load(path, mmap_mode="r", allow_pickle=False)))


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, Numbers]:
    """Those of the named arrays that an .npz file has; what else it holds is not read."""
    if not path.is_file():
        raise InputError(f"{path}: " + ("expected a file, found a folder" if path.is_dir() else "no such file"))
    found = {}
    with _complaints(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in names:
                if info.file_size > LARGEST:
                    raise ValueError(f"{name}: an array of {info.file_size:,} bytes")
                found[name] = _plain(np.lib.format.read_array(io.BytesIO(archive.read(info)), allow_pickle=False))
    return found


def npz_names(path: Path) -> list[str]:
    """The names of the arrays of an .npz file, none of which is read."""
    with _complaints(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _plain(array: Any) -> Numbers:
    found = np.asarray(array)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"an array of {found.dtype!s:.40} instead of numbers")
    return found


@contextmanager
def _complaints(path: Path) -> Iterator[None]:
    """What is wrong with a file, in one line."""
    try:
        yield
    except InputError:
        raise
    except (
        Exception
    ) as error:  # numpy and zipfile raise almost anything on damaged files: SyntaxError, MemoryError, ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: expected arrays of numbers, found something else ({reason:.120})") from None
