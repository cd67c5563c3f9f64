"""Soft edges of masks: how much of a pixel at an edge shows the person.

Labels are whole, pixels at edges are mixtures. Where the colour behind an edge is known, the share alpha of the person
in the pixel c = alpha f + (1 - alpha) b follows from projection, with f the mean colour of the person's pixels nearby
(natural matting with known background, Smith and Blinn 1996). Elsewhere the edge is blurred.

Letters: P people, Q = P + 1 with the background, H by W pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, one_hot

from fieldcast.reconstruct.segments.background import Background

WINDOW = 7  # pixels a side, in which a person's colour is the mean
APART = 20.0  # grey levels: colours nearer to each other say nothing of their shares
KERNEL = (0.15, 0.7, 0.15)


def soft_shares(
    labels: UInt8[Tensor, "h w"], people: int, image: UInt8[Tensor, "h w 3"], background: Background | None
) -> Float[Tensor, "q h w"]:
    """Whose each pixel is, the background first, softly at edges; shares add up to 1."""
    whole = one_hot(labels.long(), people + 1).permute(2, 0, 1)
    shares = _blurred(whole.float())
    if background is None:
        return shares
    for person in range(1, people + 1):
        alpha, told = _mixed(whole[person].bool(), image, background)
        told &= ~grown(whole[1:].sum(0).bool() & ~whole[person].bool())
        shares[:, told] = 0.0
        shares[person, told], shares[0, told] = alpha[told], 1 - alpha[told]
    return shares


def grown(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """A mask with all pixels that touch it."""
    return max_pool2d(mask[None].float(), 3, 1, 1)[0] > 0


def _mixed(
    mask: Bool[Tensor, "h w"], image: UInt8[Tensor, "h w 3"], background: Background
) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """The share of a person in each pixel, and for which pixels at the edge it can be told."""
    color, behind = image.permute(2, 0, 1).float(), background.color.permute(2, 0, 1)
    inner, outer = ~grown(~mask), grown(mask)
    weight = avg_pool2d(inner[None].float(), WINDOW, 1, WINDOW // 2)
    worn = avg_pool2d(color * inner, WINDOW, 1, WINDOW // 2) / weight.clamp_min(1e-6)
    across = worn - behind
    length = across.square().sum(0)
    alpha = ((color - behind) * across).sum(0) / length.clamp_min(1e-6)
    told = outer & ~inner & (weight[0] > 0) & (length > APART**2) & background.known
    return alpha.clamp(0, 1), told


def _blurred(layers: Float[Tensor, "q h w"]) -> Float[Tensor, "q h w"]:
    """Each layer by KERNEL along both axes; beyond the border it goes on as it is there."""
    kernel = torch.tensor(KERNEL)
    padded = torch.nn.functional.pad(layers[:, None], (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, torch.outer(kernel, kernel)[None, None])[:, 0]
