"""`reconstruct synth`: recordings of people whose truth is known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fieldcast.cli import options
from fieldcast.cli.results import show
from fieldcast.console import Console


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--scene", default="cross", show_default=True, help="cross, turn, embrace or occlude.")
@click.option("--people", default=2, show_default=True, type=click.IntRange(1, 4), help="How many.")
@click.option("--frames", default=40, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(16, 4096), help="Pixels a side.")
@click.option(
    "--closeness", type=click.FloatRange(0.1, 3), help="Metres between people (default: what suits the scene)."
)
@click.option("--fps", default=24.0, show_default=True, type=click.FloatRange(1, 240), help="Frames a second.")
@click.option("--camera", default="static", show_default=True, help="static, orbit or handheld.")
@click.option("--noise", default=0.04, show_default=True, type=click.FloatRange(0), help="Of places, metres an axis.")
@click.option(
    "--joint-noise", default=5.0, show_default=True, type=click.FloatRange(0), help="Of turns, degrees an axis."
)
@click.option(
    "--shape-noise", default=0.3, show_default=True, type=click.FloatRange(0), help="Of each number of shape."
)
@click.option("--no-shape", is_flag=True, help="Hand out shape numbers of zero.")
@click.option("--drift", is_flag=True, help="Errors that change slowly, not anew in each frame.")
@click.option("--with-masks", is_flag=True, help="Say who is where in each picture.")
@options.SEED
@options.FORCE
@options.reporting
def synth(console: Console, out: Path, force: bool, **asked: Any) -> None:
    """People in a room, filmed: a recording with guessed poses in OUT, and what is true in OUT/truth.

    OUT/scene.json is what somebody would have who filmed them. OUT/truth/ has their true poses, masks, surfaces and
    pictures from elsewhere, for `reconstruct eval`, and a preview (docs/synth.md).

    \b
    fieldcast reconstruct synth pair
    fieldcast reconstruct synth hug --scene embrace --camera handheld --noise 0.02
    """
    from fieldcast.fields.files.atomic import check_folder_writable
    from fieldcast.reconstruct.synth.files import write_synthetic
    from fieldcast.reconstruct.synth.noise import Noise
    from fieldcast.reconstruct.synth.scenes import Wanted, make
    from fieldcast.reconstruct.synth.scripts import script

    start = time.perf_counter()
    check_folder_writable(out, force)
    shape = None if asked["no_shape"] else asked["shape_noise"]
    noise = Noise(asked["noise"], asked["joint_noise"], shape, asked["drift"])
    same = {name: asked[name] for name in ("scene", "people", "frames", "size", "closeness", "fps", "camera", "seed")}
    same["closeness"] = same["closeness"] or script(same["scene"]).closeness
    with console.progress("synth") as progress:
        made = make(Wanted(noise=noise, masks=asked["with_masks"], **same), progress)
        write_synthetic(made, out, {**same, **vars(noise), "masks": asked["with_masks"]}, force)
    hidden = {person.name: int((~person.present).sum()) for person in made.truth.people}
    facts = {"out": str(out), **same, "hidden": hidden, "seconds": round(time.perf_counter() - start, 1)}
    show(console, f"{out}/: scene.json, truth/preview.mp4", facts)
