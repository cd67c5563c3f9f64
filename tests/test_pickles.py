"""Pickles as plain data: what comes out is what went in, and what attacks is refused without a call or much memory."""

from __future__ import annotations

import copyreg
import pickle
import struct
import tracemalloc
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from fieldcast.errors import InputError
from fieldcast.reconstruct.pickles import CLASSES, Held, numbers, read_pickle

DTYPE = b"cnumpy\ndtype\n(U\x02f8I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntb"


def read(data: bytes, tmp_path: Path) -> Any:
    (tmp_path / "x.pkl").write_bytes(data)
    return read_pickle(tmp_path / "x.pkl")


def array(shape: bytes, raw: bytes, dtype: bytes = DTYPE) -> bytes:
    """The opcodes of an array as numpy pickles it, whatever is said of it."""
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
    return head + b"(I1\n" + shape + dtype + b"I00\nT" + struct.pack("<I", len(raw)) + raw + b"tb"


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(tmp_path: Path, protocol: int) -> None:
    arrays = [np.arange(6.0).reshape(2, 3).T, np.arange(5, dtype=">i2"), np.array([True, False]), np.float32(1.5)]
    arrays += [np.zeros((0, 4), np.uint8), np.array(7)]
    rest = {"list": [1, -2.5, None, True, "é", b"bytes", (3, {4})], "ordered": OrderedDict(a=1)}
    found = read(pickle.dumps({"arrays": arrays, **(rest if protocol > 3 else {})}, protocol), tmp_path)
    for got, array in zip(map(numbers, found.pop("arrays")), arrays, strict=True):
        assert np.array_equal(got, array) and got.shape == array.shape and got.dtype == array.dtype
    assert found == (rest if protocol > 3 else {})


def test_a_sparse_matrix_comes_back_spread_out(tmp_path: Path) -> None:
    dense = np.random.default_rng(0).random((7, 9)) * (np.arange(9) % 3 == 0)
    found = read(zlib.compress(pickle.dumps(scipy.sparse.csc_matrix(dense))), tmp_path)
    assert np.array_equal(numbers(found), dense)


def sparse(**changed: Any) -> bytes:
    """A sparse matrix of 2 columns and 3 rows that claims something."""
    state = {"data": np.ones(3), "indices": np.array([0, 2, 1]), "indptr": np.array([0, 2, 3]), "_shape": (3, 2)}
    matrix = scipy.sparse.csc_matrix((3, 2))
    vars(matrix).clear()
    vars(matrix).update(state | changed)
    return pickle.dumps(matrix)


NO_ARRAYS: dict[str, bytes] = {
    "longer than its bytes": array(b"(I1000000\nI1000000\nt", bytes(8)) + b".",
    "sides that are negative": array(b"(I-1\nI-1\nt", bytes(8)) + b".",
    "sides that are no numbers": array(b"(U\x01aI1\nt", bytes(8)) + b".",
    "many sides": array(b"(" + 40 * b"I1\n" + b"t", bytes(8)) + b".",
    "no shape": array(b"N", bytes(8)) + b".",
    "objects": pickle.dumps(np.array([{}], object)),
    "texts": pickle.dumps(np.array(["a"])),
    "records": pickle.dumps(np.zeros(2, "f4,f4")),
    "of a type that is an array": array(b"(I1\nt", bytes(8), array(b"(I1\nt", bytes(8))) + b".",
    "of a type without a name": array(b"(I1\nt", bytes(8), b"cnumpy\ndtype\n)R") + b".",
    "of a type that is a class": array(b"(I1\nt", bytes(8), b"cnumpy\ndtype\n") + b".",
    "never told": b"cnumpy.core.multiarray\n_reconstruct\n)R.",
    "told nonsense": b"cnumpy.core.multiarray\n_reconstruct\n)RI5\nb.",
    "a number of too many bytes": b"cnumpy.core.multiarray\nscalar\n(" + DTYPE + b"U\x09123456789tR.",
    "a class": b"cnumpy\nndarray\n.",
    "text": b"U\x01a.",
    "a whole number too large": b"\x8a\x09" + bytes(8) + b"\x01.",
    "sparse and huge": sparse(_shape=(1 << 40, 2)),
    "sparse with a row too many": sparse(indices=np.array([0, 3, 1])),
    "sparse with a row before the first": sparse(indices=np.array([0, -1, 1])),
    "sparse with ends that go around": sparse(indptr=np.array([0, 2**63 - 1, -(2**63), -1, 3]), _shape=(3, 4)),
    "sparse with rows that are a column": sparse(indices=np.array([[0], [2], [1]])),
    "sparse in sparse": sparse(data=scipy.sparse.csc_matrix(np.ones((3, 1)))),
}


