"""How far points are from a body at rest, on a grid: what an avatar's surface begins from.

Letters: V vertices, F faces, X by Y by Z grid points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from fieldcast.fields.mesh import Mesh
from fieldcast.fields.space import Space
from fieldcast.fields.triangles import Triangles

REACH = 0.12  # metres: nothing of a person is farther from the body, and distances are not told beyond
MARGIN = 0.02  # metres between that and the box


@dataclass(frozen=True, eq=False)
class Template:
    """distances: metres at the grid's points, which span `space` from corner to corner; negative inside, to REACH."""

    space: Space
    distances: Float[Tensor, "x y z"]


def template_of(vertices: Float[Tensor, "v 3"], faces: Int64[Tensor, "f 3"], cell: float = 0.015) -> Template:
    """The distances about a body at rest. cell: metres between the grid's points."""
    low = vertices.amin(0) - REACH - MARGIN
    counts = ((vertices.amax(0) + REACH + MARGIN - low) / cell).ceil().long() + 1
    high = low + (counts - 1) * cell
    aabb = [round(value, 6) for value in (*low.tolist(), *high.tolist())]
    space = Space((aabb[0], aabb[1], aabb[2], aabb[3], aabb[4], aabb[5]), up=(0.0, 1.0, 0.0))
    spans = zip(aabb[:3], aabb[3:], counts.tolist(), strict=True)
    points = torch.cartesian_prod(*(torch.linspace(a, b, n, dtype=torch.float64) for a, b, n in spans))
    signed = signed_distances(points.numpy(), Mesh(vertices.double().numpy(), faces.numpy()))
    return Template(space, torch.from_numpy(signed.reshape(counts.tolist())))


def signed_distances(points: Float64[np.ndarray, "n 3"], mesh: Mesh) -> Float32[np.ndarray, " n"]:
    """Metres to the surface, at most REACH, negative inside."""
    triangles = Triangles.of(mesh)
    distance = np.minimum(triangles.nearest(points, REACH).distance, REACH)
    signed: Float32[np.ndarray, " n"] = np.where(triangles.inside(points), -distance, distance).astype(np.float32)
    return signed
