"""Poses in files of SMPL's numbers, written here from known places in metres, come back to these."""

from __future__ import annotations

import os
import pickle
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies import reading as bodies
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.recordings.opening import Known, open_recording

T, P = 4, 2
KNOWN = Known(body="tiny")
FLIP = np.diag([1.0, -1.0, -1.0])  # to x right, y down, z forward, and back


def family(joints: int) -> Body:
    """A body of so many joints in a row, each with a vertex, whose pelvis is not at its origin."""
    g = torch.Generator().manual_seed(joints)
    places = torch.randn(joints, 3, generator=g)
    return Body(
        name=f"tiny{joints}",
        joint_names=tuple(map(str, range(joints))),
        parents=tuple(range(-1, joints - 1)),
        vertices=places + 0.1,
        shape_directions=0.1 * torch.randn(joints, 3, 10, generator=g),
        joints=places,
        joint_directions=0.1 * torch.randn(joints, 3, 10, generator=g),
        faces=torch.tensor([[0, 1, 2]]),
        weight_index=torch.arange(joints)[:, None],
        weights=torch.ones(joints, 1),
        keypoints=torch.arange(17),
    )


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bodies.BODIES, "tiny", lambda: family(24))
    monkeypatch.setitem(bodies.BODIES, "tiny52", lambda: family(52))
    monkeypatch.setitem(bodies.BODIES, "tiny55", lambda: family(55))


