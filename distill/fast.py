"""`--recipe fast`: the teacher's visible points, learned by how much each of them shows, then its rays.

Letters: w the weight of a sample in its ray's colour, T the light that reaches it, alpha its opacity, s log density,
clamped to [-2, 7], F the features between the blocks. A point teaches up to 19 numbers where a ray of dozens of
points teaches three, so points come first; they are drawn, each on its own, in proportion to w + 0.02 T, and weighted
back, which makes the mean over a batch that over all samples. The loss, a sum over the samples of a ray:

    w |rgb|^2 + T alpha^2 + 0.001 T s^2 + f w |F|^2        each a difference between student and teacher

rgb and alpha are what is seen; s gives a slope where alpha has none, in fog and in the dense; F, where both kinds share
it, says what the colours of all directions are. Students whose cells are too coarse for the teacher end with rays,
whose colour they can match though no point of them does: |C|^2 is added and whole rays are taught.

Voxels start from a weighted mean of what the teacher says around each vertex instead of from noise: the first step of
the least squares fit, and already recognisable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fieldcast.distill.lessons import POOL, Lesson, Lessons
from fieldcast.distill.pvd import LOG_DENSITY, copy_networks, fingerprint
from fieldcast.fields.field import Field
from fieldcast.fields.heads import inverse_color
from fieldcast.fields.kernels.compositing import ray_of_sample, ray_weights
from fieldcast.fields.kinds.voxels import VoxelsField
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering.rays import composite
from fieldcast.fields.training import Training, cosine

EMPTY = 0.02  # of the light that reaches a sample counts as its weight: what is empty is to stay so
LOG_DENSITY_WEIGHT = 1e-3
UNSEEN = -4.0  # the log density of vertices around which there is no sample that light reaches
FINAL_RATE = 7e-5
FIRST_HARMONIC = 0.5 / math.pi**0.5  # the constant one
REUSE = 2  # times that a point is drawn, on average


@dataclass(frozen=True)
class Tuning:
    """How a kind learns. rate, networks: factors on the learning rates of tables and networks in a run of `steps`; in
    shorter ones they grow. points: a step. features: f above. rays: the last part of the steps, which teaches rays;
    ray_points: how many samples of them a step.
    """

    steps: int
    rate: float
    networks: float = 1.0
    points: int = 1 << 13
    features: float = 0.3
    rays: float = 0.0
    ray_points: int = 1 << 16


@dataclass(frozen=True)
class Points:
    """A lesson, sample by sample. transmittance, alpha, weights, log_density: [M]; drawn: [M], chances added up."""

    lesson: Lesson
    transmittance: Float[Tensor, " m"]
    alpha: Float[Tensor, " m"]
    weights: Float[Tensor, " m"]
    log_density: Float[Tensor, " m"]
    drawn: Float[Tensor, " m"]

    @classmethod
    def of(cls, teacher: Field, lesson: Lesson) -> Points:
        """Finds what of each sample shows."""
        samples, logit = lesson.samples, lesson.features[:, 0]
        sigma = teacher.spec.density(logit) / teacher.spec.space.unit
        weights, _ = ray_weights(sigma * samples.dt, samples.starts)
        light, alpha = light_before(weights, samples.starts), 1 - torch.exp(-sigma * samples.dt)
        chance = light * (alpha + EMPTY)
        log_density = teacher.spec.density.log(logit).clamp(*LOG_DENSITY)
        return cls(lesson, light, alpha, weights, log_density, chance.double().cumsum(0))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
        """Samples, in the order of their rays, and what makes a sum over them the mean over rays of sums over all."""
        device, total = self.drawn.device, self.drawn[-1]
        spread = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
        index = torch.searchsorted(self.drawn, spread.to(device) * total).clamp_max(len(self.drawn) - 1)
        chance = self.transmittance[index] * (self.alpha[index] + EMPTY)
        return index, total.float() / (chance * count * len(self.lesson))


def light_before(weights: Float[Tensor, " m"], starts: Int64[Tensor, " r1"]) -> Float[Tensor, " m"]:
    """The transmittance that reaches each sample: what the weights before it on its ray leave of 1."""
    total = torch.cat([weights.new_zeros(1, dtype=torch.float64), weights.double().cumsum(0)])
    at_start = total[starts[:-1]][ray_of_sample(starts, len(weights))]
    return (1 - (total[:-1] - at_start)).clamp(0, 1).to(weights.dtype)


TUNED = {
    "mlp": Tuning(400, 3.0, features=0.1),
    "hashgrid": Tuning(400, 1.0),
    "vm": Tuning(320, 5.0, 5.0, points=1 << 14),
    "cp": Tuning(400, 4.0, 12.0, features=0.1),
    "voxels": Tuning(200, 10.0, points=1 << 14, rays=0.7),
    "planes": Tuning(400, 5.0, 25.0, features=0.1),
    "hybrid": Tuning(500, 3.0, 9.0, features=0.1),
}


def distill_fast(
    teacher: Field,
    student: Field,
    *,
    steps: int,
    seed: int,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Field:
    """Trains `student` in place to be `teacher`; both know their occupancy, which must be the same."""
    teacher.requires_grad_(False)
    copy_networks(teacher, student)
    tuning = TUNED[student.spec.kind]
    course = Course(teacher, student, tuning, steps, seed, progress)
    if isinstance(student, VoxelsField) and not resume:
        start_from_means(student, course.points(0))

    Training(
        student,
        course.loss,
        cosine(steps, FINAL_RATE),
        steps,
        seed,
        f"{teacher.spec.kind} to {student.spec.kind}",
        betas=(0.9, 0.95),
        rates=learning_rates(student, tuning, steps),
        identity={"recipe": "fast", "teacher": fingerprint(teacher) if checkpoint else ""},
        checkpoint=checkpoint,
        resume=resume,
    ).run(progress)
    return student


def learning_rates(student: Field, tuning: Tuning, steps: int) -> list[tuple[list[nn.Parameter], float]]:
    """Groups of parameters and their learning rates in a run of `steps`."""
    shorter = max(1.0, tuning.steps / steps) ** 0.5
    return [
        (group, rate * shorter * (tuning.networks if sum(p.numel() for p in group) < 1e5 else tuning.rate))
        for group, rate in student.learning_rates()
        if group
    ]


class Course:
    """What is taught at which step: points of a pool of rays, in the end rays; then the next pool."""

    def __init__(
        self, teacher: Field, student: Field, tuning: Tuning, steps: int, seed: int, progress: Progress
    ) -> None:
        self.teacher, self.student, self.tuning, self.steps = teacher, student, tuning, steps
        self.first_of_rays = steps - round(tuning.rays * steps)
        taught = self.first_of_rays * tuning.points + (steps - self.first_of_rays) * tuning.ray_points
        self.pools = max(1, round(taught / REUSE / POOL))
        size = min(POOL, max(tuning.points, taught // REUSE))
        self.lessons = Lessons(teacher, seed, pool=size, progress=progress)
        self.shares_features = teacher.shares_features and student.shares_features
        self._points: tuple[int, Points] | None = None

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """The loss of a step, on random points or rays of the pool that is taught then."""
        points = self.points(step * self.pools // self.steps)
        if not len(points.drawn):
            return self.student.occupancy_bits.new_zeros((), dtype=torch.float32)
        if step < self.first_of_rays:
            return self.point_loss(points, *points.draw(self.tuning.points, generator))[0]
        return self.ray_loss(points, generator)

    def points(self, number: int) -> Points:
        """The samples of a pool of rays."""
        if self._points is None or self._points[0] != number:
            self._points = None  # before the next ones are made: memory holds one pool
            self._points = number, Points.of(self.teacher, self.lessons.pool(number))
        return self._points[1]

    def ray_loss(self, points: Points, generator: torch.Generator) -> Tensor:
        """The squared error of the colours of some neighbouring rays over random backgrounds, and of their samples."""
        first = int(torch.randint(len(points.lesson), (1,), generator=generator))
        last = points.lesson.end(first, self.tuning.ray_points)
        begin, end = points.lesson.samples.starts[[first, last]].tolist()
        lesson = points.lesson.rays(first, last)
        share = lesson.samples.dt.new_tensor(1 / len(lesson))
        loss, sigma, rgb = self.point_loss(points, slice(begin, end), share)
        background = torch.rand(len(lesson), 3, generator=generator).to(self.teacher.device)
        seen = composite(sigma, rgb, lesson.samples, background).rgb
        target = lesson.color + lesson.transmittance[:, None] * background
        return loss + (seen - target).square().sum() / len(lesson)

    def point_loss(
        self, points: Points, index: Int64[Tensor, " n"] | slice, share: Float[Tensor, "*n"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss at some samples, each of which counts `share`; the student's sigma [N] and rgb [N, 3] there."""
        samples, student = points.lesson.samples, self.student
        features = student.features(samples.x[index])
        sigma, rgb = student.decode(features, samples.d[index])
        alpha = 1 - torch.exp(-sigma * samples.dt[index])
        log_density = student.spec.density.log(features[:, 0]).clamp(*LOG_DENSITY)
        visible = (rgb - points.lesson.rgb[index]).square().sum(-1)
        if self.shares_features:
            appearance = features[:, 1:] - points.lesson.features[index, 1:]
            visible = visible + self.tuning.features * appearance.square().sum(-1)
        dense = (alpha - points.alpha[index]).square()
        dense = dense + LOG_DENSITY_WEIGHT * (log_density - points.log_density[index]).square()
        loss = (share * (points.weights[index] * visible + points.transmittance[index] * dense)).sum()
        return loss, sigma, rgb


