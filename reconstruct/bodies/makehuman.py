"""The body that comes with fieldcast: MakeHuman's, CC0, as 13,380 vertices, 22 joints and 10 numbers of shape.

Made from the assets of github.com/makehumancommunity/mpfb2 (base mesh, macro targets, game-engine rig). The shape is
the 10 strongest principal components of 600 random mixtures of gender, age, muscle, weight, height and proportions, so
that numbers about -2 to 2 are people; the first one is mostly stature and gender. Fingers move with the hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int16, Int64, UInt8

from fieldcast.fields.files.tensors import read_tensors, write_tensors
from fieldcast.reconstruct.bodies.body import Body

SHAPES = 10
FINGERS = ("index_", "middle_", "pinky_", "ring_", "thumb_")
FACE = ((0, 1.542, 0.164), (0.031, 1.572, 0.138), (-0.031, 1.572, 0.138), (0.084, 1.573, 0.035), (-0.084, 1.573, 0.035))
LIMBS = (
    "upperarm",
    "lowerarm",
    "hand",
    "thigh",
    "calf",
    "foot",
)  # at whose joints COCO has keypoints


def makehuman() -> Body:
    """The body of the file beside this one."""
    tensors, meta = read_tensors(Path(__file__).with_name("makehuman.safetensors"))
    wide = {k: v.float() if v.is_floating_point() else v.long() for k, v in tensors.items()}
    uv = wide.pop("uv")[wide.pop("uv_index")]
    wide["weights"] = wide["weights"] / wide["weights"].sum(1, keepdim=True)
    return Body("makehuman", tuple(meta["joint_names"]), tuple(meta["parents"]), uv=uv, **wide)


def make_file(source: Path, target: Path) -> None:
    """The file of the body, from the arrays that were extracted from MakeHuman's assets.

    The root joint, which stands on the ground, becomes one with the pelvis, and fingers with their hand.
    """
    with np.load(source, allow_pickle=False) as file:
        arrays = dict(file)
    names, parents = [str(name) for name in arrays["joint_names"]], arrays["parents"].tolist()
    kept = [i for i, name in enumerate(names) if i and not name.startswith(FINGERS)]
    index, weights = _merged(arrays["weights_index"], arrays["weights_value"], _stands_for(kept, parents))
    short = [names[i] for i in kept]
    tensors = {
        "vertices": arrays["v_template"],
        "shape_directions": arrays["shapedirs"][..., :SHAPES],
        "joints": arrays["joints_template"][kept],
        "joint_directions": arrays["joint_shapedirs"][kept, :, :SHAPES],
        "faces": arrays["faces"].astype(np.int16),
        "weight_index": index,
        "weights": weights,
        "uv": arrays["uv"],
        "uv_index": arrays["faces_uv"].astype(np.int16),
        "keypoints": _keypoints(short, arrays["v_template"]),
    }
    meta = {"joint_names": short, "parents": [kept.index(parents[i]) if parents[i] in kept else -1 for i in kept]}
    write_tensors(target, {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in tensors.items()}, meta, force=True)


def _stands_for(kept: list[int], parents: list[int]) -> Int64[np.ndarray, " j"]:
    """For each joint the place among those kept of its nearest ancestor there; the first one where there is none."""
    found: list[int] = []
    for i, parent in enumerate(parents):
        found.append(kept.index(i) if i in kept else found[parent] if parent >= 0 else 0)
    return np.array(found, np.int64)


def _merged(
    index: UInt8[np.ndarray, "v k"], weights: Float16[np.ndarray, "v k"], becomes: Int64[np.ndarray, " j"]
) -> tuple[UInt8[np.ndarray, "v n"], Float16[np.ndarray, "v n"]]:
    """The weights of vertices after joints have become others, as few a vertex as hold all, largest first."""
    full = np.zeros((len(index), becomes.max() + 1))
    np.add.at(full, (np.arange(len(index))[:, None], becomes[index]), weights)
    order = np.argsort(-full, axis=1, kind="stable")[:, : (full > 0).sum(1).max()]
    return order.astype(np.uint8), np.take_along_axis(full, order, 1).astype(np.float16)


def _keypoints(names: list[str], vertices: Float32[np.ndarray, "v 3"]) -> Int16[np.ndarray, " 17"]:
    """COCO's: of the face the nearest vertices, of limbs their joints."""
    face = [len(names) + int(((vertices - place) ** 2).sum(1).argmin()) for place in FACE]
    return np.array([*face, *(names.index(f"{limb}_{side}") for limb in LIMBS for side in "lr")], np.int16)
