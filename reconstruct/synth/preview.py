"""A synthetic scene to look at: each frame with the skeletons that are given, and with the true labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from fieldcast.reconstruct.recordings.recording import Person
from fieldcast.reconstruct.synth.scenes import Synthetic
from fieldcast.reconstruct.synth.shooting import project

COLORS = ((230, 80, 60), (70, 130, 230), (90, 190, 90), (230, 180, 60))


def preview(scene: Synthetic) -> Iterator[Float[Tensor, "h w2 3"]]:
    """Frame by frame: the picture with bones of the guessed poses, and the picture with people in flat colours."""
    bones = [_bones(scene, person) for person in scene.recording.people]
    for frame, image in enumerate(scene.recording.frames):
        picture = Image.fromarray(image.numpy())
        draw = ImageDraw.Draw(picture)
        for person, color, lines in zip(scene.recording.people, COLORS, bones, strict=False):
            for a, b in lines[frame] if person.present[frame] else ():
                draw.line([*a, *b], fill=color, width=max(1, picture.width // 160))
        halves = [torch.from_numpy(np.array(picture)), _labelled(scene, frame)]
        yield torch.cat(halves, 1).float() / 255


def _bones(scene: Synthetic, person: Person) -> list[list[list[list[float]]]]:
    """For each frame the ends of each bone, in pixels."""
    pixels = project(scene.recording.cameras, person.posed().joints)[..., :2]
    pairs = [(parent, joint) for joint, parent in enumerate(person.body.parents) if parent >= 0]
    return [[[frame[a].tolist(), frame[b].tolist()] for a, b in pairs] for frame in pixels]


def _labelled(scene: Synthetic, frame: int) -> Tensor:
    """The picture, half of it the colour of whoever is there."""
    labels = scene.truth.labels
    assert labels is not None
    image = scene.truth.frames[frame].float()
    flat = torch.tensor([(0, 0, 0), *COLORS]).float()[labels[frame].long()]
    return torch.where((labels[frame] > 0)[..., None], (image + flat) / 2, image).round().to(torch.uint8)
