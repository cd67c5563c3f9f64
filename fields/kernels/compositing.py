"""From densities along rays to weights and sums: the volume rendering quadrature on packed samples.

Letters: `tau` = sigma * dt, the optical depth of a sample; `T` the transmittance that reaches it; its weight is
T * (1 - exp(-tau)) (Max 1995; Mildenhall et al. 2020, eq. 3). Packed: the samples of all rays lie behind one another
and those of ray i are `starts[i]` to `starts[i + 1]`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.fields.kernels.compiled import Array, arrays, kernel, plain_backward, runs_compiled
from fieldcast.fields.kernels.gpu import runs_triton

OPAQUE = 128.0  # exp(-128) is nothing; larger depths, infinity included, count as this one


def ray_weights(
    tau: Float[Tensor, " m"], starts: Int64[Tensor, " r1"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, " r"]]:
    """The weight of each sample, and per ray the transmittance behind its last sample; together they are 1.

    tau: never negative, may be infinite. Differentiable in `tau`, through both results.
    """
    if runs_triton(tau):
        from fieldcast.fields.kernels.gpu import compositing as gpu

        return gpu.ray_weights(tau, starts)
    if not runs_compiled(tau):
        return ray_weights_reference(tau, starts)
    weights, transmittance = _RayWeights.apply(tau, starts)  # type: ignore[no-untyped-call]
    return weights, transmittance


def accumulate(
    weights: Float[Tensor, " m"], values: Float[Tensor, "m c"], starts: Int64[Tensor, " r1"]
) -> Float[Tensor, "r c"]:
    """The weighted sum of the samples' values along each ray. Differentiable in `weights` and `values`."""
    if runs_triton(weights, values):
        from fieldcast.fields.kernels.gpu import compositing as gpu

        return gpu.accumulate(weights, values, starts)
    if not runs_compiled(weights, values):
        return accumulate_reference(weights, values, starts)
    totals: Tensor = _Accumulate.apply(weights, values, starts)  # type: ignore[no-untyped-call]
    return totals


@torch.no_grad()
def reached(
    tau: Float[Tensor, " m"], starts: Int64[Tensor, " r1"], light: Float[Tensor, " r"], opaque: float
) -> tuple[Int64[Tensor, " r"], Float[Tensor, " r"]]:
    """How many samples of each ray, the first ones, more than `opaque` of the light reaches; what is behind the last.

    light: what reaches the first sample of each ray, 0 to 1. The light behind counts the samples that it reaches and
    the one that stops it: it is at most `opaque` on rays that were stopped.
    """
    if not runs_compiled(tau, light):
        return reached_reference(tau, starts, light, opaque)
    count, behind = torch.zeros(len(light), dtype=torch.int64), torch.empty_like(light)
    _reached(len(light), *arrays(tau, starts, light), np.float32(opaque), *arrays(count, behind))
    return count, behind


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


def reached_reference(
    tau: Float[Tensor, " m"], starts: Int64[Tensor, " r1"], light: Float[Tensor, " r"], opaque: float
) -> tuple[Int64[Tensor, " r"], Float[Tensor, " r"]]:
    """`reached` in plain torch: any device and precision."""
    ray = ray_of_sample(starts, len(tau))
    depth = tau.double().clamp(max=OPAQUE)
    before = torch.cat((depth.new_zeros(1), depth.cumsum(0)))
    reaching = light[ray] * torch.exp(before[starts[:-1]][ray] - before[:-1])
    seen = torch.cat((starts.new_zeros(1), (reaching > opaque).cumsum(0)))
    count = seen[starts[1:]] - seen[starts[:-1]]
    behind = light * torch.exp(before[starts[:-1]] - before[starts[:-1] + count])
    return count, behind.to(light.dtype)


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


