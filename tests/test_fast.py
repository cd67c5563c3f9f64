"""The fast recipe: which points are drawn, what they teach, how they are moved, and where voxels start."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fieldcast.distill import fast
from fieldcast.distill.fast import Course, Tuning, learning_rates, ray_steps, start_from_means, turned
from fieldcast.distill.lessons import Lesson
from fieldcast.distill.points import Points, light_before
from fieldcast.fields import Field, Occupancy, Space, build, default_spec
from fieldcast.fields.cameras import orbit
from fieldcast.fields.heads import ColorActivation, DensityActivation, activate_color, inverse_color
from fieldcast.fields.progress import silent
from fieldcast.fields.rendering import Samples

BOX = Space((-1.0, -1.0, -1.0, 1.0, 1.0, 1.0))
DENSITY = 6.0  # 1 / world unit, and per half box side: the box is two units wide


def fog(kind: str = "voxels", log_density: float = math.log(DENSITY), **sizes: Any) -> Field:
    """The same density and the same colour everywhere."""
    spec = default_spec(kind, space=BOX, occupancy=8, steps=40)
    field = build(spec.resized(sizes or {"resolution": 8, "degree": 1}), seed=0)
    with torch.no_grad():
        field.data.zero_()
        field.data[:, 0] = log_density
        field.data[:, 1::4] = 0.8  # the constant harmonic of each colour
    field.views = orbit(BOX, torch.arange(6) * 1.0, torch.full((6,), 0.3), 3.0, width=20, height=20, fov=0.7)
    return field


def vm() -> Field:
    sizes = {"resolution": 6, "density_channels": 2, "appearance_channels": 2, "hidden": 8}
    field = build(default_spec("vm", space=BOX, occupancy=8, steps=40).resized(sizes), seed=1)
    field.views = fog().views
    return field


def course(teacher: Field, student: Field, **tuning: Any) -> Course:
    return Course(teacher, student, Tuning(**{"steps": 10, "rate": 1.0, "points": 256, **tuning}), 10, 0, silent)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- emptiness


@pytest.mark.parametrize(("name", "bias", "expected"), [("relu", 3.0, None), ("relu", -1.0, 0.0), ("exp", 3.0, 0.0)])
def test_students_for_other_programs_are_taught_what_is_empty(name: Any, bias: float, expected: float | None) -> None:
    """Half the cells are; where the density is relu, other programs look there too."""
    sizes = {"layers": 2, "width": 4, "skip": 0, "branch": 4}
    student = build(default_spec("nerf", space=BOX, occupancy=8, density=DensityActivation(name)).resized(sizes), 0)
    with torch.no_grad():
        student.density_net[0].weight.zero_()
        student.density_net[0].bias.fill_(bias)
    cells = torch.zeros(8, 8, 8, dtype=torch.bool)
    cells[:4] = True
    teacher = fog()
    teacher.occupancy = student.occupancy = Occupancy.of_cells(cells)
    lesson = course(teacher, student, empty=0.5)
    assert len(lesson.empty) == (256 if name == "relu" else 0)
    alpha = 1 - math.exp(-bias * 2 / 8)  # of a step as long as a cell
    by_hand = fast.EMPTINESS * (alpha**2 + fast.LOG_DENSITY_WEIGHT * (math.log(3) + 2) ** 2)
    with torch.no_grad():
        found = float(lesson.empty_loss(generator()))
    assert found == pytest.approx(by_hand if expected is None else expected, rel=1e-5)


# --- points


def test_light_on_a_ray_by_hand() -> None:
    """Two rays: weights 0.5, 0.25 leave 1, 0.5; one of 0.1 leaves 1."""
    light = light_before(torch.tensor([0.5, 0.25, 0.1]), torch.tensor([0, 2, 3]))
    torch.testing.assert_close(light, torch.tensor([1.0, 0.5, 1.0]))


def test_what_a_sample_shows_by_hand() -> None:
    teacher = fog()
    samples = Samples(
        torch.tensor([0, 2]), torch.tensor([1.0, 1.1]), torch.tensor([0.1, 0.2]), torch.zeros(2, 3), torch.eye(3)[:2]
    )
    features = teacher.features(samples.x).detach()
    points = Points.of(teacher, Lesson(samples, features, torch.zeros(2, 3), torch.zeros(1, 3), torch.zeros(1)))
    a, b = 1 - math.exp(-0.1 * DENSITY), 1 - math.exp(-0.2 * DENSITY)
    torch.testing.assert_close(points.alpha, torch.tensor([a, b]))
    torch.testing.assert_close(points.weights, torch.tensor([a, (1 - a) * b]))
    torch.testing.assert_close(points.transmittance, torch.tensor([1, 1 - a]))
    chances = [a + 0.02, (1 - a) * (b + 0.02)]
    torch.testing.assert_close(points.drawn.float(), torch.tensor([chances[0], sum(chances)]))


def test_draws_stand_for_all_samples() -> None:
    """Weighted back, a batch gives the mean over rays of the sum over their samples, whatever is summed."""
    points = course(fog(), vm()).points(0)
    value = torch.rand(len(points.drawn), generator=generator(3))
    truth = float((points.transmittance * value).sum() / len(points.lesson))
    found = []
    for seed in range(40):
        index, share = points.draw(512, generator(seed))
        assert bool((index.diff() >= 0).all())  # in the order of rays: neighbours in memory
        found.append(float((share * points.transmittance[index] * value[index]).sum()))
    spread = torch.tensor(found).std().item() / math.sqrt(len(found))
    assert sum(found) / len(found) == pytest.approx(truth, abs=5 * spread)
    assert spread < 0.02 * truth


def test_points_are_moved_within_their_steps_and_beside_them() -> None:
    teacher = fog()
    points = course(teacher, vm()).points(0)
    index, share = points.draw(4000, generator())
    samples, batch = points.lesson.samples, points.near(teacher, index, share, generator(1))
    moved = (batch.x - samples.x[index]) / samples.dt[index][:, None]
    along = (moved * batch.d).sum(-1)
    aside = moved - along[:, None] * batch.d
    assert float(along.abs().max()) <= 0.5 + 1e-3
    assert float(along.std()) == pytest.approx(1 / math.sqrt(12), rel=0.05)  # of a uniform step
    assert float(aside.square().sum(-1).mean()) == pytest.approx(2 * 0.75**2, rel=0.1)  # two axes are aside
    assert float((aside * batch.d).sum(-1).abs().max()) < 1e-3
    inside = BOX.contains(batch.x)
    torch.testing.assert_close(batch.alpha[inside], 1 - torch.exp(-DENSITY * batch.dt[inside]))
    torch.testing.assert_close(batch.features, teacher.features(batch.x).detach())
    assert bool((batch.weights <= points.weights[index]).all())


def test_a_teacher_that_is_slow_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its samples are taught as they are; others are moved, and each step asks anew."""
    asked: list[int] = []

    def counted(features: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def ask(x: Tensor) -> Tensor:
            asked.append(len(x))
            return features(x)

        return ask

    for slow, expected in ((("voxels",), []), ((), [256])):
        monkeypatch.setattr(fast, "SLOW", slow)
        teacher = fog()
        lessons = course(teacher, vm())
        lessons.points(0)
        teacher.features = counted(teacher.features)  # type: ignore[method-assign]
        asked.clear()
        lessons.loss(0, generator())
        assert asked == expected


# --- losses


def test_a_perfect_student_has_nothing_to_learn() -> None:
    for teacher in (fog(), vm()):
        lessons = course(teacher, teacher, rays=0.5)
        for step in (0, 9):  # points, and rays
            loss = lessons.loss(step, generator())
            assert float(loss.detach()) == pytest.approx(0, abs=1e-9)


def test_a_loss_by_hand() -> None:
    """Fog taught to thinner and darker fog: every term follows from the two densities and colours."""
    teacher, student = fog(), fog(log_density=math.log(DENSITY) - 1)
    with torch.no_grad():
        student.data[:, 1::4] = -0.8
    lessons = course(teacher, student)
    points = lessons.points(0)
    index, share = points.draw(64, generator())
    batch = points.at(index, share)
    loss, sigma, rgb = lessons.point_loss(batch, generator())
    value = 0.8 * 0.5 / math.sqrt(math.pi)
    light, dark = 1 / (1 + math.exp(-value)), 1 / (1 + math.exp(value))
    torch.testing.assert_close(rgb, torch.full_like(rgb, dark))
    torch.testing.assert_close(sigma, torch.full_like(sigma, DENSITY / math.e))
    alpha = torch.exp(-sigma * batch.dt) - torch.exp(-DENSITY * batch.dt)
    # Both directions, along the ray and another one, see the same colours: 2 x 3 (light - dark)^2.
    visible = batch.weights * 6 * (light - dark) ** 2
    expected = (share * (visible + batch.transmittance * (alpha**2 + 1e-3))).sum()
    torch.testing.assert_close(loss, expected)


def test_rays_are_taught_in_the_end() -> None:
    lessons = course(fog(), vm(), rays=0.3)
    assert lessons.first_of_rays == 7
    assert ray_steps(fog()) == 16
    assert ray_steps(vm()) is None
    assert course(vm(), fog()).lessons.sampler.steps == 16
    assert course(fog(), vm()).lessons.sampler.steps == 40  # the teacher's own


@given(seed=st.integers(0, 1000))
def test_other_directions_are_of_the_same_half_space(seed: int) -> None:
    d = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator(seed)), dim=-1)
    other = turned(d, generator(seed + 1))
    torch.testing.assert_close(other.norm(dim=-1), torch.ones(50))
    assert float((d * other).sum(-1).min()) >= 0


