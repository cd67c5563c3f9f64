"""Frames of a transforms file: their poses, lenses and pictures, put together into a `Scene`.

Both layouts of such files, NeRF-Synthetic's and nerfstudio's, are read here; they differ in how frames are split and
in where the scene is thought to be.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from fieldcast.fields.cameras import Cameras, distort, undistort, undistort_fisheye
from fieldcast.fields.progress import Progress
from fieldcast.fields.scenes.checks import Node, find_image, read_pose
from fieldcast.fields.scenes.images import image_size, read_images
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.space import Space, Vector3

# Models whose rays `Cameras` knows; the coefficients that a file gives are used whatever the pinhole-like name.
CAMERA_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV_FISHEYE")
COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2")


@dataclass(frozen=True)
class Frame:
    """One view as the file has it. node: its entry in `frames`; document: the file, for what all frames share."""

    document: Node
    node: Node
    name: str
    path: Path
    c2w: Float64[np.ndarray, "3 4"]

    def get(self, key: str) -> Node:
        """The frame's own value, else the one of the file."""
        return self.node[key] if key in self.node else self.document[key]

    def has(self, key: str) -> bool:
        return key in self.node or key in self.document


@dataclass(frozen=True)
class Lens:
    """intrinsics: fx, fy, cx, cy in pixels of the picture on disk; coefficients: k1, k2, k3, k4, p1, p2."""

    intrinsics: tuple[float, float, float, float]
    coefficients: tuple[float, ...]
    fisheye: bool
    warning: str = ""


def read_frames(document: Node, allow_outside: bool) -> list[Frame]:
    """All frames of a file, with checked poses. Pictures are looked for, but may be missing."""
    nodes = document["frames"].items("frames")
    if not nodes:
        document["frames"].fail("at least one frame", "none")
    root, frames = document.file.parent, []
    for node in nodes:
        if not isinstance(node.value, dict):
            node.fail("an object with file_path and transform_matrix")
        path = find_image(node["file_path"], root, allow_outside)
        name = node["file_path"].text().removeprefix("./")
        frames.append(Frame(document, node, name, path, read_pose(node["transform_matrix"], name)))
    return frames


def read_lens(frame: Frame, width: int, height: int) -> Lens:
    """The lens of a frame whose picture on disk is width x height pixels."""
    w = frame.get("w").positive() if frame.has("w") else float(width)
    h = frame.get("h").positive() if frame.has("h") else float(height)
    # 5187x3361 at a quarter is 1297x840: a pixel of rounding a side is the same picture at another resolution.
    if abs(width / w - height / h) > 1 / w + 1 / h:
        frame.get("w").fail(f"the size of {frame.name}, {width}x{height}, or one of the same shape", f"{w:g}x{h:g}")
    fx, fy = _focal_lengths(frame, w, h)
    cx, cy = frame.get("cx").number(w / 2), frame.get("cy").number(h / 2)
    warning = ""
    if (w, h) != (width, height):
        warning = f"images are {width}x{height}, the file says {w:g}x{h:g}: intrinsics scaled to fit"
    elif not (0 < cx < w and 0 < cy < h):
        warning = f"the principal point ({cx:g}, {cy:g}) lies outside of images of {width}x{height}"
    coefficients = tuple(frame.get(key).number(0.0) for key in COEFFICIENTS)
    sx, sy = width / w, height / h
    return Lens((fx * sx, fy * sy, cx * sx, cy * sy), coefficients, _is_fisheye(frame), warning)


def _focal_lengths(frame: Frame, w: float, h: float) -> tuple[float, float]:
    """fl_x and fl_y in pixels, or from the opening angles; an axis that is not given is as the other."""
    fx = frame.get("fl_x").positive() if frame.has("fl_x") else _focal_from_angle(frame, "camera_angle_x", w)
    fy = frame.get("fl_y").positive() if frame.has("fl_y") else _focal_from_angle(frame, "camera_angle_y", h)
    if fx is None and fy is None:
        frame.document["fl_x"].fail("fl_x or camera_angle_x (the focal length)")
    return (fx or fy or 0.0), (fy or fx or 0.0)


def _focal_from_angle(frame: Frame, key: str, side: float) -> float | None:
    if not frame.has(key) or (key == "camera_angle_y" and frame.has("fl_x")):
        return None
    angle = frame.get(key).positive()
    if angle >= math.pi:
        frame.get(key).fail("an angle in radians below pi", f"{angle:g}")
    return 0.5 * side / math.tan(0.5 * angle)


