"""`convert` and `compare`: scenes into other scenes, and scenes against each other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fieldcast.cli import options
from fieldcast.cli.arguments import check_page, checkpoint_of, opened_scene, provenance
from fieldcast.cli.results import Output, conclude, show
from fieldcast.console import Console
from fieldcast.errors import InputError


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to", "kind", required=True, metavar="KIND", help=f"One of {options.KIND_NAMES}, splats, mesh, nerfstudio."
)
@options.RECIPE
@options.TRAINING_STEPS
@click.option("--target-db", type=click.FloatRange(1, 100), help="Train until the fidelity is so many dB.")
@click.option("--budget", type=click.FloatRange(1, 1e6), help="Train for about so many seconds.")
@options.SEED
@options.SIZES
@options.VIEWS
@options.PAGE
@options.OUTSIDE
@options.DEVICE
@options.RESUME
@options.FORCE
@options.reporting
def convert(
    console: Console,
    source: Path,
    out: Path,
    kind: str,
    sizes: dict[str, Any],
    views: int,
    page: Path | None,
    allow_outside: bool,
    device: str,
    force: bool,
    **training: Any,
) -> None:
    """A field, splats or a textured mesh to another kind, format or other sizes, without images.

    Ends with a report: how faithful the result is to its source on views that were not trained on. Meshes are .glb,
    .obj or .ply, in the world frame of the field; their sizes are resolution, faces and texture. To nerfstudio, any
    field is written as it is, as a run for ns-viewer and ns-render (with our plug-in): OUT is a folder.

    \b
    fieldcast convert lego.safetensors lego-mlp.safetensors --to mlp
    fieldcast convert lego.safetensors small.safetensors --to vm --size resolution=128 --report small.html
    fieldcast convert lego.safetensors exact.safetensors --to vm --target-db 42
    fieldcast convert lego.safetensors lego.ply --to splats --size count=50000
    fieldcast convert lego.safetensors lego.glb --to mesh --size faces=50000 --size texture=1024
    fieldcast convert lego.safetensors lego.th --to tensorf
    fieldcast convert capture.spz capture.safetensors --to hashgrid
    fieldcast convert spot.glb spot.safetensors --to hashgrid
    fieldcast convert lego.safetensors lego-run --to nerfstudio
    """
    from fieldcast.distill.scenes import SPLATS, How, convert_scene, spec_for
    from fieldcast.fields.files import RUN, ancestry, check_out, export_of, is_textured, save, sha256

    how = How(**training, checkpoint=checkpoint_of(out), textured=is_textured(out))
    check_out(out, kind, force)
    check_page(page, force)
    teacher = opened_scene(console, source, device, allow_outside)
    if kind == RUN:
        hand_over(console, teacher, out, force, as_it_is=how.is_silent() and not sizes and not page)
        return
    made_from = provenance(str(source), sha256(source), ancestry(source))
    start = time.perf_counter()
    export = export_of(out)
    asked = {"fitted": export.fitted} if export else {}
    if export:
        sizes = {**export.sizes, **sizes}
        export.check(out, export.fitted(spec_for(teacher, kind, sizes)))
    with console.progress(f"to {kind}") as progress:
        student, run = convert_scene(teacher, kind, sizes, how, progress, **asked)
    run["seconds"] = time.perf_counter() - start
    save(student, out, provenance=made_from, force=force)
    # Some formats round numbers or know of no empty cells: what counts is what the file holds.
    there = kind == SPLATS or (export is not None and not export.moves)
    kept = opened_scene(console, out, device) if there else student
    conclude(console, teacher, kept, run, made_from, Output(out, page, force, views, how.seed))


def hand_over(console: Console, scene: Any, out: Path, force: bool, as_it_is: bool) -> None:
    """Writes a field as a run of nerfstudio; as_it_is: whether nothing more was asked for."""
    from fieldcast.fields.field import Field
    from fieldcast.fields.files import write_run

    if not isinstance(scene, Field):
        raise InputError("only fields become runs of nerfstudio; convert to a field first, with --to hashgrid")
    if not as_it_is:
        raise InputError(
            "--to nerfstudio: a field is written as it is: convert it first, for sizes, training or a report"
        )
    write_run(scene, out, force)
    facts = {"out": str(out), "kind": scene.spec.kind, "parameters": scene.parameter_count()}
    show(console, f"{out}: ns-viewer --load-config {out / 'config.yml'}", facts)


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@options.VIEWS
@options.SEED
@options.PAGE
@options.DEVICE
@options.FORCE
@options.reporting
def compare(
    console: Console, a: Path, b: Path, views: int, seed: int, page: Path | None, device: str, force: bool
) -> None:
    """Two fields or splats of one scene, rendered from the same random views.

    \b
    fieldcast compare lego.safetensors lego-vm.safetensors --views 20 --json
    """
    from fieldcast.distill.report import report, write_report

    check_page(page, force)
    first, second = opened_scene(console, a, device), opened_scene(console, b, device)
    if first.space != second.space:
        console.say(f"note: {a} and {b} lie in different boxes; compared in the world, from views of {a}")
    with console.progress("compare") as progress:
        result = report(first, second, views=views, seed=seed, run={}, files=(a, b), progress=progress)
    if page:
        write_report(result, page, f"{a.name} and {b.name}", force)
    told = result.to_json()
    in_space = {"occupancy_iou": told["occupancy_iou"]} if told.get("occupancy_iou") is not None else {}
    show(console, f"{a} and {b}", told["fidelity"] | in_space)
