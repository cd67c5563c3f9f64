"""From densities along rays to weights and sums: the volume rendering quadrature on packed samples.

Letters: `tau` = sigma * dt, the optical depth of a sample; `T` the transmittance that reaches it; its weight is
T * (1 - exp(-tau)) (Max 1995; Mildenhall et al. 2020, eq. 3). Packed: the samples of all rays lie behind one another
and those of ray i are `starts[i]` to `starts[i + 1]`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

OPAQUE = 100.0  # exp(-100) is nothing; larger depths, infinity included, count as this one


def ray_weights(
    tau: Float[Tensor, " m"], starts: Int64[Tensor, " r1"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, " r"]]:
    """The weight of each sample, and per ray the transmittance behind its last sample; together they are 1.

    tau: never negative, may be infinite. Differentiable in `tau`, through both results.
    """
    return ray_weights_reference(tau, starts)


def accumulate(
    weights: Float[Tensor, " m"], values: Float[Tensor, "m c"], starts: Int64[Tensor, " r1"]
) -> Float[Tensor, "r c"]:
    """The weighted sum of the samples' values along each ray. Differentiable in `weights` and `values`."""
    return accumulate_reference(weights, values, starts)


def ray_weights_reference(
    tau: Float[Tensor, " m"], starts: Int64[Tensor, " r1"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, " r"]]:
    """`ray_weights` in plain torch: any device and precision. The running sum over all rays needs float64."""
    depth = tau.double().clamp(max=OPAQUE)
    before = torch.cat((depth.new_zeros(1), depth.cumsum(0)))
    at_start = before[starts[:-1]]
    transmittance = torch.exp(at_start - before[starts[1:]])
    reaching = torch.exp(at_start[ray_of_sample(starts, len(tau))] - before[:-1])
    weights = -torch.expm1(-depth) * reaching
    return weights.to(tau.dtype), transmittance.to(tau.dtype)


def accumulate_reference(
    weights: Float[Tensor, " m"], values: Float[Tensor, "m c"], starts: Int64[Tensor, " r1"]
) -> Float[Tensor, "r c"]:
    """`accumulate` in plain torch: any device and precision."""
    ray = ray_of_sample(starts, len(weights))
    total = values.new_zeros(len(starts) - 1, values.shape[1])
    return total.index_add(0, ray, weights[:, None] * values)


def ray_of_sample(starts: Int64[Tensor, " r1"], samples: int) -> Int64[Tensor, " m"]:
    """The number of the ray that each of the packed samples belongs to."""
    rays = torch.arange(len(starts) - 1, device=starts.device)
    return torch.repeat_interleave(rays, starts.diff(), output_size=samples)
