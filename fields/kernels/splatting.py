"""Flat Gaussians on the picture plane to pixels: front-to-back alpha compositing (3DGS, Kerbl et al. 2023, section 6).

Letters: `g` a splat, `alpha` its opacity at a pixel, `T` the light that reaches it. Splats come sorted, nearest first.
With d the vector from the centre of a splat to the centre of a pixel, and conic (a, b, c) the inverse covariance,

    power = (a dx^2 + c dy^2) / 2 + b dx dy        alpha = min(0.999, opacity exp(-power))

Where alpha is below 1 / 255 the splat does not count. A pixel ends before the splat that would leave at most 1e-4 of
its light. The reference is the definition; gsplat and the 3DGS rasteriser agree with it (3DGS stops alpha at 0.99).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.kernels import splat_tiles as tiles
from fieldcast.fields.kernels.compiled import arrays, plain_backward, runs_compiled

MOST, LEAST = 0.999, 1 / 255  # alpha
DARK = 1e-4  # of the light: less is not followed any further
PIXELS = 1 << 22  # pairs of a pixel and a splat that the reference looks at together


def splat(
    means: Float[Tensor, "n 2"],
    conics: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    values: Float[Tensor, "n c"],
    size: tuple[int, int],
) -> tuple[Float[Tensor, "h w c"], Float[Tensor, "h w"]]:
    """The weighted sums of the splats' values in each pixel, and the light that is left behind them all.

    means: pixels, x right, y down. conics: 1 / pixels^2. opacities: 0 to 1. size: width and height. Differentiable in
    all tensors.
    """
    if not runs_compiled(means, conics, opacities, values):
        return splat_reference(means, conics, opacities, values, size)
    totals, light = _Splat.apply(means, conics, opacities, values, size)  # type: ignore[no-untyped-call]
    return totals, light


def splat_reference(
    means: Float[Tensor, "n 2"],
    conics: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    values: Float[Tensor, "n c"],
    size: tuple[int, int],
) -> tuple[Float[Tensor, "h w c"], Float[Tensor, "h w"]]:
    """`splat` in plain torch: any device and precision; every pixel looks at every splat."""
    width, height = size
    place = torch.arange(width * height, device=means.device)
    lots = place.split(max(1, PIXELS // max(1, len(means))))
    parts = [_pixels_reference(means, conics, opacities, values, lot % width, lot // width) for lot in lots]
    totals = torch.cat([part[0] for part in parts]).reshape(height, width, values.shape[1])
    return totals, torch.cat([part[1] for part in parts]).reshape(height, width)


def _pixels_reference(
    means: Tensor, conics: Tensor, opacities: Tensor, values: Tensor, column: Tensor, row: Tensor
) -> tuple[Tensor, Tensor]:
    """Some pixels: [p, c] and [p]."""
    dx = column[:, None].to(means) + 0.5 - means[:, 0]
    dy = row[:, None].to(means) + 0.5 - means[:, 1]
    a, b, c = conics.unbind(-1)
    power = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities * torch.exp(-power)).clamp_max(MOST)
    alpha = torch.where((alpha >= LEAST) & (power >= 0), alpha, 0)
    kept = torch.cumprod(1 - alpha, -1) > DARK
    passing = torch.cumprod(1 - torch.where(kept, alpha, 0), -1)
    reaching = torch.cat([torch.ones_like(passing[:, :1]), passing], -1)
    return (torch.where(kept, alpha, 0) * reaching[:, :-1]) @ values, reaching[:, -1]


class _Splat(torch.autograd.Function):
    """The compiled version: tiles of the picture in parallel."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, conics: Tensor, opacities: Tensor, values: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        width, height = size
        inputs = means, conics, opacities, values
        totals, light = torch.zeros(height, width, values.shape[1]), torch.ones(height, width)
        m, c, o, v = arrays(*inputs)
        shares = tiles.Shares.of(m, c, o, size)
        last = np.zeros((height, width), np.int32)
        tiles.forward(shares.tiles, m, c, o, v, *shares.arrays, *arrays(totals, light), last)
        ctx.save_for_backward(*inputs, light)
        ctx.shares, ctx.last, ctx.size = shares, last, size
        return totals, light

    @staticmethod
    def backward(ctx: Any, grad_totals: Tensor, grad_light: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, light = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(splat_reference, size=ctx.size)
            return *plain_backward(plain, inputs, (grad_totals, grad_light)), None
        shares: tiles.Shares = ctx.shares
        grads = torch.zeros(len(inputs[0]), 6 + inputs[3].shape[1])
        rows = np.zeros((shares.rows, grads.shape[1]), np.float32)
        tiles.backward(
            shares.tiles, *arrays(*inputs), *shares.arrays, *arrays(light, grad_totals, grad_light), ctx.last, rows
        )
        tiles.add_up(len(grads), shares.first, rows, *arrays(grads))
        return grads[:, :2], grads[:, 2:5], grads[:, 5], grads[:, 6:], None
