"""An edit before it is made: the field from four sides with the boxes drawn in, and below it the edited scene."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as Picture
from PIL import ImageDraw
from torch import Tensor

from fieldcast.fields.box import Box
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.field import Field
from fieldcast.fields.files.images import eight_bit
from fieldcast.fields.paths import turntable
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering import render

SIDES, SIZE = 4, 320  # pictures in a row, pixels a side
COLORS = {"crop": (0, 120, 255), "erase": (230, 0, 0), "move": (0, 160, 0)}


def preview(
    before: Field, after: Field, boxes: list[tuple[str, Box]], progress: Progress = silent
) -> Float[Tensor, "h w 3"]:
    """Pictures of both from the same places, sRGB; boxes: what each is for, and where it is."""
    cameras = turntable(after, SIDES, (SIZE, SIZE))
    rows = []
    for number, field in enumerate((before, after)):

        def told(done: int, total: int, note: str = "", number: int = number) -> None:
            progress(number * total + done, 2 * total, note)

        pictures = [image.rgb.cpu().clamp(0, 1) for image in render(field, cameras, progress=told)]
        if field is before:
            pictures = [with_boxes(picture, cameras[[i]], boxes) for i, picture in enumerate(pictures)]
        rows.append(torch.cat(pictures, 1))
    return torch.cat(rows)


def with_boxes(
    picture: Float[Tensor, "h w 3"], camera: Cameras, boxes: list[tuple[str, Box]]
) -> Float[Tensor, "h w 3"]:
    """The picture that a camera sees with the edges of boxes drawn over it."""
    image = Picture.fromarray(eight_bit(picture).numpy())
    draw = ImageDraw.Draw(image)
    for name, box in boxes:
        at, depth = projected(camera, box.corners())
        for a, b in combinations(range(8), 2):
            if (a ^ b).bit_count() == 1 and bool((depth[[a, b]] > 1e-3).all()):  # an edge, before the camera
                draw.line([*at[a].tolist(), *at[b].tolist()], fill=COLORS[name], width=2)
    return torch.from_numpy(np.asarray(image).copy()) / 255


def projected(camera: Cameras, x: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
    """Where world points are in the picture of one ideal camera, pixels, and how far before it, world units."""
    c2w, (fx, fy, cx, cy) = camera.c2w[0], camera.intrinsics[0]
    right, up, back = ((x - c2w[:, 3]) @ c2w[:, :3]).unbind(-1)
    depth = -back
    near = depth.clamp_min(1e-3)
    return torch.stack([cx + fx * right / near, cy - fy * up / near], -1), depth
