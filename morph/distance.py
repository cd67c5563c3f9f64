"""How far apart two objects on grids look: in what they fill, and in their colours."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.morph.volumes import Volume

COLOR = 0.5  # of a difference in colour, beside one in shape


def distance(a: Volume, b: Volume) -> float:
    """1 - IoU + COLOR times the mean difference of colours where both are; from 0 to about 1.

    Cells at a surface count by how much of them is inside, so that a surface which moves by less than a cell is seen.
    """
    inside, other = filled(a), filled(b)
    both, either = torch.minimum(inside, other), torch.maximum(inside, other)
    shape = 1 - both.sum() / either.sum().clamp_min(1e-6)
    color = ((a.rgb - b.rgb).abs().mean(-1) * both).sum() / both.sum().clamp_min(1e-6)
    return float(shape + COLOR * color)


def filled(volume: Volume) -> Float[Tensor, "r r r"]:
    """How much of each cell is inside, 0 to 1."""
    return (0.5 - volume.sdf).clamp(0, 1)
