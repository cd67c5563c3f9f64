"""NeRF-Synthetic scenes: `transforms_train.json`, `transforms_val.json` and `transforms_test.json` in one folder."""

from __future__ import annotations

from pathlib import Path

from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.checks import duplicate_warnings, read_json, require_images
from fieldcast.fields.scenes.frames import Frame, build_scene, read_frames
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.scenes.splits import SPLITS, missing_split
from fieldcast.fields.space import Space

# All eight scenes of the paper fit in this box, and are shown before white.
SPACE = Space((-1.5, -1.5, -1.5, 1.5, 1.5, 1.5))
WHITE = (1.0, 1.0, 1.0)


def read_blender(
    folder: Path, split: str = "train", downscale: int = 1, progress: Progress = silent, allow_outside: bool = False
) -> Scene:
    """The views of one split, RGBA as rendered; `all` is the splits one after the other."""
    files = {name: folder / f"transforms_{name}.json" for name in SPLITS if name != "all"}
    present = [name for name, file in files.items() if file.is_file()]
    if split != "all" and split not in present:
        raise missing_split(folder, split, present)
    frames: list[Frame] = []
    warnings: list[str] = []
    for name in present if split == "all" else [split]:
        part = read_frames(read_json(files[name]), allow_outside)
        names = [frame.name for frame in part]
        require_images(files[name], names, [frame.path for frame in part])
        warnings += duplicate_warnings(files[name], names)
        frames += part
    return build_scene(
        frames, SPACE, background=WHITE, source=folder, warnings=warnings, downscale=downscale, progress=progress
    )
