"""The arrays of a pickle, read as plain data: opening one runs no code from it.

Body models have been handed out as pickles that hold arrays of numpy, sparse matrices of scipy and arrays of chumpy.
Whatever class a pickle asks for, it gets one of those here, which remember what they are told and do nothing; what is
asked for and is not data ends the reading. (torch's reader of checkpoints, `fields/files/checkpoints/pickles.py`, reads
only what torch has written.)
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fieldcast.errors import InputError

Numbers = np.ndarray[Any, np.dtype[Any]]
LARGEST = 1 << 24  # numbers that a sparse matrix may have when it is spread out


class RefusedError(Exception):
    """A pickle asks for something that is not data."""


class Held:
    """An object of a pickle: what it was made of and what it is told afterwards.

    Its subclasses are all that a pickle can name. They have __setstate__, so that it cannot change the classes.
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


class Type(Held):
    """numpy.dtype, of plain numbers: a letter and a number of bytes, and in its state the order of bytes."""


class Array(Held):
    """numpy.ndarray. Its state: a version, shape, type, whether in Fortran's order, and bytes."""


class Buffer(Held):
    """numpy.ndarray, as protocol 5 makes it: of bytes, type, shape and order."""


class Sparse(Held):
    """scipy.sparse.csc_matrix. Its state: data, indices, indptr and shape."""


class Chumpy(Held):
    """An array of chumpy. Its state: x, the array; or a, idxs and preferred_shape: some numbers of another array."""


class Rebuilt(Held):
    """What Python 2 makes objects with: gives one of the class that it is told."""

    def __new__(cls, kind: Any = None, *_: Any, **__: Any) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, Held)):
            raise ValueError("an object of no class")
        return kind()


class Encoded(Held):
    """What old protocols make bytes with: gives the bytes of a text."""

    def __new__(cls, text: Any = "", coding: Any = "latin1", *_: Any, **__: Any) -> Any:
        if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
            raise ValueError("bytes of something else than text")
        return text.encode("latin1")


CLASSES: dict[str, type[Held]] = {
    "numpy.dtype": Type,
    "numpy.ndarray": Held,
    "numpy.core.multiarray._reconstruct": Array,
    "numpy._core.multiarray._reconstruct": Array,
    "numpy.core.numeric._frombuffer": Buffer,
    "numpy._core.numeric._frombuffer": Buffer,
    "numpy.core.multiarray.scalar": Held,
    "numpy._core.multiarray.scalar": Held,
    "scipy.sparse.csc.csc_matrix": Sparse,
    "scipy.sparse._csc.csc_matrix": Sparse,
    "scipy.sparse._csc.csc_array": Sparse,
    "copy_reg._reconstructor": Rebuilt,
    "copyreg._reconstructor": Rebuilt,
    "_codecs.encode": Encoded,
}
INERT = ("object", "set", "frozenset")  # of Python itself: what chumpy's arrays have about them


class Unpickler(pickle._Unpickler):
    """Python's, in Python: the one in C makes room for as many objects as a pickle claims to have."""

    def find_class(self, module: str, name: str) -> Any:
        """The class that stands for another."""
        if f"{module}.{name}" in CLASSES:
            return CLASSES[f"{module}.{name}"]
        if module in ("__builtin__", "builtins") and name in INERT:
            return Held
        if re.fullmatch(r"chumpy(\.\w+)*", module):
            return Chumpy
        raise RefusedError(f"{module}.{name}")


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, Numbers]:
    """Those of the named arrays that a pickled dict has. Raises InputError, one line, for what is not data."""
    try:
        found = Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except RefusedError as refused:
        raise InputError(f"{path}: the pickle asks for {refused!s:.80}, which is not data: nothing was run") from None
    except Exception as error:  # damaged pickles fail in every way that Python has
        raise InputError(f"{path}: not a whole pickle of arrays ({reason(error)})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a dict of arrays, found {type(found).__name__}")
    arrays = {}
    for name in names:
        if name in found:
            try:
                arrays[name] = numbers(found[name])
            except Exception as error:
                raise InputError(f"{path}: {name}: not an array of plain numbers ({reason(error)})") from None
    return arrays


def numbers(held: Any) -> Numbers:
    """The array that an object of a pickle stands for; an Exception where it stands for none."""
    for kind, read in READERS.items():
        if type(held) is kind:
            return read(held)
    raise ValueError(f"found {type(held).__name__}")


def _array(held: Array) -> Numbers:
    _, shape, kind, fortran, data = held.state
    return _shaped(data, kind, shape, "F" if fortran else "C")


def _buffer(held: Buffer) -> Numbers:
    data, kind, shape, order = held.made_of
    return _shaped(data, kind, shape, "F" if order == "F" else "C")


def _shaped(data: Any, kind: Any, shape: Any, order: Any) -> Numbers:
    """Bytes as an array. Python 2 wrote bytes as what is now text."""
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data) if isinstance(data, bytearray) else data
    dtype = _dtype(kind)
    if not isinstance(raw, bytes) or len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array {shape} of {dtype} that is not as long")
    return np.frombuffer(raw, dtype).reshape(shape, order=order) if raw else np.zeros(shape, dtype)


def _dtype(kind: Any) -> np.dtype[Any]:
    """The type of numbers."""
    code, order = kind.made_of[0], kind.state[1] if kind.state else "="
    if type(kind) is not Type or not re.fullmatch("b1|[iu][1248]|f[248]", code) or order not in ("<", ">", "=", "|"):
        raise ValueError(f"an array of {code!s:.20}")
    found: np.dtype[Any] = np.dtype(order + code)
    return found


def _sparse(held: Sparse) -> Numbers:
    """A matrix with columns one after the other, with all its zeros."""
    values, rows, ends = (numbers(held.state[name]) for name in ("data", "indices", "indptr"))
    height, width = (int(side) for side in held.state["_shape" if "_shape" in held.state else "shape"])
    counts = ends[1:].astype(np.int64) - ends[:-1].astype(np.int64)
    whole = len(counts) == width and len(values) == len(rows) == ends[-1] and ends[0] == 0 and (counts >= 0).all()
    if not whole or not 0 < height * width <= LARGEST or not ((rows >= 0) & (rows < height)).all():
        raise ValueError("a sparse matrix that does not fit together")
    full = np.zeros((height, width))
    np.add.at(full, (rows, np.repeat(np.arange(width), counts)), values)
    return full


def _chumpy(held: Chumpy) -> Numbers:
    if "x" in held.state:
        return numbers(held.state["x"])
    some = numbers(held.state["a"]).ravel()[numbers(held.state["idxs"])]
    return some.reshape(held.state["preferred_shape"])


READERS: dict[type[Held], Callable[[Any], Numbers]] = {
    Array: _array,
    Buffer: _buffer,
    Sparse: _sparse,
    Chumpy: _chumpy,
}


def reason(error: Exception) -> str:
    """The first line of what is wrong with a damaged file."""
    return f"{str(error).splitlines()[0] if str(error) else type(error).__name__:.120}"
