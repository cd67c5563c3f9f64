"""Active learning: each level against hand-made truths, and that a run is the same however it is interrupted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fieldcast.distill import compare, convert, lessons, student_spec
from fieldcast.distill.active import LINGER, PARTS, Course, Levels, active_training, heaviest, telling, unpacked
from fieldcast.distill.convert import known_occupancy
from fieldcast.distill.fidelity import comparison_views
from fieldcast.distill.lessons import CAMERAS, Lesson
from fieldcast.distill.pvd import point_loss
from fieldcast.distill.viewpoints import Viewpoints
from fieldcast.fields import KINDS, Field, Space, build, default_spec, training
from fieldcast.fields.cameras import orbit
from fieldcast.fields.files.tensors import read_tensors
from fieldcast.fields.rendering import Samples

BOX = Space((-1.0, -1.0, 0.0, 1.0, 1.0, 2.0))
TINY: dict[str, dict[str, Any]] = {
    "hashgrid": {
        "levels": 3, "channels": 2, "log2_table": 12, "base_resolution": 8, "finest_resolution": 24, "hidden": 16
    },
    "voxels": {"resolution": 24, "degree": 2},
    "vm": {"resolution": 20, "density_channels": 4, "appearance_channels": 4, "hidden": 16},
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training steps of milliseconds, and lots of rays so small that a short run has many rounds."""
    monkeypatch.setattr(lessons, "RAYS", 512)
    for cls in KINDS.values():
        monkeypatch.setattr(cls, "points_per_step", 1 << 11)


def ball() -> Field:
    """A soft ball of many colours as a VM field: its logit is 5 - 20 r^2 at the vertices."""
    spec = default_spec("vm", space=BOX, occupancy=16, steps=64)
    field = build(
        spec.resized({"resolution": 21, "density_channels": 2, "appearance_channels": 2, "hidden": 16}), seed=5
    )
    at = torch.linspace(-1, 1, 21)
    with torch.no_grad():
        field.density_vm.planes.zero_()
        field.density_vm.lines.fill_(1)
        field.density_vm.planes[0, :, :, 0], field.density_vm.planes[0, :, :, 1] = (
            5 - 20 * (at[:, None] ** 2 + at**2),
            1,
        )
        field.density_vm.lines[0, :, 1] = -20 * at**2
        field.appearance_vm.planes[0, :, :, 0], field.appearance_vm.planes[1, :, :, 0] = at, at[:, None]
        for layer in field.color_net.layers[::2]:
            layer.weight.mul_(4)
        field.basis.weight.normal_(generator=torch.Generator().manual_seed(1))
    i = torch.arange(12)
    field.views = orbit(BOX, i * 2.4, 0.1 + 0.08 * i, 3.0 + 0.02 * i, width=40, height=30, fov=0.75)
    field.occupancy = known_occupancy(field, 0)
    return field.requires_grad_(False)


def tiny(kind: str) -> Any:
    return student_spec(ball().spec, kind).resized(TINY[kind])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def course(window: int = 6000, poses: bool = True, rays: bool = True) -> Course:
    return Course(ball(), 0, window, Levels(poses, rays))


def teach(taught: Course, rounds: int, errors: Callable[[Tensor], Tensor]) -> None:
    """Teaches some whole rounds; the errors of rays [R, 3] are what `errors` says of their numbers."""
    until, random = int(taught.place[0]) + rounds, generator()
    while int(taught.place[0]) < until:
        taught.next(1500, random)
        taught.learned(errors(taught.taught))


# --- poses


def test_the_hard_cameras_are_those_with_the_lowest_psnr() -> None:
    """Every ray of a camera is wrong by the same; the PSNR of its picture follows from how many of its rays hit."""
    taught = course()
    taught.at_hand()
    parts = list(taught.parts.values())
    wrong = [torch.rand(len(part.drawn)) for part in parts]
    of_rays = torch.cat([w[part.camera] for w, part in zip(wrong, parts, strict=True)])
    teach(taught, LINGER + 1, lambda rays: of_rays[rays, None].expand(-1, 3))
    expected = []
    for w, part in zip(wrong, parts, strict=True):
        share = part.camera.bincount(minlength=len(part.drawn)) / part.drawn.clamp_min(1)
        psnr = [-10 * math.log10(w[c] ** 2 * share[c] + 1e-12) for c in range(len(w))]
        for lot, cameras in enumerate(part.looked):
            lowest = sorted(range(CAMERAS), key=lambda c: psnr[lot * CAMERAS + c])[:12]
            expected += [tuple(cameras.c2w[c].flatten().tolist()) for c in lowest]
    found = {tuple(row[:12].tolist()) for row in taught.hard[0]}
    assert found == set(expected)
    assert len(taught.hard[0]) == len(expected) == 12 * sum(len(part.looked) for part in parts)
    assert [len(rows) for rows in taught.hard[1:]] == [0, 0, 0]  # the first parts knew of none


