"""People who are begun: outlines against cast bodies, tilts against cameras that are known, boxes that cross."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fieldcast.cli.recording import check as command
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, look_at, pinhole
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.capsules import capsules
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.poses import standing
from fieldcast.reconstruct.poses.beginning import begun
from fieldcast.reconstruct.poses.gaits import gait, in_step, walked
from fieldcast.reconstruct.poses.masks import fit_masks, overlaps, stand
from fieldcast.reconstruct.poses.motions import Fit, Motion, motion
from fieldcast.reconstruct.poses.outlines import outline, smaller, spread_points
from fieldcast.reconstruct.poses.puppets import sparse
from fieldcast.reconstruct.poses.tilt import is_guess, tilt_of
from fieldcast.reconstruct.poses.views import local, pixels, seen
from fieldcast.reconstruct.recordings.keypoints import Keypoints
from fieldcast.reconstruct.recordings.pictures import guessed
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.recordings.silhouettes import silhouettes
from fieldcast.reconstruct.segments.agreement import agreement, masks_of
from fieldcast.reconstruct.segments.splitting import found_people

UP = torch.tensor([0.0, 1.0, 0.0])
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def body() -> Body:
    return capsules()


def view(frames: int, size: int = 96) -> Cameras:
    c2w = look_at(torch.tensor([[0.0, 1.3, 3.6]]), torch.tensor([[0.0, 0.9, 0.0]]), UP)
    return pinhole(c2w.repeat(frames, 1, 1), size, size, math.radians(45))


def walk(body: Body, frames: int, phase: float = 0.7) -> Motion:
    """Somebody of mean shape who walks to the right at 1.2 m/s, at 12 frames a second."""
    speed = torch.full((frames,), 1.2)
    place = torch.stack([1.2 * (torch.arange(frames) / 12 - frames / 24), torch.zeros(frames), torch.zeros(frames)], 1)
    moving = motion(body, UP, torch.full((frames,), math.pi / 2), place)
    moving.turned = gait(body, walked(speed, 12.0, 1.0, phase), speed)
    return moving


def walker(body: Body, frames: int) -> Person:
    return walk(body, frames).person(body, "walker", torch.ones(frames, dtype=torch.bool))


def recorded(person: Person, cameras: Cameras) -> Recording:
    """The body in red before a grey wall, with its labels."""
    bare = Recording([torch.zeros(0, 0, 3, dtype=torch.uint8)] * len(cameras), cameras, (person,))
    labels = [silhouettes(bare, t).labels for t in range(len(cameras))]
    wall = torch.full((*labels[0].shape, 3), 120, dtype=torch.uint8)
    red = torch.tensor([200, 40, 30], dtype=torch.uint8)
    frames = [torch.where(label[..., None] > 0, red, wall) for label in labels]
    return Recording(frames, cameras, (), labels, fps=12.0, source="a clip")


def aligned(found: Person, true: Person) -> float:
    """Mean distance of joints from the root's, metres."""
    a, b = found.posed().joints, true.posed().joints
    return float(((a - a[:, :1]) - (b - b[:, :1])).norm(dim=-1).mean())


def test_an_outline_costs_least_where_the_body_is_and_pulls_it_there(body: Body) -> None:
    true, cameras = walker(body, 4), view(4)
    own = torch.stack(recorded(true, cameras).labels or []) == 1
    points, here = sparse(body, spread_points(body)), torch.ones(4, dtype=torch.bool)
    given = outline(cameras, own, torch.zeros_like(own), here)
    moving = walk(points, 4)
    exact = given.cost(moving.posed()[0].vertices)
    for axis, step in ((0, 0.1), (1, 0.1), (0, -0.1), (1, -0.1)):
        shift = torch.zeros(4, 3)
        shift[:, axis] = step
        place = (moving.place + shift).requires_grad_()
        cost = given.cost(moving.body.at(moving.shape, moving.turns, place).vertices)
        assert bool((cost > 3 * exact + 1).all())
        (pull,) = torch.autograd.grad(cost.sum(), place)
        assert bool((pull[:, axis] * step > 0).all())
    assert bool(
        (
            given.without(torch.tensor([True, False, False, False])).cost(points.vertices.expand(4, -1, -1))[:1] == 0
        ).all()
    )