class _RayWeights(torch.autograd.Function):
    """The compiled version, rays in parallel."""

    @staticmethod
    def forward(ctx: Any, tau: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        weights, transmittance = torch.zeros(tau.shape), torch.ones(len(starts) - 1)
        _weights_forward(len(transmittance), *arrays(tau, starts, weights, transmittance))
        ctx.save_for_backward(tau, starts, weights, transmittance)
        return weights, transmittance

    @staticmethod
    def backward(ctx: Any, grad_weights: Tensor, grad_transmittance: Tensor) -> tuple[Tensor | None, ...]:
        tau, *saved = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(ray_weights_reference, starts=saved[0])
            return *plain_backward(plain, (tau,), (grad_weights, grad_transmittance)), None
        grad_tau = torch.zeros(tau.shape)
        _weights_backward(len(grad_transmittance), *arrays(*saved, grad_weights, grad_transmittance, grad_tau))
        return grad_tau, None


class _Accumulate(torch.autograd.Function):
    """The compiled version, rays in parallel."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, values: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(weights, values, starts)
        totals = torch.zeros(len(starts) - 1, values.shape[1])
        _accumulate_forward(len(totals), *arrays(weights, values, starts, totals))
        return totals

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, values, starts = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain_sums = partial(accumulate_reference, starts=starts)
            return *plain_backward(plain_sums, (weights, values), (grad,)), None
        grad_weights = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_weights = torch.zeros(weights.shape)
            _accumulate_backward_weights(len(grad), *arrays(values, starts, grad, grad_weights))
        if ctx.needs_input_grad[1]:
            grad_values = torch.zeros(values.shape)
            _accumulate_backward_values(len(grad), *arrays(weights, starts, grad, grad_values))
        return grad_weights, grad_values, None


@kernel
def _weights_forward(first: int, last: int, tau: Array, starts: Array, weights: Array, transmittance: Array) -> None:
    for ray in range(first, last):
        reaching = 1.0
        for i in range(starts[ray], starts[ray + 1]):
            passing = math.exp(-np.float64(tau[i]))
            weights[i] = np.float32(reaching * (1.0 - passing))
            reaching *= passing
        transmittance[ray] = np.float32(reaching)


@kernel
def _reached(
    first: int, last: int, tau: Array, starts: Array, light: Array, opaque: float, count: Array, behind: Array
) -> None:
    for ray in range(first, last):
        reaching = np.float64(light[ray])
        for i in range(starts[ray], starts[ray + 1]):
            if not reaching > opaque:
                break
            reaching *= math.exp(-np.float64(tau[i]))
            count[ray] += 1
        behind[ray] = np.float32(reaching)


@kernel
def _weights_backward(
    first: int,
    last: int,
    starts: Array,
    weights: Array,
    transmittance: Array,
    grad_weights: Array,
    grad_transmittance: Array,
    grad_tau: Array,
) -> None:
    """More depth at a sample lets in more of what had passed it, at the expense of everything behind it.

    What passes sample i is the sum of all weights behind it and the final transmittance.
    """
    for ray in range(first, last):
        passing = np.float64(transmittance[ray])
        behind = passing * grad_transmittance[ray]
        for i in range(starts[ray + 1] - 1, starts[ray] - 1, -1):
            grad_tau[i] = np.float32(grad_weights[i] * passing - behind)
            passing += weights[i]
            behind += np.float64(grad_weights[i]) * weights[i]


@kernel
def _accumulate_forward(first: int, last: int, weights: Array, values: Array, starts: Array, totals: Array) -> None:
    for ray in range(first, last):
        for i in range(starts[ray], starts[ray + 1]):
            for k in range(values.shape[1]):
                totals[ray, k] += weights[i] * values[i, k]


@kernel
def _accumulate_backward_weights(
    first: int, last: int, values: Array, starts: Array, grad: Array, grad_weights: Array
) -> None:
    for ray in range(first, last):
        for i in range(starts[ray], starts[ray + 1]):
            total = np.float32(0)
            for k in range(values.shape[1]):
                total += values[i, k] * grad[ray, k]
            grad_weights[i] = total


@kernel
def _accumulate_backward_values(
    first: int, last: int, weights: Array, starts: Array, grad: Array, grad_values: Array
) -> None:
    for ray in range(first, last):
        for i in range(starts[ray], starts[ray + 1]):
            for k in range(grad.shape[1]):
                grad_values[i, k] = weights[i] * grad[ray, k]
