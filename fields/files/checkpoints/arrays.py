"""NumPy archives, `.npz`: a zip file of named arrays, read without trusting what it says of itself.

The headers of the arrays are read first, and nothing else; then one array at a time, whole or in parts. Opening one
runs no code from it: arrays of objects, which are pickles, are refused.
"""

from __future__ import annotations

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldcast.errors import InputError

SUFFIX = ".npy"
SMALL = 1 << 26  # bytes that an archive may ask for, however small it is
SQUEEZED = 50  # how many times smaller than itself an array is at most stored, if it is larger than that
PART = 1 << 24  # bytes that are taken out of an archive at once

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Member:
    """What an archive says of an array. stored: how many bytes of the file it takes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Archive:
    """The arrays of a file, none of which is read yet."""

    path: Path
    members: dict[str, Member]

    def read(self, name: str) -> Array:
        """A whole array. Raises InputError for one that is much larger than what it takes of the file."""
        member = self.members[name]
        if member.nbytes > max(SMALL, SQUEEZED * member.stored):
            raise InputError(
                f"{self.path}: {name}: {member.stored:,} bytes unpack to {member.nbytes:,}: more than a grid has"
            )
        flat = np.zeros(math.prod(member.shape), member.dtype)
        at = 0
        for part in self._parts(name, max(1, PART // member.dtype.itemsize)):
            flat[at : at + len(part)] = part
            at += len(part)
        return flat.reshape(member.shape)

    def slabs(self, name: str, thickness: int) -> Iterator[Array]:
        """An array in order, some of its first axis at a time; the memory holds one of these parts."""
        shape = self.members[name].shape
        for part in self._parts(name, thickness * math.prod(shape[1:])):
            yield part.reshape(-1, *shape[1:])

    def _parts(self, name: str, count: int) -> Iterator[Array]:
        """The numbers of an array, `count` at a time."""
        member = self.members[name]
        left = math.prod(member.shape)
        with _complaints(self.path), zipfile.ZipFile(self.path) as archive, archive.open(name + SUFFIX) as file:
            _header(file)
            while left:
                size = min(count, left) * member.dtype.itemsize
                data = file.read(size)
                if len(data) != size:
                    raise InputError(f"{self.path}: {name}: ends before {member.nbytes:,} bytes")
                yield np.frombuffer(data, member.dtype)
                left -= min(count, left)


def open_archive(path: Path) -> Archive:
    """The headers of an archive, checked. Raises InputError, one line, for what is none, or holds more than numbers."""
    if not path.is_file():
        raise InputError(f"{path}: " + ("expected a file, found a folder" if path.is_dir() else "no such file"))
    members = {}
    with _complaints(path), zipfile.ZipFile(path) as archive:
        if sum(info.compress_size for info in archive.infolist()) > path.stat().st_size:
            raise InputError(f"{path}: a damaged archive (its parts are larger than itself)")
        for info in archive.infolist()[:256]:
            name = info.filename.removesuffix(SUFFIX)
            if name == info.filename:
                raise InputError(f"{path}: {name:.80}: expected arrays alone, whose names end in {SUFFIX}")
            with archive.open(info) as file:
                shape, dtype = _header(file)
                if dtype.kind not in "biuf":
                    raise InputError(f"{path}: {name:.80}: expected numbers, found {dtype!s:.40}")
                member = Member(shape, dtype, info.compress_size)
                if info.file_size != file.tell() + member.nbytes:
                    raise InputError(f"{path}: {name:.80}: expected {member.nbytes:,} bytes, found {info.file_size:,}")
            members[name] = member
    return Archive(path, members)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type of the array that a file begins with; ValueError if there is none."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"an array of version {version[0]}.{version[1]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        shape, fortran, dtype = readers[version](file)
    if fortran and sum(side > 1 for side in shape) > 1:
        raise ValueError("an array in Fortran's order")
    if any(side < 0 for side in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, dtype


@contextmanager
def _complaints(path: Path) -> Iterator[None]:
    """What is wrong with an archive, in one line."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        OverflowError,
        MemoryError,
        SyntaxError,
        tokenize.TokenError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a whole archive of arrays ({reason:.120})") from None
