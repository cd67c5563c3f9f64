"""What the surface of a frame is like, beside those of the objects that were given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from fieldcast.fields.mesh import Mesh, neighbors, topology


@dataclass(frozen=True)
class Surface:
    """bend: mean angle between the normals of neighbouring faces, degrees. tight: whether every edge has two faces.
    area: over the volume to the power of 2/3 (a ball: 4.84). None: there is no surface, or it encloses nothing.
    """

    bend: float | None
    tight: bool
    area: float | None


def surface(mesh: Mesh) -> Surface:
    """Of a mesh in the world; none of the numbers depends on its size."""
    if not len(mesh):
        return Surface(None, False, None)
    found = topology(mesh)
    area = float(np.linalg.norm(mesh.normals(), axis=-1).sum() / 2)
    return Surface(bend(mesh), found.watertight, area / found.volume ** (2 / 3) if found.volume > 0 else None)


def bend(mesh: Mesh) -> float | None:
    """The mean angle between the normals of faces that share an edge, in degrees, weighted by the edge's length."""
    normals = mesh.normals()
    length = np.linalg.norm(normals, axis=-1)
    pairs = neighbors(mesh.faces)
    pairs = pairs[(length[pairs] > 1e-12 * length.max()).all(1)]  # faces without area have no normal
    if not len(pairs):
        return None
    unit = normals / length.clip(1e-300)[:, None]
    angle = np.degrees(np.arccos((unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(-1).clip(-1, 1)))
    weight = _shared(mesh, pairs)
    return float((angle * weight).sum() / weight.sum())


def _shared(mesh: Mesh, pairs: Int64[np.ndarray, "p 2"]) -> Float64[np.ndarray, " p"]:
    """The lengths of the edges that pairs of faces share."""
    first, second = (mesh.faces[pairs[:, k]] for k in (0, 1))
    common = (first[:, :, None] == second[:, None]).any(2)
    corners = mesh.vertices[first]
    a = corners[np.arange(len(pairs)), common.argmax(1)]
    b = corners[np.arange(len(pairs)), 2 - common[:, ::-1].argmax(1)]
    lengths: Float64[np.ndarray, " p"] = np.linalg.norm(a - b, axis=-1)
    return lengths
