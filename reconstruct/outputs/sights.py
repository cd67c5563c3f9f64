"""What the recording's cameras see of a reconstruction, frame by frame.

Letters: T frames, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from fieldcast.fields.files.images import eight_bit
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.avatars.rendering import rendered
from fieldcast.reconstruct.outputs.pictures import View
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction


@dataclass(frozen=True, eq=False)
class Sights:
    """pictures: sRGB 0..255. labels: who is where in them. alone: for each frame, each person with nobody before them,
    straight RGBA; empty where it was not asked for.
    """

    pictures: list[UInt8[Tensor, "h w 3"]]
    labels: list[UInt8[Tensor, "h w"]]
    alone: list[list[UInt8[Tensor, "h w 4"]]]

    @staticmethod
    def of(made: Reconstruction, progress: Progress = silent, *, alone: bool = False) -> Sights:
        """Every frame, rendered. alone: also each person by themselves."""
        sights, cameras, frames = Sights([], [], []), made.recording.cameras, len(made.recording)
        for t in range(frames):
            seen = made.rendered(t)
            sights.pictures.append(eight_bit(seen.over(made.background(t))))
            sights.labels.append(seen.labels)
            each = made.avatars if alone else []
            sights.alone.append([eight_bit(rendered([avatar], cameras, t, t).rgba()) for avatar in each])
            progress(t + 1, frames, "looking at frames")
        return sights

    def view(self, made: Reconstruction, frame: int) -> View:
        """A frame beside what was made of it."""
        each = [rgba.float() / 255 for rgba in self.alone[frame]]
        picture = self.pictures[frame].float() / 255
        return View(made.recording.frames[frame], picture, each, labels=self.labels[frame])
