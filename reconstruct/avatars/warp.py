"""From where people stand back to how they are at rest: inverse skinning by the nearest vertex of the posed body.

A coarse grid about each posed body says which vertex is nearest to a place, so that nothing is searched along rays
(the published code searches for every sample). Letters: V vertices, T frames, K of them with a body, X by Y by Z
cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int16, Int64
from torch import Tensor

CELL = 0.025  # metres a side of a cell
NEAR = 0.10  # metres from the body that are looked at; there is nothing beyond


@dataclass(eq=False)
class Places:
    """Which vertex is nearest, at frame t: nearest[row[t], i, j, k] in the cell at low[t] + (i, j, k) cell; -1 if none
    is within NEAR. high: the box's other corner. row: -1 at frames in which the person is not present. cell: metres.
    """

    nearest: Int16[Tensor, "k x y z"]
    row: Int64[Tensor, " t"]
    low: Float[Tensor, "t 3"]
    high: Float[Tensor, "t 3"]
    cell: float = CELL

    def at(self, frame: Int64[Tensor, " n"], x: Float[Tensor, "n 3"]) -> Int64[Tensor, " n"]:
        """The nearest vertices of world points, or -1."""
        shape = torch.tensor(self.nearest.shape[1:], device=x.device)
        cell = ((x - self.low[frame]) / self.cell).long()
        inside = ((cell >= 0) & (cell < shape)).all(-1)
        cell = cell.clamp_min(0).minimum(shape - 1)
        row = self.row[frame]
        place = ((row.clamp_min(0) * shape[0] + cell[:, 0]) * shape[1] + cell[:, 1]) * shape[2] + cell[:, 2]
        found = self.nearest.reshape(-1).index_select(0, place).long()
        return torch.where(inside & (row >= 0), found, -1)


def places_of(vertices: Float[Tensor, "t v 3"], present: Bool[Tensor, " t"] | None = None) -> Places:
    """The grids of posed bodies, all as large as the largest needs to be. present: the frames that have one, or all."""
    present = torch.ones(len(vertices), dtype=torch.bool) if present is None else present
    low, high = vertices.amin(1) - NEAR, vertices.amax(1) + NEAR
    shape = ((high - low)[present].amax(0) / CELL).ceil().long().tolist()
    bodies = zip(vertices[present], low[present], strict=True)
    grids = [_nearest(v.double().numpy(), a.double().numpy(), shape) for v, a in bodies]
    row = torch.where(present, present.cumsum(0) - 1, -1)
    return Places(torch.from_numpy(np.stack(grids)), row, low, high)


def _nearest(
    vertices: Float64[np.ndarray, "v 3"], low: Float64[np.ndarray, " 3"], shape: list[int]
) -> Int16[np.ndarray, "x y z"]:
    from scipy.ndimage import binary_dilation
    from scipy.spatial import cKDTree

    cells = np.zeros(shape, bool)
    cells[tuple(((vertices - low) / CELL).astype(int).T)] = True
    where = np.argwhere(binary_dilation(cells, iterations=int(NEAR / CELL) + 1))
    tree = cKDTree(vertices, balanced_tree=False, compact_nodes=False)
    distance, index = tree.query(low + (where + 0.5) * CELL, distance_upper_bound=NEAR)
    grid = np.full(shape, -1, np.int16)
    grid[tuple(where.T)] = np.where(np.isfinite(distance), index, -1)
    return grid


def inverse(transforms: Float[Tensor, "*n 3 4"]) -> Float[Tensor, "*n 3 4"]:
    """The inverses of affine maps, by their rows' cross products: several times faster than by factors."""
    a, b, c = transforms[..., :3].unbind(-2)
    adjugate = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -1)
    turn = adjugate / (a * adjugate[..., 0]).sum(-1)[..., None, None]
    return torch.cat([turn, -(turn @ transforms[..., 3:])], -1)
