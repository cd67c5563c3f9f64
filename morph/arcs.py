"""Where on the way from 0 to 1 frames are, so that every step between them is as long as the others.

DiffMorpher (Zhang et al. 2023, section 3.4) does so once, from a few samples; a path that turns sharply needs to be
looked at again where it does.
"""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor


def equal_arc(alphas: list[float], lengths: list[float], count: int) -> list[float]:
    """`count` places, ends included, that cut a path into equal lengths; alphas: of samples in order, lengths: of the
    pieces between them.
    """
    at = torch.tensor(alphas, dtype=torch.float64)
    way = torch.cat([torch.zeros(1, dtype=torch.float64), torch.tensor(lengths, dtype=torch.float64).cumsum(0)])
    if float(way[-1]) <= 0:
        return even(count)
    wanted = torch.linspace(0, float(way[-1]), count, dtype=torch.float64)
    right = torch.searchsorted(way, wanted).clamp(1, len(at) - 1)
    piece = (way[right] - way[right - 1]).clamp_min(1e-12)
    places = at[right - 1] + (wanted - way[right - 1]) / piece * (at[right] - at[right - 1])
    return [0.0, *places[1:-1].tolist(), 1.0]


def finer(alphas: list[float], lengths: list[float], most: float) -> list[float]:
    """The places that cut each piece of a path which is longer than `most` into equal parts no longer than that."""
    found = []
    for (a, b), length in zip(itertools.pairwise(alphas), lengths, strict=True):
        parts = math.ceil(length / most) if most > 0 else 1
        found += [a + (b - a) * i / parts for i in range(1, parts)]
    return found


def even(count: int) -> list[float]:
    """Places at equal distances."""
    return torch.linspace(0, 1, count, dtype=torch.float64).tolist()


def unevenness(lengths: list[float]) -> tuple[float, float]:
    """The variance of steps, and how much longer than the mean the longest is."""
    steps: Float[Tensor, " n"] = torch.tensor(lengths)
    return float(steps.var(correction=0)), float(steps.max() / steps.mean().clamp_min(1e-12))
