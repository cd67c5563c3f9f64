"""Pictures of people from a camera: all of them as layers over what is behind, or one alone.

Letters: H by W pixels, P people, T frames, R rays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.people import look_at_people

LOT = 1 << 13  # rays at a time


@dataclass(frozen=True, eq=False)
class Rendering:
    """rgb: sRGB 0..1, of people over nothing. opacity: each person's part of what is seen."""

    rgb: Float[Tensor, "h w 3"]
    opacity: Float[Tensor, "h w p"]

    @property
    def left(self) -> Float[Tensor, "h w"]:
        """The part of what is seen that is the background's."""
        return (1 - self.opacity.sum(-1)).clamp(0, 1)

    @property
    def labels(self) -> UInt8[Tensor, "h w"]:
        """Who has the largest part: 0 for the background, or 1 + the number of the person."""
        return torch.cat([self.left[..., None], self.opacity], -1).argmax(-1).to(torch.uint8)

    def over(self, behind: Float[Tensor, "h w 3"] | float) -> Float[Tensor, "h w 3"]:
        """The whole picture, over a background or an even grey of 0..1."""
        return (self.rgb + self.left[..., None] * behind).clamp(0, 1)

    def rgba(self) -> Float[Tensor, "h w 4"]:
        """Straight: colour has not been multiplied by opacity."""
        opacity = self.opacity.sum(-1, keepdim=True).clamp(0, 1)
        return torch.cat([(self.rgb / opacity.clamp_min(1e-4)).clamp(0, 1), opacity], -1)


@torch.no_grad()
def rendered(avatars: Sequence[Avatar], cameras: Cameras, index: int, frame: int) -> Rendering:
    """What one of the cameras sees of people as they stand in a frame."""
    rays = cameras.image_rays(index)
    colors, opacities = [], []
    for first in range(0, len(rays), LOT):
        lot = rays[first : first + LOT]
        layers = look_at_people(avatars, lot, torch.full((len(lot),), frame, device=lot.origins.device))
        colors.append(layers.rgb)
        opacities.append(layers.opacity)
    width, height = cameras.size[index].tolist()
    return Rendering(*(torch.cat(parts).unflatten(0, (height, width)) for parts in (colors, opacities)))


def renderings(avatars: Sequence[Avatar], cameras: Cameras, moments: Sequence[int]) -> Iterator[Rendering]:
    """One for each camera. moments: the frame that each looks at."""
    for index, frame in enumerate(moments):
        yield rendered(avatars, cameras, index, frame)
