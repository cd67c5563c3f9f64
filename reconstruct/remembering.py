"""What is kept of a reconstruction while it is made: how people begin, how many steps fit, what was fitted.

Letters: T frames, P people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.memory import Memory, Tensors
from fieldcast.reconstruct.avatars.keeping import BEGUN, avatar_of, tensors_of, text, words
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.reading import open_body
from fieldcast.reconstruct.fitting.fit import Plan
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction
from fieldcast.reconstruct.poses.beginning import Beginning, Sure
from fieldcast.reconstruct.recordings.keypoints import Keypoints
from fieldcast.reconstruct.recordings.recording import Person, Recording

CAMERAS = ("c2w", "intrinsics", "size")


@dataclass(frozen=True)
class Remembered:
    """folder: where it is. memory: of what is done."""

    folder: Path
    memory: Memory

    @staticmethod
    def opened(out: Path, identity: dict[str, Any], resume: bool, force: bool) -> Remembered:
        """The memory of what is to become `out`. identity: what must be the same to go on.

        Raises InputError where there is nothing to resume, or something that was not asked to be given up.
        """
        folder = out.with_name(f"{out.name}.unfinished")
        memory = Memory(folder / "memory.safetensors", identity)
        if resume:
            memory.load()
        elif memory.path is not None and memory.path.exists() and not force:
            raise InputError(f"{folder} is what an interrupted run left: --resume goes on with it, --force begins anew")
        found = Remembered(folder, memory)
        if not resume:
            found.checkpoint.unlink(missing_ok=True)
        return found

    @property
    def checkpoint(self) -> Path:
        """Where the fit keeps its state."""
        return self.folder / "fit.safetensors"

    @property
    def preview(self) -> Path:
        """A picture of how far it is."""
        return self.folder / "preview.png"

    def begun(self, recording: Recording, make: Callable[[], Beginning]) -> Beginning:
        """How people stand before anything is fitted, and the recording with them."""
        found = self.memory.recall("begun", lambda: _tensors_of_beginning(make(), recording))
        return _beginning_of(found, recording)

    def steps(self, make: Callable[[], int]) -> int:
        """Of training."""
        return int(self.memory.recall("steps", lambda: {"count": torch.tensor(make())})["count"])

    def reconstruction(self, begun: Recording, make: Callable[[], Reconstruction]) -> Reconstruction:
        """What was fitted to a recording."""
        made: list[Reconstruction] = []

        def tensors() -> Tensors:
            made.append(make())
            return _tensors_of_reconstruction(made[0])

        found = self.memory.recall("made", tensors)
        self.checkpoint.unlink(missing_ok=True)
        return made[0] if made else _reconstruction_of(found, begun, str(self.memory.path))


def identity_of(
    recording: Recording, plan: Plan, minutes: float | None, people: int | None, keypoints: Keypoints | None = None
) -> dict[str, Any]:
    """What must be the same for interrupted work to go on."""
    plain = settings_of(plan)
    if minutes is not None:
        plain.pop("steps")
    return {"input": digest(recording, keypoints), "budget": minutes, "people": people, **plain}


def settings_of(plan: Plan) -> dict[str, Any]:
    """A plan as JSON can hold it."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(plan).items()}


def digest(recording: Recording, keypoints: Keypoints | None = None) -> str:
    """A hash of everything in a recording, and of its keypoints, that a reconstruction depends on."""
    found = hashlib.sha256()
    for value in () if keypoints is None else vars(keypoints).values():
        found.update(value.contiguous().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode())
    for person in recording.people:
        found.update(f"{person.name}\0{person.body.name}\0".encode())
        for key in BEGUN:
            found.update(getattr(person, key).contiguous().numpy().tobytes())
    for key in CAMERAS:
        found.update(getattr(recording.cameras, key).contiguous().numpy().tobytes())
    for picture in (*recording.frames, *(recording.labels or ())):
        found.update(picture.contiguous().numpy().tobytes())
    return found.hexdigest()


def _tensors_of_beginning(beginning: Beginning, given: Recording) -> Tensors:
    recording = beginning.recording
    found: Tensors = {
        "names": text("\n".join(person.name for person in recording.people)),
        "bodies": text("\n".join(person.body.name for person in recording.people)),
        "up": torch.tensor(recording.up, dtype=torch.float64),
    }
    for key in CAMERAS:
        found[f"cameras.{key}"] = getattr(recording.cameras, key)
    for p, person in enumerate(recording.people):
        found |= {f"{p}.{key}": getattr(person, key) for key in BEGUN}
    if recording.labels is not None and recording.labels is not given.labels:
        found["labels"] = torch.stack(recording.labels)
    if beginning.sure:
        found["sure"] = text(json.dumps([asdict(one) for one in beginning.sure]))
    return found


def _beginning_of(found: Tensors, recording: Recording) -> Beginning:
    """recording: the input, whose frames and bodies it has."""
    known: dict[str, Body] = {person.body.name: person.body for person in recording.people}
    people = []
    for p, (name, body) in enumerate(zip(*(words(found[k]).split("\n") for k in ("names", "bodies")), strict=True)):
        known[body] = known.get(body) or open_body(body)
        people.append(Person(name, known[body], *(found[f"{p}.{key}"] for key in BEGUN)))
    x, y, z = found["up"].tolist()
    numbers: dict[str, Any] = {key: found[f"cameras.{key}"] for key in CAMERAS}
    cameras = replace(recording.cameras, **numbers)
    sure = tuple(Sure(**one) for one in json.loads(words(found["sure"]))) if "sure" in found else ()
    labels = list(found["labels"]) if "labels" in found else recording.labels
    return Beginning(replace(recording, people=tuple(people), cameras=cameras, up=(x, y, z), labels=labels), sure)


def _tensors_of_reconstruction(made: Reconstruction) -> Tensors:
    assert made.recording.labels is not None
    found: Tensors = {"labels": torch.stack(made.recording.labels), "behind": made.behind}
    for p, avatar in enumerate(made.avatars):
        found |= {f"{p}.{key}": value for key, value in tensors_of(avatar).items()}
    return found


def _reconstruction_of(found: Tensors, begun: Recording, what: str) -> Reconstruction:
    avatars = []
    for p, person in enumerate(begun.people):
        own = {k.removeprefix(f"{p}."): v for k, v in found.items() if k.startswith(f"{p}.")}
        avatars.append(avatar_of(own, person.name, person.body, what))
    people = tuple(avatar.person for avatar in avatars)
    recording = replace(begun, people=people, labels=list(found["labels"]))
    return Reconstruction(recording, avatars, found["behind"])
