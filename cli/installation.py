"""`demo` and `doctor`: whether all works here."""

from __future__ import annotations

from pathlib import Path

import click

from fieldcast.cli import options
from fieldcast.cli.arguments import chosen_device
from fieldcast.cli.results import show
from fieldcast.console import Console
from fieldcast.errors import InputError


@click.command()
@click.argument("subject", default="fields", metavar="[fields|morph|people]")
@click.option("--out", default=Path("demo-out"), show_default=True, type=click.Path(path_type=Path), help="A folder.")
@options.SEED
@options.DEVICE
@options.FORCE
@options.reporting
def demo(console: Console, subject: str, out: Path, seed: int, device: str, force: bool) -> None:
    """See it work, with what is built in.

    fields: a scene, fitted, converted to other kinds and rendered: pictures, a table and files. morph: a car becomes a
    stag: a film, a sheet of pictures, and every frame as a field and as GLB. people: two in a room, filmed, become
    animated GLBs, films and a report of how near they are to the truth.

    \b
    fieldcast demo --out demo-out
    fieldcast demo morph --out morph-out
    fieldcast demo people --out people-out
    """
    if subject == "morph":
        from fieldcast.morph.demo import run_demo as run_morph

        facts = run_morph(out, seed, chosen_device(device), force, console.progress)
        show(console, f"{out}/: morph.mp4, sheet.png, frames", facts)
        return
    if subject == "people":
        from fieldcast.reconstruct.demo import run_demo as run_people

        report = run_people(out, seed, force, console.progress)
        facts = report.to_json() if console.json else report.summary()
        show(console, f"{out}/people: sheet.png, people.glb, films; {out}/clip: what was filmed", facts)
        return
    if subject != "fields":
        raise InputError(f"demo {subject}: expected fields, morph or people")
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
