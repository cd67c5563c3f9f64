"""A body with only the points that a fit looks at, moved level by level of its tree of joints, in about a millisecond.

`Body.posed` is the plain reference: it goes joint by joint and moves every vertex.

Letters: T frames, J joints, S numbers of shape, N points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.reconstruct.bodies.body import Body, Posed, blended, moved_by


def sparse(body: Body, vertices: Int64[Tensor, " n"]) -> Body:
    """The same body with no faces and only some vertices: the given ones, in front of them those that are keypoints."""
    joints = len(body.parents)
    marks = body.keypoints[body.keypoints >= joints] - joints
    kept = torch.cat([marks, vertices])
    keypoints = body.keypoints.clone()
    keypoints[keypoints >= joints] = joints + torch.arange(len(marks))
    return replace(
        body,
        vertices=body.vertices[kept],
        shape_directions=body.shape_directions[kept],
        faces=body.faces[:0],
        weight_index=body.weight_index[kept],
        weights=body.weights[kept],
        pose_directions=None if body.pose_directions is None else body.pose_directions[kept],
        keypoints=keypoints,
        uv=None,
    )


def landmarks_only(body: Body) -> Body:
    """The body with no vertices but those that are keypoints."""
    return sparse(body, torch.zeros(0, dtype=torch.int64))


@dataclass(frozen=True, eq=False)
class Levels:
    """steps: for each depth below the root its joints, and where in the depth above their parents are. back: where each
    joint is when the joints of all depths follow each other."""

    steps: tuple[tuple[Int64[Tensor, " _"], Int64[Tensor, " _"]], ...]
    back: Int64[Tensor, " j"]


@cache
def levels(parents: tuple[int, ...]) -> Levels:
    """A tree of joints, by depth."""
    depth: list[int] = []
    for parent in parents:
        depth.append(depth[parent] + 1 if parent >= 0 else 0)
    every = [[j for j, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]
    steps = [(below, [above.index(parents[j]) for j in below]) for above, below in pairwise(every)]
    return Levels(
        tuple((torch.tensor(a), torch.tensor(b)) for a, b in steps),
        torch.tensor([*chain.from_iterable(every)]).argsort(),
    )


@dataclass(frozen=True, eq=False)
class Puppet:
    """A body, posed by rotation matrices instead of axis-angle vectors."""

    body: Body

    def at(self, shape: Float[Tensor, " s"], turns: Float[Tensor, "t j 3 3"], place: Float[Tensor, "t 3"]) -> Posed:
        """The body in the world. turns: of each joint about its place, within its parent's turn."""
        vertices, joints = self.body.at_rest(shape)
        transforms = chained_by_level(joints, turns, self.body.parents, place)
        found = vertices.expand(len(turns), -1, -1)
        if self.body.pose_directions is not None:
            bent = turns[:, 1:] - torch.eye(3, dtype=turns.dtype)
            found = found + torch.einsum("vxp,tp->tvx", self.body.pose_directions, bent.flatten(1))
        mixed = blended(transforms, self.body.weight_index, self.body.weights)
        return Posed(
            moved_by(mixed, found), moved_by(transforms, joints.expand(len(turns), -1, -1)), self.body.keypoints
        )


def chained_by_level(
    joints: Float[Tensor, "j 3"], turns: Float[Tensor, "t j 3 3"], parents: tuple[int, ...], place: Float[Tensor, "t 3"]
) -> Float[Tensor, "t j 3 4"]:
    """What `chained` of the bodies computes, for all joints of one depth at once."""
    tree = levels(parents)
    bones = joints - joints[[0, *parents[1:]]]
    local = torch.cat([turns, bones.expand(len(turns), -1, -1)[..., None]], -1)
    above = torch.cat([turns[:, :1], (joints[:1] + place[:, None])[..., None]], -1)
    found = [above]
    for joints_, rows in tree.steps:
        turn = above[:, rows]
        below = turn[..., :3] @ local[:, joints_]
        above = torch.cat([below[..., :3], below[..., 3:] + turn[..., 3:]], -1)
        found.append(above)
    every = torch.cat(found, 1)[:, tree.back]
    shift = every[..., 3:] - every[..., :3] @ joints[..., None]
    return torch.cat([every[..., :3], shift], -1)
