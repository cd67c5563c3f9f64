"""Cameras that move, and people who are hidden or absent: what is behind them, and what of them is fitted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, Rays, look_at, pinhole
from fieldcast.fields.field import Field
from fieldcast.fields.files import save
from fieldcast.fields.kinds import KINDS
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.scenes.mesh import Caster
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.people import look_at_people
from fieldcast.reconstruct.avatars.rays import near_person
from fieldcast.reconstruct.avatars.rendering import rendered
from fieldcast.reconstruct.bodies.capsules import capsules
from fieldcast.reconstruct.fitting import fit as fitting
from fieldcast.reconstruct.fitting import room
from fieldcast.reconstruct.fitting.behind import Behind, behind_of, field_behind, still
from fieldcast.reconstruct.fitting.fit import Fitted, Plan, fit_people
from fieldcast.reconstruct.fitting.masks import who_is_where
from fieldcast.reconstruct.fitting.pixels import People
from fieldcast.reconstruct.fitting.recipes import small_planes
from fieldcast.reconstruct.fitting.room import empty_pixels, fit_room
from fieldcast.reconstruct.fitting.smoothness import bends
from fieldcast.reconstruct.fitting.uncovered import uncovered
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.segments.agreement import agreement, masks_of
from fieldcast.reconstruct.segments.background import QUIET
from fieldcast.reconstruct.segments.backgrounds import WINDOWS, Backgrounds, noise_of
from fieldcast.reconstruct.segments.segmenter import open_segmenter

FRAMES, SIZE = 6, 48
UP = torch.tensor([0.0, 1.0, 0.0])
COLORS = ((210, 60, 50), (50, 90, 200))
HIDDEN = (2, 3)  # frames in which the second one stands behind the first


def walls(rays: Rays) -> Tensor:
    """The inside of a room of 6 x 6 metres, whose colours change smoothly with the place: [R, 3], 0 to 1."""
    low, high = torch.tensor([-3.0, 0.0, -3.0]), torch.tensor([3.0, 6.0, 6.0])
    d = torch.where(rays.directions.abs() < 1e-6, 1e-6, rays.directions)
    t = torch.where(d > 0, (high - rays.origins) / d, (low - rays.origins) / d).amin(-1)
    x = rays.origins + t[:, None] * rays.directions
    return torch.stack([0.5 + 0.3 * (1.7 * x[:, k] + x[:, (k + 1) % 3]).sin() for k in range(3)], -1)


def cameras(moving: bool) -> Cameras:
    """They go from the left to the right, or stand still."""
    across = torch.linspace(-1.2, 1.2, FRAMES) * moving
    eye = torch.stack([across, torch.full((FRAMES,), 1.2), torch.full((FRAMES,), 4.0)], -1)
    return pinhole(look_at(eye, torch.tensor([0.0, 0.85, 0.0]).expand(FRAMES, 3), UP), SIZE, SIZE, math.radians(36))


def cast_of(people: list[Person], seen_by: Cameras) -> Recording:
    """The people before the walls, with labels."""
    frames, labels = [], []
    for t in range(FRAMES):
        rays = seen_by.image_rays(t)
        meshes = [Mesh(p.posed([t]).vertices[0].double().numpy(), p.body.faces.numpy()) for p in people]
        caster = Caster([mesh.surface() for mesh in meshes])
        _, face = caster.meet(rays.origins.double().numpy(), rays.directions.numpy())
        label = torch.from_numpy(np.where(face < 0, 0, 1 + face // len(people[0].body.faces)))
        picture = 255 * walls(rays)
        for p, color in enumerate(COLORS[: len(people)]):
            picture[label == p + 1] = torch.tensor(color).float()
        frames.append(picture.round().to(torch.uint8).reshape(SIZE, SIZE, 3))
        labels.append(label.to(torch.uint8).reshape(SIZE, SIZE))
    return Recording(frames, seen_by, tuple(people), labels, source="a clip")


def person(name: str, place: Tensor) -> Person:
    body = capsules()
    pose = torch.zeros(FRAMES, len(body.parents), 3)
    return Person(name, body, torch.zeros(body.shapes), pose, place, torch.ones(FRAMES, dtype=torch.bool))


def walker(name: str, way: float, depth: float) -> Person:
    along = way * torch.linspace(-0.55, 0.55, FRAMES)
    return person(name, torch.stack([along, torch.zeros(FRAMES), torch.full((FRAMES,), depth)], 1))


@pytest.fixture(scope="module")
def moving() -> Recording:
    return cast_of([walker("ann", 1.0, 0.4), walker("bob", -1.0, -0.4)], cameras(True))


@pytest.fixture(scope="module")
def hiding() -> Recording:
    """Bob stands behind ann in HIDDEN frames, where nothing is seen of him, and beside her otherwise."""
    front = person("ann", torch.tensor([0.0, 0.0, 0.6]).expand(FRAMES, 3).clone())
    place = torch.tensor([0.75, 0.0, 0.6]).expand(FRAMES, 3).clone()
    for t in HIDDEN:
        place[t] = torch.tensor([0.0, 0.0, 0.55])
    return cast_of([front, person("bob", place)], cameras(False))


@pytest.fixture(scope="module")
def behind(moving: Recording) -> Behind:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KINDS["hashgrid"], "points_per_step", 1 << 12)
        empty = empty_pixels(moving)
        return field_behind(moving, fit_room(moving, empty, steps=150), empty)


def psnr(off: Tensor) -> float:
    return -10 * math.log10(float(off.square().mean()))


def truth_behind(recording: Recording) -> Tensor:
    every = [walls(recording.cameras.image_rays(t)).reshape(SIZE, SIZE, 3) for t in range(FRAMES)]
    return torch.stack(every)


def test_a_room_is_learned_from_a_moving_camera_where_people_are_not(moving: Recording, behind: Behind) -> None:
    truth, labels = truth_behind(moving), torch.stack(moving.labels or [])
    plain = psnr((truth - truth.mean((0, 1, 2)))[labels == 0])
    assert behind.color.shape == truth.shape
    assert psnr((behind.color - truth)[labels == 0]) > plain + 8
    assert psnr((behind.color - truth)[labels > 0]) > plain + 3  # seen in other frames alone
    people = torch.tensor(COLORS)[labels[labels > 0].long() - 1] / 255
    assert psnr((behind.color - truth)[labels > 0]) > psnr(behind.color[labels > 0] - people) + 3


def test_people_are_left_out_with_what_is_about_them(moving: Recording) -> None:
    empty = empty_pixels(replace(moving, labels=None))
    labels = torch.stack(moving.labels or [])
    assert not bool((empty & (labels > 0)).any()) and float(empty.float().mean()) > 0.5


def test_rays_from_anywhere_see_what_is_behind(behind: Behind) -> None:
    rays = behind.cameras.image_rays(2)
    assert torch.allclose(behind.seen(rays).clamp(0, 1), behind.color[2].reshape(-1, 3), atol=1e-5)
    aside = pinhole(look_at(torch.tensor([[0.3, 1.0, 3.4]]), torch.zeros(1, 3), UP), 16, 16, math.radians(30))
    assert psnr(behind.seen(aside.image_rays(0)) - walls(aside.image_rays(0))) > 15


def test_a_still_picture_is_shown_by_direction_and_beyond_it_its_mean() -> None:
    g = torch.Generator().manual_seed(0)
    clip = cast_of([walker("ann", 1.0, 0.0)], cameras(False))
    clip = replace(clip, frames=[torch.randint(0, 255, (SIZE, SIZE, 3), generator=g).to(torch.uint8)] * FRAMES)
    found = still(clip, torch.zeros(FRAMES, SIZE, SIZE, dtype=torch.bool))
    assert found.color.shape == (1, SIZE, SIZE, 3) and len(found.cameras) == 1
    assert torch.allclose(found.seen(clip.cameras.image_rays(0)), found.color[0].reshape(-1, 3), atol=1e-3)
    rays = clip.cameras.image_rays(0)
    elsewhere = Rays(rays.origins + 3, rays.directions)
    assert torch.equal(found.seen(elsewhere), found.seen(rays))
    away = found.seen(Rays(rays.origins, -rays.directions))
    assert torch.allclose(away, found.color[0].mean((0, 1)).expand_as(away))


def test_where_people_always_are_a_still_picture_has_the_mean_colour() -> None:
    clip = cast_of([walker("ann", 1.0, 0.0)], cameras(False))
    there = torch.zeros(FRAMES, SIZE, SIZE, dtype=torch.bool)
    there[:, 10:20, 10:20] = True
    color = still(clip, there).color[0]
    assert torch.allclose(color[10:20, 10:20], color[~there[0]].mean(0).expand(10, 10, 3), atol=1e-5)


def test_a_field_file_may_stand_behind_people(moving: Recording, behind: Behind, tmp_path: Path) -> None:
    assert isinstance(behind.field, Field)
    save(behind.field, tmp_path / "room.safetensors")
    found = behind_of(moving, tmp_path / "room.safetensors")
    assert found is not None and torch.allclose(found.color, behind.color, atol=1e-4)
    clip = replace(moving, cameras=moving.cameras[[2] * FRAMES], frames=[moving.frames[2]] * FRAMES)
    one = behind_of(clip, tmp_path / "room.safetensors")
    assert one is not None and torch.allclose(one.color, behind.color[[2]], atol=1e-4)
    other = replace(moving, frames=[255 - frame for frame in moving.frames])
    with pytest.raises(InputError, match=r"room.safetensors: expected what is behind the people of a clip, in metres"):
        behind_of(other, tmp_path / "room.safetensors")


def test_a_place_is_known_if_some_frame_shows_it_with_nobody_before_it() -> None:
    seen_by, empty = cameras(True), torch.ones(FRAMES, SIZE, SIZE, dtype=torch.bool)
    points = torch.tensor([[0.0, 0.85, 0.0], [0.0, 0.85, 8.0], [9.0, 0.85, 0.0]])  # in the middle, behind, beside
    assert uncovered(seen_by, empty, points).tolist() == [True, False, False]
    empty[:, SIZE // 2 - 2 : SIZE // 2 + 2, SIZE // 2 - 2 : SIZE // 2 + 2] = False  # all look at the first point
    assert not bool(uncovered(seen_by, empty, points).any())
    empty[4] = True
    assert uncovered(seen_by, empty, points).tolist() == [True, False, False]


def test_noise_is_the_mean_difference_where_nobody_is() -> None:
    g = torch.Generator().manual_seed(3)
    off, counted = 40 * torch.rand(64, 64, generator=g), torch.ones(64, 64, dtype=torch.bool)
    counted[20:50, 20:50] = False
    noise, reach = noise_of(off, counted), round(WINDOWS[0] * 64)
    window = slice(10 - reach, 10 + reach + 1), slice(12 - reach, 12 + reach + 1)
    assert float(noise[10, 12]) == pytest.approx(float(off[window].mean()) * math.sqrt(math.pi / 2), rel=1e-4)
    wide = round(WINDOWS[1] * 64)
    window = slice(24 - wide, 24 + wide + 1), slice(24 - wide, 24 + wide + 1)
    expected = float(off[window][counted[window]].mean()) * math.sqrt(math.pi / 2)
    assert float(noise[24, 24]) == pytest.approx(expected, rel=1e-4)
    assert noise_of(0 * off, counted).eq(QUIET).all() and noise_of(off, counted & False).isinf().all()


def test_segmenters_that_are_told_what_is_behind_find_people_before_a_moving_camera(moving: Recording) -> None:
    truth = torch.stack(moving.labels or [])
    known = torch.ones(FRAMES, SIZE, SIZE, dtype=torch.bool)
    told = Backgrounds.of(moving.frames, truth_behind(moving), known, empty_pixels(moving))
    for name in ("background", "grabcut"):
        segmenter = open_segmenter(name, moving, behind=told)
        found = who_is_where(moving, moving.people, segmenter).shares > 0.5
        assert agreement(found, masks_of(truth, 2)).mean()["iou"] > 0.9
    with pytest.raises(InputError, match="a clip: segmenter background: expected a camera that stands still"):
        open_segmenter("background", moving)
    with pytest.raises(InputError, match="background: expected a frame of the recording, found a picture that has"):
        told(255 - moving.frames[0])


def test_people_are_fitted_before_a_moving_camera(moving: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "STEPS", 20)
    monkeypatch.setattr(fitting, "ASKED", ())
    monkeypatch.setattr(KINDS["hashgrid"], "points_per_step", 1 << 11)
    fitted = fit_people(replace(moving, labels=None), Plan(steps=4))
    assert fitted.backdrop is not None and fitted.backdrop.field is not None
    assert fitted.behind.shape == (FRAMES, SIZE, SIZE, 3) and torch.equal(fitted.behind, fitted.backdrop.color)
    seen = rendered(fitted.avatars, moving.cameras, 3, 3)
    picture = seen.over(fitted.backdrop.picture(moving.cameras, 3))
    nobody = seen.opacity.sum(-1) == 0
    assert torch.allclose(picture[nobody], fitted.behind[3][nobody], atol=1e-4) and bool(picture.isfinite().all())
    mask = masks_of(torch.stack(moving.labels or []), 2)[3].any(0)
    assert float(agreement((seen.labels > 0)[None], mask[None]).iou) > 0.7


def absent(recording: Recording, garbage: float) -> Recording:
    """Ann is not present in a third of the frames; what her pose says there is garbage, and so are her labels."""
    ann, bob = recording.people
    present = torch.tensor([True, True, False, False, True, True])
    pose, place = ann.pose.clone(), ann.place.clone()
    pose[~present], place[~present] = garbage, garbage
    return replace(recording, people=(replace(ann, present=present, pose=pose, place=place), bob))


def test_what_poses_say_where_somebody_is_absent_does_not_matter(
    hiding: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "ASKED", ())

    def fitted(garbage: float) -> Fitted:
        return fit_people(absent(replace(hiding, labels=None), garbage), Plan(steps=4))

    first, second = fitted(100.0), fitted(math.nan)
    for a, b in zip(first.avatars, second.avatars, strict=True):
        for x, y in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(x, y) and bool(x.isfinite().all())
    assert torch.equal(first.shares, second.shares)


def test_nothing_is_seen_of_somebody_who_is_absent(hiding: Recording) -> None:
    avatar = Avatar(absent(hiding, 7.0).people[0], small_planes())
    assert avatar.places.nearest.shape[0] == 4 and avatar.places.row.tolist() == [0, 1, -1, -1, 2, 3]
    rays = hiding.cameras.image_rays(0)
    for t, seen in ((1, True), (2, False), (3, False), (4, True)):
        frame = torch.full((len(rays),), t)
        assert bool(len(near_person(avatar.places, rays, frame).ray)) == seen
        with torch.no_grad():
            assert bool((look_at_people([avatar], rays, frame).opacity > 0.5).any()) == seen
    x = avatar.person.posed([1]).vertices[0]
    assert bool((avatar.places.at(torch.full((len(x),), 1), x) >= 0).all())
    assert bool((avatar.places.at(torch.full((len(x),), 2), x) == -1).all())


def test_pixels_of_somebody_whose_pose_is_not_known_are_left_out(hiding: Recording) -> None:
    labels = torch.stack(hiding.labels or [])
    pixels = People.of(absent(hiding, 0.0), masks_of(labels, 2).float())
    pool = torch.zeros_like(labels, dtype=torch.bool)
    pool[pixels.pool.unbind(1)] = True
    assert not bool(pool[2:4][labels[2:4] == 1].any())
    assert bool(pool[labels == 2].all()) and bool(pool[[0, 1, 4, 5]][labels[[0, 1, 4, 5]] == 1].all())


def test_a_path_bends_only_where_its_frames_are_known() -> None:
    g = torch.Generator().manual_seed(1)
    path = torch.randn(7, 2, 3, generator=g)
    present = torch.tensor([True, True, True, False, True, True, True])
    expected = [(path[t - 1] - 2 * path[t] + path[t + 1]).square().sum(-1).mean() for t in (1, 5)]
    assert float(bends(path, present)) == pytest.approx(float(sum(expected)) / 2, rel=1e-5)
    every = torch.ones(7, dtype=torch.bool)
    assert float(bends(path, every)) == pytest.approx(float(path.diff(n=2, dim=0).square().sum(-1).mean()), rel=1e-5)
    assert float(bends(path[:2], every[:2])) == 0 and float(bends(path, every & False)) == 0


def test_somebody_who_is_hidden_gets_no_mask_and_keeps_a_finite_pose(
    hiding: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "ASKED", (0.5,))
    labels = torch.stack(hiding.labels or [])
    assert int((labels[list(HIDDEN)] == 2).sum()) < 3 and int((labels[0] == 2).sum()) > 40
    fitted = fit_people(replace(hiding, labels=None), Plan(steps=6))
    assert float(fitted.shares[list(HIDDEN), 1].max()) < 0.01
    assert float(fitted.shares[0, 1].max()) > 0.9
    found = fitted.avatars[1].person
    assert bool(found.place.isfinite().all()) and float((found.place - hiding.people[1].place).norm(dim=1).max()) < 0.1


def test_who_is_never_seen_is_said_before_anything_is_trained(
    hiding: Recording, moving: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*_: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(fitting.Training, "run", trained)
    ann, bob = hiding.people
    nowhere = replace(bob, present=torch.zeros(FRAMES, dtype=torch.bool))
    with pytest.raises(InputError, match="a clip: bob: expected to be present in at least one frame, found none; give"):
        fit_people(replace(hiding, people=(ann, nowhere)), Plan())
    for clip in (hiding, moving):
        outside = replace(bob, place=bob.place + torch.tensor([0.0, 0.0, 9.0]))
        with pytest.raises(InputError, match="a clip: bob: expected their body to be seen in at least one frame"):
            fit_people(replace(clip, people=(clip.people[0], outside)), Plan())
    unseen = [torch.where(labels == 2, 0, labels).to(torch.uint8) for labels in hiding.labels or []]
    with pytest.raises(InputError, match="a clip: bob: expected at least one pixel that shows them, found none"):
        fit_people(replace(hiding, labels=unseen), Plan(segmenter="masks"))
    warned = replace(hiding, warnings=("clip.mp4: the picture moves, by 9 pixels until frame 3: the camera",))
    with pytest.raises(InputError, match="a clip: the camera moves, and how is not known: give its places"):
        fit_people(warned, Plan())
