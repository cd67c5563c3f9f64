"""The `.ply` of 3D Gaussian splatting (Kerbl et al. 2023), which most programs read and write.

One element `vertex` with x y z, scale_0..2 (logarithms), rot_0..3 (w x y z), opacity (logit), f_dc_0..2 and f_rest_*
(harmonics, channel by channel). Properties are found by name: programs order them differently. What the format has no
place for, our box, up and background, goes into a comment, which others skip.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldcast.errors import InputError
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.gaussians import DEGREES, Array, arrays, gaussians, read_bytes
from fieldcast.fields.space import Space, Vector3
from fieldcast.fields.spec import read
from fieldcast.fields.splats import Splats

LONGEST = 1 << 16  # bytes of a header
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
TYPES = {
    **{"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2"},
    **{"uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4"},
    **{"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"},
}
NAMES = [
    *("x", "y", "z"),
    *(f"scale_{i}" for i in range(3)),
    *(f"rot_{i}" for i in range(4)),
    "opacity",
    *(f"f_dc_{i}" for i in range(3)),
]
COMMENT = "comment fieldcast "


@dataclass(frozen=True)
class Extras:
    """What our comment says."""

    space: Space
    background: Vector3


@dataclass(frozen=True)
class Header:
    """order: a key of ORDERS. count: of vertices. properties: names and numpy types. size: of the header, bytes."""

    order: str
    count: int
    properties: dict[str, str]
    extras: Extras | None
    size: int


def read_gaussian_ply(path: Path) -> Splats:
    """The splats of a .ply file. Nothing is allocated before the header was found to be in order."""
    data = read_bytes(path)
    header = read_header(path, data)
    rest = _rest_names(path, header)
    columns = _ascii(path, data, header) if header.order == "ascii" else _binary(path, data, header)
    flat = {name: columns[name].astype(np.float32) for name in [*NAMES, *rest]}
    dc = np.stack([flat[f"f_dc_{i}"] for i in range(3)], -1)[:, None]
    others = np.stack([flat[name] for name in rest], -1) if rest else np.zeros((header.count, 0), np.float32)
    sh = np.concatenate([dc, others.reshape(header.count, 3, len(rest) // 3).transpose(0, 2, 1)], 1)
    extras = {} if header.extras is None else vars(header.extras)
    means, log_scales, quats = (
        np.stack([flat[name] for name in names], -1) for names in (NAMES[:3], NAMES[3:6], NAMES[6:10])
    )
    return gaussians(path, means, log_scales, quats, flat["opacity"], sh, **extras)


def write_gaussian_ply(splats: Splats, path: Path, force: bool = False) -> None:
    """Writes the whole file or nothing: binary, little endian, properties in the order of the 3DGS trainer."""
    means, log_scales, quats, opacities, sh = arrays(splats)
    rest = sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), -1)
    normals = np.zeros_like(means)  # programs expect them, and nobody uses them
    table = np.concatenate([means, normals, sh[:, 0], rest, opacities[:, None], log_scales, quats], 1)
    names = [*NAMES[:3], "nx", "ny", "nz", *NAMES[11:], *(f"f_rest_{i}" for i in range(rest.shape[1]))]
    names += ["opacity", *NAMES[3:10]]
    extras = json.dumps(asdict(Extras(splats.space, splats.background)))
    lines = ["ply", "format binary_little_endian 1.0", COMMENT + extras, f"element vertex {len(table)}"]
    lines += [*(f"property float {name}" for name in names), "end_header", ""]
    with atomic_path(path, force) as stump:
        stump.write_bytes("\n".join(lines).encode("ascii") + table.astype("<f4").tobytes())


def read_header(path: Path, data: bytes) -> Header:
    """What the header says of the vertices, which must come first."""
    end = data.find(b"end_header", 0, LONGEST)
    line_end = data.find(b"\n", end)
    if not data.startswith(b"ply") or end < 0 or line_end < 0:
        raise InputError(f"{path}: expected a .ply file: a header from `ply` to `end_header`")
    lines = [line.strip() for line in data[:end].decode("ascii", "replace").splitlines()]
    order, count, properties, extras, element = "", -1, dict[str, str](), None, ""
    for line in lines[1:]:
        words = line.split()
        if line.startswith(COMMENT):
            extras = _extras(path, line)
        elif words[:1] == ["format"]:
            order = words[1] if len(words) > 1 else ""
        elif words[:1] == ["element"]:
            if element == "" and words[1:2] != ["vertex"]:
                raise InputError(f"{path}: expected `element vertex` first, found `{line:.60}`{_hint(lines)}")
            element = words[1]
            count = _count(path, line) if element == "vertex" else count
        elif words[:1] == ["property"] and element == "vertex":
            name, kind = _property(path, line)
            if name in properties:
                raise InputError(f"{path}: expected each property once, found {name} twice")
            properties[name] = kind
    if order not in ORDERS:
        raise InputError(f"{path}: format: expected one of {', '.join(ORDERS)}, found {order!r:.60}")
    header = Header(order, count, properties, extras, line_end + 1)
    missing = [name for name in NAMES if name not in properties]
    if missing:
        raise InputError(f"{path}: not the .ply of splats: its vertices lack {', '.join(missing[:5])}{_hint(lines)}")
    return header


def _hint(lines: list[str]) -> str:
    packed = any("packed_position" in line for line in lines)
    return "; it is a compressed .ply, which splat-transform can unpack" if packed else ""


def _extras(path: Path, line: str) -> Extras:
    try:
        said: Any = json.loads(line.removeprefix(COMMENT))
    except (ValueError, RecursionError):
        raise InputError(f"{path}: {COMMENT.strip()}: expected JSON, found {line:.60}") from None
    return read(Extras, said, f"{path}: {COMMENT.strip()}")


def _count(path: Path, line: str) -> int:
    words = line.split()
    if len(words) != 3 or not words[2].isascii() or not words[2].isdigit() or len(words[2]) > 12:
        raise InputError(f"{path}: expected `element vertex` and a count, found `{line:.60}`")
    return int(words[2])


def _property(path: Path, line: str) -> tuple[str, str]:
    words = line.split()
    if len(words) != 3 or words[1] not in TYPES:
        raise InputError(f"{path}: expected `property`, a number type and a name, found `{line:.60}`")
    return words[2], TYPES[words[1]]


def _rest_names(path: Path, header: Header) -> list[str]:
    """f_rest_0, f_rest_1 and so on, as many as there are."""
    count = sum(name.startswith("f_rest_") for name in header.properties)
    names = [f"f_rest_{i}" for i in range(count)]
    if count % 3 or 1 + count // 3 not in DEGREES or any(name not in header.properties for name in names):
        raise InputError(f"{path}: expected 0, 9, 24 or 45 properties f_rest_0 and on, found {count}")
    return names


def _binary(path: Path, data: bytes, header: Header) -> dict[str, Array]:
    record = np.dtype([(name, ORDERS[header.order] + kind) for name, kind in header.properties.items()])
    wanted, found = header.count * record.itemsize, len(data) - header.size
    if found < wanted:
        raise InputError(
            f"{path}: expected {header.count} splats of {record.itemsize} bytes after the header, found {found} bytes; "
            "the file is cut off"
        )
    table = np.frombuffer(data, record, header.count, header.size)
    return {name: table[name] for name in header.properties}


def _ascii(path: Path, data: bytes, header: Header) -> dict[str, Array]:
    width = len(header.properties)
    words = data[header.size :].split(maxsplit=header.count * width)[: header.count * width]
    if len(words) < header.count * width:
        raise InputError(f"{path}: expected {header.count} splats of {width} numbers, found {len(words)} numbers")
    try:
        table = np.array([float(word) for word in words]).reshape(header.count, width)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return {name: table[:, i] for i, name in enumerate(header.properties)}
