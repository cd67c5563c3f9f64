"""Which joints move the vertices of a reconstructed surface: as they move the body's surface beneath it.

A vertex takes the weights of the nearest point of the body at rest, among the triangles that face the way it faces: a
hand that hangs beside a thigh is nearer to the thigh's cloth than it looks. Where clothes are far from the body,
weights are made even along the surface, so that a skirt is not torn between the legs.

Letters: V vertices, F faces of the body, J joints, K weights a vertex, M pairs of vertices and faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from fieldcast.fields.mesh import Mesh, edges, unit
from fieldcast.reconstruct.bodies.body import Body

CANDIDATES = 8  # triangles with the nearest middles, which are measured first
REACH = 0.05  # metres by which a triangle that faces the same way may be farther than one that does not
NEAR, FAR = 0.02, 0.08  # metres from the body: weights up to the first stay, from the second on are made even
EVEN = 0.06  # metres along the surface over which they are
ROUNDS = 64  # of evening, at most
SLIGHT = 1e-4  # weights below it are left out
POINTS = 4096  # looked at together
TINY = 1e-9  # metres, by which distances may be rounded


@dataclass(frozen=True, eq=False)
class Skin:
    """index: the joints that move each vertex. weights: how much each does; they add up to 1."""

    index: Int64[Tensor, "v k"]
    weights: Float[Tensor, "v k"]

    def dense(self, joints: int) -> Float[Tensor, "v j"]:
        """The weight of every joint; a joint that is named twice has the sum."""
        return self.weights.new_zeros(len(self.index), joints).scatter_add(1, self.index, self.weights)


@dataclass(frozen=True)
class Nearest:
    """The points of a surface that are nearest to others: their face, weights of its corners, and distances."""

    face: Int64[np.ndarray, " v"]
    weight: Float64[np.ndarray, "v 3"]
    distance: Float64[np.ndarray, " v"]


def skin_of(mesh: Mesh, body_vertices: Float[Tensor, "n 3"], body: Body) -> Skin:
    """Weights for the vertices of a mesh around a body at rest, of which body_vertices are the vertices there."""
    surface = Mesh(body_vertices.detach().cpu().double().numpy(), body.faces.cpu().numpy())
    found = nearest(mesh.vertices, mesh.vertex_normals(), surface)
    corners = Skin(body.weight_index.cpu(), body.weights.cpu().double()).dense(len(body.parents)).numpy()
    weights = (corners[surface.faces[found.face]] * found.weight[..., None]).sum(1)
    return sparse(torch.from_numpy(evened(weights, mesh, found.distance)))


def sparse(weights: Float[Tensor, "v j"], most: int | None = None) -> Skin:
    """The strongest weights, at most so many a vertex, made to add up to 1 again; joints of no weight are joint 0."""
    ordered, index = weights.sort(dim=1, descending=True, stable=True)
    kept = torch.where(ordered < SLIGHT, 0.0, ordered)
    count = min(int((kept > 0).sum(1).max()), most or weights.shape[1])
    kept, index = kept[:, :count], index[:, :count]
    return Skin(torch.where(kept > 0, index, 0), kept / kept.sum(1, keepdim=True))


def nearest(x: Float64[np.ndarray, "v 3"], normals: Float64[np.ndarray, "v 3"], surface: Mesh) -> Nearest:
    """The nearest points of a surface that faces as the given ones do, or, where that is far, of all of it. Exact:
    a first guess says how far it can be, and all triangles that reach into that ball are measured.
    """
    from scipy.spatial import cKDTree

    corners = surface.corners()
    facing, middle = unit(surface.normals()), corners.mean(1)
    radius = np.linalg.norm(corners - middle[:, None], axis=-1).max(1)
    tree, balls = cKDTree(middle), _balls(middle, radius)
    parts: list[Nearest] = []
    for k in range(0, len(x), POINTS):
        p, n = x[k : k + POINTS], normals[k : k + POINTS]
        around = tree.query(p, min(CANDIDATES, len(surface)))[1].reshape(-1)
        point = np.repeat(np.arange(len(p)), len(around) // len(p))
        guess = _best(p, n, corners, facing, point, around)[1]
        point, face = balls(p, guess + TINY)
        away = np.linalg.norm(p[point] - middle[face], axis=-1) - radius[face]
        hopeful = away + REACH * _against(n[point], facing[face]) <= guess[point] + TINY
        parts.append(_best(p, n, corners, facing, point[hopeful], face[hopeful])[0])
    return Nearest(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


Pairs = tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]


def _balls(
    middle: Float64[np.ndarray, "f 3"], radius: Float64[np.ndarray, " f"]
) -> Callable[[Float64[np.ndarray, "v 3"], Float64[np.ndarray, " v"]], Pairs]:
    """What finds all pairs of points and balls that are no farther apart than a distance for each point, and more.

    Balls of about the same size share a tree: a few large ones would make all searches wide.
    """
    from scipy.spatial import cKDTree

    size = np.ceil(np.log2(radius / max(float(radius.max()), 1e-30) + 1e-6) * 2)
    groups = [(size == k).nonzero()[0] for k in np.unique(size)]
    trees = [(which, cKDTree(middle[which]), float(radius[which].max())) for which in groups]

    def pairs(x: Float64[np.ndarray, "v 3"], distance: Float64[np.ndarray, " v"]) -> Pairs:
        points, balls = [], []
        for which, tree, most in trees:
            found = tree.query_ball_point(x, distance + most)
            points.append(np.repeat(np.arange(len(x)), [len(some) for some in found]))
            balls.append(which[np.concatenate(found).astype(np.int64)])
        return np.concatenate(points), np.concatenate(balls)

    return pairs


def _against(a: Float64[np.ndarray, "m 3"], b: Float64[np.ndarray, "m 3"]) -> Bool[np.ndarray, " m"]:
    """Whether directions point away from each other."""
    against: Bool[np.ndarray, " m"] = np.einsum("mx,mx->m", a, b) < 0
    return against


def _best(
    x: Float64[np.ndarray, "v 3"],
    normals: Float64[np.ndarray, "v 3"],
    corners: Float64[np.ndarray, "f 3 3"],
    facing: Float64[np.ndarray, "f 3"],
    point: Int64[np.ndarray, " m"],
    face: Int64[np.ndarray, " m"],
) -> tuple[Nearest, Float64[np.ndarray, " v"]]:
    """The best of pairs of points and faces, of which each point has one or more, and what it costs: its distance, and
    REACH if it faces the other way.
    """
    weight = closest(x[point], corners[face])
    distance = np.linalg.norm(x[point] - (corners[face] * weight[..., None]).sum(1), axis=-1)
    cost = distance + REACH * _against(normals[point], facing[face])
    order = np.lexsort([face, cost, point])
    best = order[np.concatenate([[True], np.diff(point[order]) > 0])]
    return Nearest(face[best], weight[best], distance[best]), cost[best]


def closest(x: Float64[np.ndarray, "m 3"], corners: Float64[np.ndarray, "m 3 3"]) -> Float64[np.ndarray, "m 3"]:
    """The weights of three corners that make the point of a triangle nearest to x: of its inside, or of an edge."""
    a, u, v = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    uu, uv, vv = ((p * q).sum(-1) for p, q in ((u, u), (u, v), (v, v)))
    up, vp = ((p * (x - a)).sum(-1) for p in (u, v))
    area = uu * vv - uv * uv
    with np.errstate(divide="ignore", invalid="ignore"):  # triangles without an area have edges alone
        second, third = (vv * up - uv * vp) / area, (uu * vp - uv * up) / area
    weight = np.stack([1 - second - third, second, third], -1)
    outside = (~(weight >= 0).all(-1) | ~(area > 1e-12 * uu * vv)).nonzero()[0]
    weight[outside] = _on_edges(x[outside], corners[outside])
    return weight


def _on_edges(x: Float64[np.ndarray, "m 3"], corners: Float64[np.ndarray, "m 3 3"]) -> Float64[np.ndarray, "m 3"]:
    """The weights of three corners that make the point of a triangle's edges nearest to x."""
    weight = np.zeros((3, len(x), 3))
    for k, (i, j) in enumerate(((0, 1), (1, 2), (2, 0))):
        start, along = corners[:, i], corners[:, j] - corners[:, i]
        t = ((x - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-30)
        weight[k, :, j] = t.clip(0, 1)
        weight[k, :, i] = 1 - weight[k, :, j]
    away = np.linalg.norm(np.einsum("kmc,mcx->kmx", weight, corners) - x, axis=-1)
    best: Float64[np.ndarray, "m 3"] = weight[away.argmin(0), np.arange(len(x))]
    return best


def evened(
    weights: Float64[np.ndarray, "v j"], mesh: Mesh, distance: Float64[np.ndarray, " v"]
) -> Float64[np.ndarray, "v j"]:
    """Weights that change gradually where the surface is far from the body: each round, means of the neighbours'."""
    from scipy.sparse import coo_array

    share = ((distance - NEAR) / (FAR - NEAR)).clip(0, 1)[:, None]
    if not share.any():
        return weights
    a, b = np.unique(edges(mesh.faces)[0], axis=0).T
    links = coo_array((np.ones(2 * len(a)), (np.append(a, b), np.append(b, a))), (len(distance),) * 2).tocsr()
    count = links.sum(1)[:, None]
    length = float(np.linalg.norm(mesh.vertices[a] - mesh.vertices[b], axis=-1).mean())
    for _ in range(min(ROUNDS, round((EVEN / max(length, 1e-9)) ** 2))):
        mean = np.where(count > 0, links @ weights / np.maximum(count, 1), weights)
        weights = weights + share * (mean - weights)
    return weights
