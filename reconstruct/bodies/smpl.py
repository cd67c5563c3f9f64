"""Bodies of the SMPL family, from files that the user brings: SMPL, SMPL-H and SMPL-X. None is shipped or fetched.

    SMPL: A Skinned Multi-Person Linear Model. Loper et al., 2015.

A file holds, by name, v_template [V, 3], shapedirs [V, 3, S], posedirs [V, 3, 9 (J - 1)], J_regressor [J, V], weights
[V, J], kintree_table [2, J] and f [F, 3]; what else it holds is not read. The body keeps the file's own place at rest,
a T-pose with its origin near the pelvis instead of on the ground, so that the translations of SMPL's parameters are
`place` as they are. All joints are kept: hands are flat where their part of the pose is zero, and so are expressions of
SMPL-X, which are left out.

Letters: V vertices, F faces, J joints, S numbers of shape.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from safetensors import safe_open
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.pickles import Numbers, numbers, read_pickle, reason

ARRAYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
LARGEST = 1 << 29  # bytes that an array may unpack to; SMPL-X's largest have 122 MB
SPINE = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)
FINGERS = tuple(
    f"{side}_{finger}{i}"
    for side in ("left", "right")
    for finger in ("index", "middle", "pinky", "ring", "thumb")
    for i in (1, 2, 3)
)
FAMILY = {  # by the number of joints: their names, and how many numbers of shape are used
    24: ((*SPINE, "left_hand", "right_hand"), 10),
    52: ((*SPINE, *FINGERS), 16),
    55: ((*SPINE, "jaw", "left_eye", "right_eye", *FINGERS), 10),
}
HEAD = ("head", "jaw", "left_eye", "right_eye")
LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")  # at whose joints COCO has keypoints
EYE = (0.031, 0.03, -0.026)  # of the left one, from the tip of the nose, where ears are 0.168 m apart


def read_smpl(path: Path) -> Body:
    """The body of a file, .npz, .pkl or .safetensors by its suffix. Raises InputError, one line, for what is none."""
    if not path.is_file():
        raise InputError(f"{path}: " + ("expected a file, found a folder" if path.is_dir() else "no such file"))
    arrays = READERS[path.suffix.lower()](path)
    _check(path, arrays)
    names, shapes = FAMILY[arrays["kintree_table"].shape[1]]
    vertices, regressor = arrays["v_template"].astype(np.float64), arrays["J_regressor"].astype(np.float64)
    directions = arrays["shapedirs"][..., :shapes].astype(np.float64)
    index, weights = _sparse(arrays["weights"].astype(np.float64))
    return Body(
        str(path),
        names,
        _parents(path, arrays["kintree_table"]),
        _single(vertices),
        _single(directions),
        _single(regressor @ vertices),
        _single(np.einsum("jv,vxs->jxs", regressor, directions)),
        torch.from_numpy(arrays["f"].astype(np.int64)),
        torch.from_numpy(index),
        _single(weights),
        torch.tensor(_keypoints(path, names, vertices, arrays["weights"])),
        _single(arrays["posedirs"]),
    )


def _read_npz(path: Path) -> dict[str, Numbers]:
    """SMPL-X's have arrays of objects beside what is read, which are pickles and are left alone."""
    with _complaints(path), zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    names = [name for name in ARRAYS if f"{name}.npy" in sizes]
    for name in names:
        if sizes[f"{name}.npy"] > LARGEST:
            raise InputError(f"{path}: {name}: unpacks to {sizes[f'{name}.npy']:,} bytes: more than a body has")
    with _complaints(path), warnings.catch_warnings(), np.load(path, allow_pickle=False) as file:
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        return {name: file[f"{name}.npy"] for name in names}


def _read_pkl(path: Path) -> dict[str, Numbers]:
    found, arrays = read_pickle(path), {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a dict of arrays, found {type(found).__name__}")
    for name in ARRAYS:
        if name in found:
            try:
                arrays[name] = numbers(found[name])
            except ValueError as error:
                raise InputError(f"{path}: {name}: {error}") from None
    return arrays


def _read_safetensors(path: Path) -> dict[str, Numbers]:
    with _complaints(path), safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name in ARRAYS}  # noqa: SIM118 -- no dict


@contextmanager
def _complaints(path: Path) -> Iterator[None]:
    """What is wrong with a file, in one line."""
    try:
        yield
    except Exception as error:  # damaged files fail in every way that Python has
        raise InputError(f"{path}: not a whole file of arrays ({reason(error)})") from None


READERS: dict[str, Callable[[Path], dict[str, Numbers]]] = {
    ".npz": _read_npz,
    ".pkl": _read_pkl,
    ".safetensors": _read_safetensors,
}


