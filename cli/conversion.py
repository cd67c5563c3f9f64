"""`convert` and `compare`: scenes into other scenes, and scenes against each other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fieldcast.cli import options
from fieldcast.cli.arguments import check_page, checkpoint_of, chosen_device, opened, opened_scene, provenance
from fieldcast.cli.results import Output, conclude, show, show_report
from fieldcast.console import Console
from fieldcast.errors import InputError


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--to", "kind", required=True, metavar="KIND", help=f"One of {options.KIND_NAMES}, splats, mesh.")
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
    .obj or .ply, in the world frame of the field; their sizes are resolution, faces and texture.

    \b
    fieldcast convert lego.safetensors lego-mlp.safetensors --to mlp
    fieldcast convert lego.safetensors small.safetensors --to vm --size resolution=128 --report small.html
    fieldcast convert lego.safetensors exact.safetensors --to vm --target-db 42
    fieldcast convert lego.safetensors lego.ply --to splats --size count=50000
    fieldcast convert lego.safetensors lego.glb --to mesh --size faces=50000 --size texture=1024
    fieldcast convert capture.spz capture.safetensors --to hashgrid
    fieldcast convert spot.glb spot.safetensors --to hashgrid
    """
    if kind == "mesh" or is_mesh(source):
        if training["target_db"] is not None or training["budget"] is not None:
            raise InputError("--target-db, --budget: conversions to and from meshes are told their --steps and sizes")
        asked = {name: training[name] for name in ("steps", "seed", "resume")} | {"allow_outside": allow_outside}
        shown = {"views": views, "page": page, "device": device, "force": force, "sizes": sizes}
        convert_mesh(console, source, out, kind, asked, shown)
        return
    from fieldcast.distill.scenes import SPLATS, How, convert_scene
    from fieldcast.fields.files import ancestry, checked_splat_suffix, checked_suffix, save, sha256
    from fieldcast.fields.files.atomic import check_writable

    how = How(**training, checkpoint=checkpoint_of(out))
    check_writable(checked_splat_suffix(out) if kind == SPLATS else checked_suffix(out), force)
    check_page(page, force)
    teacher = opened_scene(source, device)
    made_from = provenance(str(source), sha256(source), ancestry(source))
    start = time.perf_counter()
    with console.progress(f"to {kind}") as progress:
        student, run = convert_scene(teacher, kind, sizes, how, progress)
    run["seconds"] = time.perf_counter() - start
    save(student, out, provenance=made_from, force=force)
    if kind == SPLATS:  # some formats round numbers: what counts is what the file holds
        student = opened_scene(out, device)
    conclude(console, teacher, student, run, made_from, Output(out, page, force, views, how.seed))


def is_mesh(path: Path) -> bool:
    """Whether a file is a mesh, by its name; of a .ply, which may be splats, by its header."""
    from fieldcast.fields.scenes import MESH_SUFFIXES

    if path.suffix.lower() not in MESH_SUFFIXES:
        return False
    from fieldcast.fields.files import holds_splats

    return not holds_splats(path)


def convert_mesh(
    console: Console, source: Path, out: Path, kind: str, training: dict[str, Any], shown: dict[str, Any]
) -> None:
    """`convert` with a mesh at one of its ends. training: of training; shown: of the report and of both ways."""
    if kind in ("mesh", "splats") and is_mesh(source):
        raise InputError(f"{source}: a mesh becomes a field first: give --to one of {options.KIND_NAMES}")
    if kind == "mesh":
        to_mesh(console, source, out, seed=training["seed"], **shown)
    else:
        from_mesh(console, source, out, kind, training, **shown)


def to_mesh(
    console: Console,
    source: Path,
    out: Path,
    *,
    seed: int,
    sizes: dict[str, Any],
    views: int,
    page: Path | None,
    device: str,
    force: bool,
) -> None:
    """`convert` with a mesh at its end."""
    from fieldcast.distill.meshing import mesh_of, mesh_sizes
    from fieldcast.distill.meshing.report import report_on_mesh
    from fieldcast.distill.report import write_report
    from fieldcast.fields.files.mesh import check_mesh_writable, is_textured, save_mesh

    check_mesh_writable(out, force)
    check_page(page, force)
    wanted = mesh_sizes(sizes)
    teacher = opened(source, device)
    start = time.perf_counter()
    with console.progress("to mesh") as progress:
        mesh, level = mesh_of(teacher, wanted, textured=is_textured(out), seed=seed, progress=progress)
    seconds = time.perf_counter() - start
    save_mesh(mesh, out, teacher.spec.space.up, force)
    run = {"seed": seed, "seconds": seconds}
    with console.progress("compare") as progress:
        size = out.stat().st_size
        result = report_on_mesh(teacher, mesh, level, size, views=views, seed=seed, run=run, progress=progress)
    if page:
        write_report(result, page, f"{source.name} to {out.name}", force)
    show_report(console, f"{source} to {out} in {run['seconds']:.0f} s", result)


def from_mesh(
    console: Console,
    source: Path,
    out: Path,
    kind: str,
    training: dict[str, Any],
    *,
    sizes: dict[str, Any],
    views: int,
    page: Path | None,
    device: str,
    force: bool,
) -> None:
    """`convert` with a mesh at its beginning; training: of training."""
    from fieldcast.distill.meshing.source import field_of_mesh, report_on_field
    from fieldcast.distill.report import write_report
    from fieldcast.fields.files import checked_suffix, save, sha256
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.fields.kinds import kind_class
    from fieldcast.fields.scenes.mesh import read_surfaces

    check_writable(checked_suffix(out), force)
    check_page(page, force)
    kind_class(kind)
    surfaces, notes = read_surfaces(source, training["allow_outside"])
    for line in notes:
        console.say(f"note: {line}")
    training |= {"device": chosen_device(device), "checkpoint": checkpoint_of(out)}
    start = time.perf_counter()
    with console.progress(f"to {kind}") as progress:
        field = field_of_mesh(source, kind, sizes, progress=progress, **training)
    run = {"seed": training["seed"], "seconds": time.perf_counter() - start}
    save(field, out, provenance=provenance(str(source), sha256(source)), force=force)
    with console.progress("compare") as progress:
        size = source.stat().st_size
        result = report_on_field(surfaces, size, field, views=views, seed=training["seed"], run=run, progress=progress)
    if page:
        write_report(result, page, f"{source.name} to {out.name}", force)
    show_report(console, f"{source} to {out} in {run['seconds']:.0f} s", result)


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
    first, second = opened_scene(a, device), opened_scene(b, device)
    if first.space != second.space:
        console.say(f"note: {a} and {b} lie in different boxes; compared in the world, from views of {a}")
    with console.progress("compare") as progress:
        result = report(first, second, views=views, seed=seed, run={}, progress=progress)
    if page:
        write_report(result, page, f"{a.name} and {b.name}", force)
    f = result.fidelity
    facts = {"psnr": f.psnr, "ssim": f.ssim, "depth_error": f.depth_error, "views": f.views}
    if result.occupancy_iou is not None:
        facts["occupancy_iou"] = result.occupancy_iou
    show(console, f"{a} and {b}", facts)
