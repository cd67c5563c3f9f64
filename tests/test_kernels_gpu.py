"""The CUDA kernels: interpreted on the CPU where there is no CUDA device, and compiled for one without having it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

import triton

from fieldcast.fields.kernels import compositing, hashgrid, lowrank, marching, voxels
from fieldcast.fields.kernels.gpu import compositing as gpu_compositing
from fieldcast.fields.kernels.gpu import hashgrid as gpu_hashgrid
from fieldcast.fields.kernels.gpu import lowrank as gpu_lowrank
from fieldcast.fields.kernels.gpu import marching as gpu_marching
from fieldcast.fields.kernels.gpu import runs_triton, works_on
from fieldcast.fields.kernels.gpu import voxels as gpu_voxels
from fieldcast.fields.kernels.hashgrid import Level, hash_levels
from fieldcast.fields.kernels.lowrank import VECTOR_AXES, Axes
from fieldcast.fields.space import Contraction, Space

Function = Callable[..., Any]
INF, NAN = float("inf"), float("nan")
OLD = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7)  # kernels run with it, but not these two checks
COMPILED = pytest.mark.skipif(OLD, reason="older versions of Triton compile ahead of time in another way")
INTERPRETED = pytest.mark.skipif(torch.cuda.is_available() or OLD, reason="interpreted by a new Triton without a GPU")
ON = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=INTERPRETED), pytest.param("cuda", marks=pytest.mark.cuda)]
)
LEVELS = {
    "dense and hashed": hash_levels(5, 4, 40, 9),
    "one dense": hash_levels(1, 6, 6, 12),
    "one hashed": hash_levels(1, 30, 30, 6),
    "tiny-cuda-nn": hash_levels(5, 4, 40.5, 9, "tiny-cuda-nn"),
    "nerfstudio": hash_levels(3, 4, 40.5, 9, "nerfstudio"),
}
COMPOSITING = ["accumulate_backward_values", "accumulate_backward_weights", "accumulate_forward"]
KERNELS = {
    "compositing": [*COMPOSITING, "weights_backward", "weights_forward"],
    "hashgrid": ["backward_table", "backward_u", "forward"],
    "launch": ["double"],
    "lowrank": ["backward_lines", "backward_planes", "backward_u", "forward"],
    "marching": ["fill", "mark"],
    "voxels": ["backward_data", "backward_u", "forward"],
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Infinity and NaN are no warnings on a GPU; the interpreter computes with numpy."""
    with np.errstate(all="ignore"):
        yield


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def points(n: int) -> Tensor:
    """The corners of the unit cube, points on its faces, and random points."""
    corners = torch.tensor(list(product((0.0, 1.0), repeat=3)))
    inside = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    faces = torch.cat(
        [inside[:6].index_fill(1, torch.tensor([axis]), side) for axis in range(3) for side in (0.0, 1.0)]
    )
    return torch.cat((corners, faces, inside))


def compare(
    fast: Function, plain: Function, inputs: Sequence[Tensor], device: str, rtol: float = 1e-5, atol: float = 1e-5
) -> None:
    """Values, and gradients by all inputs; the plain version in float64. atol: of the largest number."""
    results = []
    for function, dtype, place in ((fast, torch.float32, device), (plain, torch.float64, "cpu")):
        leaves = [tensor.to(place, dtype).requires_grad_() for tensor in inputs]
        values = function(*leaves)
        values = values if isinstance(values, tuple) else (values,)
        grads = [random(*v.shape, seed=i).to(v) for i, v in enumerate(values)]
        results.append([v.detach().cpu() for v in (*values, *torch.autograd.grad(values, leaves, grads))])
    for got, exact in zip(*results, strict=True):
        assert got.dtype == torch.float32 and got.shape == exact.shape
        largest = float(exact.abs().max()) if exact.numel() else 0.0
        torch.testing.assert_close(got.double(), exact, rtol=rtol, atol=atol * largest)


