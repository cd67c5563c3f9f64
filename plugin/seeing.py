"""What rays of nerfstudio's see of a field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from fieldcast.fields.cameras import Rays
from fieldcast.fields.field import Field
from fieldcast.fields.rendering import Rendered, Sampler, Samples, composite, look


@dataclass(frozen=True)
class Looked:
    """What rays of a shape saw."""

    seen: Rendered
    shape: torch.Size

    def outputs(self) -> dict[str, Tensor]:
        """As nerfstudio names it. depth: the mean distance of what is seen along rays of unit length, world units."""
        seen = self.seen
        columns = {"accumulation": seen.opacity, "depth": seen.depth}
        return {"rgb": seen.rgb.reshape(*self.shape, 3)} | {k: v.reshape(*self.shape, 1) for k, v in columns.items()}


def rays_of(bundle: RayBundle) -> Rays:
    """The rays of a bundle of any shape, one after the other."""
    return Rays(bundle.origins.reshape(-1, 3), torch.nn.functional.normalize(bundle.directions.reshape(-1, 3), dim=-1))


def looked_at(field: Field, rays: Rays, bundle: RayBundle, background: Tensor) -> Rendered:
    """What rays see of a field over a background [3], between the distances that the bundle says, if it does."""
    samples = Sampler.of(field)(rays)
    if bundle.nears is not None and bundle.fars is not None:
        samples = between(samples, bundle.nears.reshape(-1), bundle.fars.reshape(-1))
    seen = look(field, samples)
    return composite(seen.sigma, seen.rgb, seen.samples, background)


def between(samples: Samples, near: Tensor, far: Tensor) -> Samples:
    """The samples at distances from `near` to `far` [R], world units."""
    count = samples.starts.diff()
    kept = (samples.t >= near.repeat_interleave(count)) & (samples.t <= far.repeat_interleave(count))
    before = torch.cat([count.new_zeros(1), kept.cumsum(0)])
    return samples.take(kept.nonzero()[:, 0], before[samples.starts])
