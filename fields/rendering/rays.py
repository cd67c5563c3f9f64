"""Samples and what a field says of them, to colour, depth and opacity of rays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Rays
from fieldcast.fields.kernels.compositing import accumulate, ray_of_sample, ray_weights
from fieldcast.fields.rendering.sampling import Sampler, Samples

Query = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x [N, 3] world points, d [N, 3] unit directions) -> (sigma [N] in 1 / world unit, rgb [N, 3] in [0, 1])."""

OPAQUE = 1e-3  # leftover transmittance below which what lies behind is not looked at


@dataclass(frozen=True)
class Rendered:
    """rgb: [R, 3], over the background. depth: [R], the weighted mean distance of what is seen (0 where nothing is).

    transmittance: [R], the light that is left behind everything; opacity is 1 - transmittance.
    """

    rgb: Float[Tensor, "r 3"]
    depth: Float[Tensor, " r"]
    transmittance: Float[Tensor, " r"]

    @property
    def opacity(self) -> Float[Tensor, " r"]:
        return 1 - self.transmittance


def composite(
    sigma: Float[Tensor, " m"],
    rgb: Float[Tensor, "m 3"],
    samples: Samples,
    background: Float[Tensor, " 3"] | Float[Tensor, "r 3"],
) -> Rendered:
    """The volume rendering sum (NeRF, eq. 3): weights = T (1 - exp(-sigma dt)), over a background colour."""
    weights, transmittance = ray_weights(sigma * samples.dt, samples.starts)
    summed = accumulate(weights, torch.cat([rgb, samples.t[:, None]], -1), samples.starts)
    color = summed[:, :3] + transmittance[:, None] * background
    return Rendered(color, summed[:, 3] / (1 - transmittance).clamp_min(1e-6), transmittance)


def query_in_chunks(query: Query, x: Tensor, d: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """`query` on at most `chunk` points at a time: memory does not grow with the image."""
    if len(x) <= chunk:
        return query(x, d)
    parts = [query(a, b) for a, b in zip(x.split(chunk), d.split(chunk), strict=True)]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def render_rays(
    query: Query,
    rays: Rays,
    sampler: Sampler,
    background: Float[Tensor, " 3"],
    *,
    chunk: int = 1 << 17,
) -> Rendered:
    """Rays to pictures, for looking rather than training: samples are taken front to back, a few at a time, until
    a ray is opaque, so that what is hidden is never computed. chunk: the most points in one query.
    """
    samples = sampler(rays)
    count = samples.starts.diff()
    rgb, depth = rays.origins.new_zeros(len(rays), 3), rays.origins.new_zeros(len(rays))
    transmittance = torch.ones_like(depth)
    rank = torch.arange(len(samples), device=count.device) - samples.starts[:-1].repeat_interleave(count)
    begin, size = 0, 8
    while len(samples) and bool((active := (count > begin) & (transmittance > OPAQUE)).any()):
        ray = ray_of_sample(samples.starts, len(samples))
        kept = active[ray] & (rank >= begin) & (rank < begin + size)
        part = _subset(samples, kept, ray, len(rays))
        sigma, color = query_in_chunks(query, part.x, part.d, chunk)
        seen = composite(sigma, color, part, torch.zeros_like(background))
        rgb = rgb + transmittance[:, None] * seen.rgb
        depth = depth + transmittance * seen.depth * seen.opacity
        transmittance = transmittance * seen.transmittance
        begin, size = begin + size, size * 2
    opacity = (1 - transmittance).clamp_min(1e-6)
    return Rendered(rgb + transmittance[:, None] * background, depth / opacity, transmittance)


def _subset(samples: Samples, kept: Tensor, ray: Tensor, rays: int) -> Samples:
    counts = torch.bincount(ray[kept], minlength=rays)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Samples(starts, samples.t[kept], samples.dt[kept], samples.x[kept], samples.d[kept])
