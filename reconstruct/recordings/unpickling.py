"""Plain data out of a pickle or a joblib file: numbers, texts, lists, dicts, arrays. Opening one runs no code from it.

Whatever class a pickle asks for, it gets one of the three here, or none. joblib writes a pickle in which each array is
a note of its shape and type, followed by its numbers; all of it may be compressed (zlib). Arrays of anything but
numbers are read as empty ones.
"""

from __future__ import annotations

import io
import math
import pickle
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fieldcast.errors import InputError

LARGEST = 1 << 31  # bytes that a compressed file may unpack to
Numbers = np.ndarray[Any, np.dtype[Any]]


class Kind:
    """numpy.dtype: a letter and a number of bytes, and the order of bytes in its state."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """numpy.ndarray, and what makes one: it learns what it holds from its state."""

    values: Numbers

    def __init__(self, *_: Any) -> None:
        self.values = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.values = _shaped(data, kind, shape, "F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Numbers:
        return self.values.astype(dtype) if dtype is not None else self.values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __int__(self) -> int:
        return int(self.values)


class Note(Array):
    """What joblib writes before the numbers of an array."""

    def __setstate__(self, state: Any) -> None:
        self.state = dict(state)

    def fill(self, file: io.BytesIO) -> None:
        """Takes the numbers from where the file is; objects are another pickle there."""
        kind, shape = self.state["dtype"], self.state["shape"]
        if kind.dtype.hasobject:
            Unpickler(file).load()
            return
        if self.state.get("numpy_array_alignment_bytes") is not None:
            file.read(file.read(1)[0])
        self.values = _shaped(file.read(math.prod(shape) * kind.dtype.itemsize), kind, shape, self.state["order"])


def _shaped(data: Any, kind: Any, shape: Any, order: str) -> Numbers:
    if not isinstance(data, bytes) or not isinstance(kind, Kind) or kind.dtype.kind not in "biuf":
        return np.zeros(0)
    return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: Any, data: Any) -> Any:
    return _shaped(data, kind, (1,), "C")[0]


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> Numbers:
    return _shaped(bytes(data) if isinstance(data, bytes | bytearray) else None, kind, shape, order)


def _encoded(text: str, _: str) -> bytes:
    """Bytes, as protocol 2 has them."""
    return text.encode("latin1")


KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): Kind,
    ("numpy", "ndarray"): Array,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): Note,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encoded,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class Unpickler(pickle._Unpickler):
    """The plain Python one, which can be told what to do after each object."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.source = file

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise ValueError(f"it asks for {module}.{name}, which is not data")
        return KNOWN[module, name]

    def build(self) -> None:
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
        top = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(top, Note):
            top.fill(self.source)

    dispatch[pickle.BUILD[0]] = build


def read_pickle(path: Path) -> Any:
    """What a file holds. Raises InputError, one line, for anything that is not plain data."""
    data = path.read_bytes()
    try:
        return Unpickler(io.BytesIO(_unpacked(data))).load()
    except Exception as error:  # a damaged pickle makes the unpickler raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: expected a pickle of plain data, found something else ({reason:.120})") from None


def _unpacked(data: bytes) -> bytes:
    if data[:1] != b"\x78":  # what zlib begins with; a pickle begins with 0x80
        return data
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(data, LARGEST)
    if not unpacker.eof:
        raise ValueError(f"it unpacks to more than {LARGEST:,} bytes, or is cut short")
    return found
