"""Fewer faces for the same surface, closed as before.

Letters: F faces, C = 3 F corners of faces, E = 3 F edges of faces (each edge of the mesh once for each of its faces).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64

from fieldcast.errors import FieldcastError
from fieldcast.fields.mesh import Mesh, edges, groups

PULL = 0.05  # of the way to their neighbours: how far vertices move that lie in one place


def simplified(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with at most about so many faces (quadric error metrics, Garland and Heckbert)."""
    if len(mesh) <= faces:
        return mesh
    try:
        from fast_simplification import simplify
    except ImportError:
        raise FieldcastError(
            "a mesh with fewer faces needs fast-simplification, which is not here: pip install fast-simplification"
        ) from None
    center, size = mesh.vertices.mean(0), float(np.ptp(mesh.vertices, axis=0).max())
    # It computes in single precision: far from the origin that would be coarse.
    local = ((mesh.vertices - center) / size).astype(np.float32)
    vertices, kept = simplify(local, mesh.faces.astype(np.int32), target_count=faces)
    result = Mesh(vertices.astype(np.float64) * size + center, np.asarray(kept, np.int64))
    return pulled_apart(uncrossed(cut_apart(result.subset(proper(result)))))


def proper(mesh: Mesh) -> Bool[np.ndarray, " f"]:
    """Which faces enclose something: they have three different vertices, and no twin that faces the other way."""
    ordered: Int64[np.ndarray, "f 3"] = np.sort(mesh.faces, -1)
    different = (ordered[:, 0] < ordered[:, 1]) & (ordered[:, 1] < ordered[:, 2])
    _, which, counts = np.unique(ordered, axis=0, return_inverse=True, return_counts=True)
    result: Bool[np.ndarray, " f"] = different & (counts[which.reshape(-1)] % 2 == 1)
    return result


def cut_apart(mesh: Mesh) -> Mesh:
    """The same surface with vertices doubled where it only touches itself, so that an edge has two faces again.

    Where four faces meet in an edge, each is paired with one that runs along it the other way, if possible one that it
    hangs together with anyhow; the corners around a vertex that pairs do not connect become vertices of their own.
    Edges that are open, or whose faces disagree about the outside, stay as they are.
    """
    ends = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    corner = np.arange(mesh.faces.size).reshape(-1, 3)[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    forth = ends[:, 0] < ends[:, 1]
    corner[~forth] = corner[~forth, ::-1]  # the corner at the lower vertex first, as in `edge`
    edge = ends.min(-1) * len(mesh.vertices) + ends.max(-1)
    _, which, counts = np.unique(edge, return_inverse=True, return_counts=True)
    even = np.bincount(which, np.where(forth, 1, -1))[which] == 0
    order = np.argsort(edge[~even], kind="stable")
    odd = corner[~even][order]
    kept = np.stack([odd[:-1], odd[1:]], -1)[np.diff(edge[~even][order]) == 0].reshape(-1, 2)
    fans = _joined(corner, edge, forth, even & (counts[which] == 2), kept, np.arange(mesh.faces.size))
    vertex = _joined(corner, edge, forth, even, kept, fans)
    first = np.unique(vertex, return_index=True)[1]
    return Mesh(mesh.vertices[mesh.faces.reshape(-1)[first]], vertex.reshape(-1, 3))


def _joined(
    corner: Int64[np.ndarray, "e 2"],
    edge: Int64[np.ndarray, " e"],
    forth: Bool[np.ndarray, " e"],
    paired: Bool[np.ndarray, " e"],
    kept: Int64[np.ndarray, "p 2"],
    known: Int64[np.ndarray, " c"],
) -> Int64[np.ndarray, " c"]:
    """Which corners are one vertex: `kept` pairs, and those of faces on both sides of edges that are to be `paired`.

    Faces that run forth along an edge are paired with those that run back in the order of what is known of their
    corners.
    """
    order = np.lexsort([known[corner[:, 1]], known[corner[:, 0]], edge])
    order = order[paired[order]]
    pairs = np.stack([corner[order[forth[order]]], corner[order[~forth[order]]]], -1)
    return groups(len(known), np.concatenate([pairs.reshape(-1, 2), kept]))


def uncrossed(mesh: Mesh) -> Mesh:
    """The same surface with vertices added at the middle of edges that still have four faces or more, one for each two
    of them: a surface that touches itself along an edge may hang together around both of its ends.
    """
    pairs, _ = edges(mesh.faces)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    faces, vertices = mesh.faces, mesh.vertices
    for u, v in found[counts > 2].tolist():
        forth, back = _along(faces, u, v), _along(faces, v, u)
        if len(forth) != len(back):
            continue  # faces disagree about the outside
        for f, g in zip(forth.tolist(), back.tolist(), strict=True):
            vertices = np.concatenate([vertices, vertices[[u, v]].mean(0, keepdims=True)])
            new = [_halves(faces[f], u, v, len(vertices) - 1), _halves(faces[g], v, u, len(vertices) - 1)]
            faces = faces.copy()
            faces[f], faces[g] = new[0][0], new[1][0]
            faces = np.concatenate([faces, [new[0][1], new[1][1]]])
    return Mesh(vertices, faces)


def _along(faces: Int64[np.ndarray, "f 3"], u: int, v: int) -> Int64[np.ndarray, " k"]:
    """The faces that have v after u."""
    found: Int64[np.ndarray, " k"] = ((faces == u) & (np.roll(faces, -1, -1) == v)).any(-1).nonzero()[0]
    return found


def _halves(face: Int64[np.ndarray, " 3"], u: int, v: int, middle: int) -> Int64[np.ndarray, "2 3"]:
    """A face that has v after u, cut in two at the middle of that edge."""
    return np.stack([np.where(face == v, middle, face), np.where(face == u, middle, face)])


def pulled_apart(mesh: Mesh) -> Mesh:
    """The same with vertices that lie in one place moved a little towards their neighbours, so that readers which merge
    what lies in one place find the surface closed too.
    """
    _, which, counts = np.unique(mesh.vertices, axis=0, return_inverse=True, return_counts=True)
    double = counts[which.reshape(-1)] > 1
    sums, number = np.zeros_like(mesh.vertices), np.bincount(mesh.faces.reshape(-1), minlength=len(mesh.vertices))
    for k in range(3):
        others = mesh.vertices[mesh.faces[:, [(k + 1) % 3, (k + 2) % 3]]].mean(1)
        for axis in range(3):
            sums[:, axis] += np.bincount(mesh.faces[:, k], others[:, axis], len(sums))
    towards = sums / np.maximum(number, 1)[:, None]
    return Mesh(np.where(double[:, None], mesh.vertices + PULL * (towards - mesh.vertices), mesh.vertices), mesh.faces)
