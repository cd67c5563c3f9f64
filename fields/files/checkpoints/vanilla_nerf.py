"""Checkpoints of nerfstudio's vanilla-nerf: the fine network, in the frame that nerfstudio trained in.

Letters: `x` world points. nerfstudio encodes sin and cos of 2 pi 2^k x with ten k evenly spread from 0 to 8, and four
from 0 to 4 for directions: all sines first, axis by axis, then all cosines, then the numbers themselves. The branch
takes what the trunk gives as it is: our layer between them is the identity. Sizes are the same in all runs; what is
behind the scene stands in the run's config.yml.

vanilla-nerf has no box: it samples rays from near to far. For Blender's scenes ours is nerfstudio's scene box, 3 units
wide; for others, whose cameras nerfstudio puts into [-1, 1]^3, all that those can see as far as the far plane.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.named import checked_tensors, tensors_of
from fieldcast.fields.files.checkpoints.nerfstudio import pipeline_settings
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kinds import build
from fieldcast.fields.kinds.nerf import NerfField, NerfSizes
from fieldcast.fields.space import Space, Vector3
from fieldcast.fields.spec import FieldSpec

LAYERS, WIDTH, SKIP, BRANCH = 8, 256, 4, 128
OCTAVES, VIEW_OCTAVES = 10, 4  # frequencies, spread over 8 and over 4 octaves
FIELD = "_model.field_fine."
# Of the pipeline, but not of the fine network: the coarse one, and what trains and measures.
OTHERS = ("_model.field_coarse.", "_model.lpips.", "_model.device_indicator_param", "datamanager.")
BLENDER = ("Blender", "DNeRF")  # the data parsers whose scene box is 3 units wide, whatever they read
BACKGROUNDS: dict[str, Vector3] = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
# nerfstudio's own measure of runs over `random` and `last_sample` is over black.
BACKGROUNDS |= {"random": BACKGROUNDS["black"], "last_sample": BACKGROUNDS["black"]}
TRUNK = [f"mlp_base.layers.{n}" for n in range(LAYERS)]
DENSITY, HEAD = "field_output_density.net", ["mlp_head.layers.0", "mlp_head.layers.1", "field_heads.0.net"]


def holds_vanilla_nerf(found: Any) -> bool:
    """Whether what a checkpoint holds looks like nerfstudio's vanilla-nerf."""
    pipeline = found.get("pipeline") if isinstance(found, dict) else None
    return isinstance(pipeline, dict) and any(_plain(name).startswith(FIELD) for name in pipeline)


def read_vanilla_nerf(path: Path, found: dict[str, Any]) -> NerfField:
    """The fine network of a checkpoint that holds `found`. Raises InputError for what it is not."""
    pipeline = {_plain(name): value for name, value in found["pipeline"].items()}
    stray = [name for name in pipeline if not name.startswith((FIELD, *OTHERS))]
    if stray:
        hint = "; scenes that move are not read" if "temporal_distortion" in stray[0] else ""
        raise InputError(f"{path}: not a whole vanilla-nerf: unexpected {stray[0]:.80}{hint}")
    tensors = checked_tensors(path, tensors_of(path, pipeline, "pipeline", FIELD), _shapes(), "vanilla-nerf")
    settings = pipeline_settings(path)
    half = half_side(path, settings)
    field = build(
        FieldSpec(
            kind="nerf",
            sizes=nerf_sizes(half),
            space=Space((-half, -half, -half, half, half, half)),
            density=DensityActivation("softplus", scale=half),
            background=background_of(path, settings.get("model")),
        )
    )
    assert isinstance(field, NerfField)
    _fill(field, tensors, half)
    return field


def _plain(name: Any) -> str:
    """The name of a tensor without what training on several GPUs adds."""
    return str(name).replace("_model.module.", "_model.", 1)


