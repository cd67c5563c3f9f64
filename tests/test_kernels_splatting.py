"""Compositing of flat Gaussians: by definition, fast against slow, slopes, and against gsplat's."""

from __future__ import annotations

import math
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor

from fieldcast.fields.kernels.splatting import splat, splat_reference

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def scattered(count: int, size: tuple[int, int], spread: float = 5.0) -> Inputs:
    """Random splats on and beside a picture, in float64: means, conics, opacities, values [n, 4]."""
    means = (torch.rand(count, 2, dtype=torch.float64) * 1.4 - 0.2) * torch.tensor(size)
    root = torch.randn(count, 2, 2, dtype=torch.float64) * spread
    inverse = torch.linalg.inv(root @ root.mT + 0.3 * torch.eye(2, dtype=torch.float64))
    conics = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], -1)
    return means, conics, torch.rand(count, dtype=torch.float64), torch.rand(count, 4, dtype=torch.float64)


def one_by_one(inputs: Inputs, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The definition, as loops over pixels and splats."""
    means, conics, opacities, values = (part.tolist() for part in inputs)
    totals = torch.zeros(size[1], size[0], len(values[0]), dtype=torch.float64)
    left = torch.ones(size[1], size[0], dtype=torch.float64)
    for row in range(size[1]):
        for column in range(size[0]):
            light = 1.0
            for (x, y), (a, b, c), opacity, value in zip(means, conics, opacities, values, strict=True):
                dx, dy = column + 0.5 - x, row + 0.5 - y
                alpha = min(0.999, opacity * math.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy))
                if alpha < 1 / 255:
                    continue
                if light * (1 - alpha) <= 1e-4:
                    break
                totals[row, column] += light * alpha * torch.tensor(value, dtype=torch.float64)
                light *= 1 - alpha
            left[row, column] = light
    return totals, left


def test_the_reference_is_the_definition() -> None:
    inputs = scattered(60, (9, 7))
    inputs[2][::3] = 1.0  # some opaque ones, behind which pixels end
    expected = one_by_one(inputs, (9, 7))
    found = splat_reference(*inputs, (9, 7))
    assert float(expected[1].min()) < 2e-3
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("count", "size", "spread"), [(300, (70, 45), 5.0), (400, (33, 16), 0.3), (40, (50, 50), 60.0)]
)
def test_fast_equals_slow(count: int, size: tuple[int, int], spread: float) -> None:
    inputs = scattered(count, size, spread)
    slow = [part.clone().requires_grad_() for part in inputs]
    fast = [part.float().requires_grad_() for part in inputs]
    expected, found = splat_reference(*slow, size), splat(*fast, size)
    grads = [torch.randn_like(part) for part in expected]
    torch.autograd.backward(expected, grads)
    torch.autograd.backward(found, [grad.float() for grad in grads])
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f.double(), e, rtol=0, atol=1e-4)
    for s, f in zip(slow, fast, strict=True):
        assert s.grad is not None and f.grad is not None
        assert float((s.grad - f.grad).norm() / s.grad.norm()) < 1e-4


def test_slopes_of_the_reference_are_those_of_its_values() -> None:
    inputs = [part.requires_grad_() for part in scattered(7, (5, 4), 3.0)]
    assert torch.autograd.gradcheck(lambda *parts: splat_reference(*parts, (5, 4)), inputs, atol=1e-6)


def test_slopes_of_slopes() -> None:
    parts = [part.float().requires_grad_() for part in scattered(20, (12, 9))]
    plain = [part.detach().double().requires_grad_() for part in parts]
    results = []
    for inputs, routine in ((parts, splat), (plain, splat_reference)):
        totals, light = routine(*inputs, (12, 9))
        (slope,) = torch.autograd.grad(totals.square().sum() + light.sum(), inputs[2], create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), inputs[0])[0])
    assert float((results[0] - results[1]).norm() / results[1].norm()) < 1e-3


def test_weights_and_the_light_that_is_left_are_one() -> None:
    means, conics, opacities, values = (part.float() for part in scattered(500, (40, 40)))
    totals, light = splat(means, conics, opacities, torch.ones_like(values), (40, 40))
    torch.testing.assert_close(totals[..., 0] + light, torch.ones_like(light), rtol=0, atol=1e-5)


def test_what_is_not_finite_or_not_there_does_not_count() -> None:
    means, conics, opacities, values = (part.float() for part in scattered(50, (20, 20)))
    expected = splat(means, conics, opacities, values, (20, 20))
    nan = torch.full((3, 1), math.nan)
    odd_means = torch.cat([nan.expand(3, 2), torch.full((1, 2), 1e30)])
    odd_conics = torch.cat([conics[:3], torch.zeros(1, 3)])
    found = splat(
        torch.cat([odd_means, means]),
        torch.cat([odd_conics, conics]),
        torch.cat([torch.ones(4), opacities]),
        torch.cat([torch.ones(4, 4), values]),
        (20, 20),
    )
    torch.testing.assert_close(found, expected)
    nothing = splat(means[:0], conics[:0], opacities[:0], values[:0], (20, 20))
    assert float(nothing[0].abs().max()) == 0 and float(nothing[1].min()) == 1


def test_any_number_of_threads_gives_the_same_bits() -> None:
    parts = [part.float().requires_grad_() for part in scattered(2000, (150, 150))]
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            totals, light = splat(*parts, (150, 150))
            results.append([totals, light, *torch.autograd.grad(totals.sum() + light.sum(), parts)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gsplat_composites_alike(gsplat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sums need two functions of nerfacc, which are given here, and the pairs that its CUDA kernel would list."""

    def render_weight_from_alpha(alphas: Tensor, ray_indices: Tensor, n_rays: int) -> tuple[Tensor, Tensor]:
        light = torch.ones(n_rays, dtype=alphas.dtype)
        reaching = torch.zeros_like(alphas)
        for k, (alpha, ray) in enumerate(zip(alphas, ray_indices, strict=True)):
            reaching[k] = light[ray]
            light[ray] *= 1 - alpha
        return alphas * reaching, reaching

    def accumulate_along_rays(weights: Tensor, values: Tensor | None, ray_indices: Tensor, n_rays: int) -> Tensor:
        shown = weights[:, None] * (torch.ones_like(weights)[:, None] if values is None else values)
        return torch.zeros(n_rays, shown.shape[1], dtype=shown.dtype).index_add(0, ray_indices, shown)

    nerfacc: Any = types.ModuleType("nerfacc")
    nerfacc.render_weight_from_alpha = render_weight_from_alpha
    nerfacc.accumulate_along_rays = accumulate_along_rays
    monkeypatch.setitem(sys.modules, "nerfacc", nerfacc)
    width, height = 20, 12
    inputs = scattered(40, (width, height))
    means, conics, opacities, values = inputs
    pixel = torch.cartesian_prod(torch.arange(width * height), torch.arange(len(means)))
    alpha = gsplat_alpha(inputs, pixel, width)
    light = torch.ones(width * height, dtype=torch.float64)
    kept = torch.zeros(len(pixel), dtype=torch.bool)
    for k, (place, _) in enumerate(pixel.tolist()):
        if alpha[k] >= 1 / 255 and light[place] > 0:
            passing = light[place] * (1 - alpha[k])
            kept[k] = passing > 1e-4
            light[place] = passing if kept[k] else 0
    ids = pixel[kept]
    zeros = torch.zeros(len(ids), dtype=torch.int64)
    totals, opacity = gsplat.accumulate(
        means[None], conics[None], opacities[None], values[None], ids[:, 1], ids[:, 0], zeros, width, height
    )
    found = splat(*(part.float() for part in inputs), (width, height))
    torch.testing.assert_close(found[0].double(), totals[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1].double(), 1 - opacity[0, ..., 0], rtol=0, atol=1e-5)


def gsplat_alpha(inputs: Inputs, pixel: Tensor, width: int) -> Tensor:
    means, conics, opacities, _ = inputs
    d = torch.stack([pixel[:, 0] % width, pixel[:, 0] // width], -1) + 0.5 - means[pixel[:, 1]]
    a, b, c = conics[pixel[:, 1]].unbind(-1)
    power = 0.5 * (a * d[:, 0] ** 2 + c * d[:, 1] ** 2) + b * d[:, 0] * d[:, 1]
    return (opacities[pixel[:, 1]] * torch.exp(-power)).clamp_max(0.999)
