"""Where joints are in pictures, as detectors write it: COCO's JSON, and OpenPose's folders of a file a frame.

COCO's is a list of what was found, or an object with that list under `annotations` and pictures under `images`: each
has image_id, keypoints (17 times x, y and confidence) and perhaps a number of the person, as track_id, person_id or
idx. Where people have numbers, these say who is who; else each goes on as the one whose box was nearest.

Letters: T frames, P people.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.reconstruct.recordings.linking import Detection, linked
from fieldcast.reconstruct.recordings.pictures import in_order

# Where COCO's keypoints are in OpenPose's 25 and 18.
OPENPOSE = {
    25: (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11),
    18: (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),
}
LARGEST = 1e6  # pixels


@dataclass(frozen=True, eq=False)
class Keypoints:
    """points: in pixels, x right and y down, in the order of COCO's. confidence: 0, where nothing was found, to 1.
    numbered: whether the file says who is who; if not, they were linked by their boxes, and may be exchanged.
    """

    points: Float[Tensor, "t p 17 2"]
    confidence: Float[Tensor, "t p 17"]
    numbered: bool


class Annotation(msgspec.Struct):
    """What is read of an entry of COCO's."""

    image_id: int | str
    keypoints: list[float]
    track_id: int | None = None
    person_id: int | None = None
    idx: int | list[int] | None = None

    def person(self) -> int | None:
        found = self.idx[0] if isinstance(self.idx, list) and self.idx else self.idx
        numbers = (self.track_id, self.person_id, None if isinstance(found, list) else found)
        return next((number for number in numbers if number is not None and number >= 0), None)


class Image(msgspec.Struct):
    id: int | str
    file_name: str = ""


class Annotations(msgspec.Struct):
    annotations: list[Annotation]
    images: list[Image] = []


class Somebody(msgspec.Struct):
    """What is read of a person of OpenPose's."""

    pose_keypoints_2d: list[float]
    person_id: list[int] = []


class Everybody(msgspec.Struct):
    people: list[Somebody]


def read_keypoints(path: Path, frames: int) -> Keypoints:
    """The keypoints of a COCO file or of an OpenPose folder, for a recording of so many frames.

    People who are in fewer than a tenth of the frames are left out; the others come as long as they are there, longest
    first.
    """
    found = _read_openpose(path, frames) if path.is_dir() else _read_coco(path, frames)
    numbered = all(one.number is not None for one in found) and _once(found)
    tracks = linked(found, frames, numbered)
    if not tracks:
        raise InputError(f"{path}: expected somebody with keypoints in a tenth of {frames} frames, found nobody")
    points, confidence = torch.zeros(frames, len(tracks), 17, 2), torch.zeros(frames, len(tracks), 17)
    for p, track in enumerate(tracks):
        for one in track:
            points[one.frame, p] = torch.from_numpy(one.points).float()
            confidence[one.frame, p] = torch.from_numpy(one.confidence).float()
    return Keypoints(points * (confidence > 0)[..., None], confidence, numbered)


def _once(found: list[Detection]) -> bool:
    """Whether nobody is in a frame twice, as in files that give everybody the number 0."""
    return max(Counter((one.frame, one.number) for one in found).values(), default=0) <= 1


def _read_coco(path: Path, frames: int) -> list[Detection]:
    document = _decoded(path, list[Annotation] | Annotations)
    entries, images = (document, []) if isinstance(document, list) else (document.annotations, document.images)
    frame_of = _frames_of([entry.image_id for entry in entries], images, frames, path)
    found = []
    for i, entry in enumerate(entries):
        where = f"{path}: [{i}].keypoints"
        points, confidence = _split(entry.keypoints, 17, where)
        found.append(Detection(frame_of[entry.image_id], entry.person(), points, _trust(confidence)))
    return [one for one in found if one.seen]


def _frames_of(ids: list[int | str], images: list[Image], frames: int, path: Path) -> dict[int | str, int]:
    """Which frame each image id is: the order of `images`, or the numbers in the ids, from 0 or from 1 on."""
    if images:
        known = sorted(images, key=lambda image: in_order(image.file_name or str(image.id)))
        order: dict[int | str, int] = {image.id: i for i, image in enumerate(known)}
        count = len(images)
    else:
        numbers = {name: _number(name, path) for name in ids}
        first = 1 if numbers and min(numbers.values()) > 0 and max(numbers.values()) == frames else 0
        order = {name: number - first for name, number in numbers.items()}
        count = max(order.values(), default=0) + 1
    if count > frames:
        raise InputError(f"{path}: expected at most {frames} pictures, as the recording has frames, found {count}")
    strange = [name for name in ids if name not in order]
    if strange:
        raise InputError(f"{path}: image_id: expected one of `images`, found {strange[0]!r:.60}")
    return order


def _number(name: int | str, path: Path) -> int:
    """The last number in the name of a picture."""
    found = re.findall(r"[0-9]+", str(name))
    if not found or (isinstance(name, int) and name < 0):
        raise InputError(f"{path}: image_id: expected the number of a frame, found {name!r:.60}")
    return int(found[-1])


def _read_openpose(folder: Path, frames: int) -> list[Detection]:
    """The files of a folder in the order of the numbers in their names, one a frame."""
    files = sorted(folder.glob("*.json"), key=lambda file: in_order(file.name))
    if len(files) != frames:
        raise InputError(f"{folder}: expected {frames} files of OpenPose's, one a frame, found {len(files)}")
    found = []
    for frame, file in enumerate(files):
        for i, somebody in enumerate(_decoded(file, Everybody).people):
            count = len(somebody.pose_keypoints_2d) // 3
            if count not in OPENPOSE:
                raise InputError(f"{file}: people[{i}]: expected 25 or 18 keypoints, found {count}")
            points, confidence = _split(somebody.pose_keypoints_2d, count, f"{file}: people[{i}]")
            order = list(OPENPOSE[count])
            number = next((n for n in somebody.person_id if n >= 0), None)
            found.append(Detection(frame, number, points[order], confidence[order].clip(0, 1)))
    return [one for one in found if one.seen]


def _decoded(path: Path, kind: Any) -> Any:
    """A JSON file as what it should be."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InputError(f"{path}: expected a readable JSON file, found: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: expected keypoints as COCO or OpenPose write them: {error}") from None


def _split(
    numbers: list[float], count: int, where: str
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"]]:
    """Points and their confidence."""
    if len(numbers) != 3 * count:
        raise InputError(f"{where}: expected {3 * count} numbers ({count} of x, y, confidence), found {len(numbers)}")
    if not all(math.isfinite(number) and abs(number) < LARGEST for number in numbers):
        raise InputError(f"{where}: expected pixels, found {max(numbers, key=abs):g}")
    table = np.array(numbers, np.float64).reshape(count, 3)
    return table[:, :2], table[:, 2]


def _trust(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """0 to 1. What people have marked has flags: 0 not there, 1 hidden, 2 seen."""
    flags = np.isin(values, (0, 1, 2)).all() and values.max(initial=0) == 2
    return values / 2 if flags else values.clip(0, 1)
