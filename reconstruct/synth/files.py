"""A synthetic scene as a folder: what somebody would have who filmed it, and the truth beside it.

scene.json, images/ and people/ are a recording with guessed poses. truth/ holds the same with true ones and labels,
surfaces/NAME.npz (vertices, faces, colors of the clothed people in the world), views/ with held-out cameras and
pictures, and preview.mp4: pictures, labels and guessed skeletons side by side.

Letters: P people, T frames, N vertices, V views.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fieldcast.errors import InputError
from fieldcast.fields.files.atomic import atomic_folder
from fieldcast.fields.files.video import save_mp4
from fieldcast.reconstruct.recordings.files import fill, read_recording
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.synth.preview import preview
from fieldcast.reconstruct.synth.scenes import Synthetic, Views
from fieldcast.reconstruct.synth.shots import Worn


@dataclass(frozen=True, eq=False)
class Truth:
    """What is so: the recording with true parameters and labels, the surfaces, and held-out views."""

    recording: Recording
    surfaces: tuple[Worn, ...]
    views: Views


def write_synthetic(scene: Synthetic, folder: Path, wanted: dict[str, Any], force: bool = False) -> None:
    """Writes it all, or nothing. wanted: what was asked for, kept in truth/wanted.json."""
    with atomic_folder(folder, force) as stump:
        truth, views = stump / "truth", stump / "truth" / "views"
        for made in (truth, views, truth / "surfaces"):
            made.mkdir()
        fill(scene.recording, stump)
        fill(scene.truth, truth)
        fill(_recorded(scene.views, scene.truth), views)
        (views / "moments.json").write_bytes(msgspec.json.encode(scene.views.moments) + b"\n")
        (truth / "wanted.json").write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        for worn in scene.surfaces:
            file, faces = truth / "surfaces" / f"{worn.name}.npz", worn.faces.astype(np.int32)
            np.savez(file, vertices=worn.vertices, faces=faces, colors=worn.colors)
        save_mp4(preview(scene), truth / "preview.mp4", scene.truth.fps)


def _recorded(views: Views, truth: Recording) -> Recording:
    """Held-out views as a recording, with the people as they are at those moments."""
    people = tuple(person.at(list(views.moments)) for person in truth.people)
    return Recording(views.images, views.cameras, people, views.labels, truth.up, truth.fps)


def read_truth(folder: Path) -> Truth:
    """The truth beside a synthetic recording."""
    truth = folder / "truth"
    if not (truth / "scene.json").is_file():
        raise InputError(f"{folder}: expected a synthetic scene with truth/scene.json, found none; see `synth`")
    recording, views = read_recording(truth), read_recording(truth / "views")
    surfaces = tuple(_read_surface(truth / "surfaces" / f"{person.name}.npz") for person in recording.people)
    moments = _read_moments(truth / "views" / "moments.json", len(recording), len(views))
    return Truth(recording, surfaces, Views(views.cameras, moments, views.frames, views.labels or []))


def _read_moments(path: Path, frames: int, views: int) -> tuple[int, ...]:
    """Of each held-out view, the frame that it shows."""
    try:
        moments = msgspec.json.decode(path.read_bytes(), type=tuple[int, ...])
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path}: expected the frames that held-out views show, found: {error}") from None
    if len(moments) != views or not all(0 <= moment < frames for moment in moments):
        raise InputError(f"{path}: expected {views} frames from 0 to {frames - 1}, found {list(moments)}")
    return moments


def _read_surface(path: Path) -> Worn:
    arrays = _read_arrays(path, ("vertices", "faces", "colors"))
    return Worn(path.stem, arrays["vertices"], arrays["faces"].astype(np.int64), arrays["colors"])


def _read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: expected the arrays {', '.join(names)}, found: {error}") from None