def compare_twice(fast: Function, plain: Function, inputs: Sequence[Tensor], device: str) -> None:
    """Second derivatives: of the squared derivative by the first input of the squared values."""
    results = []
    for function, dtype, place in ((fast, torch.float32, device), (plain, torch.float64, "cpu")):
        leaves = [tensor.to(place, dtype).requires_grad_() for tensor in inputs]
        (slope,) = torch.autograd.grad(function(*leaves).square().sum(), leaves[:1], create_graph=True)
        results.append([g.cpu() for g in torch.autograd.grad(slope.square().sum(), leaves)])
    for got, exact in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


# The hash grid.


def table_for(levels: tuple[Level, ...], channels: int) -> Tensor:
    return random(levels[-1].offset + levels[-1].rows, channels, seed=1)


def encoders(levels: tuple[Level, ...]) -> tuple[Function, Function]:
    return (
        lambda u, table: gpu_hashgrid.hash_encode(u, table, levels),
        lambda u, table: hashgrid.hash_encode_reference(u, table, levels),
    )


@ON
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("name", LEVELS)
def test_hashgrid(name: str, channels: int, device: str) -> None:
    inputs = points(150), table_for(LEVELS[name], channels)
    # float32 coordinates are off by 1e-7 of the cube, which is 40 cells wide
    compare(*encoders(LEVELS[name]), inputs, device, rtol=1e-4)


@ON
def test_hashgrid_second_derivatives(device: str) -> None:
    levels = LEVELS["dense and hashed"]
    compare_twice(*encoders(levels), [points(30)[44:], table_for(levels, 2)], device)


# Planes and lines.


def products(planes: bool, lines: bool, axes: Axes, channels: int) -> tuple[Function, Function]:
    """The product with 1 in place of the factors that are left out, as `lowrank._product` is called; and the plain."""

    def fast(u: Tensor, *factors: Tensor) -> Tensor:
        first = factors[0] if planes else u.new_ones(3, 1, 1, channels)
        return gpu_lowrank.product(u, first, factors[-1] if lines else u.new_ones(3, 1, channels), axes)

    def plain(u: Tensor, *factors: Tensor) -> Tensor:
        first = lowrank.plane_lookup_reference(u, factors[0]) if planes else u.new_ones(())
        return first * (lowrank.line_lookup_reference(u, factors[-1], axes) if lines else u.new_ones(()))

    return fast, plain


FACTORS = pytest.mark.parametrize(
    ("planes", "lines", "axes"),
    [(True, False, VECTOR_AXES), (False, True, (0, 1, 2)), (False, True, VECTOR_AXES), (True, True, VECTOR_AXES)],
)


def factors(planes: bool, lines: bool, r: int, channels: int) -> list[Tensor]:
    shapes = ([(3, r, r, channels)] if planes else []) + ([(3, r, channels)] if lines else [])
    return [random(*shape, seed=i) for i, shape in enumerate(shapes)]


@ON
@FACTORS
@pytest.mark.parametrize(("r", "channels"), [(13, 1), (9, 16), (8, 21), (7, 48), (2, 3), (1, 2)])
def test_lowrank(planes: bool, lines: bool, axes: Axes, r: int, channels: int, device: str) -> None:
    pair = products(planes, lines, axes, channels)
    compare(*pair, [points(100), *factors(planes, lines, r, channels)], device)


@ON
def test_lowrank_second_derivatives(device: str) -> None:
    compare_twice(*products(True, True, VECTOR_AXES, 2), [points(30)[44:], *factors(True, True, 6, 2)], device)


# Voxels.


