"""Any scene that can be rendered to a field of any kind: views of it are what the field is fitted to."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.distill.viewpoints import Viewpoints
from fieldcast.errors import FieldcastError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.field import Field
from fieldcast.fields.fit import fit, gentle_rates
from fieldcast.fields.kinds import default_spec
from fieldcast.fields.occupancy import Occupancy, unravel
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Image, Renderable
from fieldcast.fields.rendering import render
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.spec import FieldSpec

VIEWS, STEPS = 120, 1500
SIDE = 256  # pixels of a view, where the scene does not know what it was seen at
SEEN = 0.5 / 255  # opacity: below it a pixel has no colour to speak of


def field_from_views(
    scene_to_render: Renderable,
    spec_or_kind: FieldSpec | str,
    *,
    views: int = VIEWS,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress = silent,
) -> Field:
    """A field of the scene, fitted to pictures from all around it, or from near the views that it was seen from.

    spec_or_kind: a kind, at its default sizes, or a whole spec. views: how many pictures. Raises FieldcastError when
    nothing is in them.
    """
    spec = spec_in(scene_to_render, spec_or_kind) if isinstance(spec_or_kind, str) else spec_or_kind
    posed = posed_views(scene_to_render, views, seed, progress)
    where = hull(posed, spec.occupancy) if spec.space.bounded else None
    field = fit(
        posed,
        spec,
        steps=steps,
        seed=seed,
        device=scene_to_render.device,
        within=where,
        rates=None if where is None else lambda field: gentle_rates(field, steps),
        progress=progress,
    )
    field.views = scene_to_render.views
    return field


def spec_in(scene: Renderable, kind: str) -> FieldSpec:
    """The spec of a kind at its default sizes, in the space of a scene and over its background."""
    return default_spec(kind, space=scene.space, background=scene.background, steps=512)


def posed_views(scene: Renderable, views: int, seed: int, progress: Progress = silent) -> Scene:
    """Pictures of a scene from random places, with what is not in them transparent."""
    known = scene.views is not None and len(scene.views) >= 2
    cameras = Viewpoints(scene, None if known else (SIDE, SIDE)).draw(views, torch.Generator().manual_seed(seed))
    images = [
        straight_rgba(image, scene.background)
        for image in render(scene, cameras, progress=lambda n, of, note="": progress(n, of, "looking at the scene"))
    ]
    if not any(bool((image[..., 3] > 0).any()) for image in images):
        raise FieldcastError("the scene is empty: nothing of it shows in any view")
    names = tuple(f"view {number}" for number in range(views))
    return Scene(cameras, images, names, scene.space, scene.background, f"{views} views of the scene")


def hull(scene: Scene, resolution: int) -> Occupancy:
    """The cells that no view sees through: where it shows nothing at all, there is nothing along its rays.

    Judged on a coarser grid; a cell counts if any pixel that the sphere around it covers shows something.
    """
    coarse = resolution // 2
    side = torch.tensor(scene.space.aabb[3:]) - torch.tensor(scene.space.aabb[:3])
    x = scene.space.from_unit((unravel(torch.arange(coarse**3), coarse) + 0.5) / coarse)
    radius = float(side.norm()) / coarse / 2
    for index, image in enumerate(scene.images):
        x = x[shows(scene.cameras, index, image[..., 3] > 0, x, radius)]
    cells = torch.zeros((coarse,) * 3, dtype=torch.bool)
    cells[tuple((scene.space.to_unit(x) * coarse).long().clamp_max(coarse - 1).T)] = True
    for axis in range(3):
        cells = cells.repeat_interleave(2, axis)
    return Occupancy.of_cells(cells)


def shows(
    cameras: Cameras, index: int, something: Bool[Tensor, "h w"], x: Float[Tensor, "n 3"], radius: float
) -> Bool[Tensor, " n"]:
    """Whether a view may show something of the spheres around points: they reach out of the picture, or cover it."""
    local = (x - cameras.centers[index]) @ cameras.c2w[index, :, :3]
    fx, fy, cx, cy = cameras.intrinsics[index].tolist()
    depth = -local[:, 2]
    column, row = cx + fx * local[:, 0] / depth, cy - fy * local[:, 1] / depth
    reach = max(fx, fy) * 1.5 * radius / depth.clamp_min(radius) + 1  # half as much again: wide pictures stretch it
    height, width = something.shape
    totals = torch.nn.functional.pad(something.long().cumsum(0).cumsum(1), (1, 0, 1, 0))

    def below(values: Tensor, size: int) -> Tensor:
        return values.nan_to_num().clamp(0, size).long()

    left, right = below(column - reach, width), below(column + reach + 1, width)
    top, bottom = below(row - reach, height), below(row + reach + 1, height)
    count = totals[bottom, right] - totals[top, right] - totals[bottom, left] + totals[top, left]
    inside = (depth > 2 * radius) & (column > reach) & (row > reach) & (column < width - reach) & (row < height - reach)
    may: Tensor = ~inside | (count > 0)
    return may


def straight_rgba(image: Image, background: tuple[float, float, float]) -> UInt8[Tensor, "h w 4"]:
    """A picture without the background behind it, its colour not multiplied by opacity."""
    opacity = image.opacity[..., None].clamp(0, 1)
    own = image.rgb - (1 - opacity) * image.rgb.new_tensor(background)
    rgba = torch.cat([torch.where(opacity > SEEN, own / opacity.clamp_min(SEEN), 0), opacity], -1)
    return (rgba.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
