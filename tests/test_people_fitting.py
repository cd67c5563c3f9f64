"""People are fitted to pictures of known bodies: capsules in plain colours that walk before a wall."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldcast.errors import InputError
from fieldcast.fields import training
from fieldcast.fields.cameras import look_at, pinhole
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.scenes.mesh import Caster
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.people import look_at_people
from fieldcast.reconstruct.bodies.capsules import capsules
from fieldcast.reconstruct.fitting import fit
from fieldcast.reconstruct.fitting.fit import Fitted, Plan, fit_people, rates
from fieldcast.reconstruct.fitting.floor import STANDS, Floor
from fieldcast.reconstruct.fitting.masks import Masks, who_is_where
from fieldcast.reconstruct.fitting.pixels import People
from fieldcast.reconstruct.fitting.recipes import RECIPES, small_planes
from fieldcast.reconstruct.fitting.terms import AWAY, ORDER, apart_loss, near_given, order_loss, smoothness
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.segments.segmenter import open_segmenter

FRAMES, SIZE = 8, 64
COLORS = ((210, 60, 50), (50, 90, 200))


@pytest.fixture(scope="module")
def truth() -> Recording:
    """Two people who pass each other, with labels."""
    body, along = capsules(), torch.linspace(-0.7, 0.7, FRAMES)
    people = []
    for name, way, depth in (("ann", 1.0, 0.3), ("bob", -1.0, -0.3)):
        place = torch.stack([way * along, torch.zeros(FRAMES), torch.full((FRAMES,), depth)], 1)
        pose = torch.zeros(FRAMES, len(body.parents), 3)
        pose[:, 0, 1] = way * math.pi / 2
        present = torch.ones(FRAMES, dtype=torch.bool)
        people.append(Person(name, body, torch.zeros(body.shapes), pose, place, present))
    eye, target = torch.tensor([[0.0, 1.0, 4.0]]), torch.tensor([[0.0, 0.85, 0.0]])
    camera = pinhole(look_at(eye, target, torch.tensor([0.0, 1.0, 0.0])), SIZE, SIZE, math.radians(34))
    g = torch.Generator().manual_seed(0)
    wall = (150 + 60 * torch.rand(SIZE, SIZE, 1, generator=g)).expand(SIZE, SIZE, 3)
    frames, labels = [], []
    for t in range(FRAMES):
        meshes = [Mesh(p.posed([t]).vertices[0].double().numpy(), body.faces.numpy()) for p in people]
        rays = camera.image_rays(0)
        caster = Caster([mesh.surface() for mesh in meshes])
        _, face = caster.meet(rays.origins.double().numpy(), rays.directions.numpy())
        label = torch.from_numpy(np.where(face < 0, 0, 1 + face // len(body.faces))).reshape(SIZE, SIZE)
        frame = wall.clone()
        for p, color in enumerate(COLORS):
            frame[label == p + 1] = torch.tensor(color).float()
        frames.append(frame.round().to(torch.uint8))
        labels.append(label.to(torch.uint8))
    return Recording(frames, camera[[0] * FRAMES], tuple(people), labels, source="a clip")


def displaced(truth: Recording) -> Recording:
    """What a user would have: places that are wrong by 4 cm an axis, no masks."""
    g = torch.Generator().manual_seed(1)
    people = [replace(p, place=p.place + 0.04 * torch.randn(FRAMES, 3, generator=g)) for p in truth.people]
    return replace(truth, people=tuple(people), labels=None)


def off(people: list[Person], truth: Recording) -> float:
    """Metres, the mean over joints, frames and people."""
    pairs = zip(people, truth.people, strict=True)
    return float(torch.stack([(a.posed().joints - b.posed().joints).norm(dim=-1).mean() for a, b in pairs]).mean())


@pytest.fixture(scope="module")
def fitted(truth: Recording) -> Fitted:
    return fit_people(displaced(truth), Plan(steps=200))


def test_people_end_nearer_to_where_they_are(truth: Recording, fitted: Fitted) -> None:
    given = off(list(displaced(truth).people), truth)
    assert off([avatar.person for avatar in fitted.avatars], truth) < 0.6 * given


def test_opacities_of_people_are_where_they_are_seen(truth: Recording, fitted: Fitted) -> None:
    assert truth.labels is not None
    shares = []
    for t in range(0, FRAMES, 2):
        rays = truth.cameras.image_rays(t)
        with torch.no_grad():
            seen = look_at_people(fitted.avatars, rays, torch.full((len(rays),), t))
        for p in range(2):
            a, b = seen.opacity[:, p].reshape(SIZE, SIZE) > 0.5, truth.labels[t] == p + 1
            shares.append(float((a & b).sum() / (a | b).sum()))
    assert sum(shares) / len(shares) > 0.85  # a pixel is 4 cm: what its border takes is an eighth of a person


def test_colours_are_those_of_the_pictures(truth: Recording, fitted: Fitted) -> None:
    assert truth.labels is not None
    rays = truth.cameras.image_rays(0)
    with torch.no_grad():
        seen = look_at_people(fitted.avatars, rays, torch.zeros(len(rays), dtype=torch.int64))
    for p, color in enumerate(COLORS):
        sure = (seen.opacity[:, p] > 0.95) & (truth.labels[0] == p + 1).reshape(-1)
        assert int(sure.sum()) > 30
        assert float((seen.rgb[sure] * 255 - torch.tensor(color).float()).abs().mean()) < 20


def test_what_is_behind_people_is_the_wall(truth: Recording, fitted: Fitted) -> None:
    assert truth.labels is not None
    empty = torch.stack(truth.labels).eq(0).float().mean(0) > 0.9
    wall = torch.stack(truth.frames).median(0).values.float() / 255
    assert float((fitted.behind[0] - wall)[empty].abs().mean()) < 0.01


def test_poses_that_are_right_may_be_kept(truth: Recording) -> None:
    still = fit_people(replace(truth, labels=None), Plan(steps=4, moving=False))
    for avatar, person in zip(still.avatars, truth.people, strict=True):
        assert torch.equal(avatar.person.pose, person.pose) and torch.equal(avatar.person.place, person.place)


def test_the_same_seed_gives_the_same_people(truth: Recording) -> None:
    first, second = (fit_people(displaced(truth), Plan(steps=6, seed=5)) for _ in range(2))
    for a, b in zip(first.avatars, second.avatars, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_masks_are_asked_for_where_the_bodies_are(truth: Recording) -> None:
    shares = who_is_where(truth, truth.people, open_segmenter("grabcut", truth)).shares
    assert truth.labels is not None and shares.shape == (FRAMES, 2, SIZE, SIZE)
    for p in range(2):
        a, b = shares[:, p] > 0.5, torch.stack(truth.labels) == p + 1
        assert float((a & b).sum() / (a | b).sum()) > 0.9


def test_pixels_are_those_of_people_and_around_them(truth: Recording) -> None:
    assert truth.labels is not None
    labels = torch.stack(truth.labels)
    shares = torch.stack([(labels == 1).float(), (labels == 2).float()], 1)
    pixels = People.of(truth, shares)
    batch = pixels.sample(500, torch.Generator().manual_seed(2))
    pool = torch.zeros_like(labels, dtype=torch.bool)
    pool[pixels.pool.unbind(1)] = True
    assert bool(pool[labels > 0].all()) and pool.sum() < 0.6 * labels.numel()
    inside = batch.shares.sum(1) > 0
    expected = torch.tensor(COLORS)[batch.shares[inside].argmax(1)].float() / 255
    assert torch.allclose(batch.rgb[inside], expected, atol=0.003)


def test_smooth_paths_are_likelier_than_trembling_ones(truth: Recording) -> None:
    smooth, trembling = Avatar(truth.people[0], small_planes()), Avatar(displaced(truth).people[0], small_planes())
    assert smoothness(smooth).item() < 1e-6 < smoothness(trembling).item()


def test_every_parameter_is_learned_once(truth: Recording) -> None:
    avatars = [Avatar(person, small_planes()) for person in truth.people]
    learned = [id(p) for parameters, _ in rates(avatars, RECIPES["fast"], 100) for p in parameters]
    assert sorted(learned) == sorted(id(p) for avatar in avatars for p in avatar.parameters())


def test_what_cannot_be_fitted_is_said(truth: Recording) -> None:
    with pytest.raises(InputError, match="a clip: expected at least one person with poses"):
        fit_people(replace(truth, people=()), Plan())


def interrupted_at(step: int):  # type: ignore[no-untyped-def]
    def progress(done: int, total: int, note: str = "") -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_fit_goes_on_to_the_same_people(
    truth: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after masks were asked for and bodies looked at, which is not done again at once."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(fit, "LOOKED", 4)
    monkeypatch.setattr(fit, "SETTLED", 4)
    step, plan, recording = 7, Plan(steps=12, seed=5), displaced(truth)
    whole = fit_people(recording, plan)
    with pytest.raises(KeyboardInterrupt):
        fit_people(recording, plan, interrupted_at(step), checkpoint=tmp_path / "people.safetensors")
    again = fit_people(recording, plan, checkpoint=tmp_path / "people.safetensors", resume=True)
    for a, b in zip(whole.avatars, again.avatars, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert torch.equal(whole.shares, again.shares) and not list(tmp_path.iterdir())


def test_a_fit_of_other_people_does_not_go_on(
    truth: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    kept = tmp_path / "people.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit_people(truth, Plan(steps=4), interrupted_at(2), checkpoint=kept)
    with pytest.raises(InputError, match="another people"):
        fit_people(replace(truth, people=truth.people[::-1]), Plan(steps=4), checkpoint=kept, resume=True)


def test_who_watches_sees_people_on_the_way(truth: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "WATCHED", 0.0)
    seen: list[int] = []
    fit_people(truth, Plan(steps=3), watch=lambda step, fitted: seen.append(step if len(fitted.avatars) == 2 else -1))
    assert seen == [0, 1, 2]


def test_the_mean_distance_that_was_given_is_kept_and_nothing_else_of_the_places(truth: Recording) -> None:
    avatar, centers = Avatar(truth.people[0], small_planes()), truth.cameras.centers
    sight = torch.nn.functional.normalize(truth.people[0].place - centers, dim=-1)
    wave = torch.linspace(-1, 1, FRAMES)[:, None]
    for way, cost in ((sight, AWAY * 0.1**2), (sight * wave, 0.0), (torch.linalg.cross(sight, sight.roll(1, -1)), 0.0)):
        with torch.no_grad():
            avatar.place.copy_(truth.people[0].place + 0.1 * way)
        assert near_given(avatar, centers).item() == pytest.approx(cost, abs=1e-6)


def test_surfaces_are_learned_from_frames_that_agree_and_poses_from_all(truth: Recording) -> None:
    """A step of poses leaves surfaces alone, in the first half; without this all is learned at once."""
    for confident in (True, False):
        people = fit_people(displaced(truth), Plan(steps=1, confident=confident)).avatars
        begun = [Avatar(person, small_planes(), i) for i, person in enumerate(displaced(truth).people)]
        for a, b in zip(people, begun, strict=True):
            pairs = zip(a.shell.inner.parameters(), b.shell.inner.parameters(), strict=True)
            assert all(torch.equal(x, y) for x, y in pairs) == confident
            assert not torch.equal(a.place, b.place)


def test_frames_agree_as_much_as_bodies_and_masks_overlap() -> None:
    shares, believed = torch.zeros(3, 2, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)
    shares[0, 0, :2], believed[0, :2] = 0.9, 1  # the same
    shares[1, 0, :2], believed[1, :1] = 0.9, 1  # a half
    shares[1, 1, 2:], believed[1, 2:] = 0.9, 2
    assert torch.allclose(Masks(shares, believed).agreement(), torch.tensor([1.0, 0.75, 1.0]))


def test_what_is_contested_is_seen_of_one_and_believed_of_another() -> None:
    shares, believed = torch.zeros(1, 2, 1, 4), torch.tensor([[[2, 1, 0, 2]]], dtype=torch.uint8)
    shares[0, 0, 0], shares[0, 1, 0] = torch.tensor([0.8, 0.8, 0.8, 0.3]), torch.tensor([0.1, 0.1, 0.1, 0.6])
    assert Masks(shares, believed).contested().tolist() == [[[True, False, False, False]]]


def test_who_is_seen_is_drawn_before_who_is_believed_to_be(truth: Recording) -> None:
    """The gradient moves the nearer of two back, the other forth; its value is how far they are in the wrong order."""
    t = FRAMES // 2  # ann, at z = 0.3, stands before bob at -0.3
    avatars = [Avatar(person, small_planes(), i) for i, person in enumerate(truth.people)]
    labels = torch.stack(truth.labels or ())
    shares = torch.zeros(FRAMES, 2, SIZE, SIZE)
    shares[:, 1] = 1.0  # only bob is seen, wherever anybody is
    pool = (labels[t] == 1).nonzero()
    pixels = People.of(truth, shares)
    batch = pixels.sample(64, torch.Generator().manual_seed(0), torch.cat([torch.full((len(pool), 1), t), pool], 1))
    loss = order_loss(avatars, batch, torch.zeros(64, dtype=torch.int64))
    loss.backward()
    assert avatars[0].place.grad is not None and avatars[1].place.grad is not None
    assert float(avatars[0].place.grad[t, 2]) > 0 > float(avatars[1].place.grad[t, 2])
    alone = [look_at_people([a], batch.rays, batch.frame) for a in avatars]
    ann, bob = ((a.depth / a.opacity.clamp_min(1e-3))[:, 0] for a in alone)
    both = (alone[0].opacity[:, 0] > 1e-3) & (alone[1].opacity[:, 0] > 1e-3)
    assert loss.item() == pytest.approx(ORDER * float((bob - ann)[both].detach().mean()), rel=1e-3)
    right = order_loss(avatars, replace(batch, shares=batch.shares.flip(1)), torch.ones(64, dtype=torch.int64))
    assert right.item() == 0


def test_people_in_each_other_are_pushed_apart(truth: Recording) -> None:
    ann, bob = truth.people
    inside = [ann, replace(bob, pose=ann.pose, place=ann.place + torch.tensor([0.0, 0.0, 0.15]))]
    avatars = [Avatar(person, small_planes()) for person in inside]
    loss = apart_loss(avatars, 3, torch.Generator().manual_seed(0))
    loss.backward()
    grads = [a.place.grad for a in avatars]
    assert loss.item() > 0 and grads[0] is not None and grads[1] is not None
    assert float(grads[0][3, 2]) > 0 > float(grads[1][3, 2])
    assert not grads[0][[0, 1, 2, 4]].any()
    apart = [Avatar(person, small_planes()) for person in truth.people]
    assert apart_loss(apart, 0, torch.Generator().manual_seed(0)).item() == 0


def test_the_recipe_of_the_paper_learns_a_network_from_97_samples_a_ray(
    truth: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def seen(*given: Any, count: int | None = None, **named: Any) -> Any:
        asked.append(count)
        return look_at_people(*given, count=count, **named)

    monkeypatch.setattr("fieldcast.reconstruct.fitting.terms.look_at_people", seen)
    alone = replace(displaced(truth), people=displaced(truth).people[:1])
    (avatar,) = fit_people(alone, Plan(steps=1, recipe="paper", moving=False)).avatars
    assert avatar.shell.inner.spec.kind == "mlp" and asked == [97]


def test_many_samples_that_are_all_asked_see_what_few_see(truth: Recording) -> None:
    avatars = [Avatar(person, small_planes(), i) for i, person in enumerate(truth.people)]
    for avatar in avatars:
        avatar.shell.settle()
    rays = truth.cameras.image_rays(0)
    at = torch.full((len(rays),), FRAMES // 2)
    with torch.no_grad():
        few, many = look_at_people(avatars, rays, at), look_at_people(avatars, rays, at, count=300)
    assert torch.allclose(few.opacity, many.opacity, atol=0.08)
    assert float((few.opacity - many.opacity).abs().mean()) < 2e-3


def test_the_floor_is_where_most_soles_are_and_a_jump_costs_little(truth: Recording) -> None:
    lift = torch.zeros(FRAMES, 3)
    lift[2, 1] = 0.5  # ann jumps
    people = [replace(truth.people[0], place=truth.people[0].place + lift), truth.people[1]]
    avatars = [Avatar(person, small_planes()) for person in people]
    floor = Floor.of(truth, avatars)
    lowest = float(truth.people[1].posed().vertices[..., 1].amin(1).median())
    assert float(floor.height) == pytest.approx(lowest, abs=0.005)
    jumping = floor.loss(avatars).item()
    with torch.no_grad():
        avatars[0].place[2, 1] -= 0.5
    standing = floor.loss(avatars).item()
    with torch.no_grad():
        avatars[0].place[2, 1] -= 0.5
    sunk = floor.loss(avatars)
    assert standing < 1e-6 < jumping < 4 * STANDS / FRAMES < 10 * jumping < sunk.item()
    sunk.backward()
    assert avatars[0].place.grad is not None
    assert float(avatars[0].place.grad[2, 1]) < 0 and not avatars[0].place.grad[[0, 1, 3]].any()