def grid(resolution: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random data, blocks (half of them stored, the first one among them) and the empty row."""
    g = -(-resolution // 8)
    stored = torch.rand(g**3, generator=torch.Generator().manual_seed(resolution)) < 0.5
    stored[0] = True
    numbers = torch.full((g**3,), -1, dtype=torch.int32)
    numbers[stored] = torch.arange(int(stored.sum()), dtype=torch.int32).flip(0)
    return random(int(stored.sum()) * 512, channels), numbers.view(g, g, g), random(channels, seed=1)


def trilinears(blocks: Tensor, resolution: int, empty: Tensor) -> tuple[Function, Function]:
    return (
        lambda u, data: gpu_voxels.trilinear(u, data, blocks.to(u.device), resolution, empty.to(u)),
        lambda u, data: voxels.trilinear_reference(u, data, blocks, resolution, empty.to(u)),
    )


@ON
@pytest.mark.parametrize(
    ("resolution", "channels"), [(20, 1), (20, 2), (16, 4), (9, 8), (9, 27), (17, 28), (9, 48), (2, 3), (1, 2)]
)
def test_voxels(resolution: int, channels: int, device: str) -> None:
    data, blocks, empty = grid(resolution, channels)
    compare(*trilinears(blocks, resolution, empty), [points(100), data], device)


@ON
def test_voxels_second_derivatives(device: str) -> None:
    data, blocks, empty = grid(16, 2)
    compare_twice(*trilinears(blocks, 16, empty), [points(30)[44:], data], device)


@ON
def test_nothing_stored_and_blocks_that_are_not_there_are_empty(device: str) -> None:
    empty, u = torch.tensor([1.0, 2.0], device=device), points(3).to(device)
    for data, number in ((torch.zeros(0, 2), -1), (torch.zeros(0, 2), 0), (torch.zeros(512, 2), 1)):
        blocks = torch.full((2, 2, 2), number, dtype=torch.int32, device=device)
        values = gpu_voxels.trilinear(u, data.to(device), blocks, 16, empty)
        torch.testing.assert_close(values, empty.expand(len(u), 2))
    with pytest.raises(ValueError, match="blocks: expected 3 a side, found 2"):
        gpu_voxels.trilinear(u, data.to(device), blocks, 17, empty)


# What grids have in common.


def grids(device: str) -> dict[str, tuple[Function, Function, list[Tensor]]]:
    """Each grid's kernel, its plain version, and what they are of."""
    levels = LEVELS["dense and hashed"]
    data, blocks, empty = grid(16, 4)
    return {
        "hashgrid": (*encoders(levels), [table_for(levels, 2)]),
        "lowrank": (*products(True, True, VECTOR_AXES, 4), factors(True, True, 6, 4)),
        "voxels": (*trilinears(blocks, 16, empty), [data]),
    }


GRIDS = pytest.mark.parametrize("name", ["hashgrid", "lowrank", "voxels"])


@ON
@GRIDS
def test_points_off_the_cube_are_those_of_the_plain_version(name: str, device: str) -> None:
    fast, plain, tables = grids(device)[name]
    u = torch.tensor([[-0.5, 0.37, 0.61], [0.37, 1.6, -0.4], [1.0 + 1e-6, -1e-6, 0.37], [2.2, 0.11, 0.23]])
    compare(fast, plain, [u, *tables], device, rtol=1e-4)


@ON
@GRIDS
def test_nan_and_infinity_stay_in_the_tables(name: str, device: str) -> None:
    fast, _, tables = grids(device)[name]
    u = torch.tensor([[NAN, 0.5, 0.5], [0.5, INF, 0.5], [-INF, 0.5, 0.5], [1e38, 3e38, -3e38], [0.5, 0.5, 0.5]])
    leaves = [tensor.to(device).requires_grad_() for tensor in (u, *tables)]
    values = fast(*leaves)
    assert values[0].isnan().any() and values[4].isfinite().all()
    values[4].sum().backward()
    assert all(leaf.grad is not None and leaf.grad[4:].isfinite().all() for leaf in leaves[:1])


@ON
@GRIDS
def test_no_points(name: str, device: str) -> None:
    fast, plain, tables = grids(device)[name]
    compare(fast, plain, [torch.zeros(0, 3), *tables], device)


@ON
@GRIDS
def test_inputs_need_not_be_contiguous(name: str, device: str) -> None:
    fast, _, tables = grids(device)[name]
    inputs = [tensor.to(device) for tensor in (points(40), *tables)]
    loose = [tensor.mT.contiguous().mT.requires_grad_() for tensor in inputs]
    assert not any(tensor.is_contiguous() for tensor in loose)
    values = fast(*loose)
    assert torch.equal(values, fast(*inputs))
    values.sum().backward()  # the gradient of sum() is an expanded scalar
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in loose)