def _is_fisheye(frame: Frame) -> bool:
    if not frame.has("camera_model"):
        return frame.has("is_fisheye") and frame.get("is_fisheye").value is True  # Instant-NGP's way to say it
    model = frame.get("camera_model")
    if model.value not in CAMERA_MODELS:
        model.fail(f"one of {', '.join(CAMERA_MODELS)}")
    return bool(model.value == "OPENCV_FISHEYE")


def build_cameras(frames: Sequence[Frame], downscale: int) -> tuple[Cameras, list[str]]:
    """The cameras of pictures shrunk by `downscale`, and a line for each odd but usable thing."""
    sizes = [image_size(frame.path) for frame in frames]
    lenses = [read_lens(frame, *size) for frame, size in zip(frames, sizes, strict=True)]
    if len({lens.fisheye for lens in lenses}) > 1:
        frames[0].document["frames"].fail("one kind of lens in all frames", "fisheye and other cameras mixed")
    coefficients = torch.tensor([lens.coefficients for lens in lenses])
    cameras = Cameras(
        c2w=torch.tensor(np.stack([frame.c2w for frame in frames]), dtype=torch.float32),
        intrinsics=torch.tensor([lens.intrinsics for lens in lenses], dtype=torch.float64).div(downscale).float(),
        size=torch.tensor(sizes) // downscale,
        distortion=coefficients if lenses[0].fisheye or bool(coefficients.any()) else None,
        fisheye=lenses[0].fisheye,
    )
    file = frames[0].document.file
    odd = [f"{file}: {w}" for w in dict.fromkeys(lens.warning for lens in lenses if lens.warning)]
    folded = _folded(cameras)
    if folded:
        names = f"{frames[folded[0]].name} and {len(folded) - 1} more" if len(folded) > 1 else frames[folded[0]].name
        odd.append(
            f"{file}: the distortion of {names} folds over before the corners of the image: rays there are wrong"
        )
    return cameras, odd


def _folded(cameras: Cameras) -> list[int]:
    """The cameras whose lens model cannot be inverted at the corners of the image, as happens to poor calibrations."""
    if cameras.distortion is None:
        return []
    k, (fx, fy, cx, cy) = cameras.distortion.double(), cameras.intrinsics.double().unbind(-1)
    width, height = cameras.size.double().unbind(-1)
    bad = torch.zeros(len(cameras), dtype=torch.bool)
    for x, y in itertools.product((-cx, width - cx), (-cy, height - cy)):
        bad |= ~_unfolded(torch.stack([x / fx, y / fy], -1), k, cameras.fisheye)
    return [int(i) for i in bad.nonzero()[:, 0]]


def _unfolded(xy: Float[Tensor, "n 2"], k: Float[Tensor, "n 6"], fisheye: bool) -> Bool[Tensor, " n"]:
    """Whether image points move outward all the way as their ideal points do, from the axis to `xy` on the sensor."""
    steps = torch.linspace(0, 1, 33, dtype=xy.dtype)[:, None]
    if fisheye:
        direction = undistort_fisheye(xy, k)
        theta = steps * torch.atan2(direction[:, :2].norm(dim=-1), direction[:, 2])
        powers = torch.stack([theta ** (2 * i + 2) for i in range(4)], -1)
        radius = theta * (1 + (powers * k[:, :4]).sum(-1))
    else:
        ideal = undistort(xy, k)
        radius = torch.stack([distort(step * ideal, k).norm(dim=-1) for step in steps])
    target = xy.norm(dim=-1)
    unfolded: Tensor = (radius.diff(dim=0) > 0).all(0) & ((radius[-1] - target).abs() <= 1e-3 * target)
    return unfolded


def build_scene(
    frames: Sequence[Frame],
    space: Space,
    *,
    background: Vector3,
    source: Path,
    warnings: Sequence[str],
    downscale: int,
    progress: Progress,
) -> Scene:
    """Reads the pictures of `frames`; cameras are checked first, because that is quick."""
    cameras, odd = build_cameras(frames, downscale)
    images = read_images([frame.path for frame in frames], downscale, progress)
    names = tuple(frame.name for frame in frames)
    return Scene(cameras, images, names, space, background, str(source), (*warnings, *odd))
