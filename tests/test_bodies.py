"""Bodies are skinned as their data says: against a slow computation, point by point, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from fieldcast.reconstruct import bodies
from fieldcast.reconstruct.bodies.body import COCO, Body, axis_angles, rotations
from fieldcast.reconstruct.bodies.makehuman import make_file, makehuman


@pytest.fixture(scope="module")
def body() -> Body:
    return makehuman()


def slowly(body: Body, shape: Tensor, pose: Tensor, place: Tensor) -> np.ndarray:
    """One frame: 4 x 4 matrices from the root to each joint, and a sum over joints for each vertex."""
    shape_ = shape.double().numpy()
    rest = body.vertices.double().numpy() + body.shape_directions.double().numpy() @ shape_
    joints = body.joints.double().numpy() + body.joint_directions.double().numpy() @ shape_
    world = []
    for j, parent in enumerate(body.parents):
        local = np.eye(4)
        local[:3, :3] = Rotation.from_rotvec(pose[j].double().numpy()).as_matrix()
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        world.append(world[parent] @ local if parent >= 0 else local)
    found = np.zeros_like(rest)
    for v in range(len(rest)):
        for j, w in zip(body.weight_index[v].tolist(), body.weights[v].double().tolist(), strict=True):
            found[v] += w * (world[j] @ np.append(rest[v] - joints[j], 1))[:3]
    return found + place.double().numpy()


def test_a_posed_body_is_that_of_matrices_joint_by_joint(body: Body) -> None:
    g = torch.Generator().manual_seed(0)
    shape, place = torch.randn(body.shapes, generator=g), torch.randn(2, 3, generator=g)
    pose = 0.5 * torch.randn(2, len(body.parents), 3, generator=g)
    posed = body.posed(shape, pose, place)
    for t in range(2):
        assert np.abs(posed.vertices[t].numpy() - slowly(body, shape, pose[t], place[t])).max() < 1e-5


def test_at_rest_nothing_moves(body: Body) -> None:
    zeros = torch.zeros(1, len(body.parents), 3)
    posed = body.posed(torch.zeros(body.shapes), zeros, torch.tensor([[1.0, 2.0, 3.0]]))
    assert torch.allclose(posed.vertices[0], body.vertices + torch.tensor([1.0, 2.0, 3.0]), atol=1e-6)
    assert torch.allclose(posed.joints[0], body.joints + torch.tensor([1.0, 2.0, 3.0]), atol=1e-6)


def test_the_body_stands_on_the_ground_faces_z_and_has_its_left_at_x(body: Body) -> None:
    low, high = body.vertices.amin(0), body.vertices.amax(0)
    assert abs(float(low[1])) < 0.01 and 1.5 < float(high[1]) < 2.0
    marks = body.posed(torch.zeros(body.shapes), torch.zeros(1, 22, 3), torch.zeros(1, 3)).landmarks[0]
    at = dict(zip(COCO, marks, strict=True))
    assert at["nose"][2] > at["left_ear"][2] + 0.05
    for name in COCO:
        if name.startswith("left"):
            mirror = at[name.replace("left", "right")] * torch.tensor([-1.0, 1.0, 1.0])
            assert at[name][0] > 0.02 and torch.allclose(at[name], mirror, atol=0.005)


def test_weights_are_shares_of_joints(body: Body) -> None:
    assert torch.allclose(body.weights.sum(1), torch.ones(len(body.weights)), atol=1e-6)
    assert int(body.weight_index.max()) < len(body.parents) and all(p < j for j, p in enumerate(body.parents))


def test_the_file_in_the_package_is_what_is_made_of_the_assets(data: Path, tmp_path: Path) -> None:
    make_file(data / "human" / "makehuman_body_cc0.npz", tmp_path / "body.safetensors")
    shipped = Path(bodies.__path__[0]) / "makehuman.safetensors"
    assert (tmp_path / "body.safetensors").read_bytes() == shipped.read_bytes()


def test_rotations_are_those_of_scipy_and_come_back() -> None:
    vectors = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.from_numpy(Rotation.from_rotvec(vectors.numpy()).as_matrix())
    assert torch.allclose(rotations(vectors), expected, atol=1e-12)
    assert torch.allclose(rotations(axis_angles(rotations(vectors))), expected, atol=1e-12)


@pytest.mark.parametrize("length", [0.0, 1e-6, 9.9e-5, 1.01e-4])
def test_small_rotations_have_the_gradient_of_the_cross_product(length: float) -> None:
    vector = torch.tensor([length, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(rotations(vector)[2, 1], vector)
    assert torch.allclose(gradient, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), atol=1e-7)
