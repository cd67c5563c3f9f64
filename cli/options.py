"""What can be typed: options that commands share, and those of the console that they talk through."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from fieldcast.cli.arguments import parsed_sizes
from fieldcast.console import Console

KIND_NAMES = "mlp, hashgrid, vm, cp, voxels, planes, hybrid, nerf, tensorf"
DEVICE = click.option("--device", default="auto", show_default=True, help="cpu, cuda, or the faster one present.")
FORCE = click.option("--force", "-f", is_flag=True, help="Replace files that exist.")
SEED = click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Random numbers.")
RESUME = click.option("--resume", is_flag=True, help="Continue from the checkpoint that an interrupted run left.")
SIZES = click.option(
    "--size",
    "sizes",
    multiple=True,
    callback=lambda ctx, option, pairs: parsed_sizes(pairs),
    metavar="NAME=VALUE",
    help="One of the kind's sizes; `info` lists them.",
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


def talking(function: Callable[..., None]) -> Callable[..., None]:
    """Adds --quiet and --debug (which `main_guard` looks for), and gives the command its console as `console`."""

    @click.option("--quiet", "-q", is_flag=True, help="No progress and no talk.")
    @click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
    @wraps(function)
    def command(quiet: bool, as_json: bool = False, **arguments: Any) -> None:
        function(console=Console(quiet, as_json), **arguments)

    return command


def reporting(function: Callable[..., None]) -> Callable[..., None]:
    """As `talking`, with --json."""
    return talking(click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(function))
