"""Posed images in transforms files: what is read from good ones, and the one line that each bad one gives."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fieldcast.errors import InputError
from fieldcast.fields.cameras import distort, look_at, undistort, undistort_fisheye
from fieldcast.fields.scenes import SPLITS, open_scene

Edit = Callable[[dict[str, Any]], Any]


def poses(count: int, radius: float = 4.0, center: tuple[float, float, float] = (0, 0, 0)) -> list[list[list[float]]]:
    """Cameras on a ring that look at `center` from a little above, as 4x4 lists."""
    angle = torch.arange(count, dtype=torch.float64) * 2 * math.pi / count
    middle = torch.tensor(center, dtype=torch.float64)
    eye = middle + radius * torch.stack([angle.cos() * 0.8, angle.sin() * 0.8, torch.full_like(angle, 0.6)], -1)
    c2w = look_at(eye, middle.expand_as(eye), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    return [[*pose, [0.0, 0.0, 0.0, 1.0]] for pose in c2w.tolist()]


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (12, 8), mode: str = "RGB") -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, (10 * i, 100, 200, 128)[: len(mode)]).save(folder / name)


def capture(folder: Path, count: int = 10, edit: Edit | None = None, **shared: Any) -> Path:
    """Writes a small nerfstudio capture into `folder`, after `edit` has changed its JSON."""
    names = [f"images/{i:03d}.png" for i in range(count)]
    write_images(folder, names)
    frames = [{"file_path": n, "transform_matrix": p} for n, p in zip(names, poses(count), strict=True)]
    document: dict[str, Any] = {"w": 12, "h": 8, "fl_x": 10.0, "fl_y": 9.0, "cx": 6.5, "cy": 3.5, **shared}
    document["frames"] = frames
    changed = edit(document) if edit else None
    text = changed if isinstance(changed, (str, bytes)) else json.dumps(changed if changed is not None else document)
    file = folder / "transforms.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def blender(folder: Path, splits: tuple[str, ...] = ("train", "test"), **shared: Any) -> Path:
    for split in splits:
        names = [f"{split}/r_{i}" for i in range(3)]
        write_images(folder, [f"{name}.png" for name in names], mode="RGBA")
        frames = [{"file_path": f"./{n}", "transform_matrix": p} for n, p in zip(names, poses(3), strict=True)]
        document = {"camera_angle_x": 0.7, "frames": frames, **shared}
        (folder / f"transforms_{split}.json").write_text(json.dumps(document))
    return folder


def pinhole_pixel(point: list[float], c2w: Any, fx: float, fy: float, cx: float, cy: float) -> Any:
    """An own pinhole: the pixel where a world point is seen, and whether it is in front."""
    inverse = np.linalg.inv(np.array(c2w))
    x, y, z, _ = inverse @ [*point, 1.0]
    return np.array([fx * x / -z + cx, fy * -y / -z + cy])


# ---------------------------------------------------------------------------------------------------- good files


def test_blender_scene(tmp_path: Path) -> None:
    scene = open_scene(blender(tmp_path), "train")
    assert (len(scene), scene.names[0]) == (3, "train/r_0")
    assert scene.images[1].tolist()[0][0] == [10, 100, 200, 128]
    assert scene.space.aabb == (-1.5, -1.5, -1.5, 1.5, 1.5, 1.5) and scene.space.bounded
    assert scene.background == (1.0, 1.0, 1.0)
    focal = 0.5 * 12 / math.tan(0.35)
    torch.testing.assert_close(scene.cameras.intrinsics[0], torch.tensor([focal, focal, 6.0, 4.0]))
    assert scene.cameras.distortion is None


def test_blender_all_is_every_split(tmp_path: Path) -> None:
    scene = open_scene(blender(tmp_path), "all")
    assert scene.names == tuple(f"{split}/r_{i}" for split in ("train", "test") for i in range(3))


def test_part_of_a_blender_scene_opens_the_scene(tmp_path: Path) -> None:
    assert open_scene(blender(tmp_path) / "transforms_test.json", "train").names[0] == "train/r_0"


@given(point=st.lists(st.floats(-0.7, 0.7), min_size=3, max_size=3), view=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_rays_pass_through_what_their_pixels_see(
    point: list[float], view: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Project a world point with an own pinhole; the ray through that pixel passes through the point."""
    file = CAPTURES.setdefault("plain", capture(tmp_path_factory.mktemp("plain")))
    cameras = open_scene(file, "all").cameras
    pixel = pinhole_pixel(point, poses(10)[view], 10.0, 9.0, 6.5, 3.5)
    rays = cameras.rays(torch.tensor([view]), torch.tensor(pixel[None], dtype=torch.float32))
    to_point = torch.tensor([point]) - rays.origins
    off = to_point - (to_point * rays.directions).sum() * rays.directions
    assert off.norm() < 1e-4
    assert (to_point * rays.directions).sum() > 0


