from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from fieldcast.fields.kernels.voxels import trilinear, trilinear_reference, vertex_rows

BOTH = pytest.mark.parametrize("lookup", [trilinear, trilinear_reference])
Lookup = Callable[..., Tensor]


def points(n: int) -> Tensor:
    """Random points, and the corners of the unit cube."""
    corners = torch.tensor(list(product((0.0, 1.0), repeat=3)))
    return torch.cat((corners, torch.rand(n, 3, generator=torch.Generator().manual_seed(0))))


def grid(resolution: int, channels: int, share: float = 0.6) -> tuple[Tensor, Tensor, Tensor]:
    """Random data, blocks (`share` of them stored, in random order) and the empty row."""
    generator = torch.Generator().manual_seed(resolution)
    g = -(-resolution // 8)
    stored = torch.rand(g**3, generator=generator) < share
    blocks = torch.full((g**3,), -1, dtype=torch.int32)
    blocks[stored] = torch.randperm(int(stored.sum()), generator=generator).int()
    data = torch.randn(int(stored.sum()) * 512, channels, generator=generator)
    return data, blocks.view(g, g, g), torch.randn(channels, generator=generator)


def dense(volume: Tensor) -> tuple[Tensor, Tensor]:
    """Data and blocks of a grid [x, y, z, c]."""
    resolution, g = len(volume), -(-len(volume) // 8)
    blocks = torch.arange(g**3, dtype=torch.int32).view(g, g, g)
    data = torch.zeros(g**3 * 512, volume.shape[-1], dtype=volume.dtype)
    vertex = torch.cartesian_prod(*[torch.arange(resolution)] * 3)
    data[vertex_rows(vertex, blocks)[0]] = volume.reshape(resolution**3, -1)
    return data, blocks


def test_layout() -> None:
    blocks = torch.tensor([4, -1, 2, 3, 1, 0, 6, 5], dtype=torch.int32).view(2, 2, 2)
    vertex = torch.tensor([[0, 0, 0], [1, 2, 3], [9, 10, 3], [0, 0, 9]])
    row, stored = vertex_rows(vertex, blocks)
    assert row.tolist() == [4 * 512, 4 * 512 + 64 + 2 * 8 + 3, 6 * 512 + 64 + 2 * 8 + 3, 0]
    assert stored.tolist() == [True, True, True, False]


def test_against_grid_sample() -> None:
    volume = torch.randn(11, 11, 11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    data, blocks = dense(volume)
    u, empty = points(200).double(), torch.zeros(3, dtype=torch.float64)
    at = (2 * u - 1).flip(-1)[None, :, None, None]  # grid_sample counts the last axis first
    sampled = torch.nn.functional.grid_sample(volume.permute(3, 0, 1, 2)[None], at, align_corners=True)
    expected = sampled[0, :, :, 0, 0].T
    torch.testing.assert_close(trilinear(u, data, blocks, 11, empty), expected)
    fast = trilinear(u.float(), data.float(), blocks, 11, empty.float())
    torch.testing.assert_close(fast, expected.float(), rtol=0, atol=2e-6)


@BOTH
def test_linear_functions_are_exact(lookup: Lookup) -> None:
    axis = torch.arange(9) / 8
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    data, blocks = dense(torch.stack((x, 2 * y - z, torch.ones_like(x)), -1))
    u = points(200)
    expected = torch.stack((u[:, 0], 2 * u[:, 1] - u[:, 2], torch.ones(len(u))), -1)
    torch.testing.assert_close(lookup(u, data, blocks, 9, torch.zeros(3)), expected, rtol=0, atol=2e-6)


@BOTH
def test_a_constant_grid_with_holes_gives_the_constant(lookup: Lookup) -> None:
    data, blocks, _ = grid(20, 2)
    constant = torch.tensor([3.0, -1.0])
    values = lookup(points(200), constant.expand(len(data), 2), blocks, 20, constant)
    torch.testing.assert_close(values, constant.expand(208, 2))


@pytest.mark.parametrize(("resolution", "channels"), [(20, 1), (16, 4), (17, 28), (2, 3), (1, 2)])
def test_compiled_equals_plain(resolution: int, channels: int) -> None:
    data, blocks, empty = grid(resolution, channels, share=0.6 if resolution > 8 else 1)
    u = points(2000)
    grad = torch.randn(len(u), channels, generator=torch.Generator().manual_seed(2))
    results = []
    for lookup, dtype in ((trilinear, torch.float32), (trilinear_reference, torch.float64)):
        inputs = (u.to(dtype).requires_grad_(), data.to(dtype).requires_grad_())
        values = lookup(*inputs, blocks, resolution, empty.to(dtype))
        results.append([values.detach(), *torch.autograd.grad(values, inputs, grad.to(dtype))])
    for fast, exact in zip(*results, strict=True):
        assert fast.dtype == torch.float32
        torch.testing.assert_close(fast.double(), exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))


def test_gradients_of_the_plain_version() -> None:
    data, blocks, empty = grid(9, 1, share=0.4)
    u = points(4)[8:].double().requires_grad_()
    touched = data.double()[:600].requires_grad_()

    def lookup(u: Tensor, touched: Tensor) -> Tensor:
        return trilinear_reference(u, torch.cat((touched, data.double()[600:])), blocks, 9, empty.double())

    assert torch.autograd.gradcheck(lookup, (u, touched))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_stored(dtype: torch.dtype) -> None:
    empty = torch.tensor([1.0, 2.0], dtype=dtype)
    blocks = torch.full((2, 2, 2), -1, dtype=torch.int32)
    values = trilinear(points(3).to(dtype), torch.zeros(0, 2, dtype=dtype), blocks, 16, empty)
    torch.testing.assert_close(values, empty.expand(11, 2))


def test_no_points() -> None:
    data, blocks, empty = grid(16, 2)
    data.requires_grad_()
    values = trilinear(torch.zeros(0, 3), data, blocks, 16, empty)
    assert values.shape == (0, 2)
    values.sum().backward()
    assert data.grad is not None and not data.grad.any()


def test_inputs_need_not_be_contiguous() -> None:
    data, blocks, empty = grid(16, 2)
    u = points(50)
    loose = (u.T.contiguous().T, data.T.contiguous().T, blocks.permute(2, 1, 0).contiguous().permute(2, 1, 0))
    assert not any(tensor.is_contiguous() for tensor in loose)
    values = trilinear(*loose, 16, empty.repeat_interleave(2)[::2])
    assert torch.equal(values, trilinear(u, data, blocks, 16, empty))


def test_same_bits_at_any_number_of_threads() -> None:
    data, blocks, empty = grid(16, 5)
    u, threads, results = points(5000), torch.get_num_threads(), []
    data.requires_grad_()
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            values = trilinear(u, data, blocks, 16, empty)
            results.append((values, *torch.autograd.grad(values.square().sum(), data)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_second_derivatives() -> None:
    data, blocks, empty = grid(16, 2)
    results = []
    for lookup, dtype in ((trilinear, torch.float32), (trilinear_reference, torch.float64)):
        leaves = [tensor.to(dtype).requires_grad_() for tensor in (points(30), data)]
        values = lookup(*leaves, blocks, 16, empty.to(dtype))
        (slope,) = torch.autograd.grad(values.square().sum(), leaves[:1], create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), leaves))
    for fast, exact in zip(*results, strict=True):
        torch.testing.assert_close(fast.double(), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


def test_blocks_that_are_not_stored_are_refused() -> None:
    data, _, empty = grid(8, 2, share=1)
    with pytest.raises(ValueError, match="blocks: expected numbers of the 1 stored blocks, found 1"):
        trilinear(points(1), data, torch.ones(1, 1, 1, dtype=torch.int32), 8, empty)
