"""Masks that somebody else made, as a segmenter: of a recording, or of a folder.

A folder has a picture of labels for each frame, in the order of their names (0 for the background, 1 + the number of
the person; grey or with a palette), or a folder of masks for each person, which is called as the person is, or comes in
their order (pixels above 127 show the person). Names of files in numbers are taken in the order of the numbers.

Letters: T frames, P people, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.scenes.images import image_size, read_image
from fieldcast.reconstruct.recordings.masks import read_labels
from fieldcast.reconstruct.recordings.pictures import in_order
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.segments.agreement import masks_of
from fieldcast.reconstruct.segments.segmenter import HIDDEN, SURE, Prompt, digest


@dataclass(frozen=True, eq=False)
class MaskFiles:
    """masks: of each person, by the picture that they are of. Prompts are not needed, and not looked at."""

    masks: dict[bytes, Bool[Tensor, "p h w"]]
    source: str

    @staticmethod
    def open(recording: Recording, folder: Path | None = None) -> MaskFiles:
        """The masks of a folder, or the labels of the recording itself."""
        source = recording.source if folder is None else str(folder)
        if folder is not None:
            masks = read_masks(folder, recording)
        elif recording.labels is not None:
            masks = [masks_of(labels, len(recording.people)) for labels in recording.labels]
        else:
            raise InputError(f"{source}: segmenter masks: expected masks in the recording or a folder, found none")
        # Of pictures that are the same the first one's count.
        pairs = reversed(list(zip(recording.frames, masks, strict=True)))
        return MaskFiles({digest(image): mask for image, mask in pairs}, source)

    def segment(self, image: UInt8[Tensor, "h w 3"], prompts: list[Prompt | None]) -> Float[Tensor, "p h w"]:
        """SURE where a mask says so, HIDDEN elsewhere; half and half, in shares, where two do."""
        masks = self.masks.get(digest(image))
        if masks is None:
            raise InputError(f"{self.source}: expected a frame of the recording, found a picture that has no masks")
        if len(masks) != len(prompts):
            raise InputError(f"{self.source}: expected masks of {len(prompts)} people, found {len(masks)}")
        return torch.where(masks, SURE, HIDDEN)


def read_masks(folder: Path, recording: Recording) -> list[Bool[Tensor, "p h w"]]:
    """The masks of all people in each frame."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of masks, found {'a file' if folder.exists() else 'nothing'}")
    inner = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: in_order(path.name))
    names, people = [person.name for person in recording.people], len(recording.people)
    if not inner:
        files = _files(folder, recording)
        return [masks_of(read_labels(file, _size(recording), people), people) for file in files]
    if set(names) <= {path.name for path in inner}:
        inner = [folder / name for name in names]
    if len(inner) != people:
        raise InputError(f"{folder}: expected a folder for each of {people} people, found {len(inner)}")
    by_person = [[_mask(file, recording) for file in _files(path, recording)] for path in inner]
    return [torch.stack(masks) for masks in zip(*by_person, strict=True)]


def _files(folder: Path, recording: Recording) -> list[Path]:
    files = [path for path in folder.iterdir() if path.suffix.lower() == ".png"]
    files.sort(key=lambda path: in_order(path.name))
    if len(files) != len(recording):
        raise InputError(f"{folder}: expected {len(recording)} PNG files, one a frame, found {len(files)}")
    return files


def _mask(path: Path, recording: Recording) -> Bool[Tensor, "h w"]:
    width, height = _size(recording)
    if image_size(path) != (width, height):
        found = "x".join(map(str, image_size(path)))
        raise InputError(f"{path}: expected a mask of {width}x{height}, as its frame, found {found}")
    return read_image(path)[..., 0] > 127


def _size(recording: Recording) -> tuple[int, int]:
    """Width and height of the frames."""
    height, width = recording.frames[0].shape[:2]
    return width, height
