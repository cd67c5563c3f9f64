"""How somebody moves: a body walks along a path, turns, stands, and reaches with its hands for where it is told.

Feet and hands are led, and arms and legs follow (`limbs`); the trunk turns against the legs, as it does when people
walk. For bodies with the names of MakeHuman's joints. Heading 0 faces +z and grows towards +x.

Letters: T frames, J joints, S numbers of shape. Metres and radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fieldcast.reconstruct.bodies.body import Body, axis_angles
from fieldcast.reconstruct.synth.limbs import Limb, Place, Places, Turns, about, reach, unit
from fieldcast.reconstruct.synth.steps import Gait, Path, walk

SIDES = ("l", "r")
FOLD = 0.8  # radians, of hands that reach, inwards
SOLE = 0.012  # what shoes add below the foot


@dataclass(frozen=True, eq=False)
class Plan:
    """What somebody does at T times, in seconds. hands: where the left and the right hand are wanted, in the world, and
    reaching: how much, 0 (the arm swings beside the body) to 1. gaze: the way the head is turned, to the left of the
    body. lean: how far the trunk is bent forwards.
    """

    times: Float64[np.ndarray, " t"]
    path: Path
    hands: Float64[np.ndarray, "t 2 3"]
    reaching: Float64[np.ndarray, "t 2"]
    gaze: Float64[np.ndarray, " t"]
    lean: Float64[np.ndarray, " t"]


@dataclass(frozen=True, eq=False)
class Rig:
    """A body of some shape at rest. joints: places by name, above the ground that it stands on."""

    body: Body
    places: Float64[np.ndarray, "j 3"]

    @classmethod
    def of(cls, body: Body, shape: Float[Tensor, " s"]) -> Rig:
        vertices, joints = body.at_rest(shape)
        ground = torch.tensor([0.0, float(vertices[:, 1].min()) - SOLE, 0.0])
        return cls(body, (joints - ground).double().numpy())

    def number(self, name: str) -> int:
        return self.body.joint_names.index(name)

    def __getitem__(self, name: str) -> Place:
        return np.asarray(self.places[self.number(name)])

    def limb(self, *names: str) -> Limb:
        return Limb(*(self[name] for name in names))

    @cached_property
    def size(self) -> float:
        """How tall, next to the body whose shape is zeros."""
        return float(self["head"][1] / 1.56)


def perform(body: Body, shape: Float[Tensor, " s"], plan: Plan) -> tuple[Float[Tensor, "t j 3"], Float[Tensor, "t 3"]]:
    """The pose and the place of a body that does what is planned."""
    rig = Rig.of(body, shape)
    gait = walk(plan.path, plan.times, 0.2 * rig.size)
    pelvis = _pelvis(rig, plan, gait)
    local = np.tile(np.eye(3), (len(plan.times), len(body.parents), 1, 1))
    _trunk(rig, local, plan, gait)
    for side in (0, 1):
        _leg(rig, local, pelvis, gait, side)
        _arm(rig, local, pelvis, plan, gait, side)
    pose = axis_angles(torch.from_numpy(local)).float()
    lowered = torch.from_numpy(pelvis).float() - body.at_rest(shape)[1][0]
    return pose, lowered


def _pelvis(rig: Rig, plan: Plan, gait: Gait) -> Places:
    """Where the pelvis is: over the path, over the foot that stands, lowest when both feet do."""
    heading = plan.path.heading(plan.times)
    sway = -0.018 * rig.size * gait.effort * np.sin(math.pi * gait.phase)
    ground = plan.path.position(plan.times) + sway[:, None] * np.stack([np.cos(heading), -np.sin(heading)], -1)
    bob = 0.013 * np.cos(2 * math.pi * gait.phase)
    height = rig["pelvis"][1] - rig.size * (0.01 + gait.effort * (0.018 + bob))
    return np.stack([ground[:, 0], height, ground[:, 1]], -1)


def _trunk(rig: Rig, local: Float64[np.ndarray, "t j 3 3"], plan: Plan, gait: Gait) -> None:
    """Turns the pelvis, the spine, the neck and the head."""
    swing = gait.effort * np.cos(math.pi * gait.phase)
    breath = np.sin(2 * math.pi * 0.3 * plan.times)
    heading, lean = plan.path.heading(plan.times), plan.lean + math.radians(2) * gait.effort
    local[:, 0] = about("y", heading + math.radians(5) * swing) @ about("x", 0.25 * lean)
    for name in ("spine_01", "spine_02", "spine_03"):
        local[:, rig.number(name)] = about("y", -math.radians(4) * swing) @ about(
            "x", 0.3 * lean + math.radians(0.4) * breath
        )
    level = about("x", -0.4 * lean) @ about("y", 0.45 * plan.gaze + math.radians(3) * swing)
    local[:, rig.number("neck_01")] = local[:, rig.number("head")] = level


def _leg(rig: Rig, local: Float64[np.ndarray, "t j 3 3"], pelvis: Places, gait: Gait, side: int) -> None:
    """Bends a leg so that its foot is where the step has it."""
    thigh, calf, foot, ball = (f"{part}_{SIDES[side]}" for part in ("thigh", "calf", "foot", "ball"))
    limb = rig.limb(thigh, calf, foot)
    turned = about("y", gait.headings[:, side])
    rolled = turned @ about("x", gait.pitch[:, side])
    flat = np.stack([gait.feet[:, side, 0], np.full_like(gait.phase, limb.end[1]), gait.feet[:, side, 1]], -1)
    toes, heel = rig[ball] - limb.end, np.array([0, -limb.end[1], -0.05 * rig.size])
    pivot = np.where(gait.pitch[:, side, None] > 0, toes, heel)  # that of both which is on the ground
    ankle = flat + _by(turned, pivot) - _by(rolled, pivot) + gait.lift[:, side, None] * [0, 1, 0]
    start = pelvis + _by(local[:, 0], limb.start - rig["pelvis"])
    upper, lower = reach(limb, start, ankle, turned[:, :, 2])
    _set(rig, local, (thigh, calf, foot), local[:, 0], (upper, lower, rolled))
    local[:, rig.number(ball)] = about("x", -np.maximum(gait.pitch[:, side], 0))


def _arm(rig: Rig, local: Float64[np.ndarray, "t j 3 3"], pelvis: Places, plan: Plan, gait: Gait, side: int) -> None:
    """Bends an arm so that its hand is where it is wanted, or beside the body, swinging against the legs."""
    names = tuple(f"{part}_{SIDES[side]}" for part in ("upperarm", "lowerarm", "hand"))
    limb, sign = rig.limb(*names), 1 - 2 * side
    chest, start = _shoulder(rig, local, pelvis, names[0])
    swing = math.radians(4) + sign * math.radians(24) * gait.effort * np.cos(math.pi * gait.phase)
    down = np.stack([np.full_like(swing, sign * 0.16), -np.cos(swing), np.sin(swing)], -1)
    hanging = start + (0.94 - 0.03 * gait.effort[:, None]) * limb.length * _each(chest, unit(down))
    much = plan.reaching[:, side, None]
    target = hanging + much * (plan.hands[:, side] - hanging)
    back, out = _by(chest, np.array([0.25 * sign, 0, -1.0])), _by(chest, np.array([0.9 * sign, -0.7, -0.25]))
    upper, lower = reach(limb, start, target, back + much * (out - back))
    held = about("y", -sign * FOLD * plan.reaching[:, side]) @ lower  # a hand that reaches closes round what it holds
    _set(rig, local, names, chest, (upper, lower, held))


def _shoulder(rig: Rig, local: Float64[np.ndarray, "t j 3 3"], pelvis: Places, name: str) -> tuple[Turns, Places]:
    """How the joint above an arm is turned in the world, and where the arm begins."""
    chain, joint = [], rig.number(name)
    while joint >= 0:
        chain.append(joint)
        joint = rig.body.parents[joint]
    turn, place, last = local[:, 0], pelvis, 0
    for joint in reversed(chain[:-1]):
        place = place + _by(turn, rig.places[joint] - rig.places[last])
        last = joint
        if joint != chain[0]:
            turn = turn @ local[:, joint]
    return turn, place


def _set(
    rig: Rig,
    local: Float64[np.ndarray, "t j 3 3"],
    names: tuple[str, ...],
    above: Turns,
    turns: tuple[Turns, ...],
) -> None:
    """Puts turns of the world into the frames of their parents."""
    for name, turn in zip(names, turns, strict=True):
        local[:, rig.number(name)] = above.transpose(0, 2, 1) @ turn
        above = turn


def _by(turns: Turns, vector: Float64[np.ndarray, "*t 3"]) -> Places:
    """A vector, or one a frame, turned."""
    return _each(turns, np.broadcast_to(vector, (len(turns), 3)))


def _each(turns: Turns, vectors: Places) -> Places:
    return np.asarray(np.einsum("tij,tj->ti", turns, vectors))
