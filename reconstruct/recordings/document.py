"""scene.json: what it must say, and one line for each way in which it does not.

Letters: T frames, P people.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from fieldcast.errors import InputError
from fieldcast.fields.scenes.checks import read_json, rotation_fault

NAME = "scene.json"
FORMAT: Literal["fieldcast-people"] = "fieldcast-people"

Row = tuple[float, float, float, float]
Positive = Annotated[float, Meta(gt=0)]


class FrameEntry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One frame. image, mask: paths from the folder. c2w: world_from_camera, OpenGL axes. intrinsics: fx, fy, cx, cy in
    pixels of the picture on disk.
    """

    image: str
    c2w: tuple[Row, Row, Row]
    intrinsics: tuple[Positive, Positive, float, float]
    mask: str | None = None


class PersonEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One person. body: a name that `open_body` knows. params: the path of their .npz."""

    name: Annotated[str, Meta(min_length=1, max_length=80)]
    body: str
    params: str


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file, version 1."""

    format: Literal["fieldcast-people"]
    version: Literal[1]
    frames: Annotated[list[FrameEntry], Meta(min_length=1)]
    people: list[PersonEntry] = []
    units: Literal["m"] = "m"
    up: tuple[float, float, float] = (0.0, 1.0, 0.0)
    fps: Positive = 24.0


def read_document(path: Path) -> tuple[Document, Path]:
    """A scene.json, given by its own path or by its folder, with its numbers checked; and the path of the file."""
    file = path / NAME if path.is_dir() else path
    node = read_json(file)
    try:
        document = msgspec.convert(node.value, Document)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise InputError(f"{file}: {error}") from None
    _check_cameras(file, document)
    _check_names(file, document)
    if not abs(math.hypot(*document.up) - 1) < 1e-4:
        raise InputError(f"{file}: up: expected a vector of length 1, found {list(document.up)}")
    return document, file


def _check_cameras(file: Path, document: Document) -> None:
    for i, frame in enumerate(document.frames):
        pose = np.array(frame.c2w)
        fault = rotation_fault(pose[:, :3]) or ("" if np.isfinite(pose).all() else "entries that are not finite")
        if fault:
            raise InputError(f"{file}: frames[{i}].c2w: expected a rotation and a translation, found {fault}")
        if not np.isfinite(frame.intrinsics).all():
            raise InputError(f"{file}: frames[{i}].intrinsics: expected finite numbers, found {frame.intrinsics}")


def _check_names(file: Path, document: Document) -> None:
    names = [person.name for person in document.people]
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{file}: people: expected names of their own, found {count} people named {name!r}")
        if not name.isprintable():
            raise InputError(f"{file}: people: expected names without control characters, found {name!r}")
    if len(names) > 254:
        raise InputError(
            f"{file}: people: expected at most 254, which is what labels have room for, found {len(names)}"
        )
    masked = sum(frame.mask is not None for frame in document.frames)
    if masked not in (0, len(document.frames)):
        raise InputError(f"{file}: frames[].mask: expected a mask for every frame or for none, found {masked} of them")


def located(file: Path, entries: list[tuple[str, str]], allow_outside: bool) -> list[Path]:
    """Where the files lie that entries name. entries: the place of each in the document, and the path there.

    A path that leads out of the folder is refused: a recording from a stranger has no business with other files.
    """
    root = Path(os.path.normpath(file.parent))
    found = [Path(os.path.normpath(root / name.replace("\\", "/"))) for _, name in entries]
    for (at, name), path in zip(entries, found, strict=True):
        if not name.isprintable():
            raise InputError(f"{file}: {at}: expected a path without control characters, found {name!r}")
        if not allow_outside and not path.is_relative_to(root):
            raise InputError(
                f"{file}: {at}: expected a file inside {root}, found {name!r}; "
                "pass --allow-outside if you trust this file"
            )
    missing = [name for (_, name), path in zip(entries, found, strict=True) if not os.path.isfile(path)]  # noqa: PTH113
    if missing:
        rest = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        kind = entries[0][0].rpartition(".")[2]
        raise InputError(
            f"{file}: {kind}: expected {len(entries)} files, found {len(entries) - len(missing)}; "
            f"missing: {', '.join(missing[:5])}{rest}"
        )
    return found
