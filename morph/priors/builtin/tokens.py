"""Latents as tokens: cubes of blocks, in the order of their places, x first.

Letters: B objects, G blocks a side, T tokens of D channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

PATCH = 2  # blocks a side of a token


def to_tokens(latent: Float[Tensor, "b c g g g"], shape: int) -> Float[Tensor, "b t d"]:
    """Cubes of PATCH^3 blocks as tokens, their shapes' channels before their colours'."""
    g = latent.shape[-1] // PATCH
    cut = latent.unflatten(4, (g, PATCH)).unflatten(3, (g, PATCH)).unflatten(2, (g, PATCH))
    tokens = cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(1, 3)
    return torch.cat([tokens[:, :, :shape].flatten(2), tokens[:, :, shape:].flatten(2)], -1)


def from_tokens(tokens: Float[Tensor, "b t d"], shape: int, side: int) -> Float[Tensor, "b c g g g"]:
    """The inverse, with `side` blocks a side."""
    g, split = side // PATCH, shape * PATCH**3
    parts = [part.unflatten(2, (-1, PATCH, PATCH, PATCH)) for part in (tokens[..., :split], tokens[..., split:])]
    cut: Tensor = torch.cat(parts, 2).unflatten(1, (g, g, g)).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return cut.flatten(6, 7).flatten(4, 5).flatten(2, 3)
