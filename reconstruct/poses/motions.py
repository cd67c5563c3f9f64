"""The motion of one person that a fit looks for: all frames together, and what motions are likely at all.

A cost is minus the logarithm of a likelihood: half a square by a spread. Data of any kind (keypoints, silhouettes) add
theirs to what is here: people accelerate little, joints turn as joints can, shapes are normally distributed, and some
foot is mostly on the floor.

Letters: T frames, J joints, S numbers of shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldcast.fields.progress import Progress
from fieldcast.reconstruct.bodies.body import COCO, Body, Posed, axis_angles, rotations
from fieldcast.reconstruct.poses.limbs import Limbs, limbs
from fieldcast.reconstruct.poses.puppets import Puppet
from fieldcast.reconstruct.poses.starts import upright
from fieldcast.reconstruct.recordings.recording import Person

ACCELERATION = 4.0
"""Of places, metres a second squared; of what people do slowly enough for a video."""
TWIST, SWING = 20.0, 60.0
"""Of the whole body and of joints, radians a second squared."""
STEP = 0.03
"""Metres by which the lower foot is off the floor."""


@dataclass(eq=False)
class Motion:
    """turned: of each joint from the neutral stance, of the root from its start, axis-angle. floor: metres along up."""

    body: Puppet
    up: Float[Tensor, " 3"]
    start: Float[Tensor, "t 3 3"]
    turned: Float[Tensor, "t j 3"]
    place: Float[Tensor, "t 3"]
    shape: Float[Tensor, " s"]
    floor: Float[Tensor, ""]
    table: Limbs

    @property
    def turns(self) -> Float[Tensor, "t j 3 3"]:
        """Of each joint within its parent's."""
        change = rotations(self.turned)
        root = self.start @ change[:, :1].squeeze(1)
        return torch.cat([root[:, None], change[:, 1:] @ self.table.neutral[1:]], 1)

    def posed(self) -> tuple[Posed, Float[Tensor, "t 3 3"]]:
        """The body in the world, and the turn of its root."""
        turns = self.turns
        return self.body.at(self.shape, turns, self.place), turns[:, 0]

    def person(self, body: Body, name: str, present: Bool[Tensor, " t"]) -> Person:
        """What was found."""
        with torch.no_grad():
            return Person(name, body, self.shape.detach(), axis_angles(self.turns), self.place.detach(), present)


def motion(body: Body, up: Float[Tensor, " 3"], yaw: Float[Tensor, " t"], place: Float[Tensor, "t 3"]) -> Motion:
    """A body of mean shape that stands neutrally, facing `yaw`, at places. body: with the points that are looked at."""
    turned = torch.zeros(len(yaw), len(body.parents), 3)
    table = limbs(body)
    start = upright(up, yaw)
    found = Motion(Puppet(body), up, start, turned, place.clone(), torch.zeros(body.shapes), torch.zeros(()), table)
    found.floor = _soles(found, found.posed()[0]).amin(1).median()
    return found


def _soles(motion: Motion, posed: Posed) -> Float[Tensor, "t 2"]:
    """How high the soles are along up: the ankles, less their height above the ground at rest."""
    ankles = motion.body.body.keypoints[[COCO.index("left_ankle"), COCO.index("right_ankle")]]
    every = torch.cat([posed.joints, posed.vertices], 1)[:, ankles]
    at_rest = torch.cat(motion.body.body.at_rest(motion.shape)[::-1])[ankles, 1]
    return every @ motion.up - at_rest


def likely(motion: Motion, posed: Posed, root: Float[Tensor, "t 3 3"], fps: float, floor: bool) -> Float[Tensor, ""]:
    """The cost of a motion before anything is seen of it."""
    total = motion.table.cost(motion.turned) + 0.5 * motion.shape.square().sum()
    if len(root) > 2:
        total = total + _bends(posed.joints[:, 0], ACCELERATION / fps**2) + _bends(root.flatten(1), TWIST / fps**2)
        total = total + _bends(motion.turned[:, 1:].flatten(1), SWING / fps**2)
    if floor:
        above = _soles(motion, posed).amin(1) - motion.floor
        # Below the floor is wrong, above it is a jump: the cost stops growing.
        off = 0.5 * (above / STEP).square()
        total = total + torch.where(above < 0, off, off / (1 + off / 4)).sum()
    return total


def _bends(values: Float[Tensor, "t n"], spread: float) -> Float[Tensor, ""]:
    """The cost of second differences."""
    return 0.5 * (values.diff(n=2, dim=0) / spread).square().sum()


Data = Callable[[Posed, float], Tensor]
"""The cost of what is seen, given the body in the world and the share of the fit that is done, 0 to 1."""


@dataclass(frozen=True)
class Fit:
    """steps: of Adam. fps: frames a second. floor: whether feet keep to a common floor; needs to know what is up."""

    steps: int = 300
    fps: float = 24.0
    floor: bool = True


def fitted(motion: Motion, data: Data, fit: Fit, progress: Progress, note: str) -> None:
    """Changes a motion until it is the likeliest, given what is seen. Adam (Kingma and Ba 2015), slower to the end."""
    rates = {"place": 0.02, "turned": 0.03, "shape": 0.05, "floor": 0.01}
    for name in rates:
        getattr(motion, name).requires_grad_(True)
    adam = torch.optim.Adam([{"params": [getattr(motion, n)], "lr": r} for n, r in rates.items()], betas=(0.9, 0.98))
    slower = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: 0.02 + 0.49 * (1 + math.cos(math.pi * i / fit.steps)))
    for step in range(fit.steps):
        adam.zero_grad()
        posed, root = motion.posed()
        cost = data(posed, step / fit.steps) + likely(motion, posed, root, fit.fps, fit.floor)
        cost.backward()
        adam.step()
        slower.step()
        if step % 20 == 0:
            progress(step, fit.steps, f"{note}: cost {float(cost.detach()) / len(root):.1f} a frame")