@ON
@GRIDS
def test_only_what_asks_for_a_gradient_gets_one(name: str, device: str) -> None:
    fast, _, tables = grids(device)[name]
    for wanted in range(1 + len(tables)):
        leaves = [tensor.clone().to(device) for tensor in (points(4), *tables)]
        leaves[wanted].requires_grad_()
        fast(*leaves).sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [i == wanted for i in range(len(leaves))]


# Compositing.

STARTS = torch.tensor([0, 0, 5, 5, 6, 306, 323, 355, 387, 387])


def depths() -> Tensor:
    """Optical depths from nothing to opaque."""
    return torch.rand(int(STARTS[-1]), generator=torch.Generator().manual_seed(0)) ** 8 * 10


@ON
@pytest.mark.parametrize("factor", [1e-3, 1.0, 30.0])
def test_weights(factor: float, device: str) -> None:
    compare(
        lambda tau: gpu_compositing.ray_weights(tau, STARTS.to(tau.device)),
        lambda tau: compositing.ray_weights_reference(tau, STARTS),
        [depths() * factor],
        device,
        atol=2e-6,
    )


@ON
@pytest.mark.parametrize("channels", [1, 3, 4, 16, 20])
def test_sums(channels: int, device: str) -> None:
    compare(
        lambda weights, values: gpu_compositing.accumulate(weights, values, STARTS.to(values.device)),
        lambda weights, values: compositing.accumulate_reference(weights, values, STARTS),
        [depths(), random(len(depths()), channels)],
        device,
    )


@ON
def test_compositing_second_derivatives(device: str) -> None:
    def of(weigh: Function, add: Function) -> Function:
        def value(tau: Tensor) -> Tensor:
            starts = STARTS.to(tau.device)
            weights, left = weigh(tau, starts)
            return add(weights, weights[:, None].square(), starts)[:, 0] + left  # type: ignore[no-any-return]

        return value

    compare_twice(
        of(gpu_compositing.ray_weights, gpu_compositing.accumulate),
        of(compositing.ray_weights_reference, compositing.accumulate_reference),
        [depths()],
        device,
    )


@ON
def test_weights_and_leftover_are_one(device: str) -> None:
    tau = torch.tensor([0.5, INF, 0.5, 1e30, 3e38, 0.0, INF, INF, 0.0, 200.0, 1e-9], device=device).requires_grad_()
    starts = torch.tensor([0, 3, 3, 7, 10, 11], device=device)
    weights, left = gpu_compositing.ray_weights(tau, starts)
    assert (weights >= 0).all() and left[:4].tolist() == [0, 1, 0, 0]
    torch.testing.assert_close(weights[:3].cpu(), torch.tensor([0.393469, 0.606531, 0.0]))
    torch.testing.assert_close(weights[10].item(), 1e-9, rtol=1e-6, atol=0.0)
    totals = gpu_compositing.accumulate(weights, torch.ones_like(weights)[:, None], starts)[:, 0] + left
    torch.testing.assert_close(totals, torch.ones_like(left))
    (weights * torch.arange(11, device=device)).sum().add(left.sum()).backward()
    assert tau.grad is not None and tau.grad.isfinite().all()


@ON
def test_a_depth_that_is_not_a_number_is_not_hidden(device: str) -> None:
    starts = torch.tensor([0, 2], device=device)
    assert gpu_compositing.ray_weights(torch.tensor([0.5, NAN], device=device), starts)[0].isnan().tolist() == [
        False,
        True,
    ]


