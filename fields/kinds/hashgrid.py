"""Instant-NGP: a hash grid and two small networks (PVD's `hash`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jaxtyping import Float
from msgspec import Meta
from torch import Tensor

from fieldcast.fields.encodings.grids import HashEncoding, HashSizes
from fieldcast.fields.field import Field
from fieldcast.fields.heads import FEATURES, ColorNet, SigmaNet, activate_color
from fieldcast.fields.spec import FieldSpec


@dataclass(frozen=True)
class HashgridSizes(HashSizes):
    """`HashSizes`, and hidden: the width of both networks; appearance: features beside the density's logit.

    bias: whether the networks have biases, as nerfstudio's without tiny-cuda-nn.
    """

    hidden: Annotated[int, Meta(ge=1, le=1024)] = 64
    appearance: Annotated[int, Meta(ge=1, le=1024)] = FEATURES - 1
    bias: bool = False


class HashgridField(Field):
    """Block 1: hash encoding and sigma_net. Block 2: color_net."""

    Sizes = HashgridSizes

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: HashgridSizes = spec.sizes
        self.encoding = HashEncoding(sizes)
        self.sigma_net = SigmaNet(self.encoding.width, sizes.hidden, 1 + sizes.appearance, sizes.bias)
        self.color_net = ColorNet(sizes.hidden, sizes.appearance, sizes.bias)
        self.shares_features = sizes.appearance == FEATURES - 1

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        return self.sigma_net(self.encoding(self.spec.space.to_unit(x)))  # type: ignore[no-any-return]

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return activate_color(self.color_net(features[:, 1:], d), self.spec.color)
