"""Tracks of people through a video, as 4D-Humans and PHALP write them: SMPL's numbers, frame by frame.

A pickle holds a dict of frames, in order: {name: {time, tid: [...], smpl: [{global_orient (1, 3, 3), body_pose
(23, 3, 3), betas (10)}, ...], camera: [(3), ...], tracked_time: [...]}}; tracked_time is 0 where somebody was seen, and
not guessed. An .npz holds the same as a table: time, tid, global_orient, body_pose, betas and camera, one row for each
time that somebody was seen, and focal in pixels with size (height, width) if it is not 5000/256 of the longer side.

The body is before an OpenCV camera, with `camera` as its translation; the focal length is that of a lens which hardly
narrows anything, so that people are some 20 times too far away. They are brought to where they are as large in the
picture through the recording's own camera.

Letters: T frames, N rows, J joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import Body, axis_angles
from fieldcast.reconstruct.pickles import Numbers, numbers, read_pickle
from fieldcast.reconstruct.recordings.arrays import read_npz
from fieldcast.reconstruct.recordings.params import person_of
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.recordings.smpl import smpl_pose, smpl_shape

NAMES = ("time", "tid", "global_orient", "body_pose", "betas", "camera", "size", "focal")
FOCAL = 5000 / 256  # of the longer side: what PHALP's networks were trained with
LARGEST = 23 * 3 * 3  # numbers of an array of somebody's pose
ROWS = 1 << 20  # people in all frames together
SHORTEST = 0.1  # of the frames: tracks that are shorter are left out, as are most of a tracker's mistakes
FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))  # OpenCV's camera axes to OpenGL's


@dataclass(frozen=True)
class Tracks:
    """Rows: somebody's number, the frame, rotations of all joints, shape, and translation before a camera with a focal
    length of `focal` times the longer side of the picture.
    """

    tid: Int64[np.ndarray, " n"]
    time: Int64[np.ndarray, " n"]
    turns: Float64[np.ndarray, "n 24 3 3"]
    betas: Float64[np.ndarray, "n 10"]
    camera: Float64[np.ndarray, "n 3"]
    focal: Float64[np.ndarray, " n"]


def read_tracks(path: Path) -> Tracks:
    """The tracks of a pickle or of an .npz."""
    columns = read_npz(path, NAMES) if path.suffix.lower() == ".npz" else _table(read_pickle(path), path)
    missing = [name for name in NAMES[:6] if name not in columns]
    if missing:
        raise InputError(f"{path}: expected poses as AMASS or 4D-Humans write them, found no {missing[0]}")
    count = len(columns["tid"].reshape(-1))
    shapes = {"global_orient": (3, 3), "body_pose": (23, 3, 3), "betas": (10,), "camera": (3,)}
    rows: dict[str, Any] = {}
    for name, shape in shapes.items():
        if not count or columns[name].size != count * int(np.prod(shape)):
            raise InputError(
                f"{path}: {name}: expected {count} rows of shape {list(shape)}, found {list(columns[name].shape)}"
            )
        rows[name] = columns[name].astype(np.float64).reshape(count, *shape)
        if not np.isfinite(rows[name]).all():
            raise InputError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
    turns = np.concatenate([rows["global_orient"][:, None], rows["body_pose"]], 1)
    tid, time = (columns[name].astype(np.int64).reshape(count) for name in ("tid", "time"))
    return Tracks(tid, time, turns, rows["betas"], rows["camera"], _focal(columns, count, path))


def people_of_tracks(
    tracks: Tracks, recording: Recording, body: Body, path: Path
) -> tuple[tuple[Person, ...], list[str]]:
    """The people of a recording, who are seen longest first, and a line on those that are left out."""
    if tracks.time.min() < 0 or tracks.time.max() >= len(recording):
        raise InputError(
            f"{path}: expected frames 0 to {len(recording) - 1}, as the recording has, found {tracks.time.min()} to "
            f"{tracks.time.max()}"
        )
    numbers, counts = np.unique(tracks.tid, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    kept = [int(numbers[i]) for i in order if counts[i] >= SHORTEST * len(recording)]
    left = len(numbers) - len(kept)
    if not kept:
        raise InputError(
            f"{path}: expected somebody in a tenth of the frames, found the longest track in {counts.max()}"
        )
    warnings = [f"{path}: distances are from the size in the picture: right only if the focal length is"]
    if left:
        warnings.append(f"{path}: {left} tracks that are shorter than a tenth of the recording are left out")
    return tuple(_person(tracks, number, recording, body, path) for number in kept), warnings


def _person(tracks: Tracks, number: int, recording: Recording, body: Body, path: Path) -> Person:
    """One track as a person in the world."""
    rows = (tracks.tid == number).nonzero()[0]
    time = tracks.time[rows]
    if len(np.unique(time)) < len(time):
        raise InputError(f"{path}: expected track {number} once in a frame, found it more often")
    frames, joints = len(recording), len(body.parents)
    shape = smpl_shape(tracks.betas[rows].mean(0), body)
    root = body.at_rest(torch.from_numpy(shape).float())[1][0].double()
    where = torch.from_numpy(time)
    place, turn = _in_world(tracks, rows, recording, where, root)
    turns = torch.from_numpy(tracks.turns[rows]).clone()
    turns[:, 0] = turn @ turns[:, 0]
    pose, places = np.full((frames, joints, 3), np.nan), np.full((frames, 3), np.nan)
    pose[time] = smpl_pose(axis_angles(turns).flatten(1).numpy(), body, path)
    places[time] = place.numpy()
    arrays = {"shape": shape, "pose": pose, "place": places, "present": np.isin(np.arange(frames), time)}
    return person_of(f"track-{number}", body, arrays, str(path))


def _in_world(
    tracks: Tracks, rows: Int64[np.ndarray, " n"], recording: Recording, where: Tensor, root: Tensor
) -> tuple[Tensor, Tensor]:
    """The places of a person, and the turn from the axes of an OpenCV camera to the world, for each row.

    The root joint is seen in the same pixel, and the body as large, as through the camera that the tracker assumed.
    """
    cameras = recording.cameras[where].to("cpu")
    size, intrinsics = cameras.size.double(), cameras.intrinsics.double()
    focal = torch.from_numpy(tracks.focal[rows]) * size.amax(1)
    seen = torch.from_numpy(tracks.camera[rows]) + root
    pixel = seen[:, :2] / seen[:, 2:] * focal[:, None] + size / 2
    depth = seen[:, 2] * intrinsics[:, 0] / focal
    xy = (pixel - intrinsics[:, 2:]) / intrinsics[:, :2] * depth[:, None]
    turn = cameras.c2w[:, :, :3].double() @ FLIP
    point = (turn @ torch.cat([xy, depth[:, None]], 1)[..., None])[..., 0] + cameras.c2w[:, :, 3].double()
    return point - root, turn


def _focal(columns: dict[str, Any], count: int, path: Path) -> Float64[np.ndarray, " n"]:
    """In longer sides of the picture."""
    if "focal" not in columns:
        return np.full(count, FOCAL)
    if "size" not in columns or columns["size"].size != 2 * count or columns["focal"].size not in (1, count):
        raise InputError(
            f"{path}: focal: expected one number, or one a row, and the height and width of pictures in size"
        )
    longer = columns["size"].astype(np.float64).reshape(count, 2).max(1)
    found: Float64[np.ndarray, " n"] = columns["focal"].astype(np.float64).reshape(-1) / longer
    if not (np.isfinite(found) & (found > 0)).all():
        raise InputError(f"{path}: focal and size: expected numbers above 0, found others")
    return found


def _table(document: Any, path: Path) -> dict[str, Any]:
    """The columns of what a pickle holds, of those rows in which somebody was seen."""
    rows: dict[str, list[Any]] = {name: [] for name in NAMES[:6]}
    count = 0
    try:
        for i, frame in enumerate(document.values()):
            tids = _each(frame["tid"])
            count += len(tids)
            if count > ROWS:
                raise ValueError(f"more than {ROWS:,} rows")
            seen = _each(frame.get("tracked_time", [0] * len(tids)))
            cameras, bodies = (_each(frame[name]) if len(tids) else [] for name in ("camera", "smpl"))
            for k, number in enumerate(tids):
                if _whole(seen[k]) == 0:
                    rows["time"].append(_whole(frame.get("time", i)))
                    rows["tid"].append(_whole(number))
                    rows["camera"].append(_some(cameras[k]).reshape(3))
                    for name in ("global_orient", "body_pose", "betas"):
                        rows[name].append(_some(bodies[k][name]))
        return {name: np.array(values) for name, values in rows.items()}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: expected the tracks of 4D-Humans, found something else ({reason:.100})") from None


def _each(value: Any) -> Any:
    """What is in a list, or in an array."""
    return value if isinstance(value, (list, tuple)) else numbers(value)


def _whole(value: Any) -> int:
    return int(numbers(value).item())


def _some(value: Any) -> Numbers:
    """A few numbers: files may name the same large array again and again."""
    found = numbers(value)
    if found.size > LARGEST:
        raise ValueError(f"an array of {found.size:,} numbers")
    return found.astype(np.float64)
