"""Snapshots of Instant-NGP, `.msgpack` and `.ingp` (the same, compressed): a hash grid in tiny-cuda-nn's order.

A snapshot is in Instant-NGP's own frame: a box of side `aabb_scale`, a power of two, around (0.5, 0.5, 0.5), whose axes
(x, y, z) are the (y, z, x) of the captured world. Density is e to the first output of the density network, a number per
unit of that frame; colour is made of all 16 outputs of it and of the direction. Parameters are the two networks, then
the grid; 16-bit floating point numbers in most snapshots.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.cascades import cascade_count, occupancy_of_bits
from fieldcast.fields.files.checkpoints.hashgrids import hashgrid_of, table_shape, table_sizes
from fieldcast.fields.files.checkpoints.tiny_cuda_nn import Layer, Perceptron
from fieldcast.fields.heads import HARMONICS, DensityActivation
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec

CODE = 16  # outputs of the density network, the density's logit first; the colour network sees all of them
SIDE = 128  # cells of each of the nested grids that say where something is
OPAQUE = 0.01  # what a cell at least hides along the shortest step, if the mean of all cells is not below it
UNPACKED = 64  # times the size of a compressed file that it may unpack to, or SMALL bytes: half of one are parameters
SMALL = 1 << 27
TYPES = {"__half": torch.float16, "float": torch.float32}
Count = Annotated[int, Meta(ge=1, le=1 << 26)]


class Encoding(msgspec.Struct):
    """The grid."""

    otype: str
    n_levels: Annotated[int, Meta(ge=1, le=32)] = 16
    n_features_per_level: Annotated[int, Meta(ge=1, le=8)] = 2
    log2_hashmap_size: Annotated[int, Meta(ge=4, le=26)] = 19
    base_resolution: Annotated[int, Meta(ge=2, le=8192)] = 16
    per_level_scale: Annotated[float, Meta(ge=0, le=64)] = 0.0
    interpolation: str = "Linear"
    type: str = "Hash"


class Network(msgspec.Struct):
    """One of the two. Activations are those of the program's own settings if nothing else is said."""

    n_neurons: Annotated[int, Meta(ge=1, le=1024)] = 64
    n_hidden_layers: Annotated[int, Meta(ge=1, le=16)] = 1
    activation: str = "ReLU"
    output_activation: str = "None"
    n_output_dims: int = CODE


class Dataset(msgspec.Struct):
    """What the program remembers of the photographs."""

    is_hdr: bool = False
    n_extra_learnable_dims: int = 0


class Nerf(msgspec.Struct):
    """What is of NeRFs alone."""

    aabb_scale: Annotated[int, Meta(ge=1, le=128)] = 1
    dataset: Dataset = msgspec.field(default_factory=Dataset)


class Snapshot(msgspec.Struct):
    """The trained scene."""

    n_params: Count
    params_type: Literal["__half", "float"]
    params_binary: bytes
    mode: str = "nerf"
    nerf: Nerf = msgspec.field(default_factory=Nerf)
    density_grid_size: int = SIDE
    density_grid_binary: bytes = b""
    up_dir: tuple[float, float, float] = (0.0, 1.0, 0.0)
    background_color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)


class File(msgspec.Struct):
    """The whole: the settings of the networks, and the snapshot."""

    encoding: Encoding
    network: Network
    rgb_network: Network
    dir_encoding: dict[str, Any]
    snapshot: Snapshot


def open_snapshot(path: Path) -> File:
    """What a file holds. Raises InputError, one line, for what is not a whole snapshot of a NeRF."""
    try:
        return msgspec.msgpack.decode(_unpacked(path), type=File)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: not a whole snapshot of an Instant-NGP NeRF ({error!s:.120})") from None


def read_snapshot(path: Path, file: File) -> Field:
    """The field of a snapshot. Raises InputError for what no kind of field is."""
    _check(path, file)
    found, grid = file.snapshot, file.encoding
    growth = grid.per_level_scale or _growth(grid, found.nerf.aabb_scale)
    finest = grid.base_resolution * growth ** (grid.n_levels - 1)
    sizes = table_sizes(
        path,
        grid.n_levels,
        grid.n_features_per_level,
        grid.log2_hashmap_size,
        grid.base_resolution,
        finest,
        "tiny-cuda-nn",
    )
    space = _space(found)
    spec = FieldSpec(
        kind="hashgrid",
        sizes=sizes,
        space=space,
        density=DensityActivation("exp", scale=space.unit),
        background=_color(found.background_color),
    )
    params = _params(path, found)
    density, color = _networks(path, file, len(params), table_shape(sizes))
    code, rest = density.unpacked(params, fed=0), params[density.count :]
    table = rest[color.count :].reshape(table_shape(sizes))
    field = hashgrid_of(path, spec, table, _code_with_logit(code), _directions_first(color.unpacked(rest, fed=1)))
    field.occupancy = _occupancy(path, found, spec.occupancy)
    return field


