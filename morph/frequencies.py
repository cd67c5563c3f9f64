"""Low frequencies of tokens in space: the layout of an object, which much fusion of attention weakens.

After "Textured 3D Regenerative Morphing with 3D Diffusion Prior", low-frequency enhancement; here the transform is over
the places of tokens, not over their order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LOW = 1  # waves along the grid, up to which a frequency is low


def enhanced(
    h: Float[Tensor, "f h t k"], positions: Float[Tensor, "t 3"], gain: Float[Tensor, " f"], keep: bool = True
) -> Float[Tensor, "f h t k"]:
    """Features with their low frequencies multiplied by a gain each; keep: of as large a mean square as before.

    Tokens must be those of a cubic grid in order, x first; others come back as they are.
    """
    side = round(len(positions) ** (1 / 3))
    if side**3 != len(positions) or side < 2:
        return h
    grid: Tensor = h.float().transpose(1, 2).unflatten(1, (side, side, side))
    waves = (torch.fft.fftfreq(side, device=h.device) * side).abs()
    low = (torch.stack(torch.meshgrid(waves, waves, waves, indexing="ij")) <= LOW).all(0)
    factor = torch.where(low, gain.to(h.device).float()[:, None, None, None], 1.0)[..., None, None]
    result = torch.fft.ifftn(torch.fft.fftn(grid, dim=(1, 2, 3)) * factor, dim=(1, 2, 3)).real
    if keep:
        before, after = (g.square().mean(tuple(range(1, 6)), keepdim=True) for g in (grid, result))
        result = result * (before / after.clamp_min(1e-20)).sqrt()
    tokens: Tensor = result.flatten(1, 3).transpose(1, 2).to(h)
    return tokens
