"""What frames look like: their surfaces in soft light from above, as a film that turns and as a sheet.

Light is painted into the colours of the vertices: half from everywhere, the rest from a lamp above, before and beside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Cameras, orbit, up_frame
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.mesh import Surfaces
from fieldcast.fields.space import Space

LAMP = (0.6, -0.3, 0.9)  # where it is from, on axes of which the third is up
SHADE, LIGHT = 0.55, 0.5  # of a colour: without the lamp, and the lamp's part
DISTANCE, FOV, ELEVATION = 3.8, math.radians(40), math.radians(20)  # of the camera; in half sides of the cube
FRONT = math.radians(40)  # from where sheets are seen
HELD = 0.35  # of the frames of a film's way there: how long it stays at either end


def lit(mesh: Mesh) -> Surfaces | None:
    """A mesh with light in its colours, as a scene; None of one without faces."""
    if not len(mesh):
        return None
    assert mesh.colors is not None
    lamp = up_frame(mesh.up).double().numpy() @ np.array(LAMP) / np.linalg.norm(LAMP)
    light = SHADE + LIGHT * (mesh.vertex_normals() @ lamp).clip(-0.7, 1)
    colors = (mesh.colors * light[:, None]).clip(0, 255).round().astype(np.uint8)
    return replace(mesh, colors=colors).surfaces()


def around(space: Space, azimuth: Float[Tensor, " v"], size: int, elevation: float = ELEVATION) -> Cameras:
    """Cameras that look at a cube from all around; azimuth: radians."""
    high = torch.full_like(azimuth, elevation)
    return orbit(space, azimuth, high, DISTANCE * space.unit, width=size, height=size, fov=FOV)


def picture(lit_mesh: Surfaces | None, camera: Cameras) -> Float[Tensor, "h w 3"]:
    """What a camera sees of a mesh over white, sRGB 0..1; of none, white."""
    if lit_mesh is None:
        width, height = camera.size[0].tolist()
        return torch.ones(height, width, 3)
    rgba = lit_mesh.pixels(camera, 0).float() / 255
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def sheet(scenes: list[Surfaces | None], space: Space, size: int, columns: int) -> Float[Tensor, "h w 3"]:
    """A picture of each, row by row."""
    camera = around(space, torch.tensor([FRONT]), size)
    cells = [picture(scene, camera) for scene in scenes]
    cells += [torch.ones_like(cells[0])] * (-len(cells) % columns)
    return torch.cat([torch.cat(cells[i : i + columns], 1) for i in range(0, len(cells), columns)])


def film(
    scenes: list[Surfaces | None], space: Space, size: int, progress: Progress = silent
) -> Iterator[Float[Tensor, "h w 3"]]:
    """From the first to the last and back, with a rest at both, while the camera goes once around."""
    there = list(range(len(scenes)))
    held = max(1, round(HELD * len(scenes)))
    order = [0] * held + there + [there[-1]] * held + there[::-1]
    azimuth = FRONT + torch.arange(len(order)) / len(order) * 2 * math.pi
    cameras = around(space, azimuth, size)
    for i, number in enumerate(order):
        yield picture(scenes[number], cameras[[i]])
        progress(i + 1, len(order), "filming")
