"""The commands: each parses, calls one function and reports. Only click is imported before a command runs."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fieldcast.console import Console, main_guard
from fieldcast.errors import InputError
from fieldcast.process import prepare

if TYPE_CHECKING:
    from fieldcast.distill.edits import Edits
    from fieldcast.distill.report import Comparison
    from fieldcast.fields.field import Field
    from fieldcast.fields.files import Provenance
    from fieldcast.fields.splats import Splats

F = TypeVar("F", bound=Callable[..., Any])
KIND_NAMES = "mlp, hashgrid, vm, cp, voxels, planes, hybrid"
DEVICE = click.option("--device", default="auto", show_default=True, help="cpu, cuda, or the faster one present.")
FORCE = click.option("--force", "-f", is_flag=True, help="Replace files that exist.")
SEED = click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Random numbers.")
RESUME = click.option("--resume", is_flag=True, help="Continue from the checkpoint that an interrupted run left.")
SIZES = click.option(
    "--size", "sizes", multiple=True, metavar="NAME=VALUE", help="One of the kind's sizes; `info` lists them."
)
DOWNSCALE = click.option(
    "--downscale", default=1, show_default=True, type=click.IntRange(1, 64), help="Divide the image size by K."
)
RECIPE = click.option(
    "--recipe",
    default="fast",
    show_default=True,
    help="How: fast; pvd, as published at fewer steps; or active, pvd with active learning.",
)
TRAINING_STEPS = click.option(
    "--steps", type=click.IntRange(1), help="Training steps (default: what suits the recipe and the kind)."
)
VIEWS = click.option("--views", default=8, show_default=True, type=click.IntRange(1, 1000), help="Views to compare on.")
PAGE = click.option(
    "--report", "page", type=click.Path(path_type=Path), help="Also write a page (.html) or pictures (.png)."
)
OUTSIDE = click.option("--allow-outside", is_flag=True, help="Let the data name images outside its folder.")


class Ordered(click.Group):
    """Lists commands in the order of a day's work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def reporting(function: F) -> F:
    """Adds --json and --quiet and passes them on as `console`."""
    return _with_console(click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(function))


def _with_console(function: F) -> F:
    function = click.option("--debug", is_flag=True, help="Show the traceback of an error.")(function)
    return click.option("--quiet", "-q", is_flag=True, help="No progress and no talk.")(function)


