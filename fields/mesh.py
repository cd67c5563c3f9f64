"""A triangle mesh with its colours, and what can be said of its shape.

Letters: V vertices, F faces, E edges, C connected components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from fieldcast.fields.scenes.mesh import Surfaces
from fieldcast.fields.scenes.surfaces import Surface, to_linear
from fieldcast.fields.space import Vector3

Vertices = Float64[np.ndarray, "v 3"]
Faces = Int64[np.ndarray, "f 3"]


@dataclass(frozen=True)
class Mesh:
    """Triangles in the world frame of the field that they come from.

    vertices: world positions. faces: three vertices, counter-clockwise seen from outside. uv: [F, 3, 2] texture
    coordinates of each face's own corners, 0 to 1, v downwards. texture: sRGB 0..255. colors: sRGB 0..255 of the
    vertices. A mesh has a texture, or colours, or both, or neither yet. up: a unit vector of the world.
    """

    vertices: Vertices
    faces: Faces
    uv: Float32[np.ndarray, "f 3 2"] | None = None
    texture: UInt8[np.ndarray, "h w 3"] | None = None
    colors: UInt8[np.ndarray, "v 3"] | None = None
    up: Vector3 = (0.0, 0.0, 1.0)

    def __len__(self) -> int:
        """How many faces."""
        return len(self.faces)

    def parameter_count(self) -> int:
        """How many numbers say where it is and how it looks."""
        look = self.colors if self.texture is None else self.texture
        return self.vertices.size + (0 if look is None else look.size)

    def corners(self) -> Float64[np.ndarray, "f 3 3"]:
        """The world positions of each face's corners."""
        corners: Float64[np.ndarray, "f 3 3"] = self.vertices[self.faces]
        return corners

    def normals(self) -> Float64[np.ndarray, "f 3"]:
        """Outward normals of the faces, as long as twice their areas."""
        a, b, c = self.corners().transpose(1, 0, 2)
        normals: Float64[np.ndarray, "f 3"] = np.cross(b - a, c - a)
        return normals

    def vertex_normals(self) -> Float64[np.ndarray, "v 3"]:
        """Unit normals of the vertices: those of the faces around, weighted by area."""
        sums, normals = np.zeros_like(self.vertices), self.normals()
        for k in range(3):
            for axis in range(3):
                sums[:, axis] += np.bincount(self.faces[:, k], normals[:, axis], len(sums))
        return unit(sums)

    def subset(self, kept: Bool[np.ndarray, " f"]) -> Mesh:
        """Some of the faces, and the vertices that they use. Colours are not kept: they come last."""
        used, faces = np.unique(self.faces[kept], return_inverse=True)
        return Mesh(self.vertices[used], faces.reshape(-1, 3))

    def surface(self) -> Surface:
        """The same triangles in the form in which rays are cast at them; grey without colours."""
        count = len(self)
        uv = np.zeros((count, 3, 2), np.float32) if self.uv is None else self.uv
        tint, texture = np.ones((count, 3, 4), np.float32), None
        if self.texture is not None:
            texture = np.concatenate([self.texture, np.full_like(self.texture[..., :1], 255)], -1)
        elif self.colors is not None:
            tint[..., :3] = to_linear(self.colors / 255)[self.faces]
        return Surface(self.corners(), uv, tint, texture)

    def surfaces(self) -> Surfaces:
        """The same mesh as a scene."""
        return Surfaces([self.surface()], self.up)


def unit(vectors: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    """Vectors at length 1; those of length 0 stay as they are."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Float64[np.ndarray, "n 3"] = vectors / np.maximum(length, 1e-30)
    return result


def edges(faces: Faces) -> tuple[Int64[np.ndarray, "e3 2"], Int64[np.ndarray, " e3"]]:
    """The three edges of every face, lower vertex first, and the face that each belongs to."""
    pairs = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), -1)
    return pairs, np.repeat(np.arange(len(faces)), 3)


def neighbors(faces: Faces) -> Int64[np.ndarray, "p 2"]:
    """Pairs of faces that share an edge."""
    pairs, face = edges(faces)
    key = pairs[:, 0] * (int(faces.max(initial=0)) + 1) + pairs[:, 1]
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    return np.stack([face[order][:-1][same], face[order][1:][same]], -1)


def groups(count: int, pairs: Int64[np.ndarray, "p 2"]) -> Int64[np.ndarray, " n"]:
    """The number of the connected component that each of `count` things belongs to, which `pairs` connect."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (count, count))
    found = connected_components(links, directed=False)[1]
    return np.asarray(found, np.int64)


@dataclass(frozen=True)
class Topology:
    """components: connected by edges. open_edges: of one face alone; crossed_edges: of more than two. volume: world
    units cubed, of what the faces enclose (meaningful when there are no open edges).
    """

    components: int
    open_edges: int
    crossed_edges: int
    volume: float

    @property
    def watertight(self) -> bool:
        """Every edge has two faces."""
        return self.open_edges == self.crossed_edges == 0


def topology(mesh: Mesh) -> Topology:
    """How a mesh hangs together."""
    pairs, _ = edges(mesh.faces)
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    parts = groups(len(mesh), neighbors(mesh.faces))
    a, b, c = mesh.corners().transpose(1, 0, 2)
    volume = float((a * np.cross(b, c)).sum() / 6)
    return Topology(int(parts.max(initial=-1)) + 1, int((counts == 1).sum()), int((counts > 2).sum()), volume)
