from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fieldcast.fields.kernels.dense import dense


def stack(widths: list[int], bias: bool) -> list[nn.Linear]:
    return [nn.Linear(i, o, bias=bias) for i, o in pairwise(widths)]


def layer_by_layer(x: Tensor, layers: list[nn.Linear], rectify_last: bool) -> Tensor:
    """torch's own modules."""
    modules: list[nn.Module] = [m for layer in layers for m in (layer, nn.ReLU())]
    result: Tensor = nn.Sequential(*(modules if rectify_last else modules[:-1]))(x)
    return result


def slopes(function: Any, x: Tensor, layers: list[nn.Linear]) -> list[Tensor]:
    """What comes out and the gradients of a curved function of it, as float64."""
    x = x.detach().clone().requires_grad_()
    out = function(x, layers)
    leaves = [x, *(p for layer in layers for p in layer.parameters())]
    found = torch.autograd.grad(out.double().sin().sum(), leaves)
    return [out.detach().double(), *(g.double() for g in found)]


SHAPES = pytest.mark.parametrize("widths", [[5, 3], [31, 64, 64, 3], [32, 64, 16], [7, 1, 20]])
BIAS = pytest.mark.parametrize("bias", [False, True])
LAST = pytest.mark.parametrize("rectify_last", [False, True])


@SHAPES
@BIAS
@LAST
def test_like_torch_in_float64(widths: list[int], bias: bool, rectify_last: bool) -> None:
    layers = stack(widths, bias)
    exact = [copy.deepcopy(layer).double() for layer in layers]
    x = torch.randn(200, widths[0])
    found = slopes(lambda x, ls: dense(x, ls, rectify_last=rectify_last), x, layers)
    expected = slopes(lambda x, ls: layer_by_layer(x, ls, rectify_last), x.double(), exact)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@SHAPES
@BIAS
@LAST
def test_bfloat16_is_as_near_as_torch(widths: list[int], bias: bool, rectify_last: bool) -> None:
    layers = stack(widths, bias)
    x = torch.randn(300, widths[0]).bfloat16()
    out = dense(x, layers, rectify_last=rectify_last)
    assert out.dtype == torch.bfloat16 and out.shape == (300, widths[-1])
    found = slopes(lambda x, ls: dense(x, ls, rectify_last=rectify_last), x, layers)
    exact = slopes(lambda x, ls: layer_by_layer(x, ls, rectify_last), x.float(), layers)
    rounded = [copy.deepcopy(layer).bfloat16() for layer in layers]
    peer = slopes(lambda x, ls: layer_by_layer(x, ls, rectify_last), x, rounded)
    for a, b, c in zip(found, exact, peer, strict=True):
        assert float((a - b).norm()) <= 1.2 * float((c - b).norm()) + 1e-2 * float(b.norm())


def test_slopes_of_slopes() -> None:
    layers = [layer.double() for layer in stack([3, 8, 2], True)]
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, *_: dense(x, layers), (x, *layers[0].parameters()))


def test_of_no_points() -> None:
    layers = stack([3, 8, 2], True)
    out = dense(torch.zeros(0, 3), layers)
    out.sum().backward()
    assert out.shape == (0, 2) and (layers[0].weight.grad == 0).all()


def test_frozen_layers_pass_gradients_on() -> None:
    layers = stack([3, 8, 2], False)
    for layer in layers:
        layer.requires_grad_(False)
    x = torch.randn(4, 3, requires_grad=True)
    dense(x, layers).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
