"""People as skinned, animated GLB files (glTF 2.0), which Blender and browsers open and play.

Each person is a mesh at rest, a skeleton of nodes, and keys of an animation that turn the joints and move the root. All
stand in one scene, in metres. glTF has y up: each skeleton hangs on a node that turns the up of the recording there.
Vertices follow at most four joints, which is what every viewer can do. What a pose adds to the vertices before they are
skinned (SMPL's correctives) has no place in such a file.

Letters: T frames, J joints, V vertices, K weights a vertex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.glb import Glb
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.space import Vector3
from fieldcast.reconstruct.outputs.skin import SLIGHT, Skin, sparse
from fieldcast.reconstruct.recordings.recording import Person

INFLUENCES = 4


@dataclass(frozen=True, eq=False)
class Rigged:
    """Somebody as a mesh that joints move.

    mesh: at rest, in the frame of the body (y up), with a texture or colours. joints: their places at rest, metres.
    parents: -1 for the root, which comes first. pose, place, present: as in `Person`; frames in which somebody is not
    present have no keys, so that they move evenly from the last pose that is known to the next.
    """

    name: str
    mesh: Mesh
    skin: Skin
    joints: Float[Tensor, "j 3"]
    parents: tuple[int, ...]
    joint_names: tuple[str, ...]
    pose: Float[Tensor, "t j 3"]
    place: Float[Tensor, "t 3"]
    present: Bool[Tensor, " t"]


@dataclass(frozen=True)
class Kept:
    """What of a skin is in a file. vertices: how many follow more joints than that. mean_share, most_share: how much of
    the weights was left out, 0 to 1, over all vertices and of the worst one.
    """

    vertices: int
    mean_share: float
    most_share: float


def rigged(person: Person, mesh: Mesh, skin: Skin) -> Rigged:
    """Somebody's mesh at rest with the skeleton and the poses of their body."""
    body = person.body
    _, joints = body.at_rest(person.shape)
    joints, pose, place = (values.detach().cpu() for values in (joints, person.pose, person.place))
    return Rigged(person.name, mesh, skin, joints, body.parents, body.joint_names, pose, place, person.present.cpu())


def save_rigged(path: Path, person: Rigged, fps: float, up: Vector3 = (0.0, 1.0, 0.0), force: bool = False) -> Kept:
    """One person in a file. fps: frames a second. up: of the world that they are placed in."""
    return save_rigged_scene(path, [person], fps, up, force)[0]


def save_rigged_scene(
    path: Path, people: Sequence[Rigged], fps: float, up: Vector3 = (0.0, 1.0, 0.0), force: bool = False
) -> list[Kept]:
    """Several people in one file, with one animation. What of their skins is in it, person by person."""
    if path.suffix.lower() != ".glb":
        raise InputError(f"{path}: expected a name that ends in .glb, found {path.suffix or 'none'}")
    if not people:
        raise InputError(f"{path}: expected at least one person to write, found none")
    for person in people:
        _check(person, path)
    glb, roots, kept = Glb(), list[int](), list[Kept]()
    animation: dict[str, Any] = {"name": "recording", "channels": [], "samplers": []}
    for person in people:
        skin, lost = strongest(person.skin, len(person.parents))
        kept.append(lost)
        joints = _skeleton(glb, person, up)
        roots += [joints[0] - 1, _surface(glb, person, skin, joints)]
        _animate(glb, animation, person, joints, fps)
    glb.add("animations", animation)
    extras = {"frame": "metres; the world of the recording, turned to y up", "world_up": list(up), "fps": fps}
    data = glb.packed(roots, extras)
    with atomic_path(path, force) as stump:
        stump.write_bytes(data)
    return kept


def _check(person: Rigged, path: Path) -> None:
    """Raises InputError for what no player could show."""
    if not bool(person.present.any()):
        raise InputError(f"{path}: expected frames in which {person.name} is present, found none")
    known = person.present
    numbers = {"pose": person.pose[known], "place": person.place[known], "joints": person.joints}
    for what, values in numbers.items():
        if not bool(values.isfinite().all()):
            raise InputError(f"{path}: expected finite numbers in the {what} of {person.name}, found NaN or infinity")
    if len(person.skin.index) != len(person.mesh.vertices):
        raise InputError(
            f"{path}: expected weights for the {len(person.mesh.vertices)} vertices of {person.name}, found "
            f"{len(person.skin.index)}"
        )


def strongest(skin: Skin, joints: int) -> tuple[Skin, Kept]:
    """A skin of at most INFLUENCES joints a vertex, and what was left out."""
    dense = skin.dense(joints).double()
    few = sparse(dense, INFLUENCES)
    lost = (1 - dense.gather(1, few.index).mul(few.weights > 0).sum(1) / dense.sum(1)).clamp_min(0)
    return few, Kept(int(((dense > SLIGHT).sum(1) > INFLUENCES).sum()), float(lost.mean()), float(lost.max()))