@ON
@pytest.mark.parametrize("rays", [0, 3])
def test_nothing_to_composite(rays: int, device: str) -> None:
    starts = torch.zeros(rays + 1, dtype=torch.int64, device=device)
    tau, values = (torch.zeros(*s, device=device, requires_grad=True) for s in ((0,), (0, 3)))
    weights, left = gpu_compositing.ray_weights(tau, starts)
    colors = gpu_compositing.accumulate(weights, values, starts)
    assert weights.shape == (0,) and left.tolist() == [1.0] * rays
    assert colors.shape == (rays, 3) and not colors.any()
    (colors.sum() + left.sum()).backward()


@ON
def test_loose_samples(device: str) -> None:
    """Every other entry of longer tensors."""
    starts, tau = STARTS.to(device), depths().to(device)
    values = random(3, len(tau)).to(device).T
    loose_tau, loose_starts = tau.repeat_interleave(2)[::2], starts.repeat_interleave(2)[::2]
    weights = gpu_compositing.ray_weights(loose_tau, loose_starts)[0]
    assert torch.equal(weights, gpu_compositing.ray_weights(tau, starts)[0])
    sums = [
        gpu_compositing.accumulate(weights, v, s) for v, s in ((values, loose_starts), (values.contiguous(), starts))
    ]
    assert torch.equal(*sums)


# Marching.


