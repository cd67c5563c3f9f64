"""Which places behind people some other frame shows: of the others a field knows nothing, whatever it renders.

Letters: T frames, N points, H by W pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.reconstruct.poses.views import NEAR, local, pixels, seen

MOST = 24  # frames that are asked, evenly spaced


def uncovered(cameras: Cameras, empty: Bool[Tensor, "t h w"], points: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Whether points of the world are in the picture of some camera where nobody is. empty: where that is.

    What stands before a point is not asked for: rooms are mostly walls.
    """
    asked = torch.linspace(0, len(cameras) - 1, min(len(cameras), MOST)).round().long()
    cameras, empty = cameras[asked], empty[asked]
    found = torch.zeros(len(points), dtype=torch.bool)
    height, width = empty.shape[1:]
    for t in range(len(cameras)):
        there = local(cameras[[t]], points[None])
        x, y = pixels(cameras[[t]], seen(there))[0].unbind(-1)
        inside = (there[0, :, 2] < -NEAR) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        column, row = (torch.where(inside, v, 0.0).long() for v in (x, y))
        found |= inside & empty[t, row, column]
    return found
