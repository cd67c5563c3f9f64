"""How people walk: legs swing in turns, knees bend, arms swing against the legs.

A gait is a rough picture of a walk to begin a fit with. The rate of steps grows with the root of the speed (Grieve and
Gear 1966), and how far legs swing with what is left. Which foot is where follows from trying phases.

Letters: T frames, J joints.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.reconstruct.bodies.body import COCO, Body

RATE, SPEED = 0.95, 1.2  # pairs of steps a second at metres a second
STANDS = 0.3  # metres a second below which nobody walks
THIGH, KNEE, ARM = 0.42, 0.45, 0.3  # radians to either side, at that speed
BEND = 0.12  # by which knees are bent more than in the neutral stance, mean
RATES = (0.85, 1.0, 1.18)
PHASES = 12


def walked(speed: Float[Tensor, " t"], fps: float, rate: float, phase: float) -> Float[Tensor, " t"]:
    """The phase of the left leg, radians, of somebody who moves at `speed` metres a second."""
    pairs = rate * RATE * (speed / SPEED).clamp_min(0).sqrt()
    return 2 * math.pi * torch.cumsum(pairs / fps, 0) + phase


def gait(body: Body, phase: Float[Tensor, " t"], speed: Float[Tensor, " t"]) -> Float[Tensor, "t j 3"]:
    """Turns of joints from the neutral stance, axis-angle. phase: at a quarter turn the left leg is most forward."""
    from fieldcast.reconstruct.poses.limbs import limbs

    axes, much = limbs(body).axes, (speed / SPEED).clamp(0, 1.3).sqrt()
    turned = torch.zeros(len(phase), len(body.parents), 3)
    for side, own in (("left", phase), ("right", phase + math.pi)):
        swings = {
            "hip": -THIGH * own.sin(),
            "knee": BEND + KNEE * (1 - (own + 0.9).cos()) / 2,
            "shoulder": ARM * own.sin(),
            "elbow": torch.full_like(own, 0.2),
        }
        for name, angle in swings.items():
            joint = int(body.keypoints[COCO.index(f"{side}_{name}")])
            if joint < len(body.parents):
                turned[:, joint] = (much * angle)[:, None] * axes[joint, 0]
    return turned


def in_step(
    body: Body, speed: Float[Tensor, " t"], fps: float, cost: Callable[[Float[Tensor, "t j 3"]], Tensor]
) -> Float[Tensor, "t j 3"]:
    """The gait that costs least: nothing but the neutral stance for somebody who stands.

    Of somebody who is seen from the side, left and right legs exchanged cost nearly the same.
    """
    if float(speed.median()) < STANDS:
        return torch.zeros(len(speed), len(body.parents), 3)
    phases = [2 * math.pi * k / PHASES for k in range(PHASES)]
    tried = [gait(body, walked(speed, fps, rate, phase), speed) for rate in RATES for phase in phases]
    return min(tried, key=lambda turned: float(cost(turned)))
