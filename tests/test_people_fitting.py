"""People are fitted to pictures of known bodies: capsules in plain colours that walk before a wall."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fieldcast.errors import InputError
from fieldcast.fields.cameras import look_at, pinhole
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.scenes.mesh import Caster
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.people import look_at_people
from fieldcast.reconstruct.bodies.capsules import capsules
from fieldcast.reconstruct.fitting.fit import Fitted, Plan, fit_people, inner_spec, likely, rates
from fieldcast.reconstruct.fitting.masks import who_is_where
from fieldcast.reconstruct.fitting.pixels import People
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
    shares = who_is_where(truth, truth.people, open_segmenter("grabcut", truth))
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
    smooth, trembling = Avatar(truth.people[0], inner_spec()), Avatar(displaced(truth).people[0], inner_spec())
    assert likely(smooth).item() < 1e-6 < likely(trembling).item()


def test_every_parameter_is_learned_once(truth: Recording) -> None:
    avatars = [Avatar(person, inner_spec()) for person in truth.people]
    learned = [id(p) for parameters, _ in rates(avatars) for p in parameters]
    assert sorted(learned) == sorted(id(p) for avatar in avatars for p in avatar.parameters())


def test_what_cannot_be_fitted_is_said(truth: Recording) -> None:
    with pytest.raises(InputError, match="a clip: expected at least one person with poses"):
        fit_people(replace(truth, people=()), Plan())