def numbers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses (T, P, 72), shapes (P, 10), places (T, P, 3) in metres before a camera at the origin, along -z."""
    g = np.random.default_rng(0)
    places = g.normal(0, 0.5, (T, P, 3)) + np.array([0, 0, -6.0])
    return 0.3 * g.normal(size=(T, P, 72)), places, g.normal(size=(P, 10))


K = np.array([[70.0, 0, 31.5, 0], [0, 71, 23.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def multiply(folder: Path, shift: np.ndarray, single: bool = False) -> None:
    """A folder whose world is moved by shift[t] in each frame, and shrunk by 1.7. single: as Vid2Avatar writes it."""
    poses, places, shapes = numbers()
    people = 0 if single else slice(None)
    np.save(folder / "poses.npy", poses[:, people])
    np.save(folder / "normalize_trans.npy", (places + shift[:, None])[:, people])
    np.save(folder / "mean_shape.npy", shapes[people])
    np.save(folder / "gender.npy", np.array(["neutral"] * P))
    matrices = {}
    for t in range(T):
        world = np.eye(4)
        world[:3] = np.column_stack([FLIP, -FLIP @ shift[t]])
        matrices[f"world_mat_{t}"] = (K @ world).astype(np.float64)
        matrices[f"scale_mat_{t}"] = np.diag([1.7, 1.7, 1.7, 1.0])
    np.savez(folder / "cameras_normalize.npz", **matrices)
    (folder / "image").mkdir()
    for t in range(T):
        Image.new("RGB", (64, 48), (t, t, t)).save(folder / "image" / f"{t:04d}.png")


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> bool:
    return float(np.abs(np.asarray(found) - np.asarray(expected)).max()) < tolerance


SHIFT = np.random.default_rng(1).normal(size=(T, 3))


def test_a_folder_of_multiply_is_in_metres_before_a_camera_that_stands_still(tmp_path: Path) -> None:
    multiply(tmp_path, SHIFT)
    (tmp_path / "mask").mkdir()
    found = open_recording(tmp_path, known=KNOWN)
    poses, places, shapes = numbers()
    assert len(found) == T and [person.name for person in found.people] == ["person-0", "person-1"]
    for p, person in enumerate(found.people):
        assert close(person.place, places[:, p]) and close(person.pose.flatten(1), poses[:, p])
        assert close(person.shape, shapes[p]) and bool(person.present.all())
    assert found.static and close(found.cameras.c2w, np.eye(4)[:3]) and found.frames[2][0, 0].tolist() == [2, 2, 2]
    assert close(found.cameras.intrinsics, [70, 71, 32, 24]) and found.labels is None
    assert any("mask: these are the bodies' own silhouettes" in line for line in found.warnings)
    assert any("moved back to where the camera stands still" in line for line in found.warnings)


def test_a_world_that_is_moved_once_is_left_where_it_is(tmp_path: Path) -> None:
    multiply(tmp_path, SHIFT[:1].repeat(T, 0))
    found = open_recording(tmp_path, known=KNOWN)
    _, places, _ = numbers()
    assert close(found.people[1].place, places[:, 1] + SHIFT[0])
    assert close(found.cameras.centers, SHIFT[:1].repeat(T, 0)) and not any(
        "moved back" in line for line in found.warnings
    )


def test_points_are_in_the_pixels_that_the_matrices_say(tmp_path: Path) -> None:
    multiply(tmp_path, SHIFT)
    found = open_recording(tmp_path, known=KNOWN, downscale=2)
    points = found.people[0].posed().joints.double().numpy()
    with np.load(tmp_path / "cameras_normalize.npz") as matrices:
        for t in range(T):
            moved = np.concatenate([points[t] + SHIFT[t], np.ones((24, 1))], 1)
            x, y, z, _ = matrices[f"world_mat_{t}"] @ moved.T
            theirs = np.stack([x / z + 0.5, y / z + 0.5], -1) / 2  # which counts from the middle of the first pixel
            f, c = found.cameras.intrinsics[t, :2].numpy(), found.cameras.intrinsics[t, 2:].numpy()
            ours = np.stack([points[t, :, 0], -points[t, :, 1]], -1) / -points[t, :, 2:] * f + c
            assert close(ours, theirs, 1e-3)


def test_a_folder_of_vid2avatar_has_one_person(tmp_path: Path) -> None:
    multiply(tmp_path, SHIFT, single=True)
    (tmp_path / "cameras_normalize.npz").rename(tmp_path / "old.npz")
    with np.load(tmp_path / "old.npz") as old:
        np.savez(tmp_path / "cameras.npz", **{f"cam_{t}": old[f"world_mat_{t}"] for t in range(T)})
    (person,) = open_recording(tmp_path, known=KNOWN).people
    assert close(person.place, numbers()[1][:, 0]) and close(person.shape, numbers()[2][0])


def test_a_camera_that_turns_is_kept(tmp_path: Path) -> None:
    multiply(tmp_path, SHIFT)
    turns = Rotation.from_rotvec(np.outer(np.arange(T) * 0.1, [0, 1, 0])).as_matrix()
    matrices = {}
    for t in range(T):
        world = np.eye(4)
        world[:3] = np.column_stack([FLIP @ turns[t].T, -FLIP @ turns[t].T @ SHIFT[t]])
        matrices[f"world_mat_{t}"] = -2.5 * K @ world  # a projection holds up to any factor
    np.savez(tmp_path / "cameras_normalize.npz", **matrices)
    found = open_recording(tmp_path, known=KNOWN)
    assert close(found.cameras.c2w[:, :, :3], turns) and close(found.cameras.centers, SHIFT)
    assert close(found.people[0].place, numbers()[1][:, 0] + SHIFT)
    assert close(found.cameras.intrinsics, [70, 71, 32, 24], 1e-3)


def saved(name: str, array: Any) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array)


NAN = np.full((T, P, 72), np.nan)
MULTIPLY_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "short poses": (
        saved("poses.npy", np.zeros((3, P, 72))),
        r"normalize_trans.npy: expected shape \[3, 2, 3\], found",
    ),
    "other poses": (
        saved("poses.npy", np.zeros((T, P, 69))),
        r"poses.npy: expected shape \[frames, people, 72\], found",
    ),
    "NaN": (saved("poses.npy", NAN), "pose: expected finite numbers where person-0 is present, found NaN"),
    "objects": (saved("poses.npy", np.array([{}])), "poses.npy: expected arrays of numbers, found something else"),
    "shapes": (
        saved("mean_shape.npy", np.zeros((3, 10))),
        r"mean_shape.npy: expected shape \[2, 10\], found \[3, 10\]",
    ),
    "no cameras": (
        lambda f: np.savez(f / "cameras_normalize.npz", world_mat_0=np.eye(4)),
        "cameras_normalize.npz: expected 4 matrices world_mat_0 ..., found 1; missing: world_mat_1",
    ),
    "no camera at all": (lambda f: (f / "cameras_normalize.npz").unlink(), "cameras.npz: no such file"),
    "singular": (
        lambda f: np.savez(f / "cameras_normalize.npz", **{f"world_mat_{t}": np.zeros((4, 4)) for t in range(T)}),
        "world_mat_0: expected a camera's projection, found a singular matrix",
    ),
    "few pictures": (
        lambda f: (f / "image" / "0001.png").unlink(),
        "expected 4 pictures, as poses.npy has frames, fou",
    ),
}


@pytest.mark.parametrize("fault", MULTIPLY_FAULTS)
def test_a_fault_of_a_folder_is_one_line(fault: str, tmp_path: Path) -> None:
    multiply(tmp_path, SHIFT)
    damage, expected = MULTIPLY_FAULTS[fault]
    damage(tmp_path)
    with pytest.raises(InputError, match=expected) as caught:
        open_recording(tmp_path, known=KNOWN)
    assert "\n" not in str(caught.value)


def test_the_body_must_be_named_and_of_the_family(tmp_path: Path) -> None:
    multiply(tmp_path, SHIFT)
    with pytest.raises(InputError, match=r"poses here are those of SMPL, whose file must be named \(--body\)"):
        open_recording(tmp_path)
    with pytest.raises(
        InputError, match="expected a body of the SMPL family, with 24, 52 or 55 joints; makehuman has 22"
    ):
        open_recording(tmp_path, known=Known(body="makehuman"))


def blank(folder: Path, frames: int) -> Path:
    """Pictures of 64 x 48 pixels, at 24 frames a second, of a camera with a focal length of 64."""
    folder.mkdir()
    for t in range(frames):
        Image.new("RGB", (64, 48)).save(folder / f"{t}.png")
    return folder


def amass(path: Path, frames: int, joints: int, **more: Any) -> np.ndarray:
    """Poses of axis-angle vectors that are 1000 t + number of the entry."""
    poses = 1000.0 * np.arange(frames)[:, None] + np.arange(3 * joints)
    trans = np.arange(frames)[:, None] + np.array([0.1, 0.2, 0.3])
    numbers = {"poses": poses, "trans": trans, "betas": np.arange(16.0), "gender": np.array("neutral")}
    np.savez(path, **{k: v for k, v in {**numbers, **more}.items() if v is not None})
    return poses


def test_amass_is_taken_at_the_rate_of_the_recording(tmp_path: Path) -> None:
    poses = amass(tmp_path / "walk.npz", 12, 52, mocap_framerate=np.array(60.0))
    known = Known("tiny52", (tmp_path / "walk.npz",))
    found = open_recording(blank(tmp_path / "clip", 6), known=known)
    (person,) = found.people
    rows = [0, 2, 5, 8, 10, 11]  # 0, 2.5, 5, 7.5, 10 and 12.5, which is past the end; of halves the even one
    assert person.name == "walk" and person.present.tolist() == [True] * 5 + [False]
    assert close(person.pose.flatten(1)[:5], poses[rows[:5]]) and close(person.place[:5, 0], np.array(rows[:5]) + 0.1)
    assert close(person.shape, np.arange(10.0))
    amass(tmp_path / "walk.npz", 6, 52, mocap_framerate=np.array(60.0))  # as many: one each
    (person,) = open_recording(tmp_path / "clip", known=known).people
    assert bool(person.present.all()) and close(person.place[:, 0], np.arange(6) + 0.1)


def test_poses_fit_other_bodies_of_the_family(tmp_path: Path) -> None:
    clip, file = blank(tmp_path / "clip", 2), tmp_path / "walk.npz"
    for given, body, joints in ((52, "tiny", 24), (24, "tiny52", 52), (55, "tiny52", 52), (52, "tiny55", 55)):
        poses = amass(file, 2, given).reshape(2, given, 3)
        (person,) = open_recording(clip, known=Known(body, (file,))).people
        expected = np.zeros((2, joints, 3))
        expected[:, :22] = poses[:, :22]
        if given > 24 and joints > 24:
            expected[:, -30:] = poses[:, -30:]
        assert close(person.pose, expected)
    both = open_recording(clip, known=Known("tiny", (file, file)))
    assert [person.name for person in both.people] == ["walk", "walk-1"]


# Two people before PHALP's camera: what it writes of somebody whose root is to be seen at a known pixel, 3 m away
# through a focal length of 64 pixels, is 3 * (5000 / 256) m away through one of 5000 / 256 * 64.
FAR = 5000 / 256
TURN = Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()


def root_at_rest(betas: np.ndarray) -> np.ndarray:
    _, joints = family(24).at_rest(torch.from_numpy(betas).float())
    return joints[0].double().numpy()


def tracked(frames: int = 5) -> dict[str, Any]:
    """Number 7 in all frames, at the pixel (40, 20), 3 m away; number 9 in the last two, and guessed before."""
    document = {}
    betas = np.linspace(-1, 1, 10)
    for t in range(frames):
        entry: dict[str, Any] = {"time": t, "tid": [], "smpl": [], "camera": [], "tracked_time": []}
        for number, x, y, depth in ((7, 40, 20, 3.0 + t), (9, 10, 30, 2.0)):
            seen = np.array([(x - 32) / 64 * depth, (y - 24) / 64 * depth, depth * FAR])
            turns = np.repeat(np.eye(3)[None], 23, 0)
            turns[4] = TURN.T
            smpl = {"global_orient": TURN[None], "body_pose": turns, "betas": betas}
            entry["tid"].append(number)
            entry["smpl"].append({k: v.astype(np.float32) for k, v in smpl.items()})
            entry["camera"].append((seen - root_at_rest(betas)).astype(np.float32))
            entry["tracked_time"].append(0 if number == 7 or t > 2 else 1)
        document[f"{t}.jpg"] = entry
    return document


class NumpyArrayWrapper:
    """What joblib writes before the numbers of an array, under the name of its own class."""

    def __init__(self, array: np.ndarray) -> None:
        self.__dict__.update(subclass=np.ndarray, shape=array.shape, dtype=array.dtype, order="C", allow_mmap=True)
        self.numpy_array_alignment_bytes = 16


class JoblibPickler(pickle._Pickler):
    """Arrays as joblib 1.2 and later have them: a note, a padding with its length before it, numbers."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, protocol=4)
        self.raw = file

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(obj, np.ndarray):
            super().save(obj, save_persistent_id)
            return
        super().save(NumpyArrayWrapper(obj))
        self.framer.commit_frame(force=True)  # type: ignore[attr-defined]
        self.raw.write(b"\x03\xff\xff\xff" + obj.tobytes())


