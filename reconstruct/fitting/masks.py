"""Who is where, asked anew: the bodies as they are believed to stand tell a segmenter where to look.

Letters: T frames, P people, H by W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.poses.views import local, pixels, seen
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.recordings.silhouettes import silhouettes
from fieldcast.reconstruct.segments.prompts import prompts_of
from fieldcast.reconstruct.segments.segmenter import Prompt, Segmenter, segment_frames, shares_of

SURE = 0.5  # of a pixel, from which on it is somebody's


@dataclass(frozen=True, eq=False)
class Masks:
    """shares: how much of a pixel is whose, 0 to 1; what is left to 1 is the background's. believed: 0, or 1 + the
    number of the person whose body was thought to be the nearest when the segmenter was asked.
    """

    shares: Float[Tensor, "t p h w"]
    believed: UInt8[Tensor, "t h w"]

    def agreement(self) -> Float[Tensor, " t"]:
        """How far bodies and masks agree in each frame: overlap by union, the mean over people; 1 if none is there."""
        people = self.shares.shape[1]
        a = torch.stack([self.believed == 1 + p for p in range(people)], 1).flatten(2)
        b = (self.shares > SURE).flatten(2)
        either, both = (a | b).sum(-1), (a & b).sum(-1)
        seen = either > 0
        return torch.where(seen, both / either.clamp_min(1), 0.0).sum(1) / seen.sum(1).clamp_min(1) + (~seen).all(1)

    def contested(self) -> Bool[Tensor, "t h w"]:
        """Where a body is thought to be the nearest, and somebody else is seen."""
        most, who = self.shares.max(1)
        return (most > SURE) & (self.believed > 0) & (who + 1 != self.believed)


def who_is_where(
    recording: Recording, people: Sequence[Person], segmenter: Segmenter, seed: int = 0, progress: Progress = silent
) -> Masks:
    """Who is seen where, if people stand as they are believed to."""
    thought = replace(recording, people=tuple(people))
    generator = torch.Generator().manual_seed(seed)
    labels = [silhouettes(thought, frame).labels for frame in range(len(recording))]
    prompts = [_prompts(thought, frame, labels[frame], generator) for frame in range(len(recording))]
    found = [shares_of(x)[1:] for x in segment_frames(segmenter, recording.frames, prompts, progress)]
    return Masks(torch.stack(found), torch.stack(labels))


def _prompts(
    recording: Recording, frame: int, labels: UInt8[Tensor, "h w"], generator: torch.Generator
) -> list[Prompt | None]:
    """What a segmenter is asked about a frame: where the bodies are the nearest, and where their joints are."""
    visible = torch.stack([labels == 1 + p for p in range(len(recording.people))])
    camera = recording.cameras[[frame]]
    joints = torch.cat([pixels(camera, seen(local(camera, p.posed([frame]).joints))) for p in recording.people])
    return prompts_of(visible, joints, generator)
