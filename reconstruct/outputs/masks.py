"""Who is seen in each pixel, as pictures: labels over the frames that they were made of, and as files of their own.

Labels are 0 for the background and 1 + the number of a person, as in a `Recording`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.atomic import atomic_folder

# Colours that are told apart with any kind of colour vision (Okabe and Ito 2008), those farthest apart first.
COLORS = ((230, 159, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (240, 228, 66), (86, 180, 233), (213, 94, 0))
TINT = 0.45  # how much of a person's colour lies over the picture


def palette(count: int = 256) -> UInt8[Tensor, "n 3"]:
    """The colour of each label: black, then those of people; after the last one they begin again."""
    people = [COLORS[i % len(COLORS)] for i in range(count - 1)]
    return torch.tensor([(0, 0, 0), *people], dtype=torch.uint8)


def overlay(frame: UInt8[Tensor, "h w 3"], labels: UInt8[Tensor, "h w"]) -> UInt8[Tensor, "h w 3"]:
    """A frame in which each person is tinted, and outlined where their label ends."""
    colors = palette()[labels.long()].float()
    share = torch.where(edge(labels), 1.0, TINT) * (labels > 0)
    mixed: Tensor = frame + share[..., None] * (colors - frame)
    return mixed.round().to(torch.uint8)


def edge(labels: UInt8[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The pixels beside which, to the left, right, above or below, another label begins."""
    found = torch.zeros_like(labels, dtype=torch.bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found


def save_masks(folder: Path, labels: list[UInt8[Tensor, "h w"]], force: bool = False) -> None:
    """A palette PNG for each frame, whose numbers are the labels and whose colours are the people's, from 0000.png."""
    if not labels:
        raise InputError(f"{folder}: expected at least one frame of labels, found none")
    colors = palette().flatten().tolist()
    with atomic_folder(folder, force) as stump:
        for number, mask in enumerate(labels):
            picture = Image.fromarray(np.ascontiguousarray(mask.cpu().numpy()))
            picture.putpalette(colors)
            picture.save(stump / f"{number:04d}.png", format="PNG")
