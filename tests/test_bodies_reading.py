"""Bodies by name; the body without data stands as bodies do; what `Body.check` says of what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.mesh import Mesh, topology
from fieldcast.reconstruct.bodies.body import COCO, Body
from fieldcast.reconstruct.bodies.capsules import HIP, capsules
from fieldcast.reconstruct.bodies.reading import BODIES, open_body


@pytest.fixture(scope="module")
def body() -> Body:
    return capsules()


def bounds(body: Body, **numbers: float) -> tuple[Tensor, Tensor]:
    """The box of a shape."""
    names = ("stature", "girth", "legs", "shoulders")
    vertices, _ = body.at_rest(torch.tensor([numbers.get(name, 0.0) for name in names]))
    return vertices.amin(0), vertices.amax(0)


def test_bodies_are_opened_by_the_names_that_they_have() -> None:
    for name in ("makehuman", "capsules"):
        assert open_body(name).name == name
    assert open_body().name == "makehuman"


@pytest.mark.parametrize("name", ["nobody", "smpl", "body.obj", ""])
def test_an_unknown_body_is_told_which_there_are(name: str) -> None:
    with pytest.raises(InputError) as caught:
        open_body(name)
    assert repr(name) in str(caught.value) and all(known in str(caught.value) for known in [*BODIES, ".npz", ".pkl"])


def test_a_path_starts_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        open_body("models/smpl.npz", tmp_path)
    assert str(tmp_path / "models" / "smpl.npz") in str(caught.value)


def test_the_surface_is_one_closed_mesh_of_about_the_volume_of_a_person(body: Body) -> None:
    mesh = Mesh(body.vertices.double().numpy(), body.faces.numpy())
    found = topology(mesh)
    assert found.watertight and found.components == 1 and len(body.vertices) < 1500
    assert 0.045 < found.volume < 0.08  # positive: faces look outwards; people have about a litre a kilogram
    assert len(mesh.vertices) - len(mesh.faces) * 3 // 2 + len(mesh.faces) == 2  # a sphere, by Euler


def test_capsules_stand_on_the_ground_face_z_and_have_their_left_at_x(body: Body) -> None:
    low, high = bounds(body)
    assert abs(float(low[1])) < 1e-6 and 1.6 < float(high[1]) < 1.8
    marks = body.posed(torch.zeros(4), torch.zeros(1, 16, 3), torch.zeros(1, 3)).landmarks[0]
    at = dict(zip(COCO, marks, strict=True))
    assert at["nose"][2] > at["left_eye"][2] > at["left_ear"][2] + 0.05
    assert at["left_ear"][1] > at["left_shoulder"][1] > at["left_hip"][1] > at["left_knee"][1] > at["left_ankle"][1]
    for name in COCO:
        if name.startswith("left"):
            mirror = at[name.replace("left", "right")] * torch.tensor([-1.0, 1.0, 1.0])
            assert at[name][0] > 0.02 and torch.allclose(at[name], mirror, atol=1e-6)


def test_both_halves_are_mirror_images(body: Body) -> None:
    mirrored = body.vertices * torch.tensor([-1.0, 1.0, 1.0])
    away, partner = torch.cdist(mirrored.double(), body.vertices.double()).min(1)
    assert float(away.max()) < 1e-5
    swapped = [n[:-2] + {"_l": "_r", "_r": "_l"}[n[-2:]] if n[-2:] in ("_l", "_r") else n for n in body.joint_names]
    dense = torch.zeros(len(body.vertices), 16).scatter(1, body.weight_index, body.weights)
    columns = [body.joint_names.index(name) for name in swapped]
    assert torch.allclose(dense[partner], dense[:, columns], atol=1e-3)


def test_weights_are_shares_of_joints_nearby(body: Body) -> None:
    assert torch.allclose(body.weights.sum(1), torch.ones(len(body.weights)), atol=1e-6)
    assert all(parent < j for j, parent in enumerate(body.parents))
    dense = torch.zeros(len(body.vertices), 16).scatter(1, body.weight_index, body.weights)
    for side, sign in (("l", 1), ("r", -1)):
        hand, foot = (dense[:, body.joint_names.index(f"{limb}_{side}")] for limb in ("hand", "foot"))
        assert bool((sign * body.vertices[hand > 0.5, 0] > 0.45).all()) and int((hand > 0.5).sum()) > 10
        assert bool((body.vertices[foot > 0.5, 1] < 0.15).all()) and int((foot > 0.5).sum()) > 10


def test_a_bent_elbow_moves_the_forearm_and_nothing_else(body: Body) -> None:
    pose = torch.zeros(1, 16, 3)
    elbow = body.joint_names.index("lowerarm_l")
    pose[0, elbow, 1] = -1.0
    moved = (body.posed(torch.zeros(4), pose, torch.zeros(1, 3)).vertices[0] - body.vertices).norm(dim=-1)
    far = (body.vertices - body.joints[elbow]).norm(dim=-1)
    below = body.vertices[:, 0] > float(body.joints[elbow, 0])
    assert float(moved[~below & (far > 0.1)].max()) < 0.01 and float(moved.max()) > 0.15


def test_each_number_of_shape_does_what_it_is_called(body: Body) -> None:
    low, high = bounds(body)
    tall, stout, legs, broad = (bounds(body, **{k: 2.0}) for k in ("stature", "girth", "legs", "shoulders"))
    assert torch.allclose(tall[1][1], 1.08 * high[1], rtol=0.01)  # 4% a unit
    assert float(stout[1][2] - stout[0][2]) > float(high[2] - low[2]) + 0.005 and abs(stout[1][1] - high[1]) < 0.01
    assert abs(float(legs[1][1] - high[1]) - 0.06 * HIP) < 1e-4 and abs(float(legs[0][1])) < 1e-3
    assert abs(float(broad[1][0] - high[0]) - 0.03) < 1e-4


def test_joints_stay_inside_of_every_shape(body: Body) -> None:
    import trimesh

    g = torch.Generator().manual_seed(0)
    for shape in torch.randn(4, 4, generator=g):
        vertices, joints = body.at_rest(shape)
        mesh = trimesh.Trimesh(vertices.numpy(), body.faces.numpy(), process=False)
        assert bool(mesh.contains(joints.double().numpy()).all())


def good(body: Body) -> dict[str, Tensor]:
    return {"shape": torch.zeros(4), "pose": torch.zeros(3, 16, 3), "place": torch.zeros(3, 3)}


def test_what_fits_a_body_passes(body: Body) -> None:
    body.check(**good(body), what="ann.npz")


@pytest.mark.parametrize(
    ("name", "bad", "says"),
    [
        ("shape", torch.zeros(10), "shape: expected [4] (numbers of shape) for the body capsules, found [10]"),
        ("pose", torch.zeros(3, 24, 3), "pose: expected [3, 16, 3]"),
        ("pose", torch.zeros(3, 48), "pose: expected [3, 16, 3] (frames, joints, axis-angle)"),
        ("pose", torch.tensor(1.0), "pose: expected [0, 16, 3]"),
        ("place", torch.zeros(2, 3), "place: expected [3, 3]"),
        ("shape", torch.tensor([0, 0, np.nan, 0]), "1 that are NaN or infinite, first in number 2"),
        ("pose", torch.zeros(3, 16, 3).index_fill(0, torch.tensor(2), np.inf), "48 that are NaN or infinite"),
        ("place", torch.zeros(3, 3).index_fill(0, torch.tensor(1), np.nan), "first in frame 1"),
    ],
)
def test_what_does_not_fit_is_named(body: Body, name: str, bad: Tensor, says: str) -> None:
    with pytest.raises(InputError) as caught:
        body.check(**{**good(body), name: bad}, what="ann.npz")
    assert str(caught.value).startswith(f"ann.npz: {name}: ") and says in str(caught.value)
