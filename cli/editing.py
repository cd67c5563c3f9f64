"""`edit`: boxes of a field taken out or moved, other fields brought in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldcast.cli import options
from fieldcast.cli.arguments import check_page, checkpoint_of, opened, provenance
from fieldcast.cli.results import Output, conclude
from fieldcast.console import Console

if TYPE_CHECKING:
    from fieldcast.distill.edits import Edits


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.safetensors|OUT.png", type=click.Path(path_type=Path))
@click.option("--crop", metavar="BOX", help="Keep what is in the box.")
@click.option("--erase", multiple=True, metavar="BOX", help="Take out what is in the box.")
@click.option("--move", multiple=True, metavar="'BOX by dx,dy,dz'", help="Put what is in the box elsewhere.")
@click.option("--add", multiple=True, metavar="'FILE by dx,dy,dz'", help="Bring in another field.")
@click.option("--to", "kind", metavar="KIND", help=f"One of {options.KIND_NAMES} (default: that of IN, at its sizes).")
@options.RECIPE
@options.TRAINING_STEPS
@options.SEED
@options.SIZES
@options.VIEWS
@options.PAGE
@options.DEVICE
@options.RESUME
@options.FORCE
@options.reporting
def edit(
    console: Console,
    source: Path,
    out: Path,
    crop: str | None,
    erase: tuple[str, ...],
    move: tuple[str, ...],
    add: tuple[str, ...],
    kind: str | None,
    sizes: dict[str, Any],
    views: int,
    page: Path | None,
    device: str,
    force: bool,
    **training: Any,
) -> None:
    """Boxes of a field taken out or moved, other fields brought in.

    A BOX is x0,y0,z0,x1,y1,z1 in world units; `info` shows the field's own (aabb). All boxes are places in IN as it
    is. `turn DEGREES` (about up) and `scale FACTOR` may follow `by dx,dy,dz`. OUT.png is a picture of before, with the
    boxes, and after, to find them with; nothing else is written then.

    What was only cropped or erased stays the field that it was, at once, unless another kind, other sizes or --steps
    are asked for. All else is trained, as by `convert`. Both end with a report.

    \b
    fieldcast edit lego.safetensors look.png --erase "-0.6,-1.3,0.25,0.6,-0.4,1.1"
    fieldcast edit lego.safetensors less.safetensors --erase "-0.6,-1.3,0.25,0.6,-0.4,1.1"
    fieldcast edit lego.safetensors up.safetensors --move "-0.6,-1.3,0.25,0.6,-0.4,1.1 by 0,0,0.3"
    fieldcast edit lego.safetensors two.safetensors --add "lego.safetensors by 1.9,0,0 turn 90" --to vm
    """
    from fieldcast.distill.convert import checked_recipe
    from fieldcast.distill.editing import at_once, edited, face_error, is_at_once, result_spec
    from fieldcast.distill.preview import preview
    from fieldcast.distill.scenes import How, to_field
    from fieldcast.fields.cut import Cut
    from fieldcast.fields.files import ancestry, checked_suffix, save, sha256
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.fields.files.images import save_png
    from fieldcast.fields.training import require_checkpoint

    picture = out.suffix.lower() == ".png"
    check_writable(out if picture else checked_suffix(out), force)
    check_page(page, force)
    how = How(**training, checkpoint=checkpoint_of(out))
    checked_recipe(how.recipe)
    require_checkpoint(how.checkpoint, how.resume)
    whole = opened(source, device)
    edits, added = parsed_edits(crop, erase, move, add, device)
    scene = edited(whole, edits)
    for name, box in edits.boxes():
        if Cut(whole, box).occupancy.fraction() == 0:
            console.say(f"note: {source} is empty in the box of --{name} {box}")
    if picture:
        with console.progress("preview") as progress:
            save_png(preview(whole, scene, edits.boxes(), progress), out, force)
        return
    parents = ancestry(source)
    for file in added:
        parents += [{"source": str(file), "sha256": sha256(file)}, *ancestry(file)]
    made_from = provenance(str(source), sha256(source), parents)
    spec = result_spec(scene, whole.spec, kind).resized(sizes)
    start = time.perf_counter()
    if how.steps is None and is_at_once(scene, spec):
        student = at_once(scene)
        run: dict[str, Any] = {"recipe": "at once", "steps": 0, "faces_within": face_error(student)}
    else:
        with console.progress(f"to {spec.kind}") as progress:
            student, run = to_field(scene, spec, how, progress)
    run["seconds"] = time.perf_counter() - start
    save(student, out, provenance=made_from, force=force)
    conclude(console, scene, student, run, made_from, Output(out, page, force, views, how.seed), ", edited, to ")


def parsed_edits(
    crop: str | None, erase: tuple[str, ...], move: tuple[str, ...], add: tuple[str, ...], device: str
) -> tuple[Edits, list[Path]]:
    """What is to be done, and the files that are brought in."""
    from fieldcast.distill.edits import Addition, Edits, parsed_addition, parsed_box, parsed_move

    asked = [parsed_addition(text) for text in add]
    edits = Edits(
        parsed_box("--crop", crop) if crop is not None else None,
        tuple(parsed_box("--erase", text) for text in erase),
        tuple(parsed_move(text) for text in move),
        tuple(Addition(opened(file, device), place) for file, place in asked),
    )
    return edits, [file for file, _ in asked]
