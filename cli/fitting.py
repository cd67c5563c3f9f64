"""`fit` and `eval`: fields and posed images."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fieldcast.cli import options
from fieldcast.cli.arguments import checkpoint_of, chosen_device, opened_scene, provenance
from fieldcast.cli.results import show
from fieldcast.console import Console
from fieldcast.errors import InputError


@click.command()
@click.argument("data")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--kind", default="hashgrid", show_default=True, help=f"One of {options.KIND_NAMES}.")
@click.option("--steps", type=click.IntRange(1), help="Training steps (default: 3000).")
@options.SEED
@options.DOWNSCALE
@options.SIZES
@options.OUTSIDE
@options.DEVICE
@options.RESUME
@options.FORCE
@options.reporting
def fit(
    console: Console,
    data: str,
    out: Path,
    kind: str,
    steps: int | None,
    seed: int,
    downscale: int,
    sizes: dict[str, Any],
    allow_outside: bool,
    device: str,
    resume: bool,
    force: bool,
) -> None:
    """Posed images to a field.

    DATA is a folder with transforms_train.json (Blender, NeRF-Synthetic), transforms.json (nerfstudio, COLMAP,
    Instant-NGP) or poses_bounds.npy (LLFF), a textured mesh file, or the word `demo`.

    \b
    fieldcast fit nerf_synthetic/lego lego.safetensors
    fieldcast fit fox/ fox.safetensors --kind vm --downscale 2 --steps 5000
    fieldcast fit spot.glb spot.safetensors --kind hashgrid --size log2_table=17
    """
    from fieldcast.fields.evaluate import evaluate
    from fieldcast.fields.files import check_out, save
    from fieldcast.fields.fit import STEPS, spec_for
    from fieldcast.fields.fit import fit as run
    from fieldcast.fields.kinds import kind_class
    from fieldcast.fields.scenes import open_scene

    kind_class(kind)
    check_out(out, kind, force)
    where, steps = chosen_device(device), steps or STEPS
    with console.progress("read") as progress:
        scene = open_scene(data, "train", downscale, progress=progress, allow_outside=allow_outside)
    for line in scene.warnings:
        console.say(f"note: {line}")
    start = time.perf_counter()
    with console.progress("fit") as progress:
        field = run(
            scene,
            spec_for(scene, kind).resized(sizes),
            steps=steps,
            seed=seed,
            device=where,
            checkpoint=checkpoint_of(out),
            resume=resume,
            progress=progress,
        )
    seconds = time.perf_counter() - start
    made_from = provenance(scene.source)
    save(field, out, provenance=made_from, force=force)
    with console.progress("check") as progress:
        seen = evaluate(field, scene.spread(4), progress)
    # Kept first, and then again with what it is worth: nothing is lost if looking at it fails.
    save(field, out, provenance=replace(made_from, psnr=seen.psnr), force=True)
    result = {
        "out": str(out),
        "kind": kind,
        "parameters": field.parameter_count(),
        "bytes": out.stat().st_size,
        "seconds": seconds,
        "steps": steps,
        "views": len(scene),
        "training_psnr": seen.psnr,
    }
    show(console, f"fitted {out}", result)


@click.command("eval")
@click.argument("field_file", metavar="FIELD", type=click.Path(path_type=Path))
@click.argument("data")
@click.option("--split", default="test", show_default=True, help="train, val, test or all.")
@options.DOWNSCALE
@options.OUTSIDE
@click.option("--out", type=click.Path(path_type=Path), help="Also write renderings beside photographs, a .png.")
@options.DEVICE
@options.FORCE
@options.reporting
def evaluate(
    console: Console,
    field_file: Path,
    data: str,
    split: str,
    downscale: int,
    allow_outside: bool,
    out: Path | None,
    device: str,
    force: bool,
) -> None:
    """A field against posed images that it was not fitted to.

    \b
    fieldcast eval lego.safetensors nerf_synthetic/lego --split test --json
    fieldcast eval fox.safetensors fox/ --out fox-beside.png
    """
    from fieldcast.fields.evaluate import evaluate as run
    from fieldcast.fields.evaluate import write_beside
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.fields.scenes import open_scene

    if out and out.suffix.lower() != ".png":
        raise InputError(f"{out}: expected a name that ends in .png")
    if out:
        check_writable(out, force)
    field = opened_scene(console, field_file, device)
    with console.progress("read") as progress:
        scene = open_scene(data, split, downscale, progress=progress, allow_outside=allow_outside)
    with console.progress("eval") as progress:
        seen = run(field, scene, progress, keep=8 if out else 0)
    if out:
        write_beside(seen, out, force)
    result: dict[str, Any] = {"psnr": seen.psnr, "ssim": seen.ssim, "views": seen.views, "seconds": seen.seconds}
    if console.json:
        result |= {"split": split, "psnr_per_view": dict(zip(seen.names, seen.psnr_per_view, strict=True))}
    show(console, f"{field_file} on {data} ({split})", result)
