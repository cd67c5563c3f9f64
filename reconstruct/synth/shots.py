"""Pictures of clothed people in a room, by rays: colours, who is seen, and how far away.

Light comes from all sides and a little more from above, so that shapes show and a coat keeps its colour when somebody
turns about. People darken the floor about their feet a little.

Letters: P people, N vertices and F faces of all of them, R rays, H by W pixels. Metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.scenes.mesh import Caster
from fieldcast.fields.scenes.surfaces import Surface
from fieldcast.reconstruct.synth.room import Room

SUPERSAMPLE = 2
LIGHT = np.array([0.25, 0.8, 0.55]) / np.linalg.norm([0.25, 0.8, 0.55])
AMBIENT, DIRECT = 0.64, 0.38
SHADOWS = ((0.35, 0.22), (0.13, 0.3))  # radius in metres and darkness, about the body and about each foot
FLOOR = 2


@dataclass(frozen=True, eq=False)
class Worn:
    """What is seen of somebody: vertices in the world, frame by frame, and their colours without light, sRGB."""

    name: str
    vertices: Float32[np.ndarray, "t n 3"]
    faces: Int64[np.ndarray, "f 3"]
    colors: UInt8[np.ndarray, "n 3"]


@dataclass(frozen=True, eq=False)
class Shot:
    """image: sRGB. labels: 0 for the room, 1 + the number of a person. depth: metres along the ray, the mean over
    those rays of a pixel that its label comes from.
    """

    image: UInt8[Tensor, "h w 3"]
    labels: UInt8[Tensor, "h w"]
    depth: Float32[np.ndarray, "h w"]


class Moment:
    """All that is there at one frame, ready to be looked at from anywhere."""

    def __init__(self, room: Room, people: Sequence[Worn], frame: int) -> None:
        self.room = room
        meshes = [Mesh(person.vertices[frame].astype(np.float64), person.faces) for person in people]
        self.corners = np.concatenate([mesh.corners() for mesh in meshes])
        colors = [_lit(mesh, person.colors)[mesh.faces] for mesh, person in zip(meshes, people, strict=True)]
        self.colors = np.concatenate(colors)
        self.label = np.repeat(np.arange(1, len(people) + 1), [len(mesh) for mesh in meshes])
        self.feet = [_feet(mesh.vertices) for mesh in meshes]
        faces = len(self.corners)
        blank = np.broadcast_to(np.float32(1), (faces, 3, 4))
        self.caster = Caster([Surface(self.corners, np.broadcast_to(np.float32(0), (faces, 3, 2)), blank)])

    def shoot(self, cameras: Cameras, index: int) -> Shot:
        """What a camera sees."""
        width, height = cameras.size[index].tolist()
        rays = cameras[[index]].resized(width * SUPERSAMPLE, height * SUPERSAMPLE).image_rays(0)
        color, label, t = self.look(rays.origins.double().numpy(), rays.directions.numpy())
        grid = (height, SUPERSAMPLE, width, SUPERSAMPLE)
        samples = label.reshape(grid).transpose(0, 2, 1, 3).reshape(height, width, -1)
        depths = t.reshape(grid).transpose(0, 2, 1, 3).reshape(height, width, -1)
        most = _majority(samples, len(self.feet))
        chosen = samples == most[..., None]
        mean = color.reshape(*grid, 3).mean((1, 3))
        image = torch.from_numpy((mean.clip(0, 1) * 255).round().astype(np.uint8))
        depth = ((depths * chosen).sum(-1) / chosen.sum(-1)).astype(np.float32)
        return Shot(image, torch.from_numpy(most), depth)

    def look(
        self, x: Float64[np.ndarray, "r 3"], d: Float32[np.ndarray, "r 3"]
    ) -> tuple[Float64[np.ndarray, "r 3"], Int64[np.ndarray, " r"], Float64[np.ndarray, " r"]]:
        """The colours that rays see, whose they are, and how far away."""
        direction = d.astype(np.float64)
        t, face = self.caster.meet(x, d)
        t_room, side = self.room.meet(x, direction)
        hit = (face >= 0) & (t < t_room)
        t = np.where(hit, t, t_room)
        points = x + t[:, None] * direction
        color = np.empty_like(points)
        color[~hit] = self._room(points[~hit], side[~hit])
        weights = barycentric(points[hit], self.corners[face[hit]])
        color[hit] = np.einsum("rk,rkc->rc", weights, self.colors[face[hit]])
        return color, np.where(hit, self.label[face], 0), t

    def _room(self, points: Float64[np.ndarray, "r 3"], side: Int64[np.ndarray, " r"]) -> Float64[np.ndarray, "r 3"]:
        """The room, darker on the floor about people."""
        color = self.room.color(points, side)
        floor = side == FLOOR
        dark = np.ones(int(floor.sum()))
        for middle, feet in self.feet:
            for place, (radius, much) in ((middle, SHADOWS[0]), *((foot, SHADOWS[1]) for foot in feet)):
                away = ((points[floor][:, [0, 2]] - place[:2]) ** 2).sum(1) / radius**2
                dark *= 1 - much * np.exp(-away - max(place[2], 0) / 0.1)
        color[floor] *= dark[:, None]
        return color


def barycentric(
    points: Float64[np.ndarray, "r 3"], corners: Float64[np.ndarray, "r 3 3"]
) -> Float64[np.ndarray, "r 3"]:
    """Weights of the corners of triangles for points on them."""
    a, b, c = corners.transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    size = np.maximum((normal**2).sum(-1), 1e-30)
    v = (np.cross(points - a, c - a) * normal).sum(-1) / size
    w = (np.cross(b - a, points - a) * normal).sum(-1) / size
    weights = np.stack([1 - v - w, v, w], -1).clip(0, 1)
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def _lit(mesh: Mesh, colors: UInt8[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    """Colours of vertices in the light, 0 to 1."""
    light = AMBIENT + DIRECT * np.clip(mesh.vertex_normals() @ LIGHT, 0, 1)
    return np.asarray((colors / 255 * light[:, None]).clip(0, 1))


def _feet(
    vertices: Float64[np.ndarray, "n 3"],
) -> tuple[Float64[np.ndarray, " 3"], list[Float64[np.ndarray, " 3"]]]:
    """x, z and height of the middle of a person, and of the two halves of what is lowest."""
    middle = vertices.mean(0)
    low = vertices[vertices[:, 1] < vertices[:, 1].min() + 0.08]
    spread = low[:, [0, 2]] - low[:, [0, 2]].mean(0)
    axis = np.linalg.svd(spread.T @ spread)[0][:, 0]
    halves = [low[spread @ axis > 0], low[spread @ axis <= 0]]
    feet = [np.array([*half[:, [0, 2]].mean(0), half[:, 1].min()]) for half in halves if len(half)]
    return np.array([middle[0], middle[2], 0.0]), feet


def _majority(samples: Int64[np.ndarray, "h w k"], people: int) -> UInt8[np.ndarray, "h w"]:
    """The label that most samples of a pixel have; of two that tie, the lower one."""
    counts = np.stack([(samples == label).sum(-1) for label in range(people + 1)], -1)
    return np.asarray(counts.argmax(-1).astype(np.uint8))
