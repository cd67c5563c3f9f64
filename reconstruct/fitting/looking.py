"""A frame seen from anywhere: people before what is behind them.

Letters: P people, H by W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.people import look_at_people
from fieldcast.reconstruct.fitting.behind import Behind

LOT = 1 << 13  # rays at a time, which bounds the memory


@dataclass(frozen=True, eq=False)
class Look:
    """rgb: sRGB 0..1. opacity: each person's part of what is seen. depth: of people, metres along the ray, infinite
    where there are none.
    """

    rgb: Float[Tensor, "h w 3"]
    opacity: Float[Tensor, "p h w"]
    depth: Float[Tensor, "h w"]

    @property
    def labels(self) -> UInt8[Tensor, "h w"]:
        """Who is seen most in each pixel: 0 for what is behind people, or 1 + the number of the person."""
        shares = torch.cat([1 - self.opacity.sum(0, keepdim=True), self.opacity])
        return shares.argmax(0).to(torch.uint8)


@torch.no_grad()
def look_at_frame(avatars: Sequence[Avatar], behind: Behind, frame: int, cameras: Cameras, camera: int = 0) -> Look:
    """What one of some cameras, of the recording or of a path of its own, sees of a frame.

    Of the recording's cameras at their own frames this is what is fitted to the pictures.
    """
    width, height = cameras.size[camera].tolist()
    rays = cameras.image_rays(camera)
    parts = []
    for first in range(0, len(rays), LOT):
        lot = rays[slice(first, first + LOT)]
        layers = look_at_people(avatars, lot, torch.full((len(lot),), frame))
        rgb = layers.rgb + layers.transmittance[:, None] * behind.seen(lot)
        solid = 1 - layers.transmittance
        depth = torch.where(solid > 0.5, layers.depth.sum(-1) / solid.clamp_min(1e-6), torch.inf)
        parts.append(torch.cat([rgb, depth[:, None], layers.opacity], 1))
    seen = torch.cat(parts).reshape(height, width, -1)
    return Look(seen[..., :3].clamp(0, 1), seen[..., 4:].permute(2, 0, 1), seen[..., 3])