def test_shorter_runs_learn_at_larger_rates() -> None:
    tuning = Tuning(100, 2.0, networks=3.0)
    whole, short = learning_rates(vm(), tuning, 100), learning_rates(vm(), tuning, 25)
    assert [rate for _, rate in whole] == pytest.approx([3e-2, 3e-3])  # small groups count as networks
    assert [rate for _, rate in short] == pytest.approx([6e-2, 6e-3])
    assert [rate for _, rate in learning_rates(vm(), tuning, 400)] == pytest.approx([3e-2, 3e-3])


# --- the start of voxels


def test_voxels_start_as_the_fog_that_is_seen() -> None:
    teacher = fog(log_density=1.0)
    student = build(teacher.spec, seed=3).allocate(Occupancy.full(8))
    lessons = course(teacher, student)
    start_from_means(student, lessons.points(0))
    x = lessons.points(0).lesson.samples.x
    d = torch.nn.functional.normalize(torch.randn(len(x), 3), dim=-1)
    for told, truth in zip(student(x, d), teacher(x, d), strict=True):
        torch.testing.assert_close(told, truth, rtol=1e-3, atol=1e-3)
    unseen = student.data[:, 0] == fast.UNSEEN
    assert bool((student.data[unseen, 1:] == 0).all())


@given(
    name=st.sampled_from(["exp", "softplus", "relu"]),
    shift=st.floats(-3, 3),
    scale=st.floats(0.1, 10),
    log_density=st.floats(-2, 7),
)
def test_logits_of_densities(name: Any, shift: float, scale: float, log_density: float) -> None:
    activation = DensityActivation(name, shift, scale)
    given_density = torch.tensor([log_density])
    torch.testing.assert_close(activation.log(activation.logit(given_density)), given_density, rtol=1e-3, atol=1e-3)


@given(value=st.floats(0.02, 0.98), name=st.sampled_from(["sigmoid", "shifted_clamp"]))
def test_what_makes_a_colour(value: float, name: ColorActivation) -> None:
    rgb = torch.tensor([value])
    torch.testing.assert_close(activate_color(inverse_color(rgb, name), name), rgb)
