"""Synthetic scenes are what they say: seen against a projection of vertices, and their noise and motions measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.spatial import cKDTree

from fieldcast.cli.synthesis import synth
from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import Body, rotations
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.recordings.recording import Person
from fieldcast.reconstruct.synth.clothing import FLARES, HEMS, Outfit, clothe, subdivided
from fieldcast.reconstruct.synth.files import read_truth, write_synthetic
from fieldcast.reconstruct.synth.limbs import Limb, reach
from fieldcast.reconstruct.synth.motions import perform
from fieldcast.reconstruct.synth.noise import Noise, noisy
from fieldcast.reconstruct.synth.scenes import Synthetic, Wanted, make
from fieldcast.reconstruct.synth.scripts import SCENES
from fieldcast.reconstruct.synth.shooting import project, recording_cameras

FPS = 24.0


@pytest.fixture(scope="module")
def body() -> Body:
    return makehuman()


@pytest.fixture(scope="module")
def scene() -> Synthetic:
    return make(Wanted(frames=3, fps=2.0, size=96, masks=True))


def times(frames: int) -> np.ndarray:
    return (np.arange(frames) - (frames - 1) / 2) / FPS


def performed(body: Body, name: str, frames: int, people: int = 2, closeness: float | None = None) -> list[Person]:
    rng = np.random.default_rng(0)
    plans = SCENES[name].plan(times(frames), people, closeness or SCENES[name].closeness, rng)
    shape = torch.zeros(body.shapes)
    present = torch.ones(frames, dtype=torch.bool)
    return [Person(str(i), body, shape, *perform(body, shape, plan), present) for i, plan in enumerate(plans)]


# What is seen


def test_each_pixel_of_a_person_has_a_vertex_of_theirs_at_its_depth_and_none_is_nearer(scene: Synthetic) -> None:
    """Vertices are some 5 mm apart and a pixel is some 25 mm wide: all are projected, and the nearest one is kept."""
    assert scene.truth.labels is not None
    frame, size = 1, 96
    camera, labels = scene.truth.cameras[[frame]], scene.truth.labels[frame].numpy()
    nearest = np.full((size, size), np.inf)
    owner = np.zeros((size, size), int)
    for number, worn in enumerate(scene.surfaces, 1):
        points = torch.from_numpy(worn.vertices[frame])[None]
        pixels, away = project(camera, points)[0], (points[0] - camera.centers).norm(dim=-1)
        column, row = pixels[:, 0].floor().long().numpy(), pixels[:, 1].floor().long().numpy()
        for x, y, distance in zip(column, row, away.tolist(), strict=True):
            if distance < nearest[y, x]:
                nearest[y, x], owner[y, x] = distance, number
    inner = np.zeros_like(labels, bool)
    same = np.lib.stride_tricks.sliding_window_view(labels, (3, 3))
    inner[1:-1, 1:-1] = (same == labels[1:-1, 1:-1, None, None]).all((2, 3))
    people, room = inner & (labels > 0), inner & (labels == 0)
    assert people.sum() > 500 and {1, 2} <= set(labels[people].tolist())
    assert (owner[people] == labels[people]).all() and (owner[room] == 0).all()
    gap = scene.depths[frame][people] - nearest[people]
    assert np.median(np.abs(gap)) < 0.02 and gap.min() > -0.02


def test_vertices_that_nothing_hides_are_seen_with_their_label(scene: Synthetic) -> None:
    """A person in front of all others is found where their vertices are."""
    assert scene.truth.labels is not None
    labels = scene.truth.labels[0]  # before they meet
    for number, worn in enumerate(scene.surfaces, 1):
        pixels = project(scene.truth.cameras[[0]], torch.from_numpy(worn.vertices[0])[None])[0, :, :2]
        column, row = pixels[:, 0].long(), pixels[:, 1].long()
        found = torch.stack([labels[row + y, column + x] for x in (-1, 0, 1) for y in (-1, 0, 1)])
        # The label of a pixel is that of most of it: fingertips may be too small, but are beside their hand.
        assert (found == number).any(0).float().mean() > 0.99 and bool(((found == number) | (found == 0)).all())


def test_the_room_is_as_far_as_its_planes(scene: Synthetic) -> None:
    """On the floor, depth times the downward part of the ray is the height of the camera."""
    assert scene.truth.labels is not None
    rays = scene.truth.cameras.image_rays(0)
    down = -rays.directions[:, 1].reshape(96, 96)[-3:]
    floor = scene.truth.labels[0][-3:] == 0
    height = torch.from_numpy(scene.depths[0][-3:]) * down
    assert torch.allclose(height[floor], scene.truth.cameras.centers[0, 1].expand(int(floor.sum())), atol=0.01)


def test_who_is_wholly_hidden_is_not_present() -> None:
    made = make(Wanted("occlude", frames=5, fps=12.0, size=48))
    assert made.truth.labels is not None and made.recording.labels is None
    for number, (true, given) in enumerate(zip(made.truth.people, made.recording.people, strict=True), 1):
        seen = [bool((frame == number).any()) for frame in made.truth.labels]
        assert true.present.tolist() == given.present.tolist() == seen
    hidden, passing = made.truth.people
    assert not hidden.present[2] and hidden.present[0] and hidden.present[4] and bool(passing.present.all())


@pytest.mark.parametrize("camera", ["static", "orbit", "handheld"])
def test_held_out_cameras_are_far_from_those_that_record(camera: str) -> None:
    made = make(Wanted(people=1, frames=3, size=16, camera=camera))
    recorded, others = made.truth.cameras.centers, made.views.cameras.centers
    assert torch.cdist(others, recorded).min() > 1 and made.recording.static == (camera == "static")
    assert len(others) == len(made.views.images) == len(made.views.moments)
    assert set(made.views.moments) <= set(range(3))


@pytest.mark.parametrize("name", list(SCENES))
def test_people_stay_in_the_picture(body: Body, name: str) -> None:
    joints = torch.cat([person.posed().joints for person in performed(body, name, 40, 3)], 1)
    rng = np.random.default_rng(0)
    for motion in ("static", "orbit", "handheld"):
        pixels = project(recording_cameras(motion, times(40), joints, 64, rng), joints)[..., :2]
        assert pixels.min() > 0 and pixels.max() < 64


# Noise


@pytest.mark.parametrize("drift", [False, True])
def test_noise_has_the_size_that_was_asked_for(body: Body, drift: bool) -> None:
    frames, joints = 60, len(body.parents)
    pose = 0.3 * torch.randn(frames, joints, 3, generator=torch.Generator().manual_seed(0))
    person = Person("ann", body, torch.ones(10), pose, torch.zeros(frames, 3), torch.ones(frames, dtype=torch.bool))
    rng = np.random.default_rng(0)
    drawn = [noisy(person, Noise(0.04, 5.0, 0.3, drift), FPS, rng) for _ in range(150)]
    places = torch.stack([d.place for d in drawn])
    assert places.std() == pytest.approx(0.04, rel=0.05) and abs(float(places.mean())) < 0.004
    turned = torch.stack([rotations(d.pose) @ rotations(pose).mT for d in drawn[:10]])
    cosine = (turned.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    angle = torch.rad2deg(cosine.clamp(-1, 1).acos())
    assert angle.square().mean().div(3).sqrt() == pytest.approx(5.0, rel=0.05)  # an axis
    assert torch.stack([d.shape for d in drawn]).std() == pytest.approx(0.3, rel=0.1)
    step = places.diff(dim=1).std() / places.std()  # sqrt(2) for what is independent
    assert step < 0.2 if drift else step == pytest.approx(2**0.5, rel=0.05)


def test_no_noise_gives_what_is_true_and_unknown_shapes_are_zeros(body: Body) -> None:
    person = performed(body, "cross", 4)[0]
    rng = np.random.default_rng(0)
    same = noisy(replace(person, shape=torch.ones(10)), Noise(0, 0, None), FPS, rng)
    assert torch.allclose(rotations(same.pose), rotations(person.pose), atol=1e-5)
    assert torch.equal(same.place, person.place) and not same.shape.any()


# Motions


def test_a_limb_reaches_what_it_can_and_bends_as_at_rest() -> None:
    limb = Limb(np.zeros(3), np.array([0.0, -0.4, 0.02]), np.array([0.0, -0.8, 0.0]))
    rng = np.random.default_rng(0)
    target = rng.uniform(-0.4, 0.4, (50, 3))
    target = target[np.linalg.norm(target, axis=1) > 0.1]
    pole = rng.standard_normal(target.shape)
    upper, lower = reach(limb, np.zeros_like(target), target, pole)
    hinge = upper @ limb.upper
    assert np.allclose(hinge + lower @ limb.lower, target, atol=1e-9)
    assert np.allclose(np.linalg.det(upper), 1) and np.allclose(np.linalg.det(lower), 1)
    along = target / np.linalg.norm(target, axis=1, keepdims=True)
    aside = hinge - (hinge * along).sum(1, keepdims=True) * along
    assert ((aside * pole).sum(1) > 0).all()
    axis = np.cross(limb.upper, limb.lower)  # of the hinge: both bones agree on it
    assert np.allclose(upper @ axis, lower @ axis, atol=1e-9)


@pytest.mark.parametrize("name", list(SCENES))
def test_joints_move_smoothly_and_feet_stay_by_the_floor(body: Body, name: str) -> None:
    for person in performed(body, name, 60, people=3):
        joints = person.posed().joints
        # A hand that swings 0.5 m to and fro twice a second has 0.25 (4 pi)^2 = 40 m/s^2.
        acceleration = joints.diff(n=2, dim=0).norm(dim=-1) * FPS**2
        assert acceleration.max() < 60
        feet = joints[:, [body.joint_names.index(f"{part}_{side}") for part in ("foot", "ball") for side in "lr"]]
        assert feet[..., 1].min() > 0 and feet[..., 1].max() < 0.35
        low = person.posed().vertices[..., 1].amin(1)
        assert low.min() > -0.03 and low.max() < 0.05


@pytest.mark.parametrize("name", ["cross", "embrace"])
def test_a_foot_that_is_down_does_not_slide(body: Body, name: str) -> None:
    """In each frame the slower one of the balls of the feet is nearly still, while the body walks."""
    for person in performed(body, name, 48):
        joints = person.posed().joints
        balls = joints[:, [body.joint_names.index(f"ball_{side}") for side in "lr"]]
        slower = balls.diff(dim=0).norm(dim=-1).amin(1) * FPS
        body_speed = joints[:, 0, [0, 2]].diff(dim=0).norm(dim=-1) * FPS
        assert body_speed.max() > 0.8 and slower.quantile(0.9) < 0.25 * body_speed.max()


def test_knees_and_elbows_bend_the_right_way(body: Body) -> None:
    """Knees are before the line from hip to ankle, as the body faces; elbows are behind that from shoulder to wrist."""
    names = body.joint_names
    for person in performed(body, "cross", 48):
        joints, root = person.posed().joints, rotations(person.pose[:, 0])
        for side in "lr":
            for chain, sign in ((("thigh", "calf", "foot"), 1), (("upperarm", "lowerarm", "hand"), -1)):
                a, b, c = (joints[:, names.index(f"{part}_{side}")] for part in chain)
                aside = (
                    b - a - ((b - a) * (c - a)).sum(-1, keepdim=True) / (c - a).square().sum(-1, keepdim=True) * (c - a)
                )
                assert (sign * (aside * root[:, :, 2]).sum(-1) > 0).all()


@pytest.mark.parametrize("closeness", [0.5, 0.8])
def test_nobody_walks_through_another_in_cross(body: Body, closeness: float) -> None:
    for people in (2, 3):
        walkers = [person.posed().vertices[:, ::4] for person in performed(body, "cross", 40, people, closeness)]
        for i in range(people):
            for other in walkers[:i]:
                for frame in range(0, 40, 3):
                    apart, _ = cKDTree(walkers[i][frame].numpy()).query(other[frame].numpy())
                    assert apart.min() > 0.01
    near = [person.posed().joints[:, 0] for person in performed(body, "cross", 40, 2, closeness)]
    assert (near[0] - near[1]).norm(dim=-1).min() == pytest.approx(closeness, abs=0.08)


# Clothes


def test_subdivided_faces_cover_the_same_surface(body: Body) -> None:
    faces = body.faces.numpy()
    finer, split = subdivided(faces, len(body.vertices))
    points = split @ body.vertices.double().numpy()

    def area(vertices: np.ndarray, f: np.ndarray) -> float:
        a, b, c = vertices[f].transpose(1, 0, 2)
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    assert len(finer) == 4 * len(faces)
    assert area(points, finer) == pytest.approx(area(body.vertices.double().numpy(), faces), rel=1e-6)
    assert np.allclose(split.sum(1), 1)


@pytest.mark.parametrize("bottom", list(HEMS))
def test_clothes_lie_on_the_body_and_leave_face_and_hands_bare(body: Body, bottom: str) -> None:
    import trimesh

    clothed = clothe(body, torch.zeros(10), Outfit(bottom, "long", "short", 0.008))
    base, count = body.vertices.double().numpy(), len(body.vertices)
    moved = np.linalg.norm(clothed.vertices[:count] - base, axis=1)
    palms = clothed.covered.any[:count] == 0
    assert palms.sum() > 2000 and moved[palms].max() < 1e-9
    assert moved.max() < (0.06 if bottom not in FLARES else 0.30) and 0.005 < moved.mean() < 0.06
    assert trimesh.Trimesh(clothed.vertices, clothed.faces, process=False).is_watertight
    assert np.allclose(clothed.weights.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("bottom", ["trousers", "shorts"])
def test_the_naked_body_is_about_a_centimetre_from_the_clothed_one(body: Body, bottom: str) -> None:
    import trimesh

    clothed = clothe(body, torch.zeros(10), Outfit(bottom, "short", "long", 0.008))
    meshes = (body.vertices.numpy(), body.faces.numpy()), (clothed.vertices, clothed.faces)
    points = [trimesh.sample.sample_surface(trimesh.Trimesh(*m, process=False), 20_000, seed=0)[0] for m in meshes]
    there, back = (cKDTree(points[i]).query(points[1 - i])[0].mean() for i in (0, 1))
    assert 0.010 < (there + back) / 2 < 0.016


# Files


def test_the_same_seed_gives_the_same_bytes_and_the_truth_comes_back(scene: Synthetic, tmp_path: Path) -> None:
    write_synthetic(scene, tmp_path / "a", {})
    write_synthetic(make(Wanted(frames=3, fps=2.0, size=96, masks=True)), tmp_path / "b", {})
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    truth = read_truth(tmp_path / "a")
    for true, found in zip(scene.truth.people, truth.recording.people, strict=True):
        for name in ("shape", "pose", "place", "present"):
            assert torch.equal(getattr(true, name), getattr(found, name))
    assert torch.equal(torch.stack(truth.recording.frames), torch.stack(scene.truth.frames))
    assert scene.truth.labels is not None and truth.recording.labels is not None
    assert torch.equal(torch.stack(truth.recording.labels), torch.stack(scene.truth.labels))
    assert torch.equal(truth.recording.cameras.c2w, scene.truth.cameras.c2w)
    assert np.array_equal(truth.surfaces[1].vertices, scene.surfaces[1].vertices)
    assert truth.views.moments == scene.views.moments
    assert torch.equal(torch.stack(truth.views.images), torch.stack(scene.views.images))


def test_another_seed_gives_other_people_and_noise_changes_only_what_is_given(scene: Synthetic) -> None:
    wanted = Wanted(frames=3, fps=2.0, size=96)
    quiet = make(replace(wanted, noise=Noise(0, 0, 0)))
    assert torch.equal(torch.stack(quiet.truth.frames), torch.stack(scene.truth.frames))
    other = make(replace(wanted, seed=1))
    assert not torch.equal(torch.stack(other.truth.frames), torch.stack(scene.truth.frames))


def test_the_command_writes_a_scene_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "pair"
    asked = ["--frames", "2", "--size", "32", "--closeness", "0.7", "--no-shape", "--json", "-q", str(out)]
    result = CliRunner().invoke(synth, asked, catch_exceptions=False)
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["frames"] == 2 and facts["closeness"] == 0.7 and set(facts["hidden"]) == {"ann", "bob"}
    given = json.loads((out / "scene.json").read_text())
    assert given["format"] == "fieldcast-people" and "mask" not in given["frames"][0] and not (out / "masks").exists()
    with np.load(out / "people" / "ann.npz", allow_pickle=False) as person:
        assert not person["shape"].any() and person["pose"].shape == (2, 22, 3)
    true = json.loads((out / "truth" / "scene.json").read_text())
    assert (out / "truth" / true["frames"][1]["image"]).is_file() and (out / "truth" / "preview.mp4").stat().st_size
    with pytest.raises(InputError, match=r"pair exists; use --force"):
        CliRunner().invoke(synth, asked, catch_exceptions=False)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"scene": "waltz"}, "scene 'waltz': expected one of cross, turn, embrace, occlude"),
        ({"camera": "drone"}, "camera 'drone': expected one of static, orbit, handheld"),
        ({"people": 5}, "people: expected 1 to 4, found 5"),
        ({"closeness": 0.0}, "closeness: expected 0.1 to 3 metres, found 0.0"),
    ],
)
def test_a_scene_that_cannot_be_made_is_refused(asked: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make(replace(Wanted(frames=1, size=16), **asked))


def test_a_folder_without_truth_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a synthetic scene with truth/scene\.json"):
        read_truth(tmp_path)
