"""`--recipe fast`: the teacher's visible points, learned by how much each of them shows, then its rays.

Letters: w the weight of a sample in its ray's colour, T the light that reaches it, alpha its opacity, s log density,
clamped to [-2, 7], F the features between the blocks. A point teaches up to 19 numbers where a ray of dozens of
points teaches three, so points come first; they are drawn, each on its own, by how much they show, and weighted back,
which makes the mean over a batch that over all samples (`points.py`). The loss, a sum over the samples of a ray:

    w |rgb|^2 + T alpha^2 + 0.001 T s^2 + f w |F|^2        each a difference between student and teacher

rgb and alpha are what is seen; s gives a slope where alpha has none, in fog and in the dense; F, where both kinds share
it, says what the colours of all directions are; where they do not, |rgb|^2 from another direction is added. Students
whose cells are too coarse for the teacher end with rays, whose colour they can match though no point of them does:
|C|^2 is added and whole rays are taught, sampled about once a cell.

What makes the difference is variety: a point that comes back teaches little. So points are moved a little each time
they are drawn, and the teacher is asked anew; but a teacher that is slow to answer is asked once (`SLOW`).

Voxels start from a weighted mean of what the teacher says around each vertex instead of from noise: the first step of
the least squares fit, and already recognisable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldcast.distill.lessons import POOL, Lessons
from fieldcast.distill.points import EMPTY, Batch, Points, opacity
from fieldcast.distill.pvd import LOG_DENSITY, copy_networks, fingerprint
from fieldcast.fields.field import Field
from fieldcast.fields.heads import inverse_color
from fieldcast.fields.kinds.voxels import VoxelsField
from fieldcast.fields.occupancy import unravel
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering.rays import composite
from fieldcast.fields.training import Training, cosine

LOG_DENSITY_WEIGHT = 1e-3
EMPTINESS = 10.0  # empty points a ray, as it were: more of them would take from what is there
UNSEEN = -4.0  # the log density of vertices around which there is no sample that light reaches
FINAL_RATE = 7e-5
FIRST_HARMONIC = 0.5 / math.pi**0.5  # the constant one
SLOW = ("mlp", "nerf")  # teachers that take longer to answer than most students to learn


@dataclass(frozen=True)
class Tuning:
    """How a kind learns. rate, networks: factors on the learning rates of tables and networks in a run of `steps`; in
    shorter ones they grow. points: a step. features: f above. fresh: whether points are moved. rays: the last part of
    the steps, which teaches rays; ray_points: how many samples of them a step. reuse: times that a sample is drawn, on
    average. empty: points in empty cells a step, as a part of the others, of students that must be empty there.
    """

    steps: int
    rate: float
    networks: float = 1.0
    points: int = 1 << 13
    features: float = 0.3
    fresh: bool = True
    rays: float = 0.0
    ray_points: int = 1 << 16
    reuse: float = 3.0
    empty: float = 0.0


TUNED = {
    "mlp": Tuning(1400, 2.0, points=1 << 11, features=0.1, fresh=False, reuse=1.5),
    "hashgrid": Tuning(400, 2.0),
    "vm": Tuning(320, 5.0, 5.0, points=1 << 14),
    "cp": Tuning(800, 2.8, 8.0, points=1 << 12, features=0.1),
    "voxels": Tuning(240, 14.0, points=1 << 15, rays=0.3),
    "planes": Tuning(400, 5.0, 25.0, features=0.1),
    "hybrid": Tuning(500, 3.0, 9.0, features=0.1),
    "nerf": Tuning(1400, 2.0, points=1 << 11, fresh=False, reuse=1.5, empty=0.25),
    "tensorf": Tuning(320, 2.5, 5.0, points=1 << 14),
}


def fast_training(
    teacher: Field,
    student: Field,
    *,
    steps: int,
    seed: int,
    again: bool = False,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Training:
    """What trains `student` in place to be `teacher`; both know their occupancy, which must be the same.

    again: it was taught before, and goes on from where it is. progress: of asking the teacher.
    """
    teacher.requires_grad_(False)
    if not again:
        copy_networks(teacher, student)
    tuning = TUNED[student.spec.kind]
    course = Course(teacher, student, tuning, steps, seed, progress)
    if isinstance(student, VoxelsField) and not (again or resume):
        start_from_means(student, course.points(0))
    return Training(
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
    )


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
        self.fresh = tuning.fresh and teacher.spec.kind not in SLOW
        self.first_of_rays = steps - round(tuning.rays * steps)
        taught = self.first_of_rays * tuning.points + (steps - self.first_of_rays) * tuning.ray_points
        asked = round(taught / tuning.reuse)
        self.pools = max(1, round(asked / POOL))
        size = min(POOL, max(tuning.points, asked))
        self.lessons = Lessons(teacher, seed, pool=size, steps=ray_steps(student), progress=progress)
        self.shares_features = teacher.shares_features and student.shares_features
        self._points: tuple[int, Points] | None = None
        self.resolution = student.spec.occupancy
        # Programs whose networks have a rectified density know no cells: they look wherever a ray goes.
        looked_at = student.spec.density.name == "relu" and tuning.empty > 0
        self.empty = (~student.occupancy.cells().reshape(-1)).nonzero()[:, 0].cpu() if looked_at else torch.empty(0)

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """The loss of a step, on random points or rays of the pool that is taught then."""
        points = self.points(step * self.pools // self.steps)
        if not len(points.drawn):
            return self.student.occupancy_bits.new_zeros((), dtype=torch.float32)
        if step >= self.first_of_rays:
            return self.ray_loss(points, generator)
        index, share = points.draw(self.tuning.points, generator)
        fresh = points.near(self.teacher, index, share, generator) if self.fresh else points.at(index, share)
        return self.point_loss(fresh, generator)[0] + self.empty_loss(generator)

    def empty_loss(self, generator: torch.Generator) -> Tensor | float:
        """What the student shows in some of the cells in which nothing is, were they looked at."""
        count, space, resolution = round(self.tuning.points * self.tuning.empty), self.student.space, self.resolution
        if not len(self.empty):
            return 0.0
        chosen = self.empty[torch.randint(len(self.empty), (count,), generator=generator)]
        u = (unravel(chosen, resolution) + torch.rand(count, 3, generator=generator)) / resolution
        dt = torch.full((count,), 2 * space.unit / resolution, device=self.student.device)
        alpha, log_density, _ = opacity(self.student, self.student.logit(space.from_unit(u).to(dt.device)), dt)
        excess = log_density - LOG_DENSITY[0]
        return EMPTINESS * (alpha.square() + LOG_DENSITY_WEIGHT * excess.square()).mean()

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
        loss, sigma, rgb = self.point_loss(points.at(slice(begin, end), share), generator)
        background = torch.rand(len(lesson), 3, generator=generator).to(self.teacher.device)
        seen = composite(sigma, rgb, lesson.samples, background).rgb
        target = lesson.color + lesson.transmittance[:, None] * background
        return loss + (seen - target).square().sum() / len(lesson)

    def point_loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The loss at some points; the student's sigma [N] and rgb [N, 3] there."""
        student = self.student
        features = student.features(batch.x)
        rgb = student.color(features, batch.d)
        alpha, log_density, sigma = opacity(student, features[:, 0], batch.dt)
        visible = (rgb - batch.rgb).square().sum(-1)
        if self.shares_features:
            appearance = features[:, 1:] - batch.features[:, 1:]
            visible = visible + self.tuning.features * appearance.square().sum(-1)
        else:
            d = turned(batch.d, generator)
            with torch.no_grad():
                told = self.teacher.color(batch.features, d)
            visible = visible + (student.color(features, d) - told).square().sum(-1)
        dense = (alpha - batch.alpha).square() + LOG_DENSITY_WEIGHT * (log_density - batch.log_density).square()
        loss = (batch.share * (batch.weights * visible + batch.transmittance * dense)).sum()
        return loss, sigma, rgb


