"""A body and how it is moved: linear blend skinning (SMPL, Loper et al. 2015, sections 3.1 to 3.3).

All bodies are the same data; where it comes from is the business of the readers beside this file. A body at rest has y
up, faces +z, has its left at +x, and stands on y = 0; units are metres. It may stand in any pose at rest. Files of the
SMPL family keep their own origin, near the pelvis.

A pose is an axis-angle vector for each joint, the root first, about the axes of the body at rest: joint j turns what
hangs on it about its own place at rest, by rotations in the frame of its parent's turn.

Letters: V vertices, F faces, J joints, S numbers of shape, K weights a vertex, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.errors import InputError

COCO = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"),
    "right_ankle",
)
"""The 17 keypoints of COCO, in its order."""


@dataclass(frozen=True, eq=False)
class Body:
    """name: what `open_body` finds it by. joint_names, parents: J; the root's parent is -1, and parents come first.

    vertices: at rest with a shape of zeros; shape_directions: what each number of shape adds. joints and
    joint_directions: the same of the places of the joints. weight_index, weights: which joints move a vertex and how
    much each; weights add up to 1. keypoints: for each of COCO's, the number of a joint, or J and the number of a
    vertex. pose_directions: what the rotation matrices of all joints but the root, less the identity, row by row, add
    to the vertices (SMPL), or None. uv: texture coordinates of each face's corners, v downwards, or None.
    """

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    vertices: Float[Tensor, "v 3"]
    shape_directions: Float[Tensor, "v 3 s"]
    joints: Float[Tensor, "j 3"]
    joint_directions: Float[Tensor, "j 3 s"]
    faces: Int64[Tensor, "f 3"]
    weight_index: Int64[Tensor, "v k"]
    weights: Float[Tensor, "v k"]
    keypoints: Int64[Tensor, " 17"]
    pose_directions: Float[Tensor, "v 3 p"] | None = None
    uv: Float[Tensor, "f 3 2"] | None = None

    @property
    def shapes(self) -> int:
        """S."""
        return self.shape_directions.shape[-1]

    def to(self, device: torch.device | str) -> Body:
        """The same body on another device."""
        moved: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def check(self, shape: Tensor, pose: Tensor, place: Tensor, what: str) -> None:
        """Raises InputError unless these are what `posed` takes: lengths that fit, and finite. what: whose they are."""
        joints, frames = len(self.parents), pose.shape[0] if pose.ndim else 0
        for name, found, expected, meaning in (
            ("shape", shape, [self.shapes], "numbers of shape"),
            ("pose", pose, [frames, joints, 3], "frames, joints, axis-angle"),
            ("place", place, [frames, 3], "frames of the pose, xyz"),
        ):
            if list(found.shape) != expected:
                takes = f"expected {expected} ({meaning}) for the body {self.name}, found {list(found.shape)}"
                raise InputError(f"{what}: {name}: {takes}")
            bad = (~torch.isfinite(found)).nonzero()
            if len(bad):
                first = "number" if name == "shape" else "frame"
                takes = f"expected finite numbers, found {len(bad)} that are NaN or infinite"
                raise InputError(f"{what}: {name}: {takes}, first in {first} {int(bad[0, 0])}")

    def at_rest(self, shape: Float[Tensor, " s"]) -> tuple[Float[Tensor, "v 3"], Float[Tensor, "j 3"]]:
        """The vertices and joints of a shape, at rest."""
        return self.vertices + self.shape_directions @ shape, self.joints + self.joint_directions @ shape

    def transforms(
        self, shape: Float[Tensor, " s"], pose: Float[Tensor, "t j 3"], place: Float[Tensor, "t 3"]
    ) -> Float[Tensor, "t j 3 4"]:
        """world_from_rest of each joint. place: added to everything after posing; the root joint turns in its place."""
        _, joints = self.at_rest(shape)
        return chained(joints, rotations(pose), self.parents, place)

    def posed(self, shape: Float[Tensor, " s"], pose: Float[Tensor, "t j 3"], place: Float[Tensor, "t 3"]) -> Posed:
        """The body in the world, frame by frame."""
        vertices, joints = self.at_rest(shape)
        turns = rotations(pose)
        transforms = chained(joints, turns, self.parents, place)
        found = vertices.expand(len(pose), -1, -1)
        if self.pose_directions is not None:
            bent = turns[:, 1:] - torch.eye(3, dtype=turns.dtype, device=turns.device)
            found = found + torch.einsum("vxp,tp->tvx", self.pose_directions, bent.flatten(1))
        return Posed(
            skinned(found, transforms, self.weight_index, self.weights),
            moved_by(transforms, joints.expand(len(pose), -1, -1)),
            self.keypoints,
        )


@dataclass(frozen=True, eq=False)
class Posed:
    """vertices and joints in the world, metres; landmarks: COCO's keypoints."""

    vertices: Float[Tensor, "t v 3"]
    joints: Float[Tensor, "t j 3"]
    keypoints: Int64[Tensor, " 17"]

    @property
    def landmarks(self) -> Float[Tensor, "t 17 3"]:
        marks: Tensor = torch.cat([self.joints, self.vertices], 1)[:, self.keypoints]
        return marks


