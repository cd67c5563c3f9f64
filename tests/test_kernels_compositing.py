from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fieldcast.fields.kernels.compositing import (
    accumulate,
    accumulate_reference,
    ray_of_sample,
    ray_weights,
    ray_weights_reference,
    reached,
    reached_reference,
)

INF = float("inf")
WEIGHTS = pytest.mark.parametrize("weigh", [ray_weights, ray_weights_reference])
SUMS = pytest.mark.parametrize("add", [accumulate, accumulate_reference])


def packed(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def totals(values: Tensor, starts: Tensor) -> Tensor:
    return torch.stack([values[a:b].sum() for a, b in pairwise(starts.tolist())])


STARTS = packed([0, 5, 0, 1, 300, 17, 0])
M = int(STARTS[-1])


def depths(seed: int = 0) -> Tensor:
    """Optical depths from nothing to opaque."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(M, generator=generator) ** 8 * 10


def test_by_hand() -> None:
    tau = torch.tensor([1.0, 2.0, 3.0])
    weights, transmittance = ray_weights(tau, packed([2, 0, 1]))
    e = torch.exp(-tau)
    torch.testing.assert_close(weights, torch.stack((1 - e[0], e[0] * (1 - e[1]), 1 - e[2])))
    torch.testing.assert_close(transmittance, torch.stack((e[0] * e[1], torch.ones(()), e[2])))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.floats(0, INF, width=32), max_size=6), max_size=6))
def test_weights_and_leftover_are_one(rays: list[list[float]]) -> None:
    tau, starts = torch.tensor([x for ray in rays for x in ray]), packed([len(ray) for ray in rays])
    for weigh in (ray_weights, ray_weights_reference):
        weights, transmittance = weigh(tau, starts)
        assert (weights >= 0).all() and (transmittance >= 0).all()
        if rays:
            torch.testing.assert_close(totals(weights, starts) + transmittance, torch.ones(len(rays)))


@WEIGHTS
def test_empty_rays_let_everything_through(weigh: Any) -> None:
    _, transmittance = weigh(depths(), STARTS)
    assert (transmittance[STARTS.diff() == 0] == 1).all()


@WEIGHTS
def test_opaque_samples_are_finite(weigh: Any) -> None:
    tau = torch.tensor([0.5, INF, 0.5, 1e30, 3e38, 0.0, INF, INF, 0.0, 200.0]).requires_grad_()
    weights, transmittance = weigh(tau, packed([3, 0, 4, 3]))
    assert weights.isfinite().all() and transmittance.tolist() == [0, 1, 0, 0]
    torch.testing.assert_close(weights[:3], torch.tensor([0.393469, 0.606531, 0.0]))
    (weights * torch.arange(10)).sum().add(transmittance.sum()).backward()
    assert tau.grad is not None and tau.grad.isfinite().all()


def test_compiled_weights_equal_plain() -> None:
    generator = torch.Generator().manual_seed(1)
    grads = (torch.randn(M, generator=generator), torch.randn(len(STARTS) - 1, generator=generator))
    results = []
    for weigh, dtype in ((ray_weights, torch.float32), (ray_weights_reference, torch.float64)):
        tau = depths().to(dtype).requires_grad_()
        outputs = weigh(tau, STARTS)
        results.append((*outputs, *torch.autograd.grad(outputs, tau, [grad.to(dtype) for grad in grads])))
    for fast, exact in zip(*results, strict=True):
        assert fast.dtype == torch.float32
        torch.testing.assert_close(fast.double(), exact, rtol=1e-5, atol=1e-6)


@WEIGHTS
@pytest.mark.parametrize("output", [0, 1])
def test_either_result_alone_has_a_gradient(weigh: Any, output: int) -> None:
    tau = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
    weigh(tau, packed([3]))[output].sum().backward()
    left = torch.tensor(-0.6).exp()
    assert tau.grad is not None
    torch.testing.assert_close(tau.grad, torch.full((3,), float(left if output == 0 else -left)))


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_compiled_sums_equal_plain(channels: int) -> None:
    generator = torch.Generator().manual_seed(1)
    weights, values = torch.rand(M, generator=generator), torch.randn(M, channels, generator=generator)
    grad = torch.randn(len(STARTS) - 1, channels, generator=generator)
    results = []
    for add, dtype in ((accumulate, torch.float32), (accumulate_reference, torch.float64)):
        leaves = [weights.to(dtype).requires_grad_(), values.to(dtype).requires_grad_()]
        result = add(*leaves, STARTS)
        results.append((result, *torch.autograd.grad(result, leaves, grad.to(dtype))))
    for fast, exact in zip(*results, strict=True):
        assert fast.dtype == torch.float32
        torch.testing.assert_close(fast.double(), exact, rtol=1e-5, atol=1e-5)


@SUMS
def test_sums_by_hand(add: Any) -> None:
    weights, values = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0, 0.0], [1.0, 1.0], [5.0, -1.0]])
    assert add(weights, values, packed([2, 0, 1])).tolist() == [[3.0, 2.0], [0.0, 0.0], [15.0, -3.0]]


def test_gradients_of_the_plain_versions() -> None:
    starts = packed([2, 0, 4])
    tau = torch.rand(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    values = torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda tau: ray_weights_reference(tau, starts), (tau,))
    assert torch.autograd.gradcheck(lambda w, v: accumulate_reference(w, v, starts), (tau, values))


@pytest.mark.parametrize("rays", [0, 3])
def test_nothing_to_composite(rays: int) -> None:
    starts = torch.zeros(rays + 1, dtype=torch.int64)
    tau, values = torch.zeros(0, requires_grad=True), torch.zeros(0, 3, requires_grad=True)
    for weigh, add in ((ray_weights, accumulate), (ray_weights_reference, accumulate_reference)):
        weights, transmittance = weigh(tau, starts)
        colors = add(weights, values, starts)
        assert weights.shape == (0,) and transmittance.tolist() == [1.0] * rays
        assert colors.shape == (rays, 3) and not colors.any()
        (colors.sum() + transmittance.sum()).backward()


def test_second_derivatives() -> None:
    results = []
    for weigh, add, dtype in (
        (ray_weights, accumulate, torch.float32),
        (ray_weights_reference, accumulate_reference, torch.float64),
    ):
        tau = depths().to(dtype).requires_grad_()
        weights, transmittance = weigh(tau, STARTS)
        values = add(weights, torch.ones(M, 1, dtype=dtype), STARTS)
        loss = (values[:, 0] * transmittance).sum() + weights.square().sum()
        (slope,) = torch.autograd.grad(loss, tau, create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), tau)[0])
    torch.testing.assert_close(results[0].double(), results[1], rtol=1e-4, atol=1e-5)


def test_inputs_need_not_be_contiguous() -> None:
    tau, values = depths(), torch.randn(M, 3, generator=torch.Generator().manual_seed(0))
    loose_tau, loose_values = tau.repeat_interleave(2)[::2], values.T.contiguous().T
    loose_starts = STARTS.repeat_interleave(2)[::2]
    weights = ray_weights(loose_tau, loose_starts)[0]
    assert torch.equal(weights, ray_weights(tau, STARTS)[0])
    assert torch.equal(accumulate(weights, loose_values, loose_starts), accumulate(weights, values, STARTS))


def test_same_bits_at_any_number_of_threads() -> None:
    threads, results = torch.get_num_threads(), []
    values = torch.randn(M, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tau = depths().requires_grad_()
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            colors = accumulate(ray_weights(tau, STARTS)[0], values, STARTS)
            results.append((colors, *torch.autograd.grad(colors.square().sum(), (tau, values))))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_ray_of_sample() -> None:
    assert ray_of_sample(packed([2, 0, 3]), 5).tolist() == [0, 0, 2, 2, 2]


@pytest.mark.parametrize("opaque", [1e-3, 0.5])
@pytest.mark.parametrize("reach", [reached, reached_reference])
def test_reached_is_counted_like_the_weights(reach: Any, opaque: float) -> None:
    """Before a sample there is the light that no earlier weight took."""
    tau, light = depths() * 3, torch.linspace(0.2, 1, len(STARTS) - 1)
    count, behind = reach(tau, STARTS, light, opaque)
    weights, _ = ray_weights_reference(tau.double(), STARTS)
    for ray, (a, b) in enumerate(pairwise(STARTS.tolist())):
        before = float(light[ray]) * (1 - torch.cat([weights.new_zeros(1), weights[a:b].cumsum(0)]))
        assert int(count[ray]) == int((before[:-1] > opaque).sum())
        torch.testing.assert_close(float(behind[ray]), float(before[int(count[ray])]), rtol=1e-4, atol=1e-6)


def test_slopes_of_slopes_count_each_input_on_its_own() -> None:
    """Values that are computed from the weights do not count their way through them twice."""
    leaf = depths().double()[: int(STARTS[2])].requires_grad_()

    def slope(function: Any, leaf: Tensor) -> Tensor:
        weights = leaf.square()
        values = torch.stack([weights, weights.exp()], -1)
        total = function(weights, values, STARTS[:3]).square().sum()
        (first,) = torch.autograd.grad(total, leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), leaf)
        return torch.stack([first.detach(), second]).double()

    single = leaf.detach().float().requires_grad_()
    torch.testing.assert_close(slope(accumulate, single), slope(accumulate_reference, leaf), rtol=1e-4, atol=1e-5)
