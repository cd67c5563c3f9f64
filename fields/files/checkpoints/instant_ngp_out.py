"""Hash grids written as snapshots of Instant-NGP, `.ingp` and `.msgpack`; see `instant_ngp.py` for what is in one.

Instant-NGP computes the density as e to the network's output, per unit of its own frame, in a box of side A, a power of
two. A field whose density is 2^k e^s per half box is such a one in a box of side 2^(k + 1). Snapshots hold what the
program wants to know of photographs too: it gets one, without pixels.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, orbit
from fieldcast.fields.field import Field
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.checkpoints.cascades import bits_of_occupancy
from fieldcast.fields.files.checkpoints.instant_ngp import CODE, SIDE
from fieldcast.fields.files.checkpoints.tiny_cuda_nn import Perceptron
from fieldcast.fields.heads import HARMONICS, DensityActivation, linear_layers
from fieldcast.fields.kinds.hashgrid import HashgridField, HashgridSizes
from fieldcast.fields.spec import FieldSpec

SIZES = {"storage": "tiny-cuda-nn"}
WIDTHS = (16, 32, 64, 128)  # of its fully fused networks
LARGEST = 128  # side of a box
ADAM = {"otype": "Adam", "learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-15}
TRAINING = {"loss": {"otype": "Huber"}, "optimizer": ADAM}


def fitted(spec: FieldSpec) -> FieldSpec:
    """The spec with a density that the program computes."""
    return spec if _side(spec) else replace(spec, density=DensityActivation("exp", scale=0.5))


def refusal(spec: FieldSpec) -> str | None:
    """Why Instant-NGP cannot hold such a hash grid."""
    sizes, a = spec.sizes, spec.space.aabb
    if not spec.space.bounded or len({round(a[i + 3] - a[i], 9) for i in range(3)}) > 1:
        return "its box must be a cube, and its space end there"
    if sizes.storage != "tiny-cuda-nn" or sizes.bias or sizes.hidden not in WIDTHS:
        return "its sizes must be storage=tiny-cuda-nn, bias=false and hidden one of 16, 32, 64 and 128"
    if sizes.appearance not in (CODE - 1, CODE):
        return f"it must have {CODE - 1} appearance features"
    if not _side(spec) or spec.color != "sigmoid":
        return "its density must be 2^k exp(logit) per half box, its colour a sigmoid"
    return None


def _side(spec: FieldSpec) -> int | None:
    """The side of the box in the program's frame; None if the density is another one."""
    density, k = spec.density, round(math.log2(spec.density.scale))
    if (density.name, density.shift, density.clip) != ("exp", 0.0, None) or density.scale != 2.0**k:
        return None
    return 2 ** (k + 1) if 1 <= 2 ** (k + 1) <= LARGEST else None


def write_snapshot(field: Field, path: Path, force: bool) -> None:
    """Writes a hash grid that `refusal` has nothing against: its parameters in 32 bits, and where something is."""
    assert isinstance(field, HashgridField)
    data = msgspec.msgpack.encode(_settings(field.spec.sizes) | {"snapshot": _snapshot(field, path)})
    with atomic_path(path, force) as stump:
        stump.write_bytes(zlib.compress(data, 1) if path.suffix.lower() == ".ingp" else data)


def _settings(sizes: HashgridSizes) -> dict[str, Any]:
    """Of the networks, and of training them, which the program sets up whether it is wanted or not."""
    network = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None", "n_neurons": sizes.hidden}
    growth = (sizes.finest_resolution / sizes.base_resolution) ** (1 / max(sizes.levels - 1, 1))
    return {
        **TRAINING,
        "envmap": TRAINING,
        "distortion_map": {"resolution": [32, 32], "optimizer": ADAM},
        "encoding": {
            "otype": "HashGrid",
            "n_levels": sizes.levels,
            "n_features_per_level": sizes.channels,
            "log2_hashmap_size": sizes.log2_table,
            "base_resolution": sizes.base_resolution,
            "per_level_scale": growth,
        },
        "network": {**network, "n_hidden_layers": 1},
        "rgb_network": {**network, "n_hidden_layers": 2},
        "dir_encoding": {
            "otype": "Composite",
            "nested": [{"otype": "SphericalHarmonics", "n_dims_to_encode": 3, "degree": 4}, {"otype": "Identity"}],
        },
    }


