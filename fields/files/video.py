"""Sequences of pictures as MP4 (H.264) or GIF files, one frame at a time."""

from __future__ import annotations

import errno
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.images import eight_bit


def save_mp4(frames: Iterable[Float[Tensor, "h w 3"]], path: Path, fps: float = 30, force: bool = False) -> None:
    """Writes a video: MP4, or GIF when the suffix of `path` is `.gif`.

    frames: sRGB in [0, 1], all of one size; taken one by one, so they may be rendered on the way. An odd height or
        width is made even in an MP4 by repeating the last row or column: H.264 with 4:2:0 colour needs that.
    fps: frames a second. GIF holds times in 1/100 s: 30 becomes 33.
    """
    writers = {".mp4": _write_mp4, ".gif": _write_gif}
    if path.suffix.lower() not in writers:
        raise InputError(f"{path}: expected a name that ends in {' or '.join(writers)}, found {path.suffix!r}")
    with atomic_path(path, force) as stump:
        writers[path.suffix.lower()](_same_size(frames, path), stump, fps)


def _same_size(frames: Iterable[Float[Tensor, "h w 3"]], path: Path) -> Iterator[UInt8[Tensor, "h w 3"]]:
    """The frames as whole numbers 0..255, with a check that there is one and that they fit together."""
    shape = None
    for frame in frames:
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(f"{path}: frames differ in shape: {tuple(shape)} first, then {tuple(frame.shape)}")
        yield eight_bit(frame)
    if shape is None:
        raise InputError(f"{path}: a video needs at least one frame, found none")


def pad_even(frame: UInt8[Tensor, "h w 3"]) -> UInt8[Tensor, "h2 w2 3"]:
    """Repeats the last row and column where the height or the width is odd."""
    height, width, _ = frame.shape
    frame = torch.cat([frame, frame[-1:]], 0) if height % 2 else frame
    return torch.cat([frame, frame[:, -1:]], 1) if width % 2 else frame


def _write_gif(frames: Iterator[UInt8[Tensor, "h w 3"]], path: Path, fps: float) -> None:
    pictures = (Image.fromarray(frame.numpy()) for frame in frames)
    first = next(pictures)
    duration = max(20, round(100 / fps) * 10)  # milliseconds; players slow down what is below 20
    with path.open("w+b") as file:  # given a path, Pillow leaves it open when a frame cannot be made
        first.save(file, format="GIF", save_all=True, append_images=pictures, duration=duration, loop=0)


def _write_mp4(frames: Iterator[UInt8[Tensor, "h w 3"]], path: Path, fps: float) -> None:
    """Feeds the frames to ffmpeg through a pipe."""
    first = pad_even(next(frames))
    with tempfile.TemporaryFile() as log:
        encoder = _start_encoder(first.shape[1], first.shape[0], path, fps, log)
        assert encoder.stdin is not None
        try:
            encoder.stdin.write(first.numpy().tobytes())
            for frame in frames:
                encoder.stdin.write(pad_even(frame).numpy().tobytes())
            encoder.stdin.close()
            failed = encoder.wait() != 0
        except BrokenPipeError:  # ffmpeg has given up; its log says why
            failed = True
        finally:  # without effect once it has ended
            encoder.kill()
            encoder.wait()
            _close(encoder.stdin)
        if failed:
            raise _encoder_error(log)


def _start_encoder(width: int, height: int, path: Path, fps: float, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """ffmpeg, reading raw RGB from its input. Colours are marked as BT.709 with the sRGB curve, as players expect."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0"]
    marks = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=iec61966-2-1"
    command += ["-vf", f"scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,{marks}"]
    command += ["-c:v", "libx264", "-crf", "18", "-movflags", "+faststart"]
    # A session of its own: Ctrl-C in the terminal is for us to handle, not for ffmpeg.
    return subprocess.Popen(
        [*command, "-f", "mp4", str(path)], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
    )


def _close(pipe: IO[bytes]) -> None:
    """Closes a pipe whose reader may have gone."""
    try:
        pipe.close()
    except BrokenPipeError:
        return


def _encoder_error(log: IO[bytes]) -> Exception:
    """What ffmpeg said, as the error that it stands for."""
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    if any("No space left on device" in line for line in lines):
        return OSError(errno.ENOSPC, "No space left on device")
    return FieldcastError(f"ffmpeg could not write the video: {lines[-1] if lines else 'it ended without a word'}")