def rotations(axis_angle: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices of axis-angle vectors (Rodrigues), with finite gradients at zero."""
    square = axis_angle.square().sum(-1)
    small = square < 1e-8
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / angle.square())
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    turns: Tensor = eye + a[..., None, None] * cross + b[..., None, None] * (cross @ cross)
    return turns


def axis_angles(turns: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3"]:
    """The inverse of `rotations`, with angles from 0 to pi."""
    from scipy.spatial.transform import Rotation

    flat = turns.detach().cpu().double().reshape(-1, 3, 3).numpy()
    vectors = torch.from_numpy(Rotation.from_matrix(flat).as_rotvec())
    return vectors.reshape(*turns.shape[:-1]).to(turns)


def chained(
    joints: Float[Tensor, "j 3"], turns: Float[Tensor, "t j 3 3"], parents: tuple[int, ...], place: Float[Tensor, "t 3"]
) -> Float[Tensor, "t j 3 4"]:
    """world_from_rest of each joint: turned about its place at rest, within its parent's turn."""
    found: list[Tensor] = []
    for j, parent in enumerate(parents):
        turn, shift = turns[:, j], joints[j] - turns[:, j] @ joints[j]
        if parent >= 0:
            above = found[parent]
            shift = (above[:, :, :3] @ shift[..., None])[..., 0] + above[:, :, 3]
            turn = above[:, :, :3] @ turn
        found.append(torch.cat([turn, shift[..., None]], -1))
    every = torch.stack(found, 1)
    moved = every[..., 3] + place[:, None]
    return torch.cat([every[..., :3], moved[..., None]], -1)


def skinned(
    vertices: Float[Tensor, "t v 3"],
    transforms: Float[Tensor, "t j 3 4"],
    index: Int64[Tensor, "v k"],
    weights: Float[Tensor, "v k"],
) -> Float[Tensor, "t v 3"]:
    """Linear blend skinning: each vertex by the weighted mean of its joints' transforms."""
    return moved_by(blended(transforms, index, weights), vertices)


def blended(
    transforms: Float[Tensor, "t j 3 4"], index: Int64[Tensor, "v k"], weights: Float[Tensor, "v k"]
) -> Float[Tensor, "t v 3 4"]:
    """The weighted means of transforms, one a vertex."""
    dense = weights.new_zeros(len(index), transforms.shape[1]).scatter_add(1, index, weights)
    mixed: Tensor = torch.einsum("vj,tjn->tvn", dense, transforms.flatten(2)).unflatten(-1, (3, 4))
    return mixed


def moved_by(transforms: Float[Tensor, "*n 3 4"], points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Points, each by its own transform."""
    moved: Tensor = (transforms[..., :3] @ points[..., None])[..., 0] + transforms[..., 3]
    return moved
