"""Any scene to any other: fields and splats, each way by the route that is made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldcast.distill import splats as from_field
from fieldcast.distill import views as from_views
from fieldcast.distill.convert import checked_recipe, student_spec
from fieldcast.distill.convert import convert as convert_field
from fieldcast.distill.steering import convert_to_fidelity, steps_within
from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Renderable
from fieldcast.fields.spec import FieldSpec, read
from fieldcast.fields.splats import Splats

SPLATS = "splats"
Facts = dict[str, Any]


@dataclass(frozen=True)
class How:
    """How to convert. recipe, target_db, budget, checkpoint, resume: between fields.

    steps: of training; target_db: until the fidelity is so many dB instead; budget: for so many seconds instead. None
    of them: what suits the way.
    """

    recipe: str = "fast"
    steps: int | None = None
    target_db: float | None = None
    budget: float | None = None
    seed: int = 0
    checkpoint: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        ends = {"--steps": self.steps, "--target-db": self.target_db, "--budget": self.budget}
        given = [name for name, value in ends.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)}: each says when to end; give one of them")
        # NaN passes every range that click checks.
        if self.target_db is not None and not 1 <= self.target_db <= 100:
            raise InputError(f"--target-db {self.target_db:g}: expected 1 to 100")
        if self.budget is not None and not 1 <= self.budget <= 1e6:
            raise InputError(f"--budget {self.budget:g}: expected at least 1 and at most 1000000 seconds")
        if self.budget is not None and self.resume:
            raise InputError("--budget and --resume: expected --steps, with the number that the first run told")


def convert(
    scene: Field | Renderable,
    to: str | FieldSpec,
    *,
    recipe: str = "fast",
    steps: int | None = None,
    target_db: float | None = None,
    budget: float | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Field | Splats:
    """The same scene as another kind of field, or as splats.

    to: a kind at its default sizes, `splats`, or the whole spec of a field. The others: see `How` and
    `distill.convert`.
    """
    how = How(recipe, steps, target_db, budget, seed, checkpoint, resume)
    if isinstance(to, str):
        return convert_scene(scene, to, {}, how, progress)[0]
    if isinstance(scene, Field):
        return _between_fields(scene, to, how, progress)[0]
    return _from_views(scene, to, how, progress)[0]


def convert_scene(
    scene: Field | Renderable, kind: str, sizes: Mapping[str, Any], how: How, progress: Progress = silent
) -> tuple[Field | Splats, Facts]:
    """The scene as another kind, and what is known of the run. Raises InputError for unknown names.

    sizes: of the kind, as typed; of splats `count` and `degree`.
    """
    if kind == SPLATS:
        return _to_splats(scene, sizes, how, progress)
    if isinstance(scene, Field):
        return _between_fields(scene, student_spec(scene.spec, kind).resized(dict(sizes)), how, progress)
    return _from_views(scene, from_views.spec_in(scene, kind).resized(dict(sizes)), how, progress)


def _between_fields(field: Field, spec: FieldSpec, how: How, progress: Progress) -> tuple[Field, Facts]:
    recipe, facts = checked_recipe(how.recipe), {"recipe": how.recipe, "seed": how.seed}
    if how.target_db is not None:
        reached = convert_to_fidelity(
            field,
            spec,
            how.target_db,
            recipe=how.recipe,
            seed=how.seed,
            checkpoint=how.checkpoint,
            resume=how.resume,
            progress=progress,
        )
        last = reached.rounds[-1]
        told = {"reached": reached.enough, "note": reached.summary()}
        return reached.student, {**facts, "steps": last.steps, "target_db": how.target_db, **told}
    if how.budget is not None:
        steps = steps_within(field, spec, how.budget, recipe=how.recipe, seed=how.seed, progress=progress)
        student, facts = _between_fields(field, spec, replace(how, budget=None, steps=steps), progress)
        return student, {**facts, "budget": how.budget, "note": f"budget of {how.budget:g} s: {steps} steps"}
    steps = how.steps or recipe.steps(spec.kind)
    student = convert_field(
        field,
        spec,
        recipe=how.recipe,
        steps=steps,
        seed=how.seed,
        checkpoint=how.checkpoint,
        resume=how.resume,
        progress=progress,
    )
    return student, {**facts, "steps": steps}


def _from_views(scene: Renderable, spec: FieldSpec, how: How, progress: Progress) -> tuple[Field, Facts]:
    _by_steps_alone(how)
    steps = how.steps or from_views.STEPS
    field = from_views.field_from_views(scene, spec, steps=steps, seed=how.seed, progress=progress)
    return field, {"recipe": "views", "steps": steps, "seed": how.seed}


def _to_splats(
    scene: Field | Renderable, sizes: Mapping[str, Any], how: How, progress: Progress
) -> tuple[Splats, Facts]:
    _by_steps_alone(how)
    if isinstance(scene, Splats):
        if sizes:
            raise InputError("sizes of splats: from splats to splats the format changes alone")
        return scene, {"recipe": "none", "steps": 0, "seed": how.seed}
    if not isinstance(scene, Field):
        raise InputError("only fields become splats; convert to a field first, with --to hashgrid")
    wanted = read(from_field.SplatSizes, dict(sizes), "sizes of splats", lax=True)
    steps = from_field.STEPS if how.steps is None else how.steps
    splats = from_field.to_splats(scene, wanted, steps=steps, seed=how.seed, progress=progress)
    return splats, {"recipe": "surfaces", "steps": steps, "seed": how.seed}


def _by_steps_alone(how: How) -> None:
    """Raises InputError for what only conversions between fields can do."""
    if how.resume:
        raise InputError("--resume: conversions to and from splats keep no checkpoint")
    for name, value in {"--target-db": how.target_db, "--budget": how.budget}.items():
        if value is not None:
            raise InputError(f"{name}: conversions to and from splats are told their --steps")
