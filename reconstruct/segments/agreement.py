"""How well masks agree with the truth: IoU, recall and F1, of hard masks or of soft ones.

Of soft masks the overlap of a pixel is the lesser of the two and the union the greater (Ruzicka), so that hard masks
give what one knows. NaN stands for what is not defined: nothing was to be found, and nothing was.

Letters: P people, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Agreement:
    """One number a mask, 0 to 1: overlap by union; overlap by truth; twice the overlap by the sum of both."""

    iou: Float[Tensor, "*n"]
    recall: Float[Tensor, "*n"]
    f1: Float[Tensor, "*n"]

    def mean(self) -> dict[str, float]:
        """Over all masks for which they are defined."""
        return {name: float(value.nanmean()) for name, value in vars(self).items()}


def agreement(found: Shaped[Tensor, "*n h w"], truth: Shaped[Tensor, "*n h w"]) -> Agreement:
    """Of each pair of masks, bool or 0 to 1."""
    a, b = found.to(torch.float64), truth.to(torch.float64)
    both, either = torch.minimum(a, b).sum((-1, -2)), torch.maximum(a, b).sum((-1, -2))
    total = b.sum((-1, -2))
    return Agreement(both / either, both / total, 2 * both / (a.sum((-1, -2)) + total))


def masks_of(labels: UInt8[Tensor, "*n h w"], people: int) -> Bool[Tensor, "*n p h w"]:
    """Which pixels have each person's label."""
    numbers = torch.arange(1, people + 1, device=labels.device)
    masks: Tensor = labels[..., None, :, :] == numbers[:, None, None]
    return masks
