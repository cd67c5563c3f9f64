"""How even and how short a morph's way is, by a distance between its frames."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Smoothness:
    """ppl: the sum of all steps (DiffMorpher's perceptual path length). pdv: their variance. step: the longest over the
    mean. ratio: the sum over the distance of the ends, 1 or more where the distance is a metric.
    """

    ppl: float
    pdv: float
    step: float
    ratio: float


def smoothness(frames: list[T], distance: Callable[[T, T], float]) -> Smoothness:
    """Of frames in order, by a distance of two of them. Where nothing moves, steps are even and the way straight."""
    lengths = torch.tensor([distance(a, b) for a, b in itertools.pairwise(frames)], dtype=torch.float64)
    straight, total = distance(frames[0], frames[-1]), float(lengths.sum())
    step = float(lengths.max() / lengths.mean()) if total > 0 else 1.0
    ratio = total / straight if straight > 0 else (1.0 if total == 0 else float("inf"))
    return Smoothness(total, float(lengths.var(correction=0)), step, ratio)
