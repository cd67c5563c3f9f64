"""PVD-AL, progressive volume distillation with active learning (Fang et al., arXiv 2304.04012): `--recipe active`.

The losses, stages, optimiser and schedule are those of `--recipe pvd`; what is taught turns to where the student is
still wrong, on three levels, all of them once rays are rendered (stage 3):

    poses    a tenth of the cameras stand where the tenth with the lowest PSNR stood before, turned by up to pi / 20
    rays     to the rays of a step come a tenth of as many, from the tenth with the largest L1 errors of colour
    points   the losses per sample point count the 30 % of each ray's points with the largest weights, by the teacher
             or by the student, and only on rays with an opacity of at least 0.5

Where this differs from the released code, on purpose:
- Hard cameras are those with the lowest PSNR. The released code pairs the PSNRs of shuffled poses with poses in order,
  which makes its choice random; and it counts the errors of hard rays among those of the pose they are taught with.
- It has epochs of poses, one picture of 4,096 new rays a step. Here the rays at hand come from thousands of cameras and
  are taught four times; after a round through them the oldest quarter makes room for new rays, whose cameras are a
  tenth hard ones. (Smaller pools, each taught four times on end, would know hard cameras as early, but their rays come
  back too soon: eight pools in a run cost 1.2 dB.) A camera is judged by its rays as they were last taught, within its
  lot of 128, whose rays are taught in the same few steps: between lots the student has learned.
- Hard rays are among those at hand; of each of them the error when it was last taught is known, so the hardest tenth is
  exact, and a ray that was learned leaves it. The released code overwrites random ones of a store of 614,400 rays.
- A step has as many sample points as one of `pvd`, those of the hard rays among them; the released code adds them.
- Points are those that light reaches (`lessons.py`), so 30 % of them are fewer than 30 % of all.
- The stages are on, as in the first paper. The release turns them off by default: all losses from the first step.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fieldcast.distill.lessons import CAMERAS, POOL, Lesson, Lessons, Pool, joined
from fieldcast.distill.pvd import (
    PUBLISHED_STEPS,
    Run,
    Stage,
    answer,
    backgrounds,
    feature_loss,
    point_loss,
    ray_error,
    ray_loss,
    training,
)
from fieldcast.distill.viewpoints import small_turns
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.field import Field
from fieldcast.fields.fit import sample_budget
from fieldcast.fields.kernels.compositing import ray_of_sample, ray_weights
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.training import Training

HARD_CAMERAS, TURN = CAMERAS // 10, math.pi / 20
HARD_RAYS = 10  # one in so many is hard, and to so many comes one of those
TELLING, OPACITY = (3, 10), 0.5  # the part of a ray's points that counts, and what it must hide
ROUNDS, PARTS = 4, 4  # of a run, at least, and of the rays at hand
LINGER = 1  # rounds after which the first rays at hand are all still there: nothing is known yet


@dataclass(frozen=True)
class Levels:
    """Which of them are active."""

    poses: bool = True
    rays: bool = True
    points: bool = True


def active_training(
    teacher: Field,
    student: Field,
    *,
    steps: int,
    seed: int,
    again: bool = False,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
    levels: Levels = Levels(),
) -> Training:
    """What trains `student` in place to be `teacher`; both know their occupancy, which must be the same.

    again: it was taught before, and goes on from where it is. progress: of asking the teacher.
    """
    budget = sample_budget(student)
    course = Course(teacher, seed, min(POOL, max(budget, steps * budget // ROUNDS)), levels, progress)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        stage, lesson = Stage.of(teacher, student, step * PUBLISHED_STEPS / steps), course.next(budget, generator)
        if not stage.decoded:
            return stage.feature * feature_loss(teacher, student, lesson)
        features, sigma, rgb = answer(student, lesson)
        if not stage.rendered:
            return point_loss(teacher, student, lesson, features, rgb, stage.feature)
        error = ray_error(lesson, sigma, rgb, backgrounds(lesson, generator))
        course.learned(error.detach())
        kept = telling(teacher, lesson, sigma.detach()) if levels.points else slice(None)
        return point_loss(teacher, student, lesson, features, rgb, stage.feature, kept) + ray_loss(student, error)

    run = Run(steps, seed, again, checkpoint, resume)
    identity = {"recipe": "active", "levels": asdict(levels)}
    return training(teacher, student, loss, run, state=course.state, identity=identity)


class Course:
    """Lessons of which those that were hard come back.

    The rays at hand are `PARTS` parts, numbered through the run. They are taught in rounds; from some round on, the
    oldest part makes room for a new one after each. place: [2], the round, and how many of its rays were taught.
    errors: [R, 2], for each ray at hand the sums over its channels of the absolute and of the squared error when it was
    last taught, -1 before that; the last rows may be missing. hard: for the last parts, the cameras that were hard when
    they were gathered, number by number modulo PARTS, as rows of c2w, intrinsics and size.
    """

    def __init__(self, teacher: Field, seed: int, window: int, levels: Levels, progress: Progress = silent) -> None:
        """window: how many samples are at hand."""
        self.levels = levels
        self.lessons = Lessons(teacher, seed, -(-window // PARTS), progress)
        self.place = torch.tensor([0, 0])
        self.errors = torch.zeros(0, 2, device=teacher.device)
        self.hard = [torch.zeros(0, 18) for _ in range(PARTS)]
        self.parts: dict[int, Pool] = {}

    @property
    def state(self) -> dict[str, Tensor]:
        """What continues the course."""
        return {"place": self.place, "errors": self.errors} | {f"hard.{n}": rows for n, rows in enumerate(self.hard)}

    def at_hand(self) -> Lesson:
        """The rays of this round."""
        first = max(0, int(self.place[0]) - LINGER)
        numbers = range(first, first + PARTS)
        if list(self.parts) != list(numbers):
            known, self.parts = self.parts, {}
            parts = [known.pop(n) if n in known else self.lessons.gather(n, partial(self.look, n)) for n in numbers]
            self.window = joined([part.lesson for part in parts])
            ends = torch.tensor([0, *(len(part.lesson) for part in parts)]).cumsum(0).tolist()
            for part, n, begin, end in zip(parts, numbers, ends, ends[1:], strict=False):
                self.parts[n] = replace(part, lesson=self.window.rays(begin, end))  # memory holds them once
        return self.window

    def look(self, part: int, generator: torch.Generator) -> Cameras:
        """Cameras to look through at once: new ones, and some at hard places, turned a little."""
        views, hard = self.lessons.views, self.hard[part % PARTS]
        if not len(hard):
            return views.draw(CAMERAS, generator)
        new = views.draw(CAMERAS - HARD_CAMERAS, generator)
        again = unpacked(hard[torch.randint(len(hard), (HARD_CAMERAS,), generator=generator)])
        turned = again.c2w[:, :, :3] @ small_turns(HARD_CAMERAS, TURN, generator)
        again = replace(again, c2w=torch.cat([turned, again.c2w[:, :, 3:]], -1))
        return unpacked(torch.cat([packed(new), packed(again)]))

    def next(self, points: int, generator: torch.Generator) -> Lesson:
        """The next rays, with about `points` samples; some of them are hard ones that were taught before."""
        window, bank, (number, first) = self.at_hand(), self.bank(), self.place.tolist()
        last = window.end(first, points * HARD_RAYS // (HARD_RAYS + 1) if len(bank) else points)
        bank = bank[(bank < first) | (bank >= last)]  # no ray twice
        some = torch.randperm(len(bank), generator=generator)[: (last - first) // HARD_RAYS]
        self.taught = torch.cat([torch.arange(first, last, device=bank.device), bank[some.to(bank.device)]])
        self.round_ends = last == len(window)
        self.place.copy_(torch.tensor([number + 1, 0] if self.round_ends else [number, last]))
        return window.take(self.taught)

    def bank(self) -> Int64[Tensor, " b"]:
        """The hardest tenth of the rays whose errors are known."""
        known = int((self.errors[:, 0] >= 0).sum()) if self.levels.rays else 0
        return self.errors[:, 0].topk(known // HARD_RAYS, sorted=False).indices

    def learned(self, error: Float[Tensor, "r 3"]) -> None:
        """Remembers how far the student was from the colours of the rays of the last lesson."""
        known = len(self.errors)
        self.errors.resize_(len(self.window), 2)[known:] = -1
        self.errors[self.taught] = torch.stack([error.abs().sum(-1), error.square().sum(-1)], -1)
        oldest = min(self.parts)
        if self.round_ends and oldest < max(0, int(self.place[0]) - LINGER):
            if self.levels.poses and bool((self.errors[:, 1] >= 0).all()):
                chosen = packed(self.hardest_cameras())
                self.hard[oldest % PARTS].resize_(chosen.shape).copy_(chosen)
            left = self.errors[len(self.parts[oldest].lesson) :].clone()
            self.errors.resize_(left.shape).copy_(left)

    def hardest_cameras(self) -> Cameras:
        """Those whose rays were seen with the lowest PSNR, a tenth of each lot."""
        chosen, squares = [], self.errors[:, 1].cpu().split([len(part.lesson) for part in self.parts.values()])
        for part, square in zip(self.parts.values(), squares, strict=True):
            total = torch.zeros(len(part.drawn)).index_add_(0, part.camera, square)
            mean = (total / part.drawn.clamp_min(1)).reshape(-1, CAMERAS)
            chosen += [
                packed(lot[worst]) for lot, worst in zip(part.looked, mean.topk(HARD_CAMERAS).indices, strict=True)
            ]
        return unpacked(torch.cat(chosen))


def packed(cameras: Cameras) -> Float[Tensor, "v 18"]:
    """Cameras of ideal lenses as rows."""
    return torch.cat([cameras.c2w.flatten(1), cameras.intrinsics, cameras.size.to(cameras.c2w)], -1)


def unpacked(rows: Float[Tensor, "v 18"]) -> Cameras:
    """The cameras of rows."""
    return Cameras(rows[:, :12].reshape(-1, 3, 4), rows[:, 12:16], rows[:, 16:].long())


def telling(teacher: Field, lesson: Lesson, sigma: Float[Tensor, " m"]) -> Bool[Tensor, " m"]:
    """The samples that show most of what the teacher, or the student with its densities `sigma`, shows."""
    samples = lesson.samples
    theirs = teacher.spec.density(lesson.features[:, 0]) / teacher.spec.space.unit
    return heaviest(theirs * samples.dt, samples.starts) | heaviest(sigma * samples.dt, samples.starts)


def heaviest(tau: Float[Tensor, " m"], starts: Int64[Tensor, " r1"]) -> Bool[Tensor, " m"]:
    """The 30 % of the samples of each ray that have the largest weights, rounded up; none where little is hidden.

    tau: optical depths.
    """
    weights, transmittance = ray_weights(tau, starts)
    ray, (part, whole) = ray_of_sample(starts, len(tau)), TELLING
    count = torch.where(1 - transmittance >= OPACITY, (part * starts.diff() + whole - 1) // whole, 0)
    order = (2.0 * ray.double() - weights).argsort()  # ray by ray, the heaviest first
    place = torch.arange(len(tau), device=tau.device) - starts[ray]
    return torch.zeros_like(ray, dtype=torch.bool).index_copy_(0, order, place < count[ray])