def test_behind_somebody_nearer_a_body_may_be(body: Body) -> None:
    true, cameras = walker(body, 2), view(2)
    own = torch.stack(recorded(true, cameras).labels or []) == 1
    points, here = sparse(body, spread_points(body)), torch.ones(2, dtype=torch.bool)
    half = torch.zeros_like(own)
    half[:, 48:] = True
    at = walk(points, 2).posed()[0].vertices
    whole, hidden = (outline(cameras, own & ~half, nearer, here).cost(at) for nearer in (torch.zeros_like(own), half))
    assert bool((hidden < 0.2 * whole).all())


def test_legs_swing_against_each_other_and_arms_against_legs(body: Body) -> None:
    moving = motion(body, UP, torch.zeros(1), torch.zeros(1, 3))
    moving.turned = gait(body, torch.tensor([math.pi / 2]), torch.tensor([1.2]))
    at = dict(zip(body.joint_names, moving.posed()[0].joints[0], strict=True))
    assert at["foot_l"][2] - at["foot_r"][2] > 0.3 and at["hand_r"][2] - at["hand_l"][2] > 0.15


def test_who_walks_begins_in_step(body: Body) -> None:
    true, cameras, speed = walker(body, 8), view(8), torch.full((8,), 1.2)
    own = torch.stack(recorded(true, cameras).labels or []) == 1
    points = sparse(body, spread_points(body))
    given = outline(cameras, own, torch.zeros_like(own), torch.ones(8, dtype=torch.bool))
    moving = walk(points, 8)

    def cost(turned: Tensor) -> Tensor:
        moving.turned = turned
        return given.cost(moving.posed()[0].vertices).sum()

    moving.turned = in_step(points, speed, 12.0, cost)
    still = in_step(points, 0.1 * speed, 12.0, cost)
    assert bool((still == 0).all())
    in_phase = moving.person(body, "", true.present)
    moving.turned = still
    assert aligned(in_phase, true) < 0.5 * aligned(moving.person(body, "", true.present), true)


def test_masks_tell_where_limbs_are(body: Body) -> None:
    true, cameras = walker(body, 9), view(9)
    clip = recorded(true, cameras)
    small, labels = smaller(cameras, clip.labels or [])
    (one,) = stand(body, small, labels, 1, UP)
    before = motion(body, UP, torch.full((9,), math.pi / 2), one.place).person(body, "", one.present)
    ((found, sure),) = fit_masks(body, cameras, clip.labels or [], UP, Fit(80, 12.0))
    every = torch.ones(9, dtype=torch.bool)
    agreed = [float(overlaps(person, small, one, every).mean()) for person in (before, found)]
    assert agreed[1] > max(0.75, agreed[0] + 0.15)
    assert aligned(found, true) < 0.6 * aligned(before, true)
    assert bool(found.present.all()) and bool((sure > 0.5).all()) and float(sure.max()) < 1


def test_masks_that_are_cut_off_do_not_say_where_somebody_stands(body: Body) -> None:
    own = torch.zeros(6, 40, 30, dtype=torch.bool)
    own[:, 5:35, 10:20] = True
    other = torch.zeros_like(own)
    own[1, :6, 10:20] = True  # reaches the upper edge
    own[1, 0, 10:20] = True
    own[2, 20:] = False  # has lost its legs
    other[3, 35:, 12:16] = True  # stands behind somebody
    own[4] = False
    assert standing.whole(own, other).tolist() == [True, False, False, False, False, True]


@pytest.mark.parametrize(("down", "height"), [(0.0, 1.4), (0.3, 2.2)])
def test_people_of_usual_stature_tell_how_the_camera_stands(down: float, height: float) -> None:
    depths = torch.linspace(2.5, 8, 24)
    eye = torch.tensor([[0.0, height, 0.0]])
    ahead = torch.tensor([[0.0, height - math.sin(down), -math.cos(down)]])
    cameras = pinhole(look_at(eye, ahead, UP).repeat(24, 1, 1), 200, 200, 1.0)
    people = torch.stack([torch.stack([torch.tensor([0.3, h, -float(z)]) for h in (1.7, 0.0)]) for z in depths])
    ends = seen(local(cameras, people))[..., 1].double().numpy()
    tilt = tilt_of([ends[:12], ends[12:]])
    assert abs(tilt.down - down) < 0.03 and abs(tilt.height - height) < 0.1
    assert np.allclose(tilt.up, cameras.c2w[0, 1, :].numpy()[[0, 1, 2]], atol=0.03)


