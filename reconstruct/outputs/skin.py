"""Which joints move the vertices of a reconstructed surface: as they move the body's surface beneath it.

A vertex takes the weights of the nearest point of the body at rest, among the triangles that face the way it faces: a
hand that hangs beside a thigh is nearer to the thigh's cloth than it looks. Where clothes are far from the body,
weights are made even along the surface, so that a skirt is not torn between the legs.

Letters: V vertices, J joints, K weights a vertex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from fieldcast.fields.mesh import Mesh, edges
from fieldcast.fields.triangles import Nearest, Triangles
from fieldcast.reconstruct.bodies.body import Body

REACH = 0.05  # metres by which a triangle that faces the same way may be farther than one that does not
NEAR, FAR = 0.02, 0.08  # metres from the body: weights up to the first stay, from the second on are made even
EVEN = 0.06  # metres along the surface over which they are
ROUNDS = 64  # of evening, at most
SLIGHT = 1e-4  # weights below it are left out


@dataclass(frozen=True, eq=False)
class Skin:
    """index: the joints that move each vertex. weights: how much each does; they add up to 1."""

    index: Int64[Tensor, "v k"]
    weights: Float[Tensor, "v k"]

    def dense(self, joints: int) -> Float[Tensor, "v j"]:
        """The weight of every joint; a joint that is named twice has the sum."""
        return self.weights.new_zeros(len(self.index), joints).scatter_add(1, self.index, self.weights)


def skin_of(mesh: Mesh, body_vertices: Float[Tensor, "n 3"], body: Body) -> Skin:
    """Weights for the vertices of a mesh around a body at rest, of which body_vertices are the vertices there."""
    surface = Mesh(body_vertices.detach().cpu().double().numpy(), body.faces.cpu().numpy())
    found = nearest(mesh, surface)
    corners = Skin(body.weight_index.cpu(), body.weights.cpu().double()).dense(len(body.parents)).numpy()
    weights = (corners[surface.faces[found.face]] * found.weights[..., None]).sum(1)
    return sparse(torch.from_numpy(evened(weights, mesh, found.distance)))


def sparse(weights: Float[Tensor, "v j"], most: int | None = None) -> Skin:
    """The strongest weights, at most so many a vertex, made to add up to 1 again; joints of no weight are joint 0."""
    ordered, index = weights.sort(dim=1, descending=True, stable=True)
    kept = torch.where(ordered < SLIGHT, 0.0, ordered)
    count = min(int((kept > 0).sum(1).max()), most or weights.shape[1])
    kept, index = kept[:, :count], index[:, :count]
    return Skin(torch.where(kept > 0, index, 0), kept / kept.sum(1, keepdim=True))


def nearest(mesh: Mesh, surface: Mesh) -> Nearest:
    """The points of a surface nearest to the vertices of a mesh: of faces that face as they do or, where these are far,
    of any.
    """
    return Triangles.of(surface).nearest(mesh.vertices, facing=mesh.vertex_normals(), farther=REACH)


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
