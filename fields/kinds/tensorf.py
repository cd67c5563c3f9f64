"""TensoRF as its authors released it and nerfstudio rebuilt it: grids as long along an axis as the scene, its shading.

This is what checkpoints of TensoRF and of nerfstudio's `tensorf` hold. `vm` and `cp` are the cubic ones of the
distillation paper, whose second block other kinds share; this one has features and networks of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.encodings.frequency import waves
from fieldcast.fields.encodings.grids import Channels, FactorEncoding, Resolution
from fieldcast.fields.field import Field, shortage
from fieldcast.fields.heads import Basis, DensityActivation, Network, activate_color, linear_layers
from fieldcast.fields.kernels.dense import dense
from fieldcast.fields.kernels.harmonics import harmonics
from fieldcast.fields.spec import FieldSpec

Octaves = Annotated[int, Meta(ge=0, le=24)]


@dataclass(frozen=True)
class TensorfSizes:
    """TensoRF's sizes for NeRF-Synthetic. resolution: samples along x, y and z. factors: `vm`, planes times lines, or
    `cp`, three lines.

    density_channels, appearance_channels: components of the planes xy, xz and yz; of `cp` the same number three times.
    features: of the appearance. shading: `network` (TensoRF's MLP_Fea, and MLP, which has no feature_octaves),
    `harmonics` of degree 2 (SH), or `none`: the features are the colour (RGB). hidden: the network's width.
    feature_octaves, view_octaves: frequencies of the features and of the direction that it sees besides them, 2^(lowest
    + k spacing).
    """

    resolution: tuple[Resolution, Resolution, Resolution] = (300, 300, 300)
    factors: Literal["vm", "cp"] = "vm"
    density_channels: tuple[Channels, Channels, Channels] = (16, 16, 16)
    appearance_channels: tuple[Channels, Channels, Channels] = (48, 48, 48)
    features: Channels = 27
    shading: Literal["network", "harmonics", "none"] = "network"
    hidden: Annotated[int, Meta(ge=1, le=4096)] = 128
    feature_octaves: Octaves = 2
    view_octaves: Octaves = 2
    lowest: Annotated[float, Meta(ge=-32, le=32)] = 0.0
    spacing: Annotated[float, Meta(ge=0, le=8)] = 1.0

    def __post_init__(self) -> None:
        wanted = {"harmonics": 27, "none": 3}.get(self.shading, self.features)
        if self.features != wanted:
            raise InputError(f"features: expected {wanted} for {self.shading}, found {self.features}")
        for name in ("density_channels", "appearance_channels"):
            if self.factors == "cp" and len(set(getattr(self, name))) > 1:
                raise InputError(f"{name}: expected the same number three times for cp, found {getattr(self, name)}")


class Shading(Network):
    """Features [N, f] and directions [N, 3] to raw colour [N, 3]: three layers that see the frequencies of both."""

    def __init__(self, sizes: TensorfSizes) -> None:
        super().__init__()
        self.sizes = sizes
        inputs = sizes.features * (1 + 2 * sizes.feature_octaves) + 3 * (1 + 2 * sizes.view_octaves)
        self.layers = nn.Sequential(
            nn.Linear(inputs, sizes.hidden), nn.ReLU(), nn.Linear(sizes.hidden, sizes.hidden), nn.ReLU(),
            nn.Linear(sizes.hidden, 3),
        )  # fmt: skip
        nn.init.zeros_(linear_layers(self.layers)[-1].bias)

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the network sees is made in full precision."""
        (features, d), sizes = inputs, self.sizes
        seen = [
            waves(x, octaves, sizes.lowest, sizes.spacing)
            for x, octaves in ((features, sizes.feature_octaves), (d, sizes.view_octaves))
        ]
        return super().forward(torch.cat([features, d, *seen], -1))

    def run(self, *inputs: Tensor) -> Tensor:
        return dense(inputs[0], linear_layers(self.layers))


class TensorfField(Field):
    """`features` are the density logit, the sum of all components, and a linear map of those of the appearance."""

    Sizes = TensorfSizes
    shares_features = False
    points_per_step = 1 << 14  # the network is four times as large as that of most kinds
    # TensoRF's in a box of 3 world units, but for the shift: theirs, -10, starts with too little to see to learn from.
    default_density = DensityActivation("softplus", shift=-3.6, scale=37.5)

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: TensorfSizes = spec.sizes
        self.density_grid = FactorEncoding(sizes.resolution, sizes.density_channels, sizes.factors)
        self.appearance_grid = FactorEncoding(sizes.resolution, sizes.appearance_channels, sizes.factors)
        self.basis = Basis(self.appearance_grid.width, sizes.features)
        if sizes.shading == "network":
            self.color_net = Shading(sizes)

    def logit(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        return self.density_grid(self.spec.space.to_unit(x)).sum(-1)  # type: ignore[no-any-return]

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        u = self.spec.space.to_unit(x)
        logit = self.density_grid(u).sum(-1, keepdim=True)
        return torch.cat([logit, self.basis(self.appearance_grid(u))], -1)

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return activate_color(self._raw_color(features[:, 1:], d), self.spec.color)

    def _raw_color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        sizes: TensorfSizes = self.spec.sizes
        if sizes.shading == "network":
            return self.color_net(features, d)  # type: ignore[no-any-return]
        if sizes.shading == "harmonics":
            coefficients: Tensor = features.unflatten(1, (3, -1))
            return (coefficients * harmonics(d, 2)[:, None]).sum(-1)
        return features - 0.5  # which `shifted_clamp` adds again

    def learning_rates(self) -> list[tuple[list[nn.Parameter], float]]:
        tables = [*self.density_grid.parameters(), *self.appearance_grid.parameters()]
        known = {id(table) for table in tables}
        return [(tables, 2e-2), ([p for p in self.parameters() if id(p) not in known], 1e-3)]

    def stride(self, steps: int) -> float:
        return math.pow(shortage(steps), 0.25)

    def regularizer(self) -> Tensor:
        """8e-5 of the mean absolute density components, summed over planes and lines; 1e-5 for CP (TensoRF's L1)."""
        weight = 8e-5 if self.spec.sizes.factors == "vm" else 1e-5
        return weight * torch.stack([table.abs().mean() for table in self.density_grid.parameters()]).sum()
