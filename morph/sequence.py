"""A morph: from one object to another, frames that a prior makes, each a field.

Letters: F frames, T tokens of C channels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.space import Space
from fieldcast.morph.arcs import equal_arc, even
from fieldcast.morph.distance import distance
from fieldcast.morph.ends import UNIT, End, Given, end_of, facing
from fieldcast.morph.flow import flow, integrate
from fieldcast.morph.interpolation import between, joined, slerp
from fieldcast.morph.lora import adapted
from fieldcast.morph.priors import Prior
from fieldcast.morph.recipes import Recipe
from fieldcast.morph.volumes import Volume

What = Literal["both", "shape", "texture"]
ROUNDS = 2  # of looking where frames must be, before they are made


@dataclass(frozen=True, eq=False)
class Morph:
    """alphas: where frames are, 0 the first object and 1 the second. latents: theirs. volumes: the frames on grids.
    ends: the objects. turns: quarters by which the second was turned. space: the cube of the world that all are in.
    """

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


def morph(
    prior: Prior,
    first: Given,
    second: Given,
    recipe: Recipe,
    frames: int,
    seed: int = 0,
    what: What = "both",
    progress: Progress = silent,
) -> Morph:
    """Frames from one object to another. They are where the first is, in its world and as large as it."""
    space, turns = UNIT if first.volume is None else first.volume.space, 0
    if recipe.face and first.volume and second.volume:
        turned, turns = facing(first.volume, second.volume)
        second = Given(second.name, second.caption, turned)
    ends = (end_of(prior, first, recipe, seed, progress), end_of(prior, second, recipe, seed + 1, progress))
    alphas = even(frames)
    if recipe.equal_arc:
        alphas = placed(prior, ends, recipe, frames, what, space, progress)
    latents = between_ends(prior, ends, recipe, alphas, what, progress)
    return Morph(alphas, latents, [prior.volume(z, space) for z in latents], ends, turns, space)


def placed(
    prior: Prior, ends: tuple[End, End], recipe: Recipe, frames: int, what: What, space: Space, progress: Progress
) -> list[float]:
    """Where frames must be for steps of one length: found from frames at even places, then from those found."""
    seen: dict[float, Volume] = {}
    alphas = even(frames)
    for _ in range(ROUNDS):
        new = [a for a in alphas if a not in seen]
        for alpha, latent in zip(new, between_ends(prior, ends, recipe, new, what, progress), strict=True):
            seen[alpha] = prior.volume(latent, space)
        known = sorted(seen)
        lengths = [distance(seen[a], seen[b]) for a, b in itertools.pairwise(known)]
        alphas = equal_arc(known, lengths, frames)
    return alphas


@torch.no_grad()
def between_ends(
    prior: Prior,
    ends: tuple[End, End],
    recipe: Recipe,
    alphas: list[float],
    what: What = "both",
    progress: Progress = silent,
) -> Float[Tensor, "f t c"]:
    """The latents of frames, all in one batch behind those of the two ends, to which they attend."""
    a, b = ends
    places = torch.tensor(alphas, dtype=torch.float32)
    noise = torch.cat([a.noise[None], b.noise[None], slerp(a.noise, b.noise, places)])
    condition = joined([a.condition, b.condition, between(a.condition, b.condition, places)])
    adapters = [end.adapter for end in ends if end.adapter]
    weights = torch.stack([1 - places, places], -1)
    weights = torch.cat([torch.eye(2), weights])

    velocity = flow(prior, condition, recipe.guidance, lambda t: recipe.mixing.at(t, places, prior.positions))
    with adapted(prior, adapters, weights):
        return integrate(velocity, noise, 0.0, 1.0, recipe.steps, recipe.heun, progress)[2:]
