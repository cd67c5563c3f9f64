"""What happens in a scene: where each of its people walks, stands and reaches.

The middle of what happens is at the origin, cameras look along -z, and time 0 is the middle of the clip. People keep
to regions of their own, so that nobody walks through another however long a clip is.

Letters: P people, T times in seconds. Metres, radians.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from fieldcast.errors import InputError
from fieldcast.reconstruct.synth.motions import Plan
from fieldcast.reconstruct.synth.steps import Path, Times

SLANT = math.radians(14)  # of paths against the picture, so that depth changes
BROAD = math.radians(38)  # of those who are to hide somebody: what is seen of them is broader
PEOPLE = 4
ASIDE = 0.06  # of the middle, to the right: how far who hugs stands, so that heads pass
HOLD = (0.22, 0.10)  # where hands hold: beside the middle of the other, and behind it
WIDE = 0.42  # and beside it while they come
HOLDS = {-1: 1.42, 1: 1.05}  # heights of hands that hold somebody: over the shoulders, and round the waist


@dataclass(frozen=True)
class Script:
    """plan: what the people do, from the times, how many they are, how close, and who decides what is left open.
    closeness: what is usual between the middles of two people where they are nearest. bottoms, stature: what the first
    people wear below and their first number of shape, where the scene needs that; the last ones hold for all after.
    """

    plan: Callable[[Times, int, float, np.random.Generator], list[Plan]]
    closeness: float
    bottoms: tuple[str, ...] = ()
    stature: tuple[float, ...] = ()


def script(name: str) -> Script:
    """The scene of a name."""
    if name not in SCENES:
        raise InputError(f"scene {name!r}: expected one of {', '.join(SCENES)}")
    return SCENES[name]


def _loop(
    center: tuple[float, float], along: float, across: float, pace: float, shift: float = 0.0, slant: float = SLANT
) -> Path:
    """Round and round on an ellipse, whose point nearest to the origin is passed at time `shift`, at `pace` m/s.

    across: half its width along z, with the sign of the side on which it lies; along: half its length along x, with
    the sign of the way in which it is passed.
    """
    rate = pace / abs(along)

    def position(times: Times) -> Float64[np.ndarray, "t 2"]:
        turn = rate * (times - shift)
        flat = np.stack([center[0] + along * np.sin(turn), center[1] - across * np.cos(turn)], -1)
        c, s = math.cos(slant), math.sin(slant)
        return np.asarray(flat @ np.array([[c, s], [-s, c]]))

    def heading(times: Times) -> Times:
        turn = rate * (times - shift)
        c, s, flat = np.cos(turn), np.sin(turn), abs(across / along)
        # How far the way has turned: the angle of (c, flat s), counted on from turn to turn.
        turned = turn + np.arctan2((flat - 1) * s * c, c * c + flat * s * s)
        return np.asarray(math.copysign(1, along) * (math.pi / 2 - math.copysign(1, across) * turned) - slant)

    return Path(position, heading)


def _spot(x: float, z: float, heading: Callable[[Times], Times]) -> Path:
    return Path(lambda times: np.tile([x, z], (len(times), 1)), heading)


def _idle(times: Times, path: Path, rng: np.random.Generator) -> Plan:
    """Nothing but the path, with a look around now and then."""
    t, gaze = len(times), rng.uniform(0, 2 * math.pi)
    return Plan(
        times,
        path,
        np.zeros((t, 2, 3)),
        np.zeros((t, 2)),
        math.radians(22) * np.sin(0.9 * times + gaze),
        np.full(t, math.radians(rng.uniform(0, 4))),
    )


def _cross(times: Times, people: int, closeness: float, rng: np.random.Generator) -> list[Plan]:
    """They walk past each other, to and fro, each in a lane of their own."""
    plans, near = [], closeness / 2
    for i in range(people):
        across = 0.3 if i % 2 == 0 else -0.3
        lane = near + (2 * abs(across) + closeness) * (i // 2)
        center = (0.0, math.copysign(lane, across) + across)
        pace, shift = rng.uniform(1.05, 1.3), (i // 2) * rng.uniform(-0.5, 0.5)
        along = 1.25 if i % 2 == 0 else -1.25
        plans.append(_idle(times, _loop(center, along, across, pace, shift), rng))
    return plans


def _turn(times: Times, people: int, closeness: float, rng: np.random.Generator) -> list[Plan]:
    """They stand side by side and turn about, one this way and one that, and one raises a hand."""
    plans = []
    for i in range(people):
        rate, start = (1 - 2 * (i % 2)) * math.radians(rng.uniform(80, 105)), rng.uniform(-0.6, 0.6)
        path = _spot((i - (people - 1) / 2) * closeness, 0.2 * (i % 2), _turning(rate, start))
        plan = _idle(times, path, rng)
        plans.append(_waving(plan, i % 2) if i == people - 1 else plan)
    return plans


def _turning(rate: float, start: float) -> Callable[[Times], Times]:
    return lambda times: np.asarray(start + rate * times)


def _waving(plan: Plan, side: int) -> Plan:
    """The same with a hand up beside the head, that waves."""
    heading, place = plan.path.heading(plan.times), plan.path.position(plan.times)
    sign, wave = 1 - 2 * side, 0.1 * np.sin(2 * math.pi * 1.3 * plan.times)
    across = np.stack([np.cos(heading), 0 * heading, -np.sin(heading)], -1)
    ahead = np.stack([np.sin(heading), 0 * heading, np.cos(heading)], -1)
    base = np.stack([place[:, 0], np.full(len(place), 1.5), place[:, 1]], -1)
    hands, reaching = plan.hands.copy(), plan.reaching.copy()
    hands[:, side] = base + (sign * 0.42 + wave)[:, None] * across + 0.15 * ahead
    reaching[:, side] = _eased(plan.times, plan.times[0] - 0.3, 0.9)
    return replace(plan, hands=hands, reaching=reaching)


def _embrace(times: Times, people: int, closeness: float, rng: np.random.Generator) -> list[Plan]:
    """Two walk up to each other and hug, and so do two others; somebody who is left over stands by and waves."""
    plans, pairs = [], people // 2
    for pair in range(pairs):
        middle = ((pair - (pairs - 1) / 2) * 1.3, -0.8 * pair)
        plans += _hug(times, middle, closeness, rng)
    if people % 2:
        by = _idle(times, _spot(0.95 * (pairs > 0), -0.8, lambda t: np.full(len(t), -0.5)), rng)
        plans.append(_waving(by, 0))
    return plans


def _hug(times: Times, middle: tuple[float, float], closeness: float, rng: np.random.Generator) -> list[Plan]:
    """Two who walk up to each other; the first one's arms go over, the other's below."""
    start, long = times[0], times[-1] - times[0] + 1e-6
    meet = start + min(0.5 * long, 2.5)
    way = min(1.4, 0.75 * (meet - start))
    plans = []
    for side in (-1, 1):
        path = _approach(middle, side, closeness, way, (start, meet))
        plan, other = _idle(times, path, rng), _approach(middle, -side, closeness, way, (start, meet))
        height = HOLDS[side]
        reaching = _eased(times, meet - 0.45 * (meet - start), meet + 0.12 * long)
        hands = _behind(path, other, times, height, reaching)
        lean = plan.lean + math.radians(2) * reaching
        both = np.stack([reaching, reaching], 1)
        plans.append(replace(plan, hands=hands, reaching=both, gaze=0.3 * plan.gaze, lean=lean))
    return plans


def _approach(middle: tuple[float, float], side: int, closeness: float, way: float, when: tuple[float, float]) -> Path:
    """Along a slanted line to `closeness` / 2 before the middle, a little to the right, so that heads pass."""
    ahead = np.array([-side * math.cos(SLANT), -side * -math.sin(SLANT)])
    right = np.array([-ahead[1], ahead[0]])
    end = np.array(middle) - closeness / 2 * ahead + ASIDE * right
    angle = math.atan2(ahead[0], ahead[1])

    def position(times: Times) -> Float64[np.ndarray, "t 2"]:
        left = 1 - _eased(times, when[0] - 0.5 * (when[1] - when[0]), when[1])
        return np.asarray(end - 1.6 * way * left[:, None] * ahead)

    return Path(position, lambda times: np.full(len(times), angle))


def _behind(path: Path, other: Path, times: Times, height: float, reaching: Times) -> Float64[np.ndarray, "t 2 3"]:
    """Where hands go that hold somebody else: first beside, then behind their back."""
    here, there = path.position(times), other.position(times)
    heading = path.heading(times)
    ahead = np.stack([np.sin(heading), np.cos(heading)], -1)
    across = np.stack([np.cos(heading), -np.sin(heading)], -1)
    hands = []
    for sign in (1, -1):
        out = WIDE - (WIDE - HOLD[0]) * _eased(reaching, 0.5, 1.0)
        deep = HOLD[1] * reaching
        near = np.minimum(((there - here) * ahead).sum(-1), 0.5)
        beside = 2 * ASIDE + sign * out  # the other one stands to the left
        ground = here + (near + deep)[:, None] * ahead + beside[:, None] * across
        hands.append(np.stack([ground[:, 0], np.full(len(times), height), ground[:, 1]], -1))
    return np.stack(hands, 1)


def _occlude(times: Times, people: int, closeness: float, rng: np.random.Generator) -> list[Plan]:
    """The first one stands sideways; the others pass in front, close, one after the other, each way."""
    plans = [replace(_idle(times, _spot(0, 0, _sideways), rng), gaze=np.zeros(len(times)))]
    for i in range(1, people):
        lane, pace = closeness + (0.6 + closeness) * (i - 1), rng.uniform(1.0, 1.2)
        along = 1.25 if i % 2 else -1.25
        late = -lane * math.tan(BROAD) / pace  # so that they are before the first one in the middle of the clip
        shift = late if i == 1 else rng.uniform(-0.6, 0.6)
        plans.append(_idle(times, _loop((0.0, lane + 0.3), along, 0.3, pace, shift, BROAD), rng))
    return plans


def _sideways(times: Times) -> Times:
    return np.full(len(times), math.pi / 2)


def _eased(x: Times, start: float, end: float) -> Times:
    """0 before `start`, 1 after `end`, and smooth to the second derivative between."""
    part = np.clip((x - start) / (end - start), 0, 1)
    return np.asarray(part**3 * (part * (6 * part - 15) + 10))


SCENES = {
    "cross": Script(_cross, 0.6),
    "turn": Script(_turn, 0.8),
    "embrace": Script(_embrace, 0.38),
    "occlude": Script(_occlude, 0.5, bottoms=("trousers", "gown"), stature=(0.9, -1.0)),
}