@click.group(cls=Ordered, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fieldcast")
def cli() -> None:
    """Neural fields of any kind, and from any kind to any other.

    \b
    fieldcast demo                                         see it work, no data needed
    fieldcast fit lego/ lego.safetensors --kind hashgrid   posed images to a field
    fieldcast convert lego.safetensors lego-vm.safetensors --to vm
    fieldcast render lego-vm.safetensors lego.mp4
    fieldcast convert lego.safetensors lego.ply --to splats       Gaussian splats, and back
    """


@cli.command()
@click.argument("data")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--kind", default="hashgrid", show_default=True, help=f"One of {KIND_NAMES}.")
@click.option("--steps", type=click.IntRange(1), help="Training steps (default: 3000).")
@SEED
@DOWNSCALE
@SIZES
@OUTSIDE
@DEVICE
@RESUME
@FORCE
@reporting
def fit(
    data: str,
    out: Path,
    kind: str,
    steps: int | None,
    seed: int,
    downscale: int,
    sizes: tuple[str, ...],
    allow_outside: bool,
    device: str,
    resume: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Posed images to a field.

    DATA is a folder with transforms_train.json (Blender, NeRF-Synthetic), transforms.json (nerfstudio, COLMAP,
    Instant-NGP) or poses_bounds.npy (LLFF), a textured mesh file, or the word `demo`.

    \b
    fieldcast fit nerf_synthetic/lego lego.safetensors
    fieldcast fit fox/ fox.safetensors --kind vm --downscale 2 --steps 5000
    fieldcast fit spot.glb spot.safetensors --kind hashgrid --size log2_table=17
    """
    console = Console(quiet, as_json)
    from fieldcast.fields.evaluate import evaluate
    from fieldcast.fields.files import checked_suffix, save
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.fields.fit import STEPS, spec_for
    from fieldcast.fields.fit import fit as run
    from fieldcast.fields.kinds import kind_class
    from fieldcast.fields.scenes import open_scene

    check_writable(checked_suffix(out), force)
    kind_class(kind)
    where = chosen_device(device)
    with console.progress("read") as progress:
        scene = open_scene(data, "train", downscale, progress=progress, allow_outside=allow_outside)
    for line in scene.warnings:
        console.say(f"note: {line}")
    spec = spec_for(scene, kind).resized(parsed_sizes(sizes))
    start = time.perf_counter()
    with console.progress("fit") as progress:
        field = run(
            scene,
            spec,
            steps=steps or STEPS,
            seed=seed,
            device=where,
            checkpoint=checkpoint_of(out),
            resume=resume,
            progress=progress,
        )
    seconds = time.perf_counter() - start
    save(field, out, provenance=provenance(scene.source), force=force)
    with console.progress("check") as progress:
        seen = evaluate(field, scene.spread(4), progress)
    # Kept first, and then again with what it is worth: nothing is lost if looking at it fails.
    save(field, out, provenance=replace(provenance(scene.source), psnr=seen.psnr), force=True)
    result = {
        "out": str(out),
        "kind": kind,
        "parameters": field.parameter_count(),
        "bytes": out.stat().st_size,
        "seconds": seconds,
        "steps": steps or STEPS,
        "views": len(scene),
        "training_psnr": seen.psnr,
    }
    show(console, f"fitted {out}", result)


@cli.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--to", "kind", required=True, metavar="KIND", help=f"One of {KIND_NAMES}, splats, mesh.")
@RECIPE
@TRAINING_STEPS
@click.option("--target-db", type=click.FloatRange(1, 100), help="Train until the fidelity is so many dB.")
@click.option("--budget", type=click.FloatRange(1, 1e6), help="Train for about so many seconds.")
@SEED
@SIZES
@VIEWS
@PAGE
@OUTSIDE
@DEVICE
@RESUME
@FORCE
@reporting
def convert(
    source: Path,
    out: Path,
    kind: str,
    recipe: str,
    steps: int | None,
    target_db: float | None,
    budget: float | None,
    seed: int,
    sizes: tuple[str, ...],
    views: int,
    page: Path | None,
    allow_outside: bool,
    device: str,
    resume: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
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
    console = Console(quiet, as_json)
    if kind == "mesh" or is_mesh(source):
        if target_db is not None or budget is not None:
            raise InputError("--target-db, --budget: conversions to and from meshes are told their --steps and sizes")
        shown = {"views": views, "page": page, "device": device, "force": force, "sizes": parsed_sizes(sizes)}
        options = {"steps": steps, "seed": seed, "resume": resume, "allow_outside": allow_outside}
        convert_mesh(console, source, out, kind, options, shown)
        return
    from fieldcast.distill.report import check_report_name, report, write_report
    from fieldcast.distill.scenes import SPLATS, How, convert_scene
    from fieldcast.fields.files import ancestry, checked_splat_suffix, checked_suffix, save, sha256
    from fieldcast.fields.files.atomic import check_writable

    how = How(recipe, steps, target_db, budget, seed, checkpoint_of(out), resume)
    check_writable(checked_splat_suffix(out) if kind == SPLATS else checked_suffix(out), force)
    if page:
        check_report_name(page)
        check_writable(page, force)
    teacher = opened_scene(source, device)
    lineage = ancestry(source)
    made_from = provenance(str(source), sha256(source), lineage)
    start = time.perf_counter()
    with console.progress(f"to {kind}") as progress:
        student, run_facts = convert_scene(teacher, kind, parsed_sizes(sizes), how, progress)
    run_facts["seconds"] = seconds = time.perf_counter() - start
    save(student, out, provenance=made_from, force=force)
    if kind == SPLATS:  # some formats round numbers: what counts is what the file holds
        student = opened_scene(out, device)
    psnr = lineage[0]["psnr"] if lineage else None
    with console.progress("compare") as progress:
        result = report(teacher, student, views=views, seed=seed, run=run_facts, source_psnr=psnr, progress=progress)
    if kind != SPLATS:
        save(student, out, provenance=replace(made_from, psnr=result.verdict.student_psnr), force=True)
    if page:
        write_report(result, page, f"{source.name} to {out.name}", force)
    show_report(console, f"{source} to {out} in {seconds:.0f} s", result)


@cli.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.safetensors|OUT.png", type=click.Path(path_type=Path))
@click.option("--crop", metavar="BOX", help="Keep what is in the box.")
@click.option("--erase", multiple=True, metavar="BOX", help="Take out what is in the box.")
@click.option("--move", multiple=True, metavar="'BOX by dx,dy,dz'", help="Put what is in the box elsewhere.")
@click.option("--add", multiple=True, metavar="'FILE by dx,dy,dz'", help="Bring in another field.")
@click.option("--to", "kind", metavar="KIND", help=f"One of {KIND_NAMES} (default: that of IN, at its sizes).")
@RECIPE
@TRAINING_STEPS
@SEED
@SIZES
@VIEWS
@PAGE
@DEVICE
@RESUME
@FORCE
@reporting
def edit(
    source: Path,
    out: Path,
    crop: str | None,
    erase: tuple[str, ...],
    move: tuple[str, ...],
    add: tuple[str, ...],
    kind: str | None,
    recipe: str,
    steps: int | None,
    seed: int,
    sizes: tuple[str, ...],
    views: int,
    page: Path | None,
    device: str,
    resume: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
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
    console = Console(quiet, as_json)
    from fieldcast.distill.convert import RECIPES, checked_recipe, convert
    from fieldcast.distill.editing import at_once, edited, face_error, is_at_once, result_spec
    from fieldcast.distill.preview import preview
    from fieldcast.distill.report import check_report_name, report, write_report
    from fieldcast.fields.cut import Cut
    from fieldcast.fields.files import ancestry, checked_suffix, save, sha256
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.fields.files.images import save_png
    from fieldcast.fields.training import require_checkpoint

    picture = out.suffix.lower() == ".png"
    check_writable(out if picture else checked_suffix(out), force)
    if page:
        check_report_name(page)
        check_writable(page, force)
    checked_recipe(recipe)
    require_checkpoint(checkpoint_of(out), resume)
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
    spec = result_spec(scene, whole.spec, kind).resized(parsed_sizes(sizes))
    start = time.perf_counter()
    if steps is None and is_at_once(scene, spec):
        student = at_once(scene)
        how = {"recipe": "at once", "steps": 0, "faces_within": face_error(student)}
    else:
        with console.progress(f"to {spec.kind}") as progress:
            student = convert(
                scene,
                spec,
                recipe=recipe,
                steps=steps,
                seed=seed,
                checkpoint=checkpoint_of(out),
                resume=resume,
                progress=progress,
            )
        how = {"recipe": recipe, "steps": steps or RECIPES[recipe].steps(spec.kind), "seed": seed}
    seconds = time.perf_counter() - start
    save(student, out, provenance=made_from, force=force)
    with console.progress("compare") as progress:
        facts, psnr = {**how, "seconds": seconds}, parents[0]["psnr"]
        result = report(scene, student, views=views, seed=seed, run=facts, source_psnr=psnr, progress=progress)
    save(student, out, provenance=replace(made_from, psnr=result.verdict.student_psnr), force=True)
    if page:
        write_report(result, page, f"{source.name}, edited, to {out.name}", force)
    show_report(console, f"{source}, edited, to {out} in {seconds:.0f} s", result)


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


def is_mesh(path: Path) -> bool:
    """Whether a file is a mesh, by its name; of a .ply, which may be splats, by its header."""
    from fieldcast.fields.scenes import MESH_SUFFIXES

    if path.suffix.lower() not in MESH_SUFFIXES:
        return False
    from fieldcast.fields.files import holds_splats

    return not holds_splats(path)


def convert_mesh(
    console: Console, source: Path, out: Path, kind: str, options: dict[str, Any], shown: dict[str, Any]
) -> None:
    """`convert` with a mesh at one of its ends. options: of training; shown: of the report and of both ways."""
    if kind in ("mesh", "splats") and is_mesh(source):
        raise InputError(f"{source}: a mesh becomes a field first: give --to one of {KIND_NAMES}")
    if kind == "mesh":
        to_mesh(console, source, out, seed=options["seed"], **shown)
    else:
        from_mesh(console, source, out, kind, options, **shown)


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
    from fieldcast.distill.report import check_report_name, write_report
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.fields.files.mesh import check_mesh_writable, is_textured, save_mesh

    check_mesh_writable(out, force)
    if page:
        check_report_name(page)
        check_writable(page, force)
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
    options: dict[str, Any],
    *,
    sizes: dict[str, Any],
    views: int,
    page: Path | None,
    device: str,
    force: bool,
) -> None:
    """`convert` with a mesh at its beginning; options: of training."""
    from fieldcast.distill.meshing.source import field_of_mesh, report_on_field
    from fieldcast.distill.report import check_report_name, write_report
    from fieldcast.fields.files import checked_suffix, save, sha256
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.fields.kinds import kind_class
    from fieldcast.fields.scenes.mesh import read_surfaces

    check_writable(checked_suffix(out), force)
    if page:
        check_report_name(page)
        check_writable(page, force)
    kind_class(kind)
    surfaces, notes = read_surfaces(source, options["allow_outside"])
    for line in notes:
        console.say(f"note: {line}")
    options |= {"device": chosen_device(device), "checkpoint": checkpoint_of(out)}
    start = time.perf_counter()
    with console.progress(f"to {kind}") as progress:
        field = field_of_mesh(source, kind, sizes, progress=progress, **options)
    run = {"seed": options["seed"], "seconds": time.perf_counter() - start}
    save(field, out, provenance=provenance(str(source), sha256(source)), force=force)
    with console.progress("compare") as progress:
        size = source.stat().st_size
        result = report_on_field(surfaces, size, field, views=views, seed=options["seed"], run=run, progress=progress)
    if page:
        write_report(result, page, f"{source.name} to {out.name}", force)
    show_report(console, f"{source} to {out} in {run['seconds']:.0f} s", result)


@cli.command("eval")
@click.argument("field_file", metavar="FIELD", type=click.Path(path_type=Path))
@click.argument("data")
@click.option("--split", default="test", show_default=True, help="train, val, test or all.")
@DOWNSCALE
@OUTSIDE
@click.option("--out", type=click.Path(path_type=Path), help="Also write renderings beside photographs, a .png.")
@DEVICE
@FORCE
@reporting
def evaluate(
    field_file: Path,
    data: str,
    split: str,
    downscale: int,
    allow_outside: bool,
    out: Path | None,
    device: str,
    force: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """A field against posed images that it was not fitted to.

    \b
    fieldcast eval lego.safetensors nerf_synthetic/lego --split test --json
    fieldcast eval fox.safetensors fox/ --out fox-beside.png
    """
    console = Console(quiet, as_json)
    from fieldcast.fields.evaluate import evaluate as run
    from fieldcast.fields.evaluate import write_beside
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.fields.scenes import open_scene

    if out and out.suffix.lower() != ".png":
        raise InputError(f"{out}: expected a name that ends in .png")
    if out:
        check_writable(out, force)
    field = opened_scene(field_file, device)
    with console.progress("read") as progress:
        scene = open_scene(data, split, downscale, progress=progress, allow_outside=allow_outside)
    with console.progress("eval") as progress:
        seen = run(field, scene, progress, keep=8 if out else 0)
    if out:
        write_beside(seen, out, force)
    result = {"psnr": seen.psnr, "ssim": seen.ssim, "views": seen.views, "seconds": seen.seconds}
    if as_json:
        per_view = dict(zip(seen.names, seen.psnr_per_view, strict=True))
        console.emit_json({**result, "split": split, "psnr_per_view": per_view})
    else:
        show(console, f"{field_file} on {data} ({split})", result)


@cli.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@VIEWS
@SEED
@PAGE
@DEVICE
@FORCE
@reporting
def compare(
    a: Path,
    b: Path,
    views: int,
    seed: int,
    page: Path | None,
    device: str,
    force: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Two fields or splats of one scene, rendered from the same random views.

    \b
    fieldcast compare lego.safetensors lego-vm.safetensors --views 20 --json
    """
    console = Console(quiet, as_json)
    from fieldcast.distill.report import check_report_name, report, write_report
    from fieldcast.fields.files.atomic import check_writable

    if page:
        check_report_name(page)
        check_writable(page, force)
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


@cli.command()
@click.argument("field_file", metavar="FIELD", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.png|OUT.mp4|OUT.gif", type=click.Path(path_type=Path))
@click.option("--path", "path", help="turntable, views, or a camera path .json (default: what suits the field).")
@click.option("--size", default="400x400", show_default=True, metavar="WxH", help="Pixels.")
@click.option("--frames", default=60, show_default=True, type=click.IntRange(1, 100_000), help="Pictures in a video.")
@click.option("--frame", default=0, show_default=True, type=click.IntRange(0), help="Which of them a .png shows.")
@click.option("--fps", default=30.0, show_default=True, type=click.FloatRange(1, 240), help="Frames a second.")
@DEVICE
@FORCE
@_with_console
def render(
    field_file: Path,
    out: Path,
    path: str | None,
    size: str,
    frames: int,
    frame: int,
    fps: float,
    device: str,
    force: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """A field or splats as a picture or a video.

    \b
    fieldcast render lego.safetensors lego.png --size 800x800
    fieldcast render lego.safetensors lego.mp4 --path turntable --frames 120
    """
    console = Console(quiet, False)
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.fields.files.images import save_png
    from fieldcast.fields.files.video import save_mp4
    from fieldcast.fields.paths import camera_path, default_path
    from fieldcast.fields.rendering import render as run

    if out.suffix.lower() not in (".png", ".mp4", ".gif"):
        raise InputError(f"{out}: expected a name that ends in .png, .mp4 or .gif")
    if fps != fps:  # click lets NaN through every range
        raise InputError(f"--fps {fps}: expected 1 to 240")
    pixels = parsed_picture_size(size)
    check_writable(out, force)
    field = opened_scene(field_file, device)
    cameras = camera_path(field, path or default_path(field), frames, pixels)
    start = time.perf_counter()
    if out.suffix.lower() == ".png":
        if frame >= len(cameras):
            raise InputError(f"--frame {frame}: the path has {len(cameras)} frames, counted from 0")
        cameras = cameras[[frame]]
    with console.progress("render") as progress:
        pictures = (image.rgb.clamp(0, 1).cpu() for image in run(field, cameras, progress=progress))
        if out.suffix.lower() == ".png":
            save_png(next(pictures), out, force)
        else:
            save_mp4(pictures, out, fps, force)
    rate = len(cameras) / (time.perf_counter() - start)
    console.say(f"{out}: {len(cameras)} x {pixels[0]}x{pixels[1]}, {rate:.2f} frames/s")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@reporting
def info(file: Path, as_json: bool, quiet: bool, debug: bool) -> None:
    """What a file of a field or of splats holds.

    \b
    fieldcast info lego.safetensors --json
    fieldcast info capture.ply
    """
    console = Console(quiet, as_json)
    from fieldcast.fields.files import describe

    facts = describe(file)
    if as_json:
        console.emit_json(facts)
        return
    spec = facts.pop("spec")
    origin = facts.pop("provenance", {})
    show(console, str(file), facts)
    if "sizes" in spec:
        show(console, "sizes", spec.pop("sizes"))
    show(console, "spec", spec)
    if origin:
        show(console, "provenance", {k: v for k, v in origin.items() if v})


@cli.command()
@click.argument("path", type=str)
@OUTSIDE
@reporting
def validate(path: str, allow_outside: bool, as_json: bool, quiet: bool, debug: bool) -> None:
    """Checks a file of a field or of splats, or posed images, and says what is wrong. Exit code 2 if anything is.

    \b
    fieldcast validate lego.safetensors
    fieldcast validate nerf_synthetic/lego
    """
    console = Console(quiet, as_json)
    from fieldcast.fields.files import SUFFIXES, describe, holds_splats, open_field
    from fieldcast.fields.scenes import open_scene

    facts: dict[str, Any] = {"path": path, "valid": True}
    if Path(path).suffix.lower() in SUFFIXES:
        field = open_field(path)
        facts |= {"kind": field.spec.kind, "occupied": field.occupancy.fraction(), "warnings": []}
        if field.occupancy.fraction() == 0:
            facts["warnings"].append("the field is empty: no cell is occupied")
    elif holds_splats(Path(path)):
        facts |= {name: value for name, value in describe(Path(path)).items() if name != "spec"} | {"warnings": []}
    else:
        with console.progress("read") as progress:
            scene = open_scene(path, "all", progress=progress, allow_outside=allow_outside)
        facts |= {"views": len(scene), "warnings": list(scene.warnings)}
    show(console, f"{path}: valid", facts)


@cli.command()
@click.option("--out", default=Path("demo-out"), show_default=True, type=click.Path(path_type=Path), help="A folder.")
@SEED
@DEVICE
@FORCE
@reporting
def demo(out: Path, seed: int, device: str, force: bool, as_json: bool, quiet: bool, debug: bool) -> None:
    """A built-in scene, fitted, converted to other kinds and rendered: pictures, a table and files.

    \b
    fieldcast demo --out demo-out
    """
    console = Console(quiet, as_json)
    from fieldcast.distill.demo import run_demo

    rows = run_demo(out, seed, chosen_device(device), force, console.progress)
    if as_json:
        console.emit_json(rows)
        return
    console.table("the demo scene, fitted as a hash grid and converted", rows)
    click.echo(f"\n{out}/ holds:")
    for file in sorted(p for p in out.iterdir() if p.is_file()):
        click.echo(f"  {file.name:28s} {file.stat().st_size / 1e6:6.1f} MB")


@cli.command()
@reporting
def doctor(as_json: bool, quiet: bool, debug: bool) -> None:
    """What this installation can do: versions, devices, and what is missing."""
    console = Console(quiet, as_json)
    from fieldcast.doctor import examine

    show(console, "fieldcast", examine())


def show(console: Console, title: str, facts: dict[str, Any]) -> None:
    """Facts as JSON or as a table."""
    if console.json:
        console.emit_json(facts)
    else:
        console.table(title, facts)


def show_report(console: Console, title: str, result: Comparison) -> None:
    """What a conversion was worth, as JSON or for a person."""
    if console.json:
        console.emit_json(result.to_json())
        return
    console.table(title, result.rows())
    for line in (result.summary(), *result.remarks()):
        click.echo(line)
    for line in result.lost:
        click.echo(f"dropped: {line}")


def chosen_device(name: str) -> str:
    """`auto` is CUDA where there is one."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    found = re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name)
    if not found:
        raise InputError(f"--device {name}: expected auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {name}: this installation of torch sees no CUDA device; use --device cpu")
    if found[1] and int(found[1][1:]) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices, counted from 0")
    return name


def opened(path: Path, device: str) -> Field:
    """The field in a file, on the device of that name."""
    from fieldcast.fields.files import open_field

    return open_field(path, chosen_device(device))


def opened_scene(path: Path, device: str) -> Field | Splats:
    """What is in a file, on the device of that name."""
    from fieldcast.fields.files import open as open_file

    return open_file(path, chosen_device(device))


def parsed_sizes(pairs: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE options as a dict."""
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"--size {pair}: expected NAME=VALUE, such as resolution=128")
    return dict(pair.split("=", 1) for pair in pairs)


def parsed_picture_size(text: str) -> tuple[int, int]:
    """WxH in pixels."""
    found = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(0 < side <= 16384 for side in size):
        raise InputError(f"--size {text:.40}: expected WIDTHxHEIGHT in pixels up to 16384, such as 800x600")
    return size


def checkpoint_of(out: Path) -> Path:
    """Where a run that makes `out` keeps its resumable state."""
    return out.with_name(f".{out.stem}.checkpoint.safetensors")


def provenance(source: str, digest: str = "", parents: list[dict[str, Any]] | None = None) -> Provenance:
    import fieldcast
    from fieldcast.fields.files import Provenance

    command = "fieldcast " + shlex.join(sys.argv[1:])
    return Provenance(
        source=source, sha256=digest, command=command, version=fieldcast.__version__, parents=parents or []
    )


def main() -> None:
    """The console script."""
    prepare()
    sys.exit(main_guard(cli))


if __name__ == "__main__":
    main()
