"""Whole images, of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Cameras, Rays
from fieldcast.fields.field import Field
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Image, Renderable
from fieldcast.fields.rendering.rays import CHUNK, Rendered, composite
from fieldcast.fields.rendering.sampling import Sampler, Samples
from fieldcast.fields.rendering.visibility import OPAQUE, visible

RAYS = 1 << 13  # rays marched at a time


@torch.no_grad()
def render_image(shade: Callable[[Rays], Rendered], cameras: Cameras, index: int, *, lot: int = RAYS) -> Image:
    """One camera's image; shade: what rays see, asked about `lot` of them at a time, which bounds the memory."""
    width, height = cameras.size[index].tolist()
    c2w = cameras.c2w
    rgb, depth, opacity = (c2w.new_empty(width * height, *shape) for shape in ((3,), (), ()))
    for first in range(
        0, width * height, lot
    ):  # rays are made as they are needed: those of a large picture fill memory
        place = torch.arange(first, min(first + lot, width * height), device=c2w.device)
        pixel = torch.stack([place % width, place // width], -1) + 0.5
        seen = shade(cameras.rays(torch.full_like(place, index), pixel))
        rgb[place], depth[place], opacity[place] = seen.rgb, seen.depth, seen.opacity
    return Image(rgb.reshape(height, width, 3), depth.reshape(height, width), opacity.reshape(height, width))


def render(
    scene: Field | Renderable,
    cameras: Cameras,
    *,
    steps: int | None = None,
    chunk: int = CHUNK,
    progress: Progress = silent,
) -> Iterator[Image]:
    """The images of a scene, one after the other.

    steps: samples across the box diagonal (default: the field's own). chunk: the most points that a field is asked
    about at once. Neither means anything to scenes that render themselves.
    """
    if isinstance(scene, Field):
        return _render_field(scene, cameras, steps, chunk, progress)
    return scene.render(cameras, progress=progress)


def _render_field(field: Field, cameras: Cameras, steps: int | None, chunk: int, progress: Progress) -> Iterator[Image]:
    shade, cameras = shading(field, steps=steps, chunk=chunk), cameras.to(field.device)
    for index in range(len(cameras)):
        yield render_image(shade, cameras, index)
        progress(index + 1, len(cameras), "rendering")


def shading(field: Field, *, steps: int | None = None, chunk: int = CHUNK) -> Callable[[Rays], Rendered]:
    """What rays see of a field, over its background; `steps` and `chunk` as in `render`."""
    sampler = Sampler.of(field, steps)

    def shade(rays: Rays) -> Rendered:
        seen = look(field, sampler(rays), chunk=chunk)
        return composite(seen.sigma, seen.rgb, seen.samples, rays.origins.new_tensor(field.spec.background))

    return shade


@dataclass(frozen=True)
class Seen:
    """What a field says at the samples that can be seen: sigma [M] in 1 / world unit, features [M, F], rgb [M, 3]."""

    samples: Samples
    sigma: Float[Tensor, " m"]
    features: Float[Tensor, "m f"]
    rgb: Float[Tensor, "m 3"]


@torch.no_grad()
def look(field: Field, samples: Samples, *, opaque: float = OPAQUE, chunk: int = CHUNK) -> Seen:
    """What a field says of samples in its box and occupied cells; colours are computed for the visible ones alone.

    opaque: leftover transmittance behind which nothing is visible.
    """

    def ask(part: Samples) -> tuple[Tensor, Tensor]:
        features = torch.cat([field.features(x) for x in part.x.split(chunk)])
        return field.spec.density(features[:, 0]) / field.spec.space.unit, features

    samples, (sigma, features) = visible(ask, samples, opaque)
    colors = [field.color(f, d) for f, d in zip(features.split(chunk), samples.d.split(chunk), strict=True)]
    return Seen(samples, sigma, features, torch.cat(colors))
