"""Plain data out of a pickle or a joblib file: numbers, texts, lists, dicts and arrays. Opening one runs no code of it.

Bodies have been handed out as pickles that hold arrays of numpy, sparse matrices of scipy and arrays of chumpy; tracks
of people as joblib's, in which the numbers of an array follow a note of its type and shape. Whatever a pickle asks for,
it gets one of the classes here, which remember what they are told and do nothing: `numbers` makes arrays of them, one
by one as they are wanted. What is asked for and is not data ends the reading. Memory is bounded by the size of the
file, whatever it claims or however often it names the same thing. (torch's reader of checkpoints,
`fields/files/checkpoints/pickles.py`, reads only what torch has written.)
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fieldcast.errors import InputError

Numbers = np.ndarray[Any, np.dtype[Any]]
UNPACKED = 1 << 31  # bytes that a compressed file may unpack to
SPREAD = 1 << 24  # numbers that a sparse matrix may have when it is spread out
DIMENSIONS = 32  # of an array, at most
PYTHON = ("__builtin__", "builtins")
PLAIN = (bool, int, float, np.generic, np.ndarray)


class RefusedError(Exception):
    """A pickle asks for something that is not data."""


class Held:
    """An object of a pickle: what it was made of and what it is told afterwards.

    It and its subclasses are all that a pickle can name. They have __setstate__, so that it cannot change the classes.
    """

    made_of: tuple[Any, ...]
    state: Any

    def __new__(cls, *made_of: Any, **_: Any) -> Any:
        held = super().__new__(cls)
        held.made_of, held.state = made_of, None
        return held

    def __init__(self, *_: Any, **__: Any) -> None:
        """A pickle makes objects with this or without."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> Numbers:
        """What it stands for; any Exception where that is no array of plain numbers."""
        raise ValueError(f"found {type(self).__name__}")


class Type(Held):
    """numpy.dtype: a letter and a number of bytes, and in its state the order of bytes."""


class Whole(Held):
    """An array that has its numbers itself."""


class Array(Whole):
    """numpy.ndarray. Its state: a version, shape, type, whether in Fortran's order, and bytes."""

    def array(self) -> Numbers:
        _, shape, kind, fortran, data = self.state
        return _shaped(data, kind, shape, "F" if fortran else "C")


class Buffer(Whole):
    """numpy.ndarray, as protocol 5 makes it: of bytes, type, shape and order."""

    def array(self) -> Numbers:
        return _shaped(*self.made_of)


class Scalar(Whole):
    """A number of numpy: of a type and bytes."""

    def array(self) -> Numbers:
        kind, data = self.made_of
        return _shaped(data, kind, ())


class Note(Whole):
    """What joblib writes before the numbers of an array. Its state: dtype, shape and order."""

    raw: bytes | None = None

    def take(self, file: io.BytesIO) -> None:
        """The numbers, from where the file is. Those of objects are another pickle, which is read over."""
        code = self.state["dtype"].made_of[0]
        if code.startswith("O"):
            Unpickler(file).load()
            return
        if not re.fullmatch(r"[biufcmMSUV]\d{1,6}", code):
            raise ValueError(f"an array of {code:.20}")
        if self.state.get("numpy_array_alignment_bytes") is not None:
            file.read(file.read(1)[0])
        self.raw = file.read(math.prod(_shape(self.state["shape"])) * np.dtype(code).itemsize)

    def array(self) -> Numbers:
        return _shaped(self.raw, self.state["dtype"], self.state["shape"], self.state["order"])


class Sparse(Held):
    """scipy.sparse.csc_matrix: columns one after the other. Its state: data, indices, indptr and shape."""

    def array(self) -> Numbers:
        """With all its zeros."""
        values, rows, ends = (_line(self.state[name]) for name in ("data", "indices", "indptr"))
        height, width = _shape(self.state["_shape" if "_shape" in self.state else "shape"])
        counts = ends[1:].astype(np.int64) - ends[:-1].astype(np.int64)
        whole = len(counts) == width and len(values) == len(rows) == ends[-1] and ends[0] == 0
        bounded = ((counts >= 0) & (counts <= len(rows))).all()  # or their sum could overflow
        if not whole or not bounded or not 0 < height * width <= SPREAD or not ((rows >= 0) & (rows < height)).all():
            raise ValueError("a sparse matrix that does not fit together")
        full = np.zeros((height, width))
        np.add.at(full, (rows, np.repeat(np.arange(width), counts)), values)
        return full


class Chumpy(Held):
    """An array of chumpy. Its state: x, the array; or a, idxs and preferred_shape: some numbers of another array."""

    def array(self) -> Numbers:
        if "x" in self.state:
            return _array(self.state["x"])
        some = _array(self.state["a"]).ravel()[_line(self.state["idxs"])]
        return some.reshape(self.state["preferred_shape"])


class Encoded(Held):
    """Bytes, as old protocols make them: of a text and the name of a coding."""


class Rebuilt(Held):
    """What Python 2 makes objects with: gives one of the class that it is told."""

    def __new__(cls, kind: Any = None, *_: Any, **__: Any) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, Held)):
            raise ValueError("an object of no class")
        return kind()


class Ordered(Held):
    """collections.OrderedDict: gives an empty dict, which is filled afterwards."""

    def __new__(cls, *made_of: Any, **_: Any) -> Any:
        if made_of:
            raise ValueError("a dict that is made of something")
        return {}