@pytest.mark.parametrize("fault", NO_ARRAYS)
def test_what_is_no_array_of_numbers_is_told_so(fault: str, tmp_path: Path) -> None:
    found = read(NO_ARRAYS[fault], tmp_path)
    with pytest.raises(ValueError, match="not an array of plain numbers"):
        numbers(found)


def choosing(depth: int) -> bytes:
    """Arrays of chumpy, each of which is numbers of the one before, chosen by the one before."""
    one = b"p0\n0cchumpy.ch\nCh\n)\x81(U\x01ag0\nU\x04idxsg0\ndb"
    return array(b"(I1\nt", bytes(8)) + depth * one + b"."


def test_arrays_that_choose_by_each_other_end_at_once(tmp_path: Path) -> None:
    found = read(choosing(200), tmp_path)
    with pytest.raises(ValueError, match="not an array of plain numbers"):
        numbers(found)


def test_no_number_calls_what_a_program_has_registered(tmp_path: Path) -> None:
    called: list[str] = []
    copyreg.add_extension("os", "system", 0xF1)
    cache = vars(copyreg)["_extension_cache"]
    cache[0xF1] = called.append
    try:
        for code in (b"\x82\xf1", b"\x83\xf1\0", b"\x84\xf1\0\0\0"):
            with pytest.raises(InputError, match="the pickle asks for extension 241, which is not data"):
                read(code + b"(U\x01xtR.", tmp_path)
    finally:
        del cache[0xF1]
        copyreg.remove_extension("os", "system", 0xF1)
    assert not called


@pytest.mark.parametrize(
    "data",
    [
        b"Pos.system\n.",  # persistent ids, as text and as an object
        b"U\x01xQ.",
        b"\x97.",  # a buffer from elsewhere
        b"cnumpy\ndtype.__init__\n.",  # what a class has
        b"cscipy.sparse.csc\ncsc_matrix.__new__.__globals__\n.",
        b"cos\nsystem\n.",
        b"\x8c\x05numpy\x8c\x08fromfile\x93.",
        b"(cbuiltins\neval\nU\x01xo.",
        b"(U\x01xibuiltins\neval\n.",
        b"ccopyreg\n_reconstructor\n(cnumpy\ndtype\ncbuiltins\ntype\nNtR.",
        b"ccopyreg\n_reconstructor\n(U\x01xtR.",
        b"cnumpy\ndtype\n}U\x05arrayNsb.",  # would change the class for all that come after
        b"ccollections\nOrderedDict\n}U\x01aNsb.",
        b"ccollections\nOrderedDict\n(](U\x01aI1\nlatR.",
        b"cnumpy\ndtype\n)R(NtR.",  # a call of what is no class
        b"U\x01x)R.",
        b"}U\x01x)\x81.",
    ],
)
def test_what_is_not_data_is_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read(data, tmp_path)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'x.pkl'}: ") and "\n" not in said
    assert all(kind.__setstate__ is Held.__setstate__ for kind in CLASSES.values())


TEXT = b"X" + struct.pack("<I", 1 << 16) + b"a" * (1 << 16)
BOMBS: dict[str, bytes] = {
    "bytes that are not there": b"\x96" + struct.pack("<Q", 1 << 31) + b"x.",
    "a frame that is not there": b"\x80\x04\x95" + struct.pack("<Q", 1 << 31) + b"].",
    "a memory of many places": b"]r" + struct.pack("<I", 1 << 31) + b".",
    "bytes of a text a thousand times": b"](" + TEXT + b"p0\n0" + 1000 * b"c_codecs\nencode\n(g0\ntR" + b"e.",
    "an array a thousand times": b"](" + array(b"(I4096\nt", bytes(1 << 15)) + b"p0\n" + 1000 * b"g0\n" + b"e.",
    "lists of lists": b"]p0\n" + b"0(g0\ng0\nlp0\n" * 100 + b".",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_takes_little_memory(bomb: str, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        read(BOMBS[bomb], tmp_path)
    except InputError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 16 * len(BOMBS[bomb]) + (1 << 20)


def test_depth_without_end_is_one_line(tmp_path: Path) -> None:
    note = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81(U\x05dtypecnumpy\ndtype\n(U\x02O8tRdb"
    with pytest.raises(InputError, match="not a whole pickle of plain data"):
        read(note * 5000, tmp_path)


def test_what_is_compressed_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="or is cut short"):
        read(zlib.compress(pickle.dumps(list(range(5000))))[:-20], tmp_path)


def test_opcodes_of_arrays_here_are_those_of_numpy(tmp_path: Path) -> None:
    data = array(b"(I2\nI3\nt", np.arange(6.0).tobytes()) + b"."
    assert np.array_equal(numbers(read(data, tmp_path)), pickle.loads(data, encoding="latin1"))
