"""An object on a grid of cells: how far its surface is, and what colour it has. It becomes a field and a mesh.

Letters: R cells a side, `c` cells. Distances are in cells, positive outside; what lies further than BAND cells from the
surface is at BAND. Axes are the grid's own: the third points up, and it is a cube about the object with a margin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from fieldcast.fields.cameras import up_frame
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kernels.harmonics import harmonics
from fieldcast.fields.kernels.voxels import BLOCK
from fieldcast.fields.kinds.voxels import VoxelsField, VoxelsSizes
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.space import Space, Vector3
from fieldcast.fields.spec import FieldSpec

RESOLUTION = 64
FILL = 0.9  # of a side of the grid, that the object's longest side takes
BAND = 4.0  # cells
SLOPE = 6.0  # of the logit of density, per cell: half a cell outside, a cell is 8 % opaque
PEAK = 53.0  # density per half box of a cell at the surface, over log 2: half a cell inside, a cell is 99 % opaque


@dataclass(frozen=True, eq=False)
class Volume:
    """sdf: signed distance in cells, clamped to BAND, negative inside. rgb: sRGB 0..1 of the nearest surface. space:
    the cube of the world that the grid fills, and which way is up in it.
    """

    sdf: Float[Tensor, "r r r"]
    rgb: Float[Tensor, "r r r 3"]
    space: Space

    @property
    def resolution(self) -> int:
        return len(self.sdf)

    @property
    def solid(self) -> Bool[Tensor, "r r r"]:
        """The cells whose middle is inside."""
        return self.sdf < 0

    def turned(self, quarters: int) -> Volume:
        """Turned about the vertical by so many quarters of a circle, counter-clockwise seen from above."""
        return replace(self, sdf=torch.rot90(self.sdf, quarters, (0, 1)), rgb=torch.rot90(self.rgb, quarters, (0, 1)))

    def field(self) -> VoxelsField:
        """Voxels with a vertex in the middle of each cell, whose logit of density is linear in the distance."""
        turn = world_from_grid(self.space.up)
        sdf, rgb = in_world(self.sdf, turn), in_world(self.rgb, turn)
        density = DensityActivation("softplus", scale=PEAK)
        sizes = VoxelsSizes(self.resolution, 0, 0, (self.resolution,) * 3)
        spec = FieldSpec(
            kind="voxels",
            sizes=sizes,
            space=self.space,
            density=density,
            color="shifted_clamp",
            occupancy=64,
            steps=256,
        )
        field = VoxelsField(spec)
        values = torch.cat([-SLOPE * sdf[..., None], (rgb.clamp(0, 1) - 0.5) / harmonics(torch.zeros(1, 3), 0)], -1)
        side = sizes.blocks_per_side
        field.data = nn.Parameter(
            values.reshape(side, BLOCK, side, BLOCK, side, BLOCK, 4)
            .permute(0, 2, 4, 1, 3, 5, 6)
            .reshape(-1, 4)
            .contiguous()
        )
        near = torch.nn.functional.max_pool3d((sdf < BAND / 2)[None].float(), 3, 1, 1)[0] > 0
        return field.allocate(Occupancy.of_cells(near))

    def mesh(self) -> Mesh:
        """The surface with colours at its vertices (marching cubes), in the world; of nothing, no faces."""
        from scipy.ndimage import map_coordinates
        from skimage.measure import marching_cubes

        sdf = np.pad(self.sdf.numpy(), 1, constant_values=BAND)
        if not (sdf < 0).any():
            return Mesh(
                np.zeros((0, 3)), np.zeros((0, 3), np.int64), colors=np.zeros((0, 3), np.uint8), up=self.space.up
            )
        vertices, faces, _, _ = marching_cubes(sdf, 0.0, gradient_direction="descent")
        at = (vertices.astype(np.float64) - 1).T
        colors = np.stack(
            [map_coordinates(self.rgb[..., k].numpy(), at, order=1, mode="nearest") for k in range(3)], -1
        )
        world = ((at.T + 0.5) * 2 / self.resolution - 1) @ world_from_grid(self.space.up).double().numpy().T
        center = np.asarray(self.space.center)
        return Mesh(
            world * self.space.unit + center,
            faces.astype(np.int64),
            colors=(colors.clip(0, 1) * 255).round().astype(np.uint8),
            up=self.space.up,
        )


def world_from_grid(up: Vector3) -> Float[Tensor, "3 3"]:
    """The rotation that takes the grid's axes to the world's: by quarters, its third axis to that nearest to `up`."""
    vector = torch.tensor(up, dtype=torch.float32)
    axis = int(vector.abs().argmax())
    nearest = [0.0, 0.0, 0.0]
    nearest[axis] = float(vector[axis].sign())
    return up_frame((nearest[0], nearest[1], nearest[2])).round() + 0.0


def in_world(grid: Shaped[Tensor, "r r r *c"], turn: Float[Tensor, "3 3"]) -> Shaped[Tensor, "r r r *c"]:
    """Values on the grid's own axes, on those of the world."""
    axes = turn.abs().argmax(1).tolist()  # of the grid, along each of the world's
    backwards = [i for i in range(3) if turn[i, axes[i]] < 0]
    return grid.permute(*axes, *range(3, grid.ndim)).flip(backwards)


def in_grid(values: Shaped[Tensor, "r r r *c"], turn: Float[Tensor, "3 3"]) -> Shaped[Tensor, "r r r *c"]:
    """The inverse of `in_world`."""
    return in_world(values, turn.T)
