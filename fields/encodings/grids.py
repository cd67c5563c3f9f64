"""Encodings that look up learned tables: hash grid, low-rank planes and lines. Each maps `u` in [0, 1]^3 to a code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.fields.kernels.hashgrid import Storage, hash_encode, hash_levels
from fieldcast.fields.kernels.lowrank import (
    MATRIX_AXES,
    VECTOR_AXES,
    component_lookup,
    line_lookup,
    plane_lookup,
    vm_lookup,
)

Channels = Annotated[int, Meta(ge=1, le=1024)]
Resolution = Annotated[int, Meta(ge=2, le=8192)]


@dataclass(frozen=True)
class HashSizes:
    """A multiresolution hash encoding (Instant-NGP, section 3), at PVD's sizes.

    levels: grids. channels: features per level. log2_table: at most 2^this rows a level. base_resolution,
    finest_resolution: cells per side of the first and the last level; those between grow geometrically.
    """

    levels: Annotated[int, Meta(ge=1, le=32)] = 14
    channels: Literal[1, 2, 4, 8] = 2
    log2_table: Annotated[int, Meta(ge=4, le=26)] = 19
    base_resolution: Resolution = 16
    finest_resolution: Annotated[float, Meta(ge=2, le=1 << 20)] = 2048
    storage: Storage = "torch-ngp"


class HashEncoding(nn.Module):
    """u [N, 3] to [N, levels * channels]."""

    def __init__(self, sizes: HashSizes) -> None:
        super().__init__()
        self.levels = hash_levels(
            sizes.levels, sizes.base_resolution, sizes.finest_resolution, sizes.log2_table, sizes.storage
        )
        rows = self.levels[-1].offset + self.levels[-1].rows
        self.table = nn.Parameter(torch.zeros(rows, sizes.channels).uniform_(-1e-4, 1e-4))
        self.width = sizes.levels * sizes.channels

    def forward(self, u: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
        return hash_encode(u, self.table, self.levels)


class VmEncoding(nn.Module):
    """Vector-matrix components (TensoRF, eq. 4): u [N, 3] to [N, 3 * channels] products of a plane and a line."""

    def __init__(self, resolution: int, channels: int) -> None:
        super().__init__()
        self.planes = nn.Parameter(0.1 * torch.randn(3, resolution, resolution, channels))
        self.lines = nn.Parameter(0.1 * torch.randn(3, resolution, channels))
        self.width = 3 * channels

    def forward(self, u: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
        return vm_lookup(u, self.planes, self.lines).flatten(1)


class CpEncoding(nn.Module):
    """Canonical polyadic components (TensoRF, eq. 2): u [N, 3] to [N, channels] products of three lines."""

    def __init__(self, resolution: int, channels: int) -> None:
        super().__init__()
        # 0.2 per line, as TensoRF: a product of three is small, and its gradient must not vanish.
        self.lines = nn.Parameter(0.2 * torch.randn(3, resolution, channels))
        self.width = channels

    def forward(self, u: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
        return line_lookup(u, self.lines).prod(1)


class FactorEncoding(nn.Module):
    """VM or CP components of a grid whose axes and planes have numbers of their own: u [N, 3] to [N, width].

    resolution: samples along x, y and z. channels: components of each of the three planes xy, xz, yz and the lines
    along z, y, x; for CP, of the three lines.
    """

    def __init__(self, resolution: Sequence[int], channels: Sequence[int], factors: Literal["vm", "cp"]) -> None:
        super().__init__()
        self.factors = factors
        scale = 0.1 if factors == "vm" else 0.2  # as TensoRF: a product of three must not vanish
        self.planes = nn.ParameterList(
            nn.Parameter(scale * torch.randn(resolution[b], resolution[a], c))
            for (a, b), c in zip(MATRIX_AXES if factors == "vm" else (), channels, strict=False)
        )
        self.lines = nn.ParameterList(
            nn.Parameter(scale * torch.randn(resolution[axis], c))
            for axis, c in zip(VECTOR_AXES, channels, strict=True)
        )
        self.width = sum(channels) if factors == "vm" else channels[0]

    def forward(self, u: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
        lines = list(self.lines)
        if self.factors == "cp":
            one = u.new_ones(1, 1, self.width)
            first, second, third = (component_lookup(u, one, line, m) for m, line in enumerate(lines))
            return first * second * third
        planes = list(self.planes)
        if u.is_cuda and len({plane.shape for plane in planes}) == 1:  # there is a fast routine for cubes alone
            return vm_lookup(u, torch.stack(planes), torch.stack(lines)).flatten(1)
        pairs = enumerate(zip(planes, lines, strict=True))
        return torch.cat([component_lookup(u, plane, line, m) for m, (plane, line) in pairs], -1)


class PlanesEncoding(nn.Module):
    """Feature planes at several resolutions: u [N, 3] to [N, len(resolutions) * channels].

    combine: `product` of the three planes (K-Planes, eq. 3) or their `sum` (EG3D's tri-planes).
    """

    def __init__(self, resolutions: Sequence[int], channels: int, combine: Literal["product", "sum"]) -> None:
        super().__init__()
        # Products start near 1 and sums near 0, so that gradients flow from the first step (K-Planes, init 0.1..0.5).
        low, high = (0.1, 0.5) if combine == "product" else (-0.1, 0.1)
        self.planes = nn.ParameterList(
            nn.Parameter(torch.zeros(3, r, r, channels).uniform_(low, high)) for r in resolutions
        )
        self.combine = combine
        self.width = len(resolutions) * channels

    def forward(self, u: Float[Tensor, "n 3"]) -> Float[Tensor, "n c"]:
        looked_up = [plane_lookup(u, planes) for planes in self.planes]
        return torch.cat([v.prod(1) if self.combine == "product" else v.sum(1) for v in looked_up], -1)
