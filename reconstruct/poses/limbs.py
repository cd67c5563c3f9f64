"""What joints can do: which way they turn, how far, and how they mostly stand.

A fit turns each joint by a small rotation from a neutral stance with the arms down. Joints are known by the keypoints
that stand on them, so that the table holds for every body. The numbers are the usual ranges of motion of anatomy,
rounded outwards, with the spread of everyday poses beside them.

Letters: J joints. Axes of a body: x to its left, y up, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.reconstruct.bodies.body import COCO, Body, rotations

Three = tuple[float, float, float]

LIMITS: dict[str, tuple[Three, Three, Three]] = {
    "shoulder": ((0.8, 0.5, 0.6), (-3.1, -1.5, -0.6), (1.0, 1.5, 3.0)),
    "hip": ((0.45, 0.2, 0.15), (-2.2, -0.8, -0.5), (0.8, 0.8, 1.0)),
    "elbow": ((0.7, 0.1, 0.05), (-0.3, -0.8, -0.2), (2.3, 0.8, 0.2)),
    "knee": ((0.6, 0.05, 0.05), (-0.1, -0.3, -0.2), (2.5, 0.3, 0.2)),
    "wrist": ((0.1, 0.1, 0.1), (-1.2, -0.8, -0.6), (1.2, 0.8, 0.6)),
    "ankle": ((0.15, 0.1, 0.1), (-0.5, -0.4, -0.4), (0.9, 0.4, 0.4)),
    "root": ((0.25, 10.0, 0.15), (-10.0, -10.0, -10.0), (10.0, 10.0, 10.0)),
    "other": ((0.1, 0.1, 0.07), (-0.5, -0.7, -0.4), (0.7, 0.7, 0.4)),
}
"""Of each joint, about three axes: the spread, the least and the most, in radians from the neutral stance. The axes are
x (positive: what hangs goes back), y (positive: to the person's left) and z (positive: outwards) for all but elbows and
knees. There they are the axis that they bend about, the bone, and the third."""

BENT = {"elbow": 0.25, "knee": 0.08}
"""How far elbows and knees are bent in the neutral stance, radians."""

SIDES = {"left": 1.0, "right": -1.0}


@dataclass(frozen=True, eq=False)
class Limbs:
    """neutral: turns of the joints in the neutral stance. axes: rows are the three axes of each joint. spread, low,
    high: of the turn from neutral about them, radians."""

    neutral: Float[Tensor, "j 3 3"]
    axes: Float[Tensor, "j 3 3"]
    spread: Float[Tensor, "j 3"]
    low: Float[Tensor, "j 3"]
    high: Float[Tensor, "j 3"]

    def cost(self, turned: Float[Tensor, "t j 3"]) -> Float[Tensor, ""]:
        """How unusual turns from neutral are, axis-angle: half a square by the spread, steep beyond the range."""
        about = torch.einsum("jab,tjb->tja", self.axes, turned)
        beyond = (self.low - about).clamp_min(0) + (about - self.high).clamp_min(0)
        return 0.5 * (about / self.spread).square().sum() + 0.5 * (beyond / 0.05).square().sum()


def limbs(body: Body) -> Limbs:
    """The table of a body. A joint that is no keypoint is an `other`: spine, neck, clavicles, toes."""
    count = len(body.parents)
    neutral, axes = torch.eye(3).repeat(count, 1, 1), torch.eye(3).repeat(count, 1, 1)
    rows = [LIMITS["other"] for _ in body.parents]
    rows[0] = LIMITS["root"]
    for side, sign in SIDES.items():
        for name in ("shoulder", "hip", "elbow", "knee", "wrist", "ankle"):
            joint = int(body.keypoints[COCO.index(f"{side}_{name}")])
            if joint >= count:
                continue
            rows[joint] = LIMITS[name]
            axes[joint] = torch.diag(torch.tensor([1.0, sign, sign]))
    for side in SIDES:
        for chain in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
            _limb(body, side, chain, neutral, axes)
    spread, low, high = torch.tensor(rows).unbind(1)
    return Limbs(neutral, axes, spread, low, high)


def _limb(body: Body, side: str, chain: tuple[str, str, str], neutral: Tensor, axes: Tensor) -> None:
    """An arm or leg, hanging down: its upper bone all but vertical, its hinge a little bent about its own axis."""
    upper, hinge, end = (int(body.keypoints[COCO.index(f"{side}_{name}")]) for name in chain)
    if max(upper, hinge, end) >= len(body.parents):
        return
    first, second = (
        torch.nn.functional.normalize(body.joints[b] - body.joints[a], dim=0) for a, b in ((upper, hinge), (hinge, end))
    )
    arm = chain[1] == "elbow"
    down = torch.nn.functional.normalize(torch.tensor([SIDES[side] * (0.2 if arm else 0.08), -1.0, 0.0]), dim=0)
    neutral[upper] = between(first, down)
    # An arm bends forward, a leg back: about the axis that takes the upper bone there.
    forward = torch.tensor([0.0, 0.0, 1.0 if arm else -1.0])
    axis = torch.nn.functional.normalize(torch.linalg.cross(first, forward), dim=0)
    neutral[hinge] = rotations(axis * BENT[chain[1]]) @ between(second, first)
    axes[hinge] = torch.stack([axis, first, torch.linalg.cross(axis, first)])


def between(a: Float[Tensor, " 3"], b: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """The shortest rotation that takes the direction of `a` to that of `b`."""
    a, b = torch.nn.functional.normalize(a, dim=0), torch.nn.functional.normalize(b, dim=0)
    axis = torch.linalg.cross(a, b)
    angle = torch.atan2(axis.norm(), a @ b)
    return rotations(torch.nn.functional.normalize(axis, dim=0) * angle)
