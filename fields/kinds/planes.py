"""Feature planes at several resolutions: K-Planes (product) and tri-planes (sum)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.fields.encodings.grids import Channels, PlanesEncoding, Resolution
from fieldcast.fields.field import Field
from fieldcast.fields.heads import ColorNet, SigmaNet, activate_color
from fieldcast.fields.spec import FieldSpec


@dataclass(frozen=True)
class PlanesSizes:
    """resolutions: cells per side of each set of three planes. channels: features a set. combine: of three planes."""

    resolutions: Annotated[tuple[Resolution, ...], Meta(min_length=1, max_length=16)] = (128, 256, 512)
    channels: Channels = 16
    combine: Literal["product", "sum"] = "product"
    hidden: Annotated[int, Meta(ge=1, le=1024)] = 64


class PlanesField(Field):
    """Block 1: planes and sigma_net. Block 2: color_net."""

    Sizes = PlanesSizes

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: PlanesSizes = spec.sizes
        self.encoding = PlanesEncoding(sizes.resolutions, sizes.channels, sizes.combine)
        self.sigma_net = SigmaNet(self.encoding.width, sizes.hidden)
        self.color_net = ColorNet(sizes.hidden)

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        return self.sigma_net(self.encoding(self.spec.space.to_unit(x)))  # type: ignore[no-any-return]

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return activate_color(self.color_net(features[:, 1:], d), self.spec.color)

    def learning_rates(self) -> list[tuple[list[nn.Parameter], float]]:
        networks = [*self.sigma_net.parameters(), *self.color_net.parameters()]
        return [(list(self.encoding.parameters()), 1e-2), (networks, 1e-3)]
