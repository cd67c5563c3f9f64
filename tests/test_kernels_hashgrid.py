from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldcast.fields.kernels.hashgrid import PRIMES, Level, hash_encode, hash_encode_reference, hash_levels

LEVELS = hash_levels(5, 4, 40, 9)  # dense and hashed levels


def rows(levels: tuple[Level, ...]) -> int:
    return levels[-1].offset + levels[-1].rows


OTHERS = {storage: hash_levels(5, 4, 40.5, 9, storage) for storage in ("tiny-cuda-nn", "nerfstudio")}
STORAGES = pytest.mark.parametrize("levels", [LEVELS, *OTHERS.values()], ids=["torch-ngp", *OTHERS])


def points(n: int, seed: int = 0) -> Tensor:
    """Random points, and the corners of the unit cube."""
    corners = torch.tensor(list(product((0.0, 1.0), repeat=3)))
    return torch.cat((corners, torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))))


def table_for(levels: tuple[Level, ...], channels: int, seed: int = 1) -> Tensor:
    return torch.randn(rows(levels), channels, generator=torch.Generator().manual_seed(seed))


def test_layout_of_pvd() -> None:
    levels = hash_levels(14, 16, 2048, 19)
    assert [level.offset for level in levels[:7]] == [0, 4920, 20552, 63432, 196088, 585112, 1109400]
    assert all(after.offset - before.offset == 524288 for before, after in pairwise(levels[5:]))
    assert rows(levels) == 5303704
    assert [level.stride for level in levels[:3]] == [17, 25, 35]
    assert [level.dense for level in levels] == [True] * 5 + [False] * 9
    assert levels[1].scale == pytest.approx(16 * 2 ** (7 / 13) - 1)


@pytest.mark.parametrize(
    ("base", "finest", "levels", "log2_table", "channels", "parameters"),
    [
        (16, 2048, 16, 19, 2, 12_199_312 - 3072),  # nerfacto, without the 3072 numbers of its network
        (16, 128, 5, 17, 2, 766_528),  # its proposals
        (16, 256, 5, 17, 2, 860_160),
        (16, 4096, 16, 21, 2, 45_137_184 - 128 * 48),  # nerfacto-big
        (16, 8192, 16, 19, 2, 13_084_640 - 9728),  # a snapshot of Instant-NGP at aabb_scale 4
    ],
)
def test_sizes_of_tiny_cuda_nn(
    base: int, finest: int, levels: int, log2_table: int, channels: int, parameters: int
) -> None:
    """Numbers of parameters of real checkpoints."""
    assert channels * rows(hash_levels(levels, base, finest, log2_table, "tiny-cuda-nn")) == parameters


def test_sizes_of_torch_ngp_and_nerfstudio() -> None:
    assert rows(hash_levels(16, 16, 2048, 19)) == 6_119_864
    assert rows(hash_levels(16, 16, 2048, 19, "nerfstudio")) == 16 * 2**19
    scales = [level.scale for level in hash_levels(16, 16, 2048, 19, "nerfstudio")]
    growth = np.exp((np.log(2048) - np.log(16)) / 15)
    assert scales == torch.floor(16 * growth ** torch.arange(16)).tolist()  # as nerfstudio words it


def test_one_level() -> None:
    assert hash_levels(1, 16, 2048, 19) == (Level(15.0, 17, 0, 4920, True, 15),)


def by_hand(u: list[float], table: Tensor, level: Level) -> Tensor:
    """One point in one level, as torch-ngp's kernel words it."""
    position = [x * level.scale + level.shift for x in u]
    cell = [int(p) for p in position]
    total = torch.zeros(table.shape[1], dtype=table.dtype)
    for corner in product((0, 1), repeat=3):
        at = [c + bit for c, bit in zip(cell, corner, strict=True)]
        weight = 1.0
        for p, c, bit in zip(position, cell, corner, strict=True):
            weight *= p - c if bit else 1 - (p - c)
        if level.dense:
            index = at[0] + at[1] * level.stride + at[2] * level.stride**2
        else:
            index = 0
            for x, prime in zip(at, PRIMES, strict=True):
                index ^= x * prime & 0xFFFFFFFF
        total += weight * table[level.offset + index % level.rows]
    return total


@STORAGES
def test_against_a_loop_over_corners(levels: tuple[Level, ...]) -> None:
    u, table = points(20).double(), table_for(levels, 2).double()
    expected = torch.stack([torch.cat([by_hand(x, table, level) for level in levels]) for x in u.tolist()])
    torch.testing.assert_close(hash_encode_reference(u, table, levels), expected, rtol=0, atol=1e-12)


def test_levels_of_tiny_cuda_nn_wrap() -> None:
    """The last vertices along a side are the first of the next row, and those of the last row begin anew."""
    (level,) = hash_levels(1, 4, 4, 12, "tiny-cuda-nn")
    assert level == Level(3.0, 4, 0, 64, True, 3)
    table = torch.arange(64.0)[:, None]
    u = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    at = [3, 4, 7, 8]  # half a cell beyond the last vertex along x, half a cell from the first along y and z
    expected = sum(at) / 4 / 2 + (sum(at) / 4 + 16) / 2
    found = hash_encode_reference(u, table.double(), (level,))
    assert float(found[0]) == pytest.approx(expected)
    assert float(found[1]) == pytest.approx(sum((x + 4 * y + 16 * z) % 64 for x, y, z in product((3, 4), repeat=3)) / 8)


