"""Poses of people from files of other programs, for a recording that has none: AMASS's, and tracks of 4D-Humans.

AMASS holds one person in a world of its own: poses (N, 66, 72, 156 or 165), trans (N, 3), betas, mocap_framerate. Where
it has another rate than the recording, the nearest of its frames is taken. Its world is taken to be the recording's.

Tracks hold what was seen in single frames, before the camera: see `tracks.py`.

Letters: T frames, N poses of a file, J joints.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.recordings.arrays import npz_names, read_npz
from fieldcast.reconstruct.recordings.params import person_of
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.recordings.smpl import smpl_body, smpl_pose, smpl_shape
from fieldcast.reconstruct.recordings.tracks import people_of_tracks, read_tracks

RATES = ("mocap_framerate", "mocap_frame_rate")
AMASS = ("poses", "trans", "betas", *RATES)


def with_poses(recording: Recording, files: tuple[Path, ...], body_name: str | None) -> Recording:
    """The recording with the people of files, after those that it has. body_name: the file of SMPL."""
    for file in files:
        body = smpl_body(body_name, file)
        if not file.is_file():
            raise InputError(
                f"{file}: " + ("expected a file of poses, found a folder" if file.is_dir() else "no such file")
            )
        if file.suffix.lower() == ".npz" and "poses" in npz_names(file):
            recording = _joined(recording, (_read_amass(file, body, recording),), [])
        else:
            recording = _joined(recording, *people_of_tracks(read_tracks(file), recording, body, file))
    return recording


def _joined(recording: Recording, people: tuple[Person, ...], warnings: list[str]) -> Recording:
    """With more people, whose names are made their own by a number."""
    taken = [person.name for person in recording.people]
    for person in people:
        name = next(n for i in range(len(taken) + 1) if (n := person.name + (f"-{i}" if i else "")) not in taken)
        taken.append(name)
    named = tuple(replace(person, name=name) for person, name in zip(people, taken[-len(people) :], strict=True))
    return replace(recording, people=(*recording.people, *named), warnings=(*recording.warnings, *warnings))


def _read_amass(file: Path, body: Body, recording: Recording) -> Person:
    """The person of a file, named after it."""
    found = read_npz(file, AMASS)
    missing = [name for name in AMASS[:3] if name not in found]
    if missing:
        raise InputError(f"{file}: expected poses, trans and betas, found no {missing[0]}")
    poses, places, betas = (found[name].astype(np.float64) for name in AMASS[:3])
    if poses.ndim != 2 or not len(poses) or places.shape != (len(poses), 3):
        raise InputError(
            f"{file}: expected poses [frames, numbers] and trans [frames, 3], found {list(poses.shape)} and "
            f"{list(places.shape)}"
        )
    rate = next((float(found[name]) for name in RATES if name in found and found[name].size == 1), recording.fps)
    if not rate > 0:
        raise InputError(f"{file}: mocap_framerate: expected a number above 0, found {rate:g}")
    chosen, present = _sampled(len(poses), rate, len(recording), recording.fps)
    pose = smpl_pose(poses, body, file)
    shape = smpl_shape(betas[0] if betas.ndim == 2 else betas.reshape(-1), body)
    arrays = {"shape": shape, "pose": pose[chosen], "place": places[chosen], "present": present}
    return person_of(file.stem, body, arrays, str(file))


def _sampled(
    count: int, rate: float, frames: int, fps: float
) -> tuple[Int64[np.ndarray, " t"], Bool[np.ndarray, " t"]]:
    """For each frame of a recording, which of the poses is nearest in time, and whether they reach so far."""
    index = np.round(np.arange(frames) * (1.0 if count == frames else rate / fps)).astype(np.int64)
    return index.clip(0, count - 1), index < count