def ray_steps(student: Field) -> int | None:
    """Samples across the box diagonal that the student's cells ask for; None: as many as the teacher was made for."""
    return 2 * student.spec.sizes.longest if isinstance(student, VoxelsField) else None


def turned(d: Float[Tensor, "n 3"], generator: torch.Generator) -> Float[Tensor, "n 3"]:
    """Directions from which what is seen along `d` may be seen too: of the half space, more the nearer to `d`."""
    sphere = nn.functional.normalize(torch.randn(d.shape, generator=generator).to(d), dim=-1)
    return nn.functional.normalize(d + 0.999 * sphere, dim=-1)


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
    nothing = student.spec.density.logit(sums.new_tensor(UNSEEN))
    student.data[:, :1] = torch.where(sums[:, 1:2] > unseen, sigma_logit, nothing)
    mean_color = student.data[:, 1:].unflatten(1, (3, -1))[:, :, 0]
    mean_color.copy_(torch.where(sums[:, 2:3] > unseen, rgb_logit / FIRST_HARMONIC, 0.0))


def gathered(student: VoxelsField, x: Float[Tensor, "m 3"], values: Float[Tensor, "m c"]) -> Float[Tensor, "rows c"]:
    """Values at points, added to the vertices around them by their trilinear weights."""
    sums = torch.zeros(len(student.data), values.shape[1], device=values.device)
    part = 1 << 18
    for u, value in zip(student.spec.space.to_unit(x).split(part), values.split(part), strict=True):
        sums += student.spread(u, value)
    return sums
