"""Which samples along rays are worth a query: those whose cell of the occupancy grid is full.

Letters: `r` rays and `k` steps; step k of ray i spans [near_i + offsets_k, near_i + offsets_(k+1)]; `t` distances along
the ray and `dt` step lengths in world units. The occupancy grid has `resolution`^3 cells over the unit cube, one bit
each: cell (x, y, z) is bit `flat & 7` of byte `flat >> 3` with flat = (x * resolution + y) * resolution + z.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from fieldcast.fields.kernels.compiled import Array, arrays, helper, kernel, runs_compiled
from fieldcast.fields.kernels.gpu import runs_triton
from fieldcast.fields.space import Space

SAMPLES_PER_CHUNK = 2**20  # what the plain version looks at at once


def march(
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    near: Float[Tensor, " r"],
    far: Float[Tensor, " r"],
    offsets: Float[Tensor, " k1"],
    jitter: Float[Tensor, " r"],
    occupancy: UInt8[Tensor, " bytes"],
    resolution: int,
    space: Space,
) -> tuple[Int64[Tensor, " r1"], Float[Tensor, " m"], Float[Tensor, " m"]]:
    """The samples (starts [r + 1], t [m], dt [m]) of all rays that lie before `far` in an occupied cell.

    The samples of ray i are `starts[i]` to `starts[i + 1]`, by rising t. Sample k sits at
    t = near + offsets_k + jitter * (offsets_(k+1) - offsets_k).
    offsets: rising, starting at 0 as a rule. jitter: one number in [0, 1] a ray; 0.5 is the middle of the steps.
    """
    if len(occupancy) * 8 < resolution**3:
        raise ValueError(f"occupancy: expected {resolution}^3 bits, found {len(occupancy) * 8}")
    if runs_triton(origins, directions, near, far, offsets, jitter):
        from fieldcast.fields.kernels.gpu import marching as gpu

        return gpu.march(origins, directions, near, far, offsets, jitter, occupancy, resolution, space)
    if not runs_compiled(origins, directions, near, far, offsets, jitter):
        return march_reference(origins, directions, near, far, offsets, jitter, occupancy, resolution, space)
    return _march(origins, directions, near, far, offsets, jitter, occupancy, resolution, space)


def occupied(u: Float[Tensor, "n 3"], occupancy: UInt8[Tensor, " bytes"], resolution: int) -> Bool[Tensor, " n"]:
    """Whether the cells that hold the points of the unit cube are full."""
    cell = (u * resolution).floor().nan_to_num().clamp(0, resolution - 1).long()
    flat = (cell[:, 0] * resolution + cell[:, 1]) * resolution + cell[:, 2]
    return (occupancy[flat >> 3] >> (flat & 7)) & 1 > 0


@torch.no_grad()
def march_reference(
    origins: Float[Tensor, "r 3"],
    directions: Float[Tensor, "r 3"],
    near: Float[Tensor, " r"],
    far: Float[Tensor, " r"],
    offsets: Float[Tensor, " k1"],
    jitter: Float[Tensor, " r"],
    occupancy: UInt8[Tensor, " bytes"],
    resolution: int,
    space: Space,
) -> tuple[Int64[Tensor, " r1"], Float[Tensor, " m"], Float[Tensor, " m"]]:
    """`march` in plain torch: any device and precision, in chunks of rays that bound the memory."""
    step = offsets[1:] - offsets[:-1]
    count = [torch.zeros(1, dtype=torch.int64, device=origins.device)]
    kept_t, kept_dt = [near.new_zeros(0)], [near.new_zeros(0)]
    rays_per_chunk = max(SAMPLES_PER_CHUNK // max(len(step), 1), 1)
    for first in range(0, len(origins), rays_per_chunk):
        rays = slice(first, first + rays_per_chunk)
        t = near[rays, None] + offsets[:-1] + jitter[rays, None] * step
        x = origins[rays, None] + t[..., None] * directions[rays, None]
        full = occupied(space.to_unit(x).reshape(-1, 3), occupancy, resolution).view(t.shape)
        keep = full & (t < far[rays, None])
        count.append(keep.sum(1))
        kept_t.append(t[keep])
        kept_dt.append(step.expand_as(t)[keep])
    return torch.cat(count).cumsum(0), torch.cat(kept_t), torch.cat(kept_dt)


def _march(
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    offsets: Tensor,
    jitter: Tensor,
    occupancy: Tensor,
    resolution: int,
    space: Space,
) -> tuple[Tensor, Tensor, Tensor]:
    """The compiled version: one pass marks the samples to keep and counts them, a second one writes them out."""
    bits, rays = arrays(occupancy)[0], arrays(origins, directions, near, far, jitter)
    offset, step = arrays(offsets[:-1], offsets[1:] - offsets[:-1])
    mode = 0 if space.bounded else 1 if space.contraction == "sphere" else 2
    blocks = -(-resolution // BLOCK)
    full = np.zeros((blocks, blocks, blocks) if space.bounded else (0, 0, 0), np.bool_)
    if space.bounded:
        _full_blocks(blocks, bits, resolution, full)
    starts = torch.zeros(len(origins) + 1, dtype=torch.int64)
    keep = np.zeros((len(origins), -(-len(step) // 8)), np.uint8)
    _mark(
        len(near),
        *rays,
        offset,
        step,
        bits,
        resolution,
        full,
        np.array(space.aabb, np.float32),
        mode,
        keep,
        starts.numpy(),
    )
    starts = starts.cumsum(0)
    t, dt = near.new_empty(int(starts[-1])), near.new_empty(int(starts[-1]))
    _fill(len(near), *rays[2:], offset, step, keep, *arrays(starts, t, dt))
    return starts, t, dt


BLOCK = 8  # cells along the side of a block that is skipped at once where all of it is empty


@kernel
def _full_blocks(first: int, last: int, bits: Array, resolution: int, full: Array) -> None:
    """Which blocks of 8^3 cells have an occupied cell."""
    for slab in range(first, last):
        for x in range(slab * BLOCK, min((slab + 1) * BLOCK, resolution)):
            for y in range(resolution):
                row = (x * resolution + y) * resolution
                z = 0
                while z < resolution:
                    byte = bits[(row + z) >> 3]
                    if byte == 0:  # on to the next byte
                        z += 8 - ((row + z) & 7)
                        continue
                    if byte >> ((row + z) & 7) & 1:
                        full[slab, y >> 3, z >> 3] = True
                    z += 1


@helper
def _cell(u: Any, resolution: int) -> Any:
    position = np.floor(u * np.float32(resolution))
    position = position if position > np.float32(0) else np.float32(0)
    return np.int64(position) if position < np.float32(resolution) else resolution - 1


@helper
def _to_unit(x: Any, y: Any, z: Any, box: Array, mode: int) -> tuple[Any, Any, Any]:
    """`Space.to_unit` of one point. mode: 0 no contraction, 1 `sphere`, 2 `cube`. Callers clamp to the cube."""
    if mode == 0:
        return (x - box[0]) / (box[3] - box[0]), (y - box[1]) / (box[4] - box[1]), (z - box[2]) / (box[5] - box[2])
    one, two = np.float32(1), np.float32(2)
    a = (two * x - box[0] - box[3]) / (box[3] - box[0])
    b = (two * y - box[1] - box[4]) / (box[4] - box[1])
    c = (two * z - box[2] - box[5]) / (box[5] - box[2])
    norm = math.sqrt(a * a + b * b + c * c) if mode == 1 else max(abs(a), max(abs(b), abs(c)))
    shrink = (two - one / norm) / norm if norm > one else one
    quarter = np.float32(0.25)
    return (a * shrink + two) * quarter, (b * shrink + two) * quarter, (c * shrink + two) * quarter


@helper
def _exit(origin: Array, direction: Array, cx: int, cy: int, cz: int, resolution: int, box: Array) -> Any:
    """A distance short of where a ray leaves the block of a cell. Blocks at the faces extend to infinity.

    Rounding moves a sample by a few ulps of the coordinates that it is computed from: the block shrinks by more.
    """
    leaves = math.inf
    for axis in range(3):
        block = (cx if axis == 0 else cy if axis == 1 else cz) >> 3
        speed, size = np.float64(direction[axis]), np.float64(box[axis + 3]) - np.float64(box[axis])
        slack = 2e-6 * (abs(origin[axis]) + abs(box[axis]) + abs(box[axis + 3]))
        if speed > 0 and (block + 1) * BLOCK < resolution:
            wall = box[axis] + size * ((block + 1) * BLOCK / resolution) - slack
            leaves = min(leaves, (wall - origin[axis]) / speed)
        elif speed < 0 and block > 0:
            wall = box[axis] + size * (block * BLOCK / resolution) + slack
            leaves = min(leaves, (wall - origin[axis]) / speed)
    return leaves


@kernel
def _mark(
    first: int,
    last: int,
    origins: Array,
    directions: Array,
    near: Array,
    far: Array,
    jitter: Array,
    offset: Array,
    step: Array,
    bits: Array,
    resolution: int,
    full: Array,
    box: Array,
    mode: int,
    keep: Array,
    counts: Array,
) -> None:
    """Set bit k & 7 of `keep[ray, k >> 3]` for the samples to keep, and `counts[ray + 1]` to their number."""
    for ray in range(first, last):
        count, k = 0, 0
        ox, oy, oz = origins[ray, 0], origins[ray, 1], origins[ray, 2]
        dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
        while k < len(step):
            t = near[ray] + offset[k] + jitter[ray] * step[k]
            if not t < far[ray]:
                break
            ux, uy, uz = _to_unit(ox + t * dx, oy + t * dy, oz + t * dz, box, mode)
            cx, cy, cz = _cell(ux, resolution), _cell(uy, resolution), _cell(uz, resolution)
            if mode == 0 and not full[cx >> 3, cy >> 3, cz >> 3]:
                leaves = _exit(origins[ray], directions[ray], cx, cy, cz, resolution, box)
                k += 1
                while k < len(step) and near[ray] + offset[k] + jitter[ray] * step[k] < leaves:
                    k += 1
                continue
            flat = (cx * resolution + cy) * resolution + cz
            if bits[flat >> 3] >> (flat & 7) & 1:
                keep[ray, k >> 3] |= np.uint8(1 << (k & 7))
                count += 1
            k += 1
        counts[ray + 1] = count


@kernel
def _fill(
    first: int,
    last: int,
    near: Array,
    far: Array,
    jitter: Array,
    offset: Array,
    step: Array,
    keep: Array,
    starts: Array,
    t: Array,
    dt: Array,
) -> None:
    for ray in range(first, last):
        at = starts[ray]
        for byte in range(keep.shape[1]):
            if keep[ray, byte] == 0:
                continue
            for bit in range(8):
                if keep[ray, byte] >> bit & 1:
                    k = byte * 8 + bit
                    t[at] = near[ray] + offset[k] + jitter[ray] * step[k]
                    dt[at] = step[k]
                    at += 1
