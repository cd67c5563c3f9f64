"""TensoRF-VM: density and appearance as sums of plane times line (PVD's `vm`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.fields.encodings.grids import Channels, Resolution, VmEncoding
from fieldcast.fields.field import Field, shortage
from fieldcast.fields.heads import Basis, ColorNet, activate_color
from fieldcast.fields.spec import FieldSpec


@dataclass(frozen=True)
class VmSizes:
    """PVD's sizes: components per plane for density and for appearance, cells per side, width of color_net.

    appearance: whether its features are clamped to what the density's logits are, as in models that PVD distilled.
    """

    resolution: Resolution = 300
    density_channels: Channels = 16
    appearance_channels: Channels = 48
    hidden: Annotated[int, Meta(ge=1, le=1024)] = 64
    appearance: Literal["free", "clamped"] = "free"


class VmField(Field):
    """Block 1: density logit = sum of all components; appearance = a linear map of them. Block 2: color_net."""

    Sizes = VmSizes

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: VmSizes = spec.sizes
        self.density_vm = VmEncoding(sizes.resolution, sizes.density_channels)
        self.appearance_vm = VmEncoding(sizes.resolution, sizes.appearance_channels)
        self.basis = Basis(self.appearance_vm.width)
        self.color_net = ColorNet(sizes.hidden)

    def logit(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        return self.density_vm(self.spec.space.to_unit(x)).sum(-1)  # type: ignore[no-any-return]

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        u = self.spec.space.to_unit(x)
        logit = self.density_vm(u).sum(-1, keepdim=True)
        appearance, clip = self.basis(self.appearance_vm(u)), self.spec.density.clip
        if self.spec.sizes.appearance == "clamped" and clip is not None:
            appearance = appearance.clamp(*clip)
        return torch.cat([logit, appearance], -1)

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return activate_color(self.color_net(features[:, 1:], d), self.spec.color)

    def learning_rates(self) -> list[tuple[list[nn.Parameter], float]]:
        tables = [*self.density_vm.parameters(), *self.appearance_vm.parameters()]
        return [(tables, 1e-2), ([*self.basis.parameters(), *self.color_net.parameters()], 1e-3)]

    def stride(self, steps: int) -> float:
        # Measured from 200 to 1000 steps of distillation: 1 dB more than at the published rates.
        return math.pow(shortage(steps), 0.25)

    def regularizer(self) -> Tensor:
        """1e-4 of the mean absolute density components, summed over the three planes and lines (PVD, TensoRF L1)."""
        planes, lines = self.density_vm.planes, self.density_vm.lines
        return 1e-4 * 3 * (planes.abs().mean() + lines.abs().mean())
