"""The ways from one object to another that are compared: ours, the papers', and plain interpolations.

Each is made ready for two objects once, and then gives frames at any places between them, so that all can be looked at
where they put their frames themselves, and at equal steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fieldcast.errors import InputError
from fieldcast.fields.files.memory import Memory
from fieldcast.morph.arcs import equal_arc, even
from fieldcast.morph.attention import Mixing
from fieldcast.morph.distance import distance
from fieldcast.morph.ends import Given, end_of
from fieldcast.morph.evaluation.pairs import Pair
from fieldcast.morph.evaluation.released import RELEASED, adapted_apart
from fieldcast.morph.evaluation.transport import transport
from fieldcast.morph.lora import adapted
from fieldcast.morph.priors import Prior
from fieldcast.morph.recipes import RECIPES, Recipe
from fieldcast.morph.sequence import Between, Change
from fieldcast.morph.volumes import Volume

ROUNDS = 2  # of looking where steps are equal, for methods that do not look themselves
Frames = Callable[[list[float]], list[Volume]]


@dataclass(frozen=True)
class Way:
    """frames: of places from 0 to 1. own: where a method puts a number of frames."""

    frames: Frames
    own: Callable[[int], list[float]] = even


@dataclass(frozen=True)
class Method:
    """start: what it is between two objects, from a prior and a seed. recipe: how a prior's frames are made, if it is
    one of those. seeded: whether another seed gives another morph. equal: whether its own places are at equal steps.
    """

    start: Callable[[Prior, Pair, int], Way]
    recipe: Recipe | None = None
    seeded: bool = False
    equal: bool = False


def method(name: str, part: float = 1.0) -> Method:
    """One of METHODS; part: of the steps that papers take, of the flow and of adapters."""
    if name not in METHODS:
        raise InputError(f"method {name}: expected one of {', '.join(METHODS)}")
    if name in PLAIN:
        return PLAIN[name]
    recipe, change = PRIORS[name]
    if name in PAPERS:
        steps = recipe.steps if recipe.heun else max(2, round(part * recipe.steps))
        recipe = replace(recipe, steps=steps, lora_steps=max(1, round(part * recipe.lora_steps)))
    return Method(_of_recipe(recipe, change), recipe, seeded=bool(recipe.lora), equal=recipe.equal_arc)


def _of_recipe(recipe: Recipe, change: Change) -> Callable[[Prior, Pair, int], Way]:
    """Frames that a prior makes. The seeds of the ends are those of a morph."""

    def start(prior: Prior, pair: Pair, seed: int) -> Way:
        (caption, other), space = pair.captions, pair.first.space
        a = end_of(prior, Given("first", caption, pair.first), recipe, 2 * seed, Memory())
        b = end_of(prior, Given("second", other, pair.second), recipe, 2 * seed + 1, Memory())
        between = Between(prior, (a, b), recipe, "both", space, change=change)
        return Way(lambda alphas: between.volumes(between.latents(alphas), alphas), between.places)

    return start


def _grid(prior: Prior, pair: Pair, seed: int) -> Way:
    """Distances and colours in between, cell by cell."""
    first, second = pair.first, pair.second

    def frame(alpha: float) -> Volume:
        sdf, rgb = (torch.lerp(a, b, alpha) for a, b in ((first.sdf, second.sdf), (first.rgb, second.rgb)))
        return replace(first, sdf=sdf, rgb=rgb)

    return Way(lambda alphas: [frame(alpha) for alpha in alphas])


def _latent(prior: Prior, pair: Pair, seed: int) -> Way:
    """The objects of latents in between."""
    a, b = prior.encode(pair.first), prior.encode(pair.second)
    return Way(lambda alphas: [prior.volume(torch.lerp(a, b, alpha), pair.first.space) for alpha in alphas])


def _transport(prior: Prior, pair: Pair, seed: int) -> Way:
    return Way(transport(pair.first, pair.second, seed))


PLAIN = {
    "grid": Method(_grid),
    "latent": Method(_latent),
    "transport": Method(_transport, seeded=True),
}
PRIORS: dict[str, tuple[Recipe, Change]] = {
    "noise": (Recipe(equal_arc=False), adapted),
    # DiffMorpher (Zhang et al. 2023) has adapters of rank 16, 200 steps and no guidance; here without its fusion.
    "diffmorpher": (Recipe(lora=16, lora_steps=200, equal_arc=False), adapted),
    "aid-outer": (Recipe(mixing=Mixing("out"), equal_arc=False), adapted),
    "paper": (RECIPES["paper"], adapted),
    "released": (RELEASED, adapted_apart),
    "default": (RECIPES["default"], adapted),
}
PAPERS = ("diffmorpher", "paper", "released")
METHODS = (*PLAIN, *PRIORS)


def at_equal_steps(frames: Frames, first: list[Volume]) -> list[Volume]:
    """As many frames as `first`, which are at even places, moved to where steps are equal."""
    count = len(first)
    seen = dict(zip(even(count), first, strict=True))
    alphas = _equal(seen, count)
    for _ in range(ROUNDS - 1):
        new = [a for a in alphas if a not in seen]
        seen |= dict(zip(new, frames(new), strict=True))
        alphas = _equal(seen, count)
    return frames(alphas)


def _equal(seen: dict[float, Volume], count: int) -> list[float]:
    known = sorted(seen)
    return equal_arc(known, [distance(seen[a], seen[b]) for a, b in itertools.pairwise(known)], count)
