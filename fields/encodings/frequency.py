"""The positional encoding of NeRF."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frequencies(
    n: Float[Tensor, "n c"], octaves: int, lowest: float = 0.0, spacing: float = 1.0
) -> Float[Tensor, "n k"]:
    """[n, sin fn, cos fn, sin 2fn, cos 2fn, ..., cos 2^(octaves-1) fn]: c * (1 + 2 * octaves) values (NeRF, eq. 4).

    f is 2^lowest. Without the factor pi of the paper, as in its released code and in PVD. spacing: octaves from one
    frequency to the next, where that is not one.
    """
    parts = [n]
    for k in range(octaves):
        frequency = 2.0 ** (k * spacing + lowest)
        parts += [torch.sin(n * frequency), torch.cos(n * frequency)]
    return torch.cat(parts, -1)


def waves(n: Float[Tensor, "n c"], octaves: int, lowest: float, spacing: float) -> Float[Tensor, "n k"]:
    """Sines of all f n, then cosines: 2 * c * octaves values, those of a channel side by side (TensoRF's order).

    f is 2^(lowest + k spacing), for k from 0.
    """
    factors = n.new_tensor([2.0 ** (lowest + k * spacing) for k in range(octaves)])
    angles = (n[:, :, None] * factors).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], -1)
