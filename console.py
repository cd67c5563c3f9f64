"""The terminal: data on stdout, talk and progress on stderr, every error one line, and the exit codes.

    0 done    1 failed    2 the user's input is wrong    130 interrupted (128 + the signal's number)

Only the command line uses this; the library never prints. Nothing heavy is imported here, so that `--help` is quick.
"""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from fieldcast.errors import FieldcastError

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


# --- errors


class Terminated(BaseException):
    """The process was asked to end: raised like Ctrl-C, so that half-written files are removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


@contextmanager
def _signals_as_exceptions() -> Iterator[list[BaseException]]:
    """SIGTERM and SIGHUP raise `Terminated`, and SIGINT KeyboardInterrupt as ever; a signal that is ignored, as under
    nohup, stays ignored. What was raised is told: where others call back into Python, as compilers do, exceptions are
    lost, and what comes of that is an error of its own.
    """
    raised: list[BaseException] = []

    def end(number: int, frame: FrameType | None) -> None:
        raised.append(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number))
        raise raised[-1]

    def lost(what: sys.UnraisableHookArgs) -> None:
        if what.exc_value not in raised:
            report(what)

    usual: dict[signal.Signals, Any] = {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }
    caught = [number for number, handler in usual.items() if signal.getsignal(number) is handler]
    for number in caught:
        signal.signal(number, end)
    report, sys.unraisablehook = sys.unraisablehook, lost
    try:
        yield raised
    finally:
        sys.unraisablehook = report
        for number in caught:
            signal.signal(number, usual[number])


def run(main: Callable[[], int | None], debug: bool = False) -> int:
    """Calls `main` and turns whatever ends it into one line on stderr and an exit code.

    debug: shows the traceback too.
    """
    raised: list[BaseException] = []
    try:
        with _signals_as_exceptions() as raised:
            code = main() or 0
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        _discard_stdout()
        return 1
    except (KeyboardInterrupt, click.Abort, Terminated) as error:
        text, code = _interrupted(error)
    except Exception as error:
        if debug:
            traceback.print_exc()
        text, code = _interrupted(raised[-1]) if raised else explain(error)
    click.echo(f"fieldcast: {text}", err=True)
    return code


def _interrupted(error: BaseException) -> tuple[str, int]:
    return (str(error), error.exit_code) if isinstance(error, Terminated) else ("interrupted", 130)


def explain(error: Exception) -> tuple[str, int]:
    """One line about an error, and the exit code that it stands for."""
    text = one_line(error)
    if isinstance(error, FieldcastError):
        return text, error.exit_code
    if _out_of_memory(error):
        return f"out of memory: {text or 'no more to be had'}; try a smaller --size or --chunk", 1
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"disk full{f' while writing {printable(str(error.filename))}' if error.filename else ''}", 1
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{f'{printable(str(error.filename))}: ' if error.filename is not None else ''}{error.strerror}", 1
    return f"internal error: {type(error).__name__}: {text}; run again with --debug to see where", 1


def _out_of_memory(error: Exception) -> bool:
    """Also torch's errors, by name and text: torch may not have been imported."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def _discard_stdout() -> None:
    """What is still buffered for a reader that has gone goes nowhere, without the interpreter's complaint at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is not a real file, as in tests
        return


def main_guard(cli: click.Command, argv: list[str] | None = None) -> int:
    """Runs a click command and gives its exit code. Usage errors keep click's own text and exit with 2.

    argv: the arguments without the program's name, those of the process by default. A command may return its exit code.
    """
    arguments = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show must not stop the work
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def main() -> int:
        try:
            code = cli.main(args=arguments, prog_name="fieldcast", standalone_mode=False)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except SystemExit as error:  # click's answer to a closed pipe
            return error.code if isinstance(error.code, int) else 1
        return code if isinstance(code, int) else 0

    return run(main, debug="--debug" in arguments)
