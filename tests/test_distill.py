"""Conversions: every kind becomes every other, as the distillation paper says; nothing else changes on the way."""

from __future__ import annotations

import copy
import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldcast.distill import RECIPES, compare, convert, pvd, student_spec
from fieldcast.distill.convert import known_occupancy, resized, tightened
from fieldcast.distill.fidelity import comparison_views, occupancy_iou
from fieldcast.distill.lessons import Lesson, Lessons, hits, observe
from fieldcast.distill.pvd import block_loss, clamped, copy_networks, feature_loss, feature_weight, fingerprint
from fieldcast.distill.report import describe, report, triptych, write_report
from fieldcast.distill.scenes import How, convert_scene, spec_for
from fieldcast.distill.viewpoints import Viewpoints, small_turns
from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields import KINDS, Cameras, Field, FieldSpec, Image, Occupancy, Space, build, default_spec, training
from fieldcast.fields.cameras import look_at, orbit, pinhole
from fieldcast.fields.files.tensors import read_tensors
from fieldcast.fields.rendering import Sampler, Samples, composite

TINY: dict[str, dict[str, Any]] = {
    "mlp": {"layers": 3, "width": 64, "skip": 1, "octaves": 3, "code": 16, "hidden": 16},
    "hashgrid": {
        "levels": 3, "channels": 2, "log2_table": 12, "base_resolution": 8, "finest_resolution": 24, "hidden": 16
    },
    "vm": {"resolution": 20, "density_channels": 4, "appearance_channels": 4, "hidden": 16},
    "cp": {"resolution": 20, "density_channels": 16, "appearance_channels": 16, "hidden": 16},
    "voxels": {"resolution": 24, "degree": 2},
    "planes": {"resolutions": [12, 24], "channels": 8, "hidden": 16},
    "hybrid": {
        "levels": 2, "log2_table": 12, "base_resolution": 8, "finest_resolution": 24, "vm_resolution": 12,
        "vm_channels": 4, "hidden": 16,
    },
    "nerf": {"layers": 3, "width": 64, "skip": 1, "octaves": 3, "view_octaves": 1, "branch": 32},
    "tensorf": {
        "resolution": [20, 22, 18], "density_channels": [4, 4, 4], "appearance_channels": [4, 4, 4],
        "features": 9, "hidden": 16,
    },
}  # fmt: skip
BOX = Space((-1.0, -1.0, 0.0, 1.0, 1.0, 2.0))
CENTER = torch.tensor(BOX.center)


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training steps of milliseconds."""
    for cls in KINDS.values():
        monkeypatch.setattr(cls, "points_per_step", 1 << 11)


def ball(views: bool = True) -> Field:
    """A soft ball as a VM field: the logit 5 - 20 r^2 is a sum of products of planes and lines, exactly at vertices.

    Its colours come from a random network that sees where a point is and from where it is looked at.
    """
    spec = default_spec("vm", space=BOX, occupancy=16, steps=64, background=(0.9, 1.0, 0.8))
    field = build(
        spec.resized({"resolution": 21, "density_channels": 2, "appearance_channels": 2, "hidden": 16}), seed=5
    )
    at = torch.linspace(-1, 1, 21)
    with torch.no_grad():
        for encoding in (field.density_vm, field.appearance_vm):
            encoding.planes.zero_()
            encoding.lines.fill_(1)
        flat = 5 - 20 * (at[:, None] ** 2 + at**2)
        field.density_vm.planes[0, :, :, 0], field.density_vm.planes[0, :, :, 1] = flat, 1
        field.density_vm.lines[0, :, 1] = -20 * at**2
        field.appearance_vm.planes[0, :, :, 0], field.appearance_vm.planes[0, :, :, 1] = at, at[:, None]
        field.appearance_vm.planes[1, :, :, 0] = at[:, None]  # along z
        for layer in field.color_net.layers[::2]:
            layer.weight.mul_(4)
        field.basis.weight.normal_(generator=torch.Generator().manual_seed(1))
    if views:
        i = torch.arange(12)
        field.views = orbit(BOX, i * 2.4, 0.1 + 0.08 * i, 3.0 + 0.02 * i, width=40, height=30, fov=0.75)
    return field


def tiny(kind: str, teacher: FieldSpec | None = None) -> FieldSpec:
    return student_spec(teacher or ball().spec, kind).resized(TINY[kind])


def untrained(field: Field, kind: str) -> Field:
    """What a student is before its first step."""
    occupancy = known_occupancy(field, 0)
    student = build(tiny(kind), seed=0).allocate(occupancy)
    copy_networks(field, student)
    return student


STEPS = {"vm": 100, "voxels": 100, "tensorf": 100}  # 150 of the others


@functools.cache
def taught(kind: str) -> tuple[Field, Field]:
    """The ball, and what it becomes in some steps of 2,048 points: made once for the tests that look at it."""
    teacher = ball()
    return teacher, convert(teacher, tiny(kind), steps=STEPS.get(kind, 150))


def fidelity(teacher: Field, student: Field) -> float:
    return compare(teacher, student, comparison_views(teacher, 2, 0, longest=32)).psnr


def assert_same(a: Field, b: Field) -> None:
    assert a.spec == b.spec
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def test_the_ball_is_what_it_says() -> None:
    """So that the tests below rest on something."""
    field = ball()
    x = BOX.from_unit(torch.randint(0, 21, (200, 3)) / 20)
    r2 = (x - CENTER).square().sum(-1)
    torch.testing.assert_close(field.density(x), torch.exp(5 - 20 * r2), rtol=1e-3, atol=1e-4)
    (image,) = [a for a, _ in compare(field, field, comparison_views(field, 1, 0)).pairs]
    ball_colors = image.rgb[image.opacity > 0.9]
    assert len(ball_colors) > 50
    assert float(ball_colors.std(0).max()) > 0.05
    assert float(known_occupancy(field, 0).fraction()) < 0.5


# --- what comes out


# The least fidelity in dB after these steps of 2,048 points. Those whose steps are slow are above it by 6 dB or more.
BOUNDS = {
    "mlp": 25, "hashgrid": 30, "vm": 28, "cp": 27, "voxels": 29, "planes": 26, "hybrid": 30, "nerf": 24, "tensorf": 26,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_faithful(kind: str) -> None:
    teacher, student = taught(kind)
    before, after = fidelity(teacher, untrained(teacher, kind)), fidelity(teacher, student)
    assert after > before + 4
    assert after > BOUNDS[kind]
    assert student.spec.kind == kind
    assert occupancy_iou(teacher, student, resolution=16) > 0.5
    assert student.views is teacher.views
    assert student.spec.background == teacher.spec.background
    extra = student.occupancy.cells() & ~known_occupancy(teacher, 0).cells()
    assert not bool(extra.any())


@pytest.mark.parametrize("kind", ["voxels", "planes"])
def test_there_and_on(kind: str) -> None:
    """A student teaches in turn: ball to voxels (which share no features) or planes, and those to a hash grid."""
    first, second = taught(kind)
    third = convert(second, tiny("hashgrid"), steps=150)
    assert fidelity(second, third) > 24
    assert fidelity(first, third) > 20


def test_the_same_kind_at_other_sizes() -> None:
    teacher = ball()
    spec = resized(
        teacher.spec, "vm", {"resolution": "11", "density_channels": "3", "appearance_channels": "3", "hidden": "16"}
    )
    student = convert(teacher, spec, steps=150)
    assert student.spec.sizes.resolution == 11
    assert student.parameter_count() < teacher.parameter_count()
    assert fidelity(teacher, student) > 26


def test_a_kind_alone_is_its_default_sizes() -> None:
    spec = student_spec(ball().spec, "cp")
    assert spec == default_spec("cp", space=BOX, occupancy=16, steps=64, background=(0.9, 1.0, 0.8))
    assert resized(ball().spec, "cp", {"resolution": "30"}).sizes.resolution == 30


def test_a_field_that_never_looked_learns_where_it_is_empty() -> None:
    """All bits set: the occupancy is looked up in the density, and covers all that shows."""
    field = ball()
    occupancy = known_occupancy(field, 0)
    x = BOX.from_unit(torch.rand(5000, 3))
    assert bool(occupancy.contains(BOX.to_unit(x[field.density(x) > 5])).all())
    assert not bool(occupancy.contains(BOX.to_unit(x[(x - CENTER).norm(dim=-1) > 1.0])).any())
    field.occupancy = occupancy
    assert known_occupancy(field, 1) is not None
    assert torch.equal(known_occupancy(field, 1).bits, occupancy.bits)  # what it knows is not looked up again
    assert not bool((tightened(field, 3).cells() & ~occupancy.cells()).any())


# --- nothing else changes


def test_the_teacher_is_left_as_it_was() -> None:
    teacher = ball()
    teacher.basis.requires_grad_(False)
    before = copy.deepcopy(teacher)
    flags = [p.requires_grad for p in teacher.parameters()]
    parameters, views = list(map(id, teacher.parameters())), teacher.views
    for kind in ("vm", "voxels"):
        student = convert(teacher, tiny(kind), steps=3)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(1)  # nothing is shared either
    assert_same(teacher, before)
    assert [p.requires_grad for p in teacher.parameters()] == flags
    assert list(map(id, teacher.parameters())) == parameters
    assert teacher.views is views
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_the_same_seed_is_the_same_student() -> None:
    first, second, other = (convert(ball(), tiny("hashgrid"), steps=12, seed=s) for s in (3, 3, 4))
    assert_same(first, second)
    assert not torch.equal(first.encoding.table, other.encoding.table)


def test_a_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    convert(ball(), tiny("cp"), steps=2)
    assert torch.equal(torch.rand(4), expected)


def stop_at(step: int) -> Callable[..., None]:
    def progress(done: int, total: int, note: str = "") -> None:
        if note.startswith("vm to") and done == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("kind", ["hashgrid", "voxels"])
def test_interrupted_and_resumed_is_the_same_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Interrupted in the second and in the third stage."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    checkpoint = tmp_path / "c.safetensors"
    whole = convert(ball(), tiny(kind), steps=30)
    for at in (4, 21):
        with pytest.raises(KeyboardInterrupt):
            convert(ball(), tiny(kind), steps=30, checkpoint=checkpoint, resume=at > 4, progress=stop_at(at))
        assert read_tensors(checkpoint)[1]["step"] == at - 1
    assert_same(whole, convert(ball(), tiny(kind), steps=30, checkpoint=checkpoint, resume=True))
    assert list(tmp_path.iterdir()) == []


def test_resuming_another_conversion_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    checkpoint = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        convert(ball(), tiny("cp"), steps=10, checkpoint=checkpoint, progress=stop_at(4))
    repainted = ball()
    repainted.color_net.layers[0].weight.data.mul_(1.01)
    cases: list[tuple[Field, FieldSpec, dict[str, Any], str]] = [
        (ball(), tiny("vm"), {}, "another spec"),
        (ball(), tiny("cp"), {"seed": 1}, "another seed"),
        (ball(), tiny("cp"), {"steps": 11}, "another steps"),
        (repainted, tiny("cp"), {}, "another teacher"),  # of the same spec
        (ball(views=False), tiny("cp"), {}, "another teacher"),  # looked at from elsewhere
    ]
    for teacher, spec, changes, text in cases:
        with pytest.raises(InputError, match=text):
            convert(teacher, spec, checkpoint=checkpoint, resume=True, **{"steps": 10, **changes})


def test_a_fingerprint_is_of_all_that_a_field_is() -> None:
    assert fingerprint(ball()) == fingerprint(ball())
    other = ball()
    other.spec = replace(other.spec, background=(0.0, 0.0, 0.0))
    assert len({fingerprint(f) for f in (ball(), ball(views=False), other)}) == 3


# --- what cannot be converted


def test_an_empty_field_is_refused() -> None:
    nothing = ball()
    with torch.no_grad():
        nothing.density_vm.planes.fill_(-10)
        nothing.density_vm.lines.fill_(1)
    closed = ball()
    closed.occupancy = Occupancy.of_cells(torch.zeros(16, 16, 16) > 0)
    for field in (nothing, closed):
        with pytest.raises(FieldcastError, match="the field is empty") as caught:
            convert(field, tiny("cp"), steps=2)
        assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("to", "options", "text"),
    [
        ("splat", {}, "unknown kind 'splat': choose from mlp"),
        ("vm", {"recipe": "magic"}, "unknown recipe 'magic': choose from fast, pvd, active"),
        (replace(tiny("vm"), space=Space()), {}, "expected the teacher's space and occupancy resolution"),
        (replace(tiny("vm"), occupancy=32), {}, "expected the teacher's space and occupancy resolution"),
    ],
)
def test_what_is_asked_for_is_checked(to: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        convert(ball(), to, steps=2, **options)


def test_a_loss_that_is_not_a_number_stops_the_conversion() -> None:
    teacher = ball()
    teacher.color_net.layers[0].weight.data.fill_(math.nan)
    with pytest.raises(FieldcastError, match="vm to cp: the loss became nan at step 1 of 20"):
        convert(teacher, tiny("cp"), steps=20)  # the first stage has no colours


# --- the recipe, as published


class Recorded(training.Training):
    """What `pvd_training` trains with."""

    last: Recorded

    def __init__(self, field: Field, loss: Any, schedule: Any, steps: int, seed: int, title: str, **rest: Any) -> None:
        self.field, self.loss, self.schedule, self.steps, self.rest = field, loss, schedule, steps, rest
        Recorded.last = self


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, float, bool]]]:
    """The calls of the losses: which, the weight of F, whether rays are rendered."""
    calls: list[tuple[str, float, bool]] = []

    def feature(*args: Any) -> Tensor:
        calls.append(("feature", 0.0, False))
        return torch.ones(())

    def block(teacher: Any, student: Any, samples: Any, background: Any, weight: float, rendered: bool) -> Tensor:
        calls.append(("block", weight, rendered))
        return torch.ones(())

    monkeypatch.setattr(pvd, "Training", Recorded)
    monkeypatch.setattr(pvd, "feature_loss", feature)
    monkeypatch.setattr(pvd, "block_loss", block)
    yield calls


def at_steps(teacher: Field, kind: str, steps: int, *which: int) -> list[float]:
    """The loss at some steps of a run."""
    student = build(tiny(kind)).allocate(known_occupancy(teacher, 0))
    pvd.pvd_training(teacher, student, steps=steps, seed=0)
    return [float(Recorded.last.loss(step, torch.Generator().manual_seed(0))) for step in which]


def test_the_stages_are_the_papers(recorded: list[tuple[str, float, bool]]) -> None:
    """At 30,000 steps: features to 2,000; points to 5,000; then rays too; w_F = 0.002 * 0.995^step."""
    losses = at_steps(ball(), "hashgrid", 30_000, 0, 1000, 1999, 2000, 4999, 5000, 29_999)
    assert [c[0] for c in recorded] == ["feature"] * 3 + ["block"] * 4
    assert [c[2] for c in recorded[3:]] == [False, False, True, True]
    assert losses[0] == pytest.approx(0.002)
    assert losses[1] == pytest.approx(1.33e-5, rel=0.01)
    assert recorded[3][1] == pytest.approx(8.9e-8, rel=0.01)
    assert feature_weight(1) == pytest.approx(0.002 * 0.995)


def test_shorter_runs_shrink_the_whole_schedule(recorded: list[tuple[str, float, bool]]) -> None:
    losses = at_steps(ball(), "hashgrid", 300, 0, 10, 19, 20, 49, 50)
    assert [c[0] for c in recorded] == ["feature"] * 3 + ["block"] * 3
    assert [c[2] for c in recorded[3:]] == [False, False, True]
    assert losses[1] == pytest.approx(1.33e-5, rel=0.01)


@pytest.mark.parametrize(("teacher", "student"), [("vm", "voxels"), ("voxels", "hashgrid"), ("voxels", "voxels")])
def test_kinds_without_features_skip_them(recorded: list[tuple[str, float, bool]], teacher: str, student: str) -> None:
    field = ball() if teacher == "vm" else untrained(ball(), "voxels")
    at_steps(field, student, 30_000, 0, 1999, 2000, 5000)
    assert recorded == [("block", 0.0, False)] * 3 + [("block", 0.0, True)]


def test_the_optimiser_is_the_papers(recorded: list[Any]) -> None:
    """AdamW with weight decay 0.01, rates along a cosine from 1e-2 and 1e-3 to 7e-5."""
    at_steps(ball(), "vm", 30_000)
    run = Recorded.last
    assert run.rest["weight_decay"] == 0.01
    assert run.schedule(0, 1e-2) == pytest.approx(1e-2)
    assert run.schedule(15_000, 1e-2) == pytest.approx((1e-2 + 7e-5) / 2)
    assert run.schedule(30_000, 1e-2) == run.schedule(30_000, 1e-3) == pytest.approx(7e-5)
    optimizer = training.Training(run.field, run.loss, run.schedule, 30_000, 0, "", weight_decay=0.01)._optimizer()
    assert isinstance(optimizer, torch.optim.AdamW)
    groups = [(g["lr"], g["betas"], g["eps"], g["weight_decay"]) for g in optimizer.param_groups]
    assert groups == [(1e-2, (0.9, 0.99), 1e-15, 0.01), (1e-3, (0.9, 0.99), 1e-15, 0.01)]


@pytest.mark.parametrize(
    ("teacher", "student", "copied"),
    [
        ("hashgrid", "mlp", ["color_net"]),  # tiny encodings differ in width; at the papers' sizes both are copied
        ("hashgrid", "hashgrid", ["color_net", "sigma_net"]),
        ("vm", "hashgrid", ["color_net"]),
        ("hashgrid", "voxels", []),
        ("voxels", "mlp", []),
    ],
)
def test_networks_of_equal_shape_are_copied(teacher: str, student: str, copied: list[str]) -> None:
    source, target = build(tiny(teacher), seed=1), build(tiny(student), seed=2)
    before = copy.deepcopy(target)
    assert copy_networks(source, target) == copied
    for name, value in target.state_dict().items():
        origin = source if name.split(".")[0] in copied else before
        assert torch.equal(value, origin.state_dict()[name]), name


def test_at_the_papers_sizes_mlp_and_hash_grid_share_both_networks() -> None:
    with torch.device("meta"):
        shapes = [
            {k: v.shape for k, v in build(default_spec(kind)).state_dict().items() if k.split(".")[0].endswith("_net")}
            for kind in ("mlp", "hashgrid")
        ]
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) == 5


def some_samples(count: int = 60) -> Samples:
    """Samples of three rays, the middle one without any."""
    x = BOX.from_unit(torch.rand(count, 3))
    d = torch.nn.functional.normalize(torch.randn(count, 3), dim=-1)
    return Samples(torch.tensor([0, 25, 25, count]), torch.rand(count), 0.05 * torch.rand(count), x, d)


def test_log_density_is_clamped_for_the_losses_alone() -> None:
    """To [-2, 7] per half box side, features as they are; and the fields themselves are not clamped."""
    field = ball()
    x = BOX.from_unit(torch.rand(400, 3))
    raw = field.features(x).detach()
    s, features = clamped(field, raw)
    np.testing.assert_allclose(s.numpy(), np.clip(raw[:, 0].numpy(), -2, 7), rtol=1e-6)
    assert torch.equal(features[:, 0], s)
    assert torch.equal(features[:, 1:], raw[:, 1:])
    assert float(raw[:, 0].min()) < -20
    assert field.density(x).min().item() < 1e-8
    scaled = ball()
    scaled.spec = replace(scaled.spec, density=replace(scaled.spec.density, shift=1.0, scale=2.0))
    assert clamped(scaled, torch.zeros(1, 16))[0].item() == pytest.approx(1 + math.log(2))


def test_losses_are_norms_of_differences() -> None:
    """Computed again in float64 from what the fields say."""
    teacher, student, samples = ball(), build(tiny("hashgrid"), seed=0), some_samples()
    student.encoding.table.data.normal_()
    background = torch.rand(3, 3)

    def say(field: Field) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            features = field.features(samples.x)
            sigma, rgb = field.decode(features, samples.d)
        f = features.double().numpy()
        f[:, 0] = np.clip(f[:, 0], -2, 7)
        picture = []
        for ray in range(3):
            left, color = 1.0, np.zeros(3)
            for m in range(int(samples.starts[ray]), int(samples.starts[ray + 1])):
                alpha = 1 - math.exp(-float(sigma[m] * samples.dt[m]))
                color, left = color + left * alpha * rgb[m].double().numpy(), left * (1 - alpha)
            picture.append(color + left * background[ray].double().numpy())
        return f, rgb.double().numpy(), np.array(picture)

    (f_t, rgb_t, c_t), (f_s, rgb_s, c_s) = say(teacher), say(student)
    norm, lesson = np.linalg.norm, observe(teacher, samples, 0)
    point = 0.002 * (norm(rgb_s - rgb_t) + norm(f_s[:, 0] - f_t[:, 0]))
    assert float(feature_loss(teacher, student, lesson).detach()) == pytest.approx(norm(f_s - f_t), rel=1e-4)
    stage2 = block_loss(teacher, student, lesson, background, 0.7, False)
    assert float(stage2.detach()) == pytest.approx(point + 0.7 * norm(f_s - f_t), rel=1e-4)
    stage3 = block_loss(teacher, student, lesson, background, 0.0, True)
    assert float(stage3.detach()) == pytest.approx(point + norm(c_s - c_t), rel=1e-4)


def test_a_vm_student_is_regularised_in_the_last_stage() -> None:
    teacher = ball()
    lesson = observe(teacher, some_samples(), 0)
    student = build(tiny("vm"), seed=0)
    with_rays, without = copy.deepcopy(student), student
    with_rays.regularizer = lambda: torch.tensor(100.0)  # type: ignore[method-assign]
    without.regularizer = lambda: None  # type: ignore[method-assign]
    for rendered, expected in ((True, 100.0), (False, 0.0)):
        a, b = (
            float(block_loss(teacher, s, lesson, torch.ones(3), 0.0, rendered).detach()) for s in (with_rays, without)
        )
        assert a - b == pytest.approx(expected, abs=1e-3)


def test_a_perfect_student_has_finite_gradients() -> None:
    teacher = ball()
    student = copy.deepcopy(teacher)
    loss = block_loss(teacher, student, observe(teacher, some_samples(), 0), torch.ones(3), 1.0, True)
    loss.backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in student.parameters())
    empty = Samples(torch.tensor([0, 0]), *(torch.zeros(0) for _ in range(2)), *(torch.zeros(0, 3) for _ in range(2)))
    assert float(block_loss(teacher, student, observe(teacher, empty, 0), torch.ones(3), 1.0, False).detach()) < 1e-6


# --- what is taught


def everything(lesson: Lesson) -> tuple[Tensor, ...]:
    s = lesson.samples
    return s.starts, s.t, s.dt, s.x, s.d, lesson.features, lesson.rgb, lesson.color, lesson.transmittance


@pytest.mark.parametrize("opaque", [0.0, 1e-3, 0.5])
def test_a_teacher_says_what_it_shows(opaque: float) -> None:
    """Dropping what no light reaches changes no ray by more than that light; the rest is what the field computes."""
    teacher = ball()
    rays = orbit(Space(BOX.aabb), torch.zeros(1), torch.full((1,), 0.3), 3.2, width=20, height=20, fov=0.6).image_rays(
        0
    )
    samples = Sampler.of(teacher)(rays)
    whole, lesson = observe(teacher, samples, 0), observe(teacher, samples, opaque)
    assert len(lesson) == len(whole) == 400
    assert float((lesson.color - whole.color).abs().max()) <= opaque + 1e-6
    if opaque:
        assert len(lesson.samples) < len(samples)
    features = teacher.features(lesson.samples.x)
    torch.testing.assert_close(lesson.features, features)
    sigma, rgb = teacher.decode(features, lesson.samples.d)
    torch.testing.assert_close(lesson.rgb, rgb)
    seen = composite(sigma, rgb, lesson.samples, torch.zeros(3))
    torch.testing.assert_close(lesson.color, seen.rgb)
    torch.testing.assert_close(lesson.transmittance, seen.transmittance)


def test_rays_that_hit_nothing_teach_nothing() -> None:
    samples = some_samples()
    left = hits(samples)
    assert left.starts.tolist() == [0, 25, 60]
    assert torch.equal(left.t, samples.t)
    teacher = ball()
    teacher.occupancy_bits.zero_()
    lesson = Lessons(teacher, 0, pool=100).next(50)
    assert len(lesson) == len(lesson.samples) == 0


def test_a_course_is_the_same_for_the_same_seed_and_can_be_continued() -> None:
    teacher = ball()
    first, again, other = (Lessons(teacher, seed, pool=6000) for seed in (0, 0, 1))
    course = [first.next(12_000) for _ in range(60)]
    assert first.place[0] >= 1  # more than one pool of rays
    for lesson in course[:17]:
        assert all(map(torch.equal, everything(lesson), everything(again.next(12_000))))
    assert float(other.next(12_000).samples.t[0]) != float(course[0].samples.t[0])
    late = Lessons(teacher, 0, pool=6000)
    late.place.copy_(again.place)
    assert all(map(torch.equal, everything(late.next(12_000)), everything(course[17])))


def test_each_ray_is_taught_four_times_and_no_lesson_is_too_long() -> None:
    course = Lessons(ball(), 0, pool=6000)
    seen, lengths = [], []
    while course.place[0] == 0:
        lesson = course.next(1500)
        seen.append(lesson.color)
        lengths.append(len(lesson.samples))
        assert int(lesson.samples.starts[-1]) == len(lesson.samples)
    quarter = len(torch.cat(seen)) // 4
    assert torch.equal(torch.cat(seen)[:quarter], torch.cat(seen)[-quarter:])
    assert max(lengths) <= 1500


# --- where it is looked from


def assert_rotations(cameras: Cameras) -> None:
    rotation = cameras.c2w[:, :, :3]
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(3).expand_as(rotation), rtol=0, atol=1e-4)
    assert bool((torch.linalg.det(rotation) > 0).all())


def test_viewpoints_keep_their_distance_and_look_at_the_scene() -> None:
    """Between neighbouring views: no nearer than they, the same lens, never one of them."""
    field = ball()
    views = field.views
    assert views is not None
    cameras = Viewpoints(field).draw(300, torch.Generator().manual_seed(0))
    assert_rotations(cameras)
    distance = (cameras.centers - CENTER).norm(dim=-1)
    allowed = (views.centers - CENTER).norm(dim=-1)
    assert float(distance.min()) > float(allowed.min()) - 1e-4
    assert float(distance.max()) < float(allowed.max()) + 1e-4
    towards = torch.nn.functional.normalize(CENTER - cameras.centers, dim=-1)
    assert float((towards * -cameras.c2w[:, :, 2]).sum(-1).min()) > math.cos(math.radians(12))
    assert float(torch.cdist(cameras.centers, views.centers).min()) > 1e-4
    assert float(torch.pdist(cameras.centers).min()) > 1e-6
    torch.testing.assert_close(cameras.intrinsics, views.intrinsics[:1].expand(300, 4))
    assert cameras.size.tolist() == [[40, 30]] * 300


def test_viewpoints_of_a_field_without_views_are_all_around_it() -> None:
    cameras = Viewpoints(ball(views=False), (32, 24)).draw(2000, torch.Generator().manual_seed(0))
    assert_rotations(cameras)
    offset = (cameras.centers - CENTER) / 2.7
    torch.testing.assert_close(offset.norm(dim=-1), torch.ones(2000), rtol=0, atol=1e-4)
    assert float(offset.mean(0).abs().max()) < 0.06  # even over the sphere: 4 standard errors of 1 / sqrt(3 n)
    torch.testing.assert_close(offset.T @ offset / 2000, torch.eye(3) / 3, rtol=0, atol=0.04)
    assert cameras.size.tolist() == [[32, 24]] * 2000


def test_viewpoints_in_an_open_world_stay_between_the_views() -> None:
    field = ball()
    field.spec = replace(field.spec, space=replace(BOX, contraction="sphere"))
    views = field.views
    assert views is not None
    cameras = Viewpoints(field).draw(100, torch.Generator().manual_seed(0))
    assert_rotations(cameras)
    assert bool((cameras.centers >= views.centers.amin(0) - 1e-4).all())
    assert bool((cameras.centers <= views.centers.amax(0) + 1e-4).all())


def test_one_view_is_too_few_to_look_between() -> None:
    field = ball()
    assert field.views is not None
    field.views = field.views[[0]]
    assert len(Viewpoints(field).draw(5, torch.Generator().manual_seed(0))) == 5


def test_viewpoints_follow_their_generator() -> None:
    for field in (ball(), ball(views=False)):
        a, b, c = (Viewpoints(field).draw(4, torch.Generator().manual_seed(s)).c2w for s in (1, 1, 2))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_fidelity_is_not_measured_where_it_was_trained() -> None:
    """The cameras of a comparison, whatever the seed, are not the first ones of a training run of that seed."""
    field = ball()
    for seed in range(3):
        trained = Viewpoints(field).draw(200, torch.Generator().manual_seed(seed)).centers
        assert float(torch.cdist(comparison_views(field, 8, seed).centers, trained).min()) > 1e-5


def test_small_turns_are_small_rotations() -> None:
    turns = small_turns(500, 0.05, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turns.mT @ turns, torch.eye(3).expand_as(turns), rtol=0, atol=1e-5)
    angle = torch.acos(((turns.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2).clamp(-1, 1))
    assert float(angle.max()) < 0.05 * math.sqrt(3) + 1e-3
    assert float(angle.mean()) > 0.02


# --- how faithful it is


def test_a_field_is_like_itself() -> None:
    field = ball()
    same = compare(field, copy.deepcopy(field), comparison_views(field, 2, 0, longest=24))
    assert same.psnr == 100
    assert same.ssim == pytest.approx(1)
    assert same.depth_error == 0
    assert same.psnr_per_view == [100, 100]
    assert occupancy_iou(field, copy.deepcopy(field), resolution=16) == 1


def test_backgrounds_do_not_count() -> None:
    field, other = ball(), ball()
    other.spec = replace(other.spec, background=(0.0, 0.0, 0.0))
    assert compare(field, other, comparison_views(field, 1, 0, longest=24)).psnr > 90


def test_comparison_is_the_mean_of_its_pictures() -> None:
    teacher, student = ball(), untrained(ball(), "planes")
    seen = compare(teacher, student, comparison_views(teacher, 3, 0, longest=24))
    values = [-10 * math.log10(float((a.rgb.double() - b.rgb.double()).square().mean())) for a, b in seen.pairs]
    assert seen.psnr_per_view == pytest.approx(values, rel=1e-5)
    assert seen.psnr == pytest.approx(sum(values) / 3, rel=1e-5)
    assert seen.views == len(seen.pairs) == 3
    assert min(seen.seconds) > 0


def test_depth_error_is_in_world_units() -> None:
    """The same ball, nearer by 0.1: from the front, its surface is nearer by 0.1."""
    near, far = ball(), ball()
    for field, shift in ((near, -0.1), (far, 0.0)):
        field.spec = replace(field.spec, space=Space((-1.0, -1.0 + shift, 0.0, 1.0, 1.0 + shift, 2.0)), steps=512)
        with torch.no_grad():
            field.density_vm.planes[0, :, :, 0] += 4
    pose = look_at(torch.tensor([[0.0, -3.0, 1.0]]), CENTER[None], torch.tensor([0.0, 0.0, 1.0]))
    front = pinhole(pose, 16, 16, 0.1)
    assert compare(far, near, front).depth_error == pytest.approx(0.1, abs=0.01)


def test_nothing_in_common_has_no_depth_error() -> None:
    field, empty = ball(), ball()
    empty.occupancy = Occupancy.of_cells(torch.zeros(16, 16, 16) > 0)
    seen = compare(field, empty, comparison_views(field, 1, 0, longest=16))
    assert math.isnan(seen.depth_error)
    assert occupancy_iou(field, empty, resolution=16) == 0


# --- reports


@pytest.fixture(scope="module")
def made() -> Any:
    """A report of a conversion to voxels."""
    teacher = ball()
    run = {"recipe": "<b>pvd</b>", "seconds": 1.5, "seed": 0}
    return report(teacher, untrained(teacher, "voxels"), views=2, seed=0, run=run)


def test_a_report_in_json(made: Any) -> None:
    data = json.loads(json.dumps(made.to_json()))
    teacher = ball()
    assert set(data["fidelity"]) == {"psnr", "ssim", "depth_error", "views"}
    assert data["fidelity"]["psnr"] == pytest.approx(made.fidelity.psnr)
    assert data["fidelity"]["views"] == 2
    assert data["teacher"]["kind"] == "vm"
    assert data["teacher"]["parameters"] == teacher.parameter_count()
    assert data["student"]["parameters"] == untrained(teacher, "voxels").parameter_count()
    assert data["student"]["bytes"] > 4 * data["student"]["parameters"]
    assert data["seconds"] == 1.5
    assert 0 <= data["occupancy_iou"] <= 1
    assert any("spherical harmonics of degree 2" in line for line in data["lost"])
    assert f"{made.fidelity.psnr:.2f} dB" in made.summary()


def test_a_report_says_nothing_is_lost_where_nothing_is() -> None:
    teacher = ball()
    assert report(teacher, untrained(teacher, "mlp"), views=1, seed=0, run={}).lost == []


class Page(HTMLParser):
    """Collects tags, what they refer to, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_needs_nothing_else_and_runs_nothing(made: Any, tmp_path: Path) -> None:
    title = 'a<script>alert("1")</script>&.safetensors'
    write_report(made, tmp_path / "r.html", title)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert title in page.text
    assert "<b>pvd</b>" in page.text
    assert len(page.references) == 2
    assert all(r.startswith("data:image/png;base64,") for r in page.references)
    assert not re.search(r"https?:|@import|url\(", text)
    assert f"{made.fidelity.psnr_per_view[0]:.2f} dB" in page.text


