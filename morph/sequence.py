"""A morph: from one object to another, frames that a prior makes, each a field.

Letters: F frames, T tokens of C channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.memory import Memory
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.space import Space
from fieldcast.morph.arcs import equal_arc, even, finer
from fieldcast.morph.colors import chroma, vivid
from fieldcast.morph.details import Details, What, detailed
from fieldcast.morph.distance import distance
from fieldcast.morph.ends import UNIT, End, Given, end_of, facing
from fieldcast.morph.flow import flow, integrate
from fieldcast.morph.interpolation import between, joined, slerp
from fieldcast.morph.lora import Adapter, adapted
from fieldcast.morph.priors import Prior
from fieldcast.morph.recipes import Recipe
from fieldcast.morph.volumes import Volume

Change = Callable[[Prior, list[Adapter], Tensor], AbstractContextManager[None]]
ROUNDS = 5  # of looking where frames must be, before they are made


@dataclass(frozen=True, eq=False)
class Morph:
    """alphas: where frames are, 0 the first object and 1 the second. latents: theirs. volumes: the frames on grids.
    ends: the objects. turns: quarters by which the second was turned. space: the cube of the world that all are in.
    """

    prior: Prior
    alphas: list[float]
    latents: Float[Tensor, "f t c"]
    volumes: list[Volume]
    ends: tuple[End, End]
    turns: int
    space: Space

    @property
    def lengths(self) -> list[float]:
        """How far each frame is from the one before."""
        return [distance(a, b) for a, b in itertools.pairwise(self.volumes)]

    def field(self, frame: int) -> Field:
        """A frame, by its number from 0, as a field."""
        if self.prior.grids:
            return self.volumes[frame].field()
        return self.prior.decode(self.latents[frame], self.space)


def morph(
    prior: Prior,
    first: Given,
    second: Given,
    recipe: Recipe,
    frames: int,
    seed: int = 0,
    what: What = "both",
    memory: Memory | None = None,
    progress: Progress = silent,
) -> Morph:
    """Frames from one object to another. They are where the first is, in its world and as large as it."""
    if what != "both" and not prior.parts:
        raise InputError(f"prior {prior.name}: a {what} alone cannot be changed, shape and texture are not apart in it")
    if first.volume and second.volume and distance(first.volume, second.volume) == 0:
        raise InputError(f"{first.name} and {second.name} are the same object: there is nothing between them")
    memory = memory or Memory()
    space, turns = UNIT if first.volume is None else first.volume.space, 0
    if recipe.face and first.volume and second.volume:
        turned, turns = facing(first.volume, second.volume)
        second = Given(second.name, second.caption, turned)
    ends = (
        end_of(prior, first, recipe, 2 * seed, memory, progress),
        end_of(prior, second, recipe, 2 * seed + 1, memory, progress),
    )
    work = Between(prior, ends, recipe, what, space, progress)
    alphas = memory.recall("places", lambda: {"alphas": torch.tensor(work.places(frames), dtype=torch.float64)})
    places = alphas["alphas"].tolist()
    latents = memory.recall("frames", lambda: {"latents": work.latents(places)})["latents"]
    return Morph(prior, places, latents, work.volumes(latents, places), ends, turns, space)


@dataclass(frozen=True, eq=False)
class Between:
    """What lies between two ends, asked for by places. change: how the ends' adapters act on frames between them."""

    prior: Prior
    ends: tuple[End, End]
    recipe: Recipe
    what: What
    space: Space
    progress: Progress = silent
    change: Change = adapted

    def places(self, frames: int) -> list[float]:
        """Where frames are: for steps of one length, found from frames at even places, and from more of them wherever
        they are farther apart than half a step; leaps take several rounds.
        """
        found, new, seen = even(frames), even(frames), dict[float, Volume]()
        for _ in range(ROUNDS if self.recipe.equal_arc and frames > 2 else 0):
            seen |= zip(new, self.volumes(self.latents(new, "looking where frames must be"), new), strict=True)
            known = sorted(seen)
            lengths = [distance(seen[a], seen[b]) for a, b in itertools.pairwise(known)]
            found = equal_arc(known, lengths, frames)
            new = finer(known, lengths, sum(lengths) / (frames - 1) / 2)
            if not new:
                break
        return found

    def volumes(self, latents: Float[Tensor, "f t c"], alphas: list[float]) -> list[Volume]:
        """The frames of latents, on grids."""
        plainly = [self.prior.volume(z, self.space) for z in latents]
        if not self.prior.grids:
            return plainly
        return [self._finished(volume, alpha) for volume, alpha in zip(plainly, alphas, strict=True)]

    def _finished(self, volume: Volume, alpha: float) -> Volume:
        if self.recipe.details:
            volume = detailed(volume, self.details, alpha, self.what)
        if self.recipe.vivid:
            first, second = self.chromas
            volume = vivid(volume, first if self.what == "shape" else (1 - alpha) * first + alpha * second)
        return volume

    @cached_property
    def chromas(self) -> tuple[float, float]:
        """How colourful the ends are, 0 where nothing is."""
        first, second = (chroma(end.volume or self.prior.volume(end.latent, self.space)) or 0.0 for end in self.ends)
        return first, second

    @cached_property
    def details(self) -> tuple[Details | None, Details | None]:
        """What the latents of the ends leave out of them; nothing of captions."""
        first, second = (
            None if end.volume is None else Details.of(end.volume, self.prior.volume(end.latent, self.space))
            for end in self.ends
        )
        return first, second

    @torch.no_grad()
    def latents(self, alphas: list[float], note: str = "making frames") -> Float[Tensor, "f t c"]:
        """The latents of frames, all in one batch behind those of the two ends, to which they attend."""
        (a, b), places = self.ends, torch.tensor(alphas, dtype=torch.float32)
        noise, told = slerp(a.noise, b.noise, places), between(a.condition, b.condition, places)
        part, by, held = self._held(noise)
        if self.what == "shape":  # frames that keep the first's texture, behind those that show what shape to have
            noise, told = torch.cat([noise, held]), joined([told, *[a.condition] * len(places)])
            places = torch.cat([places, torch.zeros_like(places)])
        elif self.what == "texture":
            noise = held
        noise = torch.cat([a.noise[None], b.noise[None], noise])
        condition, recipe = joined([a.condition, b.condition, told]), self.recipe
        where = self.prior.positions, self.prior.groups
        half_way = torch.cat([torch.zeros(2), 4 * places * (1 - places)])
        along = flow(
            self.prior,
            condition,
            recipe.guidance,
            lambda part: recipe.mixing.at(part, places, *where),
            recipe.structure * half_way if recipe.structure else None,
        )

        def velocity(x: Float[Tensor, "b t c"], t: float, done: float) -> Float[Tensor, "b t c"]:
            v = along(x, t, done)
            if part is not None:
                v[-len(alphas) :, :, part] = v[by, :, part]
            return v

        adapters = [end.adapter for end in self.ends if end.adapter]
        weights = torch.cat([torch.eye(2), torch.stack([1 - places, places], -1)])
        with self.change(self.prior, adapters, weights):
            times = self.prior.times(recipe.steps)
            return integrate(velocity, noise, times, recipe.heun, self.progress, note)[-len(alphas) :]

    def _held(self, noise: Float[Tensor, "f t c"]) -> tuple[slice | None, slice, Float[Tensor, "f t c"]]:
        """The channels that frames get from others, those others, and the noise of frames that do so.

        A texture alone changes on the shape of the first object; a shape alone changes as it does with its texture,
        which the frames that are wanted do not take over.
        """
        parts, held = self.prior.parts, noise.clone()
        if self.what == "both":
            return None, slice(0), held
        kept = "texture" if self.what == "shape" else "shape"
        held[:, :, parts[kept]] = self.ends[0].noise[:, parts[kept]]
        return parts["shape"], slice(2, 2 + len(noise)) if self.what == "shape" else slice(0, 1), held
