"""Marching through the occupancy grid on CUDA. Letters as in `kernels/marching.py`.

One pass marks the samples to keep, in a word of 32 bits for as many steps, and counts them; a second one writes them
where the running sum of the counts says.
"""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fieldcast.fields.kernels.gpu.launch import blocks, contiguous, jit, launch
from fieldcast.fields.space import Space

RAYS, STEPS = 4, tl.constexpr(32)  # rays of a program; steps at once, the bits of a word


def march(
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
    """`march` of `kernels/marching.py`. Waits for the GPU once: the number of samples is not known before."""
    rays, steps = len(origins), len(offsets) - 1
    o, d, near, far, jitter, bits = contiguous(origins, directions, near, far, jitter, occupancy)
    offset, step = contiguous(offsets[:-1], offsets[1:] - offsets[:-1])
    starts = torch.zeros(rays + 1, dtype=torch.int64, device=o.device)
    words = torch.zeros(rays, blocks(steps, 32), dtype=torch.int32, device=o.device)
    low, high = space.aabb[:3], space.aabb[3:]
    size = [b - a for a, b in zip(low, high, strict=True)]
    mode = 0 if space.bounded else 1 if space.contraction == "sphere" else 2
    programs = (blocks(rays, RAYS),)
    lattice = (near, jitter, offset, step)
    inputs = (o, d, far, *lattice, bits, words, starts, rays, steps, words.shape[1], *low, *size)
    launch(_mark, programs, *inputs, RESOLUTION=resolution, MODE=mode, RAYS=RAYS)
    starts = starts.cumsum(0)
    kept = int(starts[-1])
    t, dt = near.new_empty(kept), near.new_empty(kept)
    launch(_fill, programs, *lattice, words, starts, t, dt, rays, steps, words.shape[1], RAYS=RAYS)
    return starts, t, dt


@jit
def _rays(rays: tl.tensor, RAYS: tl.constexpr) -> Any:
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    return ray, ray < rays


@jit
def _lengths(
    near: tl.tensor, jitter: tl.tensor, offset: tl.tensor, step: tl.tensor, k: tl.tensor, steps: tl.tensor
) -> Any:
    """The distances of samples k of rays, and the lengths of their steps; infinity behind the last step."""
    begin = tl.load(offset + k, mask=k < steps, other=float("inf"))[None, :]
    length = tl.load(step + k, mask=k < steps, other=0.0)[None, :]
    return near[:, None] + begin + jitter[:, None] * length, length


@jit
def _contracted(a: tl.tensor, b: tl.tensor, c: tl.tensor, MODE: tl.constexpr) -> Any:
    """`Space.to_unit` of points in box units. MODE: 1 `sphere`, 2 `cube`."""
    norm = tl.sqrt(a * a + b * b + c * c) if MODE == 1 else tl.maximum(tl.abs(a), tl.maximum(tl.abs(b), tl.abs(c)))
    shrink = tl.where(norm > 1.0, (2 - 1 / tl.maximum(norm, 1.0)) / tl.maximum(norm, 1.0), 1.0)
    return (a * shrink + 2) / 4, (b * shrink + 2) / 4, (c * shrink + 2) / 4


@jit
def _cell(u: tl.tensor, RESOLUTION: tl.constexpr) -> Any:
    LAST: tl.constexpr = RESOLUTION - 1
    place = tl.floor(u * RESOLUTION)
    place = tl.where(place > 0.0, place, 0.0)
    return tl.where(place < LAST, place, LAST).to(tl.int64)


@jit
def _mark(
    origins: tl.tensor,
    directions: tl.tensor,
    far: tl.tensor,
    near: tl.tensor,
    jitter: tl.tensor,
    offset: tl.tensor,
    step: tl.tensor,
    bits: tl.tensor,
    words: tl.tensor,
    counts: tl.tensor,
    rays: tl.tensor,
    steps: tl.tensor,
    width: tl.tensor,
    low_x: tl.tensor,
    low_y: tl.tensor,
    low_z: tl.tensor,
    size_x: tl.tensor,
    size_y: tl.tensor,
    size_z: tl.tensor,
    RESOLUTION: tl.constexpr,
    MODE: tl.constexpr,
    RAYS: tl.constexpr,
) -> None:
    """Set bit k % 32 of `words[ray, k // 32]` for the samples to keep, and `counts[ray + 1]` to their number."""
    ray, there = _rays(rays, RAYS)
    ox, dx = tl.load(origins + ray * 3, mask=there)[:, None], tl.load(directions + ray * 3, mask=there)[:, None]
    oy, dy = tl.load(origins + ray * 3 + 1, mask=there)[:, None], tl.load(directions + ray * 3 + 1, mask=there)[:, None]
    oz, dz = tl.load(origins + ray * 3 + 2, mask=there)[:, None], tl.load(directions + ray * 3 + 2, mask=there)[:, None]
    entry, shift = tl.load(near + ray, mask=there, other=0.0), tl.load(jitter + ray, mask=there, other=0.0)
    limit = tl.load(far + ray, mask=there, other=float("-inf"))[:, None]
    bit = tl.arange(0, STEPS)
    count = tl.zeros((RAYS,), tl.int64)
    word = 0
    before_far = 1
    while (word < width) & (before_far > 0):
        t, _ = _lengths(entry, shift, offset, step, word * STEPS + bit, steps)
        inside = t < limit
        x, y, z = ox + t * dx - low_x, oy + t * dy - low_y, oz + t * dz - low_z
        if MODE == 0:
            a, b, c = x / size_x, y / size_y, z / size_z
        else:
            a, b, c = _contracted(2 * x / size_x - 1, 2 * y / size_y - 1, 2 * z / size_z - 1, MODE)
        flat = (_cell(a, RESOLUTION) * RESOLUTION + _cell(b, RESOLUTION)) * RESOLUTION + _cell(c, RESOLUTION)
        byte = tl.load(bits + (flat >> 3), mask=inside, other=0).to(tl.int32)
        kept = inside & (((byte >> (flat & 7)) & 1) > 0)
        tl.store(words + ray * width + word, tl.sum(kept.to(tl.int32) << bit[None, :], axis=1), mask=there)
        count += tl.sum(kept.to(tl.int32), axis=1)
        before_far = tl.max(tl.max(inside.to(tl.int32), axis=1), axis=0)
        word += 1
    tl.store(counts + ray + 1, count, mask=there)


@jit
def _fill(
    near: tl.tensor,
    jitter: tl.tensor,
    offset: tl.tensor,
    step: tl.tensor,
    words: tl.tensor,
    starts: tl.tensor,
    t: tl.tensor,
    dt: tl.tensor,
    rays: tl.tensor,
    steps: tl.tensor,
    width: tl.tensor,
    RAYS: tl.constexpr,
) -> None:
    ray, there = _rays(rays, RAYS)
    entry, shift = tl.load(near + ray, mask=there, other=0.0), tl.load(jitter + ray, mask=there, other=0.0)
    at = tl.load(starts + ray, mask=there, other=0)
    bit = tl.arange(0, STEPS)
    for word in range(width):
        marks = tl.load(words + ray * width + word, mask=there, other=0)
        kept = (marks[:, None] >> bit[None, :]) & 1
        if tl.max(tl.max(kept, axis=1), axis=0) > 0:
            distance, length = _lengths(entry, shift, offset, step, word * STEPS + bit, steps)
            place = at[:, None] + tl.cumsum(kept, axis=1) - kept
            tl.store(t + place, distance, mask=kept > 0)
            tl.store(dt + place, length + tl.zeros_like(distance), mask=kept > 0)
            at += tl.sum(kept, axis=1)
