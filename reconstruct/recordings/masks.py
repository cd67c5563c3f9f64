"""Masks as pictures: of each pixel, 0 for the background or 1 + the number of the person who is seen there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.scenes.images import image_size


def read_labels(path: Path, size: tuple[int, int], people: int, downscale: int = 1) -> UInt8[Tensor, "h w"]:
    """The labels of a PNG with 8-bit grey or palette values. size: width and height that it must have.

    people: how many there are, or 0 where nobody knows. downscale: of each square of so many pixels a side, the label
    in its middle is taken.
    """
    found = image_size(path)
    if found != size:
        raise InputError(f"{path}: expected a mask of {size[0]}x{size[1]}, as its frame, found {found[0]}x{found[1]}")
    labels = _decode(path)
    highest = int(labels.max())
    if people and highest > people:
        raise InputError(f"{path}: expected labels from 0 to {people}, the number of people, found {highest}")
    height, width = size[1] // downscale, size[0] // downscale
    middle = downscale // 2
    return torch.from_numpy(labels[middle::downscale, middle::downscale][:height, :width].copy())


def write_labels(labels: UInt8[Tensor, "h w"], path: Path) -> None:
    """An 8-bit grey PNG."""
    Image.fromarray(labels.cpu().numpy()).save(path, format="PNG")


def _decode(path: Path) -> UInt8[np.ndarray, "h w"]:
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in ("L", "P", "1"):
                raise InputError(
                    f"{path}: expected a mask of 8-bit grey or palette values, found {image.mode}; "
                    "write 0 for the background and 1, 2, ... for the people"
                )
            return np.array(image, np.uint8)
    except InputError:
        raise
    except Exception as error:  # damaged files make Pillow raise almost anything
        raise InputError(f"{path}: expected a whole mask, found a damaged one ({error})") from None
