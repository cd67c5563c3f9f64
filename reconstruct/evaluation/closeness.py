"""Two people near each other: whether they touch where they should, and how far one is inside the other.

Letters: V vertices of one body and W of another, K pairs of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from fieldcast.fields.mesh import Mesh
from fieldcast.fields.triangles import Triangles

MM = 1000.0
CONTACT = 0.03  # metres between bodies without clothes, within which they are in contact
FEW = 50  # vertices that are looked at first


def contacts(
    a: Float64[np.ndarray, "v 3"], b: Float64[np.ndarray, "w 3"], within: float = CONTACT
) -> Int64[np.ndarray, "k 2"]:
    """Which vertices of two bodies touch: each vertex of one and the nearest of the other, if closer than `within`.

    Both ways: a pair may be there twice, once for each of the two.
    """
    from scipy.spatial import cKDTree

    one, other = cKDTree(a), cKDTree(b)
    away, nearest = other.query(a, distance_upper_bound=within)
    here = np.isfinite(away).nonzero()[0]
    back, from_b = one.query(b, distance_upper_bound=within)
    there = np.isfinite(back).nonzero()[0]
    return np.concatenate([np.stack([here, nearest[here]], 1), np.stack([from_b[there], there], 1)])


def contact_mm(
    a: Float64[np.ndarray, "v 3"], b: Float64[np.ndarray, "w 3"], pairs: Int64[np.ndarray, "k 2"]
) -> float | None:
    """How far vertices are from each other that touch in truth: the mean over pairs. As with Hi4D's contacts."""
    return MM * float(np.linalg.norm(a[pairs[:, 0]] - b[pairs[:, 1]], axis=-1).mean()) if len(pairs) else None


@dataclass(frozen=True)
class Overlap:
    """vertices: of both surfaces; inside: how many are inside the other; depth: metres, the sum of how far those are
    from its surface. gap: metres, the least distance from a vertex of one to the surface of the other; 0 if one is
    inside.
    """

    vertices: int
    inside: int
    depth: float
    gap: float

    @property
    def share_percent(self) -> float:
        return 100 * self.inside / self.vertices if self.vertices else 0.0

    @property
    def depth_mm(self) -> float:
        """The mean over the vertices that are inside; 0 where none is."""
        return MM * self.depth / self.inside if self.inside else 0.0


def overlap(a: Mesh, b: Mesh) -> Overlap:
    """How two surfaces stand to each other."""
    one, other = Triangles.of(a), Triangles.of(b)
    inside = [_deep(a.vertices, other), _deep(b.vertices, one)]
    count = sum(map(len, inside))
    gap = 0.0 if count else _gap(b.vertices, one, _gap(a.vertices, other))
    return Overlap(len(a.vertices) + len(b.vertices), count, float(sum(d.sum() for d in inside)), gap)


def _deep(points: Float64[np.ndarray, "v 3"], other: Triangles) -> Float64[np.ndarray, " k"]:
    """How far those points are from a surface that are inside of it."""
    low, high = other.boxes[1, :3], other.boxes[1, 3:]
    near = points[((points > low) & (points < high)).all(1)]
    return other.nearest(near[other.inside(near)]).distance


def _gap(points: Float64[np.ndarray, "v 3"], other: Triangles, most: float = math.inf) -> float:
    """The least distance from points to a surface, if it is less than `most`. A few points say how far to look."""
    few = points[:: max(len(points) // FEW, 1)]
    most = min(most, float(other.nearest(few).distance.min(initial=math.inf)))
    return min(most, float(other.nearest(points, most).distance.min(initial=math.inf)))
