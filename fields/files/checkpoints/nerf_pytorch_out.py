"""`nerf` fields written as checkpoints of nerf-pytorch (`.tar`), for its networks of 8 layers of 256.

Letters: h half the side of the box, x world points. nerf-pytorch knows neither a box nor where a scene is empty: it
asks its networks wherever a ray goes. Fields narrower than its networks leave neurons free, which see to the box: six
of the first layer are relu(x - h) and relu(-x - h) of each axis, one of each later layer carries their sum, and the
density, which is rectified, is what it was minus a large multiple of that. A field as wide as its networks is written
as it is. In empty cells the network itself must say that nothing is, as those do that were read from such files or
made for them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.nerf_pytorch import BOX
from fieldcast.fields.files.checkpoints.pickles import write_pickle
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kinds.nerf import NerfField, NerfSizes
from fieldcast.fields.spec import FieldSpec

THEIRS = NerfSizes()
BRANCH = THEIRS.width // 2
FREE = 6  # neurons for the box
ENCODED, SEEN = 3 * (1 + 2 * THEIRS.octaves), 3 * (1 + 2 * THEIRS.view_octaves)
WALL = 1e6  # per world unit outside the box, what the density loses
SIZES = {"width": str(THEIRS.width - FREE)}
Network = dict[str, Tensor]


def fitted(spec: FieldSpec) -> FieldSpec:
    """The spec with the density of nerf-pytorch, and with its frequencies, which are of world positions."""
    if spec.kind != "nerf":
        return spec
    density = spec.density if spec.density.name == "relu" else DensityActivation("relu", scale=spec.space.unit)
    return replace(spec, density=density, sizes=replace(spec.sizes, lowest=math.log2(spec.space.unit)))


def refusal(spec: FieldSpec) -> str | None:
    """Why nerf-pytorch cannot hold such a field."""
    half, sizes = spec.space.unit, spec.sizes
    if not spec.space.bounded or spec.space.aabb != (-half, -half, -half, half, half, half):
        return "its box must be a cube around the origin"
    fits = sizes.width <= THEIRS.width and sizes.branch <= BRANCH and abs(sizes.lowest - math.log2(half)) < 1e-6
    if not fits or replace(sizes, width=THEIRS.width, branch=THEIRS.branch, lowest=THEIRS.lowest) != THEIRS:
        return (
            f"its sizes must be layers={THEIRS.layers}, skip={THEIRS.skip}, octaves={THEIRS.octaves}, "
            f"view_octaves={THEIRS.view_octaves}, lowest={math.log2(half):g}, a width of at most {THEIRS.width} and a "
            f"branch of at most {BRANCH}; first, code and activation as they are by default"
        )
    if spec.density.name != "relu" or spec.density.clip is not None or spec.color != "sigmoid":
        return "its density must be relu, its colour a sigmoid"
    return None


def write_nerf_pytorch(field: Field, path: Path, force: bool) -> None:
    """Writes the network as both the coarse and the fine one, with all that the program loads."""
    assert isinstance(field, NerfField)
    network = network_of(field)
    count = 2 * len(network)  # parameters of both networks
    group = {"lr": 5e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False}
    optimizer: dict[str, Any] = {"state": {}, "param_groups": [group | {"params": list(range(count))}]}
    found = {"global_step": 0, "network_fn_state_dict": network, "network_fine_state_dict": network}
    found |= {BOX: field.space.unit}
    write_pickle(found | {"optimizer_state_dict": optimizer}, path, force)


@torch.no_grad()
def network_of(field: NerfField) -> Network:
    """Our layers under nerf-pytorch's names, for world positions, padded with zeros where they are narrower."""
    half, density, width = field.space.unit, field.spec.density, field.spec.sizes.width
    network: Network = {}
    for place, layer in enumerate(_layers(field.trunk)):
        seen = ENCODED if place in (0, THEIRS.skip) else 0
        weight = _padded(layer.weight, THEIRS.width, seen + (THEIRS.width if place else 0))
        if seen:
            weight[:, :3] /= half
        network |= _named(f"pts_linears.{place}", weight, _padded(layer.bias, THEIRS.width))
    sigma, code, branch, rgb = _layers(field.density_net, field.code_net, field.color_net)
    factor = density.scale / half
    bias = _padded(factor * (sigma.bias + density.shift), 1)
    network |= _named("alpha_linear", _padded(factor * sigma.weight, 1, THEIRS.width), bias)
    network |= _named("feature_linear", _padded(code.weight, *[THEIRS.width] * 2), _padded(code.bias, THEIRS.width))
    beside = _padded(branch.weight[:, width:], BRANCH, SEEN)
    weight = torch.cat([_padded(branch.weight[:, :width], BRANCH, THEIRS.width), beside], 1)
    network |= _named("views_linears.0", weight, _padded(branch.bias, BRANCH))
    network |= _named("rgb_linear", _padded(rgb.weight, 3, BRANCH), _padded(rgb.bias, 3))
    if width <= THEIRS.width - FREE:
        add_walls(network, half)
    return network


def add_walls(network: Network, half: float) -> None:
    """Lets the last neurons take all density away outside the box."""
    walls = slice(THEIRS.width - FREE, THEIRS.width)
    first, bias = network["pts_linears.0.weight"], network["pts_linears.0.bias"]
    first[walls, :3] = torch.cat([torch.eye(3), -torch.eye(3)])
    bias[walls] = -half
    network["pts_linears.1.weight"][-1, walls] = 1
    for place in range(2, THEIRS.layers):
        network[f"pts_linears.{place}.weight"][-1, -1] = 1
    network["alpha_linear.weight"][0, -1] = -WALL


def _layers(*networks: nn.Module) -> list[nn.Linear]:
    return [layer for network in networks for layer in network.children() if isinstance(layer, nn.Linear)]


def _named(name: str, weight: Tensor, bias: Tensor) -> Network:
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _padded(tensor: Tensor, *shape: int) -> Tensor:
    """The tensor in the corner of a larger one of zeros."""
    larger = torch.zeros(shape)
    larger[tuple(slice(length) for length in tensor.shape)] = tensor.cpu()
    return larger
