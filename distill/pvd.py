"""Progressive Volume Distillation as published (Fang et al., AAAI 2023, arXiv 2211.15977): `--recipe pvd`.

Letters: F the features [M, 16] between the two blocks, s the logarithm of density clamped to [-2, 7], C rendered
colour; every loss is the Frobenius norm of the difference between student and teacher. Of 30,000 steps:

    stage 1, to 2,000     w_F |F|                                        where: block 1 alone
    stage 2, to 5,000     0.002 |rgb| + 0.002 |s| + w_F |F|              per sample point
    stage 3, to the end   |C| + 0.002 |rgb| + 0.002 |s| + w_F |F|        and rendered rays, plus the kind's regulariser

with w_F = 0.002 * 0.995^step. Fewer steps shrink the whole schedule in proportion. Random background; the teacher's
occupancy is the student's and never changes; networks of equal shape are copied from the teacher; AdamW with weight
decay 0.01, learning rates falling along a cosine to 7e-5.

Where this differs, on purpose:
- No dataset: cameras come from `Viewpoints`. The released code needs a folder of poses and their intrinsics.
- The clamp on log density is in the loss alone. In the released code the fields themselves are clamped, which fills
  occupied but empty space with fog (sigma >= 0.135); here a density below e^-2 is pulled down by the rendered rays.
- Appearance features of a VM student are not clamped with the density's clamp, which makes them unreachable.
- The rays of a step come from many cameras, where the released code has one random camera a step; samples that no
  light reaches through the teacher are left out; and what the teacher says is taught four times (`lessons.py`).
- The jitter of samples along rays is drawn anew for each ray, not from a constant seed.
- Rays per step follow a budget of samples that suits the device, where the released code has 4,096 rays.
- float32, where the released code has float16 with a gradient scaler.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fieldcast.distill.lessons import POOL, USES, Lesson, Lessons
from fieldcast.fields.composed import origin
from fieldcast.fields.field import Field
from fieldcast.fields.fit import sample_budget
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering.rays import composite
from fieldcast.fields.training import Training, cosine

STEPS, PUBLISHED_STEPS = 1_000, 30_000
STAGE_ENDS = (2_000, 5_000)
LOG_DENSITY = (-2.0, 7.0)
POINT_WEIGHT = 0.002
FEATURE_WEIGHT, FEATURE_DECAY = 0.002, 0.995
FINAL_RATE = 7e-5


def pvd_training(
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
    budget = sample_budget(student)
    lessons = Lessons(teacher, seed, pool_size(max(budget, steps * budget // USES)), progress)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        stage, lesson = Stage.of(teacher, student, step * PUBLISHED_STEPS / steps), lessons.next(budget)
        if not stage.decoded:
            return stage.feature * feature_loss(teacher, student, lesson)
        return block_loss(teacher, student, lesson, backgrounds(lesson, generator), stage.feature, stage.rendered)

    run = Run(steps, seed, again, checkpoint, resume)
    return training(teacher, student, loss, run, state={"lessons": lessons.place}, identity={"recipe": "pvd"})


@dataclass(frozen=True)
class Run:
    """How long, with which random numbers; whether the student was taught before; where resumable state is kept, and
    whether to continue it.
    """

    steps: int
    seed: int
    again: bool
    checkpoint: Path | None
    resume: bool


def training(
    teacher: Field,
    student: Field,
    loss: Callable[[int, torch.Generator], Tensor],
    run: Run,
    *,
    state: dict[str, Tensor],
    identity: dict[str, Any],
) -> Training:
    """What trains `student` as published, whatever the losses of its steps; state, identity: as in `Training`."""
    teacher.requires_grad_(False)
    if not run.again:
        copy_networks(teacher, student)
    return Training(
        student,
        loss,
        cosine(run.steps, FINAL_RATE),
        run.steps,
        run.seed,
        f"{teacher.spec.kind} to {student.spec.kind}",
        weight_decay=0.01,
        state=state,
        identity={**identity, "teacher": fingerprint(teacher) if run.checkpoint else ""},
        checkpoint=run.checkpoint,
        resume=run.resume,
    )


def pool_size(points: int) -> int:
    """The size of pools, all the same, that have so many sample points together."""
    return -(-points // -(-points // POOL))


@dataclass(frozen=True)
class Stage:
    """Which losses count. feature: w_F. decoded: block 2 is taught too. rendered: and rays."""

    feature: float
    decoded: bool
    rendered: bool

    @classmethod
    def of(cls, teacher: Field, student: Field, published: float) -> Stage:
        """The stage at a step of the published schedule."""
        agree = teacher.shares_features and student.shares_features
        feature = feature_weight(published) if agree else 0.0
        return cls(feature, not agree or published >= STAGE_ENDS[0], published >= STAGE_ENDS[1])


def backgrounds(lesson: Lesson, generator: torch.Generator) -> Tensor:
    """A random colour [R, 3] behind each ray."""
    return torch.rand(len(lesson), 3, generator=generator).to(lesson.color)


def fingerprint(field: Field) -> str:
    """A hash of all that a field is: a run that began with one teacher must not go on with another."""
    digest = hashlib.sha256(json.dumps(field.spec.to_json()).encode())
    views = field.views
    seen_from = [] if views is None else [views.c2w, views.intrinsics, views.size]
    for value in (*field.state_dict().values(), *seen_from):
        digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def copy_networks(teacher: Field, student: Field) -> list[str]:
    """Copies the teacher's color_net and sigma_net where the student's have the same shapes; returns their names."""
    copied = []
    for name in ("color_net", "sigma_net"):
        source, target = getattr(origin(teacher), name, None), getattr(student, name, None)
        if source is None or target is None:
            continue
        tensors = source.state_dict()
        if {k: v.shape for k, v in tensors.items()} == {k: v.shape for k, v in target.state_dict().items()}:
            target.load_state_dict(tensors)
            copied.append(name)
    return copied


def feature_weight(published: float) -> float:
    """w_F at a step of the published schedule."""
    return FEATURE_WEIGHT * float(FEATURE_DECAY**published)


def clamped(field: Field, features: Tensor) -> tuple[Tensor, Tensor]:
    """The clamped log density s [M], per half box side, and F [M, 16] with s as its first column."""
    s = field.spec.density.log(features[:, 0]).clamp(*LOG_DENSITY)
    return s, torch.cat([s[:, None], features[:, 1:]], -1)


def difference(student: Tensor, teacher: Tensor) -> Tensor:
    """The Frobenius norm of the difference of two tensors, whole."""
    return torch.sqrt((student - teacher).square().sum() + 1e-20)  # its gradient is finite at 0 too


def feature_loss(teacher: Field, student: Field, lesson: Lesson) -> Tensor:
    """|F_student - F_teacher| at the sample points."""
    return difference(clamped(student, student.features(lesson.samples.x))[1], clamped(teacher, lesson.features)[1])


def block_loss(
    teacher: Field, student: Field, lesson: Lesson, background: Tensor, feature: float, rendered: bool
) -> Tensor:
    """The losses of stages 2 and 3; `feature` is w_F, `rendered` adds the rays."""
    features, sigma, rgb = answer(student, lesson)
    total = point_loss(teacher, student, lesson, features, rgb, feature)
    return total + ray_loss(student, ray_error(lesson, sigma, rgb, background)) if rendered else total


def answer(student: Field, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
    """What the student says at the samples of a lesson: features [M, F], sigma [M], rgb [M, 3]."""
    features = student.features(lesson.samples.x)
    return features, *student.decode(features, lesson.samples.d)


def point_loss(
    teacher: Field,
    student: Field,
    lesson: Lesson,
    features: Tensor,
    rgb: Tensor,
    feature: float,
    kept: Tensor | slice = slice(None),
) -> Tensor:
    """0.002 |rgb| + 0.002 |s| + w_F |F| at the sample points, or at those of them that are kept."""
    s_t, f_t = clamped(teacher, lesson.features[kept])
    s_s, f_s = clamped(student, features[kept])
    total = POINT_WEIGHT * (difference(rgb[kept], lesson.rgb[kept]) + difference(s_s, s_t))
    return total + feature * difference(f_s, f_t) if feature > 0 else total


def ray_error(lesson: Lesson, sigma: Tensor, rgb: Tensor, background: Tensor) -> Tensor:
    """C of the student less that of the teacher [R, 3], over the same backgrounds."""
    target = lesson.color + lesson.transmittance[:, None] * background
    return composite(sigma, rgb, lesson.samples, background).rgb - target


def ray_loss(student: Field, error: Tensor) -> Tensor:
    """|C|, and the kind's own regulariser."""
    total, penalty = difference(error, torch.zeros_like(error)), student.regularizer()
    return total if penalty is None else total + penalty
