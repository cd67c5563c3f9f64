"""Into Shap-E: the latent whose network answers as an object does, found by optimisation.

Shap-E's own encoder, of point clouds and pictures, is not in diffusers. Losses are of signs, opacities and colours, so
that no unit of distance or density has to be known.

Letters: T tokens of C channels, N points `p`, R cells a side.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from fieldcast.fields.progress import Progress, silent
from fieldcast.morph.priors.shap_e.renderer import SDF, Network
from fieldcast.morph.volumes import BAND, Volume

STEPS, RATE = 300, 2e-2  # of Adam on the latent, whose numbers are from -1 to 1
POINTS = 4096  # a step, half of them near the surface
SHARP = 5.0  # of the logistic loss, over squashed distances from -1 to 1
LEAK = 0.01  # slope of densities below 0, which would not learn otherwise


def distilled(
    renderer: Any,
    volume: Volume,
    shape: tuple[int, int],
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress = silent,
) -> Float[Tensor, "t c"]:
    """The latent of an object. Its numbers stay where those of Shap-E's latents are, from -1 to 1."""
    generator, device = torch.Generator().manual_seed(seed), renderer.mlp.mlp[0].bias.device
    with torch.enable_grad():
        latent = torch.zeros(shape, device=device, requires_grad=True)
        optimizer = torch.optim.Adam([latent], RATE)
        for step in range(steps):
            points = [part.to(device) for part in samples(volume, generator)]
            loss = mismatch(Network(renderer, latent), volume.resolution, *points)
            (latent.grad,) = torch.autograd.grad(loss, [latent])
            optimizer.step()
            with torch.no_grad():
                latent.clamp_(-1, 1)
            progress(step + 1, steps, f"encoding: loss {float(loss.detach()):.3g}")
    return latent.detach()


def samples(
    volume: Volume, generator: torch.Generator, count: int = POINTS
) -> tuple[Float[Tensor, "n 3"], Bool[Tensor, " n"], Bool[Tensor, " n"], Float[Tensor, "n 3"]]:
    """Points of [-1, 1]^3, half of them near the surface where there is one: whether they are inside, whether near,
    the colour there.
    """
    near = (volume.sdf.abs() < BAND).nonzero()
    cells = torch.randint(volume.resolution, (count, 3), generator=generator)
    if len(near):
        chosen = torch.randint(len(near), (count // 2,), generator=generator)
        cells[: count // 2] = near[chosen]
    p = (cells + torch.rand(count, 3, generator=generator)) * 2 / volume.resolution - 1
    at = tuple(cells.T)
    return p, volume.sdf[at] < 0, volume.sdf[at].abs() < BAND, volume.rgb[at]


def mismatch(
    network: Network,
    resolution: int,
    p: Float[Tensor, "n 3"],
    inside: Bool[Tensor, " n"],
    near: Bool[Tensor, " n"],
    rgb: Float[Tensor, "n 3"],
) -> Float[Tensor, ""]:
    """How far a network's answers are from an object: logistic loss of the side of the surface, squared errors of the
    opacity of a cell, absolute ones of colours near the surface, of the surface and of both radiance fields.
    """
    found, side = network(p), inside.float()
    surface = functional.softplus(SHARP * (1 - 2 * side) * torch.tanh(found[:, SDF])).mean()
    opacity = 1 - torch.exp(-functional.leaky_relu(found[:, 1:3], LEAK) * 2 / resolution)
    solid = (opacity - side[:, None]).square().mean()
    colors = (torch.sigmoid(found[:, 3:]) - rgb.repeat(1, 3)).abs().mean(-1)
    return surface + solid + (colors * near).sum() / near.sum().clamp_min(1)
