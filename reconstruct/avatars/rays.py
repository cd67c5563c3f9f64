"""Where rays come near people: samples at equal steps within reach of a posed body, with their nearest vertex.

Letters: R rays, N samples, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.fields.cameras import Rays
from fieldcast.reconstruct.avatars.warp import Places

STEP = 0.0125  # metres between samples


@dataclass(frozen=True, eq=False)
class NearPerson:
    """ray: of each sample. t: metres along it; dt: that it stands for. x: world points. vertex: the body's nearest."""

    ray: Int64[Tensor, " n"]
    t: Float[Tensor, " n"]
    dt: Float[Tensor, " n"]
    x: Float[Tensor, "n 3"]
    vertex: Int64[Tensor, " n"]

    def take(self, index: Int64[Tensor, " k"]) -> NearPerson:
        return NearPerson(self.ray[index], self.t[index], self.dt[index], self.x[index], self.vertex[index])


def near_person(
    places: Places,
    rays: Rays,
    frame: Int64[Tensor, " r"],
    generator: torch.Generator | None = None,
    count: int | None = None,
) -> NearPerson:
    """The samples of rays, each at its own frame. generator: of where steps begin; None: in the middle.

    count: samples in the box about a person; None: one every STEP.
    """
    low, high = places.low[frame], places.high[frame]
    inverse = 1 / torch.where(rays.directions.abs() < 1e-9, 1e-9, rays.directions)
    a, b = (low - rays.origins) * inverse, (high - rays.origins) * inverse
    near, far = torch.minimum(a, b).amax(-1).clamp_min(0), torch.maximum(a, b).amin(-1)
    hit = ((far > near) & (places.row[frame] >= 0)).nonzero()[:, 0]
    span = (far - near)[hit]
    step = torch.full_like(span, STEP) if count is None else span / count
    steps = (int((span.amax() / STEP).ceil()) if count is None else count) if len(hit) else 0
    begin = torch.full((len(hit), 1), 0.5) if generator is None else torch.rand(len(hit), 1, generator=generator)
    t = near[hit, None] + (torch.arange(steps, device=near.device) + begin.to(near.device)) * step[:, None]
    valid = t < far[hit, None]
    ray, dt, t = hit[:, None].expand_as(t)[valid], step[:, None].expand_as(t)[valid], t[valid]
    x = rays.origins[ray] + t[:, None] * rays.directions[ray]
    vertex = places.at(frame[ray], x)
    return NearPerson(ray, t, dt, x, vertex).take((vertex >= 0).nonzero()[:, 0])
