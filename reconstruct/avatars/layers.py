"""Several people along the same rays: samples of all, in the order of distance, become one picture and one layer each.

MultiPly (Jiang et al. 2024, eq. 6 to 8): o_i^p = 1 - exp(-sigma_i^p dt_i), C = sum over p and i of o_i^p c_i^p times
the product of 1 - o_j^q over everything of anybody that is nearer. Intervals of different people may overlap: depths
add up there.

Letters: R rays, M samples, P people.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.fields.kernels.compositing import accumulate, ray_weights


@dataclass(frozen=True, eq=False)
class Merged:
    """The samples of all people, ray after ray and front to back.

    order: where each was in what was merged. starts: [R + 1] where each ray's samples begin.
    """

    order: Int64[Tensor, " m"]
    starts: Int64[Tensor, " r1"]


@dataclass(frozen=True, eq=False)
class Layers:
    """rgb: of all people, over nothing. opacity: each person's part of what is seen. depth: the sum of weights times
    distances of each, world units. transmittance: what is left for the background; with opacities it adds up to 1.
    """

    rgb: Float[Tensor, "r 3"]
    opacity: Float[Tensor, "r p"]
    depth: Float[Tensor, "r p"]
    transmittance: Float[Tensor, " r"]


def merged(ray: Int64[Tensor, " m"], t: Float[Tensor, " m"], rays: int) -> Merged:
    """How samples are brought into order. ray, t: the ray of each, and how far along it."""
    near = torch.argsort(t, stable=True)
    order = near[torch.argsort(ray[near], stable=True)]
    counts = torch.bincount(ray, minlength=rays)
    return Merged(order, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))


def layered(
    tau: Float[Tensor, " m"],
    rgb: Float[Tensor, "m 3"],
    t: Float[Tensor, " m"],
    person: Int64[Tensor, " m"],
    starts: Int64[Tensor, " r1"],
    people: int,
) -> Layers:
    """What is seen of merged samples. tau: sigma dt. person: whose each sample is."""
    weights, transmittance = ray_weights(tau, starts)
    whose = torch.nn.functional.one_hot(person, people).to(rgb.dtype)
    sums = accumulate(weights, torch.cat([rgb, whose, whose * t[:, None]], -1), starts)
    color, opacity, depth = sums.split([3, people, people], -1)
    return Layers(color, opacity, depth, transmittance)
