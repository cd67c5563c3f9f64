"""Fields in one world: a field made of fields, each of which may be moved.

Densities add up, as of mists that share a place; the colour is the mean of the colours, weighted by density. Both are
exact for volume rendering: what light is lost and picked up is the sum over the parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.cells import Sums, cell_bounds, occupied_corners
from fieldcast.fields.cut import NOTHING, Cut
from fieldcast.fields.field import Field
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kinds import build
from fieldcast.fields.motion import Motion
from fieldcast.fields.occupancy import Occupancy, diagonal
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec

FINEST = 256  # cells a side of an occupancy grid that grows with its box


@dataclass(frozen=True, eq=False)
class Part:
    """A field, and where it is in the world."""

    field: Field
    world_from_part: Motion = field(default_factory=Motion)

    def ask(self, x: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n f"]]:
        """Density in 1 / unit of the world, and the part's features; 0 where the part is empty, unasked."""
        at = self.world_from_part.inverse()(x)
        inside = self.field.mask(at).nonzero()[:, 0]
        found = self.field.features(at[inside])
        spec = self.field.spec
        sigma = spec.density(found[:, 0]) / (spec.space.unit * self.world_from_part.scale)
        features = found.new_zeros(len(x), found.shape[1]).index_copy(0, inside, found)
        return sigma.new_zeros(len(x)).index_copy(0, inside, sigma), features

    def density(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """In 1 / unit of the world."""
        return self.field.density(self.world_from_part.inverse()(x)) / self.world_from_part.scale

    def content(self) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]] | None:
        """The box in the world around what is not empty: its corners; None if all is."""
        corners = occupied_corners(self.field.spec.space, self.field.occupancy)
        if isinstance(self.field, Cut) and self.field.crop is not None:
            low, high = corners.new_tensor((self.field.crop.low, self.field.crop.high))
            corners = corners.clamp(low, high)
        corners = self.world_from_part(corners)
        return (corners.amin(0), corners.amax(0)) if len(corners) else None


@dataclass(frozen=True)
class Placed:
    """A part without its tensors."""

    of: FieldSpec
    world_from_part: Motion


@dataclass(frozen=True)
class ComposedSizes:
    parts: Annotated[tuple[Placed, ...], Meta(min_length=1)]


