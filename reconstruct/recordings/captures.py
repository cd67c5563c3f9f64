"""Cameras of a nerfstudio `transforms.json`, for its own pictures or for those of a video that it was made from.

Bodies are projected without distortion, so pictures of lenses that bend are resampled to those that do not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, distort
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.checks import read_json, require_images
from fieldcast.fields.scenes.frames import Frame, build_cameras, read_lens
from fieldcast.fields.scenes.frames import read_frames as read_entries
from fieldcast.fields.scenes.framing import up_direction
from fieldcast.reconstruct.recordings.files import common_size, read_frames
from fieldcast.reconstruct.recordings.pictures import FPS, in_order
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.recordings.steadiness import MOVES


def read_capture(path: Path, downscale: int = 1, allow_outside: bool = False, progress: Progress = silent) -> Recording:
    """The pictures and cameras of a transforms.json or of its folder, in the order of the numbers in their names."""
    file, entries = _entries(path, allow_outside)
    require_images(file, [entry.name for entry in entries], [entry.path for entry in entries])
    common_size([entry.path for entry in entries])
    cameras, odd = build_cameras(entries, downscale)
    frames = read_frames([entry.path for entry in entries], downscale, progress)
    odd = [*odd, f"{file}: pictures do not say how many there are in a second: taken as {FPS:g}"]
    found = Recording(frames, cameras, fps=FPS, source=str(path), warnings=tuple(odd))
    return _finished(found, file)


def with_cameras(recording: Recording, path: Path) -> Recording:
    """The recording with the cameras of a transforms.json: as many as there are frames, in the order of their names.

    The guess of the recording's own cameras, if that is what they are, is no longer warned of.
    """
    file, entries = _entries(path, allow_outside=True)  # its pictures are not read
    if len(entries) != len(recording):
        raise InputError(f"{file}: frames: expected {len(recording)} cameras, one a frame, found {len(entries)}")
    width, height = recording.cameras.size[0].tolist()
    lenses = [read_lens(entry, width, height) for entry in entries]
    coefficients = torch.tensor([lens.coefficients for lens in lenses])
    cameras = Cameras(
        torch.tensor(np.stack([entry.c2w for entry in entries]), dtype=torch.float32),
        torch.tensor([lens.intrinsics for lens in lenses], dtype=torch.float64).float(),
        recording.cameras.size,
        distortion=coefficients if bool(coefficients.any()) else None,
        fisheye=any(lens.fisheye for lens in lenses),
    )
    guesses = (": no camera is known: ", MOVES)
    kept = tuple(line for line in recording.warnings if not any(guess in line for guess in guesses))
    return _finished(replace(recording, cameras=cameras, warnings=kept), file)


def _entries(path: Path, allow_outside: bool) -> tuple[Path, list[Frame]]:
    document = read_json(path / "transforms.json" if path.is_dir() else path)
    return document.file, sorted(read_entries(document, allow_outside), key=lambda entry: in_order(entry.name))


def _finished(recording: Recording, file: Path) -> Recording:
    """With ideal lenses, with the direction that is up, and with a word on units."""
    cameras = recording.cameras
    if cameras.fisheye:
        raise InputError(f"{file}: expected pinhole cameras, found fisheye lenses; undistort the pictures first")
    odd = f"{file}: does not say how long its unit is: taken as metres"
    frames = recording.frames if cameras.distortion is None else undistorted(recording.frames, cameras)
    return replace(
        recording,
        frames=frames,
        cameras=cameras.undistorted(),
        up=up_direction(cameras.c2w),
        warnings=(*recording.warnings, odd),
    )


def undistorted(frames: list[UInt8[Tensor, "h w 3"]], cameras: Cameras) -> list[UInt8[Tensor, "h w 3"]]:
    """The pictures that ideal lenses of the same intrinsics would have taken; black where these see further."""
    assert cameras.distortion is not None
    found = []
    for frame, intrinsics, k in zip(frames, cameras.intrinsics, cameras.distortion, strict=True):
        grid = _bent_grid(frame.shape[1], frame.shape[0], intrinsics, k)
        picture = frame.permute(2, 0, 1)[None].float()
        straight = torch.nn.functional.grid_sample(picture, grid[None], align_corners=False)
        found.append(straight[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8))
    return found


def _bent_grid(
    width: int, height: int, intrinsics: Float[Tensor, " 4"], k: Float[Tensor, " 6"]
) -> Float[Tensor, "h w 2"]:
    """Where each pixel of the ideal picture is in the bent one, from -1 to 1 as `grid_sample` has it."""
    focal, center = intrinsics[:2], intrinsics[2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    ideal = (torch.stack([x, y], -1).reshape(-1, 2) - center) / focal
    bent = distort(ideal, k.expand(len(ideal), 6)) * focal + center
    return (2 * bent / torch.tensor([width, height]) - 1).reshape(height, width, 2)
