"""Field of any kind to field of any kind, without images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fieldcast.distill import fast, pvd
from fieldcast.distill.active import active_training
from fieldcast.distill.fast import fast_training
from fieldcast.distill.pvd import pvd_training
from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.composed import origin
from fieldcast.fields.field import Field
from fieldcast.fields.kinds import build, default_spec, kind_class
from fieldcast.fields.kinds.voxels import VoxelsField, VoxelsSizes
from fieldcast.fields.occupancy import Occupancy, cell_density, threshold, unravel
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.spec import FieldSpec
from fieldcast.fields.training import Training, require_checkpoint


@dataclass(frozen=True)
class Recipe:
    """training: what trains a student in place. steps: how many a kind takes unless told otherwise."""

    training: Callable[..., Training]
    steps: Callable[[str], int]


RECIPES = {
    "fast": Recipe(fast_training, lambda kind: fast.TUNED[kind].steps),
    "pvd": Recipe(pvd_training, lambda kind: pvd.STEPS),
    "active": Recipe(active_training, lambda kind: pvd.STEPS),
}


def student_spec(teacher: FieldSpec, kind: str) -> FieldSpec:
    """The spec of a student: the kind's default sizes, in the teacher's space and over its background."""
    shared = {n: getattr(teacher, n) for n in ("space", "background", "occupancy", "steps")}
    return default_spec(kind, **shared)


def convert(
    teacher: Field,
    to: str | FieldSpec,
    *,
    recipe: str = "fast",
    steps: int | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Field:
    """A field of another kind, or of other sizes, that is the same scene.

    to: a kind, at its default sizes, or a whole spec. recipe: `fast`, `pvd` as published, or `active`, pvd with active
    learning. steps: of training (default: the recipe's own). The teacher is not changed. Raises InputError for unknown
    names, FieldcastError when the teacher is empty or the loss diverges.
    """
    require_checkpoint(checkpoint, resume)
    pair = Pair.of(teacher, to, recipe, seed, progress)
    pair.teach(
        steps or pair.recipe.steps(pair.student.spec.kind),
        seed,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    return pair.finished(seed, progress)


@dataclass
class Pair:
    """A teacher and its student, which can be taught again and again.

    taught: whether it was before: it goes on from where it is then.
    """

    teacher: Field
    student: Field
    recipe: Recipe
    taught: bool = False

    @classmethod
    def of(
        cls, teacher: Field, to: str | FieldSpec, recipe: str = "fast", seed: int = 0, progress: Progress = silent
    ) -> Pair:
        """A copy of the teacher that knows where it is empty, and a student that knows nothing else yet."""
        chosen = checked_recipe(recipe)
        spec = student_spec(teacher.spec, to) if isinstance(to, str) else to
        kind_class(spec.kind)  # one that is made of others can not be taught
        if spec.space != teacher.spec.space or spec.occupancy != teacher.spec.occupancy:
            raise InputError("the student's spec: expected the teacher's space and occupancy resolution")
        if isinstance(spec.sizes, VoxelsSizes):  # the blocks that are needed are chosen anew
            spec = replace(spec, sizes=replace(spec.sizes, blocks=0))
        occupancy = known_occupancy(teacher, seed, progress)
        if occupancy.fraction() == 0:
            raise FieldcastError("the field is empty: it has no density that would show anywhere in its box")
        student = build(spec, seed).to(teacher.device).allocate(occupancy)
        start_as_origin(student, teacher)
        student.occupancy, student.views = occupancy, teacher.views
        return cls(frozen_copy(teacher, occupancy), student, chosen)

    def teach(
        self,
        steps: int,
        seed: int,
        *,
        checkpoint: Path | None = None,
        resume: bool = False,
        progress: Progress = silent,
    ) -> None:
        """One whole schedule of `steps`."""
        training = self.recipe.training(
            self.teacher,
            self.student,
            steps=steps,
            seed=seed,
            again=self.taught,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
        )
        training.run(progress)
        self.taught = True

    def finished(self, seed: int, progress: Progress = silent) -> Field:
        """The student. What it has made empty is not marched through any more, and sparse kinds do not store it."""
        kept = tightened(self.student, seed, progress)
        return self.student.allocate(kept if kept.fraction() > 0 else self.student.occupancy)


def checked_recipe(name: str) -> Recipe:
    """The recipe of that name; an unknown name lists the valid ones."""
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}: choose from {', '.join(RECIPES)}")
    return RECIPES[name]


def start_as_origin(student: Field, teacher: Field) -> bool:
    """Gives the student of an edited scene all parameters of what was edited, if they fit; most of them are right."""
    whole = origin(teacher)
    same = all(getattr(whole.spec, name) == getattr(student.spec, name) for name in ("kind", "sizes", "space"))
    if whole is teacher or not same or isinstance(student, VoxelsField):  # whose blocks are chosen anew
        return False
    student.load_state_dict({name: value.detach() for name, value in whole.named_parameters()}, strict=False)
    return True


def frozen_copy(field: Field, occupancy: Occupancy) -> Field:
    """A field that shares `field`'s tensors but not its flags, to teach with."""
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in field.parameters()}
    shared |= {id(b): b for b in field.buffers()}
    copied = copy.deepcopy(field, shared)
    copied.occupancy, copied.views = occupancy, field.views
    return copied


def known_occupancy(field: Field, seed: int, progress: Progress = silent) -> Occupancy:
    """The field's occupancy; if it never was looked up, the cells with a density that shows, and their neighbours.

    A few looks into a cell can miss a thin surface: of a NeRF of lego 0.5 dB are lost without the neighbours.
    """
    return tightened(field, seed, progress).grown() if field.occupancy.is_full() else field.occupancy


def tightened(field: Field, seed: int, progress: Progress = silent) -> Occupancy:
    """The occupied cells in which the field has a density that shows: less will do far away, where cells are large."""

    @torch.no_grad()
    def density(x: Tensor) -> Tensor:
        return field.density(x)

    space, generator = field.spec.space, torch.Generator().manual_seed(seed)
    found = cell_density(density, space, field.occupancy, generator=generator, progress=progress)
    resolution = len(found)
    middles = (unravel(torch.arange(resolution**3, device=found.device), resolution) + 0.5) / resolution
    return Occupancy.of_cells(found * space.stretch(middles).reshape(found.shape) > threshold(space))


def resized(teacher: FieldSpec, kind: str, sizes: dict[str, str]) -> FieldSpec:
    """The spec of a student with some sizes changed, as typed on a command line."""
    return replace(student_spec(teacher, kind)).resized(sizes)
