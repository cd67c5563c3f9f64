"""Somebody at one frame, as a field in the world: what a shell says of the places at rest that world points come from.

A grid says which vertex of the posed body is nearest to a place, and what the skinning of each vertex is undone by is
told beside it: nothing of bodies, poses or shapes is needed any more. It is what `look_at_people` sees, but for what
lies so far from a surface that it leaves that out.

Letters: N points, V vertices, X by Y by Z cells.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

import torch
from jaxtyping import Float, Int64
from msgspec import Meta
from torch import Tensor

from fieldcast.distill.convert import known_occupancy
from fieldcast.errors import InputError
from fieldcast.fields.cut import NOTHING
from fieldcast.fields.field import Field
from fieldcast.fields.kinds import build
from fieldcast.fields.occupancy import Occupancy, diagonal
from fieldcast.fields.space import Space, Vector3
from fieldcast.fields.spec import FieldSpec
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.rays import STEP
from fieldcast.reconstruct.avatars.warp import Places, places_of

UP: Vector3 = (0.0, 1.0, 0.0)
CELLS = 64  # a side of the occupancy grid
F = TypeVar("F", bound=Field)
Cells = Annotated[int, Meta(ge=1, le=4096)]


@dataclass(frozen=True)
class PosedSizes:
    """of: the spec of the shell. cells: of the grid of nearest vertices, along x, y and z, the first of which begins at
    the box's lower corner. vertices: of the body. cell: metres a side.
    """

    of: FieldSpec
    cells: tuple[Cells, Cells, Cells]
    vertices: Annotated[int, Meta(ge=1, le=1 << 15)]
    cell: Annotated[float, Meta(gt=0, le=1e3)]

    def __post_init__(self) -> None:
        if self.of.kind != "shell":
            raise InputError(f"of: expected a shell, found {self.of.kind!r}")


class Posed(Field):
    """nearest: the vertex of each cell, -1 where none is near. rest_from_world: of the surroundings of each vertex.

    features: the shell's own; the density's scale tells its half box side from this one's.
    """

    Sizes = PosedSizes
    nearest: Tensor
    rest_from_world: Tensor

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: PosedSizes = spec.sizes
        self.shell = build(sizes.of)
        self.shares_features = self.shell.shares_features
        self.register_buffer("nearest", torch.full(sizes.cells, -1, dtype=torch.int16))
        self.register_buffer("rest_from_world", torch.zeros(sizes.vertices, 3, 4))

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        vertex = self._vertex(x)
        near = (vertex >= 0).nonzero()[:, 0]
        back = self.rest_from_world[vertex[near]]
        found = self.shell.features((back[..., :3] * x[near, None]).sum(-1) + back[..., 3])
        features = found.new_zeros(len(x), found.shape[1])
        features[:, 0] = self.spec.density.logit(found.new_tensor(NOTHING))
        return features.index_copy(0, near, found)

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return self.shell.color(features, d)

    def mask(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        return super().mask(x) * (self._vertex(x) >= 0)

    def check(self, what: str) -> None:
        if int(self.nearest.min()) < -1 or int(self.nearest.max()) >= len(self.rest_from_world):
            raise InputError(f"{what}: nearest: expected numbers of {len(self.rest_from_world)} vertices or -1")
        self.shell.check(what)

    def ready(self) -> None:
        self.shell.ready()

    def _vertex(self, x: Float[Tensor, "n 3"]) -> Int64[Tensor, " n"]:
        """The nearest vertices of world points, or -1."""
        low, high = self.spec.space.box(x)
        row = torch.zeros(1, dtype=torch.int64, device=low.device)
        places = Places(self.nearest[None], row, low[None], high[None], self.spec.sizes.cell)
        found = places.at(torch.zeros(len(x), dtype=torch.int64, device=x.device), x)
        return torch.where(self.spec.space.contains(x), found, -1)


@torch.no_grad()
def posed_field(avatar: Avatar, frame: int, up: Vector3 = UP) -> Posed:
    """Somebody as they stand at a frame, with a copy of their shell. up: of the world."""
    person = avatar.person
    if not 0 <= frame < len(person.pose):
        raise InputError(f"frame {frame}: expected 0 to {len(person.pose) - 1}, the frames of {person.name}")
    person = person.at([frame])
    vertices, shell = person.posed().vertices, copy.deepcopy(avatar.shell)
    places = places_of(vertices)
    every = torch.arange(vertices.shape[1])
    transforms = person.body.transforms(person.shape, person.pose, person.place)
    with torch.device("meta"):
        field = Posed(_spec(shell.spec, places, len(every), up))
    field.shell, field.nearest = shell, places.nearest[0]
    field.rest_from_world = avatar.rest_from_world(transforms, torch.zeros_like(every), every)
    field.occupancy_bits = Occupancy.full(CELLS).bits
    return shown(field)


def _spec(shell: FieldSpec, places: Places, vertices: int, up: Vector3) -> FieldSpec:
    x, y, z = places.nearest.shape[1:]
    a, b = places.low[0].tolist(), places.high[0].tolist()
    space = Space((a[0], a[1], a[2], b[0], b[1], b[2]), up=up)
    return replace(
        shell,
        kind="posed",
        sizes=PosedSizes(shell, (x, y, z), vertices, places.cell),
        space=space,
        density=replace(shell.density, scale=shell.density.scale * space.unit / shell.space.unit),
        occupancy=CELLS,
        steps=math.ceil(diagonal(space) / STEP),
    )


def shown(field: F) -> F:
    """The same field, which has looked anew where it is not empty."""
    field.occupancy = Occupancy.full(field.spec.occupancy)
    field.occupancy = known_occupancy(field, seed=0)
    return field
