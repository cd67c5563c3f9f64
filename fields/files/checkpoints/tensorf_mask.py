"""The alpha mask of TensoRF: samples that are on or off, and a point counts if the mask between them is above 0 there.

Letters: g samples along x, y and z of the mask's own box, the first and the last on its faces; r cells of an occupancy
along each axis. A sample that is on reaches the samples around it, so cells count if one that is on reaches into them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.pickles import Bytes
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.space import Space

MASK = "alphaMask."
LEAST, MOST = 128, 256  # cells a side
LARGEST = 1 << 28  # samples
SLACK = 1e-4  # of the distance of samples: what rounding may move a box by


def occupancy_of(path: Path, found: dict[str, Any], space: Space) -> Occupancy | None:
    """Where the mask of a checkpoint says that something is, in the box of `space`; None if it has none."""
    if not any(str(name).startswith(MASK) for name in found):
        return None
    samples, low, high = _mask(path, found)
    a, length = torch.tensor(space.aabb, dtype=torch.float64), torch.tensor(samples.shape, dtype=torch.float64) - 1
    first, last = (length * (corner - low) / (high - low) for corner in (a[:3], a[3:]))  # the field's box, in samples
    across = float((last - first).max())
    across /= max(1, math.ceil(across / MOST - SLACK))  # whole numbers of samples a cell, where there are too many
    resolution = min(max(8 * math.ceil(across / 8 - SLACK), LEAST), MOST)
    cells = samples
    for axis in range(3):
        edges = first[axis] + torch.linspace(0, 1, resolution + 1, dtype=torch.float64) * (last - first)[axis]
        cells = _reached(cells, axis, edges)
    return Occupancy.of_cells(_halved(cells))


def mask_of(occupancy: Occupancy) -> tuple[tuple[int, ...], UInt8[np.ndarray, " n"]]:
    """A mask in the box of the field: its shape and its packed bits.

    With a sample in the middle of each cell, and one that is off on each face, what is above 0 is just the cells.
    """
    cells = occupancy.cells().cpu()
    while len(cells) > MOST:
        cells = _pooled(cells)
    samples = torch.zeros((2 * len(cells) + 1,) * 3, dtype=torch.bool)
    samples[1::2, 1::2, 1::2] = cells.permute(2, 1, 0)
    return (1, 1, *samples.shape), np.packbits(samples.numpy().reshape(-1))


def _mask(path: Path, found: dict[str, Any]) -> tuple[Bool[Tensor, "x y z"], Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """The samples of a mask, x first, and the corners of its box."""
    shape, bits, aabb = (found.get(f"{MASK}{name}") for name in ("shape", "mask", "aabb"))
    if not isinstance(shape, tuple | list) or not all(type(n) is int and 0 < n <= LARGEST for n in shape):
        raise InputError(f"{path}: {MASK}shape: expected numbers of samples, found {shape!s:.80}")
    count = int(np.prod(shape, dtype=object))
    if len(shape) < 3 or any(n != 1 for n in shape[:-3]) or min(shape[-3:]) < 2 or count > LARGEST:
        raise InputError(f"{path}: {MASK}shape: expected samples along three axes, found {shape!s:.80}")
    if not isinstance(bits, Bytes) or len(bits.values) != -(-count // 8):
        raise InputError(f"{path}: {MASK}mask: expected {-(-count // 8):,} bytes for {count:,} samples")
    low, high = corners(path, f"{MASK}aabb", aabb)
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8)
    samples = ((bits.values[:, None] >> shifts) & 1).reshape(-1)[:count].bool().reshape(shape[-3:])
    return samples.permute(2, 1, 0), low, high


def corners(path: Path, name: str, aabb: Any) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """The two corners of a box [2, 3] in a checkpoint."""
    if not isinstance(aabb, Tensor) or tuple(aabb.shape) != (2, 3):
        raise InputError(f"{path}: {name}: expected the two corners of a box")
    low, high = aabb.detach().double()
    if not bool((aabb.isfinite().all()) & (low < high).all()):
        raise InputError(f"{path}: {name}: expected finite minima below maxima, found {aabb.tolist()}")
    return low, high


def _reached(samples: Bool[Tensor, "x y z"], axis: int, edges: Float[Tensor, " r1"]) -> Bool[Tensor, "_ _ _"]:
    """Along an axis, cells between edges, in samples: whether a sample that is on reaches into them."""
    first = (edges[:-1] + SLACK).floor().long().clamp_min(0)
    last = (edges[1:] - SLACK).ceil().long().clamp_max(samples.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = len(first)
    found = samples.new_zeros(*samples.shape[:axis], len(first), *samples.shape[axis + 1 :])
    for more in range(int((last - first).max()) + 1):
        there = (first + more <= last).reshape(shape)  # none where the mask's box ends before the cell
        found |= samples.index_select(axis, (first + more).clamp_max(samples.shape[axis] - 1)) & there
    return found


def _halved(cells: Bool[Tensor, "r r r"]) -> Bool[Tensor, "_ _ _"]:
    """With half as many cells, if that says the same, as in the files that we write."""
    half = _pooled(cells)
    same = len(half) >= LEAST and all(
        bool((cells[i::2, j::2, k::2] == half).all()) for i in (0, 1) for j in (0, 1) for k in (0, 1)
    )
    return half if same else cells


def _pooled(cells: Bool[Tensor, "r r r"]) -> Bool[Tensor, "_ _ _"]:
    """With half as many cells: those in which any was on."""
    half = len(cells) // 2
    return cells.reshape(half, 2, half, 2, half, 2).any(5).any(3).any(1)
