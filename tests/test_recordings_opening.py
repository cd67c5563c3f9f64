"""Recordings that other programs made, and those of which nothing is known but the pictures."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
import torch
from PIL import Image
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.video import save_mp4
from fieldcast.reconstruct.recordings import pictures
from fieldcast.reconstruct.recordings.files import write_recording
from fieldcast.reconstruct.recordings.opening import Known, open_recording
from fieldcast.reconstruct.recordings.steadiness import shift

T = 4


def ramp(frame: int = 0, height: int = 48, width: int = 64) -> Tensor:
    """Smooth, so that a video holds it, and different in each frame, each corner and each channel."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x / width, y / height, torch.full_like(x, frame / 8)], -1)


def bytes_of(rgb: Tensor) -> Tensor:
    return (rgb * 255).round().byte()


def filmed(path: Path, frames: int = T) -> None:
    save_mp4((ramp(i) for i in range(frames)), path, fps=12.5)


def pictured(folder: Path, names: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(bytes_of(ramp(i)).numpy()).save(folder / name)


def far(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().max())


def transforms(folder: Path, names: list[str], **more: Any) -> None:
    """Cameras that stand at z = 1, 2, ... in the order of `names`."""
    entries = []
    for i, name in enumerate(names):
        pose = [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, i + 1], [0, 0, 0, 1]]
        entries.append({"file_path": name, "transform_matrix": pose})
    lens = {"fl_x": 50.0, "fl_y": 51.0, "cx": 30.0, "cy": 25.0, "w": 64, "h": 48}
    (folder / "transforms.json").write_text(json.dumps({**lens, "frames": entries, **more}))


def test_a_video_is_its_frames_and_a_guess(tmp_path: Path) -> None:
    filmed(tmp_path / "clip.mp4")
    found = open_recording(tmp_path / "clip.mp4")
    assert len(found) == T and found.fps == 12.5 and found.people == () and found.labels is None and found.static
    for i, frame in enumerate(found.frames):
        assert far(frame, bytes_of(ramp(i))) < 14  # H.264 with 4:2:0 colour
    # A focal length of the longer side: the edges of the picture are at half of it, to the left and right.
    rays = found.cameras.rays(torch.tensor([0, 0]), torch.tensor([[0.0, 24.0], [64.0, 24.0]]))
    edges = torch.tensor([[-0.5, 0.0, -1.0], [0.5, 0.0, -1.0]]) / math.hypot(0.5, 1)
    assert torch.allclose(rays.directions, edges) and not bool(rays.origins.any())
    (guess,) = found.warnings
    assert "no camera is known: guessed one that stands still, with a focal length of 64 pixels" in guess
    assert "53 degrees" in guess
    half = open_recording(tmp_path / "clip.mp4", downscale=2)
    assert half.frames[0].shape == (24, 32, 3) and half.cameras.intrinsics[0].tolist() == [32, 32, 16, 12]


def test_a_video_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    filmed(tmp_path / "clip.mp4")
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    turn = [exe, "-v", "error", "-display_rotation", "90", "-i", str(tmp_path / "clip.mp4"), "-c", "copy"]
    subprocess.run([*turn, str(tmp_path / "turned.mp4")], check=True, stdin=subprocess.DEVNULL)
    found = open_recording(tmp_path / "turned.mp4")
    assert found.cameras.size.tolist() == [[48, 64]] * T
    assert far(found.frames[1], torch.rot90(bytes_of(ramp(1)))) < 14


