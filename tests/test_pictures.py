"""Pictures and videos, read back by readers of their own."""

from __future__ import annotations

import gc
import re
import subprocess
import weakref
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.files import video
from fieldcast.fields.files.images import eight_bit, save_png
from fieldcast.fields.files.video import save_mp4


@pytest.mark.parametrize("channels", [3, 4])
def test_png_comes_back_to_the_nearest_of_256_values(tmp_path: Path, channels: int) -> None:
    rgb = torch.rand(5, 7, channels)
    save_png(rgb, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == ("RGB" if channels == 3 else "RGBA")
        back = np.asarray(picture)
    np.testing.assert_array_equal(back, np.floor(rgb.numpy().astype(np.float64) * 255 + 0.5))


def test_all_256_values_are_kept() -> None:
    values = torch.arange(256)
    assert eight_bit((values / 255).reshape(16, 16, 1)).flatten().tolist() == values.tolist()


def test_what_is_outside_is_clamped() -> None:
    rgb = torch.tensor([-1.0, 2.0, torch.inf, -torch.inf, torch.nan, 0.5]).reshape(1, 2, 3)
    assert eight_bit(rgb).flatten().tolist() == [0, 255, 255, 0, 0, 128]


def test_png_does_not_replace_without_force(tmp_path: Path) -> None:
    save_png(torch.zeros(2, 2, 3), tmp_path / "a.png")
    with pytest.raises(InputError, match="use --force"):
        save_png(torch.ones(2, 2, 3), tmp_path / "a.png")
    save_png(torch.ones(2, 2, 3), tmp_path / "a.png", force=True)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_png_names_the_channels_it_can_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected 3 or 4 channels, found shape \(2, 2, 1\)"):
        save_png(torch.zeros(2, 2, 1), tmp_path / "a.png")


def plain_frames(count: int, height: int, width: int) -> Iterator[Tensor]:
    """Frames of one strong colour each: compression hardly changes them."""
    for i in range(count):
        yield torch.tensor([0.9, 0.2, 0.1]).roll(i).expand(height, width, 3)


def read_mp4(path: Path, height: int, width: int) -> tuple[str, np.ndarray]:
    """What ffmpeg says about the file, and its frames [n, h, w, 3]. (imageio_ffmpeg.read_frames leaves pipes open.)"""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stderr.decode(), np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (1, 1), (270, 481)])
def test_mp4_comes_back(tmp_path: Path, height: int, width: int) -> None:
    save_mp4(plain_frames(6, height, width), tmp_path / "ü a.mp4", fps=12)
    even_height, even_width = height + height % 2, width + width % 2
    about, frames = read_mp4(tmp_path / "ü a.mp4", even_height, even_width)
    assert re.search(r"h264 .*yuv420p\(tv, bt709/bt709/iec61966-2-1", about)
    assert f" {even_width}x{even_height}," in about
    assert "12 fps" in about
    assert len(frames) == 6
    for frame, expected in zip(frames, plain_frames(6, 1, 1), strict=True):
        assert np.abs(frame - 255 * expected.numpy()).max() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["ü a.mp4"]


def test_padding_repeats_the_edge() -> None:
    frame = torch.arange(9, dtype=torch.uint8).reshape(3, 3, 1).expand(3, 3, 3)
    assert video.pad_even(frame)[..., 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [6, 7, 8, 8], [6, 7, 8, 8]]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_frames_are_taken_one_by_one(tmp_path: Path, suffix: str) -> None:
    """No frame is held once the next but one is asked for."""
    alive: list[weakref.ref[Tensor]] = []

    def frames() -> Iterator[Tensor]:
        for i in range(8):
            gc.collect()
            assert sum(frame() is not None for frame in alive) <= 2
            frame = torch.full((16, 16, 3), i / 8)
            alive.append(weakref.ref(frame))
            yield frame

    save_mp4(frames(), tmp_path / f"a{suffix}")


def test_gif_comes_back(tmp_path: Path) -> None:
    save_mp4(plain_frames(3, 9, 11), tmp_path / "a.gif", fps=10)
    with Image.open(tmp_path / "a.gif") as picture:
        assert (picture.size, picture.n_frames, picture.info["loop"]) == ((11, 9), 3, 0)
        for i, expected in enumerate(plain_frames(3, 1, 1)):
            picture.seek(i)
            assert picture.info["duration"] == 100
            found = np.asarray(picture.convert("RGB")).astype(float)
            assert np.abs(found - 255 * expected.numpy()).max() < 2


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_an_error_in_the_middle_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    def frames() -> Iterator[Tensor]:
        yield from plain_frames(2, 16, 16)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_mp4(frames(), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_no_frames(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="needs at least one frame"):
        save_mp4([], tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_frames_of_different_sizes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"frames differ in shape: \(4, 4, 3\) first, then \(4, 6, 3\)"):
        save_mp4((torch.zeros(4, width, 3) for width in (4, 6)), tmp_path / "a.mp4")


def test_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.avi: expected a name that ends in \.mp4 or \.gif, found '\.avi'"):
        save_mp4([torch.zeros(4, 4, 3)], tmp_path / "a.avi")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("av_interleaved_write_frame(): No space left on device", "disk full while writing .*a.mp4"),
        ("first line\nUnknown encoder 'libx264'", "ffmpeg could not write the video: Unknown encoder 'libx264'"),
    ],
)
@pytest.mark.parametrize("reads", [True, False])
def test_what_the_encoder_says_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: str, reads: bool
) -> None:
    """An encoder that fails at the end, and one that stops reading at once."""
    fake = tmp_path / "ffmpeg"
    fake.write_text(f"#!/bin/sh\n{'cat > /dev/null' if reads else ''}\ncat >&2 <<'END'\n{said}\nEND\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(fake))
    with pytest.raises(FieldcastError, match=expected):
        save_mp4(plain_frames(30, 200, 200), tmp_path / "a.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["ffmpeg"]