def test_a_report_as_pictures(made: Any, tmp_path: Path) -> None:
    from PIL import Image as Picture

    write_report(made, tmp_path / "r.png", "title")
    with Picture.open(tmp_path / "r.png") as picture:
        height, width = made.fidelity.pairs[0][0].opacity.shape
        assert picture.size == (3 * width, 2 * height)
    with pytest.raises(InputError, match="exists; use --force"):
        write_report(made, tmp_path / "r.png", "title")
    with pytest.raises(InputError, match=r"expected a report name that ends in \.html or \.png"):
        write_report(made, tmp_path / "r.pdf", "title")


def test_a_triptych_is_teacher_student_and_difference() -> None:
    teacher, student = (Image(torch.rand(4, 5, 3), torch.zeros(4, 5), torch.zeros(4, 5)) for _ in range(2))
    picture = triptych(teacher, student)
    assert torch.equal(picture[:, :5], teacher.rgb)
    assert torch.equal(picture[:, 5:10], student.rgb)
    torch.testing.assert_close(picture[:, 10:], (5 * (teacher.rgb - student.rgb).abs()).clamp(max=1))


def test_describe_counts_bytes() -> None:
    field = ball()
    facts = describe(field, 0.5)
    assert facts["bytes"] == 4 * field.parameter_count() + 16**3 // 8
    assert facts["seconds_per_view"] == 0.5


def test_every_recipe_is_listed() -> None:
    assert list(RECIPES) == ["fast", "pvd", "active"]
    assert Sampler.of(ball()).steps == 64


def test_a_field_of_the_kind_is_copied_unless_training_or_sizes_are_asked_for() -> None:
    field = build(default_spec("cp").resized({"resolution": "8"}), 0)
    same, run = convert_scene(field, "cp", {}, How())
    assert same is field and run["recipe"] == "copy"
    assert convert_scene(field, "cp", {"resolution": "8"}, How())[0] is field
    assert spec_for(field, "cp", {"resolution": "9"}).sizes.resolution == 9
    assert spec_for(field, "vm", {}) == student_spec(field.spec, "vm")
    assert not How(steps=3).is_silent() and not How(recipe="pvd").is_silent() and How(seed=3).is_silent()
