"""Niantic's `.spz`: splats in about 20 bytes each, compressed.

Versions 2 and 3 are a header of 16 bytes and the arrays below, all in one gzip stream; version 4 is a header of 32
bytes, a table of sizes and a zstd stream an array. Positions are 24 bit fixed point numbers. Versions 3 and 4 hold
quaternions as their smallest three parts in 10 bits each, version 2 as x y z in bytes. We write version 3.

The format's axes are right, up, back (RUB); a .ply of the same capture has right, down, forward (RDF). As Niantic's and
PlayCanvas's programs do, reading and writing turns by half a turn about x, so that both open as the same scene.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.gaussians import Array, arrays, gaussians, logit, read_bytes, sigmoid, to_bytes
from fieldcast.fields.splats import Splats

MAGIC = b"NGSP"
COLOR = 0.15  # of the colour's range a unit of the first harmonic takes up
TURN = np.array([1, -1, -1], np.float32)  # RUB to RDF and back, for points and the x y z of quaternions
# The same for harmonics 1 to 15: odd in y and z together, or not.
SIGNS = np.array([-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], np.float32)
RATIO = 1100  # no stream of gzip's is compressed better, and none of zstd's that holds a scene
POINT = 16  # most bits after the point: 1 / 65536 of a unit, up to 128 units away


@dataclass(frozen=True)
class Packed:
    """The arrays of a file in the format's numbers, uint8: position [N, 9], alpha [N], color [N, 3], scale [N, 3],
    rotation [N, 3 or 4] and harmonics [N, K - 1, 3]. bits: those of positions after the point.
    """

    position: Array
    alpha: Array
    color: Array
    scale: Array
    rotation: Array
    harmonics: Array
    bits: int


def read_spz(path: Path) -> Splats:
    """The splats of a .spz file of version 2, 3 or 4 (which takes the extra [splats])."""
    data = read_bytes(path)
    if data[:2] == b"\x1f\x8b":
        data = _unzipped(path, data)
    if data[:4] != MAGIC or len(data) < 16:
        raise InputError(f"{path}: expected a .spz file, which begins with {MAGIC.decode()} or is gzip of that")
    version, count, degree, bits = struct.unpack_from("<IIBB", data, 4)
    if version not in (2, 3, 4):
        raise InputError(f"{path}: expected .spz version 2, 3 or 4, found {version}")
    if degree > 3:
        raise InputError(f"{path}: expected spherical harmonics of degree 0 to 3, found {degree}")
    if bits > 24:
        raise InputError(f"{path}: expected at most 24 bits after the point, found {bits}")
    others = (degree + 1) ** 2 - 1
    shapes = [(9,), (), (3,), (3,), (3 if version == 2 else 4,), (others, 3)]
    sizes = [count * int(np.prod(shape)) for shape in shapes]
    if sum(sizes) > RATIO * len(data):
        raise InputError(f"{path}: its header promises {count} splats, more than {len(data)} bytes can hold")
    streams = _split(path, data[16:], sizes) if version < 4 else _unzstd(path, data, sizes)
    parts = [np.frombuffer(s, np.uint8).reshape(count, *shape) for s, shape in zip(streams, shapes, strict=True)]
    position, alpha, color, scale, rotation, harmonics = parts
    return _unpacked(path, Packed(position, alpha, color, scale, rotation, harmonics, bits))


def write_spz(splats: Splats, path: Path, force: bool = False) -> None:
    """Writes the whole file or nothing: version 3. Numbers are rounded to the few bits that the format has."""
    packed = _packed(splats)
    count, others = packed.harmonics.shape[:2]
    degree = {0: 0, 3: 1, 8: 2, 15: 3}[others]
    parts = packed.position, packed.alpha, packed.color, packed.scale, packed.rotation, packed.harmonics
    raw = struct.pack("<4sIIBBBB", MAGIC, 3, count, degree, packed.bits, 0, 0) + b"".join(p.tobytes() for p in parts)
    with atomic_path(path, force) as stump:
        stump.write_bytes(gzip.compress(raw, mtime=0))


def _unzipped(path: Path, data: bytes) -> bytes:
    """What is in a gzip stream: as much as its header promises, which must be possible for a file of that size."""
    stream = zlib.decompressobj(wbits=31)
    try:
        head = stream.decompress(data, 16)
        if len(head) == 16 and head[:4] == MAGIC:
            version, count, degree = struct.unpack_from("<IIB", head, 4)
            wanted = count * (19 + (version > 2) + 3 * ((degree + 1) ** 2 - 1))
            if wanted > RATIO * len(data):
                raise InputError(f"{path}: its header promises {count} splats, more than {len(data)} bytes can hold")
            head += stream.decompress(stream.unconsumed_tail, wanted + 1) if wanted else b""
    except zlib.error as error:
        raise InputError(f"{path}: its gzip stream is damaged ({error})") from None
    return head


def _split(path: Path, data: bytes, sizes: list[int]) -> list[bytes]:
    if len(data) != sum(sizes):
        raise InputError(f"{path}: expected {sum(sizes)} bytes after the header, found {_found(data, sizes)}")
    ends = np.cumsum(sizes).tolist()
    return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _found(data: bytes, sizes: list[int]) -> str:
    return f"{len(data)}; the file is cut off" if len(data) < sum(sizes) else "more"


def _unzstd(path: Path, data: bytes, sizes: list[int]) -> list[bytes]:
    """The streams of version 4. The header's last byte but 16 counts them, and where their table begins follows."""
    if len(data) < 32:
        raise InputError(f"{path}: expected a header of 32 bytes, found {len(data)}; the file is cut off")
    count, table = struct.unpack_from("<BI", data, 15)
    wanted = [size for size in sizes if size]
    if count != len(wanted) or not 32 <= table <= len(data) - 16 * count:
        raise InputError(f"{path}: expected a table of {len(wanted)} streams, found {count} at byte {table}")
    entries = [struct.unpack_from("<QQ", data, table + 16 * i) for i in range(count)]
    start, found = table + 16 * count, []
    for (packed, size), expected in zip(entries, wanted, strict=True):
        if size != expected or start + packed > len(data):
            raise InputError(
                f"{path}: expected a stream of {expected} bytes packed in {len(data) - start} or less, found {size} "
                f"packed in {packed}; the file is cut off or damaged"
            )
        found.append(_zstd(path, data[start : start + packed], size))
        start += packed
    full = iter(found)
    return [next(full) if size else b"" for size in sizes]


