"""Any scene to any other: fields and splats, each way by the route that is made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldcast.distill import splats as from_field
from fieldcast.distill import views as from_views
from fieldcast.distill.convert import RECIPES, student_spec
from fieldcast.distill.convert import convert as convert_field
from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Renderable
from fieldcast.fields.spec import FieldSpec, read
from fieldcast.fields.splats import Splats

SPLATS = "splats"


@dataclass(frozen=True)
class Wanted:
    """What to convert to, and how: as typed on a command line.

    kind: of field, or `splats`. sizes: of the kind; of splats `count` and `degree`. recipe: between fields. steps: of
    training; None: what suits the way. checkpoint, resume: between fields.
    """

    kind: str
    sizes: Mapping[str, Any]
    recipe: str = "fast"
    steps: int | None = None
    seed: int = 0
    checkpoint: Path | None = None
    resume: bool = False


def convert(
    scene: Field | Renderable,
    to: str | FieldSpec,
    *,
    recipe: str = "fast",
    steps: int | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Field | Splats:
    """The same scene as another kind of field, or as splats.

    to: a kind at its default sizes, `splats`, or the whole spec of a field. recipe, checkpoint, resume: between fields,
    see `distill.convert`. steps: of training (default: what suits the way).
    """
    if isinstance(to, str):
        return convert_scene(scene, Wanted(to, {}, recipe, steps, seed, checkpoint, resume), progress)[0]
    if isinstance(scene, Field):
        options: dict[str, Any] = {"recipe": recipe, "checkpoint": checkpoint, "resume": resume}
        return convert_field(scene, to, steps=steps, seed=seed, progress=progress, **options)
    return from_views.field_from_views(scene, to, steps=steps or from_views.STEPS, seed=seed, progress=progress)


def convert_scene(
    scene: Field | Renderable, wanted: Wanted, progress: Progress = silent
) -> tuple[Field | Splats, dict[str, Any]]:
    """The scene as another kind, and what is known of the run. Raises InputError for unknown names."""
    if wanted.kind == SPLATS:
        return _to_splats(scene, wanted, progress)
    if isinstance(scene, Field):
        spec = student_spec(scene.spec, wanted.kind).resized(dict(wanted.sizes))
        steps = wanted.steps or (RECIPES[wanted.recipe].steps(wanted.kind) if wanted.recipe in RECIPES else None)
        options: dict[str, Any] = {name: getattr(wanted, name) for name in ("recipe", "seed", "checkpoint", "resume")}
        student = convert_field(scene, spec, steps=steps, progress=progress, **options)
        return student, _facts(wanted, wanted.recipe, steps)
    _no_resuming(wanted)
    spec = from_views.spec_in(scene, wanted.kind).resized(dict(wanted.sizes))
    steps = wanted.steps or from_views.STEPS
    field = from_views.field_from_views(scene, spec, steps=steps, seed=wanted.seed, progress=progress)
    return field, _facts(wanted, "views", steps)


def _to_splats(scene: Field | Renderable, wanted: Wanted, progress: Progress) -> tuple[Splats, dict[str, Any]]:
    _no_resuming(wanted)
    if isinstance(scene, Splats):
        if wanted.sizes:
            raise InputError("sizes of splats: from splats to splats the format changes alone")
        return scene, _facts(wanted, "none", 0)
    if not isinstance(scene, Field):
        raise InputError("only fields become splats; convert to a field first, with --to hashgrid")
    sizes = read(from_field.SplatSizes, dict(wanted.sizes), "sizes of splats", lax=True)
    steps = from_field.STEPS if wanted.steps is None else wanted.steps
    splats = from_field.to_splats(scene, sizes, steps=steps, seed=wanted.seed, progress=progress)
    return splats, _facts(wanted, "surfaces", steps)


def _no_resuming(wanted: Wanted) -> None:
    if wanted.resume:
        raise InputError("--resume: conversions to and from splats keep no checkpoint")


def _facts(wanted: Wanted, recipe: str, steps: int | None) -> dict[str, Any]:
    return {"recipe": recipe, "steps": steps, "seed": wanted.seed}
