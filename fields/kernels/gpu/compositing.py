"""Weights and sums along packed rays on CUDA. Letters as in `kernels/compositing.py`.

A program takes RAYS rays, and SAMPLES of each at a time; running sums are carried from one lot to the next.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fieldcast.fields.kernels.compiled import plain_backward
from fieldcast.fields.kernels.compositing import OPAQUE, accumulate_reference, ray_weights_reference
from fieldcast.fields.kernels.gpu.launch import blocks, contiguous, jit, launch, power_of_two

RAYS, SAMPLES, CHUNK = 4, 32, 8  # rays of a program, samples of a ray and channels at once
DEEPEST = tl.constexpr(OPAQUE)


def ray_weights(tau: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """The weights [m] of samples with the optical depths tau [m], and the transmittance [r] behind each ray."""
    weights, transmittance = _RayWeights.apply(tau, starts)  # type: ignore[no-untyped-call]
    return weights, transmittance


def accumulate(weights: Tensor, values: Tensor, starts: Tensor) -> Tensor:
    """The sums [r, c] of weights [m] times values [m, c] along each ray."""
    totals: Tensor = _Accumulate.apply(weights, values, starts)  # type: ignore[no-untyped-call]
    return totals


class _RayWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tau: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        rays = len(starts) - 1
        weights, transmittance = tau.new_zeros(len(tau)), tau.new_ones(rays)
        launch(_weights_forward, (blocks(rays, RAYS),), *contiguous(tau, starts), weights, transmittance, rays, **_TILE)
        ctx.save_for_backward(tau, starts, weights, transmittance)
        return weights, transmittance

    @staticmethod
    def backward(ctx: Any, grad_weights: Tensor, grad_transmittance: Tensor) -> tuple[Tensor | None, ...]:
        tau, starts, weights, transmittance = ctx.saved_tensors
        grads, rays = (grad_weights, grad_transmittance), len(starts) - 1
        if torch.is_grad_enabled():
            return *plain_backward(partial(ray_weights_reference, starts=starts), (tau,), grads), None
        grad_tau = tau.new_zeros(len(tau))
        inputs = contiguous(starts, weights, transmittance, *grads)
        launch(_weights_backward, (blocks(rays, RAYS),), *inputs, grad_tau, rays, **_TILE)
        return grad_tau, None


class _Accumulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, values: Tensor, starts: Tensor) -> Tensor:
        ctx.save_for_backward(weights, values, starts)
        rays, c = len(starts) - 1, values.shape[1]
        totals = values.new_zeros(rays, c)
        sizes = _sizes(c)
        programs = (blocks(rays, RAYS), blocks(c, sizes["WIDTH"]))
        launch(_accumulate_forward, programs, *contiguous(weights, values, starts), totals, rays, **sizes)
        return totals

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, values, starts = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(accumulate_reference, starts=starts)
            return *plain_backward(plain, (weights, values), (grad,)), None
        rays, c = len(starts) - 1, values.shape[1]
        sizes, programs = _sizes(c), (blocks(rays, RAYS),)
        grad_weights = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_weights = weights.new_zeros(len(weights))
            inputs = contiguous(values, starts, grad)
            launch(_accumulate_backward_weights, programs, *inputs, grad_weights, rays, **sizes)
        if ctx.needs_input_grad[1]:
            grad_values = values.new_zeros(values.shape)
            inputs = contiguous(weights, starts, grad)
            launch(_accumulate_backward_values, programs, *inputs, grad_values, rays, **sizes)
        return grad_weights, grad_values, None


_TILE = {"RAYS": RAYS, "SAMPLES": SAMPLES}


def _sizes(c: int) -> dict[str, int]:
    return {"C": c, "WIDTH": min(power_of_two(c), CHUNK), **_TILE}


@jit
def _extent(starts: tl.tensor, rays: tl.tensor, RAYS: tl.constexpr) -> Any:
    """The rays of a program, which of them there are, where their samples begin and end, and how many at most."""
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    there = ray < rays
    begin = tl.load(starts + ray, mask=there, other=0)
    end = tl.load(starts + ray + 1, mask=there, other=0)
    return ray, there, begin[:, None], end[:, None], tl.max(end - begin, axis=0).to(tl.int32)


@jit
def _depth(tau: tl.tensor, i: tl.tensor, inside: tl.tensor) -> Any:
    depth = tl.load(tau + i, mask=inside, other=0.0)
    return tl.where(depth > DEEPEST, DEEPEST, depth)  # NaN stays


@jit
def _opacity(depth: tl.tensor) -> Any:
    """1 - exp(-depth), also where that cancels: there by its series."""
    series = depth * (1 - depth / 2 * (1 - depth / 3 * (1 - depth / 4 * (1 - depth / 5))))
    return tl.where(depth < 0.1, series, 1 - tl.exp(-depth))


@jit
def _weights_forward(
    tau: tl.tensor,
    starts: tl.tensor,
    weights: tl.tensor,
    transmittance: tl.tensor,
    rays: tl.tensor,
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    ray, there, begin, end, longest = _extent(starts, rays, RAYS)
    before = tl.zeros((RAYS, 1), tl.float32)  # optical depth before the lot
    for first in range(0, longest, SAMPLES):
        i = begin + first + tl.arange(0, SAMPLES)[None, :]
        depth = _depth(tau, i, i < end)
        previous = _depth(tau, i - 1, (i > begin + first) & (i < end))
        reaching = tl.exp(-(before + tl.cumsum(previous, axis=1)))
        tl.store(weights + i, _opacity(depth) * reaching, mask=i < end)
        before += tl.sum(depth, axis=1)[:, None]
    tl.store(transmittance + ray[:, None], tl.exp(-before), mask=there[:, None])


@jit
def _weights_backward(
    starts: tl.tensor,
    weights: tl.tensor,
    transmittance: tl.tensor,
    grad_weights: tl.tensor,
    grad_transmittance: tl.tensor,
    grad_tau: tl.tensor,
    rays: tl.tensor,
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    """From the last samples to the first: what passes a sample, and what is behind it, are sums of small numbers."""
    ray, there, begin, end, longest = _extent(starts, rays, RAYS)
    passing = tl.load(transmittance + ray, mask=there, other=0.0)[:, None]
    behind = passing * tl.load(grad_transmittance + ray, mask=there, other=0.0)[:, None]
    for first in range(0, longest, SAMPLES):
        last = end - 1 - first
        i = last - tl.arange(0, SAMPLES)[None, :]
        inside = i >= begin
        weight = tl.load(weights + i, mask=inside, other=0.0)
        g = tl.load(grad_weights + i, mask=inside, other=0.0)
        later = inside & (i < last)
        next_weight = tl.load(weights + i + 1, mask=later, other=0.0)
        next_share = next_weight * tl.load(grad_weights + i + 1, mask=later, other=0.0)
        passed, shared = passing + tl.cumsum(next_weight, axis=1), behind + tl.cumsum(next_share, axis=1)
        tl.store(grad_tau + i, g * passed - shared, mask=inside)
        passing += tl.sum(weight, axis=1)[:, None]
        behind += tl.sum(weight * g, axis=1)[:, None]


@jit
def _accumulate_forward(
    weights: tl.tensor,
    values: tl.tensor,
    starts: tl.tensor,
    totals: tl.tensor,
    rays: tl.tensor,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    ray, there, begin, end, longest = _extent(starts, rays, RAYS)
    k = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    total = tl.zeros((RAYS, WIDTH), tl.float32)
    for first in range(0, longest, SAMPLES):
        i = begin + first + tl.arange(0, SAMPLES)[None, :]
        weight = tl.load(weights + i, mask=i < end, other=0.0)
        keep = (i < end)[:, :, None] & (k < C)[None, None, :]
        value = tl.load(values + i[:, :, None] * C + k[None, None, :], mask=keep, other=0.0)
        total += tl.sum(weight[:, :, None] * value, axis=1)
    tl.store(totals + ray[:, None] * C + k[None, :], total, mask=there[:, None] & (k < C)[None, :])


@jit
def _accumulate_backward_weights(
    values: tl.tensor,
    starts: tl.tensor,
    grad: tl.tensor,
    grad_weights: tl.tensor,
    rays: tl.tensor,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    ray, there, begin, end, longest = _extent(starts, rays, RAYS)
    for first in range(0, longest, SAMPLES):
        i = begin + first + tl.arange(0, SAMPLES)[None, :]
        total = tl.zeros((RAYS, SAMPLES), tl.float32)
        for channel in range(0, C, WIDTH):
            k = channel + tl.arange(0, WIDTH)
            g = tl.load(grad + ray[:, None] * C + k[None, :], mask=there[:, None] & (k < C)[None, :], other=0.0)
            keep = (i < end)[:, :, None] & (k < C)[None, None, :]
            value = tl.load(values + i[:, :, None] * C + k[None, None, :], mask=keep, other=0.0)
            total += tl.sum(value * g[:, None, :], axis=2)
        tl.store(grad_weights + i, total, mask=i < end)


@jit
def _accumulate_backward_values(
    weights: tl.tensor,
    starts: tl.tensor,
    grad: tl.tensor,
    grad_values: tl.tensor,
    rays: tl.tensor,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
) -> None:
    ray, there, begin, end, longest = _extent(starts, rays, RAYS)
    for channel in range(0, C, WIDTH):
        k = channel + tl.arange(0, WIDTH)
        g = tl.load(grad + ray[:, None] * C + k[None, :], mask=there[:, None] & (k < C)[None, :], other=0.0)
        for first in range(0, longest, SAMPLES):
            i = begin + first + tl.arange(0, SAMPLES)[None, :]
            weight = tl.load(weights + i, mask=i < end, other=0.0)
            keep = (i < end)[:, :, None] & (k < C)[None, None, :]
            out = grad_values + i[:, :, None] * C + k[None, None, :]
            tl.store(out, weight[:, :, None] * g[:, None, :], mask=keep)