CAPTURES: dict[str, Path] = {}


def test_capture_keeps_frame_scale_and_lens(tmp_path: Path) -> None:
    scene = open_scene(capture(tmp_path, k1=0.1, p2=0.01), "all")
    torch.testing.assert_close(scene.cameras.c2w, torch.tensor(poses(10))[:, :3])
    torch.testing.assert_close(scene.cameras.intrinsics[0], torch.tensor([10.0, 9.0, 6.5, 3.5]))
    assert scene.cameras.distortion is not None
    torch.testing.assert_close(scene.cameras.distortion[3], torch.tensor([0.1, 0, 0, 0, 0, 0.01]))
    assert scene.background == (0.0, 0.0, 0.0)
    assert all(int(image[..., 3].min()) == 255 for image in scene.images)


def test_every_eighth_view_is_held_out(tmp_path: Path) -> None:
    file = capture(tmp_path, 10, lambda d: d["frames"].reverse())  # sorted by name, whatever the order in the file
    names = {split: set(open_scene(file, split).names) for split in SPLITS}
    assert names["test"] == names["val"] == {"images/000.png", "images/008.png"}
    assert names["train"] | names["test"] == names["all"] and not names["train"] & names["test"]


def test_listed_splits_go_before_the_rule(tmp_path: Path) -> None:
    lists = {"train_filenames": ["images/003.png"], "test_filenames": ["./images/001.png", "images/002.png"]}
    file = capture(tmp_path, **lists)
    assert open_scene(file, "train").names == ("images/003.png",)
    assert open_scene(file, "test").names == ("images/001.png", "images/002.png")
    assert len(open_scene(file, "all")) == 10
    with pytest.raises(InputError, match="expected a split 'val', found train, test, all; pass one of those"):
        open_scene(file, "val")


def test_splits_share_one_space(tmp_path: Path) -> None:
    file = capture(tmp_path)
    assert open_scene(file, "train").space == open_scene(file, "test").space


@pytest.mark.parametrize("center", [(0.0, 0.0, 0.0), (30.0, -2.0, 5.0)])
def test_space_is_around_what_cameras_look_at(tmp_path: Path, center: tuple[float, float, float]) -> None:
    def move(document: dict[str, Any]) -> None:
        for frame, pose in zip(document["frames"], poses(10, center=center), strict=True):
            frame["transform_matrix"] = pose

    space = open_scene(capture(tmp_path, 10, move)).space
    torch.testing.assert_close(torch.tensor(space.center), torch.tensor(center), atol=1e-4, rtol=0)
    assert space.unit == pytest.approx(0.6 * 4.0, rel=1e-4)
    assert space.contraction == "sphere" and space.up == (0.0, 0.0, 1.0)


def test_space_of_cameras_that_look_outward(tmp_path: Path) -> None:
    def turn(document: dict[str, Any]) -> None:
        for frame in document["frames"]:
            for row in frame["transform_matrix"][:3]:
                row[0], row[2] = -row[0], -row[2]  # half a turn about the camera's own up

    space = open_scene(capture(tmp_path, 10, turn)).space
    torch.testing.assert_close(torch.tensor(space.center), torch.tensor([0.0, 0.0, 2.4]), atol=1e-4, rtol=0)
    assert space.unit == pytest.approx(2 * 3.2, rel=1e-4)


def test_space_of_parallel_cameras_lies_ahead(tmp_path: Path) -> None:
    def same(document: dict[str, Any]) -> None:
        for i, frame in enumerate(document["frames"]):
            frame["transform_matrix"] = [[1, 0, 0, i / 9], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]

    space = open_scene(capture(tmp_path, 10, same)).space  # they look along +y
    torch.testing.assert_close(torch.tensor(space.center), torch.tensor([0.5, 2.0, 0.0]), atol=1e-4, rtol=0)


