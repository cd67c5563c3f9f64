"""Which colours somebody wears: a histogram, which frames add to.

Letters: B bins a channel, H by W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

BINS = 16
BLUR = 0.7  # bins: neighbouring colours are of the same cloth
STRANGE = 0.1  # the share of pixels that have any colour at all


@dataclass(frozen=True, eq=False)
class Colours:
    """How much likelier each bin is than if all colours were alike: 1 all over for whom nothing is known of."""

    ratio: Float[Tensor, " b3"]

    def evidence(self, image: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
        """Log-likelihood of each pixel's colour, against all colours being alike."""
        return ((1 - STRANGE) * self.ratio[_bins(image)] + STRANGE).log()


def colours_of(seen: Iterable[tuple[UInt8[Tensor, "h w 3"], Bool[Tensor, "h w"]]]) -> Colours:
    """The colours of some pixels of some pictures."""
    from scipy.ndimage import gaussian_filter

    count = torch.zeros(BINS**3, dtype=torch.float64)
    for image, where in seen:
        count += torch.bincount(_bins(image)[where], minlength=BINS**3)
    if not count.any():
        return Colours(torch.ones(BINS**3))
    smooth = torch.from_numpy(gaussian_filter(count.reshape(BINS, BINS, BINS).numpy(), BLUR, mode="constant"))
    return Colours((smooth / smooth.sum() * BINS**3).flatten().float())


def _bins(image: UInt8[Tensor, "h w 3"]) -> Int64[Tensor, "h w"]:
    red, green, blue = (image.long() * BINS // 256).unbind(-1)
    return (red * BINS + green) * BINS + blue
