"""Recordings of people whose truth is known exactly: who stands where and how, in what clothes, seen by what camera.

Letters: P people, T frames, S numbers of shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.bodies.body import Body, moved_by
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.synth.clothing import HEMS, SLEEVES, Clothed, Outfit, clothe
from fieldcast.reconstruct.synth.motions import Plan, perform
from fieldcast.reconstruct.synth.noise import Noise, noisy
from fieldcast.reconstruct.synth.patterns import draw_look, paint
from fieldcast.reconstruct.synth.room import draw_room
from fieldcast.reconstruct.synth.scripts import PEOPLE, Script, script
from fieldcast.reconstruct.synth.shooting import AZIMUTHS, held_out_cameras, recording_cameras
from fieldcast.reconstruct.synth.shots import Moment, Shot, Worn

NAMES = ("ann", "bob", "cyd", "dan")
STATURES = (0.55, -0.45, 0.1, -0.8)  # numbers 0 of shape, about which those of people are drawn


@dataclass(frozen=True)
class Wanted:
    """scene: a key of SCENES. size: pixels a side. closeness: metres between the middles of two people where they are
    nearest, or None for what is usual in the scene. camera: static, orbit or handheld. masks: whether whoever gets the
    recording is told who is where.
    """

    scene: str = "cross"
    people: int = 2
    frames: int = 40
    size: int = 256
    closeness: float | None = None
    fps: float = 24.0
    camera: str = "static"
    noise: Noise = field(default_factory=Noise)
    masks: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Views:
    """Pictures from where the recording's camera never was. moments: the frame that each shows."""

    cameras: Cameras
    moments: tuple[int, ...]
    images: list[UInt8[Tensor, "h w 3"]]
    labels: list[UInt8[Tensor, "h w"]]


@dataclass(frozen=True, eq=False)
class Synthetic:
    """recording: what somebody would have, with poses that are guesses. truth: the same with what is so, and labels.
    surfaces: the people as they are seen. depths: metres along the ray, of each frame. views: held-out ones.
    """

    recording: Recording
    truth: Recording
    surfaces: tuple[Worn, ...]
    depths: list[Float[np.ndarray, "h w"]]
    views: Views


def make(wanted: Wanted, progress: Progress = silent) -> Synthetic:
    """A scene. The same wish gives the same scene; noise and masks change nothing but themselves."""
    _check(wanted)
    times = (np.arange(wanted.frames) - (wanted.frames - 1) / 2) / wanted.fps
    people, surfaces = _cast(wanted, times)
    points = torch.cat([person.posed().landmarks for person in people], 1)
    cameras = recording_cameras(wanted.camera, times, points, wanted.size, _rng(wanted, 1))
    moments = sorted({wanted.frames * k // 4 for k in (1, 2, 3)})
    held_out = held_out_cameras(cameras, len(moments))
    reach = float(torch.cat([cameras.centers, held_out.centers]).abs().max())
    room = draw_room(reach + 0.4, _rng(wanted, 2))
    shots, others = [], list[Shot]()
    for frame in range(wanted.frames):
        moment = Moment(room, surfaces, frame)
        shots.append(moment.shoot(cameras, frame))
        if frame in moments:
            first = len(AZIMUTHS) * moments.index(frame)
            others += [moment.shoot(held_out, i) for i in range(first, first + len(AZIMUTHS))]
        progress(frame + 1, wanted.frames, "rendering")
    views = Views(
        held_out,
        tuple(frame for frame in moments for _ in AZIMUTHS),
        [shot.image for shot in others],
        [shot.labels for shot in others],
    )
    truth = _truth(wanted, people, cameras, shots)
    return Synthetic(_given(wanted, truth), truth, tuple(surfaces), [shot.depth for shot in shots], views)


def _check(wanted: Wanted) -> None:
    bounds = {"people": (1, PEOPLE), "frames": (1, 10_000), "size": (16, 4096), "fps": (1, 240)}
    for name, (low, high) in bounds.items():
        if not low <= getattr(wanted, name) <= high:
            raise InputError(f"{name}: expected {low} to {high}, found {getattr(wanted, name)}")
    if wanted.closeness is not None and not 0.1 <= wanted.closeness <= 3:
        raise InputError(f"closeness: expected 0.1 to 3 metres, found {wanted.closeness}")


def _rng(wanted: Wanted, purpose: int) -> np.random.Generator:
    """Random numbers for one purpose, which do not depend on how many were drawn for another."""
    return np.random.default_rng([wanted.seed, purpose])


def _cast(wanted: Wanted, times: np.ndarray) -> tuple[list[Person], list[Worn]]:
    """The people as they truly are, and as they are seen."""
    scene, body = script(wanted.scene), makehuman()
    closeness = scene.closeness if wanted.closeness is None else wanted.closeness
    plans = scene.plan(times, wanted.people, closeness, _rng(wanted, 0))
    people, surfaces = [], []
    for number, plan in enumerate(plans):
        person, worn = _actor(body, scene, number, plan, _rng(wanted, 10 + number))
        people.append(person)
        surfaces.append(worn)
    return people, surfaces


def _actor(body: Body, scene: Script, number: int, plan: Plan, rng: np.random.Generator) -> tuple[Person, Worn]:
    """One person with a shape, clothes and colours of their own, and what they do."""
    shape = torch.from_numpy(0.5 * rng.standard_normal(body.shapes)).float()
    statures = scene.stature or STATURES
    shape[0] = statures[min(number, len(statures) - 1)] + 0.25 * shape[0]
    bottom = str(rng.choice([name for name in HEMS if name != "gown"]))
    if scene.bottoms:
        bottom = scene.bottoms[min(number, len(scene.bottoms) - 1)]
    sleeves = str(rng.choice(list(SLEEVES)))
    outfit = Outfit(bottom, sleeves, ("long", "short")[number % 2], float(rng.uniform(0.005, 0.013)))
    clothed = clothe(body, shape, outfit)
    pose, place = perform(body, shape, plan)
    person = Person(NAMES[number], body, shape, pose, place, torch.ones(len(pose), dtype=torch.bool))
    colors = paint(clothed.covered, draw_look(number, rng))
    return person, Worn(person.name, _worn(person, clothed), clothed.faces, colors)


def _worn(person: Person, clothed: Clothed) -> np.ndarray:
    """The clothed surface in the world, frame by frame, moved as the body is."""
    transforms = person.body.transforms(person.shape, person.pose, person.place)
    rest = torch.from_numpy(clothed.vertices).float()
    every = [moved_by((clothed.weights @ t.flatten(1)).unflatten(-1, (3, 4)), rest) for t in transforms]
    return torch.stack(every).numpy()


def _truth(wanted: Wanted, people: list[Person], cameras: Cameras, shots: list[Shot]) -> Recording:
    """What is so. Somebody without a pixel in a frame is not present in it."""
    labels = [shot.labels for shot in shots]
    seen = [torch.tensor([bool((frame == 1 + i).any()) for frame in labels]) for i in range(len(people))]
    source = f"synthetic: {wanted.scene}, seed {wanted.seed}"
    present = tuple(replace(person, present=here) for person, here in zip(people, seen, strict=True))
    return Recording([shot.image for shot in shots], cameras, present, labels, fps=wanted.fps, source=source)


def _given(wanted: Wanted, truth: Recording) -> Recording:
    """What somebody would have who filmed this."""
    guessed = [noisy(person, wanted.noise, wanted.fps, _rng(wanted, 20 + i)) for i, person in enumerate(truth.people)]
    return replace(truth, people=tuple(guessed), labels=truth.labels if wanted.masks else None)
