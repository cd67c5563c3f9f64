"""`render`: pictures and videos."""

from __future__ import annotations

import time
from pathlib import Path

import click

from fieldcast.cli import options
from fieldcast.cli.arguments import opened_scene, parsed_picture_size
from fieldcast.console import Console
from fieldcast.errors import InputError


@click.command()
@click.argument("field_file", metavar="FIELD", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.png|OUT.mp4|OUT.gif", type=click.Path(path_type=Path))
@click.option("--path", "path", help="turntable, views, or a camera path .json (default: what suits the field).")
@click.option("--size", default="400x400", show_default=True, metavar="WxH", help="Pixels.")
@click.option("--frames", default=60, show_default=True, type=click.IntRange(1, 100_000), help="Pictures in a video.")
@click.option("--frame", default=0, show_default=True, type=click.IntRange(0), help="Which of them a .png shows.")
@click.option("--fps", default=30.0, show_default=True, type=click.FloatRange(1, 240), help="Frames a second.")
@options.DEVICE
@options.FORCE
@options.talking
def render(
    console: Console,
    field_file: Path,
    out: Path,
    path: str | None,
    size: str,
    frames: int,
    frame: int,
    fps: float,
    device: str,
    force: bool,
) -> None:
    """A field or splats as a picture or a video.

    \b
    fieldcast render lego.safetensors lego.png --size 800x800
    fieldcast render lego.safetensors lego.mp4 --path turntable --frames 120
    """
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
    field = opened_scene(console, field_file, device)
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
