"""A field against photographs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.images import save_png
from fieldcast.fields.metrics import SSIM_WINDOW, psnr, ssim
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Renderable
from fieldcast.fields.rendering import render
from fieldcast.fields.scenes.scene import Scene


@dataclass(frozen=True)
class Evaluation:
    """psnr in dB and ssim: means over the views. seconds: what rendering took. names and psnr_per_view: each view's.
    kept: renderings [H, W, 3] and photographs [H, W, 3] of some views, if they were asked for.
    """

    psnr: float
    ssim: float
    views: int
    seconds: float
    names: tuple[str, ...]
    psnr_per_view: tuple[float, ...]
    kept: tuple[tuple[Tensor, Tensor], ...]


def photograph(scene: Scene, index: int, background: tuple[float, float, float]) -> Float[Tensor, "h w 3"]:
    """One image of a scene over a background, sRGB 0..1."""
    image = scene.images[index].float() / 255
    return image[..., :3] * image[..., 3:] + (1 - image[..., 3:]) * torch.tensor(background)


def renders_beside(
    field: Field | Renderable, scene: Scene, progress: Progress = silent
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each view of a scene: the rendering [H, W, 3] and the photograph [H, W, 3] over the field's background."""
    for index, image in enumerate(render(field, scene.cameras, progress=progress)):
        yield image.rgb.cpu().clamp(0, 1), photograph(scene, index, field.background)


def evaluate(field: Field | Renderable, scene: Scene, progress: Progress = silent, keep: int = 0) -> Evaluation:
    """Renders the views of a scene and measures how they differ from its images; keeps at most `keep` of them."""
    if not len(scene):
        raise InputError(f"{scene.source}: has no images to evaluate on")
    every = -(-len(scene) // keep) if keep else len(scene) + 1
    values: list[float] = []
    similar: list[float] = []
    kept: list[tuple[Tensor, Tensor]] = []
    seconds, start = 0.0, time.perf_counter()
    for rendering, truth in renders_beside(field, scene, progress):
        seconds += time.perf_counter() - start
        if keep and len(values) % every == 0:
            kept.append((rendering, truth))
        values.append(psnr(rendering, truth))
        similar.append(ssim(rendering, truth) if min(truth.shape[:2]) >= SSIM_WINDOW else math.nan)
        start = time.perf_counter()
    count = len(values)
    return Evaluation(
        sum(values) / count, sum(similar) / count, count, seconds, scene.names, tuple(values), tuple(kept)
    )


def write_beside(seen: Evaluation, path: Path, force: bool = False) -> None:
    """A picture of the kept renderings (left) beside their photographs (right), those of the first one's size."""
    same = [pair for pair in seen.kept if pair[0].shape == seen.kept[0][0].shape]
    save_png(torch.cat([torch.cat(pair, 1) for pair in same]), path, force)
