"""Where along rays a field is queried: fixed steps through the occupied part of its space, packed ray after ray."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.fields.cameras import Rays
from fieldcast.fields.field import Field
from fieldcast.fields.kernels.compositing import ray_of_sample
from fieldcast.fields.kernels.marching import march
from fieldcast.fields.occupancy import Occupancy, diagonal
from fieldcast.fields.space import Space

NEAR = 0.05  # half box sides: nothing nearer to a camera is seen
FAR = 1e3  # half box sides: where a contracted world ends


@dataclass(frozen=True)
class Samples:
    """M samples on R rays, ordered by ray and then by distance.

    starts: [R + 1] where each ray's samples begin. t: [M] distances and dt: [M] step lengths, world units.
    x: [M, 3] points and d: [M, 3] unit directions.
    """

    starts: Int64[Tensor, " r1"]
    t: Float[Tensor, " m"]
    dt: Float[Tensor, " m"]
    x: Float[Tensor, "m 3"]
    d: Float[Tensor, "m 3"]

    def __len__(self) -> int:
        return len(self.t)

    def take(self, index: Int64[Tensor, " k"], starts: Int64[Tensor, " r1"]) -> Samples:
        """Some of the samples; starts: [R + 1] where those of each ray begin."""
        return Samples(starts, *(values.index_select(0, index) for values in (self.t, self.dt, self.x, self.d)))


@dataclass(frozen=True)
class Sampler:
    """How rays are sampled.

    steps: samples across the box diagonal. In a contracted space steps grow in proportion to the distance.
    """

    space: Space
    occupancy: Occupancy
    steps: int

    @staticmethod
    def of(field: Field, steps: int | None = None) -> Sampler:
        return Sampler(field.spec.space, field.occupancy, steps or field.spec.steps)

    def __call__(self, rays: Rays, generator: torch.Generator | None = None, jitter: bool = False) -> Samples:
        """Samples in occupied cells, at the middle of steps, or at one random place in the steps of each ray."""
        o, d = rays.origins, rays.directions
        near, far = entry_and_exit(self.space, o, d)
        offset = torch.rand(len(rays), generator=generator).to(o) if jitter else torch.full_like(near, 0.5)
        edges = step_edges(self.space, self.steps).to(o)
        bits = self.occupancy.bits.to(o.device)
        starts, t, dt = march(o, d, near, far, edges, offset, bits, self.occupancy.resolution, self.space)
        ray = ray_of_sample(starts, len(t))
        directions = d[ray]
        return Samples(starts, t, dt, torch.addcmul(o[ray], directions, t[:, None]), directions)


def entry_and_exit(
    space: Space, o: Float[Tensor, "r 3"], d: Float[Tensor, "r 3"]
) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Distances at which rays enter and leave the box (the slab test), or near and far in a contracted world.

    A ray that misses has exit < entry.
    """
    near = torch.full_like(o[:, 0], NEAR * space.unit)
    if not space.bounded:
        return near, torch.full_like(near, FAR * space.unit)
    low, high = space.box(o)
    inverse = 1 / torch.where(d.abs() < 1e-9, torch.full_like(d, 1e-9), d)
    a, b = (low - o) * inverse, (high - o) * inverse
    return torch.maximum(torch.minimum(a, b).amax(-1), near), torch.maximum(a, b).amin(-1)


@lru_cache(maxsize=16)
def step_edges(space: Space, steps: int) -> Float[Tensor, " k1"]:
    """Distances from the entry at which steps begin and end, world units.

    Bounded: equal steps of diagonal / steps (PVD: 2 sqrt(3) / 1024). Contracted: never shorter than that, and
    growing with the distance at a rate of 4 / steps (Instant-NGP: 1 / 256 at 1024 steps).
    """
    step = diagonal(space) / steps
    if space.bounded:
        return torch.arange(steps + 2, dtype=torch.float32) * step
    edges, t = [0.0], NEAR * space.unit
    while t < FAR * space.unit:
        t += max(step, t * 4 / steps)
        edges.append(t - NEAR * space.unit)
    return torch.tensor(edges)
