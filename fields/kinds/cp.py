"""TensoRF-CP: density and appearance as sums of products of three lines. The smallest kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.fields.encodings.grids import Channels, CpEncoding, Resolution
from fieldcast.fields.field import Field
from fieldcast.fields.heads import Basis, ColorNet, activate_color
from fieldcast.fields.spec import FieldSpec


@dataclass(frozen=True)
class CpSizes:
    """TensoRF's sizes for CP (PVD has none): components for density and for appearance, cells per side, color_net."""

    resolution: Resolution = 500
    density_channels: Channels = 96
    appearance_channels: Channels = 288
    hidden: Annotated[int, Meta(ge=1, le=1024)] = 64


class CpField(Field):
    """Block 1: density logit = sum of the components; appearance = a linear map of them. Block 2: color_net."""

    Sizes = CpSizes
    points_per_step = 1 << 14  # hundreds of components are looked up for each point

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: CpSizes = spec.sizes
        self.density_cp = CpEncoding(sizes.resolution, sizes.density_channels)
        self.appearance_cp = CpEncoding(sizes.resolution, sizes.appearance_channels)
        self.basis = Basis(self.appearance_cp.width)
        self.color_net = ColorNet(sizes.hidden)

    def logit(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        return self.density_cp(self.spec.space.to_unit(x)).sum(-1)  # type: ignore[no-any-return]

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        u = self.spec.space.to_unit(x)
        logit = self.density_cp(u).sum(-1, keepdim=True)
        return torch.cat([logit, self.basis(self.appearance_cp(u))], -1)

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return activate_color(self.color_net(features[:, 1:], d), self.spec.color)

    def learning_rates(self) -> list[tuple[list[nn.Parameter], float]]:
        tables = [*self.density_cp.parameters(), *self.appearance_cp.parameters()]
        return [(tables, 1e-2), ([*self.basis.parameters(), *self.color_net.parameters()], 1e-3)]
