"""First poses: from keypoints that a known motion shows, and smooth again from noise that was added to it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, look_at, pinhole
from fieldcast.reconstruct.bodies.body import Body, axis_angles, rotations
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.poses.keypoints import fit_keypoints
from fieldcast.reconstruct.poses.limbs import limbs
from fieldcast.reconstruct.poses.masks import fit_masks
from fieldcast.reconstruct.poses.motions import Fit
from fieldcast.reconstruct.poses.puppets import Puppet, landmarks_only
from fieldcast.reconstruct.poses.smoothing import smoothed, spline
from fieldcast.reconstruct.poses.starts import tracked
from fieldcast.reconstruct.poses.views import ideal, local, pixels, seen
from fieldcast.reconstruct.recordings.recording import Person

UP = torch.tensor([0.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def body() -> Body:
    return makehuman()


def walker(body: Body, frames: int, yaw: float = math.pi / 2) -> Person:
    """Somebody of mean shape who walks at 1.1 m/s and 0.9 strides a second, 24 frames a second."""
    at = {name: i for i, name in enumerate(body.joint_names)}
    t = torch.arange(frames) / 24
    pose, place = torch.zeros(frames, len(body.parents), 3), torch.zeros(frames, 3)
    for side, sign, phase in (("l", 1, 0.0), ("r", -1, math.pi)):
        cycle = 2 * math.pi * 0.9 * t + phase
        pose[:, at[f"upperarm_{side}"], 2] = -0.65 * sign
        pose[:, at[f"thigh_{side}"], 0] = -0.45 * cycle.sin()
        pose[:, at[f"calf_{side}"], 0] = 0.5 - 0.45 * (cycle + 0.9).cos()
    pose[:, 0, 1] = yaw
    place[:, 0], place[:, 2] = 1.1 * t * math.sin(yaw) - 0.3, 1.1 * t * math.cos(yaw)
    return Person("walker", body, torch.zeros(body.shapes), pose, place, torch.ones(frames, dtype=torch.bool))


def view(frames: int) -> Cameras:
    c2w = look_at(torch.tensor([[0.3, 1.5, 4.5]]), torch.tensor([[0.0, 0.9, 0.0]]), UP)
    return pinhole(c2w.repeat(frames, 1, 1), 256, 256, math.radians(50))


def shown(cameras: Cameras, person: Person) -> Tensor:
    """The keypoints of somebody, pixels [T, 17, 2]."""
    return pixels(cameras, seen(local(cameras, person.posed().landmarks)))


def aligned(found: Person, true: Person) -> float:
    """Mean distance of joints from the root's, metres."""
    a, b = found.posed().joints, true.posed().joints
    return float(((a - a[:, :1]) - (b - b[:, :1])).norm(dim=-1).mean())


def test_a_puppet_moves_as_its_body_does(body: Body) -> None:
    shape, pose, place = torch.randn(body.shapes), 0.5 * torch.randn(3, len(body.parents), 3), torch.randn(3, 3)
    expected = body.posed(shape, pose, place)
    found = Puppet(landmarks_only(body)).at(shape, rotations(pose), place)
    assert torch.allclose(found.joints, expected.joints, atol=1e-5)
    assert torch.allclose(found.landmarks, expected.landmarks, atol=1e-5)


def test_the_neutral_stance_hangs_its_arms_and_bends_limbs_the_way_they_bend(body: Body) -> None:
    table = limbs(body)
    for keypoints, forward in (((5, 7, 9), 1.0), ((6, 8, 10), 1.0), ((11, 13, 15), -1.0), ((12, 14, 16), -1.0)):
        upper, hinge, end = body.keypoints[list(keypoints)].tolist()
        turned = torch.zeros(1, len(body.parents), 3)
        turned[0, hinge] = 0.5 * table.axes[hinge, 0]
        turns = rotations(turned) @ table.neutral
        at = Puppet(body).at(torch.zeros(body.shapes), turns, torch.zeros(1, 3)).joints[0]
        above, below = at[hinge] - at[upper], at[end] - at[hinge]
        assert above[1] < -0.95 * above.norm()
        assert forward * (below / below.norm() - above / above.norm())[2] > 0.3
    assert float(table.cost(torch.zeros(1, len(body.parents), 3))) == 0


def test_directions_follow_the_cheapest_path_of_all() -> None:
    cost = 5 * torch.rand(4, 5)
    path, through = tracked(cost, fps=24.0)
    steps = torch.arange(5)
    apart = (steps[:, None] - steps).abs()
    change = (0.5 * (torch.minimum(apart, 5 - apart) * 2 * math.pi / 5 / 0.2) ** 2).clamp_max(40.0)
    every = torch.cartesian_prod(steps, steps, steps, steps)
    total = sum(cost[t, every[:, t]] for t in range(4)) + sum(change[every[:, t], every[:, t + 1]] for t in range(3))
    assert torch.equal(path, every[total.argmin()])
    assert all(abs(float(through[2, y] - total[every[:, 2] == y].min())) < 1e-4 for y in range(5))


