"""Pictures of a check: bodies tinted over the frames, their outlines, and those of the masks.

The part of a body that is seen has the person's colour, its whole silhouette an outline of it, and the mask a dotted
white one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from fieldcast.fields.files.atomic import atomic_folder
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.outputs.masks import COLORS, TINT
from fieldcast.reconstruct.outputs.pictures import chosen
from fieldcast.reconstruct.recordings.check import PersonCheck, check_recording, reduced, reduced_size
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.recordings.silhouettes import Silhouettes

COLUMNS = 4


def overlay(recording: Recording, frame: int, seen: Silhouettes) -> UInt8[Tensor, "h w 3"]:
    """One frame, at the size of the silhouettes, with the bodies drawn over it."""
    height, width = seen.labels.shape
    small = Image.fromarray(recording.frames[frame].cpu().numpy()).resize((width, height), Image.Resampling.BOX)
    canvas = torch.from_numpy(np.array(small)).float()
    labels = None if recording.labels is None else reduced(recording.labels[frame], (width, height))
    dots = (torch.arange(height)[:, None] + torch.arange(width)) % 4 < 2
    for p in range(len(recording.people)):
        color, visible = torch.tensor(COLORS[p % len(COLORS)]).float(), seen.labels == p + 1
        canvas[visible] = canvas[visible] * (1 - TINT) + color * TINT
        canvas[outline(seen.whole[p])] = color
        if labels is not None:
            canvas[outline(labels == p + 1) & dots] = 255.0
    return canvas.round().clamp(0, 255).to(torch.uint8)


def outline(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The pixels of a set that have a neighbour, of four, outside of it or outside of the picture."""
    padded = torch.nn.functional.pad(mask, (1, 1, 1, 1))
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def overlays(recording: Recording, folder: Path, force: bool, progress: Progress = silent) -> list[PersonCheck]:
    """Checks a recording, and leaves a folder of what was seen: frames/0000.png ..., and some of them in sheet.png."""
    with atomic_folder(folder, force) as stump:
        sheet = Sheet(recording, stump)
        found = check_recording(recording, sheet.draw, progress)
        sheet.finish()
    return found


class Sheet:
    """Draws frames into a folder as they come, and keeps those for the sheet."""

    def __init__(self, recording: Recording, folder: Path) -> None:
        self.recording, self.folder = recording, folder
        self.chosen = chosen(len(recording))
        self.kept: dict[int, Image.Image] = {}
        (folder / "frames").mkdir()

    def draw(self, frame: int, seen: Silhouettes) -> None:
        picture = Image.fromarray(overlay(self.recording, frame, seen).numpy())
        picture.save(self.folder / "frames" / f"{frame:04d}.png", format="PNG")
        if frame in self.chosen:
            self.kept[frame] = picture

    def finish(self) -> None:
        """The sheet: the chosen frames in rows, with their numbers and the names of people in their colours."""
        width, height = reduced_size(self.recording)
        columns = min(COLUMNS, len(self.kept))
        rows = -(-len(self.kept) // columns)
        sheet = Image.new("RGB", (columns * width, rows * height))
        pen = ImageDraw.Draw(sheet)
        for i, (frame, picture) in enumerate(sorted(self.kept.items())):
            x, y = i % columns * width, i // columns * height
            sheet.paste(picture, (x, y))
            pen.text((x + 4, y + 2), str(frame), fill="white", stroke_width=1, stroke_fill="black")
        for p, person in enumerate(self.recording.people):
            fill = COLORS[p % len(COLORS)]
            pen.text((4, 16 + 12 * p), person.name, fill=fill, stroke_width=1, stroke_fill="black")
        sheet.save(self.folder / "sheet.png", format="PNG")
