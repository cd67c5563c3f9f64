"""Plenoxels: the `.npz` of svox2. It is a `voxels` field of relu density, read and written without loss.

Letters: N the values that are stored. `links` [x, y, z] says which of the N a vertex has, or that it has none (below 0)
and is zero. The box is `center` +- `radius`; it has as many cells along each axis as there are links, a vertex in the
middle of each, and what is beyond the outermost vertices is as at them. Density is in 1 / world unit of the program's
own frame, in which it has scaled NeRF-Synthetic by 2/3.

svox2 clamps colours of samples below at 0 and only pictures above at 1; a field clamps both.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.checkpoints.arrays import SUFFIX, Archive, Array
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kernels.voxels import BLOCK
from fieldcast.fields.kinds.voxels import VoxelsField, VoxelsSizes
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec

NEEDED, BOX, BASIS = ("links", "density_data", "sh_data"), ("radius", "center"), "basis_type"
HARMONICS = 1  # the basis_type of svox2
MOST = 1 << 30  # vertices: 1024^3
SPARSE = 64  # how many rows a field has at most for each value that is stored: blocks have 512
FREE = 1 << 20  # rows that any file may ask for
THICK = 256.0  # density for each unit of a logit: logits of a few are learned soonest. A power of 2 loses no digits
SLACK = 1e-3  # cells of an occupancy: what rounding may move a vertex by


def holds_plenoxels(found: Any) -> bool:
    """Whether what a file holds looks like a grid of svox2."""
    return isinstance(found, Archive) and "links" in found.members


def read_plenoxels(path: Path, found: Archive) -> VoxelsField:
    """The grid of an archive. Raises InputError, one line, for what a field cannot be."""
    shape, degree = _checked(path, found)
    density, colors = found.read("density_data").reshape(-1), found.read("sh_data")
    for name, values in (("density_data", density), ("sh_data", colors)):
        if not all(np.isfinite(values[at : at + FREE]).all() for at in range(0, len(values), FREE)):
            raise InputError(f"{path}: {name}: expected finite numbers")
    sizes = VoxelsSizes(resolution=max(shape), degree=degree, cells=shape)
    cells = 128 if max(shape) <= 256 else 256
    table, occupancy = _stored(path, found, sizes, density, cells)
    space = _space(path, found)
    spec = FieldSpec(
        kind="voxels",
        sizes=replace(sizes, blocks=int((table >= 0).sum())),
        space=space,
        density=DensityActivation("relu", scale=THICK * space.unit),
        color="shifted_clamp",
        occupancy=cells,
        steps=max(8, round(2 * math.hypot(*shape))),  # half a cell, as in svox2
    )
    with torch.device("meta"):
        field = VoxelsField(spec)
    field.data = nn.Parameter(torch.zeros(field.data.shape))
    field.block_table, field.occupancy_bits = torch.from_numpy(table), occupancy.bits
    _fill(field.data.detach(), found, table, density, colors)
    return field


def _fill(data: Tensor, found: Archive, table: Array, density: Array, colors: Array) -> None:
    """Puts the values of an archive where the blocks of a table want them."""
    for first, slab in _slabs(found):
        at = np.nonzero(slab >= 0)
        rows = torch.from_numpy(_rows(table, (at[0] + first, at[1], at[2])))
        data[rows, 0] = torch.from_numpy(density[slab[at]].astype(np.float32) / np.float32(THICK))
        data[rows, 1:] = torch.from_numpy(colors[slab[at]].astype(np.float32))


def _checked(path: Path, found: Archive) -> tuple[tuple[int, ...], Any]:
    """The shape of the grid and the degree of its harmonics: all that is needed is there, and nothing else."""
    members = found.members
    unknown = [name for name in members if name not in (*NEEDED, *BOX, BASIS)]
    background = [name for name in unknown if name.startswith("background")]
    if background:
        raise InputError(f"{path}: {background[0]}: expected a grid alone: spheres behind it cannot be in a field")
    basis = found.read(BASIS).item() if BASIS in members and members[BASIS].shape == () else HARMONICS
    if basis != HARMONICS or any(name.startswith("basis") for name in unknown):
        raise InputError(f"{path}: expected colours of spherical harmonics, found a basis that was learned")
    missing = [name for name in NEEDED if name not in members]
    if missing or unknown:
        parts = [f"{what} {', '.join(n)}" for what, n in (("missing", missing), ("unexpected", unknown)) if n]
        raise InputError(f"{path}: not a whole grid of svox2: {'; '.join(parts):.200}")
    shape, count = members["links"].shape, math.prod(members["density_data"].shape)
    if len(shape) != 3 or not all(2 <= side <= 2048 for side in shape) or math.prod(shape) > MOST:
        raise InputError(f"{path}: links: expected 2 to 2048 vertices a side, 1024^3 in all, found {list(shape)}")
    if members["links"].dtype.kind != "i":
        raise InputError(f"{path}: links: expected whole numbers, found {members['links'].dtype}")
    degrees = {(count, 3 * (degree + 1) ** 2): degree for degree in range(3)}
    if members["density_data"].shape != (count, 1) or members["sh_data"].shape not in degrees:
        raise InputError(
            f"{path}: expected density_data [N, 1] and sh_data [N, 3, 12 or 27], found "
            f"{list(members['density_data'].shape)} and {list(members['sh_data'].shape)}"
        )
    return shape, degrees[members["sh_data"].shape]


def _space(path: Path, found: Archive) -> Space:
    """The box, from its middle and half its sides; that of svox2 if the file does not say."""
    box = {"radius": np.ones(3), "center": np.zeros(3)}
    for name in BOX:
        if name in found.members:
            value = found.read(name) if found.members[name].nbytes <= 64 else np.full(4, np.nan)
            if value.size not in (1, 3) or not np.isfinite(value).all():
                raise InputError(f"{path}: {name}: expected three finite numbers, found {list(value.shape)}")
            box[name] = np.broadcast_to(value.reshape(-1).astype(float), (3,))
    low, high = (box["center"] - box["radius"]).tolist(), (box["center"] + box["radius"]).tolist()
    try:
        return Space((*low, *high))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _stored(
    path: Path, found: Archive, sizes: VoxelsSizes, density: Array, cells: int
) -> tuple[np.ndarray[Any, np.dtype[np.int32]], Occupancy]:
    """The blocks that hold a value, numbered; and the cells in which a density can be above 0.

    Raises InputError unless each value is that of one vertex at most.
    """
    table = np.full((sizes.blocks_per_side,) * 3, -1, np.int32)
    occupied = np.zeros((cells,) * 3, bool)
    ranges = [_touching(sizes, axis, cells) for axis in range(3)]
    seen, links, blocks = np.zeros(len(density), bool), 0, 0
    for first, slab in _slabs(found):
        stored = slab >= 0
        value = slab[stored]
        if value.size and int(value.max()) >= len(density):
            raise InputError(f"{path}: links: expected numbers of {len(density):,} values, found {int(value.max())}")
        seen[value] = True
        links += value.size
        padded = np.pad(stored, [(0, -side % BLOCK) for side in stored.shape])
        held = padded.reshape(BLOCK, padded.shape[1] // BLOCK, BLOCK, -1, BLOCK).any((0, 2, 4))
        part = table[first // BLOCK, : held.shape[0], : held.shape[1]]
        part[held] = np.arange(blocks, blocks + int(held.sum()), dtype=np.int32)
        blocks += int(held.sum())
        stored[stored] = density[value] > 0
        _mark(occupied, stored, first, ranges)
    if links != int(seen.sum()):
        raise InputError(
            f"{path}: links: expected a value of its own for each vertex, found {links:,} of {seen.sum():,}"
        )
    if not blocks:
        raise InputError(f"{path}: links: expected a grid with something in it, found none")
    if blocks * BLOCK**3 > max(FREE, SPARSE * links):
        raise InputError(
            f"{path}: links: {links:,} values lie so far apart that {blocks:,} blocks of 8^3 would be needed"
        )
    return table, Occupancy.of_cells(torch.from_numpy(occupied))


def _slabs(found: Archive) -> Iterator[tuple[int, Array]]:
    """The links, a block thick at a time, and where along x they begin."""
    for number, slab in enumerate(found.slabs("links", BLOCK)):
        yield number * BLOCK, slab


def _rows(table: Array, at: tuple[Array, Array, Array]) -> Array:
    """The rows of a field's values that belong to vertices."""
    (i, j, k), inside = at, [axis % BLOCK for axis in at]
    number = table[i // BLOCK, j // BLOCK, k // BLOCK].astype(np.int64)
    return np.asarray(((number * BLOCK + inside[0]) * BLOCK + inside[1]) * BLOCK + inside[2])


def _touching(sizes: VoxelsSizes, axis: int, cells: int) -> tuple[Array, Array]:
    """The first and the last cell of an occupancy that each vertex along an axis has a share in."""
    count = sizes.sides[axis]
    index = np.arange(count)
    shift, scale = (0.5, count) if sizes.cells else (0.0, count - 1)
    first = np.floor((index - 1 + shift) / scale * cells - SLACK)
    last = np.floor((index + 1 + shift) / scale * cells + SLACK)
    return first.clip(0, cells - 1).astype(int), last.clip(0, cells - 1).astype(int)


def _mark(occupied: Array, stored: Array, first: int, ranges: list[tuple[Array, Array]]) -> None:
    """Marks the cells that some vertices, from `first` along x on, have a share in."""
    if not stored.any():
        return
    for axis in (2, 1):
        low, high = ranges[axis]
        cells = np.arange(occupied.shape[axis])
        # The vertices that reach a cell are neighbours: from the first that ends in it to the last that begins in it.
        begin, end = np.searchsorted(high, cells), np.searchsorted(low, cells, side="right")
        stored = _any_between(stored, begin, end, axis)
    for place, plane in enumerate(stored):
        if plane.any():
            occupied[ranges[0][0][first + place] : ranges[0][1][first + place] + 1] |= plane


def _any_between(values: Array, begin: Array, end: Array, axis: int) -> Array:
    """Whether any of the values from `begin` up to `end` along an axis is true."""
    sums = np.cumsum(values, axis, dtype=np.int32)
    sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
    return np.asarray(sums.take(end, axis) > sums.take(begin, axis))


def write_plenoxels(field: Field, path: Path, force: bool = False) -> None:
    """Writes a voxels field that `refusal` has nothing against; the values are never in memory twice.

    Vertices that have no share in an occupied cell, or are zero, are not stored. Harmonics have 16 bits, as those of
    svox2, where that loses nothing.
    """
    assert isinstance(field, VoxelsField)
    spec, sizes = field.spec, field.spec.sizes
    low, high = np.array(spec.space.aabb[:3]), np.array(spec.space.aabb[3:])
    # Vertices on the faces of a box are in the middle of cells that reach half their size beyond it.
    beyond = 1.0 if sizes.cells else sizes.longest / (sizes.longest - 1)
    scale = spec.density.scale / spec.space.unit
    data = field.data.detach().cpu()
    with atomic_path(path, force) as stump, zipfile.ZipFile(stump, "w") as archive:
        _write(archive, "radius", (3,), [((high - low) / 2 * beyond).astype(np.float32)])
        _write(archive, "center", (3,), [((high + low) / 2).astype(np.float32)])
        _write(archive, BASIS, (), [np.array(HARMONICS)], np.int64)
        rows: list[Tensor] = []
        _write(archive, "links", sizes.sides, _links(field, rows), np.int32)
        count = sum(len(some) for some in rows)
        if not count:
            raise InputError(f"{path}: the field is empty: there is nothing to write")
        density = ((data[some, :1] + spec.density.shift) * scale for some in rows)
        _write(archive, "density_data", (count, 1), (value.numpy() for value in density))
        halves = all(bool((value.half() == value).all()) for value in (data[some, 1:] for some in rows))
        colors = (data[some, 1:].numpy().astype(np.float16 if halves else np.float32) for some in rows)
        _write(archive, "sh_data", (count, data.shape[1] - 1), colors, np.float16 if halves else np.float32)


def refusal(spec: FieldSpec) -> str | None:
    """Why a spec cannot be a grid of svox2, and what to do; None if it can."""
    sizes, again = spec.sizes, "convert it with --to voxels"
    if not spec.space.bounded:
        return "its space has no end"
    if spec.density.name != "relu":
        return f"its density is {spec.density.name}, theirs relu between vertices: {again}"
    if spec.color != "shifted_clamp":
        return f"its colours are those of a {spec.color}: {again}"
    return f"its harmonics are of degree {sizes.degree}, theirs at most 2: {again}" if sizes.degree > 2 else None


def fitted(spec: FieldSpec) -> FieldSpec:
    """The spec of a student that will fit: of relu density and clamped colours, and vertices where svox2 has them."""
    if refusal(spec) is None:
        return spec
    spec = replace(spec, sizes=replace(spec.sizes, cells=spec.sizes.sides))
    return replace(spec, density=DensityActivation("relu", scale=THICK), color="shifted_clamp")


def _links(field: VoxelsField, rows: list[Tensor]) -> Iterator[Array]:
    """The links of a field, plane by plane along x; the row of each value is added to `rows`."""
    sizes: VoxelsSizes = field.spec.sizes
    table, cells = field.block_table.cpu().numpy(), field.occupancy.cells().cpu().numpy()
    ranges = [_touching(sizes, axis, len(cells)) for axis in range(3)]
    data, shift, count = field.data.detach().cpu(), field.spec.density.shift, 0

    def not_zero(row: Array) -> Array:
        values = data[torch.from_numpy(row)]
        return ((values[:, 0] + shift != 0) | values[:, 1:].any(-1)).numpy()

    for i in range(sizes.sides[0]):
        wanted = np.asarray(cells[ranges[0][0][i] : ranges[0][1][i] + 1].any(0))
        for axis in (1, 2):
            wanted = _any_between(wanted, ranges[axis][0], ranges[axis][1] + 1, axis - 1)
        j, k = np.nonzero(wanted)
        row = _rows(table, (np.full_like(j, i), j, k))
        held = row >= 0  # the number of a block that is not stored is below 0
        held[held] = not_zero(row[held])
        links = np.full(sizes.sides[1:], -1, np.int32)
        links[j[held], k[held]] = np.arange(count, count + int(held.sum()))
        count += int(held.sum())
        rows.append(torch.from_numpy(row[held]))
        yield links


def _write(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], parts: Iterable[Array], dtype: Any = np.float32
) -> None:
    """An array that comes in parts, in order."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with archive.open(name + SUFFIX, "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).data)
