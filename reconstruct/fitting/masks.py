"""Who is where, asked anew: the bodies as they are believed to stand tell a segmenter where to look.

Letters: T frames, P people, H by W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.poses.views import local, pixels, seen
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.recordings.silhouettes import silhouettes
from fieldcast.reconstruct.segments.prompts import prompts_of
from fieldcast.reconstruct.segments.segmenter import Prompt, Segmenter, segment_frames, shares_of


def who_is_where(
    recording: Recording, people: Sequence[Person], segmenter: Segmenter, seed: int = 0, progress: Progress = silent
) -> Float[Tensor, "t p h w"]:
    """The share that each person has of each pixel, 0 to 1; what is left to 1 is the background's."""
    believed = replace(recording, people=tuple(people))
    generator = torch.Generator().manual_seed(seed)
    prompts = [_prompts(believed, frame, generator) for frame in range(len(recording))]
    return torch.stack([shares_of(x)[1:] for x in segment_frames(segmenter, recording.frames, prompts, progress)])


def _prompts(recording: Recording, frame: int, generator: torch.Generator) -> list[Prompt | None]:
    """What a segmenter is asked about a frame: where the bodies are the nearest, and where their joints are."""
    labels = silhouettes(recording, frame).labels
    visible = torch.stack([labels == 1 + p for p in range(len(recording.people))])
    camera = recording.cameras[[frame]]
    joints = torch.cat([pixels(camera, seen(local(camera, p.posed([frame]).joints))) for p in recording.people])
    return prompts_of(visible, joints, generator)
