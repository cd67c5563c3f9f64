"""Recordings of which nothing is known but the pictures: a video file, or a folder of images.

Where the camera is and what its lens is like are guessed, and the guess is said.
"""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.checks import IMAGE_SUFFIXES
from fieldcast.fields.scenes.images import shrink
from fieldcast.reconstruct.recordings.files import common_size, read_frames
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.recordings.steadiness import MOVES, STILL, camera_shift

MEMORY = 8 << 30  # bytes of frames that are held at once
# What ffmpeg may take a file for: formats that hold pictures themselves. Playlists, which name other files, are not.
CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,y4m"
FPS = 24.0  # of pictures that do not say


def read_pictures(folder: Path, downscale: int = 1, progress: Progress = silent) -> Recording:
    """The images of a folder in the order of the numbers in their names, taken by a camera that stands still."""
    images = pictures_in(folder)
    if not images:
        raise InputError(f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES[:4])}, ...), found none")
    size = common_size(images)
    _check_memory(folder, len(images) * 3 * size[0] * size[1] // downscale**2)
    odd = f"{folder}: pictures do not say how many there are in a second: taken as {FPS:g}"
    return guessed(read_frames(images, downscale, progress), FPS, str(folder), (odd,))


def pictures_in(folder: Path) -> list[Path]:
    """The images that lie in a folder, 2.png before 10.png."""
    found = [path for path in folder.iterdir() if path.suffix in IMAGE_SUFFIXES and not path.name.startswith(".")]
    return sorted(found, key=lambda path: in_order(path.name))


def in_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts names by the numbers in them.

    >>> sorted(["f10.png", "f9.png"], key=in_order)
    ['f9.png', 'f10.png']
    """
    parts = re.split(r"([0-9]+)", name)
    return [(int(part) if i % 2 else -1, part) for i, part in enumerate(parts)]


def read_video(path: Path, downscale: int = 1, progress: Progress = silent) -> Recording:
    """All frames of a video file, upright, taken by a camera that stands still."""
    if not path.is_file():
        raise InputError(f"{path}: expected a video file, found " + ("a folder" if path.is_dir() else "nothing there"))
    frames: list[UInt8[Tensor, "h w 3"]] = []
    with tempfile.TemporaryFile() as log:
        for frame in _decoded(path, log):
            opaque = torch.cat([frame, torch.full_like(frame[..., :1], 255)], -1)
            frames.append(shrink(opaque, downscale, str(path))[..., :3].contiguous())
            _check_memory(path, len(frames) * frames[0].numel())
            progress(len(frames), 0, "reading frames")
        log.seek(0)
        said = log.read().decode("utf-8", "replace")
    rate = re.search(r"Video:.*?([0-9.]+) fps", said)
    odd = () if rate else (f"{path}: does not say how many frames there are in a second: taken as {FPS:g}",)
    return guessed(frames, float(rate[1]) if rate else FPS, str(path), odd)


def guessed(frames: list[UInt8[Tensor, "h w 3"]], fps: float, source: str, warnings: tuple[str, ...] = ()) -> Recording:
    """A recording with a camera at the origin that looks along -z and has a focal length of its longer side."""
    height, width = frames[0].shape[:2]
    focal = float(max(width, height))
    c2w = torch.eye(4)[:3].repeat(len(frames), 1, 1)
    intrinsics = torch.tensor([focal, focal, width / 2, height / 2]).repeat(len(frames), 1)
    cameras = Cameras(c2w, intrinsics, torch.tensor([[width, height]]).repeat(len(frames), 1))
    angle = 2 * math.degrees(math.atan(0.5))
    guess = (
        f"{source}: no camera is known: guessed one that stands still, with a focal length of {focal:g} pixels (the "
        f"longer side: {angle:.0f} degrees across it, between a phone's and a portrait lens); distances from the "
        "camera are as wrong as that is"
    )
    moved, frame = camera_shift(frames)
    if moved > STILL * max(width, height):
        warnings += (
            f"{source}{MOVES}by {moved:.0f} pixels until frame {frame}: the camera does not stand still; "
            "give its places in a transforms.json (--cameras)",
        )
    return Recording(frames, cameras, fps=fps, source=source, warnings=(guess, *warnings))


def _check_memory(path: Path, size: int) -> None:
    if size > MEMORY:
        raise InputError(
            f"{path}: expected at most {MEMORY >> 30} GB of frames, found more; shrink them (--downscale) or cut them"
        )


def _decoded(path: Path, log: IO[bytes]) -> Iterator[UInt8[Tensor, "h w 3"]]:
    """The frames of a video, one by one, as ffmpeg decodes them; it writes what it says to `log`."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "info", "-nostats", "-nostdin"]
    command += ["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i", f"file:{path.absolute()}"]
    command += ["-map", "0:v:0", "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-c:v", "ppm"]
    command += ["-f", "image2pipe", "pipe:1"]
    count = 0
    # A session of its own: Ctrl-C in the terminal is for us to handle, not for ffmpeg.
    decoder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    assert decoder.stdout is not None
    try:
        while (frame := _next_ppm(decoder.stdout)) is not None:
            count += 1
            yield frame
        failed = decoder.wait() != 0
    finally:
        decoder.kill()
        decoder.wait()
        decoder.stdout.close()
    if failed or not count:
        log.seek(0)
        lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        reason = lines[-1].strip() if failed and lines else "it holds no pictures"
        raise InputError(f"{path}: expected a video, found something that ffmpeg cannot read ({reason:.120})")


def _next_ppm(pipe: IO[bytes]) -> UInt8[Tensor, "h w 3"] | None:
    """The next picture of a stream of PPM files with 8 bits a channel, or None at its end."""
    if pipe.readline() != b"P6\n":
        return None
    width, height = map(int, pipe.readline().split())
    pipe.readline()  # 255, the largest value
    data = pipe.read(3 * width * height)
    if len(data) < 3 * width * height:
        return None
    return torch.from_numpy(np.frombuffer(data, np.uint8).reshape(height, width, 3).copy())
