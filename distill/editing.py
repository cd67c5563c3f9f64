"""Edits: boxes of a field taken out or moved, other fields brought in, and the result as a field of any kind.

`edited` is the edited scene itself: exact, lazy, made of the fields that went in. What a file can hold comes from it in
one of two ways:

    at once     where something was only taken out: the parameters stay as they are, and the occupancy, made finer,
                says where nothing is any more. Exact but for the faces, which follow the nearest cells.
    trained     all else: the edited scene teaches a student, as any other field would.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TypeGuard

import torch

from fieldcast.distill.convert import convert, student_spec
from fieldcast.distill.edits import Edits
from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.box import Box
from fieldcast.fields.cells import cell_centers
from fieldcast.fields.composed import Part, compose
from fieldcast.fields.cut import Cut
from fieldcast.fields.field import Field
from fieldcast.fields.kinds import KINDS, build
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.spec import FieldSpec

FINE = 256  # cells a side of the occupancy that shows where something was taken out


def edit(
    field: Field,
    edits: Edits,
    to: str | FieldSpec | None = None,
    *,
    recipe: str = "fast",
    steps: int | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Field:
    """The edited field: at once if that can be and no number of `steps` is given, else trained.

    to: a kind, at its default sizes (None: the field's own kind and sizes), or a whole spec. The rest is as in
    `convert`. The field is not changed.
    """
    scene = edited(field, edits)
    spec = to if isinstance(to, FieldSpec) else result_spec(scene, field.spec, to)
    if steps is None and is_at_once(scene, spec):
        return at_once(scene)
    return convert(
        scene, spec, recipe=recipe, steps=steps, seed=seed, checkpoint=checkpoint, resume=resume, progress=progress
    )


def edited(field: Field, edits: Edits) -> Field:
    """The edited scene, exactly: a `Cut`, or a `Composed` if something was moved or added."""
    _check(field, edits)
    moved = tuple(move.box for move in edits.moves)
    left = Cut(field, edits.crop, (*edits.erase, *moved))
    if edits.removes_alone():
        return left
    up = field.spec.space.up
    parts = [Part(left)]
    for move in edits.moves:
        within = move.box if edits.crop is None else move.box & edits.crop
        assert within is not None
        parts.append(Part(Cut(field, within, edits.erase), move.place.motion(move.box.center, up)))
    for addition in edits.additions:
        center = addition.field.spec.space.center
        parts.append(Part(addition.field, addition.place.motion(center, up)))
    return compose(parts)


def result_spec(scene: Field, own: FieldSpec, kind: str | None = None) -> FieldSpec:
    """The spec of a student of an edited scene: of the field's own kind and sizes, or a kind at its default sizes."""
    kind = kind or own.kind
    if kind != own.kind:
        return student_spec(scene.spec, kind)
    if kind not in KINDS:  # made of others: nothing can be taught to be one, but it can be cut
        return own
    sizes = replace(own.sizes, blocks=0) if own.kind == "voxels" else own.sizes  # those that are needed are chosen anew
    return replace(student_spec(scene.spec, own.kind), sizes=sizes, density=own.density, color=own.color)


def is_at_once(scene: Field, spec: FieldSpec) -> TypeGuard[Cut]:
    """Whether an edited scene can be had as `spec` without training: cut, and of its own kind and sizes."""
    return isinstance(scene, Cut) and spec == result_spec(scene, scene.whole.spec)


def at_once(scene: Cut) -> Field:
    """The field that was cut, with the same parameters, empty in the cells whose centres were taken out."""
    whole = scene.whole
    occupancy = finer(scene)
    if occupancy.fraction() == 0:
        raise FieldcastError("nothing is left of the field")
    spec = replace(whole.spec, occupancy=occupancy.resolution)
    with torch.device("meta"):
        result = build(spec)
    tensors = {name: value.detach().clone() for name, value in whole.state_dict().items()}
    result.load_state_dict(tensors | {"occupancy_bits": occupancy.bits}, assign=True)
    result.ready()
    result.requires_grad_(True)
    result.views = whole.views
    return result.allocate(occupancy)


def finer(scene: Cut) -> Occupancy:
    """The occupancy of the whole, in cells small enough for faces, without those whose centres were taken out."""
    own = scene.whole.occupancy
    times = max(1, FINE // own.resolution)
    resolution = own.resolution * times
    cells = own.cells()
    for axis in range(3):
        cells = cells.repeat_interleave(times, axis)
    for slab in range(resolution):
        centers = cell_centers(scene.spec.space, resolution, slab).to(cells.device)
        cells[slab] &= scene.keeps(centers).reshape(resolution, resolution)
    return Occupancy.of_cells(cells)


def face_error(field: Field) -> float:
    """How far the faces of what was taken out at once may be off, world units: half a cell of the box."""
    space = field.spec.space
    return (1 if space.bounded else 2) * space.unit / field.spec.occupancy


def _check(field: Field, edits: Edits) -> None:
    """Raises InputError if there is nothing to do, or a box is not where it can be."""
    space = field.spec.space
    whole = Box(space.aabb[:3], space.aabb[3:])
    if not edits.boxes() and not edits.additions:
        raise InputError("nothing to edit: expected at least one of crop, erase, move and add")
    for name, box in edits.boxes():
        if space.bounded and whole & box is None:
            raise InputError(f"{name} {box}: lies outside the field's box, which is {whole}")
    for one, other in combinations(edits.moves, 2):
        if one.box & other.box is not None:
            raise InputError(
                f"move {other.box}: overlaps the moved box {one.box}; what is in both would be there twice"
            )
    for move in edits.moves:
        if edits.crop is not None and edits.crop & move.box is None:
            raise InputError(f"move {move.box}: lies outside the crop {edits.crop}")
