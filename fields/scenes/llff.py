"""LLFF captures: `poses_bounds.npy` beside folders of images, `images`, `images_4` and so on.

Each row of the array holds a 3x5 matrix, whose columns are the camera's down, right and back axes, its place, and the
height, width and focal length in pixels of the full image; then the nearest and the farthest depth it sees.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.checks import IMAGE_SUFFIXES, rotation_fault
from fieldcast.fields.scenes.framing import capture_space, cube, up_direction
from fieldcast.fields.scenes.images import image_size, read_images
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.scenes.splits import every_eighth
from fieldcast.fields.space import Space

BLACK = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Poses:
    """c2w: [V, 3, 4] OpenGL axes. size: [V, 2] width and height, focal: [V], in pixels. bounds: [V, 2] near, far."""

    c2w: Float64[np.ndarray, "v 3 4"]
    size: Float64[np.ndarray, "v 2"]
    focal: Float64[np.ndarray, " v"]
    bounds: Float64[np.ndarray, "v 2"]


def read_llff(
    folder: Path, split: str = "train", downscale: int = 1, progress: Progress = silent, allow_outside: bool = False
) -> Scene:
    """The views of one split; images already shrunk by a divisor of `downscale` are used where they are there."""
    poses = read_poses(folder / "poses_bounds.npy")
    images, shrunk = find_images(folder, downscale)
    paths = sorted(p for p in images.iterdir() if p.suffix in IMAGE_SUFFIXES)
    if len(paths) != len(poses.c2w):
        raise InputError(
            f"{folder}: expected an image for each of the {len(poses.c2w)} rows of poses_bounds.npy, "
            f"found {len(paths)} in {images.name}"
        )
    chosen = every_eighth([path.name for path in paths], split)
    cameras = build_cameras(poses, paths, chosen, downscale // shrunk)
    pictures = read_images([paths[i] for i in chosen], downscale // shrunk, progress)
    names = tuple(f"{images.name}/{paths[i].name}" for i in chosen)
    return Scene(cameras, pictures, names, find_space(poses), BLACK, str(folder))


def read_poses(file: Path) -> Poses:
    """The checked contents of poses_bounds.npy."""
    rows = _read_array(file)
    matrix = rows[:, :15].reshape(-1, 3, 5)
    down, right, back, place, (height, width, focal) = *matrix[:, :, :4].transpose(2, 0, 1), matrix[:, :, 4].T
    c2w = np.stack([right, -down, back, place], -1)
    for i, pose in enumerate(c2w):
        fault = rotation_fault(pose[:, :3])
        if fault:
            raise InputError(f"{file}: row {i}: expected a rotation (down, right, back axes), found {fault}")
        if not (height[i] > 0 and width[i] > 0 and focal[i] > 0):
            found = f"{height[i]:g} {width[i]:g} {focal[i]:g}"
            raise InputError(f"{file}: row {i}: expected a height, width and focal length above 0, found {found}")
        if not 0 < rows[i, 15] < rows[i, 16]:
            found = f"{rows[i, 15]:g} and {rows[i, 16]:g}"
            raise InputError(f"{file}: row {i}: expected 0 < nearest < farthest depth, found {found}")
    return Poses(c2w, np.stack([width, height], -1), focal, rows[:, 15:])


def _read_array(file: Path) -> Float64[np.ndarray, "v 17"]:
    try:
        # Mapped first: a header of a few bytes can claim terabytes, which mapping compares with the file's size.
        rows = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # numpy raises ValueError, EOFError, OSError, SyntaxError, … on files that are damaged
        raise InputError(f"{file}: expected a NumPy array, found a damaged file or another format ({error})") from None
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows) or rows.dtype.kind not in "fiu":
        raise InputError(f"{file}: expected an array of numbers [views, 17], found {rows.dtype} {list(rows.shape)}")
    finite = np.isfinite(rows).all(-1)
    if not finite.all():
        raise InputError(f"{file}: row {int(finite.argmin())}: expected finite numbers, found NaN or infinity")
    return np.array(rows, np.float64)


def find_images(folder: Path, downscale: int) -> tuple[Path, int]:
    """The folder of images to read, and by what they are shrunk already: the largest divisor of `downscale`."""
    there = {
        int(m[1] or 1): p for p in folder.iterdir() if p.is_dir() and (m := re.fullmatch(r"images(?:_(\d+))?", p.name))
    }
    fitting = [factor for factor in there if factor and downscale % factor == 0]
    if not fitting:
        found = ", ".join(path.name for _, path in sorted(there.items())) or "no folder of images"
        hint = f"; pass --downscale {min(there)}" if there else ""
        raise InputError(f"{folder}: expected a folder images, found {found}{hint}")
    return there[max(fitting)], max(fitting)


def build_cameras(poses: Poses, paths: list[Path], chosen: list[int], downscale: int) -> Cameras:
    """The cameras of the chosen views, whose pictures on disk are still to be shrunk by `downscale`."""
    sizes = np.array([image_size(paths[i]) for i in chosen])
    written = poses.size[chosen]
    scale = sizes / written
    for i, size, (w, h), (sx, sy) in zip(chosen, sizes, written, scale, strict=True):
        if abs(sx - sy) > 1 / w + 1 / h:  # more than a pixel of rounding
            raise InputError(
                f"{paths[i]}: expected the shape of {w:g}x{h:g} in poses_bounds.npy, found {size[0]}x{size[1]}"
            )
    focal = poses.focal[chosen, None] * scale
    intrinsics = np.concatenate([focal, sizes / 2], -1) / downscale
    return Cameras(
        torch.tensor(poses.c2w[chosen], dtype=torch.float32),
        torch.tensor(intrinsics, dtype=torch.float32),
        torch.tensor(sizes // downscale),
    )


def find_space(poses: Poses) -> Space:
    """Where the scene is: for cameras that go around it as in `capture_space`, else ahead of them.

    For a forward-facing capture the box is centred at the harmonic mean of the depths, which is where half of the
    change of parallax lies, and reaches to the nearest depth and to the edges of the view there.
    """
    c2w = torch.tensor(poses.c2w)
    ahead = -c2w[:, :, 2].mean(0)
    if float(ahead.norm()) < 0.7:
        return capture_space(c2w)
    near, far = np.quantile(poses.bounds[:, 0], 0.1), np.quantile(poses.bounds[:, 1], 0.9)
    depth = float(2 / (1 / near + 1 / far))
    edge = float((poses.size.max(-1) / (2 * poses.focal)).max())
    half = max(depth - float(near), depth * edge)
    center = c2w[:, :, 3].mean(0) + depth * torch.nn.functional.normalize(ahead, dim=0)
    return cube(center, half, up_direction(c2w, near_z=0.0))
