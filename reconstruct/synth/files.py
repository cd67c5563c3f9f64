"""A synthetic scene as a folder: what somebody would have who filmed it, and the truth beside it.

scene.json, images/ and people/ are a recording with guessed poses. truth/ holds the same with true ones and labels,
surfaces/NAME.npz (vertices, faces, colors of the clothed people in the world), views/ with held-out cameras and
pictures, and preview.mp4: pictures, labels and guessed skeletons side by side.

Letters: P people, T frames, N vertices, V views.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.files.atomic import atomic_folder
from fieldcast.fields.files.video import save_mp4
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.synth.preview import preview
from fieldcast.reconstruct.synth.scenes import Synthetic, Views
from fieldcast.reconstruct.synth.shots import Worn

FORMAT = {"format": "fieldcast-people", "version": 1, "units": "m"}
PALETTE = bytes((0, 0, 0, 230, 80, 60, 70, 130, 230, 90, 190, 90, 230, 180, 60))
PARAMETERS = ("shape", "pose", "place", "present")


@dataclass(frozen=True, eq=False)
class Truth:
    """What is so: the recording with true parameters and labels, the surfaces, and held-out views."""

    recording: Recording
    surfaces: tuple[Worn, ...]
    views: Views


def write_synthetic(scene: Synthetic, folder: Path, wanted: dict[str, Any], force: bool = False) -> None:
    """Writes it all, or nothing. wanted: what was asked for, kept in truth/wanted.json."""
    with atomic_folder(folder, force) as stump:
        _write_recording(scene.recording, stump)
        truth = stump / "truth"
        truth.mkdir()
        _write_recording(scene.truth, truth, images="../images")
        (truth / "wanted.json").write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        (truth / "surfaces").mkdir()
        for worn in scene.surfaces:
            file, faces = truth / "surfaces" / f"{worn.name}.npz", worn.faces.astype(np.int32)
            np.savez(file, vertices=worn.vertices, faces=faces, colors=worn.colors)
        _write_views(scene.views, truth / "views", scene.truth.fps)
        save_mp4(preview(scene), truth / "preview.mp4", scene.truth.fps)


def read_truth(folder: Path) -> Truth:
    """The truth beside a synthetic recording."""
    truth = folder / "truth"
    if not (truth / "scene.json").is_file():
        raise InputError(f"{folder}: expected a synthetic scene with truth/scene.json, found none; see `synth`")
    recording = _read_recording(truth)
    surfaces = tuple(_read_surface(truth / "surfaces" / f"{person.name}.npz") for person in recording.people)
    views, data = _read_recording(truth / "views"), _read_json(truth / "views" / "scene.json")
    moments = tuple(int(frame["frame"]) for frame in data["frames"])
    return Truth(recording, surfaces, Views(views.cameras, moments, views.frames, views.labels or []))


def _write_recording(recording: Recording, folder: Path, images: str = "images") -> None:
    """scene.json, people/, and what there is of pictures and labels; pictures in a folder outside are there already."""
    frames = _write_frames(recording.frames, recording.labels, recording.cameras, folder, images)
    (folder / "people").mkdir()
    people = []
    for person in recording.people:
        shape, pose, place, present = (getattr(person, name).numpy() for name in PARAMETERS)
        file = folder / "people" / f"{person.name}.npz"
        np.savez(file, shape=shape, pose=pose, place=place, present=present)
        people.append({"name": person.name, "body": person.body.name, "params": f"people/{person.name}.npz"})
    _write_json(folder, {"up": list(recording.up), "fps": recording.fps, "frames": frames, "people": people})


def _write_views(views: Views, folder: Path, fps: float) -> None:
    folder.mkdir()
    frames = _write_frames(views.images, views.labels, views.cameras, folder, "images")
    marked = [{**frame, "frame": moment} for frame, moment in zip(frames, views.moments, strict=True)]
    _write_json(folder, {"up": [0.0, 1.0, 0.0], "fps": fps, "frames": marked, "people": []})


def _write_json(folder: Path, scene: dict[str, Any]) -> None:
    (folder / "scene.json").write_text(json.dumps({**FORMAT, **scene}, indent=1) + "\n", encoding="utf-8")


def _write_frames(
    images: Sequence[UInt8[Tensor, "h w 3"]],
    labels: Sequence[UInt8[Tensor, "h w"]] | None,
    cameras: Cameras,
    folder: Path,
    where: str,
) -> list[dict[str, Any]]:
    """The pictures and labels, and what scene.json says of each frame."""
    frames = []
    for name in ("masks",) * (labels is not None) + (where,) * (not where.startswith("..")):
        (folder / name).mkdir()
    for i, image in enumerate(images):
        frame: dict[str, Any] = {"image": f"{where}/{i:04d}.png"}
        if not where.startswith(".."):
            Image.fromarray(image.numpy()).save(folder / frame["image"])
        if labels is not None:
            frame["mask"] = f"masks/{i:04d}.png"
            mask = Image.fromarray(labels[i].numpy()).convert("P")
            mask.putpalette(PALETTE)
            mask.save(folder / frame["mask"])
        frames.append({**frame, "c2w": cameras.c2w[i].tolist(), "intrinsics": cameras.intrinsics[i].tolist()})
    return frames


def _read_recording(folder: Path) -> Recording:
    """A recording that was written here."""
    data = _read_json(folder / "scene.json")
    frames, fps, up = data["frames"], float(data["fps"]), data["up"]
    images = [_read_picture(folder / frame["image"]) for frame in frames]
    masked = all("mask" in frame for frame in frames)
    labels = [_read_picture(folder / frame["mask"]) for frame in frames] if masked else None
    size = torch.tensor([[image.shape[1], image.shape[0]] for image in images])
    c2w, intrinsics = (torch.tensor([frame[name] for frame in frames]) for name in ("c2w", "intrinsics"))
    people = tuple(_read_person(folder, person) for person in data["people"])
    return Recording(
        images, Cameras(c2w, intrinsics, size), people, labels, (up[0], up[1], up[2]), fps, source=str(folder)
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected the JSON of a synthetic scene, found: {error}") from None
    return data


def _read_picture(path: Path) -> UInt8[Tensor, "h w *c"]:
    """A picture, or the numbers of the colours of one with a palette."""
    try:
        with Image.open(path) as picture:
            return torch.from_numpy(np.array(picture))
    except OSError as error:
        raise InputError(f"{path}: expected a picture, found: {error}") from None


def _read_person(folder: Path, person: dict[str, str]) -> Person:
    arrays = _read_arrays(folder / person["params"], PARAMETERS)
    return Person(person["name"], makehuman(), *(torch.from_numpy(arrays[name]) for name in PARAMETERS))


def _read_surface(path: Path) -> Worn:
    arrays = _read_arrays(path, ("vertices", "faces", "colors"))
    return Worn(path.stem, arrays["vertices"], arrays["faces"].astype(np.int64), arrays["colors"])


def _read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: expected the arrays {', '.join(names)}, found: {error}") from None
