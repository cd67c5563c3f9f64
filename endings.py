"""How a command ends: every error is one line on stderr, and the exit code says which kind it was.

    0 done    1 failed    2 the user's input is wrong    130 interrupted (128 + the signal's number)

Nothing heavy is imported here, so that `--help` is quick.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from fieldcast.console import one_line, printable
from fieldcast.errors import FieldcastError


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
