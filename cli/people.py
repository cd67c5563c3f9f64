"""`reconstruct INPUT OUT` and `reconstruct eval`: people as fields, and how near they are to the truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fieldcast.cli import options
from fieldcast.console import Console
from fieldcast.endings import Terminated
from fieldcast.errors import InputError


@click.command("run", hidden=True)
@click.argument("scene", metavar="INPUT", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--people", type=int, help="How many there are, where nobody's poses are given.")
@click.option("--budget", type=float, metavar="MINUTES", help="For everything, instead of a number of steps.")
@click.option("--steps", type=int, help="Of training (default: 4000).")
@click.option("--recipe", default="fast", show_default=True, help="fast, or paper: networks and samples as published.")
@click.option("--segmenter", default="grabcut", show_default=True, help="grabcut, background, masks or sam.")
@click.option("--body", default=None, metavar="FILE", help="The SMPL file that poses are of, where these do not say.")
@click.option("--poses", multiple=True, type=click.Path(path_type=Path), help="A file of poses (may be repeated).")
@click.option("--cameras", type=click.Path(path_type=Path), help="A transforms.json with a camera for each frame.")
@click.option("--keypoints", type=click.Path(path_type=Path), help="Begin with these: COCO's JSON, OpenPose's folder.")
@click.option("--background", type=click.Path(path_type=Path), help="A field file of what is behind people.")
@click.option("--meshes", metavar="SUFFIX", help="Also a mesh of everybody in every frame: ply, obj or glb.")
@click.option("--from", "folder", type=click.Path(path_type=Path), help="Masks, or the weights of sam: a folder.")
@options.DOWNSCALE
@options.OUTSIDE
@options.SEED
@options.RESUME
@options.FORCE
@options.reporting
def run(
    console: Console,
    scene: Path,
    out: Path,
    body: str | None,
    poses: tuple[Path, ...],
    cameras: Path | None,
    keypoints: Path | None,
    downscale: int,
    allow_outside: bool,
    **asked: Any,
) -> None:
    """People of a video as fields."""
    from fieldcast.fields.files.atomic import check_folder_writable
    from fieldcast.reconstruct.pipeline import check_job, reconstruct
    from fieldcast.reconstruct.recordings.keypoints import read_keypoints
    from fieldcast.reconstruct.recordings.opening import Known, open_recording

    job = _job(asked, scene if downscale == 1 else None)
    check_job(job)
    check_folder_writable(out, job.force)
    if scene.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{out}: expected another folder than that of the input, {scene}")
    with console.progress("reconstruct") as progress, resumable(console, out):
        recording = open_recording(scene, downscale, Known(body, poses, cameras), allow_outside, progress)
        for line in recording.warnings:
            console.say(f"note: {line}")
        known = read_keypoints(keypoints, len(recording)) if keypoints else None
        report = reconstruct(recording, out, replace(job, keypoints=known), progress, console.say)
    if console.json:
        console.emit_json(report.to_json())
    else:
        console.table(f"{out}/: sheet.png, people.glb, films/compare.mp4, films/around.mp4", report.summary())


def _job(asked: dict[str, Any], scene: Path | None) -> Any:
    """What was typed. scene: what may have the truth beside it."""
    from fieldcast.reconstruct.fitting.fit import Plan
    from fieldcast.reconstruct.pipeline import Job

    if asked["steps"] is not None and asked["budget"] is not None:
        raise InputError("expected --steps or --budget, found both")
    steps = {} if asked["steps"] is None else {"steps": asked["steps"]}
    plan = Plan(**{key: asked[key] for key in ("segmenter", "folder", "recipe", "seed", "background")}, **steps)
    truth = scene if scene is not None and (scene / "truth" / "scene.json").is_file() else None
    same = {key: asked[key] for key in ("people", "meshes", "resume", "force")}
    return Job(plan, asked["budget"], truth=truth, **same)


@contextmanager
def resumable(console: Console, out: Path) -> Iterator[None]:
    """Says how to go on when work is interrupted."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        kept = out.with_name(f"{out.name}.unfinished")
        if kept.is_dir():
            console.say(f"{kept} holds what is done: the same command with --resume goes on")
        raise


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("number", metavar="FRAME", type=click.IntRange(0))
@click.argument("file", type=click.Path(path_type=Path))
@options.FORCE
@options.reporting
def frame(console: Console, out: Path, number: int, file: Path, force: bool) -> None:
    """Everybody at one frame as a field, for render, convert, edit and all other verbs.

    OUT is what `reconstruct` made, FRAME counts from 0. Each person at rest is a field too: OUT/people/NAME.safetensors

    \b
    fieldcast reconstruct frame people 17 frame.safetensors
    fieldcast render frame.safetensors around.mp4
    fieldcast convert frame.safetensors frame.glb --to mesh
    """
    from fieldcast.fields.files import save
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.reconstruct.avatars.frames import frame_field
    from fieldcast.reconstruct.outputs.reconstruction import open_reconstruction

    check_writable(file, force)
    with console.progress("frame") as progress:
        made = open_reconstruction(out, progress)
        if number >= len(made.recording):
            raise InputError(f"frame: expected 0 to {len(made.recording) - 1}, found {number}")
        field = frame_field(made.avatars, number, up=made.recording.up)
    field.views = made.recording.cameras[[number]]
    save(field, file, force=force)
    if console.json:
        console.emit_json({"file": str(file), "frame": number, "people": [a.known.name for a in made.avatars]})


@click.command("eval")
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option("--frames", default=10, show_default=True, type=click.IntRange(1), help="How many, evenly apart.")
@options.FORCE
@options.reporting
def evaluate(console: Console, out: Path, truth: Path, frames: int, force: bool) -> None:
    """How near a reconstruction is to the truth: surfaces, poses, people together, masks and pictures.

    OUT is what `reconstruct` made, TRUTH the folder that `reconstruct synth` made, which it was made of. The numbers,
    which docs/people-evaluation.md defines, are also in OUT/eval.json.

    \b
    fieldcast reconstruct synth pair
    fieldcast reconstruct pair pair-people --budget 10
    fieldcast reconstruct eval pair-people pair
    """
    from fieldcast.fields.files.atomic import check_writable
    from fieldcast.reconstruct.evaluation.folders import evaluate_folder
    from fieldcast.reconstruct.evaluation.tables import table
    from fieldcast.reconstruct.outputs.report import write_json

    check_writable(out / "eval.json", force)
    with console.progress("eval") as progress:
        report = evaluate_folder(out, truth, frames, progress)
    write_json(report, out / "eval.json", force)
    if console.json:
        console.emit_json(report)
    else:
        click.echo(table({out.name: report}))
