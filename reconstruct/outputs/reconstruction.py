"""A reconstruction: people as avatars, what is behind them, and the recording with what was found; and as it is read
back from the folder that `folder.py` writes.

Letters: T frames, B pictures of the background (1 or T), H by W pixels, P people.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.files import open_avatar
from fieldcast.reconstruct.avatars.rendering import Rendering, rendered
from fieldcast.reconstruct.fitting.fit import Fitted
from fieldcast.reconstruct.recordings.files import read_frames, read_recording, stems
from fieldcast.reconstruct.recordings.pictures import pictures_in
from fieldcast.reconstruct.recordings.recording import Recording


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """recording: its people are those that were learned; its labels, who is where: in a folder as avatars are seen,
    before as the segmenter said last. behind: sRGB 0..1, one picture if the camera stands still.
    """

    recording: Recording
    avatars: list[Avatar]
    behind: Float[Tensor, "b h w 3"]

    @staticmethod
    def of(recording: Recording, fitted: Fitted) -> Reconstruction:
        """What was fitted to a recording."""
        people = tuple(avatar.person for avatar in fitted.avatars)
        labels = [whose(shares) for shares in fitted.shares]
        return Reconstruction(replace(recording, people=people, labels=labels), fitted.avatars, fitted.behind)

    def background(self, frame: int) -> Float[Tensor, "h w 3"]:
        """What is behind people in a frame."""
        return self.behind[min(frame, len(self.behind) - 1)]

    def rendered(self, frame: int) -> Rendering:
        """What the recording's camera sees of the people in a frame."""
        return rendered(self.avatars, self.recording.cameras, frame, frame)


def whose(shares: Float[Tensor, "p h w"]) -> UInt8[Tensor, "h w"]:
    """Each pixel's largest share: 0 for the background, which has what is left to 1, or 1 + the number of a person."""
    return torch.cat([1 - shares.sum(0, keepdim=True), shares]).argmax(0).to(torch.uint8)


def open_reconstruction(folder: Path, progress: Progress = silent) -> Reconstruction:
    """What lies in a folder that `reconstruct` made."""
    if not (folder / "background").is_dir():
        raise InputError(f"{folder}: expected a folder that `reconstruct` made, found none")
    recording = read_recording(folder, progress=progress)
    pictures = read_frames(pictures_in(folder / "background"), 1, progress)
    if len(pictures) not in (1, len(recording)):
        raise InputError(f"{folder}: background: expected 1 or {len(recording)} pictures, found {len(pictures)}")
    return Reconstruction(recording, _avatars(folder, recording), torch.stack(pictures).float() / 255)


def _avatars(folder: Path, recording: Recording) -> list[Avatar]:
    named = zip(recording.people, stems(recording.people), strict=True)
    return [open_avatar(folder / "people" / f"{stem}.safetensors", person) for person, stem in named]
