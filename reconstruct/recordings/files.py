"""A recording on disk: a folder with scene.json, pictures, masks and the numbers of each person (docs/recordings.md).

scene.json   images/0000.png ...   masks/0000.png ... (or none)   people/ann.npz ...
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.files.atomic import atomic_folder
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.images import image_size, read_image
from fieldcast.reconstruct.bodies.reading import open_body
from fieldcast.reconstruct.recordings.document import (
    FORMAT,
    NAME,
    Document,
    FrameEntry,
    PersonEntry,
    located,
    read_document,
)
from fieldcast.reconstruct.recordings.masks import read_labels, write_labels
from fieldcast.reconstruct.recordings.params import read_person, write_person
from fieldcast.reconstruct.recordings.recording import Person, Recording


def read_recording(
    path: Path, downscale: int = 1, allow_outside: bool = False, progress: Progress = silent
) -> Recording:
    """The recording of a scene.json or of its folder. downscale: pictures and masks are shrunk by this whole number.

    allow_outside: let it name files outside its folder. Numbers are checked before pictures are read.
    """
    document, file = read_document(path)
    frames = document.frames
    images = located(file, [(f"frames[{i}].image", frame.image) for i, frame in enumerate(frames)], allow_outside)
    named = [(f"frames[{i}].mask", frame.mask) for i, frame in enumerate(frames) if frame.mask is not None]
    masks = located(file, named, allow_outside)
    size = common_size(images)
    if downscale > min(size):
        raise InputError(f"{path}: downscale: expected at most {min(size)}, found {downscale}")
    people = _read_people(document, file, allow_outside)
    labels = [read_labels(mask, size, len(people), downscale) for mask in masks]
    return Recording(
        frames=read_frames(images, downscale, progress),
        cameras=_cameras(frames, size, downscale),
        people=people,
        labels=labels or None,
        up=document.up,
        fps=document.fps,
        source=str(path),
    )


def write_recording(recording: Recording, folder: Path, force: bool = False) -> None:
    """Writes the folder of a recording, whole or not at all. force: what is there already is replaced."""
    with atomic_folder(folder, force) as stump:
        fill(recording, stump)


def fill(recording: Recording, folder: Path) -> None:
    """Writes what a recording is into a folder that is there, and has none in it."""
    if recording.cameras.distortion is not None:
        raise InputError(f"{folder}: scene.json has no place for the distortion of lenses; undistort the frames first")
    (folder / "images").mkdir()
    for i, frame in enumerate(recording.frames):
        Image.fromarray(frame.cpu().numpy()).save(folder / _picture("images", i), format="PNG")
    if recording.labels is not None:
        (folder / "masks").mkdir()
        for i, labels in enumerate(recording.labels):
            write_labels(labels, folder / _picture("masks", i))
    entries = _people_entries(recording.people)
    if entries:
        (folder / "people").mkdir()
    for person, entry in zip(recording.people, entries, strict=True):
        write_person(person, folder / entry.params)
    encoded = msgspec.json.encode(_document(recording, entries))
    (folder / NAME).write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


def require_people(recording: Recording) -> None:
    """Raises InputError for a recording of nobody: what reconstructs people needs to know roughly how they stand."""
    if not recording.people:
        raise InputError(
            f"{recording.source or 'the recording'}: expected at least one person with poses, found none; "
            "name them under `people` in scene.json, or give a file of poses or of keypoints"
        )


def common_size(images: list[Path]) -> tuple[int, int]:
    """Width and height of the pictures, which must be those of the first one."""
    first = image_size(images[0])
    for image in images[1:]:
        size = image_size(image)
        if size != first:
            raise InputError(
                f"{image}: expected {first[0]}x{first[1]} pixels, as {images[0].name} has, found {size[0]}x{size[1]}"
            )
    return first


def read_frames(images: list[Path], downscale: int, progress: Progress) -> list[UInt8[Tensor, "h w 3"]]:
    """Pictures without their opacity."""
    frames = []
    for i, image in enumerate(images):
        frames.append(read_image(image, downscale)[..., :3].contiguous())
        progress(i + 1, len(images), "reading frames")
    return frames


def _read_people(document: Document, file: Path, allow_outside: bool) -> tuple[Person, ...]:
    """The people, who share the body that they share by name."""
    paths = located(file, [(f"people[{i}].params", p.params) for i, p in enumerate(document.people)], allow_outside)
    try:
        bodies = {name: open_body(name, file.parent) for name in dict.fromkeys(p.body for p in document.people)}
    except InputError as error:
        raise InputError(f"{file}: people: {error}") from None
    return tuple(
        read_person(path, entry.name, bodies[entry.body], len(document.frames))
        for path, entry in zip(paths, document.people, strict=True)
    )


def _cameras(frames: list[FrameEntry], size: tuple[int, int], downscale: int) -> Cameras:
    return Cameras(
        c2w=torch.tensor([frame.c2w for frame in frames]),
        intrinsics=torch.tensor([frame.intrinsics for frame in frames], dtype=torch.float64).div(downscale).float(),
        size=torch.tensor([[size[0] // downscale, size[1] // downscale]]).repeat(len(frames), 1),
    )


def _document(recording: Recording, people: list[PersonEntry]) -> Document:
    cameras = recording.cameras.to("cpu")
    entries = []
    for i in range(len(recording)):
        entry: dict[str, Any] = {"image": _picture("images", i), "c2w": cameras.c2w[i].tolist()}
        entry["intrinsics"] = cameras.intrinsics[i].tolist()
        entry["mask"] = None if recording.labels is None else _picture("masks", i)
        entries.append(msgspec.convert(entry, FrameEntry))
    return Document(FORMAT, 1, entries, people, up=recording.up, fps=recording.fps)


def _picture(folder: str, i: int) -> str:
    return f"{folder}/{i:04d}.png"


def stems(people: tuple[Person, ...]) -> list[str]:
    """What files of people are called: their names where these are plain and differ in more than case, else numbers."""
    names = [person.name for person in people]
    plain = all(re.fullmatch(r"[\w-]{1,60}", name, re.ASCII) for name in names)
    if plain and len({name.casefold() for name in names}) == len(names):
        return names
    return [str(number) for number in range(len(names))]


def _people_entries(people: tuple[Person, ...]) -> list[PersonEntry]:
    return [
        PersonEntry(person.name, person.body.name, f"people/{stem}.npz")
        for person, stem in zip(people, stems(people), strict=True)
    ]
