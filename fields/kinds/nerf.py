"""NeRF as its authors released it and others rebuilt it: a trunk, a density, and a branch that sees the direction.

This is what checkpoints of nerf-pytorch, nerfstudio and their relatives hold. `mlp` is the NeRF of the distillation
paper, whose two blocks other kinds share; this one has features of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.fields.encodings.frequency import frequencies
from fieldcast.fields.field import Field, shortage
from fieldcast.fields.heads import Network, activate_color
from fieldcast.fields.kernels.dense import dense
from fieldcast.fields.spec import FieldSpec


@dataclass(frozen=True)
class NerfSizes:
    """The sizes of NeRF. layers, width: the trunk; skip: the layer that sees the encoding again (0: none).

    octaves, view_octaves: frequencies of positions and directions. lowest, view_lowest: the logarithms, to base 2, of
    the lowest frequencies, of positions in box units. spacing, view_spacing: octaves from one frequency to the next.
    first: whether the first layer is rectified as the others are, or linear. code: whether what the branch gets of the
    trunk is. branch, branch_layers: the width of the branch, and its layers before the one that gives the colour; 0:
    there is no branch, and the colour is one layer of the trunk's, the same from all sides (Shap-E). activation: what
    rectifies the trunk.
    """

    layers: Annotated[int, Meta(ge=2, le=64)] = 8
    width: Annotated[int, Meta(ge=1, le=4096)] = 256
    skip: Annotated[int, Meta(ge=0, le=64)] = 5
    octaves: Annotated[int, Meta(ge=0, le=24)] = 10
    view_octaves: Annotated[int, Meta(ge=0, le=24)] = 4
    lowest: Annotated[float, Meta(ge=-32, le=32)] = 0.0
    first: Literal["linear", "rectified"] = "rectified"
    code: Literal["linear", "rectified"] = "linear"
    branch: Annotated[int, Meta(ge=1, le=4096)] = 128
    branch_layers: Annotated[int, Meta(ge=0, le=8)] = 1
    spacing: Annotated[float, Meta(ge=0, le=4)] = 1.0
    view_lowest: Annotated[float, Meta(ge=-32, le=32)] = 0.0
    view_spacing: Annotated[float, Meta(ge=0, le=4)] = 1.0
    activation: Literal["relu", "silu"] = "relu"


class Trunk(Network, nn.ModuleList):
    """Encoded points [N, e] to [N, width]; the layer `skip` sees the encoding again, before what comes from the others.

    Where the first layer is linear, so is what the second one gets.
    """

    def __init__(self, encoded: int, sizes: NerfSizes) -> None:
        nn.ModuleList.__init__(self)
        self.first, self.skip, self.activation = sizes.first, sizes.skip, sizes.activation
        for layer in range(sizes.layers):
            inputs = encoded if layer == 0 else sizes.width + (encoded if layer == sizes.skip else 0)
            self.append(nn.Linear(inputs, sizes.width))

    def run(self, *inputs: Tensor) -> Tensor:
        (encoded,) = inputs
        layers = [layer for layer in self if isinstance(layer, nn.Linear)]
        if self.activation == "silu":
            return self._smooth(encoded, layers)
        h, start = encoded, 0
        if self.first == "linear":
            h, start = dense(encoded, layers[:1]), 1
        if start <= self.skip < len(layers) and self.skip > 0:
            if self.skip > start:
                h = dense(h, layers[start : self.skip], rectify_last=True)
            h, start = torch.cat([encoded, h], -1), self.skip
        return dense(h, layers[start:], rectify_last=True)

    def _smooth(self, encoded: Tensor, layers: list[nn.Linear]) -> Tensor:
        """The same with SiLU, x sigmoid(x), instead of ReLU."""
        h = encoded
        for place, layer in enumerate(layers):
            h = torch.cat([encoded, h], -1) if place == self.skip > 0 else h
            h = dense(h, [layer])
            h = nn.functional.silu(h) if place > 0 or self.first == "rectified" else h
        return h


class Layers(Network, nn.Sequential):
    """Linear layers with ReLU between them."""

    def run(self, *inputs: Tensor) -> Tensor:
        return dense(torch.cat(inputs, -1), [layer for layer in self if isinstance(layer, nn.Linear)])


class NerfField(Field):
    """`features` are the density logit and the code [N, width] of the trunk, from which the branch makes the colour."""

    Sizes = NerfSizes
    shares_features = False
    points_per_step = 1 << 13  # the whole network works for each point

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: NerfSizes = spec.sizes
        self.trunk = Trunk(3 * (1 + 2 * sizes.octaves), sizes)
        self.density_net = Layers(nn.Linear(sizes.width, 1))
        if sizes.branch_layers == 0:
            self.color_net = Layers(nn.Linear(sizes.width, 3))
            return
        self.code_net = Layers(nn.Linear(sizes.width, sizes.width))
        self.color_net = Layers(
            nn.Linear(sizes.width + 3 * (1 + 2 * sizes.view_octaves), sizes.branch),
            *(nn.Linear(sizes.branch, sizes.branch) for _ in range(sizes.branch_layers - 1)),
            nn.Linear(sizes.branch, 3),
        )

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        h = self._trunk(x)
        code = self.code_net(h) if self.spec.sizes.branch_layers else h
        return torch.cat([self.density_net(h), torch.relu(code) if self.spec.sizes.code == "rectified" else code], -1)

    def logit(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        return self.density_net(self._trunk(x))[:, 0]  # type: ignore[no-any-return]

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        sizes: NerfSizes = self.spec.sizes
        if sizes.branch_layers == 0:
            return activate_color(self.color_net(features[:, 1:]), self.spec.color)
        seen = frequencies(d, sizes.view_octaves, sizes.view_lowest, sizes.view_spacing)
        return activate_color(self.color_net(features[:, 1:], seen), self.spec.color)

    def _trunk(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n w"]:
        sizes: NerfSizes = self.spec.sizes
        encoded = frequencies(self.normalized(x), sizes.octaves, sizes.lowest, sizes.spacing)
        return self.trunk(encoded)  # type: ignore[no-any-return]

    def learning_rates(self) -> list[tuple[list[nn.Parameter], float]]:
        return [(list(self.parameters()), 5e-4)]

    def stride(self, steps: int) -> float:
        return float(shortage(steps) ** 0.25)
