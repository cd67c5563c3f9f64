"""Recordings of any kind; what lies there tells which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.checks import read_json
from fieldcast.reconstruct.recordings.captures import read_capture, with_cameras
from fieldcast.reconstruct.recordings.document import FORMAT, NAME
from fieldcast.reconstruct.recordings.files import read_recording
from fieldcast.reconstruct.recordings.multiply import read_multiply
from fieldcast.reconstruct.recordings.pictures import pictures_in, read_pictures, read_video
from fieldcast.reconstruct.recordings.poses import with_poses
from fieldcast.reconstruct.recordings.recording import Recording


@dataclass(frozen=True)
class Known:
    """What other files say. body: the name or file of the body that poses are of. poses: files of people's poses, one
    after the other. cameras: a transforms.json.
    """

    body: str | None = None
    poses: tuple[Path, ...] = ()
    cameras: Path | None = None


def open_recording(
    path: Path,
    downscale: int = 1,
    known: Known | None = None,
    allow_outside: bool = False,
    progress: Progress = silent,
) -> Recording:
    """The recording of a scene.json, a folder of ours or of another program, or a video.

    downscale: frames are shrunk by this whole number. allow_outside: let files name others outside their folder.
    """
    if downscale < 1:
        raise InputError(f"downscale: expected a whole number of 1 or more, found {downscale}")
    known = known or Known()
    kind = recognise(path)
    if kind == "recording":
        found = read_recording(path, downscale, allow_outside, progress)
    elif kind == "multiply":
        found = read_multiply(path, known.body, downscale, progress)
    elif kind == "transforms":
        found = read_capture(path, downscale, allow_outside, progress)
    elif kind == "pictures":
        found = read_pictures(path, downscale, progress)
    else:
        found = read_video(path, downscale, progress)
    found = with_cameras(found, known.cameras) if known.cameras else found
    return with_poses(found, known.poses, known.body)


MARKS = {NAME: "recording", "normalize_trans.npy": "multiply", "transforms.json": "transforms"}  # files of folders


def recognise(path: Path) -> str:
    """recording, multiply, transforms, pictures or video."""
    if path.is_dir():
        for name, kind in MARKS.items():
            if (path / name).is_file():
                return kind
        if pictures_in(path):
            return "pictures"
        raise InputError(f"{path}: expected {', '.join(MARKS)} or images, found none of them")
    if not path.exists():
        raise InputError(f"{path}: expected a {NAME}, a folder or a video, found nothing there")
    if path.suffix.lower() != ".json":
        return "video"
    document = read_json(path)
    return "recording" if document["format"].value == FORMAT or path.name == NAME else "transforms"
