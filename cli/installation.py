"""`demo` and `doctor`: whether all works here."""

from __future__ import annotations

from pathlib import Path

import click

from fieldcast.cli import options
from fieldcast.cli.arguments import chosen_device
from fieldcast.cli.results import show
from fieldcast.console import Console


@click.command()
@click.option("--out", default=Path("demo-out"), show_default=True, type=click.Path(path_type=Path), help="A folder.")
@options.SEED
@options.DEVICE
@options.FORCE
@options.reporting
def demo(console: Console, out: Path, seed: int, device: str, force: bool) -> None:
    """A built-in scene, fitted, converted to other kinds and rendered: pictures, a table and files.

    \b
    fieldcast demo --out demo-out
    """
    from fieldcast.distill.demo import run_demo

    rows = run_demo(out, seed, chosen_device(device), force, console.progress)
    if console.json:
        console.emit_json(rows)
        return
    console.table("the demo scene, fitted as a hash grid and converted", rows)
    click.echo(f"\n{out}/ holds:")
    for file in sorted(p for p in out.iterdir() if p.is_file()):
        click.echo(f"  {file.name:28s} {file.stat().st_size / 1e6:6.1f} MB")


@click.command()
@options.reporting
def doctor(console: Console) -> None:
    """What this installation can do: versions, devices, and what is missing."""
    from fieldcast.doctor import examine

    show(console, "fieldcast", examine())
