"""How far pixels are from where somebody is believed to be, and how large that somebody is in the picture.

Beliefs are wrong by centimetres, and pictures have pixels: the diagonal of a person's box, about a person's height,
stands between them.

Letters: P people, H by W pixels.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.reconstruct.segments.segmenter import Prompt


def nearness(mask: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Distance of each pixel to a mask, in pixels; minus the distance to what is outside, within it.

    A mask that is empty, or the whole picture, is infinitely far, or near.
    """
    from scipy.ndimage import distance_transform_edt

    inside = mask.cpu().numpy() > 0.5
    if inside.all() or not inside.any():
        return torch.full_like(mask, -math.inf if inside.all() else math.inf)
    return torch.from_numpy(distance_transform_edt(~inside) - distance_transform_edt(inside)).to(mask)


def stature(prompt: Prompt) -> float:
    """The diagonal of a person's box, pixels."""
    return float((prompt.box[2:] - prompt.box[:2]).norm())


def distances(prompts: list[Prompt | None], like: Float[Tensor, "h w"]) -> Float[Tensor, "p h w"]:
    """How far from each person each pixel is, in statures, negative within; infinitely far from who is hidden."""
    away = torch.full((len(prompts), *like.shape), math.inf)
    for person, prompt in enumerate(prompts):
        if prompt is not None:
            away[person] = nearness(prompt.mask) / max(stature(prompt), 1.0)
    return away
