"""Folders of MultiPly and of Vid2Avatar, as their preprocessing writes them.

    image/0000.png ...       poses.npy (T, P, 72), normalize_trans.npy (T, P, 3), mean_shape.npy (P, 10) of SMPL
    cameras_normalize.npz    world_mat_0 ...: intrinsics times world-to-camera, 4 x 4; scale_mat_0 ...
    cameras.npz              the same matrices as cam_0 ...

Vid2Avatar, which has one person, leaves the axis of people out. Only scale_mat shrinks the world; the other matrices
and the translations are in metres, so it is not needed. But the world of a video that is not a data set's is moved to
the middle of the people anew in every frame: where nothing but the place of the camera changes, the camera is what
stands still, and the people are moved back.

mask/ holds the silhouettes of the bodies, made larger, and says nothing that the poses do not: it is not read.

Letters: T frames, P people.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.recordings.arrays import read_npy, read_npz
from fieldcast.reconstruct.recordings.files import common_size, read_frames
from fieldcast.reconstruct.recordings.params import person_of
from fieldcast.reconstruct.recordings.pictures import FPS, pictures_in
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.recordings.smpl import smpl_body, smpl_pose, smpl_shape

FILES = ("poses.npy", "normalize_trans.npy", "mean_shape.npy")
STILL = 1e-5  # how far the entries of rotations, and camera centres in metres, are apart at most where nothing moves


def read_multiply(folder: Path, body_name: str | None, downscale: int = 1, progress: Progress = silent) -> Recording:
    """The recording of such a folder, in metres. body_name: the file of SMPL, which is not in it."""
    body = smpl_body(body_name, folder)
    poses, places, shapes = _numbers(folder)
    images = pictures_in(folder / "image") if (folder / "image").is_dir() else []
    if len(images) != len(poses):
        raise InputError(
            f"{folder}/image: expected {len(poses)} pictures, as poses.npy has frames, found {len(images)}"
        )
    c2w, intrinsics = _cameras(folder, len(poses))
    warnings = [f"{folder}: pictures do not say how many there are in a second: taken as {FPS:g}"]
    if (folder / "mask").is_dir():
        warnings.append(f"{folder}/mask: these are the bodies' own silhouettes: not read as masks")
    moved = c2w[:, :, 3].copy()
    if np.ptp(c2w[:, :, :3], axis=0).max() < STILL < np.ptp(moved, axis=0).max():
        places, c2w[:, :, 3] = places - moved[:, None], 0.0
        warnings.append(
            f"{folder}: moved back to where the camera stands still, from a world that moves with the people"
        )
    size = common_size(images)
    people = []
    for p in range(poses.shape[1]):
        arrays = {
            "shape": smpl_shape(shapes[p], body),
            "pose": smpl_pose(poses[:, p], body, folder / "poses.npy"),
            "place": places[:, p],
            "present": np.ones(len(poses), bool),
        }
        people.append(person_of(f"person-{p}", body, arrays, str(folder)))
    cameras = Cameras(
        torch.from_numpy(c2w).float(),
        torch.from_numpy(intrinsics / downscale).float(),
        torch.tensor([[size[0] // downscale, size[1] // downscale]]).repeat(len(poses), 1),
    )
    frames = read_frames(images, downscale, progress)
    return Recording(frames, cameras, tuple(people), fps=FPS, source=str(folder), warnings=tuple(warnings))


def _numbers(
    folder: Path,
) -> tuple[Float64[np.ndarray, "t p 72"], Float64[np.ndarray, "t p 3"], Float64[np.ndarray, "p s"]]:
    """Poses, translations and shapes, with an axis of people whether or not the files have one."""
    poses, places, shapes = (read_npy(folder / name).astype(np.float64) for name in FILES)
    poses = poses[:, None] if poses.ndim == 2 else poses
    places = places[:, None] if places.ndim == 2 else places
    shapes = shapes[None] if shapes.ndim == 1 else shapes
    if poses.ndim != 3 or poses.shape[2] != 72 or not poses.size:
        raise InputError(f"{folder}/poses.npy: expected shape [frames, people, 72], found {list(poses.shape)}")
    count, people = poses.shape[:2]
    if places.shape != (count, people, 3):
        raise InputError(
            f"{folder}/normalize_trans.npy: expected shape {[count, people, 3]}, found {list(places.shape)}"
        )
    if shapes.ndim != 2 or len(shapes) != people:
        raise InputError(f"{folder}/mean_shape.npy: expected shape {[people, 10]}, found {list(shapes.shape)}")
    return poses, places, shapes


def _cameras(folder: Path, count: int) -> tuple[Float64[np.ndarray, "t 3 4"], Float64[np.ndarray, "t 4"]]:
    """c2w and intrinsics of all frames."""
    normalized = (folder / "cameras_normalize.npz").is_file()
    file, key = (folder / "cameras_normalize.npz", "world_mat") if normalized else (folder / "cameras.npz", "cam")
    names = tuple(f"{key}_{i}" for i in range(count))
    matrices = read_npz(file, names)
    missing = [name for name in names if name not in matrices]
    if missing:
        raise InputError(f"{file}: expected {count} matrices {key}_0 ..., found {len(matrices)}; missing: {missing[0]}")
    found = [projection_parts(matrices[name].astype(np.float64), f"{file}: {name}") for name in names]
    return np.stack([c2w for c2w, _ in found]), np.stack([intrinsics for _, intrinsics in found])


def projection_parts(
    matrix: Float64[np.ndarray, "r c"], what: str
) -> tuple[Float64[np.ndarray, "3 4"], Float64[np.ndarray, " 4"]]:
    """c2w with OpenGL axes and intrinsics of a projection K [R | t] of OpenCV's, to which the middle of the first pixel
    is (0, 0). what: names the matrix in messages.
    """
    from scipy.linalg import rq

    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        raise InputError(f"{what}: expected 3x4 or 4x4 finite numbers, found shape {list(matrix.shape)}")
    left = matrix[:3, :3]
    determinant = float(np.linalg.det(left))
    if not abs(determinant) > 1e-12 * np.abs(left).max() ** 3:
        raise InputError(f"{what}: expected a camera's projection, found a singular matrix")
    matrix = matrix[:3] * np.sign(determinant)
    k, r = rq(matrix[:, :3])
    signs = np.sign(np.diag(k))
    k, r = k * signs, signs[:, None] * r
    center = -np.linalg.solve(matrix[:, :3], matrix[:, 3])
    k /= k[2, 2]
    if abs(k[0, 1]) > 1e-3 * k[0, 0]:
        raise InputError(f"{what}: expected pixels at right angles, found a skew of {k[0, 1]:.3g}")
    c2w = np.column_stack([r.T * np.array([1.0, -1.0, -1.0]), center])
    return c2w, np.array([k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5])
