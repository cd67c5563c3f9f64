"""What a reconstruction looks like while it is being made: a few frames, small, in one picture.

Letters: H by W pixels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.files.images import eight_bit
from fieldcast.reconstruct.avatars.rendering import rendered
from fieldcast.reconstruct.outputs.pictures import View, chosen, save_sheet
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction

LONGEST, ROWS = 192, 3  # pixels of the longer side; frames


def save_preview(made: Reconstruction, path: Path) -> None:
    """Frames beside what is made of them so far; replaces the picture that is there."""
    recording = made.recording
    moments = chosen(len(recording), ROWS)
    width, height = recording.cameras.size[0].tolist()
    scale = min(1.0, LONGEST / max(width, height))
    cameras = recording.cameras[moments].resized(max(1, round(width * scale)), max(1, round(height * scale)))
    views = {frame: _view(made, cameras, index, frame) for index, frame in enumerate(moments)}
    save_sheet(path, views, [person.name for person in recording.people], recording.fps, force=True)


def _view(made: Reconstruction, cameras: Cameras, index: int, frame: int) -> View:
    width, height = cameras.size[index].tolist()
    seen = rendered(made.avatars, cameras, index, frame)
    given = eight_bit(_resized(made.recording.frames[frame].float() / 255, width, height))
    each = [rendered([avatar], cameras, index, frame).rgba() for avatar in made.avatars]
    return View(given, seen.over(_resized(made.background(frame), width, height)), each, labels=seen.labels)


def _resized(picture: Float[Tensor, "h w 3"], width: int, height: int) -> Float[Tensor, "h2 w2 3"]:
    found = torch.nn.functional.interpolate(picture.permute(2, 0, 1)[None], (height, width), mode="area")
    return found[0].permute(1, 2, 0)
