"""The terminal: data on stdout, talk and progress on stderr.

Only the command line uses this; the library never prints. Nothing heavy is imported here, so that `--help` is quick.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from fieldcast.fields.progress import Progress

PATIENCE = 1.0  # seconds of work before any progress is shown
INTERVAL = 5.0  # seconds between two lines of progress when piped


@dataclass(frozen=True)
class Console:
    """What the user wants to see. quiet: no talk and no progress. json: data as one JSON document, no tables."""

    quiet: bool = False
    json: bool = False

    def say(self, text: str) -> None:
        """A line for the person, on stderr."""
        if not self.quiet:
            click.echo(printable(text), err=True)

    def table(self, title: str, rows: Mapping[str, object] | Sequence[Mapping[str, object]]) -> None:
        """Data for a person, on stdout: names with their values, or records with equal keys. Nothing with --json."""
        if self.json:
            return
        lines = [[name, _cell(value)] for name, value in rows.items()] if isinstance(rows, Mapping) else _records(rows)
        click.echo("\n".join([printable(title), *_aligned(lines)]))

    def emit_json(self, value: object) -> None:
        """Data for a program, on stdout: one JSON document. What JSON cannot hold (inf, nan) becomes null."""
        click.echo(json.dumps(jsonable(value), indent=2, allow_nan=False))

    def progress(self, title: str) -> AbstractContextManager[Progress]:
        """Shows how far work is: a bar on a terminal, a line now and then when piped, nothing when quiet.

        with console.progress("fit") as progress:
            fit(..., progress=progress)
        """
        if self.quiet:
            return _silence()
        interactive = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        return _bar(title) if interactive else _lines(title)


# --- text


def printable(text: str) -> str:
    """The text with control characters written out: a name in a file must not be able to steer the terminal.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def one_line(error: BaseException) -> str:
    """The message of an error in one line."""
    return " ".join(line.strip() for line in printable(str(error)).splitlines() if line.strip())


def jsonable(value: Any) -> Any:
    """Plain lists, dicts, numbers and strings; inf and nan become None.

    >>> jsonable({"psnr": float("inf"), "sizes": (1, 2.5)})
    {'psnr': None, 'sizes': [1, 2.5]}
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # a tensor or an array
        return jsonable(value.tolist())
    return str(value) if isinstance(value, Path) else value


def _cell(value: object) -> str:
    return printable(f"{value:.4g}" if isinstance(value, float) else str(value))


def _records(rows: Sequence[Mapping[str, object]]) -> list[list[str]]:
    """A line of the names, then a line for each record."""
    if not rows:
        return []
    names = list(rows[0])
    return [names, *([_cell(row[name]) for name in names] for row in rows)]


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The columns at equal distances, indented by two."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]


# --- progress


@contextmanager
def _silence() -> Iterator[Progress]:
    yield lambda done, total, note="": None


@dataclass
class _Meter:
    """Where the work is, and how long it still takes.

    The rate is measured from the first call of each kind of work on: resumed work does not begin at 0.
    """

    started: float = field(default_factory=lambda: time.monotonic())
    first: tuple[float, int] | None = None
    done: int = 0
    total: int = 0
    note: str = ""

    def update(self, done: int, total: int, note: str) -> None:
        if self.first is None or total != self.total:
            self.first = time.monotonic(), done
        self.done, self.total, self.note = done, total, note

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def left(self) -> float | None:
        """Seconds still to go, or None when that is not known yet."""
        if self.first is None or self.done <= self.first[1] or self.total <= 0:
            return None
        since, begun = self.first
        return (self.total - self.done) * (time.monotonic() - since) / (self.done - begun)

    def __str__(self) -> str:
        """Such as `300/3000 10% loss 0.0123, 42 s left`."""
        known = [f"{self.done}/{self.total} {100 * self.done // self.total}%"] if self.total > 0 else [f"{self.done}"]
        text = " ".join([*known, *([printable(self.note)] if self.note else [])])
        left = self.left()
        return text if left is None or self.done >= self.total else f"{text}, {duration(left)} left"


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(42.4), duration(150), duration(7260)
    ('42 s', '2 min 30 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def _lines(title: str) -> Iterator[Progress]:
    """A line every `INTERVAL` seconds, and one at the end of work that was long enough to have any."""
    meter, shown = _Meter(), -math.inf

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal shown
        meter.update(done, total, note)
        if meter.elapsed >= PATIENCE and meter.elapsed - shown >= INTERVAL:
            shown = meter.elapsed
            click.echo(f"{title}: {meter}", err=True)

    yield update
    if meter.elapsed >= PATIENCE and meter.first is not None:
        click.echo(f"{title}: {meter}, took {duration(meter.elapsed)}", err=True)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    """A bar that appears once the work has taken `PATIENCE` seconds."""
    meter = _Meter()
    bar: Bar | None = None

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal bar
        meter.update(done, total, note)
        if bar is None and meter.elapsed >= PATIENCE:
            bar = _start_bar(title)
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done, total=total or None, status=str(meter))

    try:
        yield update
    finally:
        if bar is not None:
            bar.stop()


def _start_bar(title: str) -> Bar:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        TextColumn("{task.fields[status]}", markup=False),
    )
    bar = Bar(*columns, console=RichConsole(stderr=True), redirect_stdout=False, refresh_per_second=4)
    bar.add_task(title, status="")
    bar.start()
    return bar