def _snapshot(field: HashgridField, path: Path) -> dict[str, Any]:
    side = _side(field.spec)
    assert side is not None
    params = _params(field, path)
    corners = {"min": [0.5 - side / 2] * 3, "max": [0.5 + side / 2] * 3}
    camera = _camera(field, side)
    return {
        "version": 1,
        "mode": "nerf",
        "n_params": len(params),
        "params_type": "float",
        "params_binary": params.numpy().tobytes(),
        "density_grid_size": SIDE,
        "density_grid_binary": _density_grid(field, side),
        "nerf": {
            "aabb_scale": side,
            "rgb": {"rays_per_batch": 4096, "measured_batch_size": 0, "measured_batch_size_before_compaction": 0},
            "dataset": _dataset(field, side, corners, camera),
        },
        "training_step": 0,
        "loss": 0.0,
        "aabb": corners,
        "bounding_radius": 1.0,
        "render_aabb": corners,
        "render_aabb_to_local": torch.eye(3).tolist(),
        "up_dir": list(field.space.up),
        "background_color": [*field.background, 1.0],
        "camera": {"matrix": camera},
    }


def _params(field: HashgridField, path: Path) -> Tensor:
    """Both networks and the grid, in the program's order [n_params]."""
    (first, code), color = linear_layers(field.sigma_net), linear_layers(field.color_net.layers)
    rows, seen = code.weight.detach().cpu(), color[0].weight.detach().cpu()
    spare = seen.new_zeros(len(seen), 1)
    if field.spec.sizes.appearance == CODE:  # as they are read: the logit is among what colour sees
        if not torch.equal(rows[0], rows[1]):
            raise InputError(
                f"{path}: the first of {CODE} appearance features must be the density's logit, as in files"
            )
        rows, spare, seen = rows[1:], seen[:, HARMONICS : HARMONICS + 1], torch.cat([seen[:, :16], seen[:, 17:]], 1)
    seen = torch.cat([spare, seen[:, HARMONICS:], seen[:, :HARMONICS]], 1)
    width = field.spec.sizes.hidden
    density = Perceptron(field.encoding.width, width, 1, CODE).packed([first.weight.detach().cpu(), rows])
    shade = Perceptron(CODE + HARMONICS, width, 2, 3).packed(
        [seen, *(layer.weight.detach().cpu() for layer in color[1:])]
    )
    return torch.cat([density, shade, field.encoding.table.detach().cpu().flatten()])


def _density_grid(field: Field, side: int) -> bytes:
    """1, which hides all, in the cells of the nested grids in which something is; 0 in the others; 16-bit numbers."""
    occupancy = replace(field.occupancy, bits=field.occupancy.bits.cpu())
    bits = bits_of_occupancy(occupancy, float(side), SIDE)
    cells = ((bits[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).half().reshape(-1)
    return cells.numpy().tobytes()


def _camera(field: Field, side: int) -> list[list[float]]:
    """A camera in the program's frame, [3, 4]: the field's first view, or one in front. y is down, z forward."""
    space = field.space
    around = orbit(space, torch.zeros(1), torch.full((1,), 0.4), 3.2 * space.unit, width=800, height=800, fov=0.7)
    views: Cameras = field.views.to("cpu") if field.views is not None else around
    turn, eye = views.c2w[0, :, :3] * torch.tensor([1.0, -1.0, -1.0]), views.centers[0]
    place = 0.5 + (eye - torch.tensor(space.center)) * side / (2 * space.unit)
    return torch.cat([turn, place[:, None]], 1).tolist()


def _dataset(field: Field, side: int, corners: dict[str, Any], camera: list[list[float]]) -> dict[str, Any]:
    """What it wants to know of photographs."""
    picture = {"focal_length": [1000.0, 1000.0], "principal_point": [0.5, 0.5], "resolution": [800, 800]}
    return {
        "n_images": 1,
        "paths": [""],
        "metadata": [{**picture, "lens": {}, "rolling_shutter": [0.0, 0.0, 0.0, 0.0]}],
        "xforms": [{"start": camera, "end": camera}],
        "render_aabb": corners,
        "render_aabb_to_local": torch.eye(3).tolist(),
        "up": list(field.space.up),
        "offset": [0.5, 0.5, 0.5],
        "scale": side / (2 * field.space.unit),
        "aabb_scale": side,
        "envmap_resolution": [0, 0],
        "from_mitsuba": False,
        "is_hdr": False,
        "wants_importance_sampling": False,
        "n_extra_learnable_dims": 0,
    }