class Composed(Field):
    """The sum of its parts. Make one with `compose`, or of a spec alone for the tensors of a file.

    features: the density logit, and for each part its density, 1 / unit of the world, and its own features.
    """

    Sizes = ComposedSizes
    shares_features = False

    def __init__(self, spec: FieldSpec, parts: Sequence[Part] = ()) -> None:
        super().__init__(spec)
        self.parts = tuple(parts) or tuple(Part(build(p.of), p.world_from_part) for p in spec.sizes.parts)
        self.fields = nn.ModuleList(part.field for part in self.parts)
        if parts:
            self.to(parts[0].field.device)
            self.occupancy = cover(self.parts, spec)

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        said = [part.ask(x) for part in self.parts]
        sigma = torch.stack([density for density, _ in said]).sum(0)
        columns = [column for density, features in said for column in (density[:, None], features)]
        return torch.cat([self._logit_of(sigma)[:, None], *columns], -1)

    def logit(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        return self._logit_of(torch.stack([part.density(x) for part in self.parts]).sum(0))

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        rest, sigma, sums = features[:, 1:], torch.zeros_like(features[:, :1]), torch.zeros_like(d)
        for part, width in zip(self.parts, self._widths(), strict=True):
            shown = rest[:, 0].nonzero()[:, 0]
            rgb = part.field.color(rest[shown, 1:width], part.world_from_part.inverse().turned(d[shown]))
            sums = sums.index_add(0, shown, rest[shown, :1] * rgb)
            sigma, rest = sigma + rest[:, :1], rest[:, width:]
        return sums / sigma.clamp_min(torch.finfo(sigma.dtype).tiny)

    def check(self, what: str) -> None:
        for part in self.parts:
            part.field.check(what)

    def ready(self) -> None:
        for part in self.parts:
            part.field.ready()

    def _logit_of(self, sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return (sigma * self.spec.space.unit).clamp_min(math.exp(NOTHING)).log()

    def _widths(self) -> list[int]:
        """How many columns of the features are each part's."""
        nowhere = torch.zeros(0, 3, device=self.device)
        return [1 + part.field.features(nowhere).shape[1] for part in self.parts]


def compose(parts: Sequence[Part], space: Space | None = None) -> Composed:
    """One field of several: in `space`, or the first one's box, made larger to hold what the others show.

    The first one also gives background, up and the views, from farther away if the box grew. It may be unbounded,
    where it is: its space is then the whole's. The others have to be bounded.
    """
    if not parts:
        raise InputError("compose: expected at least one part")
    if any(not part.field.spec.space.bounded for part in parts[1:]):
        raise InputError("compose: expected parts with a box to go into the first; found an unbounded one: crop it")
    base = parts[0].field.spec
    if not base.space.bounded and not parts[0].world_from_part.is_identity():
        raise InputError("compose: an unbounded scene can not be moved; move what is to be added to it")
    space = space or _around(parts)
    grown = space.unit / (base.space.unit * parts[0].world_from_part.scale)
    cells = min(max(base.occupancy, math.ceil(base.occupancy * grown / 8) * 8), max(base.occupancy, FINEST))
    steps = base.steps * diagonal(space) / (diagonal(base.space) * parts[0].world_from_part.scale)
    spec = replace(
        base,
        kind="composed",
        sizes=ComposedSizes(tuple(Placed(part.field.spec, part.world_from_part) for part in parts)),
        space=space,
        density=DensityActivation(),
        occupancy=cells,
        steps=min(max(8, math.ceil(steps - 1e-6)), 1 << 16),
    )
    composed = Composed(spec, parts)
    composed.views = moved_views(parts[0], space)
    return composed


def origin(scene: Field) -> Field:
    """The field that an edited scene was made of: below cuts, and the first of the composed."""
    while isinstance(scene, Cut | Composed):
        scene = scene.whole if isinstance(scene, Cut) else scene.parts[0].field
    return scene


def cover(parts: Sequence[Part], spec: FieldSpec) -> Occupancy:
    """The cells in which any part may show something."""
    cells = torch.stack([_covered(part, spec.space, spec.occupancy) for part in parts]).any(0)
    return Occupancy(Occupancy.of_cells(cells).bits.to(parts[0].field.device), spec.occupancy)


def _covered(part: Part, space: Space, resolution: int) -> Bool[Tensor, "r r r"]:
    own = part.field.spec
    if part.world_from_part.is_identity() and (own.space, own.occupancy) == (space, resolution):
        return part.field.occupancy.cells().cpu()
    if not own.space.bounded:
        raise InputError("compose: expected the space of the unbounded part for the whole")
    sums, back = Sums(part.field.occupancy), part.world_from_part.inverse()
    first, last = own.space.box(torch.zeros(0))
    slabs = []
    for slab in range(resolution):
        low, high = cell_bounds(space, resolution, slab, back)
        slabs.append(sums.any_between((low - first) / (last - first), (high - first) / (last - first)))
    return torch.stack(slabs).reshape((resolution,) * 3)


def _around(parts: Sequence[Part]) -> Space:
    """The first part's space, its box moved with it and grown to hold the others."""
    base, motion = parts[0].field.spec.space, parts[0].world_from_part
    if not base.bounded:
        return base
    low, high = torch.tensor(base.aabb).double().reshape(2, 3)
    moved = motion(torch.cartesian_prod(*torch.stack([low, high]).unbind(1)))
    low, high = (low, high) if motion.is_identity() else (moved.amin(0), moved.amax(0))
    slack = 1e-5 * float((high - low).max())  # rounding alone makes no box larger
    for part in parts[1:]:
        content = part.content()
        if content is not None:
            low = torch.where(content[0] < low - slack, content[0].double(), low)
            high = torch.where(content[1] > high + slack, content[1].double(), high)
    up = tuple(motion.turned(torch.tensor(base.up).double()).tolist())
    return replace(base, aabb=(*low.tolist(), *high.tolist()), up=up)


def moved_views(part: Part, space: Space) -> Cameras | None:
    """The views that a part was seen from, moved with it, and in proportion farther from a larger box."""
    views, own = part.field.views, part.field.spec.space
    if views is None or (part.world_from_part.is_identity() and own == space):
        return views
    motion = part.world_from_part
    middle = motion(torch.tensor(own.center))
    grown = space.unit / (own.unit * motion.scale)
    eye = torch.tensor(space.center) + grown * (motion(views.centers.cpu()) - middle)
    axes = views.c2w.new_tensor(motion.rotation) @ views.c2w[:, :, :3]
    return replace(views, c2w=torch.cat([axes, eye[:, :, None].to(axes)], -1))