def _unpacked(path: Path) -> bytes:
    """The bytes of the message; those of a compressed one, no more than it can be expected to unpack to."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if data[:1] != b"\x78" and data[:2] != b"\x1f\x8b":
        return data
    try:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
        whole = unpacker.decompress(data, max(SMALL, UNPACKED * len(data)))
    except zlib.error as error:
        raise InputError(f"{path}: its compressed stream is damaged ({error})") from None
    if not unpacker.eof:
        reason = (
            f"unpacks to more than {SMALL:,} bytes and {UNPACKED} times its size"
            if unpacker.unconsumed_tail
            else "is cut off"
        )
        raise InputError(f"{path}: its compressed stream {reason}")
    return whole


def _check(path: Path, file: File) -> None:
    """Raises InputError for what Instant-NGP can be told to do and no kind of field does."""
    grid, data = file.encoding, file.snapshot.nerf.dataset
    wanted = {
        "the snapshot's mode": (file.snapshot.mode.lower(), ("nerf",)),
        "encoding": (grid.otype, ("HashGrid", "Grid")),
        "encoding.type": (grid.type, ("Hash",)),
        "encoding.interpolation": (grid.interpolation, ("Linear",)),
        "network.n_output_dims": (file.network.n_output_dims, (CODE,)),
        "learned dimensions of each photograph": (data.n_extra_learnable_dims, (0,)),
        "photographs of high dynamic range": (data.is_hdr, (False,)),
    }
    for name, network in (("network", file.network), ("rgb_network", file.rgb_network)):
        wanted[f"{name}.activation"] = network.activation, ("ReLU",)
        wanted[f"{name}.output_activation"] = network.output_activation, ("None",)
    for name, (found, known) in wanted.items():
        if found not in known:
            raise InputError(f"{path}: {name}: expected {' or '.join(map(str, known))}, found {found!r:.40}")
    directions = file.dir_encoding.get("nested", [file.dir_encoding])
    first = directions[0] if isinstance(directions, list) and directions else None
    if not isinstance(first, dict) or (first.get("otype"), first.get("degree")) != ("SphericalHarmonics", 4):
        raise InputError(f"{path}: dir_encoding: expected SphericalHarmonics of degree 4, found {first!r:.60}")


def _growth(grid: Encoding, aabb_scale: int) -> float:
    """How many times finer each level is, where the settings do not say: 2048 cells a unit in the last one."""
    return float((2048 * aabb_scale / grid.base_resolution) ** (1 / max(grid.n_levels - 1, 1)))


def _space(found: Snapshot) -> Space:
    """The box, which the program makes of `aabb_scale` whatever else a snapshot says of it."""
    low, high = 0.5 - found.nerf.aabb_scale / 2, 0.5 + found.nerf.aabb_scale / 2
    length = sum(c * c for c in found.up_dir) ** 0.5
    x, y, z = (c / length for c in found.up_dir) if 0 < length < 1e6 else (0.0, 1.0, 0.0)
    return Space((low, low, low, high, high, high), up=(x, y, z))


def _occupancy(path: Path, found: Snapshot, resolution: int) -> Occupancy:
    """The cells in which the program looks; all, if it never found out."""
    half = float(found.nerf.aabb_scale)  # in which the first of the grids reaches from -1 to 1
    grid = found.density_grid_binary
    if not grid:
        return Occupancy.of_cells(torch.ones((resolution,) * 3, dtype=torch.bool))
    expected = 2 * SIDE**3 * cascade_count(half)
    if found.density_grid_size != SIDE or len(grid) != expected:
        raise InputError(f"{path}: its density grid: expected {expected:,} bytes, found {len(grid):,}")
    values = torch.frombuffer(bytearray(grid), dtype=torch.float16).float().nan_to_num()
    shown = values > values[: SIDE**3].clamp_min(0).mean().clamp_max(OPAQUE)
    weights = 2 ** torch.arange(8, dtype=torch.uint8)
    return occupancy_of_bits((shown.reshape(-1, 8) * weights).sum(-1, dtype=torch.uint8), half, SIDE, resolution)


def _color(given: tuple[float, float, float, float]) -> tuple[float, float, float]:
    r, g, b = (min(max(c, 0.0), 1.0) if c == c else 0.0 for c in given[:3])
    return r, g, b


def _params(path: Path, found: Snapshot) -> Tensor:
    """All parameters [n_params] in float32."""
    kind = TYPES[found.params_type]
    if len(found.params_binary) != found.n_params * kind.itemsize:
        raise InputError(
            f"{path}: expected {found.n_params:,} parameters of type {found.params_type}, "
            f"found {len(found.params_binary):,} bytes"
        )
    params = torch.frombuffer(bytearray(found.params_binary), dtype=kind).float()
    if not bool(params.isfinite().all()):
        raise InputError(f"{path}: its parameters: expected finite numbers")
    return params


def _networks(path: Path, file: File, count: int, table: tuple[int, int]) -> tuple[Perceptron, Perceptron]:
    """Both networks, by the padding of their time. Raises InputError unless they and the grid are `count` numbers."""
    inputs, counts = file.encoding.n_levels * file.encoding.n_features_per_level, []
    for multiple in (16, 8):
        density = Perceptron(inputs, file.network.n_neurons, file.network.n_hidden_layers, CODE, multiple)
        wide, deep = file.rgb_network.n_neurons, file.rgb_network.n_hidden_layers
        color = Perceptron(CODE + HARMONICS, wide, deep, 3, multiple)
        counts.append(density.count + color.count + table[0] * table[1])
        if counts[-1] == count:
            return density, color
    expected = " or ".join(f"{number:,}" for number in counts)
    raise InputError(f"{path}: expected {expected} parameters for its settings, found {count:,}")


def _code_with_logit(layers: list[Layer]) -> list[Layer]:
    """The density network with its first output twice: as the logit, and as one of the features that colour sees."""
    *others, (last, bias) = layers
    return [*others, (torch.cat([last[:1], last]), bias)]


def _directions_first(layers: list[Layer]) -> list[Layer]:
    """The colour network, which sees the code and then the direction, for both the other way round."""
    (first, bias), *others = layers
    return [(torch.cat([first[:, CODE:], first[:, :CODE]], 1), bias), *others]