def _shapes() -> dict[str, tuple[int | None, ...]]:
    """What the networks of all runs are: nothing in a run's settings changes them."""
    encoded, seen = 3 + 6 * OCTAVES, 3 + 6 * VIEW_OCTAVES
    sizes = dict.fromkeys(TRUNK, (WIDTH, WIDTH))
    sizes |= {TRUNK[0]: (WIDTH, encoded), TRUNK[SKIP]: (WIDTH, encoded + WIDTH), DENSITY: (1, WIDTH)}
    sizes |= {HEAD[0]: (BRANCH, seen + WIDTH), HEAD[1]: (BRANCH, BRANCH), HEAD[2]: (3, BRANCH)}
    shapes: dict[str, tuple[int | None, ...]] = {f"{name}.weight": shape for name, shape in sizes.items()}
    return shapes | {f"{name}.bias": shape[:1] for name, shape in sizes.items()}


def nerf_sizes(half: float) -> NerfSizes:
    """The sizes of our kind, for points of a box whose sides are 2 `half`."""
    return NerfSizes(
        layers=LAYERS,
        width=WIDTH,
        skip=SKIP,
        octaves=OCTAVES,
        view_octaves=VIEW_OCTAVES,
        lowest=math.log2(2 * math.pi * half),
        branch=BRANCH,
        branch_layers=2,
        spacing=8 / (OCTAVES - 1),
        view_lowest=math.log2(2 * math.pi),
        view_spacing=4 / (VIEW_OCTAVES - 1),
    )


def half_side(path: Path, settings: dict[str, Any]) -> float:
    """Half the side of the box that a run's settings speak of."""
    manager, model = settings.get("datamanager"), settings.get("model")
    parser = manager.get("dataparser") if isinstance(manager, dict) else None
    target = str(parser.get("_target", "")) if isinstance(parser, dict) else ""
    if not target or target.split(".")[-1] in BLENDER:
        scale = parser.get("scale_factor", 1.0) if isinstance(parser, dict) else 1.0
        return 1.5 * max(1.0, float(scale) if isinstance(scale, int | float) and 0 < scale < 1e6 else 1.0)
    planes = model.get("collider_params") if isinstance(model, dict) else None
    far = planes.get("far_plane") if isinstance(planes, dict) else None
    if not isinstance(far, int | float) or not 0 < far < 1e6:
        raise InputError(f"{path}: its config.yml: collider_params.far_plane: expected a distance, found {far!s:.40}")
    return 1.0 + far


def background_of(path: Path, model: Any) -> Vector3:
    """What is behind the scene, by the settings of a model; runs from before the setting are over white."""
    name = model.get("background_color", "white") if isinstance(model, dict) else "white"
    if name not in BACKGROUNDS:
        known = ", ".join(BACKGROUNDS)
        raise InputError(f"{path}: its config.yml: background_color: expected one of {known}, found {name!s:.40}")
    return BACKGROUNDS[name]


@torch.no_grad()
def _fill(field: NerfField, tensors: dict[str, Tensor], half: float) -> None:
    """Gives our layers the numbers of theirs; columns in our order."""
    places, seen = encoding_order(OCTAVES), encoding_order(VIEW_OCTAVES)
    after = [*places, *range(len(places), len(places) + WIDTH)]
    order = {
        TRUNK[0]: places,
        TRUNK[SKIP]: after,
        HEAD[0]: [*range(len(seen), len(seen) + WIDTH), *seen],  # ours has the code first
    }
    ours = [*field.trunk, *field.density_net, *field.color_net]
    for layer, name in zip(ours, [*TRUNK, DENSITY, *HEAD], strict=True):
        weight = tensors[f"{name}.weight"]
        layer.weight.copy_(weight[:, order[name]] if name in order else weight)
        layer.bias.copy_(tensors[f"{name}.bias"])
        if name in (TRUNK[0], TRUNK[SKIP]):
            layer.weight[:, :3] *= half  # the numbers themselves come first
    (code,) = field.code_net
    assert isinstance(code, nn.Linear)
    code.weight.copy_(torch.eye(WIDTH))
    code.bias.zero_()


def encoding_order(octaves: int) -> list[int]:
    """Where nerfstudio has each number of our encoding: the three numbers, then sines and cosines by frequency."""
    sines, cosines, numbers = 0, 3 * octaves, 6 * octaves
    ours = [start + axis * octaves + k for k in range(octaves) for start in (sines, cosines) for axis in range(3)]
    return [numbers, numbers + 1, numbers + 2, *ours]
