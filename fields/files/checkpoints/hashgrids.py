"""A hash grid from the tables and layers of another program, whose networks need not be as large as each other.

The field is the same function: narrower layers get neurons that are always 0, layers too few get one that hands on what
is rectified already. A bias of the first layer of the colour network alone is put into the column of the constant
harmonic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.tiny_cuda_nn import Layer
from fieldcast.fields.heads import HARMONICS, linear_layers
from fieldcast.fields.kernels.harmonics import harmonics_reference
from fieldcast.fields.kernels.hashgrid import hash_levels
from fieldcast.fields.kinds import build
from fieldcast.fields.kinds.hashgrid import HashgridField, HashgridSizes
from fieldcast.fields.spec import FieldSpec, read

FIRST_HARMONIC = 0.28209479177387814  # the constant one


def hashgrid_of(
    path: Path, spec: FieldSpec, table: Float[Tensor, "rows c"], sigma: Sequence[Layer], color: Sequence[Layer]
) -> HashgridField:
    """The field of a spec whose sizes say what the table is; those of the networks are theirs.

    sigma: two layers, to the density's logit and the appearance features. color: at most three, from the 16 harmonics
    of the direction, with the signs of tiny-cuda-nn, and the appearance features. Raises InputError if they do not fit.
    """
    if len(sigma) != 2 or not 2 <= len(color) <= 3:
        raise InputError(
            f"{path}: expected one hidden layer for the density and one or two for the colour, found "
            f"{len(sigma) - 1} and {len(color) - 1}: no kind of field has those"
        )
    rows, channels = table_shape(spec.sizes)
    if table.shape != (rows, channels):
        raise InputError(
            f"{path}: the hash table: expected [{rows}, {channels}] numbers for its sizes, found {list(table.shape)}"
        )
    sigma, color = list(sigma), _deep(_constant_folded(color, sigma))
    sizes = replace(
        spec.sizes,
        hidden=max(len(layer[0]) for layer in (*sigma[:-1], *color[:-1])),
        appearance=len(sigma[-1][0]) - 1,
        bias=any(bias is not None for _, bias in (*sigma, *color)),
    )
    field = build(replace(spec, sizes=sizes))
    assert isinstance(field, HashgridField)
    with torch.no_grad():
        field.encoding.table.copy_(table)
        for ours, layers in ((field.sigma_net, sigma), (field.color_net.layers, color)):
            for linear, (weight, bias) in zip(linear_layers(ours), layers, strict=True):
                _fill(path, linear, weight, bias)
    return field


def _fill(path: Path, linear: torch.nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    """A layer that may be larger than what it gets: the rest is 0."""
    rows, columns = weight.shape
    if rows > linear.out_features or columns > linear.in_features:
        expected = [linear.out_features, linear.in_features]
        raise InputError(
            f"{path}: a layer of its networks: expected at most {expected} numbers, found {[rows, columns]}"
        )
    linear.weight.zero_()
    linear.weight[:rows, :columns] = weight
    if linear.bias is not None:
        linear.bias.zero_()
        if bias is not None:
            linear.bias[:rows] = bias


def _constant_folded(color: Sequence[Layer], sigma: Sequence[Layer]) -> list[Layer]:
    """The colour network without the bias of its first layer, if no other layer has one."""
    (weight, bias), *others = color
    if bias is None or any(other is not None for _, other in (*sigma, *others)):
        return list(color)
    weight = weight.clone()
    weight[:, 0] += bias / FIRST_HARMONIC
    return [(weight, None), *others]


def _deep(color: list[Layer]) -> list[Layer]:
    """Three layers: what comes out of a rectified one is not changed by the next if that is the identity."""
    if len(color) == 3:
        return color
    width = len(color[0][0])
    return [color[0], (torch.eye(width), None), color[1]]


def seeing_unit_directions(weight: Float[Tensor, "o i"]) -> Float[Tensor, "o i"]:
    """A first layer that was made for nerfstudio's own harmonics, for ours.

    Those have other signs, which is turning by half a turn about z, and are evaluated at (d + 1) / 2: polynomials of
    the third degree, which on the sphere are sums of the 16 harmonics.
    """
    d = torch.randn(256, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    d = torch.nn.functional.normalize(d, dim=-1)
    theirs = harmonics_reference((d + 1) / 2 * d.new_tensor([-1, -1, 1]), 3)
    mixed = torch.linalg.lstsq(harmonics_reference(d, 3), theirs).solution  # theirs = ours @ mixed
    seen = weight[:, :HARMONICS].double() @ mixed.T
    return torch.cat([seen.to(weight.dtype), weight[:, HARMONICS:]], 1)


def table_shape(sizes: HashgridSizes) -> tuple[int, int]:
    """Rows and channels of the table of a hash grid."""
    levels = hash_levels(sizes.levels, sizes.base_resolution, sizes.finest_resolution, sizes.log2_table, sizes.storage)
    return levels[-1].offset + levels[-1].rows, sizes.channels


def table_sizes(
    path: Path, levels: int, channels: int, log2_table: int, base: int, finest: float, storage: str
) -> HashgridSizes:
    """Sizes of a table, checked by the class that they are for. Raises InputError."""
    named = {"levels": levels, "channels": channels, "log2_table": log2_table, "base_resolution": base}
    sizes = {**named, "finest_resolution": finest, "storage": storage}
    return read(HashgridSizes, sizes, f"{path}: sizes of its hash grid")
