"""Poses in files of SMPL's numbers, written here from known places in metres, come back to these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.recordings import bodies
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
