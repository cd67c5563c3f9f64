"""The two ends of a morph: objects or captions, as a prior sees them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.files.memory import Memory, Tensors
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.space import Space
from fieldcast.morph.distance import distance
from fieldcast.morph.flow import generate, invert
from fieldcast.morph.lora import Adapter, adapted, tuned
from fieldcast.morph.priors import Condition, Prior
from fieldcast.morph.recipes import Recipe
from fieldcast.morph.volumes import Volume

UNIT = Space()  # the world of objects that only a caption names


@dataclass(frozen=True, eq=False)
class End:
    """name: for reports. caption: what the prior is told. volume: what was given; None: a caption alone. latent: of the
    object; noise: from which the prior's flow leads to it; adapter: of the prior for it.
    """

    name: str
    caption: str
    volume: Volume | None
    latent: Float[Tensor, "t c"]
    condition: Condition
    noise: Float[Tensor, "t c"]
    adapter: Adapter | None


@dataclass(frozen=True, eq=False)
class Given:
    """What a user gives: an object, or a caption of one, or both."""

    name: str
    caption: str = ""
    volume: Volume | None = None


def end_of(prior: Prior, given: Given, recipe: Recipe, seed: int, memory: Memory, progress: Progress = silent) -> End:
    """What is given, made ready. memory: keeps it, under the seed."""
    condition = prior.embed(given.caption)

    def latent() -> Tensors:
        if given.volume is None:
            return {"latent": generate(prior, given.caption, 1, seed, progress=progress)[0]}
        return {"latent": prior.encode(given.volume)}

    found = memory.recall(f"{seed}.latent", latent)["latent"].to(condition.words)
    adapter = Adapter(prior, recipe.lora, torch.Generator().manual_seed(seed)) if recipe.lora else None
    if adapter:
        adapter.load_state_dict(
            memory.recall(f"{seed}.lora", lambda: tuned(prior, adapter, found, condition, recipe, seed, progress))
        )

    def noise() -> Tensors:
        with adapted(prior, [adapter] if adapter else [], torch.ones(1, 1)):
            back = invert(prior, found[None], condition, recipe.steps, recipe.guidance, recipe.heun, progress)
        return {"noise": back[0]}

    start = memory.recall(f"{seed}.noise", noise)["noise"].to(found)
    return End(given.name, given.caption, given.volume, found, condition, start, adapter)


def facing(a: Volume, b: Volume) -> tuple[Volume, int]:
    """The second object, turned by quarters so that it is most like the first, and by how many."""
    turns = min(range(4), key=lambda q: (distance(a, b.turned(q)), q))
    return b.turned(turns), turns
