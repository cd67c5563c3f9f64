"""The positional encoding of NeRF."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frequencies(n: Float[Tensor, "n c"], octaves: int) -> Float[Tensor, "n k"]:
    """[n, sin n, cos n, sin 2n, cos 2n, ..., cos 2^(octaves-1) n]: c * (1 + 2 * octaves) values (NeRF, eq. 4).

    Without the factor pi of the paper, as in its released code and in PVD.
    """
    parts = [n]
    for k in range(octaves):
        parts += [torch.sin(n * 2.0**k), torch.cos(n * 2.0**k)]
    return torch.cat(parts, -1)
