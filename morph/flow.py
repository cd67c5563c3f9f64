"""Along a prior's flow: from noise to objects and back.

Heun's method: at as many evaluations, Euler's comes back from an inversion 15 to 40 times farther off (the demo's
objects, 25 steps against 50).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.progress import Progress, silent
from fieldcast.morph.attention import Attend, plain, without
from fieldcast.morph.interpolation import joined
from fieldcast.morph.priors import Condition, Prior

Velocity = Callable[[Float[Tensor, "b t c"], float, float], Float[Tensor, "b t c"]]
"""(x, time, part of the steps from noise to object) -> velocity."""


def integrate(
    velocity: Velocity,
    x: Float[Tensor, "b t c"],
    times: list[float],
    heun: bool = True,
    progress: Progress = silent,
    note: str = "",
) -> Float[Tensor, "b t c"]:
    """Where latents are at the last of the times that are at x at the first; they rise to objects or fall to noise."""
    steps = len(times) - 1
    parts = [i / steps if times[-1] > times[0] else 1 - i / steps for i in range(steps + 1)]
    for i in range(steps):
        slope = velocity(x, times[i], parts[i])
        guess = x + (times[i + 1] - times[i]) * slope
        if heun:
            guess = x + (times[i + 1] - times[i]) * (slope + velocity(guess, times[i + 1], parts[i + 1])) / 2
        x = guess
        progress(i + 1, steps, note)
    return x


def early_times(steps: int, early: float) -> list[float]:
    """So many steps from 0 to 1, `early` times as short as even ones at noise and as long at objects.

    The shift of Esser et al. 2024, eq. 23: half of the steps are before time 1 / (1 + early).
    """
    even = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    times: list[float] = (even / (even + early * (1 - even))).tolist()
    return times


def flow(
    prior: Prior,
    condition: Condition,
    guidance: float = 1.0,
    attend: Callable[[float], Attend] = lambda part: plain,
    structure: Float[Tensor, " b"] | None = None,
) -> Velocity:
    """The velocity of a prior that is told a condition; guidance: how much more than without being told (1: as told).
    attend: the attention at a part of the steps, 0 (noise) to 1 (object). structure: how much farther each latent goes
    away from where it would go untold and with no attention in the prior's `structural` blocks (None: not at all); of
    a prior that has none of these, it is a guidance of 1 + structure.

    Ho and Salimans 2022, classifier-free guidance: v(none) + guidance (v(told) - v(none)). Ahn et al. 2024,
    perturbed-attention guidance: v(told) + structure (v(told) - v(blind)), where blind is also untold here, so that one
    evaluation more brings both.
    """
    none = joined([prior.embed("")] * len(condition.words))

    def velocity(x: Float[Tensor, "b t c"], t: float, part: float) -> Float[Tensor, "b t c"]:
        times, how = torch.full((len(x),), t, device=x.device), attend(part)
        found = told = prior.velocity(x, times, condition, how)
        if guidance != 1:
            untold = prior.velocity(x, times, none, how)
            found = untold + guidance * (told - untold)
        if structure is not None:
            blind = prior.velocity(x, times, none, without(prior.structural, how))
            found = found + structure.to(x)[:, None, None] * (told - blind)
        return found

    return velocity


@torch.no_grad()
def generate(
    prior: Prior,
    caption: str,
    count: int,
    seed: int,
    steps: int = 25,
    structure: float = 1.5,
    progress: Progress = silent,
) -> Float[Tensor, "count t c"]:
    """Latents of objects that a caption names; of any, if it is empty. structure: as in `flow`, of all of them."""
    noise = torch.randn(count, *prior.shape, generator=torch.Generator().manual_seed(seed))
    condition = joined([prior.embed(caption)] * count)
    noise = noise.to(condition.words)
    return integrate(
        flow(prior, condition, structure=torch.full((count,), structure)),
        noise,
        prior.times(steps),
        progress=progress,
        note=f"making {caption or 'an object'}",
    )


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
    return integrate(
        flow(prior, condition, guidance), latents, prior.times(steps)[::-1], heun, progress, "back to noise"
    )
