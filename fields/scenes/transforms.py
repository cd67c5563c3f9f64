"""Captures in a `transforms.json`, as nerfstudio, Instant-NGP and exporters of COLMAP write it.

The world frame and the scale are those of the file: nothing is recentred.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.checks import Node, duplicate_warnings, read_json, require_images
from fieldcast.fields.scenes.frames import Frame, build_scene, read_frames
from fieldcast.fields.scenes.framing import capture_space
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.scenes.splits import SPLITS, every_eighth, missing_split

BLACK = (0.0, 0.0, 0.0)


def read_transforms(
    path: Path, split: str = "train", downscale: int = 1, progress: Progress = silent, allow_outside: bool = False
) -> Scene:
    """The views of one split of a `transforms.json`, given by its own path or by its folder.

    The space comes from all cameras, so that it is the same for every split.
    """
    document = read_json(path / "transforms.json" if path.is_dir() else path)
    frames = read_frames(document, allow_outside)
    names = [frame.name for frame in frames]
    require_images(document.file, names, [frame.path for frame in frames])
    chosen = [frames[i] for i in choose(document, frames, split)]
    space = capture_space(torch.tensor(np.stack([frame.c2w for frame in frames])))
    warnings = duplicate_warnings(document.file, names)
    return build_scene(
        chosen, space, background=BLACK, source=path, warnings=warnings, downscale=downscale, progress=progress
    )


def choose(document: Node, frames: Sequence[Frame], split: str) -> list[int]:
    """Indices of the frames of a split: those that the file lists, else by every 8th held out."""
    names = [frame.name for frame in frames]
    present = [name for name in SPLITS if f"{name}_filenames" in document]
    if not present or split == "all":
        return every_eighth(names, split)
    if split not in present:
        raise missing_split(document.file, split, present)
    index = {name: i for i, name in enumerate(names)}
    chosen = []
    for entry in document[f"{split}_filenames"].items("file names"):
        name = entry.text().removeprefix("./")
        if name not in index:
            entry.fail("the file_path of a frame")
        chosen.append(index[name])
    if not chosen:
        document[f"{split}_filenames"].fail("at least one file name", "none")
    return chosen
