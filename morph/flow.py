"""Along a prior's flow: from noise to objects and back.

Heun's method: at as many evaluations, Euler's comes back from an inversion 20 to 80 times farther off.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.progress import Progress, silent
from fieldcast.morph.attention import Attend, plain
from fieldcast.morph.interpolation import joined
from fieldcast.morph.priors import Condition, Prior

Velocity = Callable[[Float[Tensor, "b t c"], float], Float[Tensor, "b t c"]]


def integrate(
    velocity: Velocity,
    x: Float[Tensor, "b t c"],
    start: float,
    stop: float,
    steps: int,
    heun: bool = True,
    progress: Progress = silent,
) -> Float[Tensor, "b t c"]:
    """Where latents are at time `stop` that are at x at time `start`."""
    times = torch.linspace(start, stop, steps + 1, dtype=torch.float64).tolist()
    for i, (t, after) in enumerate(itertools.pairwise(times)):
        slope = velocity(x, t)
        guess = x + (after - t) * slope
        x = x + (after - t) * (slope + velocity(guess, after)) / 2 if heun else guess
        progress(i + 1, steps)
    return x


def flow(
    prior: Prior, condition: Condition, guidance: float = 1.0, attend: Callable[[float], Attend] = lambda t: plain
) -> Velocity:
    """The velocity of a prior that is told a condition; guidance: how much more than without being told (1: as told).

    Ho and Salimans 2022, classifier-free guidance: v(none) + guidance (v(told) - v(none)).
    """
    count = len(condition.words)
    none = prior.embed("")
    both = joined([condition, *[none] * count]) if guidance != 1 else condition

    def velocity(x: Float[Tensor, "b t c"], t: float) -> Float[Tensor, "b t c"]:
        times = torch.full((len(x),), t, device=x.device)
        if guidance == 1:
            return prior.velocity(x, times, condition, attend(t))
        told = prior.velocity(x, times, condition, attend(t))
        untold = prior.velocity(
            x, times, Condition(both.words[count:], both.weights[count:], both.pooled[count:]), attend(t)
        )
        return untold + guidance * (told - untold)

    return velocity


@torch.no_grad()
def generate(
    prior: Prior,
    caption: str,
    count: int,
    seed: int,
    steps: int = 25,
    guidance: float = 3.0,
    progress: Progress = silent,
) -> Float[Tensor, "count t c"]:
    """Latents of objects that a caption names; of any, if it is empty."""
    noise = torch.randn(count, *prior.shape, generator=torch.Generator().manual_seed(seed))
    condition = joined([prior.embed(caption)] * count)
    noise = noise.to(condition.words)
    strength = guidance if caption else 1.0
    return integrate(flow(prior, condition, strength), noise, 0.0, 1.0, steps, progress=progress)


@torch.no_grad()
def invert(
    prior: Prior,
    latents: Float[Tensor, "b t c"],
    condition: Condition,
    steps: int = 25,
    guidance: float = 1.0,
    heun: bool = True,
    progress: Progress = silent,
) -> Float[Tensor, "b t c"]:
    """The noises from which the flow leads to latents."""
    return integrate(flow(prior, condition, guidance), latents, 1.0, 0.0, steps, heun, progress)