def _skeleton(glb: Glb, person: Rigged, up: Vector3) -> list[int]:
    """A node that turns up to y, and on it a node for each joint, in its first pose; the numbers of the joints."""
    first = len(glb.lists["nodes"]) + 1
    offsets, turns = _offsets(person), quaternions(person.pose[person.present][:1])[0]
    children: dict[int, list[int]] = {}
    for j, parent in enumerate(person.parents[1:], 1):
        children.setdefault(parent, []).append(first + j)
    glb.add("nodes", {"name": person.name, "rotation": _turned_to_y(up), "children": [first]})
    for j, name in enumerate(person.joint_names):
        offset = offsets[j] + (person.place[person.present][0].double().numpy() if j == 0 else 0)
        below = {"children": children[j]} if j in children else {}
        node = {"name": name, "translation": offset.tolist(), "rotation": turns[j].tolist(), **below}
        glb.add("nodes", node)
    return list(range(first, first + len(person.parents)))


def _surface(glb: Glb, person: Rigged, skin: Skin, joints: list[int]) -> int:
    """The mesh with its skin; the number of its node."""
    primitive = glb.primitive(person.mesh)
    index, weights = skin.index.numpy()[primitive.origin], skin.weights.numpy()[primitive.origin]
    filled = np.zeros((2, len(index), INFLUENCES))
    filled[0, :, : index.shape[1]], filled[1, :, : index.shape[1]] = index, weights
    primitive.entry["attributes"]["JOINTS_0"] = glb.attribute(filled[0].astype("<u2"))
    primitive.entry["attributes"]["WEIGHTS_0"] = glb.attribute(filled[1].astype("<f4"))
    inverse = np.tile(np.eye(4, dtype="<f4"), (len(joints), 1, 1))
    inverse[:, 3, :3] = -person.joints.numpy()  # column by column: the transpose
    matrices = glb.array(inverse, "MAT4")
    number = glb.add("skins", {"inverseBindMatrices": matrices, "skeleton": joints[0], "joints": joints})
    mesh = glb.add("meshes", {"name": person.name, "primitives": [primitive.entry]})
    return glb.add("nodes", {"name": f"{person.name} surface", "mesh": mesh, "skin": number})


def _animate(glb: Glb, animation: dict[str, Any], person: Rigged, joints: list[int], fps: float) -> None:
    """Keys for the rotation of each joint and the place of the root, at the frames in which somebody is present."""
    frames = person.present.nonzero()[:, 0].double().numpy()
    times = glb.array((frames / fps).astype("<f4"), "SCALAR", bounds=True)
    turns = quaternions(person.pose[person.present]).astype("<f4")
    places = (_offsets(person)[0] + person.place[person.present].double().numpy()).astype("<f4")
    keys = [(joints[0], "translation", glb.array(places, "VEC3"))]
    keys += [(node, "rotation", glb.array(turns[:, j], "VEC4")) for j, node in enumerate(joints)]
    for node, path, values in keys:
        channel = {"sampler": len(animation["samplers"]), "target": {"node": node, "path": path}}
        animation["channels"].append(channel)
        animation["samplers"].append({"input": times, "interpolation": "LINEAR", "output": values})


def _offsets(person: Rigged) -> Float64[np.ndarray, "j 3"]:
    """Where joints are at rest, seen from their parents."""
    joints = person.joints.double().numpy()
    above = np.array([joints[parent] if parent >= 0 else np.zeros(3) for parent in person.parents])
    offsets: Float64[np.ndarray, "j 3"] = joints - above
    return offsets


def quaternions(pose: Float[Tensor, "t j 3"]) -> Float64[np.ndarray, "t j 4"]:
    """Unit quaternions x y z w of axis-angle vectors. q and -q turn alike: each is that nearer to the one before, so
    that players go the short way.
    """
    vectors = pose.detach().cpu().double().numpy()
    half = np.linalg.norm(vectors, axis=-1, keepdims=True) / 2
    turns = np.concatenate([vectors / 2 * np.sinc(half / np.pi), np.cos(half)], -1)
    same = (turns[1:] * turns[:-1]).sum(-1, keepdims=True) >= 0
    signs = np.cumprod(np.where(same, 1.0, -1.0), 0)
    return np.concatenate([turns[:1], turns[1:] * signs])


def _turned_to_y(up: Vector3) -> list[float]:
    """The quaternion x y z w of the shortest turn that takes up to y; half a turn about x from straight below."""
    x, y, z = (np.array(up, np.float64) / np.linalg.norm(up)).tolist()
    turn = np.array([-z, 0.0, x, 1 + y]) if y > -1 + 1e-9 else np.array([1.0, 0.0, 0.0, 0.0])
    return [float(value) for value in turn / np.linalg.norm(turn)]
