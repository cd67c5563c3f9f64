"""Colours of a reconstructed surface, from what tells the colour of a point: at its vertices, and as a texture.

Letters: N points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from fieldcast.distill.meshing import with_texture
from fieldcast.distill.meshing.paint import Paint, vertex_colors
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.progress import Progress, silent

Color = Callable[[Float[Tensor, "n 3"], Float[Tensor, "n 3"]], Float[Tensor, "n 3"]]
"""The sRGB colours, 0 to 1, of points of a surface with these unit normals, outwards; both float32 on the CPU."""


def colored(mesh: Mesh, color: Color, progress: Progress = silent) -> Mesh:
    """A mesh with colours at its vertices, and without the texture that it may have."""
    return replace(mesh, uv=None, texture=None, colors=vertex_colors(mesh, _paint(color), progress))


def textured(mesh: Mesh, color: Color, size: int, progress: Progress = silent) -> Mesh:
    """A mesh with colours at its vertices and a texture of `size` texels a side."""
    return with_texture(colored(mesh, color, progress), _paint(color), size, progress)


def _paint(color: Color) -> Paint:
    @torch.no_grad()
    def paint(
        x: Float64[np.ndarray, "n 3"], normal: Float64[np.ndarray, "n 3"], face: Int64[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n 3"]:
        rgb = color(torch.from_numpy(x).float(), torch.from_numpy(normal).float())
        return rgb.float().cpu().numpy().astype(np.float32)

    return paint
