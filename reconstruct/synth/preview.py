"""A synthetic scene to look at: each frame with the skeletons that are given, and with the true labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from fieldcast.reconstruct.outputs.masks import overlay, palette
from fieldcast.reconstruct.recordings.recording import Person
from fieldcast.reconstruct.synth.scenes import Synthetic
from fieldcast.reconstruct.synth.shooting import project


def preview(scene: Synthetic) -> Iterator[Float[Tensor, "h w2 3"]]:
    """Frame by frame: the picture with bones of the guessed poses, and the true one with people tinted."""
    people, labels = scene.recording.people, scene.truth.labels
    assert labels is not None
    colors = palette(1 + len(people))[1:].tolist()
    bones = [_bones(scene, person) for person in people]
    for frame, image in enumerate(scene.recording.frames):
        picture = Image.fromarray(image.numpy())
        draw = ImageDraw.Draw(picture)
        for person, color, lines in zip(people, colors, bones, strict=True):
            for a, b in lines[frame] if person.present[frame] else ():
                draw.line([*a, *b], fill=tuple(color), width=max(1, picture.width // 160))
        halves = [torch.from_numpy(np.array(picture)), overlay(scene.truth.frames[frame], labels[frame])]
        yield torch.cat(halves, 1).float() / 255


def _bones(scene: Synthetic, person: Person) -> list[list[list[list[float]]]]:
    """For each frame the ends of each bone, in pixels."""
    pixels = project(scene.recording.cameras, person.posed().joints)[..., :2]
    pairs = [(parent, joint) for joint, parent in enumerate(person.body.parents) if parent >= 0]
    return [[[frame[a].tolist(), frame[b].tolist()] for a, b in pairs] for frame in pixels]
