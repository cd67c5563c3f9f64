"""Any scene to any other: fields, splats and meshes, each way by the route that is made for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldcast.distill import splats as from_field
from fieldcast.distill import views as from_views
from fieldcast.distill.convert import checked_recipe, student_spec
from fieldcast.distill.convert import convert as convert_field
from fieldcast.distill.meshing import mesh_of, mesh_sizes
from fieldcast.distill.meshing import source as from_mesh
from fieldcast.distill.steering import convert_to_fidelity, steps_within
from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Renderable
from fieldcast.fields.scenes.mesh import Surfaces
from fieldcast.fields.spec import FieldSpec, read
from fieldcast.fields.splats import Splats

SPLATS = "splats"
Facts = dict[str, Any]


@dataclass(frozen=True)
class How:
    """How to convert. recipe, target_db, budget: between fields. checkpoint, resume: also from a mesh to a field.

    steps: of training; target_db: until the fidelity is so many dB instead; budget: for so many seconds instead. None
    of them: what suits the way. textured: whether a mesh gets a texture besides the colours at its vertices.
    """

    recipe: str = "fast"
    steps: int | None = None
    target_db: float | None = None
    budget: float | None = None
    seed: int = 0
    checkpoint: Path | None = None
    resume: bool = False
    textured: bool = True

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

    def is_silent(self) -> bool:
        """Whether nothing was said of how long or by what to train."""
        return self == replace(How(), seed=self.seed, checkpoint=self.checkpoint, textured=self.textured)


def convert(
    scene: Field | Renderable | Mesh,
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
) -> Field | Splats | Mesh:
    """The same scene as another kind of field, as splats or as a mesh.

    to: a kind at its default sizes, `splats`, `mesh`, or the whole spec of a field. The others: see `How` and
    `distill.convert`.
    """
    scene = scene.surfaces() if isinstance(scene, Mesh) else scene
    how = How(recipe, steps, target_db, budget, seed, checkpoint, resume)
    if isinstance(to, str):
        return convert_scene(scene, to, {}, how, progress)[0]
    return to_field(scene, to, how, progress)[0]


def convert_scene(
    scene: Field | Renderable,
    kind: str,
    sizes: Mapping[str, Any],
    how: How,
    progress: Progress = silent,
    fitted: Callable[[FieldSpec], FieldSpec] = lambda spec: spec,
) -> tuple[Field | Splats | Mesh, Facts]:
    """The scene as another kind, and what is known of the run. Raises InputError for unknown names.

    A field that is of that kind, of which neither sizes nor training are asked for, is the scene itself.

    sizes: of the kind, as typed; of splats `count` and `degree`; of a mesh `resolution`, `faces` and `texture`. fitted:
    what the file that a field is made for asks of its spec.
    """
    if kind in OTHERS:
        return OTHERS[kind](scene, sizes, how, progress)
    spec = fitted(spec_for(scene, kind, sizes))
    if isinstance(scene, Field) and how.is_silent() and scene.spec == spec:
        return scene, {"recipe": "copy", "steps": 0, "seed": how.seed, "note": f"it is a {kind}: copied as it is"}
    return to_field(scene, spec, how, progress)


def spec_for(scene: Field | Renderable, kind: str, sizes: Mapping[str, Any]) -> FieldSpec:
    """What the scene becomes as a kind, some sizes of which were typed: a field of that kind stays as large as it is.

    Raises InputError for unknown names.
    """
    if not isinstance(scene, Field):
        return from_views.spec_in(scene, kind).resized(dict(sizes))
    spec = student_spec(scene.spec, kind).resized(dict(sizes))
    own = scene.spec.sizes
    if scene.spec.kind == kind and all(getattr(spec.sizes, name) == getattr(own, name) for name in sizes):
        return scene.spec
    return spec


def to_field(scene: Field | Renderable, spec: FieldSpec, how: How, progress: Progress = silent) -> tuple[Field, Facts]:
    """The scene as a field, and what is known of the run."""
    if isinstance(scene, Field):
        return _between_fields(scene, spec, how, progress)
    if isinstance(scene, Surfaces):
        return _from_mesh(scene, spec, how, progress)
    return _from_views(scene, spec, how, progress)


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
    _by_steps_alone(how, "to and from splats")
    steps = how.steps or from_views.STEPS
    field = from_views.field_from_views(scene, spec, steps=steps, seed=how.seed, progress=progress)
    return field, {"recipe": "views", "steps": steps, "seed": how.seed}


def _from_mesh(mesh: Surfaces, spec: FieldSpec, how: How, progress: Progress) -> tuple[Field, Facts]:
    _by_steps_alone(how, "from meshes", resumes=True)
    field = from_mesh.field_of_mesh(
        mesh,
        spec,
        steps=how.steps or from_mesh.STEPS,
        seed=how.seed,
        checkpoint=how.checkpoint,
        resume=how.resume,
        progress=progress,
    )
    return field, {"seed": how.seed}


def _to_splats(
    scene: Field | Renderable, sizes: Mapping[str, Any], how: How, progress: Progress
) -> tuple[Splats, Facts]:
    _by_steps_alone(how, "to and from splats")
    if isinstance(scene, Splats):
        if sizes:
            raise InputError("sizes of splats: from splats to splats the format changes alone")
        return scene, {"recipe": "none", "steps": 0, "seed": how.seed}
    field = _as_field(scene, "splats")
    wanted = read(from_field.SplatSizes, dict(sizes), "sizes of splats", lax=True)
    steps = from_field.STEPS if how.steps is None else how.steps
    splats = from_field.to_splats(field, wanted, steps=steps, seed=how.seed, progress=progress)
    return splats, {"recipe": "surfaces", "steps": steps, "seed": how.seed}


def _to_mesh(scene: Field | Renderable, sizes: Mapping[str, Any], how: How, progress: Progress) -> tuple[Mesh, Facts]:
    _by_steps_alone(how, "to meshes")
    field, wanted = _as_field(scene, "meshes"), mesh_sizes(dict(sizes))
    mesh, level = mesh_of(field, wanted, textured=how.textured, seed=how.seed, progress=progress)
    return mesh, {"seed": how.seed, "level": level}


# What is no field, and the way to it.
OTHERS: dict[str, Callable[..., tuple[Splats | Mesh, Facts]]] = {SPLATS: _to_splats, "mesh": _to_mesh}


def _as_field(scene: Field | Renderable, ends: str) -> Field:
    """The scene itself, if it is a field."""
    if not isinstance(scene, Field):
        raise InputError(f"only fields become {ends}; convert to a field first, with --to hashgrid")
    return scene


def _by_steps_alone(how: How, way: str, resumes: bool = False) -> None:
    """Raises InputError for what only conversions between fields can do; resumes: whether this way can be."""
    if how.resume and not resumes:
        raise InputError(f"--resume: conversions {way} keep no checkpoint")
    for name, value in {"--target-db": how.target_db, "--budget": how.budget}.items():
        if value is not None:
            raise InputError(f"{name}: conversions {way} are told their --steps and sizes")