def test_a_ray_belongs_to_the_camera_that_it_was_looked_through() -> None:
    """The camera stands on the line of each of its rays."""
    taught = course()
    taught.at_hand()
    for part in taught.parts.values():
        s = part.lesson.samples
        first = s.starts[:-1]
        centers = torch.cat([cameras.centers for cameras in part.looked])[part.camera]
        torch.testing.assert_close(s.x[first] - s.t[first, None] * s.d[first], centers, rtol=0, atol=1e-5)
        assert bool((part.drawn >= part.camera.bincount(minlength=len(part.drawn))).all())
        assert int(part.drawn.sum()) == 512 * len(part.looked)


def test_a_tenth_of_new_cameras_stand_at_hard_places_and_are_turned() -> None:
    taught = course()
    before = taught.look(4, generator(3))
    assert torch.equal(before.c2w, Viewpoints(ball()).draw(CAMERAS, generator(3)).c2w)  # nothing is hard yet
    teach(taught, LINGER + 1, lambda rays: torch.rand(len(rays), 3))
    cameras, hard = taught.look(4, generator(4)), unpacked(taught.hard[0])
    assert len(cameras) == CAMERAS
    again = cameras[slice(CAMERAS - 12, None)]
    distance = torch.cdist(again.centers, hard.centers, compute_mode="donot_use_mm_for_euclid_dist")
    assert float(distance.amin(1).max()) == 0
    turns = again.c2w[:, :, :3].mT @ hard.c2w[distance.argmin(1)][:, :, :3]
    angle = torch.acos(((turns.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2).clamp(-1, 1))
    assert float(angle.min()) > 0.01
    assert float(angle.max()) < math.sqrt(3) * math.pi / 20 + 1e-3
    assert float(torch.cdist(cameras.centers[: CAMERAS - 12], hard.centers).min()) > 1e-5
    taught.at_hand()
    assert max(taught.parts) == PARTS
    assert torch.equal(taught.parts[PARTS].looked[0].intrinsics, cameras.intrinsics)


def test_rays_at_hand_change_a_part_at_a_time() -> None:
    """Each is taught once a round, four rounds, or two to five if it was there from the start."""
    taught = course(rays=False, poses=False)
    seen: dict[int, int] = {}
    for number in range(8):
        taught.at_hand()
        rays = sum(len(part.lesson) for part in taught.parts.values())
        assert list(taught.parts) == list(range(max(0, number - 1), max(0, number - 1) + 4))
        for part in taught.parts:
            seen[part] = seen.get(part, 0) + 1
        told: list[int] = []
        while int(taught.place[0]) == number:
            taught.next(1500, generator())
            taught.learned(torch.rand(len(taught.taught), 3))
            told += taught.taught.tolist()
        assert told == list(range(rays))
    assert [seen[part] for part in range(6)] == [2, 3, 4, 5, 4, 4]


def test_what_was_not_seen_whole_says_nothing_of_its_cameras() -> None:
    """Rays are rendered from the middle of the round after which the first part goes, or of the one before."""
    for rendered_from, hard in ((LINGER - 0.5, True), (LINGER + 0.5, False)):
        taught = course(rays=False)
        while int(taught.place[0]) <= LINGER:
            rays = len(taught.at_hand())
            begun = int(taught.place[0]) + int(taught.place[1]) / rays
            taught.next(1500, generator())
            if begun >= rendered_from:
                taught.learned(torch.rand(len(taught.taught), 3))
        assert bool(len(taught.hard[0])) == hard
        assert 0 < len(taught.errors) < rays


# --- rays


def test_the_bank_is_the_hardest_tenth() -> None:
    """By the L1 error of when a ray was last taught, of those that were taught at all."""
    taught = course()
    error = torch.rand(len(taught.at_hand()), 3, generator=generator(1))
    known: dict[int, float] = {}
    for lesson in range(6):
        taught.next(1500, generator(lesson))
        taught.learned(error[taught.taught] / (lesson + 1))  # a ray that comes back is a little better known
        known |= {int(ray): float(error[ray].abs().sum()) / (lesson + 1) for ray in taught.taught}
        hardest = sorted(known, key=known.__getitem__, reverse=True)[: len(known) // 10]
        assert sorted(taught.bank().tolist()) == sorted(hardest)


def test_hard_rays_come_with_new_ones_within_the_budget() -> None:
    taught = course(20_000)
    pool = taught.at_hand()
    lesson = taught.next(5000, generator())
    assert len(taught.bank()) == 0
    assert torch.equal(lesson.color, pool.rays(0, len(lesson)).color)
    taught.learned(torch.rand(len(lesson), 3))
    bank, begin = set(taught.bank().tolist()), len(lesson)
    lesson = taught.next(5000, generator())
    new = int(taught.place[1]) - begin
    assert taught.taught[:new].tolist() == list(range(begin, begin + new))
    assert len(lesson) - new == min(new // 10, len(bank))
    assert set(taught.taught[new:].tolist()) <= bank
    assert len(set(taught.taught.tolist())) == len(lesson)
    assert 0.8 * 5000 < len(lesson.samples) < 1.1 * 5000
    for ray, number in enumerate(taught.taught.tolist()):
        one, same = lesson.rays(ray, ray + 1), pool.rays(number, number + 1)
        assert torch.equal(one.samples.x, same.samples.x)
        assert torch.equal(one.features, same.features)
        assert torch.equal(one.color, same.color)


def test_a_ray_that_was_learned_leaves_the_bank() -> None:
    taught = course()
    taught.next(1500, generator())
    taught.learned(torch.rand(len(taught.taught), 3))
    before = set(taught.bank().tolist())
    taught.next(1500, generator())
    again = set(taught.taught.tolist()) & before
    taught.learned(
        torch.full((len(taught.taught), 3), 0.5) * torch.tensor([r not in again for r in taught.taught])[:, None]
    )
    assert again
    assert not again & set(taught.bank().tolist())


def test_what_is_known_of_rays_stays_when_others_go() -> None:
    taught = course()
    teach(taught, LINGER, lambda rays: rays[:, None].expand(-1, 3) / 3)
    before = len(taught.errors)
    teach(taught, 1, lambda rays: rays[:, None].expand(-1, 3) / 3)
    left = before - len(taught.errors)
    assert torch.equal(taught.errors[:, 0].round(), torch.arange(left, before).float())
    rows = taught.bank()
    assert sorted(rows.tolist()) == list(range(before - left - len(rows), before - left))
    lesson = taught.next(1500, generator())  # with a new part, of whose rays nothing is known
    taught.learned(torch.rand(len(lesson), 3))
    assert len(taught.errors) == len(taught.at_hand())
    assert bool((taught.errors[before - left :] < 0).all())


def test_without_levels_nothing_comes_back() -> None:
    taught = course(poses=False, rays=False)
    for step in range(40):
        first = int(taught.place[1])
        lesson = taught.next(4000, generator())
        assert taught.taught.tolist() == list(range(first, first + len(lesson)))
        taught.learned(torch.rand(len(lesson), 3, generator=generator(step)))
    assert not any(map(len, taught.hard))


# --- points


def test_the_heaviest_samples_of_a_ray() -> None:
    """Three rays: weights 0.5, 0.3, 0.15, 0.04 and 0.01 in another order; a faint one; one alone."""
    weights = torch.tensor([0.04, 0.3, 0.5, 0.01, 0.15])
    left = 1 - torch.cat([torch.zeros(1), weights.cumsum(0)])
    tau = -torch.log1p(-weights / left[:-1].clamp_min(1e-9))
    tau[-1] = 50  # opaque
    faint, alone = torch.full((5,), 0.13), torch.tensor([0.7])  # 1 - exp(-0.65) = 0.48 and 1 - exp(-0.7) = 0.503
    kept = heaviest(torch.cat([tau, faint, alone]), torch.tensor([0, 5, 10, 10, 11]))
    assert kept.tolist() == [False, True, True, False, False] + [False] * 5 + [True]  # ceil(1.5) = 2 of five


@pytest.mark.parametrize(("samples", "kept"), [(1, 1), (3, 1), (4, 2), (10, 3), (11, 4), (20, 6)])
def test_thirty_per_cent_rounded_up(samples: int, kept: int) -> None:
    tau = torch.rand(samples) + 1
    chosen = heaviest(tau, torch.tensor([0, samples]))
    assert int(chosen.sum()) == kept
    assert bool(chosen[0])  # the first one hides more than half of all


def lesson_of(tau: Tensor) -> Lesson:
    """One ray through a field whose logits are such that sigma dt is tau."""
    count = len(tau)
    features = torch.zeros(count, 16)
    features[:, 0] = tau.log()
    samples = Samples(
        torch.tensor([0, count]), torch.arange(float(count)), torch.ones(count), *torch.zeros(2, count, 3)
    )
    return Lesson(samples, features, torch.zeros(count, 3), torch.zeros(1, 3), torch.zeros(1))


def test_what_the_teacher_or_the_student_shows_is_told() -> None:
    theirs, mine = torch.tensor([5.0, 0.1, 0.1]), torch.tensor([0.01, 0.01, 5.0])
    assert telling(ball(), lesson_of(theirs), mine).tolist() == [True, False, True]
    assert telling(ball(), lesson_of(theirs), 0.01 * mine).tolist() == [True, False, False]  # a student yet faint


def test_the_losses_per_point_count_those_alone() -> None:
    teacher, student = ball(), build(tiny("hashgrid"), seed=0)
    lesson = lesson_of(torch.tensor([0.5, 1.0, 0.2, 0.3]))
    features, rgb = torch.randn(4, 16), torch.rand(4, 3)
    kept = torch.tensor([True, False, True, False])
    loss = point_loss(teacher, student, lesson, features, rgb, 0.7, kept)
    s = features[kept, 0].clamp(-2, 7) - lesson.features[kept, 0].clamp(-2, 7)
    f = torch.cat([s[:, None], features[kept, 1:] - lesson.features[kept, 1:]], -1)
    expected = 0.002 * (rgb[kept].norm() + s.norm()) + 0.7 * f.norm()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    nothing = torch.zeros(4, dtype=torch.bool)
    assert float(point_loss(teacher, student, lesson, features, rgb, 0.7, nothing)) == pytest.approx(0, abs=1e-9)


# --- whole runs


def same(a: Field, b: Field) -> bool:
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("kind", ["hashgrid", "voxels"])
def test_a_conversion_becomes_faithful(kind: str) -> None:
    teacher = ball()
    student = convert(teacher, tiny(kind), recipe="active", steps=150)
    assert compare(teacher, student, comparison_views(teacher, 2, 0, longest=32)).psnr > 29


def test_the_same_seed_is_the_same_student() -> None:
    first, second, other = (convert(ball(), tiny("hashgrid"), recipe="active", steps=40, seed=s) for s in (3, 3, 4))
    assert same(first, second)
    assert not same(first, other)


def test_every_level_changes_what_is_learned() -> None:
    def student(*levels: bool) -> Field:
        teacher = ball()
        field = build(tiny("hashgrid"), seed=0).allocate(teacher.occupancy)
        active_training(teacher, field, steps=40, seed=0, levels=Levels(*levels)).run()
        return field

    on = [False, False, False], [True, False, False], [False, True, False], [False, False, True]
    students = [student(*levels) for levels in on]
    assert all(not same(a, b) for i, a in enumerate(students) for b in students[:i])


def test_interrupted_and_resumed_is_the_same_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in each stage, and again when cameras are hard."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    checkpoint, hard = tmp_path / "c.safetensors", []
    whole = convert(ball(), tiny("hashgrid"), recipe="active", steps=60)
    for at in (2, 7, 20, 41):

        def progress(done: int, total: int, note: str = "", at: int = at) -> None:
            if note.startswith("vm to") and done == at:
                raise KeyboardInterrupt

        run = {"recipe": "active", "steps": 60, "checkpoint": checkpoint, "progress": progress}
        with pytest.raises(KeyboardInterrupt):
            convert(ball(), tiny("hashgrid"), resume=at > 2, **run)
        tensors, meta = read_tensors(checkpoint)
        assert meta["step"] == at - 1
        hard.append(len(tensors["state.hard.0"]))
    assert hard[0] == 0 < hard[-1]
    assert same(whole, convert(ball(), tiny("hashgrid"), recipe="active", steps=60, checkpoint=checkpoint, resume=True))
