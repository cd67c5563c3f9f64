"""Hash grids written as checkpoints of torch-ngp (`.pth`), in the frame that they are in.

Letters: b the bound. torch-ngp's network has fixed sizes, and of those that the bound decides the checkpoint says
nothing: it loads with `--bound b`. It has no place for a scene that does not lie around the origin, nor for a density
other than e^logit in 1 / unit; fields are made with that one. Its tables cannot be turned: where its own loader turns
the cameras of a scene, (x, y, z) to (y, z, x), the field is not turned with them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.cascades import bits_of_occupancy, cascade_count
from fieldcast.fields.files.checkpoints.pickles import write_pickle
from fieldcast.fields.files.checkpoints.torch_ngp import BITS, COLOR, DEFAULTS, FINEST, OFFSETS, SIGMA, TABLE
from fieldcast.fields.heads import DensityActivation, linear_layers
from fieldcast.fields.kinds.hashgrid import HashgridField, HashgridSizes
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec

SIZES = {"levels": str(DEFAULTS.levels)}
SIDE = 128  # cells of a cascade
DENSE = 100.0  # what its grid of densities says of a cell that is not empty: far more than the 10 that it asks for


def fitted(spec: FieldSpec) -> FieldSpec:
    """The spec with the density that torch-ngp computes and the finest level that it has in such a box."""
    finest = round(FINEST * spec.space.unit)
    density = DensityActivation("exp", scale=spec.space.unit)
    if spec.kind != "hashgrid" or not 2 <= finest <= 1 << 20:
        return spec
    return replace(spec, density=density, sizes=replace(spec.sizes, finest_resolution=finest))


def refusal(spec: FieldSpec) -> str | None:
    """Why torch-ngp cannot hold such a hash grid."""
    half, sizes = spec.space.unit, spec.sizes
    if not spec.space.bounded or spec.space.aabb != (-half, -half, -half, half, half, half):
        return "its box must be a cube around the origin"
    if FINEST * half != round(FINEST * half):
        return f"half its box, {half:g}, must be a multiple of 1 / {FINEST}"
    wanted: HashgridSizes = replace(DEFAULTS, finest_resolution=sizes.finest_resolution)
    if sizes != wanted or sizes.finest_resolution != FINEST * half:
        said = f"levels={wanted.levels}, channels={wanted.channels}, log2_table={wanted.log2_table}, hidden=64"
        return f"its sizes must be {said}, from 16 to {FINEST * half:g} cells, 2048 times half its box"
    if spec.density != DensityActivation("exp", scale=half) or spec.color != "sigmoid":
        return "its density must be exp(logit) in 1 / world unit, its colour a sigmoid"
    return None


def write_torch_ngp(field: Field, path: Path, force: bool) -> None:
    """Writes a hash grid of torch-ngp's sizes, with all that its `load_checkpoint` looks for."""
    assert isinstance(field, HashgridField)
    half, occupancy = field.space.unit, field.occupancy
    bits = bits_of_occupancy(replace(occupancy, bits=occupancy.bits.cpu()), half, SIDE)
    grid = DENSE * ((bits[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).float().reshape(-1, SIDE**3)
    assert len(grid) == cascade_count(half)
    model = {
        **_boxes(field.space),
        "density_grid": grid,
        BITS: bits,
        "step_counter": torch.zeros(16, 2, dtype=torch.int32),
        **_networks(field),
    }
    stats: dict[str, Any] = {"loss": [], "valid_loss": [], "results": [], "checkpoints": [], "best_result": None}
    found = {"epoch": 0, "global_step": 0, "stats": stats, "mean_count": 0, "mean_density": float(grid.mean())}
    write_pickle({**found, "model": {name: value.detach().cpu() for name, value in model.items()}}, path, force)


def _boxes(space: Space) -> dict[str, Tensor]:
    box = torch.tensor(space.aabb)
    return {"aabb_train": box, "aabb_infer": box.clone()}


def _networks(field: HashgridField) -> dict[str, Tensor]:
    """The tensors of the encoding and of both networks, under torch-ngp's names."""
    levels = field.encoding.levels
    offsets = torch.tensor([*(level.offset for level in levels), len(field.encoding.table)], dtype=torch.int32)
    layers = [*linear_layers(field.sigma_net), *linear_layers(field.color_net.layers)]
    weights = {name: layer.weight for name, layer in zip((*SIGMA, *COLOR), layers, strict=True)}
    return {TABLE: field.encoding.table, OFFSETS: offsets, **weights}