CLASSES: dict[str, type[Held]] = {
    "numpy.dtype": Type,
    "numpy.ndarray": Held,
    "scipy.sparse.csc.csc_matrix": Sparse,
    "scipy.sparse._csc.csc_matrix": Sparse,
    "scipy.sparse._csc.csc_array": Sparse,
    "copy_reg._reconstructor": Rebuilt,
    "copyreg._reconstructor": Rebuilt,
    "collections.OrderedDict": Ordered,
    "joblib.numpy_pickle.NumpyArrayWrapper": Note,
    "_codecs.encode": Encoded,
    **{f"numpy.{core}.multiarray._reconstruct": Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": Scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": Buffer for core in ("core", "_core")},
    **{f"{python}.bytes": Encoded for python in PYTHON},  # none, in old protocols
    **{f"{python}.{name}": Held for python in PYTHON for name in ("object", "set", "frozenset")},  # chumpy's have them
}


class Unpickler(pickle._Unpickler):
    """Python's, in Python: the one in C makes room for as many objects as a pickle claims to have, and cannot be told
    what to do after an object.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")  # which the bytes of Python 2 survive
        self.source = file

    def find_class(self, module: str, name: str) -> Any:
        """The class that stands for another."""
        if re.fullmatch(r"chumpy(\.\w+)*", module):
            return Chumpy
        if f"{module}.{name}" not in CLASSES:
            raise RefusedError(f"{module}.{name}")
        return CLASSES[f"{module}.{name}"]

    def get_extension(self, code: int) -> Any:
        """Python would give whatever the program has registered under a number, and has used before."""
        raise RefusedError(f"extension {code}")

    def build(self) -> None:
        """An object's state; of joblib's notes, what is behind it too."""
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
        top = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(top, Note):
            top.take(self.source)

    def bytearray(self) -> None:
        """Python's own makes room for as many bytes as are claimed."""
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = build
    dispatch[pickle.BYTEARRAY8[0]] = bytearray


def read_pickle(path: Path) -> Any:
    """What a file holds. Raises InputError, one line, for anything that is not plain data."""
    data = path.read_bytes()
    try:
        return Unpickler(io.BytesIO(_unpacked(data))).load()
    except RefusedError as refused:
        raise InputError(f"{path}: the pickle asks for {refused!s:.80}, which is not data: nothing was run") from None
    except Exception as error:  # damaged pickles fail in every way that Python has
        raise InputError(f"{path}: not a whole pickle of plain data ({reason(error)})") from None


def numbers(value: Any) -> Numbers:
    """The array that an object of a pickle stands for, or a number is; ValueError where it stands for none."""
    try:
        return _array(value)
    except Exception as error:
        raise ValueError(f"not an array of plain numbers ({reason(error)})") from None


def _array(value: Any) -> Numbers:
    found = value.array() if isinstance(value, Held) else np.asarray(value) if isinstance(value, PLAIN) else None
    if found is None or found.dtype.kind not in "biuf":
        raise ValueError(f"found {type(value).__name__}")
    return found


def _line(held: Any) -> Numbers:
    """An array of one dimension with its own numbers: others may hold each other, again and again."""
    found = _array(held)
    if not isinstance(held, Whole) or found.ndim != 1:
        raise ValueError("a list of numbers that is none")
    return found


def _shape(sides: Any) -> tuple[int, ...]:
    if not isinstance(sides, tuple) or len(sides) > DIMENSIONS or not all(type(n) is int and n >= 0 for n in sides):
        raise ValueError("an array of a shape that is none")
    return sides


def _shaped(data: Any, kind: Any, shape: Any, order: Any = "C") -> Numbers:
    """Bytes as an array. Python 2 wrote bytes as what is now text."""
    if type(data) is Encoded and data.made_of[1:] in ((), ("latin1",), ("latin-1",)):
        data = data.made_of[0] if data.made_of else b""
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data) if isinstance(data, bytearray) else data
    dtype, sides = _dtype(kind), _shape(shape)
    if not isinstance(raw, bytes) or len(raw) != math.prod(sides) * dtype.itemsize:
        raise ValueError(f"an array {sides} of {dtype} that is not as long")
    return (
        np.frombuffer(raw, dtype).reshape(sides, order="F" if order == "F" else "C") if raw else np.zeros(sides, dtype)
    )


def _dtype(kind: Any) -> np.dtype[Any]:
    """The type of numbers."""
    code, order = kind.made_of[0], kind.state[1] if kind.state else "="
    if type(kind) is not Type or not re.fullmatch("b1|[iu][1248]|f[248]", code) or order not in ("<", ">", "=", "|"):
        raise ValueError(f"an array of {code!s:.20}")
    found: np.dtype[Any] = np.dtype(order + code)
    return found


def _unpacked(data: bytes) -> bytes:
    if data[:1] != b"\x78":  # what zlib begins with; a pickle begins with 0x80
        return data
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(data, UNPACKED)
    if not unpacker.eof:
        raise ValueError(f"it unpacks to more than {UNPACKED:,} bytes, or is cut short")
    return found


def reason(error: Exception) -> str:
    """The first line of what is wrong with a damaged file."""
    return f"{str(error).splitlines()[0] if str(error) else type(error).__name__:.120}"