def crossing(frames: int = 24, people: int = 2, same: bool = False) -> Recording:
    """Boxes of 8 x 24 pixels that pass before each other, the first one before the second, on a wall of patches."""
    rng = np.random.default_rng(0)
    wall = rng.integers(60, 200, (48, 96, 3)).astype(np.uint8)
    pictures, labels = [], []
    for t in range(frames):
        picture, label = wall.astype(np.int64) + rng.integers(-2, 3, wall.shape), np.zeros((48, 96), np.uint8)
        for p in range(people)[::-1]:
            x = 4 + 80 * t // (frames - 1) if p == 0 else 84 - 80 * t // (frames - 1)
            picture[16 + 2 * p : 40 + 2 * p, x : x + 8] = (230, 30, 20) if p == 0 or same else (20, 60, 240)
            label[16 + 2 * p : 40 + 2 * p, x : x + 8] = p + 1
        pictures.append(torch.from_numpy(picture.clip(0, 255).astype(np.uint8)))
        labels.append(torch.from_numpy(label))
    return replace(guessed(pictures, 24.0, "boxes"), labels=labels)


@pytest.mark.parametrize("same", [False, True])
def test_boxes_that_cross_stay_who_they_are(same: bool) -> None:
    clip = crossing(same=same)
    found = torch.stack(found_people(replace(clip, labels=None), None))
    true = torch.stack(clip.labels or [])
    assert int(found.max()) == 2
    agreed = agreement(masks_of(found, 2), masks_of(true, 2)).iou
    apart = [t for t in range(24) if not 9 <= t <= 14]
    assert float(agreed[apart].min()) > 0.75
    if not same:
        assert float(agreed[9:15, 0].min()) > 0.7


def test_of_whom_there_is_no_telling_it_is_said() -> None:
    clip = replace(crossing(12), labels=None)
    with pytest.raises(InputError, match=r"expected 3 people who are apart .* found at most 2 that move"):
        begun(clip, 3)
    still = replace(clip, frames=[clip.frames[0]] * 12)
    with pytest.raises(InputError, match="nobody moves before the background; give masks, keypoints or poses"):
        begun(still)
    c2w = clip.cameras.c2w.clone()
    c2w[:, 0, 3] = torch.arange(12) / 10
    moved = replace(clip, cameras=replace(clip.cameras, c2w=c2w))
    with pytest.raises(InputError, match=r"where the camera moves; give masks .* \(--keypoints\)"):
        begun(moved, 2)
    labelled = replace(crossing(12), cameras=moved.cameras)
    with pytest.raises(InputError, match="boxes: expected masks of 1 people, found labels up to 2"):
        begun(labelled, 1)
    with pytest.raises(InputError, match="keypoints: expected 2 people, found 1"):
        begun(clip, 2, keypoints=Keypoints(torch.zeros(12, 1, 17, 2), torch.ones(12, 1, 17), True))


def test_who_is_known_stays_as_they_are(body: Body) -> None:
    clip = recorded(walker(body, 2), view(2))
    known = replace(clip, people=(walker(body, 2),))
    assert begun(known).recording is known and begun(known).sure == ()


def test_a_guess_is_known_as_one() -> None:
    clip = crossing(3)
    assert is_guess(clip.cameras) and is_guess(clip.cameras.resized(48, 24)) and not is_guess(view(3))


def test_keypoints_begin_people() -> None:
    true, cameras = walker(makehuman(), 6), view(6, 256)
    points = pixels(cameras, seen(local(cameras, true.posed().landmarks)))[:, None]
    clip = replace(recorded(true, cameras), labels=None)
    found = begun(clip, 1, keypoints=Keypoints(points, torch.ones(6, 1, 17), True))
    ((person,), (sure,)) = found.recording.people, found.sure
    assert aligned(person, true) < 0.06 and 0.5 < sure.number <= 1
    assert sure.sentence.startswith(f"person 1: sure to {sure.number:.2f}: 17 of 17 keypoints a frame in 6 of 6 frames")


def test_a_folder_of_pictures_begins_somebody(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldcast.reconstruct.poses.beginning.STEPS", 30)
    clip = recorded(walker(capsules(), 12), view(12, 64))
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(clip.frames):
        Image.fromarray(frame.numpy()).save(tmp_path / "clip" / f"{t}.png")
    assert main_guard(command, [str(tmp_path / "clip"), "--people", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["masks"] == "yes" and [person["name"] for person in told["people"]] == ["person 1"]
    (one,) = told["begun"]
    assert 0.3 < one["number"] < 1 and "in frames that the fit had not seen" in one["sentence"]
    assert "of the camera it is assumed that it sees 53 degrees" in one["sentence"]
    assert told["people"][0]["overlap"] == pytest.approx(one["number"], abs=0.25)
