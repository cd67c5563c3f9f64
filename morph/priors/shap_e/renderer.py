"""Shap-E's objects: a latent is the rows of a network's weights, which answers what is where (Jun and Nichol 2023).

The network is a NeRF and a textured surface at once: 12 numbers a point. Each row of its first layers is made of one
token of the latent; its other layers and all biases are the same for all objects. Points are in [-1, 1]^3, the third
axis up.

Letters: T tokens of C channels, N points `p`, R cells a side.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fieldcast.fields.encodings.frequency import frequencies
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kinds.nerf import NerfField, NerfSizes
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec
from fieldcast.morph.objects import nearest_faces, spread_colors
from fieldcast.morph.volumes import BAND, RESOLUTION, Volume, world_from_grid

OCTAVES = 15
CHUNK = 1 << 16  # points in one query
SDF, FINE = 0, 2  # outputs: distance to the surface, positive inside; density, coarse and fine
STF, NERF = slice(3, 6), slice(9, 12)  # raw colours: of the surface; of the coarse, and of the fine radiance field
# Where diffusers has the encoded numbers, all sines before all cosines, that `frequencies` gives octave by octave.
ORDER = [0, 1, 2] + [
    3 + 3 * (OCTAVES * wave + octave) + axis
    for octave, wave, axis in itertools.product(range(OCTAVES), range(2), range(3))
]


class Network:
    """The network of one latent. weights: of its layers, the first for points encoded as `frequencies` does."""

    def __init__(self, renderer: Any, latent: Float[Tensor, "t c"]) -> None:
        own, layers = renderer.params_proj(latent[None]), list(renderer.mlp.mlp)
        weights = [own.get(f"nerstf.mlp.{i}.weight", layer.weight[None])[0] for i, layer in enumerate(layers)]
        # Directions come in behind the other inputs of a layer. Shap-E gives none, which is zeros.
        width = renderer.mlp.config.d_hidden
        self.weights: list[Tensor] = [weights[0][:, ORDER], *(weight[:, :width] for weight in weights[1:])]
        self.biases: list[Tensor] = [layer.bias for layer in layers]

    def __call__(self, p: Float[Tensor, "n 3"]) -> Float[Tensor, "n 12"]:
        """What is at points, raw."""
        h = frequencies(p, OCTAVES)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = functional.silu(functional.linear(h, weight, bias))
        return functional.linear(h, self.weights[-1], self.biases[-1])

    @torch.no_grad()
    def field(self, space: Space) -> NerfField:
        """The fine radiance field in a cube of the world, as a field: the same numbers, per world unit."""
        weights = [self._in_world(self.weights[0], world_from_grid(space.up)), *self.weights[1:]]
        sizes = NerfSizes(len(weights) - 1, len(weights[0]), 0, OCTAVES, 0, branch_layers=0, activation="silu")
        spec = FieldSpec(kind="nerf", sizes=sizes, space=space, density=DensityActivation("relu"), steps=256)
        field, last = NerfField(spec), len(weights) - 1
        pairs = list(zip(weights, self.biases, strict=True))
        layers = dict(zip([*field.trunk], pairs[:last], strict=True))
        (density,), (color,) = field.density_net, field.color_net
        layers |= {density: tuple(v[FINE : FINE + 1] for v in pairs[last]), color: tuple(v[NERF] for v in pairs[last])}
        for layer, (weight, bias) in layers.items():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        return field

    @staticmethod
    def _in_world(weight: Float[Tensor, "w e"], turn: Float[Tensor, "3 3"]) -> Float[Tensor, "w e"]:
        """Weights of encoded points, for points that are turned by quarters first: sines change sign with an axis."""
        parts, turn = weight.unflatten(1, (-1, 3)), turn.to(weight)
        turned: Tensor = parts @ turn.T
        turned[:, 2::2] = parts[:, 2::2] @ turn.abs().T
        return turned.flatten(1)

    @torch.no_grad()
    def volume(self, space: Space, resolution: int = RESOLUTION) -> Volume:
        """The object within its surface, on a grid that fills a cube of the world.

        The network's distances are squashed and in no unit: distances are measured to where they change sign.
        """
        from skimage.measure import marching_cubes

        middle = (torch.arange(resolution) + 0.5) * 2 / resolution - 1
        grid = self._asked(torch.cartesian_prod(middle, middle, middle))
        depth = grid[:, SDF].reshape((resolution,) * 3)
        sdf = torch.where(depth > 0, -BAND, BAND)
        if not bool((depth > 0).any()):
            return Volume(sdf, torch.sigmoid(grid[:, STF]).reshape(*sdf.shape, 3), space)
        # Beyond the cube nothing is, as in diffusers: what reaches its faces is closed there.
        padded = np.pad(torch.tanh(depth).numpy(), 1, constant_values=-1)
        vertices, faces, _, _ = marching_cubes(padded, 0.0)
        _, distance, c, nearest = nearest_faces(vertices.astype(np.float64)[faces] - 0.5, resolution)
        away = torch.from_numpy(distance)
        sdf[tuple(c.T)] = sdf[tuple(c.T)].sign() * away
        rgb = torch.sigmoid(self._asked(torch.from_numpy(nearest).float() * 2 / resolution - 1)[:, STF])
        return Volume(sdf, torch.from_numpy(spread_colors(c, rgb.numpy(), resolution)), space)

    def _asked(self, p: Float[Tensor, "n 3"]) -> Float[Tensor, "n 12"]:
        """What is at many points."""
        device = self.biases[0].device
        return torch.cat([self(part.to(device)).float().cpu() for part in p.split(CHUNK)])
