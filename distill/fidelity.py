"""How like two scenes are: rendered from views that no conversion was trained on, and in space."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from fieldcast.distill.viewpoints import Viewpoints
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.field import Field
from fieldcast.fields.metrics import depth_error, psnr, ssim
from fieldcast.fields.occupancy import Occupancy, cell_density, threshold
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Renderable
from fieldcast.fields.rendering import Image, render

CAP_DB = 100.0  # identical pictures have no finite PSNR; a report needs a number
SEED_OFFSET = 0x5EED  # fidelity never looks from where training did, whatever its seed


@dataclass(frozen=True)
class Fidelity:
    """psnr: dB, mean over views, at most 100. ssim: mean. depth_error: mean absolute difference where both are opaque,
    in world units (nan: nowhere). views: how many. pairs: the pictures, teacher and student. seconds: what a view
    took each of them to render.
    """

    psnr: float
    ssim: float
    depth_error: float
    views: int
    psnr_per_view: list[float]
    pairs: list[tuple[Image, Image]]
    seconds: tuple[float, float]


def comparison_views(scene: Field | Renderable, count: int, seed: int, longest: int = 200) -> Cameras:
    """`count` views of a scene for comparing, pictures at most `longest` pixels a side."""
    generator = torch.Generator().manual_seed(seed + SEED_OFFSET)
    cameras = Viewpoints(scene).draw(count, generator)
    width, height = cameras.size[0].tolist()
    scale = min(1.0, longest / max(width, height))
    return cameras.resized(max(11, round(width * scale)), max(11, round(height * scale)))


def compare(
    teacher: Field | Renderable, student: Field | Renderable, cameras: Cameras, *, progress: Progress = silent
) -> Fidelity:
    """Renders both scenes from `cameras`, fields at their own number of steps, over the teacher's background."""
    shift = torch.tensor(teacher.background) - torch.tensor(student.background)
    pairs, seconds = [], [0.0, 0.0]
    for index in range(len(cameras)):
        images = []
        for which, scene in enumerate((teacher, student)):
            start = time.perf_counter()
            (image,) = render(scene, cameras[[index]])
            images.append(Image(image.rgb.cpu(), image.depth.cpu(), image.opacity.cpu()))
            seconds[which] += time.perf_counter() - start
        a, b = images
        pairs.append((a, Image(b.rgb + (1 - b.opacity[..., None]) * shift, b.depth, b.opacity)))
        progress(len(pairs), len(cameras), "comparing views")
    return summarized(pairs, (seconds[0] / len(pairs), seconds[1] / len(pairs)))


def summarized(pairs: list[tuple[Image, Image]], seconds: tuple[float, float]) -> Fidelity:
    """The numbers that pairs of pictures, teacher's and student's, come to; seconds: what a view took each."""
    values = [min(psnr(a.rgb.clamp(0, 1), b.rgb.clamp(0, 1)), CAP_DB) for a, b in pairs]
    depths = [depth_error(a.depth, b.depth, a.opacity, b.opacity) for a, b in pairs]
    depths = [d for d in depths if not math.isnan(d)]
    return Fidelity(
        psnr=sum(values) / len(values),
        ssim=sum(ssim(a.rgb.clamp(0, 1), b.rgb.clamp(0, 1)) for a, b in pairs) / len(pairs),
        depth_error=sum(depths) / len(depths) if depths else math.nan,
        views=len(pairs),
        psnr_per_view=values,
        pairs=pairs,
        seconds=seconds,
    )


def occupancy_iou(teacher: Field, student: Field, seed: int = 0, resolution: int = 64) -> float:
    """Intersection over union of the cells in which either field has a density that shows, 0 to 1."""

    def cells(field: Field) -> Occupancy:
        @torch.no_grad()
        def density(x: Tensor) -> Tensor:
            return field.density(x.to(field.device)).cpu()

        generator, everywhere = torch.Generator().manual_seed(seed), Occupancy.full(resolution)
        found = cell_density(density, field.spec.space, everywhere, tries=1, generator=generator)
        return Occupancy.of_cells(found > threshold(teacher.spec.space))

    return cells(teacher).iou(cells(student))