def test_a_dense_level_is_a_trilinear_grid() -> None:
    levels = hash_levels(1, 6, 6, 12)
    level, u, table = levels[0], points(100).double(), table_for(levels, 3).double()
    assert level.dense
    volume = table[: level.stride**3].view(level.stride, level.stride, level.stride, 3)  # z, y, x
    at = (u * level.scale + 0.5) / (level.stride - 1) * 2 - 1
    sampled = torch.nn.functional.grid_sample(
        volume.permute(3, 0, 1, 2)[None], at[None, :, None, None], align_corners=True
    )
    expected = sampled[0, :, :, 0, 0].T
    torch.testing.assert_close(hash_encode_reference(u, table, levels), expected)
    torch.testing.assert_close(hash_encode(u.float(), table.float(), levels), expected.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("encode", [hash_encode, hash_encode_reference])
def test_a_constant_table_gives_the_constant(encode: Any) -> None:
    table = torch.tensor([1.0, -2.0]).repeat(rows(LEVELS), 1)
    torch.testing.assert_close(encode(points(200), table, LEVELS), torch.tensor([1.0, -2.0]).repeat(208, len(LEVELS)))


@STORAGES
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
def test_compiled_equals_plain(channels: int, levels: tuple[Level, ...]) -> None:
    u, table = points(2000), table_for(levels, channels)
    grad = torch.randn(len(u), len(levels) * channels, generator=torch.Generator().manual_seed(2))
    results = []
    for encode, dtype in ((hash_encode, torch.float32), (hash_encode_reference, torch.float64)):
        inputs = (u.to(dtype).requires_grad_(), table.to(dtype).requires_grad_())
        features = encode(*inputs, levels)
        results.append([features.detach(), *torch.autograd.grad(features, inputs, grad.to(dtype))])
    for fast, exact in zip(*results, strict=True):
        assert fast.dtype == torch.float32
        torch.testing.assert_close(fast.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


def test_gradients_of_the_plain_version() -> None:
    levels = hash_levels(3, 2, 9, 6)
    assert [level.dense for level in levels] == [True, False, False]
    u = points(3)[7:].double().requires_grad_()
    u = u.detach().clamp(0.01, 0.99).requires_grad_()
    table = table_for(levels, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda u, table: hash_encode_reference(u, table, levels), (u, table))


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_only_what_asks_for_a_gradient_gets_one(wanted: tuple[bool, bool]) -> None:
    u, table = points(4).requires_grad_(wanted[0]), table_for(LEVELS, 2).requires_grad_(wanted[1])
    hash_encode(u, table, LEVELS).sum().backward()  # the gradient of sum() is an expanded scalar
    assert (u.grad is not None, table.grad is not None) == wanted


def test_no_points() -> None:
    u, table = torch.zeros(0, 3, requires_grad=True), table_for(LEVELS, 2).requires_grad_()
    features = hash_encode(u, table, LEVELS)
    assert features.shape == (0, 10)
    features.sum().backward()
    assert table.grad is not None and not table.grad.any()


def test_inputs_need_not_be_contiguous() -> None:
    u, table = points(50), table_for(LEVELS, 2)
    expected = hash_encode(u, table, LEVELS)
    loose_u, loose_table = u.T.contiguous().T, torch.cat((table, table), 1)[:, :2]
    assert not loose_u.is_contiguous() and not loose_table.is_contiguous()
    assert torch.equal(hash_encode(loose_u, loose_table, LEVELS), expected)


def test_same_bits_at_any_number_of_threads() -> None:
    u, table = points(5000), table_for(LEVELS, 2).requires_grad_()
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            features = hash_encode(u, table, LEVELS)
            results.append((features, *torch.autograd.grad(features.square().sum(), table)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("encode", [hash_encode, hash_encode_reference])
def test_points_off_the_cube_and_nan_stay_in_the_table(encode: Any) -> None:
    u = torch.tensor([[-3.0, 0.5, 0.5], [0.5, 9.0, 1e30], [float("nan"), 0.5, 0.5]])
    features = encode(u, table_for(LEVELS, 2), LEVELS)
    assert features[0].isfinite().all() and features[2].isnan().all()


def test_a_short_table_is_refused() -> None:
    with pytest.raises(ValueError, match=f"table: expected {rows(LEVELS)} rows, found 10"):
        hash_encode(points(1), torch.zeros(10, 2), LEVELS)


def test_second_derivatives() -> None:
    results = []
    for encode, dtype in ((hash_encode, torch.float32), (hash_encode_reference, torch.float64)):
        leaves = [tensor.to(dtype).requires_grad_() for tensor in (points(30), table_for(LEVELS, 2))]
        (slope,) = torch.autograd.grad(encode(*leaves, LEVELS).square().sum(), leaves[:1], create_graph=True)
        results.append(torch.autograd.grad(slope.square().sum(), leaves))
    for fast, exact in zip(*results, strict=True):
        torch.testing.assert_close(fast.double(), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
