from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from fieldcast.fields.kernels import lowrank
from fieldcast.fields.kernels.lowrank import (
    MATRIX_AXES,
    VECTOR_AXES,
    component_lookup,
    component_lookup_reference,
    line_lookup,
    plane_lookup,
    vm_lookup,
)

Lookup = Callable[..., Tensor]


def vm_lines(u: Tensor, lines: Tensor) -> Tensor:
    return line_lookup(u, lines, VECTOR_AXES)


def vm_lines_reference(u: Tensor, lines: Tensor) -> Tensor:
    return lowrank.line_lookup_reference(u, lines, VECTOR_AXES)


PAIRS = {
    "planes": (plane_lookup, lowrank.plane_lookup_reference, "p"),
    "lines": (line_lookup, lowrank.line_lookup_reference, "l"),
    "lines of vm": (vm_lines, vm_lines_reference, "l"),
    "vm": (vm_lookup, lowrank.vm_lookup_reference, "pl"),
}


def points(n: int) -> Tensor:
    """Random points, and the corners of the unit cube."""
    corners = torch.tensor(list(product((0.0, 1.0), repeat=3)))
    return torch.cat((corners, torch.rand(n, 3, generator=torch.Generator().manual_seed(0))))


def factors(which: str, r: int, channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(r)
    shapes = {"p": (3, r, r, channels), "l": (3, r, channels)}
    return [torch.randn(shapes[letter], generator=generator) for letter in which]


@pytest.mark.parametrize("lookup", [plane_lookup, lowrank.plane_lookup_reference])
def test_planes_against_grid_sample(lookup: Lookup) -> None:
    u, (planes,) = points(100), factors("p", 7, 4)
    at = torch.stack([2 * u[:, axes] - 1 for axes in MATRIX_AXES])  # (x, y) = (along the width, along the height)
    expected = grid_sample(planes.permute(0, 3, 1, 2), at[:, :, None], align_corners=True)[..., 0].permute(2, 0, 1)
    torch.testing.assert_close(lookup(u, planes), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("lookup", [line_lookup, lowrank.line_lookup_reference])
@pytest.mark.parametrize("axes", [(0, 1, 2), VECTOR_AXES])
def test_lines_against_grid_sample(lookup: Lookup, axes: tuple[int, int, int]) -> None:
    u, (lines,) = points(100), factors("l", 7, 4)
    along = torch.stack([2 * u[:, axis] - 1 for axis in axes])
    at = torch.stack((torch.zeros_like(along), along), -1)
    image = lines.permute(0, 2, 1)[..., None]
    expected = grid_sample(image, at[:, :, None], align_corners=True)[..., 0].permute(2, 0, 1)
    torch.testing.assert_close(lookup(u, lines, axes), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("lookup", [vm_lookup, lowrank.vm_lookup_reference])
def test_linear_functions_are_exact(lookup: Lookup) -> None:
    u, axis = points(100), torch.arange(6) / 5
    planes = (axis[:, None] * 3 + axis[None, :] + 1).expand(3, 6, 6)[..., None]  # 3 second + first + 1
    lines = (2 - axis).expand(3, 6)[..., None]
    expected = [(3 * u[:, b] + u[:, a] + 1) * (2 - u[:, c]) for (a, b), c in zip(MATRIX_AXES, VECTOR_AXES, strict=True)]
    torch.testing.assert_close(lookup(u, planes, lines)[..., 0], torch.stack(expected, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_constants_are_kept(name: str) -> None:
    fast, plain, which = PAIRS[name]
    constants = [torch.full_like(factor, 3.0) for factor in factors(which, 5, 2)]
    for lookup in (fast, plain):
        torch.testing.assert_close(lookup(points(50), *constants), torch.full((58, 3, 2), 3.0 ** len(which)))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("r", "channels"), [(13, 1), (9, 16), (8, 21), (2, 3), (1, 2)])
def test_compiled_equals_plain(name: str, r: int, channels: int) -> None:
    fast, plain, which = PAIRS[name]
    inputs = [points(2000), *factors(which, r, channels)]
    grad = torch.randn(len(inputs[0]), 3, channels, generator=torch.Generator().manual_seed(2))
    results = []
    for lookup, dtype in ((fast, torch.float32), (plain, torch.float64)):
        leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        values = lookup(*leaves)
        results.append([values.detach(), *torch.autograd.grad(values, leaves, grad.to(dtype))])
    for got, exact in zip(*results, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))


def uneven(m: int, channels: int, along: int) -> list[Tensor]:
    """A plane and a line whose axes x, y, z have 5, 9 and 4 samples; or one sample along an axis of either."""
    samples, generator = (5, 9, 4), torch.Generator().manual_seed(m)
    a, b = MATRIX_AXES[m]
    plane = torch.randn(samples[b] if along else 1, samples[a], channels, generator=generator)
    return [plane, torch.randn(samples[VECTOR_AXES[m]] if along else 1, channels, generator=generator)]


@pytest.mark.parametrize("m", [0, 1, 2])
@pytest.mark.parametrize(("channels", "along"), [(3, 1), (16, 1), (1, 0)])
def test_single_components(m: int, channels: int, along: int) -> None:
    """Against torch's own look-ups and, with slopes and slopes of slopes, against the plain version."""
    u, (plane, line) = points(500), uneven(m, channels, along)
    n, nothing = 2 * u - 1, torch.zeros(len(u))
    places = n[:, MATRIX_AXES[m]], torch.stack([nothing, n[:, VECTOR_AXES[m]]], -1)
    images = plane.permute(2, 0, 1)[None], line.t()[None, :, :, None]
    found = [
        grid_sample(i, p[None, :, None], align_corners=True)[0, :, :, 0] for i, p in zip(images, places, strict=True)
    ]
    for lookup in (component_lookup, component_lookup_reference):
        torch.testing.assert_close(lookup(u, plane, line, m), (found[0] * found[1]).T, rtol=0, atol=1e-5)
    results = []
    for lookup, dtype in ((component_lookup, torch.float32), (component_lookup_reference, torch.float64)):
        leaves = [tensor.to(dtype).requires_grad_() for tensor in (u[8:], plane, line)]
        values = lookup(*leaves, m)
        slopes = torch.autograd.grad(values.square().sum(), leaves, retain_graph=True)
        (again,) = torch.autograd.grad(values.sum(), leaves[:1], create_graph=True)
        results.append([*slopes, *torch.autograd.grad(again.square().sum(), leaves[1:])])
    for got, exact in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-4 * float(exact.abs().max()) + 1e-6)


def test_the_components_of_a_cube_are_its_single_ones() -> None:
    u, (planes, lines) = points(200), factors("pl", 6, 5)
    single = [component_lookup(u, planes[m], lines[m], m) for m in range(3)]
    torch.testing.assert_close(torch.stack(single, 1), vm_lookup(u, planes, lines))


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_of_the_plain_version(name: str) -> None:
    _, plain, which = PAIRS[name]
    inputs = [points(4)[8:], *factors(which, 4, 2)]
    assert torch.autograd.gradcheck(plain, [tensor.double().requires_grad_() for tensor in inputs])


@pytest.mark.parametrize("name", PAIRS)
def test_no_points(name: str) -> None:
    lookup, _, which = PAIRS[name]
    leaves = [factor.requires_grad_() for factor in factors(which, 4, 2)]
    values = lookup(torch.zeros(0, 3), *leaves)
    assert values.shape == (0, 3, 2)
    values.sum().backward()
    assert all(leaf.grad is not None and not leaf.grad.any() for leaf in leaves)


@pytest.mark.parametrize("name", PAIRS)
def test_second_derivatives(name: str) -> None:
    fast, plain, which = PAIRS[name]
    inputs, results = [points(30), *factors(which, 6, 2)], []
    for lookup, dtype in ((fast, torch.float32), (plain, torch.float64)):
        leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        (slope,) = torch.autograd.grad(lookup(*leaves).square().sum(), leaves[:1], create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), leaves))
    for got, exact in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


def test_inputs_need_not_be_contiguous() -> None:
    u, (planes, lines) = points(50), factors("pl", 6, 4)
    loose = (u.T.contiguous().T, planes.mT.contiguous().mT, lines.mT.contiguous().mT)
    assert not any(tensor.is_contiguous() for tensor in loose)
    assert torch.equal(vm_lookup(*loose), vm_lookup(u, planes, lines))


def test_same_bits_at_any_number_of_threads() -> None:
    u, leaves = points(5000), [factor.requires_grad_() for factor in factors("pl", 40, 16)]
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            values = vm_lookup(u, *leaves)
            results.append((values, *torch.autograd.grad(values.square().sum(), leaves)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