def march_both(
    resolution: int, contraction: Contraction, device: str, rays: int = 60, steps: int = 70, far: float = 12.0
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
    """The distances of all steps [rays, steps], what the kernels and the plain version keep, and how near a border.

    The last is the distance [rays, steps], in cells, of samples from the nearest border of a cell.
    """
    generator = torch.Generator().manual_seed(resolution)
    space = Space((-1.0, -2.0, -0.5, 1.5, 1.0, 1.0), contraction)
    origins = torch.randn(rays, 3, generator=generator) * 2
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator) - origins, dim=-1)
    offsets = torch.cumsum(torch.rand(steps + 1, generator=generator) * 0.2, 0)
    near, far_end = torch.rand(rays, generator=generator), far * torch.rand(rays, generator=generator)
    if rays > 2:
        near[1], far_end[1], far_end[2] = INF, -INF, near[2] / 2  # these miss
    jitter = torch.rand(rays, generator=generator)
    bits = torch.randint(256, (-(-(resolution**3) // 8),), generator=generator).to(torch.uint8)
    bits[0] |= 1
    tensors = [t.to(device) for t in (origins, directions, near, far_end, offsets, jitter, bits)]
    fast = [t.cpu() for t in gpu_marching.march(*tensors, resolution, space)]  # type: ignore[call-arg]
    plain = marching.march_reference(origins, directions, near, far_end, offsets, jitter, bits, resolution, space)
    times = near[:, None] + offsets[:-1] + jitter[:, None] * offsets.diff()
    cells = space.to_unit(origins[:, None] + times[..., None] * directions[:, None]) * resolution
    return times, (fast[0], fast[1], fast[2]), plain, (cells - cells.round()).abs().amin(-1)


def kept(times: Tensor, result: tuple[Tensor, ...]) -> Tensor:
    """Which steps of which ray a result holds, [rays, steps]."""
    starts, t, dt = result
    assert len(t) == len(dt) == starts[-1] and starts[0] == 0 and (starts.diff() >= 0).all()
    ray = torch.repeat_interleave(torch.arange(len(times)), starts.diff())
    keep = torch.zeros_like(times, dtype=torch.bool)
    if len(t):
        keep[ray, (times[ray] - t[:, None]).abs().argmin(1)] = True
    assert keep.sum() == len(t)
    return keep


@ON
@pytest.mark.parametrize("contraction", ["none", "sphere", "cube"])
@pytest.mark.parametrize("resolution", [1, 7, 32])
def test_march(resolution: int, contraction: Contraction, device: str) -> None:
    times, fast, plain, border = march_both(resolution, contraction, device)
    assert len(plain[1]) > 100
    different = kept(times, fast) ^ kept(times, plain)
    assert (border[different] < 2e-3).all() and different.sum() <= len(plain[1]) // 100
    assert fast[0].diff()[1:3].tolist() == [0, 0]
    if not different.any():
        torch.testing.assert_close(torch.stack(fast[1:]), torch.stack(plain[1:]), rtol=0, atol=1e-5)


@ON
@pytest.mark.parametrize(("rays", "steps"), [(0, 10), (3, 0), (1, 31), (1, 32), (5, 33)])
def test_march_of_few(rays: int, steps: int, device: str) -> None:
    times, fast, plain, _ = march_both(13, "none", device, rays, steps)
    assert torch.equal(kept(times, fast), kept(times, plain))
    assert torch.equal(fast[0], plain[0])


@ON
def test_march_ends_at_far_whatever_is_behind(device: str) -> None:
    _, fast, plain, _ = march_both(8, "cube", device, far=INF)
    assert fast[1].isfinite().all() and torch.equal(fast[0], plain[0])


# When they run, and that they can.


def test_tensors_in_main_memory_are_none_of_its_business() -> None:
    assert not runs_triton(torch.zeros(1))
    assert not runs_triton(torch.zeros(1, device="meta"))


@pytest.mark.cuda
def test_public_functions_run_the_kernels_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_triton(torch.zeros(1, device="cuda"))
    assert not runs_triton(torch.zeros(1, device="cuda", dtype=torch.float64))
    assert not runs_triton(torch.zeros(1, device="cuda"), torch.zeros(1))
    levels = LEVELS["dense and hashed"]
    u, table = points(10).cuda(), table_for(levels, 2).cuda().requires_grad_()
    assert hashgrid.hash_encode(u, table, levels).grad_fn.name() == "_HashEncodeBackward"  # type: ignore[union-attr]
    monkeypatch.setattr("fieldcast.fields.kernels.gpu.works_on", lambda device: False)
    assert hashgrid.hash_encode(u, table, levels).grad_fn.name() == "CatBackward0"  # type: ignore[union-attr]


@ON
def test_a_triton_that_cannot_compile_is_not_used(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: torch.device) -> bool:
        raise RuntimeError("Failed to find C compiler.\nPlease specify it")

    assert works_on.__wrapped__(torch.device(device))
    monkeypatch.setattr("fieldcast.fields.kernels.gpu.launch.probe", broken)
    with pytest.warns(UserWarning, match="plain torch is used instead: Failed to find C compiler. Please specify it$"):
        assert not works_on.__wrapped__(torch.device(device))


def test_triton_is_imported_only_when_it_is_used_and_need_not_be_there() -> None:
    script = """
import json, sys, torch, fieldcast
from fieldcast.fields.kernels import compositing, gpu, hashgrid, lowrank, marching, voxels
before = "triton" in sys.modules
sys.modules["triton"] = None  # an import of it fails
print(json.dumps([before, gpu.has_triton(), gpu.runs_triton(torch.zeros(1))]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, False, False]


@COMPILED
def test_every_kernel_compiles_for_gpus_that_are_not_there(tmp_path: Path) -> None:
    """Triton's own compiler and the assembler that it brings, for Ampere and Hopper."""
    script = Path(__file__).with_name("ahead_of_time.py")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path / "cache")
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-W", "error", str(script), str(out), "80", "90"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    expected = sorted(f"{name}_{kernel}" for name, kernels in KERNELS.items() for kernel in kernels)
    assert done.stdout.split() == expected
    for name in expected:
        for architecture in ("sm_80", "sm_90"):
            assert (out / f"{name}.{architecture}.cubin").read_bytes()[:4] == b"\x7fELF"
            assert f".target {architecture}" in (out / f"{name}.{architecture}.ptx").read_text()
