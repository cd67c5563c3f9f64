"""The network of the built-in prior: a transformer over the tokens of a latent, told time and words.

After PixArt-alpha (Chen et al. 2023, section 2.3): one network turns time into the shifts, scales and gates of all
blocks, each of which adds its own; words come in by cross-attention. Queries and keys are normalised (QK-norm).

Letters: B objects, T tokens of C channels, W words, D width, H heads, L blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional

from fieldcast.morph.attention import Attend, Place, plain


@dataclass(frozen=True)
class TransformerSizes:
    """tokens, channels: of a latent. width: of a token inside. blocks, heads. words: of the vocabulary, with none."""

    tokens: Annotated[int, Meta(ge=1, le=1 << 16)]
    channels: Annotated[int, Meta(ge=1, le=1 << 12)]
    words: Annotated[int, Meta(ge=1, le=1 << 16)]
    width: Annotated[int, Meta(ge=8, le=4096)] = 256
    blocks: Annotated[int, Meta(ge=1, le=64)] = 8
    heads: Annotated[int, Meta(ge=1, le=64)] = 8


class Transformer(nn.Module):
    """The velocity of latents, given the time and words."""

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.words = nn.Embedding(sizes.words, width)
        self.position = nn.Parameter(torch.randn(sizes.tokens, width) * 0.02)
        self.enter = nn.Linear(sizes.channels, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.pooled = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(width, sizes.heads) for _ in range(sizes.blocks))
        self.last = nn.Parameter(torch.zeros(2, width))
        self.leave = nn.Linear(width, sizes.channels)
        for linear in (self.modulation, self.leave):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def embed(
        self, words: Int64[Tensor, "b w"], weights: Float[Tensor, "b w"]
    ) -> tuple[Float[Tensor, "b w d"], Float[Tensor, "b d"]]:
        """The features of words, and their weighted mean."""
        features = self.words(words)
        return features, (features * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        t: Float[Tensor, " b"],
        words: Float[Tensor, "b w d"],
        pooled: Float[Tensor, "b d"],
        weights: Float[Tensor, "b w"],
        attend: Attend = plain,
    ) -> Float[Tensor, "b t c"]:
        """x: latents. t: 0 is noise, 1 an object. words: features of words; weights: how much each counts, 0 to 1.
        pooled: one feature for all of them.
        """
        h = self.enter(x) + self.position
        c = functional.silu(self.time(waves(t, self.sizes.width)) + self.pooled(pooled))
        modulation = self.modulation(c).unflatten(-1, (6, -1))
        bias = weights.log()[:, None, None, :]
        for number, block in enumerate(self.blocks):
            h = block(h, modulation, words, bias, number, attend)
        shift, scale = (self.last + c[:, None]).unbind(1)
        return self.leave(modulated(h, shift, scale))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention among tokens, to words, and a network for each token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, width) * width**-0.5)
        self.among, self.to_words = Attention(width, heads), Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        nn.init.zeros_(self.to_words.out.weight)

    def forward(
        self,
        h: Float[Tensor, "b t d"],
        modulation: Float[Tensor, "b 6 d"],
        words: Float[Tensor, "b w d"],
        bias: Float[Tensor, "b 1 1 w"],
        number: int,
        attend: Attend,
    ) -> Float[Tensor, "b t d"]:
        shift, scale, gate, shift2, scale2, gate2 = (self.table + modulation).unbind(1)
        u = modulated(h, shift, scale)
        h = h + gate[:, None] * self.among(u, u, None, (number, "self"), attend)
        h = h + self.to_words(h, words, bias, (number, "cross"), attend)
        return h + gate2[:, None] * self.mlp(modulated(h, shift2, scale2))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Attention with normalised queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.q_norm, self.k_norm = nn.Parameter(torch.ones(width // heads)), nn.Parameter(torch.ones(width // heads))

    def forward(
        self,
        h: Float[Tensor, "b t d"],
        source: Float[Tensor, "b s d"],
        bias: Float[Tensor, "b 1 1 s"] | None,
        place: Place,
        attend: Attend,
    ) -> Float[Tensor, "b t d"]:
        q = self.q(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(source).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = functional.rms_norm(q, q.shape[-1:]) * self.q_norm
        k = functional.rms_norm(k, k.shape[-1:]) * self.k_norm
        return self.out(attend(place, q, k, v, bias).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def modulated(
    h: Float[Tensor, "b t d"], shift: Float[Tensor, "b d"], scale: Float[Tensor, "b d"]
) -> Float[Tensor, "b t d"]:
    """Normalised tokens, scaled and shifted (adaLN)."""
    return functional.layer_norm(h, h.shape[-1:]) * (1 + scale[:, None]) + shift[:, None]


def waves(t: Float[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """Times from 0 to 1 as sines and cosines, of 1 to 1000 radians."""
    frequency = torch.exp(torch.linspace(0, math.log(1000), width // 2, device=t.device))
    angle = t[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)
