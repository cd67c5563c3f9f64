"""A composition of encodings under one pair of networks: a hash grid for detail beside a VM grid for smooth shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.fields.encodings.grids import Channels, HashEncoding, HashSizes, Resolution, VmEncoding
from fieldcast.fields.field import Field
from fieldcast.fields.heads import ColorNet, SigmaNet, activate_color
from fieldcast.fields.spec import FieldSpec


@dataclass(frozen=True)
class HybridSizes(HashSizes):
    """The hash grid's sizes; those of the VM grid, vm_resolution and vm_channels; hidden: width of the networks.

    PVD has no such kind: half its hash levels, and a VM grid as coarse as the hash grid's first levels are dense.
    """

    levels: Annotated[int, Meta(ge=1, le=32)] = 8
    base_resolution: Resolution = 64
    vm_resolution: Resolution = 128
    vm_channels: Channels = 8
    hidden: Annotated[int, Meta(ge=1, le=1024)] = 64


class HybridField(Field):
    """Block 1: both encodings side by side, and sigma_net. Block 2: color_net."""

    Sizes = HybridSizes

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: HybridSizes = spec.sizes
        self.encodings = nn.ModuleList([HashEncoding(sizes), VmEncoding(sizes.vm_resolution, sizes.vm_channels)])
        width = sizes.levels * sizes.channels + 3 * sizes.vm_channels
        self.sigma_net = SigmaNet(width, sizes.hidden)
        self.color_net = ColorNet(sizes.hidden)

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        u = self.spec.space.to_unit(x)
        return self.sigma_net(torch.cat([encoding(u) for encoding in self.encodings], -1))  # type: ignore[no-any-return]

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return activate_color(self.color_net(features[:, 1:], d), self.spec.color)
