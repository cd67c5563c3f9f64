"""Steps along a path: feet stand where they were put, and swing to where the body will be.

A path says where somebody is on the ground and which way they face, at any time, also before and after a clip. Steps
alternate as their phase goes up: by 1 a step, faster where people are faster. Left feet swing while the phase is in
[2k, 2k + 1], right ones in [2k + 1, 2k + 2], SWING of it each, so that for a while both stand.

Letters: T times in seconds, D closer ones. Metres, radians. Heading 0 faces +z; it grows towards +x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.interpolate import PchipInterpolator

Times = Float64[np.ndarray, " t"]
Dense = Float64[np.ndarray, " d"]
Ground = Float64[np.ndarray, "t 2"]

CADENCE = 1.85  # steps a second at 1.2 m/s; it goes with the root of the speed, as step length does
SWING = (0.08, 0.92)
MARGIN, RATE = 2.0, 200  # seconds that are planned before and after, moments a second
TURNING = 0.6  # metres of walking that a radian of turning is worth
LIFT = 0.07
ROLL = ((0.0, 26), (0.1, 32), (0.45, 5), (0.75, -12), (0.92, -14), (1.2, 0), (1.5, 0), (1.8, 12), (2.0, 26))
"""Of a phase of the own foot, the degrees that its toes point down."""


@dataclass(frozen=True)
class Path:
    """position: x and z at times; heading: the way somebody faces."""

    position: Callable[[Times], Ground]
    heading: Callable[[Times], Times]


@dataclass(frozen=True, eq=False)
class Gait:
    """phase: of the steps. effort: 0 standing to 1 walking. feet: where the left and the right foot stand on the
    ground, below their ankles; headings and pitch: how they are turned, toes down; lift: how high they are carried.
    """

    phase: Times
    effort: Times
    feet: Float64[np.ndarray, "t 2 2"]
    headings: Float64[np.ndarray, "t 2"]
    pitch: Float64[np.ndarray, "t 2"]
    lift: Float64[np.ndarray, "t 2"]


def walk(path: Path, times: Times, width: float) -> Gait:
    """The steps of somebody whose feet stand `width` apart."""
    dense = np.arange(times.min() - MARGIN, times.max() + MARGIN, 1 / RATE)
    speed = _speed(path, dense)
    phases = _phases(speed)
    phase, effort = np.interp(times, dense, phases), np.interp(times, dense, np.clip(speed / 0.9, 0, 1))
    parts = [_foot(path, (dense, phases), phase, side, width) for side in (0, 1)]
    roll = PchipInterpolator(*np.array(ROLL).T)
    pitch = np.stack([np.radians(roll((phase - side) % 2)) * effort for side in (0, 1)], -1)
    feet, headings, lift = (np.stack(part, 1) for part in zip(*parts, strict=True))
    return Gait(phase, effort, feet, headings, pitch, lift * np.maximum(effort, 0.5)[:, None])


def _speed(path: Path, dense: Dense) -> Dense:
    """How fast somebody moves and turns, together, in metres a second."""
    moved = np.hypot(*np.gradient(path.position(dense), 1 / RATE, axis=0).T)
    return np.asarray(np.hypot(moved, TURNING * np.gradient(path.heading(dense), 1 / RATE)))


def _phases(speed: Dense) -> Dense:
    """The phase at each moment, ending on a whole number, so that who stops has both feet on the ground."""
    rate = CADENCE * np.sqrt(speed / 1.2)
    phases = np.cumsum(rate) / RATE
    total = max(round(float(phases[-1])), 1)
    return np.asarray(phases * total / max(phases[-1], 1e-9) if phases[-1] > 0.5 else 0 * phases)


def _foot(path: Path, plan: tuple[Dense, Dense], phase: Times, side: int, width: float) -> tuple[Ground, Times, Times]:
    """Where a foot is, how it is turned and how high it is carried. side: 0 left, 1 right."""
    step = np.floor((phase - side) / 2)  # the pair of steps that is under way
    own = phase - side - 2 * step
    part = np.clip((own - SWING[0]) / (SWING[1] - SWING[0]), 0, 1)
    eased = part * part * part * (part * (6 * part - 15) + 10)
    old, new = (_planted(path, plan, 2 * (step + k) + side + 1.5, side, width) for k in (-1, 0))
    mixed = old + eased[:, None] * (new - old)
    return mixed[:, :2], mixed[:, 2], LIFT * np.sin(math.pi * part) ** 2


def _planted(
    path: Path, plan: tuple[Dense, Dense], phase: Times, side: int, width: float
) -> Float64[np.ndarray, "t 3"]:
    """x, z and heading of a foot that stands: beside the body when that is right above it."""
    dense, phases = plan
    rising = phases + 1e-9 * np.arange(len(phases))
    when = np.interp(phase, rising, dense)
    heading, sign = path.heading(when), (1 - 2 * side)
    across = np.stack([np.cos(heading), -np.sin(heading)], -1)
    place = path.position(when) + sign * width / 2 * across
    return np.concatenate([place, (heading + sign * math.radians(6))[:, None]], 1)
