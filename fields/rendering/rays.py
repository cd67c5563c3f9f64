"""Samples and what a field says of them, to colour, depth and opacity of rays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Rays
from fieldcast.fields.kernels.compositing import accumulate, ray_weights
from fieldcast.fields.rendering.sampling import Sampler, Samples
from fieldcast.fields.rendering.visibility import visible

Query = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x [N, 3] world points, d [N, 3] unit directions) -> (sigma [N] in 1 / world unit, rgb [N, 3] in [0, 1])."""

CHUNK = 1 << 16  # points in one query: what it computes stays near the processor, and memory bounded


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
    chunk: int = CHUNK,
) -> Rendered:
    """Rays to pictures, for looking rather than training: what is hidden behind the opaque is left out.

    chunk: the most points in one query.
    """
    samples, (sigma, rgb) = visible(lambda part: query_in_chunks(query, part.x, part.d, chunk), sampler(rays))
    return composite(sigma, rgb, samples, background)
