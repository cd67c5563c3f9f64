"""From a recording without people to one with people whose bodies stand about where they should.

What there is decides: keypoints; else masks; else nothing but pictures of a camera that stands still, in which what
moves is found and split into people (`segments.splitting`). How sure the result is comes with it, a number and a
sentence a person: a beginning is made to be improved on, and users should know what it rests on.

Letters: T frames, P people, H by W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.poses.keypoints import fit_keypoints
from fieldcast.reconstruct.poses.masks import STEPS, fit_masks
from fieldcast.reconstruct.poses.motions import Fit
from fieldcast.reconstruct.poses.outlines import smaller
from fieldcast.reconstruct.poses.smoothing import smoothed
from fieldcast.reconstruct.poses.standing import ends, own_masks, whole
from fieldcast.reconstruct.poses.tilt import STATURE, Tilt, is_guess, tilt_of
from fieldcast.reconstruct.poses.views import ideal
from fieldcast.reconstruct.recordings.keypoints import Keypoints
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.segments.splitting import found_people

RELIED = 0.5
"""What is less sure is not to be relied on."""


@dataclass(frozen=True)
class Sure:
    """How sure it is that somebody is where they were put. number: 0 to 1; from keypoints how near they are seen to
    where they were found, how many there are and how clear the direction is; from masks the intersection over union of
    body and mask in frames that the fit had not seen. Neither knows of depth. sentence: that, for the user."""

    name: str
    number: float
    sentence: str


@dataclass(frozen=True, eq=False)
class Beginning:
    """recording: with people, and labels if there are any. sure: one each; none where people were known already."""

    recording: Recording
    sure: tuple[Sure, ...]


def begun(
    recording: Recording,
    people: int | None = None,
    progress: Progress = silent,
    keypoints: Keypoints | None = None,
) -> Beginning:
    """A recording with people to begin with. people: how many; None: as many as there are keypoints or masks of, or as
    are seen to move. A recording that has people already stays as it is."""
    if recording.people:
        return Beginning(recording, ())
    if keypoints is not None:
        return _from_keypoints(recording, people, keypoints, progress)
    if recording.labels is not None:
        return _from_masks(recording, _checked(recording, people), "its mask", progress)
    labels = found_people(recording, people, progress)
    return _from_masks(recording, labels, "what was seen to move", progress)


def _checked(recording: Recording, people: int | None) -> list[UInt8[Tensor, "h w"]]:
    """The labels, if they are of as many people as are wanted."""
    labels = recording.labels or []
    found = max(int(label.max()) for label in labels)
    if not found or (people is not None and people != found):
        wanted = "masks of somebody" if people is None else f"masks of {people} people"
        raise InputError(f"{recording.source}: expected {wanted}, found labels up to {found}")
    return labels


def _from_keypoints(recording: Recording, people: int | None, given: Keypoints, progress: Progress) -> Beginning:
    """People who are seen where keypoints are, smooth over time."""
    count = given.points.shape[1] if people is None else people
    if count > given.points.shape[1]:
        raise InputError(f"keypoints: expected {count} people, found {given.points.shape[1]}")
    guess = is_guess(recording.cameras)
    up = None if guess else torch.tensor(recording.up)
    found = fit_keypoints(
        makehuman(),
        recording.cameras,
        given.points[:, :count],
        given.confidence[:, :count],
        up,
        Fit(fps=recording.fps),
        progress,
    )
    sure = []
    for p, (person, certain) in enumerate(found):
        here = (given.confidence[:, p] >= 0.1).sum(1)[person.present].float().mean()
        text = f"{float(here):.0f} of 17 keypoints a frame in {int(person.present.sum())} of {len(recording)} frames"
        sure.append(_sure(person, certain, text, _guessed(recording, None) if guess else ""))
    return Beginning(replace(recording, people=tuple(smoothed(p).person for p, _ in found)), tuple(sure))


def _from_masks(recording: Recording, labels: list[UInt8[Tensor, "h w"]], what: str, progress: Progress) -> Beginning:
    """People who fill their masks."""
    tilt = _tilt(recording, labels) if is_guess(recording.cameras) else None
    recording = replace(recording, labels=labels, up=recording.up if tilt is None else tilt.up)
    fit = Fit(STEPS, recording.fps)
    found = fit_masks(makehuman(), recording.cameras, labels, torch.tensor(recording.up), fit, progress)
    sure = []
    for person, certain in found:
        mean = float(certain[person.present].mean())
        text = (
            f"body and {what} have {100 * mean:.0f} % of their union in common, in frames that the fit had not seen; "
            "depth, left and right, which way somebody faces who stands, and limbs before the trunk are guesses"
        )
        sure.append(_sure(person, certain, text, _guessed(recording, tilt) if tilt else ""))
    return Beginning(replace(recording, people=tuple(person for person, _ in found)), tuple(sure))


def _sure(person: Person, certain: Float[Tensor, " t"], text: str, guess: str) -> Sure:
    number = float(certain[person.present].mean())
    doubt = ", not to be relied on" if number < RELIED else ""
    return Sure(person.name, number, f"{person.name}: sure to {number:.2f}{doubt}: {text}{guess}")


def _tilt(recording: Recording, labels: list[UInt8[Tensor, "h w"]]) -> Tilt:
    """How the camera stands, by the people who are seen from head to foot."""
    cameras, small = smaller(recording.cameras, labels)
    seen = []
    for own in own_masks(small, int(small.max())):
        known = whole(own, (small > 0) & ~own)
        if known.any():
            seen.append(ideal(cameras, ends(own, known))[known][..., 1].double().numpy())
    return tilt_of(seen)


def _guessed(recording: Recording, tilt: Tilt | None) -> str:
    """What was assumed of a camera that nobody knows."""
    width, height = recording.cameras.size[0].tolist()
    across = math.degrees(2 * math.atan(0.5 * max(width, height) / float(recording.cameras.intrinsics[0, 0])))
    if tilt is None:
        stands = "that it is level"
    else:
        way = "down" if tilt.down >= 0 else "up"
        stands = f"that it looks {abs(math.degrees(tilt.down)):.0f} degrees {way} from {tilt.height:.1f} m"
    return f"; of the camera it is assumed that it sees {across:.0f} degrees and {stands}, of people {STATURE} m"