def test_a_file_that_names_others_is_no_video(tmp_path: Path) -> None:
    filmed(tmp_path / "secret.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "text.mp4").write_text("nothing to see")
    (tmp_path / "empty.mp4").touch()
    for name in ("list.mp4", "list.m3u8", "text.mp4", "empty.mp4"):
        with pytest.raises(
            InputError, match=rf"{name}: expected a video, found something that ffmpeg cannot read \(.+"
        ):
            open_recording(tmp_path / name)


def test_a_video_that_fills_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filmed(tmp_path / "clip.mp4", 8)
    monkeypatch.setattr(pictures, "MEMORY", 3 * 64 * 48 * 5)
    with pytest.raises(InputError, match="expected at most 0 GB of frames, found more; shrink them"):
        open_recording(tmp_path / "clip.mp4")
    assert len(open_recording(tmp_path / "clip.mp4", downscale=2)) == 8


def patterned(height: int, width: int) -> Tensor:
    """A smooth random picture."""
    rough = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(rough, (height, width), mode="bilinear")[0]
    return bytes_of(smooth.permute(1, 2, 0))


def test_a_camera_that_moves_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    wide, walker = patterned(320, 480), torch.tensor([250, 20, 20], dtype=torch.uint8)
    for t in range(4):
        frame = wide[40:280, 40 + 4 * t : 400 + 4 * t].clone()  # 360 x 240, that goes 12 to the right: 3 %
        frame[60:220, 60 * t : 60 * t + 80] = walker
        Image.fromarray(frame.numpy()).save(tmp_path / "clip" / f"{t}.png")
    found = open_recording(tmp_path / "clip").warnings
    assert any("the picture moves, by 12 pixels until frame 3: the camera does not stand still" in w for w in found)
    for t in range(4):
        frame = wide[40:280, 40:400].clone()
        frame[60:220, 60 * t : 60 * t + 80] = walker
        Image.fromarray(frame.numpy()).save(tmp_path / "clip" / f"{t}.png")
    assert not any("the picture moves" in w for w in open_recording(tmp_path / "clip").warnings)


def test_shifts_are_found_with_their_signs() -> None:
    wide = patterned(96, 96).double().mean(-1).numpy()
    for rows, columns in ((0, 0), (5, 0), (0, -7), (-3, 9)):
        moved = wide[16 - rows : 80 - rows, 16 - columns : 80 - columns]
        assert shift(wide[16:80, 16:80], moved) == (rows, columns)


def test_a_folder_of_pictures_is_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    pictured(tmp_path / "clip", ["f1.png", "f2.png", "f10.jpg"])
    (tmp_path / "clip" / "notes.txt").write_text("no picture")
    found = open_recording(tmp_path / "clip")
    assert torch.equal(found.frames[1], bytes_of(ramp(1))) and far(found.frames[2], bytes_of(ramp(2))) < 10
    assert "how many there are in a second: taken as 24" in found.warnings[1]
    Image.new("RGB", (10, 10)).save(tmp_path / "clip" / "f3.png")
    with pytest.raises(InputError, match=r"f3.png: expected 64x48 pixels, as f1.png has, found 10x10"):
        open_recording(tmp_path / "clip")


def test_a_scene_is_read_by_any_of_its_names(tmp_path: Path) -> None:
    pictured(tmp_path / "raw", ["0.png"])
    given = open_recording(tmp_path / "raw")
    write_recording(given, tmp_path / "clip")
    (tmp_path / "clip" / "scene.json").rename(tmp_path / "clip" / "other.json")
    assert torch.equal(open_recording(tmp_path / "clip" / "other.json").frames[0], given.frames[0])
    with pytest.raises(InputError, match="downscale: expected a whole number of 1 or more, found 0"):
        open_recording(tmp_path / "clip" / "other.json", 0)


def test_a_capture_has_the_cameras_of_its_pictures(tmp_path: Path) -> None:
    pictured(tmp_path, ["f10.png", "f9.png"])
    transforms(tmp_path, ["f10.png", "f9.png"])
    for path in (tmp_path, tmp_path / "transforms.json"):
        found = open_recording(path)
        assert found.cameras.c2w[:, 2, 3].tolist() == [2, 1]  # f9 goes before f10
        assert torch.equal(found.frames[0], bytes_of(ramp(1)))
        assert found.cameras.intrinsics[0].tolist() == [50, 51, 30, 25]
        assert found.up == (0.0, 1.0, 0.0) and not found.static
        assert found.warnings[-1].endswith("transforms.json: does not say how long its unit is: taken as metres")


def test_a_video_takes_the_cameras_of_a_capture(tmp_path: Path) -> None:
    filmed(tmp_path / "clip.mp4")
    transforms(tmp_path, [f"images/{i}.png" for i in range(T)])  # pictures that are not here
    found = open_recording(tmp_path / "clip.mp4", 2, Known(cameras=tmp_path / "transforms.json"))
    assert found.cameras.c2w[:, 2, 3].tolist() == [1, 2, 3, 4]
    assert found.cameras.intrinsics[0].tolist() == [25, 25.5, 15, 12.5]
    assert not any("no camera is known" in line for line in found.warnings)
    transforms(tmp_path, ["0.png"])
    with pytest.raises(InputError, match=r"transforms.json: frames: expected 4 cameras, one a frame, found 1"):
        open_recording(tmp_path / "clip.mp4", known=Known(cameras=tmp_path / "transforms.json"))


def test_pictures_of_lenses_that_bend_are_straightened(tmp_path: Path) -> None:
    pictured(tmp_path, ["0.png"])
    transforms(tmp_path, ["0.png"], k1=-0.2)
    found = open_recording(tmp_path)
    assert found.cameras.distortion is None
    x, y = 50, 40
    u, v = (x + 0.5 - 30) / 50, (y + 0.5 - 25) / 51
    bend = 1 - 0.2 * (u * u + v * v)
    red, green = (30 + 50 * u * bend) / 64, (25 + 51 * v * bend) / 48  # of the ramp where that ray met the sensor
    assert found.frames[0][y, x, :2].tolist() == pytest.approx([255 * red, 255 * green], abs=1.1)
    transforms(tmp_path, ["0.png"], camera_model="OPENCV_FISHEYE", k1=0.01)
    with pytest.raises(
        InputError, match="expected pinhole cameras, found fisheye lenses; undistort the pictures first"
    ):
        open_recording(tmp_path)
