"""What lies between two ends: noises on a sphere, and what a prior is told."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fieldcast.morph.priors import Condition


def slerp(a: Float[Tensor, "t c"], b: Float[Tensor, "t c"], alphas: Float[Tensor, " f"]) -> Float[Tensor, "f t c"]:
    """On the arc between two directions, at lengths between theirs; alphas: 0 is a, 1 is b."""
    lengths = torch.stack([a.norm(), b.norm()])
    u, v = a / lengths[0].clamp_min(1e-20), b / lengths[1].clamp_min(1e-20)
    angle = (u * v).sum().clamp(-1, 1).arccos()
    alphas = alphas.to(a)[:, None, None]
    if float(angle) < 1e-4:
        return torch.lerp(a[None], b[None], alphas)
    direction = (((1 - alphas) * angle).sin() * u + (alphas * angle).sin() * v) / angle.sin()
    return direction * torch.lerp(lengths[0], lengths[1], alphas)


def between(a: Condition, b: Condition, alphas: Float[Tensor, " f"]) -> Condition:
    """Conditions from one object's to another's: features move; words that only one has fade."""
    count = max(a.words.shape[1], b.words.shape[1])
    words, weights = zip(*(_padded(x, y, count) for x, y in ((a, b), (b, a))), strict=True)
    alphas = alphas.to(a.words)
    return Condition(
        torch.lerp(words[0], words[1], alphas[:, None, None]),
        torch.lerp(weights[0], weights[1], alphas[:, None]),
        torch.lerp(a.pooled, b.pooled, alphas[:, None]),
    )


def joined(conditions: list[Condition]) -> Condition:
    """Conditions of several objects as one batch."""
    count = max(c.words.shape[1] for c in conditions)
    padded = [functional.pad(c.words, (0, 0, 0, count - c.words.shape[1])) for c in conditions]
    weights = [functional.pad(c.weights, (0, count - c.words.shape[1])) for c in conditions]
    return Condition(torch.cat(padded), torch.cat(weights), torch.cat([c.pooled for c in conditions]))


def _padded(a: Condition, b: Condition, count: int) -> tuple[Float[Tensor, "1 w d"], Float[Tensor, "1 w"]]:
    """The words of one with those of the other behind, which do not count."""
    own = a.words.shape[1]
    return torch.cat([a.words, b.words[:, own:count]], 1), functional.pad(a.weights, (0, count - own))
