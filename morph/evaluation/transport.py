"""A morph without a prior: points of one object move to points of the other, the whole as little as can be.

Optimal transport of POINTS points drawn from what each object fills, one to one (the assignment whose sum of squared
distances is the least), on straight lines, with their colours. An object is again what lies near to them: the mean
distance to the NEAREST points is less than one at which its volume lies between those of the two objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Float64

from fieldcast.errors import InputError
from fieldcast.morph.volumes import BAND, Volume

POINTS = 1200
NEAREST = 8  # points: with one alone, an object is a heap of balls


@dataclass(frozen=True, eq=False)
class Cloud:
    """x: points in cells. rgb: sRGB 0..1. size: how many cells the object fills."""

    x: Float64[np.ndarray, "n 3"]
    rgb: Float32[np.ndarray, "n 3"]
    size: float


def transport(first: Volume, second: Volume, seed: int) -> Callable[[list[float]], list[Volume]]:
    """Frames at places between two objects."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    count = min(POINTS, int(first.solid.sum()), int(second.solid.sum()))
    if not count:
        raise InputError("expected two objects with something inside, found an empty one")
    generator = torch.Generator().manual_seed(seed)
    a, b = (_cloud(volume, count, generator) for volume in (first, second))
    _, to = linear_sum_assignment(cdist(a.x, b.x, "sqeuclidean"))
    b = Cloud(b.x[to], b.rgb[to], b.size)

    def frames(alphas: list[float]) -> list[Volume]:
        return [_filled(_between(a, b, alpha), first) for alpha in alphas]

    return frames


def _cloud(volume: Volume, count: int, generator: torch.Generator) -> Cloud:
    """Points in the middles of some of the cells that an object fills, all of which are as likely."""
    cells = volume.solid.nonzero()
    kept = cells[torch.randperm(len(cells), generator=generator)[:count]]
    return Cloud(kept.double().numpy() + 0.5, volume.rgb[tuple(kept.T)].numpy(), float(len(cells)))


def _between(a: Cloud, b: Cloud, alpha: float) -> Cloud:
    x, rgb = ((1 - alpha) * u + alpha * v for u, v in ((a.x, b.x), (a.rgb, b.rgb)))
    return Cloud(x, rgb.astype(np.float32), (1 - alpha) * a.size + alpha * b.size)


def _filled(cloud: Cloud, like: Volume) -> Volume:
    """The object of a cloud, on a grid as large as another."""
    from scipy.spatial import cKDTree

    side = like.resolution
    middles = np.indices((side,) * 3).reshape(3, -1).T + 0.5
    distances, nearest = cKDTree(cloud.x).query(middles, min(NEAREST, len(cloud.x)))
    away, nearest = distances.reshape(side**3, -1).mean(1), nearest.reshape(side**3, -1)[:, 0]
    within = np.partition(away, round(cloud.size))[round(cloud.size)]
    sdf = torch.from_numpy((away - within).clip(-BAND, BAND).astype(np.float32)).reshape(like.sdf.shape)
    return replace(like, sdf=sdf, rgb=torch.from_numpy(cloud.rgb[nearest]).reshape(like.rgb.shape))