def joblib(document: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As joblib.dump(document, path, compress=3)."""
    module = ModuleType("joblib.numpy_pickle")
    module.NumpyArrayWrapper = NumpyArrayWrapper  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "joblib", ModuleType("joblib"))
    monkeypatch.setitem(sys.modules, "joblib.numpy_pickle", module)
    monkeypatch.setattr(NumpyArrayWrapper, "__module__", "joblib.numpy_pickle")
    with path.open("wb") as file:
        JoblibPickler(file).dump(document)
    path.write_bytes(zlib.compress(path.read_bytes(), 3))


@pytest.mark.parametrize("how", ["pickle", "joblib", "npz"])
def test_tracks_are_as_large_and_where_they_were_seen(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, file = blank(tmp_path / "clip", 5), tmp_path / ("tracks.npz" if how == "npz" else "tracks.pkl")
    if how == "pickle":
        file.write_bytes(pickle.dumps(tracked()))
    elif how == "joblib":
        joblib(tracked(), file, monkeypatch)
    else:
        rows = [(t, k, e) for t, e in enumerate(tracked().values()) for k in (0, 1) if e["tracked_time"][k] == 0]
        table = {name: np.array([e["smpl"][k][name] for _, k, e in rows]) for name in ("body_pose", "betas")}
        table["global_orient"] = np.array([e["smpl"][k]["global_orient"] for _, k, e in rows])
        table |= {name: np.array([e[name][k] for _, k, e in rows]) for name in ("tid", "camera")}
        table |= {"time": np.array([t for t, _, _ in rows]), "size": np.array([[480, 640]] * len(rows))}
        np.savez(file, focal=np.array(FAR * 640), **table)
    found = open_recording(clip, known=Known("tiny", (file,)))
    seven, nine = found.people
    assert (seven.name, nine.name) == ("track-7", "track-9")
    assert bool(seven.present.all()) and nine.present.tolist() == [False, False, False, True, True]
    depth = 3.0 + np.arange(5)
    root = np.stack([8 / 64 * depth, 4 / 64 * depth, -depth], -1)  # x right, y up, before a camera along -z
    assert close(seven.posed().joints[:, 0], root, 2e-4)  # PHALP's distances, 60 to 140 m, are float32
    assert close(nine.posed([4]).joints[0, 0], [-22 / 64 * 2, -6 / 64 * 2, -2], 1e-4)
    assert close(Rotation.from_rotvec(seven.pose[1, 0].numpy()).as_matrix(), FLIP @ TURN)
    assert close(Rotation.from_rotvec(seven.pose[1, 5].numpy()).as_matrix(), TURN.T)
    assert close(seven.shape, np.linspace(-1, 1, 10))


def test_tracks_go_with_a_camera_that_moves(tmp_path: Path) -> None:
    """Whatever the camera, what was seen at a pixel is seen there: here through the cameras of a file."""
    clip = blank(tmp_path / "clip", 5)
    (tmp_path / "tracks.pkl").write_bytes(pickle.dumps(tracked()))
    turn = Rotation.from_rotvec([0.2, 0.4, 0.1]).as_matrix()
    pose = np.eye(4)
    pose[:3] = np.column_stack([turn, [1, 2, 3]])
    lens = {"fl_x": 128, "fl_y": 128, "cx": 30, "cy": 25, "w": 64, "h": 48}
    frames = [{"file_path": f"{t}.png", "transform_matrix": pose.tolist()} for t in range(5)]
    (tmp_path / "transforms.json").write_text(str({**lens, "frames": frames}).replace("'", '"'))
    known = Known("tiny", (tmp_path / "tracks.pkl",), tmp_path / "transforms.json")
    root = open_recording(clip, known=known).people[0].posed().joints[:, 0].double().numpy()
    x, y, z = turn.T @ (root - [1, 2, 3]).T
    assert close(30 + 128 * x / -z, 40, 1e-2) and close(25 - 128 * y / -z, 20, 1e-2)
    assert close(-z, 2 * (3.0 + np.arange(5)), 1e-3)  # twice the focal length: as large from twice as far


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("touch evil",))


def pickled(change: Callable[[dict[str, Any]], Any]) -> bytes:
    document = tracked()
    replaced = change(document)
    return pickle.dumps(document if replaced is None else replaced)


def nan(document: dict[str, Any]) -> None:
    document["1.jpg"]["camera"][0][1] = np.nan


def doubled(document: dict[str, Any]) -> None:
    document["1.jpg"]["time"] = 0


TRACK_FAULTS: dict[str, tuple[bytes, str]] = {
    "code": (
        pickled(lambda d: [Evil()]),
        r"tracks.pkl: the pickle asks for \w+.system, which is not data: nothing was run",
    ),
    "code in it": (pickled(lambda d: {**d, "x": Evil()}), r"the pickle asks for \w+.system, which is not data"),
    "cut short": (pickled(lambda d: None)[:-500], "tracks.pkl: not a whole pickle of plain data"),
    "no tracks": (pickled(lambda d: [1, 2]), "tracks.pkl: expected the tracks of 4D-Humans, found something else"),
    "nobody": (pickled(lambda d: {"a": {"tid": []}}), r"global_orient: expected 0 rows of shape \[3, 3\]"),
    "NaN": (pickled(nan), "tracks.pkl: camera: expected finite numbers, found NaN or infinity"),
    "twice": (pickled(doubled), "expected track 7 once in a frame, found it more often"),
    "too long": (
        pickle.dumps(tracked(7)),
        "expected frames 0 to 4, as the recording has, found 0 to 6",
    ),
    "shapes": (
        pickled(lambda d: [e["smpl"][k].update(betas=np.zeros(3)) for e in d.values() for k in (0, 1)] and None),
        r"betas: expected 7 rows of shape \[10\], found \[7, 3\]",
    ),
}


@pytest.mark.parametrize("fault", TRACK_FAULTS)
def test_a_fault_of_tracks_is_one_line(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, expected = TRACK_FAULTS[fault]
    (tmp_path / "tracks.pkl").write_bytes(data)
    with pytest.raises(InputError, match=expected) as caught:
        open_recording(blank(tmp_path / "clip", 5), known=Known("tiny", (tmp_path / "tracks.pkl",)))
    assert "\n" not in str(caught.value) and not Path("evil").exists()


AMASS_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another length": (
        {"trans": np.zeros((3, 3))},
        r"expected poses \[frames, numbers\] and trans \[frames, 3\], found",
    ),
    "no shape": ({"betas": None}, "expected poses, trans and betas, found no betas"),
    "another number": ({"poses": np.zeros((6, 63))}, "expected poses of 66, 72, 156, 165 numbers, found 63"),
    "no rate": ({"mocap_framerate": np.array(0.0)}, "mocap_framerate: expected a number above 0, found 0"),
    "NaN": ({"trans": np.full((6, 3), np.nan)}, "place: expected finite numbers where walk is present, found NaN"),
    "objects": ({"betas": np.array([{}])}, "walk.npz: expected arrays of numbers, found something else"),
}


@pytest.mark.parametrize("fault", AMASS_FAULTS)
def test_a_fault_of_amass_is_one_line(fault: str, tmp_path: Path) -> None:
    changes, expected = AMASS_FAULTS[fault]
    amass(tmp_path / "walk.npz", 6, 24, **changes)
    with pytest.raises(InputError, match=expected):
        open_recording(blank(tmp_path / "clip", 6), known=Known("tiny", (tmp_path / "walk.npz",)))
