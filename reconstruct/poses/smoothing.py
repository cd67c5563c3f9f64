"""Poses that tremble, made smooth: each coordinate over time by a smoothing spline that finds its own strength.

What was given is a smooth track and noise. The track whose second differences and whose distance from what was given
are least together (Whittaker 1923) follows from a banded system. How much either counts is the ratio of their
variances, and that is the one under which what was given is likeliest (restricted likelihood; Wecker and Ansley 1983):
a track that is smooth already is left alone. Frames far from the track lose their weight (Tukey's biweight).

Turns are smoothed as quaternions of one sign, and brought back to unit length.

Letters: T frames, N coordinates, J joints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldcast.reconstruct.recordings.recording import Person

STRENGTHS = np.logspace(-6, 6, 37)
FAR = 4.7
"""Standard deviations beyond which a frame does not count; 95 % as efficient as the mean where noise is normal."""
NEAR = {"place": 0.1, "turn": 0.1}
"""Metres, and halves of radians: what is no farther off than this is never taken to be wrong."""


@dataclass(frozen=True, eq=False)
class Smoothed:
    """person: the smooth one. moved: how far places moved, root mean square, metres. turned: the same of the turns of
    joints, degrees. before, after: root mean square of the second differences of places, metres a frame squared."""

    person: Person
    moved: float
    turned: float
    before: float
    after: float


def smoothed(person: Person) -> Smoothed:
    """Somebody whose place and turns change smoothly. Frames in which they are not present are bridged."""
    present = person.present.numpy()
    if present.sum() < 4:
        return Smoothed(person, 0.0, 0.0, _trembling(person.place), _trembling(person.place))
    place = _place(person.place.double().numpy(), present)
    pose, turned = _turns(person.pose.double().numpy(), present)
    found = replace(person, place=torch.from_numpy(place).to(person.place), pose=torch.from_numpy(pose).to(person.pose))
    moved = float((found.place - person.place)[person.present].square().sum(1).mean().sqrt())
    return Smoothed(found, moved, turned, _trembling(person.place), _trembling(found.place))


def _trembling(place: Float[Tensor, "t 3"]) -> float:
    """Root mean square of second differences."""
    if len(place) < 3:
        return 0.0
    return float(place.diff(n=2, dim=0).square().sum(1).mean().sqrt())


def _place(place: Float[np.ndarray, "t 3"], present: Bool[np.ndarray, " t"]) -> Float[np.ndarray, "t 3"]:
    """Smooth places. Noise is mostly along the view, so the axes are those of the noise, each with its strength."""
    second = np.diff(place[present], 2, axis=0)
    axes = np.linalg.eigh(second.T @ second)[1]
    columns = [spline(column[:, None], present, NEAR["place"]) for column in (place @ axes).T]
    found: np.ndarray = np.concatenate(columns, 1) @ axes.T
    return found


def _turns(
    pose: Float[np.ndarray, "t j 3"], present: Bool[np.ndarray, " t"]
) -> tuple[Float[np.ndarray, "t j 3"], float]:
    """Smooth turns of all joints, and how far they are from those that were given, degrees, root mean square."""
    from scipy.spatial.transform import Rotation

    found, squares = np.zeros_like(pose), []
    for j in range(pose.shape[1]):
        given = Rotation.from_rotvec(pose[:, j])
        quaternions = given.as_quat()
        flips = np.where(present[1:] & present[:-1], (quaternions[1:] * quaternions[:-1]).sum(1) < 0, False)
        quaternions[1:] *= np.where(np.cumsum(flips) % 2, -1.0, 1.0)[:, None]
        track = Rotation.from_quat(spline(quaternions, present, NEAR["turn"]))
        found[:, j] = track.as_rotvec()
        squares.append((track.inv() * given).magnitude()[present] ** 2)
    return found, float(np.degrees(np.sqrt(np.mean(squares))))


def spline(
    values: Float[np.ndarray, "t n"], known: Bool[np.ndarray, " t"], near: float, rounds: int = 4
) -> Float[np.ndarray, "t n"]:
    """The smooth track of coordinates that tremble alike; unknown frames are bridged."""
    weight = known.astype(float)
    values = np.where(known[:, None], values, 0.0)
    for _ in range(rounds):
        strength = max(STRENGTHS, key=lambda s: _likelihood(values, weight, s))
        track = _solved(values, weight, strength)[0]
        off = np.linalg.norm(values - track, axis=1)
        limit = max(FAR * 1.4826 * float(np.median(off[known])), near)
        weight = known * (1 - np.clip(off / limit, 0, 1) ** 2) ** 2
    return track


def _solved(values: np.ndarray, weight: np.ndarray, strength: float) -> tuple[Float[np.ndarray, "t n"], float]:
    """The minimiser x of sum of weight (x - values)^2 + strength * (second differences of x)^2, and the logarithm of
    the determinant of its system, which is banded: upper diagonals 2, 1 and 0, the layout of LAPACK."""
    from scipy.linalg import cho_solve_banded, cholesky_banded

    count = len(values)
    bands = np.zeros((3, count))
    for k, first in enumerate((1.0, -2.0, 1.0)):
        for m, second in enumerate((1.0, -2.0, 1.0)):
            if m >= k:
                bands[2 - (m - k), m : m + count - 2] += strength * first * second
    bands[2] += weight + 1e-12
    factor = cholesky_banded(bands)
    return cho_solve_banded((factor, False), weight[:, None] * values), 2 * float(np.log(factor[2]).sum())


def _likelihood(values: np.ndarray, weight: np.ndarray, strength: float) -> float:
    """The restricted log likelihood of a strength, the variance of the noise profiled out."""
    track, determinant = _solved(values, weight, strength)
    free = (weight > 0).sum() - 2
    cost = (weight[:, None] * (values - track) ** 2).sum() + strength * (np.diff(track, 2, axis=0) ** 2).sum()
    n = values.shape[1]
    return float(0.5 * n * ((len(values) - 2) * np.log(strength) - determinant - free * np.log(cost + 1e-14)))
