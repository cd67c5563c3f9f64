"""What latents leave out of objects, added to the frames near them.

An artist's asset is to be the first frame as it is, not as a codec keeps it. What it loses there is known, and fades
where the prior's own objects take over: whole at the object's end, none from half-way on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from fieldcast.morph.volumes import BAND, Volume

What = Literal["both", "shape", "texture"]
"""What a morph changes."""


@dataclass(frozen=True, eq=False)
class Details:
    """What to add to distances and colours of a grid to have the object that was given."""

    sdf: Float[Tensor, "r r r"]
    rgb: Float[Tensor, "r r r 3"]

    @staticmethod
    def of(given: Volume, kept: Volume) -> Details:
        return Details(given.sdf - kept.sdf, given.rgb - kept.rgb)


def detailed(volume: Volume, details: tuple[Details | None, Details | None], place: float, what: What) -> Volume:
    """A frame with the details of both ends, at a place from 0 (the first) to 1 (the second).

    A texture alone changes on the whole shape of the first object; a shape alone takes no colours from the second.
    """
    near = (max(0.0, 1 - 2 * place), max(0.0, 2 * place - 1))
    shape = (1.0, 0.0) if what == "texture" else near
    texture = (near[0], 0.0) if what == "shape" else near
    sdf, rgb = volume.sdf, volume.rgb
    for own, s, t in zip(details, shape, texture, strict=True):
        if own is not None:
            sdf, rgb = sdf + s * own.sdf, rgb + t * own.rgb
    return replace(volume, sdf=sdf.clamp(-BAND, BAND), rgb=rgb.clamp(0, 1))
