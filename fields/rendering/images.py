"""Whole images, of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.field import Field
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering.rays import Query, render_rays
from fieldcast.fields.rendering.sampling import Sampler
from fieldcast.fields.space import Vector3

RAYS = 1 << 13  # rays marched at a time


@dataclass(frozen=True)
class Image:
    """rgb: [H, W, 3] over the background, sRGB 0..1. depth: [H, W] world units along the ray. opacity: [H, W]."""

    rgb: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    opacity: Float[Tensor, "h w"]


@torch.no_grad()
def render_image(
    query: Query, cameras: Cameras, index: int, sampler: Sampler, background: Vector3, *, chunk: int = 1 << 17
) -> Image:
    """One camera's image; chunk: the most points in one query, which bounds the memory."""
    width, height = cameras.size[index].tolist()
    rays = cameras.image_rays(index)
    color = rays.origins.new_tensor(background)
    parts = [
        render_rays(query, rays[i : i + RAYS], sampler, color, chunk=chunk) for i in range(0, width * height, RAYS)
    ]
    return Image(
        torch.cat([p.rgb for p in parts]).reshape(height, width, 3),
        torch.cat([p.depth for p in parts]).reshape(height, width),
        torch.cat([p.opacity for p in parts]).reshape(height, width),
    )


def render(
    field: Field,
    cameras: Cameras,
    *,
    steps: int | None = None,
    chunk: int = 1 << 17,
    progress: Progress = silent,
) -> Iterator[Image]:
    """The images of a field, one after the other; steps: samples across the box diagonal (default: the field's own)."""
    sampler, cameras = Sampler.of(field, steps), cameras.to(field.device)
    for index in range(len(cameras)):
        yield render_image(field_query(field), cameras, index, sampler, field.spec.background, chunk=chunk)
        progress(index + 1, len(cameras), "rendering")


def field_query(field: Field) -> Query:
    """The field as a function for samples that are known to lie in its box and occupied cells: no masking."""
    return lambda x, d: field.decode(field.features(x), d)