def _zstd(path: Path, data: bytes, size: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise FieldcastError(f"{path}: .spz version 4 takes the extra [splats]: pip install zstandard") from None
    try:
        result: bytes = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise InputError(f"{path}: a zstd stream is damaged ({error})") from None
    if len(result) != size:
        raise InputError(f"{path}: a zstd stream: expected {size} bytes, found {len(result)}")
    return result


def _unpacked(path: Path, packed: Packed) -> Splats:
    position = packed.position.astype(np.int32).reshape(-1, 3, 3)
    fixed = position[..., 0] | position[..., 1] << 8 | position[..., 2] << 16
    fixed = np.where(fixed >= 1 << 23, fixed - (1 << 24), fixed)
    means = fixed.astype(np.float32) / (1 << packed.bits) * TURN
    log_scales = packed.scale.astype(np.float32) / 16 - 10
    first = (packed.color.astype(np.float32) / 255 - 0.5) / COLOR
    others = (packed.harmonics.astype(np.float32) - 128) / 128 * SIGNS[: packed.harmonics.shape[1], None]
    sh = np.concatenate([first[:, None], others], 1)
    xyzw = _first_three(packed.rotation) if packed.rotation.shape[1] == 3 else _smallest_three(packed.rotation)
    quats = np.concatenate([xyzw[:, 3:], xyzw[:, :3] * TURN], 1)
    return gaussians(path, means, log_scales, quats, logit(packed.alpha.astype(np.float32) / 255), sh)


def _packed(splats: Splats) -> Packed:
    means, log_scales, quats, opacities, sh = arrays(splats)
    whole = math.ceil(math.log2(max(float(np.abs(means).max()), 1e-9)))
    bits = min(POINT, max(0, 22 - whole))
    fixed = np.rint(means.astype(np.float64) * TURN * (1 << bits)).clip(-(1 << 23), (1 << 23) - 1).astype(np.int32)
    position = np.stack([fixed & 255, fixed >> 8 & 255, fixed >> 16 & 255], -1).astype(np.uint8).reshape(-1, 9)
    others = sh[:, 1:] * SIGNS[: sh.shape[1] - 1, None]
    return Packed(
        position,
        to_bytes(sigmoid(opacities) * 255),
        to_bytes((sh[:, 0] * COLOR + 0.5) * 255),
        to_bytes((log_scales + 10) * 16),
        _as_smallest_three(np.concatenate([quats[:, 1:] * TURN, quats[:, :1]], 1)),
        to_bytes(others * 128 + 128),
        bits,
    )


def _first_three(stored: Array) -> Array:
    """Quaternions x y z w of version 2; w is what is left of length 1."""
    xyz = stored.astype(np.float32) / 127.5 - 1
    return np.concatenate([xyz, np.sqrt(np.maximum(0, 1 - (xyz**2).sum(1, keepdims=True)))], 1)


def _smallest_three(stored: Array) -> Array:
    """Quaternions x y z w of version 3: which part is the largest in the upper 2 bits, the others in 10 bits each.

    A part has 9 bits of size, up to sqrt(1/2), and a sign; the last one is in the lowest bits.
    """
    bits = np.ascontiguousarray(stored).view("<u4")[:, 0]
    largest = (bits >> 30).astype(np.int64)
    quats = np.zeros((len(bits), 4), np.float32)
    rest = bits.copy()
    for part in (3, 2, 1, 0):
        here = largest != part
        size = (rest & 511).astype(np.float32) * np.float32(0.5**0.5 / 511)
        quats[:, part] = np.where(here, np.where(rest >> 9 & 1, -size, size), 0)
        rest = np.where(here, rest >> 10, rest)
    quats[np.arange(len(quats)), largest] = np.sqrt(np.maximum(0, 1 - (quats**2).sum(1)))
    return quats


def _as_smallest_three(xyzw: Array) -> Array:
    largest = np.abs(xyzw).argmax(1)
    positive = xyzw * np.where(np.take_along_axis(xyzw, largest[:, None], 1) < 0, -1, 1)
    bits = largest.astype(np.uint32)
    for part in range(4):
        size = np.rint(np.abs(positive[:, part]) * (511 / 0.5**0.5)).clip(0, 511).astype(np.uint32)
        coded = bits << 10 | (positive[:, part] < 0).astype(np.uint32) << 9 | size
        bits = np.where(largest != part, coded, bits).astype(np.uint32)
    stored: Array = bits.astype("<u4")[:, None].view(np.uint8)
    return stored