@torch.no_grad()
def start_from_means(student: VoxelsField, points: Points) -> None:
    """Sets each vertex to the mean of what the samples around it show, weighted by how much of it they do."""
    samples, unseen = points.lesson.samples, 1e-4
    light = points.transmittance * (points.alpha + EMPTY)
    logit = inverse_color(points.lesson.rgb, student.spec.color)
    told = torch.cat(
        [
            torch.stack([light * student.spec.density.logit(points.log_density), light, points.weights], -1),
            points.weights[:, None] * logit,
        ],
        -1,
    )
    sums = gathered(student, samples.x, told)
    sigma_logit, rgb_logit = sums[:, :1] / sums[:, 1:2], sums[:, 3:] / sums[:, 2:3]
    student.data.zero_()
    student.data[:, :1] = torch.where(sums[:, 1:2] > unseen, sigma_logit, UNSEEN)
    mean_color = student.data[:, 1:].unflatten(1, (3, -1))[:, :, 0]
    mean_color.copy_(torch.where(sums[:, 2:3] > unseen, rgb_logit / FIRST_HARMONIC, 0.0))


def gathered(student: VoxelsField, x: Float[Tensor, "m 3"], values: Float[Tensor, "m c"]) -> Float[Tensor, "rows c"]:
    """Values at points, added to the vertices around them by their trilinear weights."""
    sums = torch.zeros(len(student.data), values.shape[1], device=values.device)
    part = 1 << 18
    for u, value in zip(student.spec.space.to_unit(x).split(part), values.split(part), strict=True):
        sums += student.spread(u, value)
    return sums