def test_up_is_that_of_the_cameras_when_far_from_z(tmp_path: Path) -> None:
    def lie(document: dict[str, Any]) -> None:
        for frame in document["frames"]:
            x, y, z, last = frame["transform_matrix"]
            frame["transform_matrix"] = [x, z, [-v for v in y], last]  # the world turned: +z becomes +y

    space = open_scene(capture(tmp_path, 10, lie)).space
    torch.testing.assert_close(torch.tensor(space.up), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_one_frame_is_in_every_split(tmp_path: Path) -> None:
    file = capture(tmp_path, 1)
    assert all(len(open_scene(file, split)) == 1 for split in SPLITS)


def test_byte_order_mark_and_short_matrices_are_accepted(tmp_path: Path) -> None:
    def mixed(document: dict[str, Any]) -> bytes:
        document["frames"][0]["transform_matrix"].pop()
        return json.dumps(document).encode("utf-8-sig")

    assert len(open_scene(capture(tmp_path, 10, mixed), "all")) == 10


def test_suffix_may_be_left_out_and_backslashes_are_slashes(tmp_path: Path) -> None:
    def rename(document: dict[str, Any]) -> None:
        document["frames"][1]["file_path"] = "images\\001"

    assert "images\\001" in open_scene(capture(tmp_path, 10, rename)).names


def test_angles_replace_focal_lengths(tmp_path: Path) -> None:
    def angles(document: dict[str, Any]) -> None:
        del document["fl_x"], document["fl_y"], document["cx"], document["cy"]
        document.update(camera_angle_x=0.7, camera_angle_y=0.5)

    fx, fy, cx, cy = open_scene(capture(tmp_path, 10, angles)).cameras.intrinsics[0].tolist()
    assert fx == pytest.approx(6 / math.tan(0.35)) and fy == pytest.approx(4 / math.tan(0.25))
    assert (cx, cy) == (6.0, 4.0)


def test_a_frame_may_have_its_own_lens(tmp_path: Path) -> None:
    file = capture(tmp_path, 10, lambda d: d["frames"][2].update(fl_x=20.0, k1=0.2))
    cameras = open_scene(file, "all").cameras
    assert cameras.intrinsics[2, 0] == 20 and cameras.intrinsics[3, 0] == 10
    assert cameras.distortion is not None and cameras.distortion[:, 0].count_nonzero() == 1


def test_intrinsics_of_another_resolution_are_scaled(tmp_path: Path) -> None:
    file = capture(tmp_path, w=24, h=16, fl_x=20.0, fl_y=18.0, cx=13.0, cy=7.0)
    scene = open_scene(file)
    torch.testing.assert_close(scene.cameras.intrinsics[0], torch.tensor([10.0, 9.0, 6.5, 3.5]))
    assert scene.warnings == (f"{file}: images are 12x8, the file says 24x16: intrinsics scaled to fit",)


@pytest.mark.parametrize("factor", [2, 3])
def test_downscale_keeps_the_rays(tmp_path: Path, factor: int) -> None:
    """Point (u, v) of the small image is point (factor u, factor v) of the large one."""
    file = capture(tmp_path, k1=0.05)
    large, small = open_scene(file).cameras, open_scene(file, downscale=factor).cameras
    assert small.size[0].tolist() == [12 // factor, 8 // factor]
    index, pixel = torch.tensor([0, 1]), torch.tensor([[1.0, 2.0], [0.5, 0.0]])
    torch.testing.assert_close(small.rays(index, pixel).directions, large.rays(index, factor * pixel).directions)


def test_fisheye_model(tmp_path: Path) -> None:
    cameras = open_scene(capture(tmp_path, camera_model="OPENCV_FISHEYE", k1=0.01)).cameras
    assert cameras.fisheye and cameras.distortion is not None


@pytest.mark.parametrize("lens", [{"k1": -2.0}, {"k1": -1.0, "camera_model": "OPENCV_FISHEYE"}])
def test_a_lens_that_folds_over_is_a_warning(tmp_path: Path, lens: dict[str, Any]) -> None:
    file = capture(tmp_path, 3, **lens)
    assert open_scene(file, "all").warnings == (
        f"{file}: the distortion of images/000.png and 2 more folds over before the corners of the image: "
        "rays there are wrong",
    )


def test_duplicate_frames_are_a_warning(tmp_path: Path) -> None:
    file = capture(tmp_path, 10, lambda d: d["frames"].append(d["frames"][4]))
    assert open_scene(file).warnings == (f"{file}: images/004.png is named by 2 frames",)


def test_reading_tells_its_progress(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    open_scene(capture(tmp_path, 3), "all", progress=lambda done, total, note="": told.append((done, total, note)))
    assert told == [(1, 3, "reading images"), (2, 3, "reading images"), (3, 3, "reading images")]


def test_images_outside_are_read_when_allowed(tmp_path: Path) -> None:
    write_images(tmp_path, ["secret.png"])
    inner = tmp_path / "scene"
    inner.mkdir()
    file = capture(inner, 3, lambda d: d["frames"][1].update(file_path="../secret.png"))
    with pytest.raises(InputError, match=r"frames\[1\].file_path: expected an image inside"):
        open_scene(file)
    assert "../secret.png" in open_scene(file, "all", allow_outside=True).names


# ----------------------------------------------------------------------------------------------------- bad files


def set_pose(index: int, change: Callable[[Any], Any]) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        matrix = np.array(document["frames"][index]["transform_matrix"])
        document["frames"][index]["transform_matrix"] = np.asarray(change(matrix)).tolist()

    return edit


def update(**values: Any) -> Edit:
    return lambda document: document.update(**values)


def frame(index: int, **values: Any) -> Edit:
    return lambda document: document["frames"][index].update(**values)


def scaled(matrix: Any, *factors: float) -> Any:
    matrix = matrix.copy()
    matrix[:3, :3] = matrix[:3, :3] @ np.diag(factors)
    return matrix


POSE = "frames[3].transform_matrix: expected a rotation and a translation (world from camera), found "
FAULTS: dict[str, tuple[Edit, str]] = {
    "no frames": (lambda d: d.pop("frames") and d, "frames: expected a list of frames, found nothing"),
    "frames empty": (update(frames=[]), "frames: expected at least one frame, found none"),
    "frames an object": (update(frames={"a": 1}), "frames: expected a list of frames, found an object with 1 keys"),
    "frame a number": (
        update(frames=[3]),
        "frames[0]: expected an object with file_path and transform_matrix, found 3",
    ),
    "a list": (lambda d: "[]", "expected a JSON object, found a list of 0"),
    "truncated": (
        lambda d: '{"frames": [{"file_path": "a.png",',
        "expected JSON, found expecting property name enclosed in double quotes at line 1, column 35; "
        "the file may be cut short",
    ),
    "empty file": (lambda d: b" \n", "expected a JSON object, found an empty file"),
    "not text": (lambda d: b'{"a": "\xff\xfe"}', "expected JSON in UTF-8, found other bytes at position 7"),
    "nested": (lambda d: "[" * 200000, "expected JSON, found lists nested too deeply or a number too long"),
    "NaN": (
        lambda d: json.dumps(d).replace("10.0", "NaN"),
        "expected finite numbers, found NaN; write the file again without it",
    ),
    "huge number": (
        lambda d: json.dumps(d).replace('"fl_x": 10.0', '"fl_x": 1e999'),
        "fl_x: expected a finite number, found inf",
    ),
    "NaN pose": (
        lambda d: set_pose(3, lambda m: m * np.nan)(d) or json.dumps(d),
        "expected finite numbers, found NaN; write the file again without it",
    ),
    "no matrix": (
        lambda d: d["frames"][3].pop("transform_matrix") and d,
        "frames[3].transform_matrix: expected a list of 3 or 4 rows, found nothing",
    ),
    "matrix a text": (
        frame(3, transform_matrix="identity"),
        'frames[3].transform_matrix: expected a list of 3 or 4 rows, found "identity"',
    ),
    "matrix 2x4": (
        set_pose(3, lambda m: m[:2]),
        "frames[3].transform_matrix: expected a 3x4 or 4x4 matrix, found 2 rows of 4 (images/003.png)",
    ),
    "matrix ragged": (
        frame(3, transform_matrix=[[1, 0, 0, 0], [0, 1, 0], [0, 0, 1, 0]]),
        "frames[3].transform_matrix: expected a 3x4 or 4x4 matrix, found 3 rows of 3 and 4 (images/003.png)",
    ),
    "matrix of texts": (
        frame(3, transform_matrix=[[1, 0, 0, "0"], [0, 1, 0, 0], [0, 0, 1, 0]]),
        'frames[3].transform_matrix[0][3]: expected a number, found "0"',
    ),
    "last row": (
        set_pose(3, lambda m: m + np.eye(4)[3][:, None]),
        "frames[3].transform_matrix: expected a last row of 0 0 0 1, found 1 1 1 2 (images/003.png)",
    ),
    "scaled": (set_pose(3, lambda m: scaled(m, 2, 2, 2)), f"{POSE}a rotation scaled by 2 (images/003.png)"),
    "singular": (set_pose(3, lambda m: scaled(m, 1, 0, 1)), f"{POSE}a singular matrix (images/003.png)"),
    "zero": (set_pose(3, lambda m: scaled(m, 0, 0, 0)), f"{POSE}a singular matrix (images/003.png)"),
    "left-handed": (
        set_pose(3, lambda m: scaled(m, 1, 1, -1)),
        f"{POSE}a mirrored (left-handed) frame (images/003.png)",
    ),
    "sheared": (
        set_pose(3, lambda m: scaled(m, 1, 1.1, 1)),
        f"{POSE}columns that are not at right angles, or not of one length (images/003.png)",
    ),
    "outside": (
        frame(2, file_path="../../../../etc/hostname"),
        'frames[2].file_path: expected an image inside {folder}, found "../../../../etc/hostname"; '
        "pass --allow-outside if you trust this file",
    ),
    "absolute": (
        frame(2, file_path="/etc/hostname"),
        'frames[2].file_path: expected an image inside {folder}, found "/etc/hostname"; '
        "pass --allow-outside if you trust this file",
    ),
    "zero byte": (
        frame(2, file_path="images/\x00.png"),
        'frames[2].file_path: expected a file name without control characters, found "images/\\u0000.png"',
    ),
    "file_path a number": (frame(2, file_path=7), "frames[2].file_path: expected a text, found 7"),
    "no file_path": (
        lambda d: d["frames"][2].pop("file_path") and d,
        "frames[2].file_path: expected a text, found nothing",
    ),
    "missing images": (
        lambda d: [f.update(file_path=f"{i}.png") for i, f in enumerate(d["frames"][:7])] and d,
        "frames[].file_path: expected 10 images, found 3; missing: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more",
    ),
    "fl_x zero": (update(fl_x=0), "fl_x: expected a number above 0, found 0"),
    "fl_x negative in a frame": (frame(1, fl_x=-1.5), "frames[1].fl_x: expected a number above 0, found -1.5"),
    "fl_x a text": (update(fl_x="10"), 'fl_x: expected a number, found "10"'),
    "fl_x true": (update(fl_x=True), "fl_x: expected a number, found true"),
    "no focal length": (
        lambda d: d.pop("fl_x") and d.pop("fl_y") and d,
        "fl_x: expected fl_x or camera_angle_x (the focal length), found nothing",
    ),
    "angle too wide": (
        lambda d: (d.pop("fl_x") and d.update(camera_angle_x=3.2)) or d,
        "camera_angle_x: expected an angle in radians below pi, found 3.2",
    ),
    "wrong size": (
        update(w=12, h=12),
        "w: expected the size of images/001.png, 12x8, or one of the same shape, found 12x12",
    ),
    "size zero": (update(w=0), "w: expected a number above 0, found 0"),
    "unknown camera model": (
        update(camera_model="BANANA"),
        "camera_model: expected one of OPENCV, PINHOLE, SIMPLE_PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV_FISHEYE, "
        'found "BANANA"',
    ),
    "mixed lenses": (
        frame(1, camera_model="OPENCV_FISHEYE"),
        "frames: expected one kind of lens in all frames, found fisheye and other cameras mixed",
    ),
    "split of strangers": (
        update(train_filenames=["other.png"]),
        'train_filenames[0]: expected the file_path of a frame, found "other.png"',
    ),
    "split empty": (update(train_filenames=[]), "train_filenames: expected at least one file name, found none"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_line(tmp_path: Path, name: str) -> None:
    edit, message = FAULTS[name]
    file = capture(tmp_path, 10, edit)
    with pytest.raises(InputError) as error:
        open_scene(file)
    assert str(error.value) == f"{file}: " + message.replace("{folder}", str(tmp_path))
    assert "\n" not in str(error.value)


def test_damaged_image_names_the_file(tmp_path: Path) -> None:
    file = capture(tmp_path)
    (tmp_path / "images/001.png").write_bytes(b"")
    with pytest.raises(InputError) as error:
        open_scene(file)
    assert str(error.value) == f"{tmp_path}/images/001.png: expected an image, found an empty file"


def test_absent_split_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        open_scene(blender(tmp_path), "val")
    assert str(error.value) == f"{tmp_path}: expected a split 'val', found train, test, all; pass one of those"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "train2"), "split: expected one of train, val, test, all, found 'train2'"),
        (("demo", "train", 0), "downscale: expected a whole number of 1 or more, found 0"),
        (("nowhere",), "nowhere: expected a scene folder, a transforms.json, a mesh or `demo`, found nothing there"),
    ],
)
def test_wrong_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        open_scene(*arguments)
    assert str(error.value) == message


def test_folder_without_a_scene(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected transforms_train\.json, transforms\.json or poses_bounds\.npy"):
        open_scene(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"expected a transforms.json or a mesh .*, found another file"):
        open_scene(tmp_path / "notes.txt")


def test_downscale_beyond_the_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected more than 9 pixels a side, found 12x8"):
        open_scene(capture(tmp_path), downscale=9)


# -------------------------------------------------------------------------------------------------------- lenses

coefficients = st.tuples(*[st.floats(-0.08, 0.08)] * 2, *[st.floats(-0.01, 0.01)] * 4)


@given(x=st.floats(-0.7, 0.7), y=st.floats(-0.7, 0.7), k=coefficients)
@settings(max_examples=100, deadline=None)
def test_undistort_is_the_inverse_of_distort(x: float, y: float, k: tuple[float, ...]) -> None:
    xy, lens = torch.tensor([[x, y]], dtype=torch.float64), torch.tensor([k], dtype=torch.float64)
    torch.testing.assert_close(undistort(distort(xy, lens), lens), xy, atol=1e-9, rtol=0)
    torch.testing.assert_close(distort(undistort(xy, lens), lens), xy, atol=1e-9, rtol=0)


def test_distort_is_opencvs_formula() -> None:
    """x'' = x (1 + k1 r2 + k2 r4 + k3 r6) + 2 p1 x y + p2 (r2 + 2 x^2), and y'' with p1 and p2 exchanged, by hand."""
    x, y, k1, k2, k3, p1, p2 = 0.3, -0.4, 0.1, -0.05, 0.02, 0.003, -0.004
    r2 = 0.25
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    expected = [
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    ]
    found = distort(torch.tensor([[x, y]]), torch.tensor([[k1, k2, k3, 0.0, p1, p2]]))
    torch.testing.assert_close(found, torch.tensor([expected]))


@given(theta=st.floats(0.01, 1.4), angle=st.floats(0, 6.2), k=st.tuples(*[st.floats(-0.004, 0.004)] * 4))
@settings(max_examples=60, deadline=None)
def test_fisheye_directions(theta: float, angle: float, k: tuple[float, ...]) -> None:
    """A direction at `theta` from the axis lies theta (1 + k1 theta^2 + ...) from the centre of the sensor."""
    theta_d = theta * (1 + sum(c * theta ** (2 * i + 2) for i, c in enumerate(k)))
    xy = torch.tensor([[theta_d * math.cos(angle), theta_d * math.sin(angle)]], dtype=torch.float64)
    found = undistort_fisheye(xy, torch.tensor([[*k, 0.0, 0.0]], dtype=torch.float64))
    expected = [math.sin(theta) * math.cos(angle), math.sin(theta) * math.sin(angle), math.cos(theta)]
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float64), atol=1e-6, rtol=0)


# ----------------------------------------------------------------------------------------------------- real data


def test_real_lego(data: Path) -> None:
    folder = data / "posed" / "nerf_synthetic_lego_100"
    scene = open_scene(folder, "val")
    document = json.loads((folder / "transforms_val.json").read_text())
    assert len(scene) == len(document["frames"])
    focal = 50 / math.tan(document["camera_angle_x"] / 2)
    pixel = pinhole_pixel([0.0, 0.0, 0.0], document["frames"][2]["transform_matrix"], focal, focal, 50, 50)
    rays = scene.cameras.rays(torch.tensor([2]), torch.tensor(pixel[None], dtype=torch.float32))
    nearest = rays.origins + (-rays.origins * rays.directions).sum() * rays.directions
    assert nearest.norm() < 1e-4
    assert scene.images[0][..., 3].min() == 0 and scene.warnings == ()


def test_real_fox(data: Path) -> None:
    scene = open_scene(data / "posed" / "fox_270x480", "test")
    assert len(scene) == 7 and scene.images[0].shape == (480, 270, 4)
    assert scene.cameras.distortion is not None and scene.warnings == ()
    assert 2.5 < scene.space.unit < 3.5 and scene.space.up == (0.0, 0.0, 1.0)
