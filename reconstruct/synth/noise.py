"""Poses as a program would guess them from a video: true ones with errors of a known size.

Letters: T frames, J joints, S numbers of shape.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64

from fieldcast.reconstruct.bodies.body import axis_angles, rotations
from fieldcast.reconstruct.recordings.recording import Person

SLOW = (0.05, 0.6)  # Hz, of what drifts
WAVES = 8


@dataclass(frozen=True)
class Noise:
    """root: of the place, the standard deviation along each axis, metres. joints: of the turn of each joint, the root's
    too, about each axis, degrees. shape: of each number of shape; None hands out zeros, as if nobody knew. drift:
    errors change slowly, instead of being independent from frame to frame.
    """

    root: float = 0.04
    joints: float = 5.0
    shape: float | None = 0.3
    drift: bool = False


def noisy(person: Person, noise: Noise, fps: float, rng: np.random.Generator) -> Person:
    """The same person, as somebody guesses them."""
    t, joints = len(person.pose), person.pose.shape[1]
    draw = _drifting if noise.drift else _independent
    moved = noise.root * draw((t, 3), fps, rng)
    turned = np.radians(noise.joints) * draw((t, joints, 3), fps, rng)
    wrong = rng.standard_normal(len(person.shape))
    pose = axis_angles(rotations(torch.from_numpy(turned)) @ rotations(person.pose.double())).float()
    shape = (
        torch.zeros_like(person.shape)
        if noise.shape is None
        else person.shape + noise.shape * torch.from_numpy(wrong).float()
    )
    return replace(person, shape=shape, pose=pose, place=person.place + torch.from_numpy(moved).float())


def _independent(shape: tuple[int, ...], fps: float, rng: np.random.Generator) -> Float64[np.ndarray, "..."]:
    """Of variance 1, each number by itself."""
    return rng.standard_normal(shape)


def _drifting(shape: tuple[int, ...], fps: float, rng: np.random.Generator) -> Float64[np.ndarray, "..."]:
    """Of variance 1 over all that may be drawn: sums of slow waves along the first axis."""
    hertz, phase = rng.uniform(*SLOW, (WAVES, *shape[1:])), rng.uniform(0, 2 * np.pi, (WAVES, *shape[1:]))
    times = (np.arange(shape[0]) / fps).reshape(-1, *[1] * len(shape))
    return np.asarray(np.sqrt(2 / WAVES) * np.cos(2 * np.pi * hertz * times + phase).sum(1))
