"""The square that SAM looks at, and where a picture's points, boxes and masks are on it.

SAM (Kirillov et al. 2023) scales the longest side to the canvas and fills up right and below; SAM 2 (Ravi et al. 2024)
stretches both sides to it. Masks go in and come out on a quarter of the canvas. Both networks add half a pixel to all
points, since they count pixels from 0; ours are image points already, so half a pixel is taken off first: what the
network sees is the point times the scale, exactly.

Letters: H by W pixels, S the side of the canvas, L that of its masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, pad

MASK_LOGIT = 8.0  # of a mask that is given: sure, and no farther than what the networks give back


@dataclass(frozen=True)
class Canvas:
    """side, low: S and L. height, width: H and W. tall, wide: what of the canvas has picture, from the upper left."""

    side: int
    low: int
    height: int
    width: int
    tall: int
    wide: int

    @staticmethod
    def padded(side: int, low: int, height: int, width: int) -> Canvas:
        """SAM's: both sides are scaled by the same, up to rounding."""
        scale = side / max(height, width)
        return Canvas(side, low, height, width, int(height * scale + 0.5), int(width * scale + 0.5))

    @staticmethod
    def stretched(side: int, low: int, height: int, width: int) -> Canvas:
        """SAM 2's: the picture fills it."""
        return Canvas(side, low, height, width, side, side)

    def points(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Image points on the canvas, less the half pixel that the network adds."""
        scale = torch.tensor([self.wide / self.width, self.tall / self.height], device=points.device)
        return points * scale - 0.5

    def picture(
        self, image: UInt8[Tensor, "h w 3"], mean: Float[Tensor, " 3"], std: Float[Tensor, " 3"]
    ) -> Float[Tensor, "1 3 s s"]:
        """A picture with the colours that the network knows; 0 where the canvas is empty."""
        scaled = self._scaled(image.permute(2, 0, 1)[None].float()).round().clamp(0, 255)
        normal = (scaled / 255 - mean[:, None, None]) / std[:, None, None]
        return self._filled(normal)

    def mask(self, mask: Float[Tensor, "h w"]) -> Float[Tensor, "1 1 l l"]:
        """Logits of a mask of 0 to 1; the empty canvas is outside of it."""
        share = adaptive_avg_pool2d(self._filled(self._scaled(mask[None, None])), self.low)
        return share.logit(1e-6).clamp(-MASK_LOGIT, MASK_LOGIT)

    def back(self, logits: Float[Tensor, "1 1 l l"]) -> Float[Tensor, "h w"]:
        """Logits of the picture's pixels."""
        whole = interpolate(logits, (self.side, self.side), mode="bilinear", align_corners=False)
        part = whole[..., : self.tall, : self.wide]
        return interpolate(part, (self.height, self.width), mode="bilinear", align_corners=False)[0, 0]

    def _scaled(self, layers: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 c tall wide"]:
        return interpolate(layers, (self.tall, self.wide), mode="bilinear", align_corners=False, antialias=True)

    def _filled(self, layers: Float[Tensor, "1 c tall wide"]) -> Float[Tensor, "1 c s s"]:
        return pad(layers, (0, self.side - self.wide, 0, self.side - self.tall))
