"""How near two surfaces are, in metres as they stand or after one has been moved rigidly onto the other.

Letters: N points, `truth` and `found` the two surfaces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64, Int64

from fieldcast.fields.mesh import Mesh, unit
from fieldcast.fields.triangles import Triangles
from fieldcast.reconstruct.evaluation.solids import VOXEL, iou, solid

SAMPLES = 10_000  # points of a surface, from which distances are taken
ALIGNED_BY = 1_000  # of them, by which one surface is moved onto the other
STEPS = 30  # of that, at most
STILL = 1e-5  # metres: it ends when the mean distance falls by less
CM = 100.0


@dataclass(frozen=True, eq=False)
class Samples:
    """Points of a surface, evenly over its area, with the unit normals of their faces."""

    points: Float64[np.ndarray, "n 3"]
    normals: Float64[np.ndarray, "n 3"]


@dataclass(frozen=True, eq=False)
class Shape:
    """A surface, made ready to be compared with others."""

    mesh: Mesh
    triangles: Triangles
    normals: Float64[np.ndarray, "f 3"]
    samples: Samples

    @classmethod
    def of(cls, mesh: Mesh, generator: torch.Generator, samples: int = SAMPLES) -> Shape:
        return cls(mesh, Triangles.of(mesh), unit(mesh.normals()), sampled(mesh, samples, generator))


def sampled(mesh: Mesh, count: int, generator: torch.Generator) -> Samples:
    """Points at random places of a surface, as many on a face as its area's share; none on one without area.

    Places on a triangle are uniform: (1 - sqrt r) A + sqrt r (1 - s) B + sqrt r s C for r and s in [0, 1) (Osada et
    al. 2002, eq. 1). Faces are taken at even steps of area from a random start, which spreads points better than
    drawing each on its own.
    """
    area = np.linalg.norm(mesh.normals(), axis=-1)
    total = float(area.sum())
    if not total > 0:
        return Samples(np.zeros((0, 3)), np.zeros((0, 3)))
    r, s = torch.rand(2, count, generator=generator, dtype=torch.float64).numpy()
    start = float(torch.rand((), generator=generator, dtype=torch.float64))
    steps = (np.arange(count) + start) / count * total
    face = np.minimum(np.searchsorted(area.cumsum(), steps, side="right"), int(area.nonzero()[0][-1]))
    root = np.sqrt(r)
    shares = np.stack([1 - root, root * (1 - s), root * s], -1)
    points = (mesh.corners()[face] * shares[..., None]).sum(1)
    return Samples(points, unit(mesh.normals()[face]))


def compare(truth: Shape, found: Shape, voxel: float = VOXEL) -> dict[str, float]:
    """The numbers of two surfaces that both have an area.

    p2s_cm: mean distance from samples of `found` to the surface of `truth`. chamfer_cm: half of that plus half of the
    mean distance from samples of `truth` to the surface of `found`. normal_consistency: mean |cosine| between the
    normals of samples and of the nearest faces of the other, both ways. v_iou: of what they enclose.
    """
    there, back = truth.triangles.nearest(found.samples.points), found.triangles.nearest(truth.samples.points)
    cosines = _cosine(found.samples, truth.normals, there.face), _cosine(truth.samples, found.normals, back.face)
    p2s, s2p = float(there.distance.mean()), float(back.distance.mean())
    return {
        "v_iou": iou(solid(truth.mesh, voxel), solid(found.mesh, voxel)) or 0.0,
        "chamfer_cm": CM * (p2s + s2p) / 2,
        "p2s_cm": CM * p2s,
        "normal_consistency": sum(cosines) / 2,
    }


def aligned(truth: Shape, found: Shape) -> Shape:
    """`found`, moved rigidly onto `truth`: iterated closest points (Besl and McKay 1992), point to surface.

    ALIGNED_BY samples of `found` are moved onto their nearest points of `truth` by the rotation and shift of the least
    squares, over and over. It finds the nearest standstill, not the best of all.
    """
    start = found.samples.points[:: max(len(found.samples.points) // ALIGNED_BY, 1)]
    turn, shift, last = np.eye(3), np.zeros(3), np.inf
    for _ in range(STEPS):
        nearest = truth.triangles.nearest(start @ turn.T + shift)
        if not last - nearest.distance.mean() > STILL:
            break
        last = float(nearest.distance.mean())
        turn, shift = rigid(start, nearest.points)
    return _moved(found, turn, shift)


def rigid(
    source: Float64[np.ndarray, "n 3"], target: Float64[np.ndarray, "n 3"]
) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, " 3"]]:
    """The rotation R and shift t with the least sum of |R source + t - target|^2 (Umeyama 1991, eqs. 40 and 41)."""
    a, b = source.mean(0), target.mean(0)
    u, _, vt = np.linalg.svd((target - b).T @ (source - a))
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turn = u @ sign @ vt
    return turn, b - turn @ a


def _moved(shape: Shape, turn: Float64[np.ndarray, "3 3"], shift: Float64[np.ndarray, " 3"]) -> Shape:
    """The same surface with the same samples, elsewhere."""
    mesh = replace(shape.mesh, vertices=shape.mesh.vertices @ turn.T + shift)
    samples = Samples(shape.samples.points @ turn.T + shift, shape.samples.normals @ turn.T)
    return Shape(mesh, Triangles.of(mesh), shape.normals @ turn.T, samples)


def _cosine(samples: Samples, normals: Float64[np.ndarray, "f 3"], face: Int64[np.ndarray, " n"]) -> float:
    """The mean |cosine| between samples' normals and those of the faces nearest to them."""
    return float(np.abs((samples.normals * normals[face]).sum(-1)).mean())
