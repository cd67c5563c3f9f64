"""What was made or found: compared, kept and shown, as JSON or for a person."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldcast.console import Console

if TYPE_CHECKING:
    from fieldcast.distill.report import Comparison
    from fieldcast.fields.field import Field
    from fieldcast.fields.files import Provenance
    from fieldcast.fields.mesh import Mesh
    from fieldcast.fields.renderable import Renderable


@dataclass(frozen=True)
class Output:
    """file, page: what to write; force: over what exists. views, seed: how many views to compare on, and which."""

    file: Path
    page: Path | None
    force: bool
    views: int
    seed: int


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


def conclude(
    console: Console,
    teacher: Field | Renderable,
    student: Field | Renderable | Mesh,
    run: dict[str, Any],
    made_from: Provenance,
    out: Output,
    between: str = " to ",
) -> None:
    """Compares what was made, and is in its file, with what it was made of; keeps there what it is worth; tells it.

    run: what is known of how it was made, at least its seconds. between: the words between the names of the two.
    """
    from fieldcast.distill.report import report, write_report
    from fieldcast.fields.field import Field
    from fieldcast.fields.files import export_of, save

    source, psnr = Path(made_from.source), made_from.parents[0]["psnr"] if made_from.parents else None
    files = source, out.file
    with console.progress("compare") as progress:
        result = report(
            teacher, student, views=out.views, seed=out.seed, run=run, files=files, source_psnr=psnr, progress=progress
        )
    if isinstance(student, Field) and result.verdict and not export_of(out.file):  # which have no place for it
        # Kept first, and now again with what it is worth: nothing is lost if looking at it fails.
        save(student, out.file, provenance=replace(made_from, psnr=result.verdict.student_psnr), force=True)
    if out.page:
        write_report(result, out.page, f"{source.name}{between}{out.file.name}", out.force)
    show_report(console, f"{source}{between}{out.file} in {run['seconds']:.0f} s", result)
