"""Which samples along rays are worth a query: those whose cell of the occupancy grid is full.

Letters: `r` rays and `k` steps; step k of ray i spans [near_i + offsets_k, near_i + offsets_(k+1)]; `t` distances along
the ray and `dt` step lengths in world units. The occupancy grid has `resolution`^3 cells over the unit cube, one bit
each: cell (x, y, z) is bit `flat & 7` of byte `flat >> 3` with flat = (x * resolution + y) * resolution + z.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

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
    return march_reference(origins, directions, near, far, offsets, jitter, occupancy, resolution, space)


def occupied(u: Float[Tensor, "n 3"], occupancy: UInt8[Tensor, " bytes"], resolution: int) -> Bool[Tensor, " n"]:
    """Whether the cells that hold the points of the unit cube are full."""
    cell = (u * resolution).floor().clamp(0, resolution - 1).long()
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
