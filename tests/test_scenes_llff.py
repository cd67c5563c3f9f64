"""LLFF captures: axes, images already shrunk, the space, and the one line that each fault gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fieldcast.errors import InputError
from fieldcast.fields.scenes import open_scene


def llff(folder: Path, views: int = 9, change: Callable[[Any], Any] = lambda rows: rows) -> Path:
    """A forward-facing capture: cameras in a row along x that look along +y; OpenGL axes x right, z up, -y back."""
    rows = np.zeros((views, 17))
    for i in range(views):
        down, right, back = (0, 0, -1), (1, 0, 0), (0, -1, 0)
        place, hwf = (i / 4 - 1, 0, 0), (24, 32, 40)
        rows[i] = [*np.stack([down, right, back, place, hwf], -1).reshape(-1), 2.0, 20.0]
    np.save(folder / "poses_bounds.npy", change(rows))
    return images(folder, "images", (32, 24), views)


def images(folder: Path, name: str, size: tuple[int, int], views: int = 9) -> Path:
    (folder / name).mkdir()
    for i in range(views):
        Image.new("RGB", size, (20 * i, 0, 0)).save(folder / name / f"{i:02d}.png")
    return folder


def test_axes_become_opengl(tmp_path: Path) -> None:
    scene = open_scene(llff(tmp_path), "all")
    torch.testing.assert_close(scene.cameras.c2w[0, :, :3], torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))
    rays = scene.cameras.rays(torch.tensor([0, 0]), torch.tensor([[16.0, 12.0], [16.0, 0.0]]))
    torch.testing.assert_close(rays.directions[0], torch.tensor([0.0, 1.0, 0.0]))
    assert rays.directions[1, 2] > 0, "the top of the image is up in the world"
    torch.testing.assert_close(scene.cameras.intrinsics[0], torch.tensor([40.0, 40.0, 16.0, 12.0]))


def test_every_eighth_is_held_out(tmp_path: Path) -> None:
    assert open_scene(llff(tmp_path), "test").names == ("images/00.png", "images/08.png")
    assert len(open_scene(tmp_path, "train")) == 7


def test_images_shrunk_before_are_used(tmp_path: Path) -> None:
    images(llff(tmp_path), "images_4", (8, 6))
    scene = open_scene(tmp_path, downscale=4)
    assert scene.names[0].startswith("images_4/") and scene.images[0].shape == (6, 8, 4)
    torch.testing.assert_close(scene.cameras.intrinsics[0], torch.tensor([10.0, 10.0, 4.0, 3.0]))
    again = open_scene(tmp_path, downscale=8)
    assert again.names[0].startswith("images_4/") and again.images[0].shape == (3, 4, 4)
    assert open_scene(tmp_path, downscale=2).names[0].startswith("images/")


def test_only_shrunk_images(tmp_path: Path) -> None:
    images(llff(tmp_path), "images_8", (4, 3))
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    (tmp_path / "images").rmdir()
    with pytest.raises(InputError, match="expected a folder images, found images_8; pass --downscale 8"):
        open_scene(tmp_path)
    assert open_scene(tmp_path, downscale=8).cameras.intrinsics[0, 0] == 5


def test_space_of_a_forward_facing_capture(tmp_path: Path) -> None:
    """Ahead of the cameras, from the nearest depth on, with the world's up although it is not that of the file."""
    space = open_scene(llff(tmp_path)).space
    depth = 2 / (1 / 2 + 1 / 20)
    torch.testing.assert_close(torch.tensor(space.center), torch.tensor([0.0, depth, 0.0]))
    assert space.aabb[1] <= 2.0 and space.contraction == "sphere"
    torch.testing.assert_close(torch.tensor(space.up), torch.tensor([0.0, 0.0, 1.0]))


def row(index: int, column: int, value: float) -> Callable[[Any], Any]:
    def change(rows: Any) -> Any:
        rows[index, column] = value
        return rows

    return change


FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "NaN": (row(4, 3, np.nan), "row 4: expected finite numbers, found NaN or infinity"),
    "wrong shape": (lambda r: r[:, :16], "expected an array of numbers [views, 17], found float64 [9, 16]"),
    "no views": (lambda r: r[:0], "expected an array of numbers [views, 17], found float64 [0, 17]"),
    "texts": (lambda r: r.astype(str), "expected an array of numbers [views, 17], found <U32 [9, 17]"),
    "mirrored": (
        row(2, 1, -1.0),
        "row 2: expected a rotation (down, right, back axes), found a mirrored (left-handed) frame",
    ),
    "singular": (row(2, 1, 0.0), "row 2: expected a rotation (down, right, back axes), found a singular matrix"),
    "scaled": (
        lambda r: np.concatenate([2 * r[:, :15], r[:, 15:]], 1),
        "row 0: expected a rotation (down, right, back axes), found a rotation scaled by 2",
    ),
    "no focal length": (
        row(3, 14, 0.0),
        "row 3: expected a height, width and focal length above 0, found 24 32 0",
    ),
    "far before near": (row(5, 16, 1.0), "row 5: expected 0 < nearest < farthest depth, found 2 and 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_line(tmp_path: Path, name: str) -> None:
    change, message = FAULTS[name]
    with pytest.raises(InputError) as error:
        open_scene(llff(tmp_path, change=change))
    assert str(error.value) == f"{tmp_path}/poses_bounds.npy: {message}"


def objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def terabytes(path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (300000000000, 17), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64)


def archive(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    path.with_suffix(".npz").rename(path)


@pytest.mark.parametrize(
    "damage",
    [
        objects,
        terabytes,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"hello"),
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        archive,
    ],
    ids=["objects", "terabytes", "empty", "text", "truncated", "archive"],
)
def test_files_that_are_not_an_array(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    file = llff(tmp_path) / "poses_bounds.npy"
    damage(file)
    with pytest.raises(InputError, match=r"poses_bounds\.npy: expected a") as error:
        open_scene(tmp_path)
    assert "\n" not in str(error.value)


def test_fewer_images_than_poses(tmp_path: Path) -> None:
    (llff(tmp_path) / "images" / "03.png").unlink()
    with pytest.raises(InputError) as error:
        open_scene(tmp_path)
    expected = "expected an image for each of the 9 rows of poses_bounds.npy, found 8 in images"
    assert str(error.value) == f"{tmp_path}: {expected}"


def test_images_of_another_shape(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(llff(tmp_path) / "images" / "01.png")
    with pytest.raises(InputError) as error:
        open_scene(tmp_path)
    assert str(error.value) == f"{tmp_path}/images/01.png: expected the shape of 32x24 in poses_bounds.npy, found 32x32"