@pytest.mark.parametrize("yaw", [math.pi / 2, 0.4])
def test_from_perfect_keypoints_a_walk_is_seen_where_it_was(body: Body, yaw: float) -> None:
    true, cameras = walker(body, 8, yaw), view(8)
    points = shown(cameras, true)
    ((found, sure),) = fit_keypoints(body, cameras, points[:, None], torch.ones(8, 1, 17), UP, Fit(steps=150))
    assert float((shown(cameras, found) - points).norm(dim=-1).mean()) < 1
    assert aligned(found, true) < 0.04 and bool((sure > 0.8).all()) and bool(found.present.all())


def test_hidden_frames_are_bridged_and_a_wrong_keypoint_does_not_pull(body: Body) -> None:
    true, cameras = walker(body, 9), view(9)
    points, confidence = shown(cameras, true)[:, None], torch.ones(9, 1, 17)
    confidence[3:6] = 0
    points[3:6] = math.nan
    points[1, 0, 9] += 60  # a left wrist that is somebody else's
    ((found, sure),) = fit_keypoints(body, cameras, points, confidence, UP, Fit(steps=150))
    assert found.present.tolist() == [True] * 3 + [False] * 3 + [True] * 3
    assert bool((sure[3:6] == 0).all()) and bool((sure[6:] > 0.5).all())
    assert aligned(found, true) < 0.06
    inner = found.place[4] - (found.place[2] + found.place[6]) / 2
    assert float(inner.norm()) < 0.03


def test_pixels_and_image_points_are_each_others_inverse() -> None:
    cameras = view(2)
    points = 256 * torch.rand(2, 5, 2)
    assert torch.allclose(pixels(cameras, ideal(cameras, points)), points, atol=1e-3)


def test_bad_keypoints_are_said(body: Body) -> None:
    points, confidence = torch.zeros(4, 2, 17, 2), torch.ones(4, 2, 17)
    with pytest.raises(InputError, match="4 frames, but there are 3 cameras"):
        fit_keypoints(body, view(3), points, confidence)
    confidence[:, 1, 3:] = 0
    with pytest.raises(InputError, match="person 2 shows 6 keypoints in no frame"):
        fit_keypoints(body, view(4), points, confidence)
    points[0, 0, 0, 0] = math.nan
    with pytest.raises(InputError, match="not finite"):
        fit_keypoints(body, view(4), points, torch.ones(4, 2, 17))


def test_a_spline_is_the_minimiser_of_its_cost() -> None:
    from fieldcast.reconstruct.poses.smoothing import _solved

    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=(9, 2)), rng.random(9)
    second = np.diff(np.eye(9), 2, axis=0)
    system = np.diag(weight) + 3.7 * second.T @ second
    track, determinant = _solved(values, weight, 3.7)
    assert np.allclose(track, np.linalg.solve(system, weight[:, None] * values), atol=1e-8)
    assert abs(determinant - np.linalg.slogdet(system)[1]) < 1e-8


def test_noise_is_reduced_and_a_smooth_track_is_left_alone(body: Body) -> None:
    true = walker(body, 24)
    g = torch.Generator().manual_seed(0)
    noise = rotations(math.radians(5) * torch.randn(true.pose.shape, generator=g))
    place = true.place + 0.04 * torch.randn(true.place.shape, generator=g)
    noisy = replace(true, place=place, pose=axis_angles(rotations(true.pose) @ noise))

    def off(person: Person) -> tuple[float, float]:
        turns = axis_angles(rotations(person.pose).mT @ rotations(true.pose))
        return float((person.place - true.place).norm(dim=1).mean()), float(turns.norm(dim=-1).mean())

    found = smoothed(noisy)
    assert all(a < 0.6 * b for a, b in zip(off(found.person), off(noisy), strict=True))
    assert found.after < 0.3 * found.before
    assert float((smoothed(true).person.place - true.place).norm(dim=1).max()) < 0.005


def test_frames_that_are_far_off_or_absent_do_not_pull() -> None:
    line = np.linspace(0, 1, 20)[:, None] + 0.01 * np.random.default_rng(0).normal(size=(20, 1))
    damaged, known = line.copy(), np.ones(20, bool)
    damaged[7], known[12] = 3.0, False
    damaged[12] = -5.0
    assert np.abs(spline(damaged, known, 0.1) - np.linspace(0, 1, 20)[:, None]).max() < 0.03


def test_masks_alone_tell_where_somebody_stands_and_which_way_they_go(body: Body) -> None:
    true, cameras = walker(body, 8), view(8)
    labels = []
    for dots in pixels(cameras, seen(local(cameras, true.posed().vertices))).long():
        label = torch.zeros(256, 256, dtype=torch.uint8)
        label[dots[:, 1], dots[:, 0]] = 1
        labels.append(label)
    ((found, sure),) = fit_masks(body, cameras, labels, UP, Fit(20))
    assert float((found.place - true.place).norm(dim=1).mean()) < 0.25
    facing = rotations(found.pose[:, 0])[:, :, 2]
    assert bool((facing[:, 0] > 0.8).all()) and 0 < float(sure.max()) < 1
    labels[3] = torch.zeros_like(labels[3])
    assert fit_masks(body, cameras, labels, UP, Fit(1))[0][0].present.tolist() == [t != 3 for t in range(8)]
    with pytest.raises(InputError, match="label 1 is seen from head to foot in no frame"):
        fit_masks(body, cameras, [torch.ones(256, 256, dtype=torch.uint8)] * 8, UP)