def _check(path: Path, arrays: dict[str, Numbers]) -> None:
    """Raises InputError unless the arrays are there, fit together, and are finite."""
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise InputError(f"{path}: expected the arrays {', '.join(ARRAYS)} of SMPL, found no {', '.join(missing)}")
    v, j = len(arrays["v_template"]) if arrays["v_template"].ndim else 0, arrays["kintree_table"].shape[-1:]
    if j not in [(count,) for count in FAMILY]:
        known = "24 (SMPL), 52 (SMPL-H) or 55 (SMPL-X)"
        raise InputError(f"{path}: kintree_table: expected {known} joints, found {j[0] if j else 'none'}")
    expected = {"v_template": (v, 3), "shapedirs": (v, 3, None), "posedirs": (v, 3, 9 * (j[0] - 1))}
    expected |= {"J_regressor": (j[0], v), "weights": (v, j[0]), "kintree_table": (2, j[0]), "f": (None, 3)}
    for name, shape in expected.items():
        found, whole = arrays[name].shape, name in ("kintree_table", "f")
        if len(found) != len(shape) or any(want not in (None, have) for want, have in zip(shape, found, strict=True)):
            wanted = ", ".join("any" if side is None else str(side) for side in shape)
            raise InputError(f"{path}: {name}: expected an array [{wanted}], found {list(found)}")
        if arrays[name].dtype.kind not in ("iu" if whole else "f"):
            raise InputError(
                f"{path}: {name}: expected {'whole' if whole else 'real'} numbers, found {arrays[name].dtype}"
            )
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
    _check_values(path, arrays, v)


def _check_values(path: Path, arrays: dict[str, Numbers], count: int) -> None:
    """Raises InputError for faces of vertices that are not there, and for weights that are not shares."""
    faces, sums = arrays["f"], arrays["weights"].astype(np.float64).sum(1)
    if not len(faces) or int(faces.min()) < 0 or int(faces.max()) >= count:
        raise InputError(f"{path}: f: expected faces of {count} vertices, found others or none")
    if arrays["weights"].min() < 0 or np.abs(sums - 1).max() > 1e-3:
        raise InputError(
            f"{path}: weights: expected shares that add up to 1, found sums {sums.min():.4g} to {sums.max():.4g}"
        )


def _parents(path: Path, table: Numbers) -> tuple[int, ...]:
    """The number of each joint's parent. The root's is -1, in files often as an unsigned number."""
    above, ids = table.astype(np.int64).tolist()
    parents = (-1, *(ids.index(parent) if parent in ids else -1 for parent in above[1:]))
    for j, parent in enumerate(parents[1:], 1):
        if not 0 <= parent < j:
            raise InputError(f"{path}: kintree_table: joint {j}: expected a parent before it, found {above[j]}")
    return parents


def _sparse(weights: Float64[np.ndarray, "v j"]) -> tuple[Int64[np.ndarray, "v k"], Float64[np.ndarray, "v k"]]:
    """The joints that move each vertex, as few as hold all, largest first, and their shares."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, : (weights > 0).sum(1).max()]
    kept = np.take_along_axis(weights, order, 1)
    return order.astype(np.int64), kept / kept.sum(1, keepdims=True)


def _single(numbers: Numbers) -> Float32[Tensor, "..."]:
    return torch.from_numpy(np.ascontiguousarray(numbers, np.float32))


def _keypoints(path: Path, names: tuple[str, ...], vertices: Float64[np.ndarray, "v 3"], weights: Numbers) -> list[int]:
    """COCO's: of limbs their joints, of the face the vertices that are found there, and SMPL-X's joints of the eyes."""
    head = weights[:, [names.index(name) for name in HEAD if name in names]].sum(1) > 0.5
    if not head.any():
        raise InputError(f"{path}: weights: expected vertices that move with the head, found none")
    nose, *eyes, left, right = _face(vertices, head)
    face = [len(names) + mark for mark in (nose, *eyes, left, right)]
    if "left_eye" in names:
        face[1:3] = names.index("left_eye"), names.index("right_eye")
    return [*face, *(names.index(f"{side}_{limb}") for limb in LIMBS for side in ("left", "right"))]


def _face(vertices: Float64[np.ndarray, "v 3"], head: Bool[np.ndarray, " v"]) -> list[int]:
    """Nose, eyes and ears among the vertices of the head: what stands out to the front near the middle, what is to the
    sides at the height of the nose, and what lies nearest to where eyes are from the nose.
    """
    own = vertices[head]
    middle, third = (own[:, 0].min() + own[:, 0].max()) / 2, np.ptp(own[:, 0]) / 6
    nose = own[np.where(np.abs(own[:, 0] - middle) < third / 2, own[:, 2], -np.inf).argmax()]
    level = np.abs(own[:, 1] - nose[1]) < third * 1.5
    left, right = (own[np.where(level, side * own[:, 0], -np.inf).argmax()] for side in (1, -1))
    scale = (left[0] - right[0]) / 0.168
    eyes = [nose + scale * np.array([side * EYE[0], *EYE[1:]]) for side in (1, -1)]
    numbers = np.flatnonzero(head)
    return [int(numbers[((own - place) ** 2).sum(1).argmin()]) for place in (nose, *eyes, left, right)]
