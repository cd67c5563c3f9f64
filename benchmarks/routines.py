"""The routines that `gpu.py` times: at which sizes, against what, and how many bytes they cannot do without."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fieldcast.fields.kernels import compositing, hashgrid, lowrank, marching, voxels
from fieldcast.fields.space import Space

STEPS, PER_RAY = 1024, 64  # of the march; samples a ray in the other routines
Function = Callable[..., Any]


@dataclass
class Routine:
    """Something to time: `fast`, `plain` and, where there is one, somebody else's `peer`.

    leaves: the arguments, which are differentiated by. read: bytes that any version has to read but for the leaves;
    touched: and the most bytes of the leaves that n points can read.
    """

    name: str
    fast: Function
    plain: Function
    leaves: list[Tensor] = field(default_factory=list)
    read: int = 0
    touched: int = 1 << 62
    peer: Function | None = None
    peer_leaves: list[Tensor] = field(default_factory=list)


def size(*tensors: Tensor) -> int:
    """Bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def points_along_rays(n: int, device: torch.device) -> Tensor:
    """Points [n, 3] of the unit cube, PER_RAY behind one another on straight lines, as in training."""
    ends = torch.rand(2, n // PER_RAY, 1, 3, device=device)
    return torch.lerp(ends[0], ends[1], torch.linspace(0, 1, PER_RAY, device=device)[:, None]).reshape(-1, 3)


def hash_routine(n: int, device: torch.device) -> Routine:
    levels, u = hashgrid.hash_levels(14, 16, 2048, 19), points_along_rays(n, device)
    table = torch.randn(levels[-1].offset + levels[-1].rows, 2, device=device)
    routine = Routine(
        "hash grid, 14 x 2 (peer: tinycudann, float32)",
        lambda table: hashgrid.hash_encode(u, table, levels),
        lambda table: hashgrid.hash_encode_reference(u, table, levels),
        [table],
        size(u),
        n * len(levels) * 8 * 2 * 4,
    )
    tcnn = imported("tinycudann")
    if tcnn is None:
        return routine
    growth = (2048 / 16) ** (1 / 13)
    config = {"otype": "HashGrid", "n_levels": 14, "n_features_per_level": 2, "log2_hashmap_size": 19}
    encoding = tcnn.Encoding(3, config | {"base_resolution": 16, "per_level_scale": growth}, dtype=torch.float32)
    return replace(routine, peer=lambda _: encoding(u), peer_leaves=list(encoding.parameters()))


def vm_routine(n: int, device: torch.device, channels: int = 48) -> Routine:
    u, r = points_along_rays(n, device), 300
    return Routine(
        f"vm, 300^2 x {channels}",
        partial(lowrank.vm_lookup, u),
        partial(lowrank.vm_lookup_reference, u),
        [torch.randn(3, r, r, channels, device=device), torch.randn(3, r, channels, device=device)],
        size(u),
        n * 3 * 6 * channels * 4,
    )


def voxels_routine(n: int, device: torch.device) -> Routine:
    u, resolution, channels = points_along_rays(n, device), 128, 28
    blocks = torch.arange(16**3, dtype=torch.int32, device=device).view(16, 16, 16)
    empty = torch.zeros(channels, device=device)
    return Routine(
        "voxels, 128^3 x 28",
        lambda data: voxels.trilinear(u, data, blocks, resolution, empty),
        lambda data: voxels.trilinear_reference(u, data, blocks, resolution, empty),
        [torch.randn(16**3 * 512, channels, device=device)],
        size(u, blocks),
        n * 8 * channels * 4,
    )


def weights_routine(n: int, device: torch.device) -> Routine:
    starts = torch.arange(0, n + 1, PER_RAY, device=device)
    tau = torch.rand(n, device=device) * 0.1
    routine = Routine(
        "ray weights (peer: nerfacc)",
        lambda tau: compositing.ray_weights(tau, starts),
        lambda tau: compositing.ray_weights_reference(tau, starts),
        [tau],
        size(starts),
    )
    nerfacc = imported("nerfacc")
    if nerfacc is None:
        return routine
    begin, end = torch.zeros_like(tau), torch.ones_like(tau)
    packed = torch.stack([starts[:-1], starts.diff()], -1)
    peer = lambda sigma: nerfacc.render_weight_from_density(begin, end, sigma, packed_info=packed)[:2]  # noqa: E731
    return replace(routine, peer=peer, peer_leaves=[tau.clone()])


def sums_routine(n: int, device: torch.device) -> Routine:
    starts = torch.arange(0, n + 1, PER_RAY, device=device)
    leaves = [torch.rand(n, device=device), torch.rand(n, 4, device=device)]
    routine = Routine(
        "sums along rays, 4 channels (peer: nerfacc)",
        lambda weights, values: compositing.accumulate(weights, values, starts),
        lambda weights, values: compositing.accumulate_reference(weights, values, starts),
        leaves,
        size(starts),
    )
    nerfacc = imported("nerfacc")
    if nerfacc is None:
        return routine
    ray = compositing.ray_of_sample(starts, n)
    rays = len(starts) - 1
    peer = lambda weights, values: nerfacc.accumulate_along_rays(weights, values, ray, rays)  # noqa: E731
    return replace(routine, peer=peer, peer_leaves=[leaf.clone() for leaf in leaves])


def march_routine(n: int, device: torch.device) -> Routine:
    """Rays from a sphere around the box to points in it; the occupied cells are a ball's skin."""
    rays, resolution, space = n // PER_RAY, 128, Space()
    origins = torch.nn.functional.normalize(torch.randn(rays, 3, device=device), dim=-1) * 3
    directions = torch.nn.functional.normalize(torch.rand(rays, 3, device=device) * 1.6 - 0.8 - origins, dim=-1)
    axis = (torch.arange(resolution, device=device) + 0.5) / resolution * 2 - 1
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    cells = ((radius > 0.7) & (radius < 0.75)).reshape(-1, 8).to(torch.uint8)
    bits = (cells << torch.arange(8, dtype=torch.uint8, device=device)).sum(1, dtype=torch.uint8)
    near, far = torch.full((2, rays), 1.0, device=device) * torch.tensor([[1.5], [5.0]], device=device)
    offsets = torch.arange(STEPS + 1, device=device) * (2 * 3**0.5 / STEPS)
    inputs = (origins, directions, near, far, offsets, torch.full_like(near, 0.5), bits, resolution, space)
    return Routine(
        f"march, {STEPS} steps of n / {PER_RAY} rays",
        lambda: marching.march(*inputs),
        lambda: marching.march_reference(*inputs),
        read=size(*inputs[:7]),
    )


GRIDS = (hash_routine, vm_routine, partial(vm_routine, channels=16), voxels_routine)
ROUTINES: tuple[Callable[[int, torch.device], Routine], ...] = (*GRIDS, weights_routine, sums_routine, march_routine)


def imported(name: str) -> Any:
    """A module, or None where it is not there or cannot run here."""
    try:
        return importlib.import_module(name)
    except Exception:  # tinycudann raises OSError without a GPU that it was built for
        return None
