"""The terminal: what goes where, how errors read, and the exit codes."""

from __future__ import annotations

import errno
import json
import math
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import pytest
import torch

from fieldcast import console
from fieldcast.console import Console, jsonable, printable
from fieldcast.endings import Terminated, explain, main_guard, run
from fieldcast.errors import FieldcastError, InputError

Captured = pytest.CaptureFixture[str]


class Clock:
    """Stands in for time.monotonic."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


# --- talk and data


def test_data_on_stdout_talk_on_stderr(capsys: Captured) -> None:
    both = Console()
    both.say("thinking")
    both.table("lego", {"kind": "vm", "psnr": 31.23456, "rays": 12})
    assert capsys.readouterr() == ("lego\n  kind  vm\n  psnr  31.23\n  rays  12\n", "thinking\n")


def test_records_have_a_line_of_names(capsys: Captured) -> None:
    Console().table("views", [{"view": 0, "psnr": 30.0}, {"view": 10, "psnr": math.inf}])
    assert capsys.readouterr().out == "views\n  view  psnr\n  0     30\n  10    inf\n"


def test_empty_tables(capsys: Captured) -> None:
    Console().table("nothing", {})
    Console().table("nobody", [])
    assert capsys.readouterr().out == "nothing\nnobody\n"


def test_quiet_says_nothing_and_json_draws_no_table(capsys: Captured) -> None:
    Console(quiet=True).say("hello")
    Console(json=True).table("lego", {"kind": "vm"})
    assert capsys.readouterr() == ("", "")


def test_json_is_one_document_without_infinities(capsys: Captured) -> None:
    value = {"psnr": math.inf, "loss": math.nan, "views": (1, [2.5, -math.inf]), "file": Path("a b"), "name": "ü\n"}
    Console(json=True).emit_json(value)
    expected = {"psnr": None, "loss": None, "views": [1, [2.5, None]], "file": "a b", "name": "ü\n"}
    assert json.loads(capsys.readouterr().out) == expected


def test_json_takes_tensors() -> None:
    assert jsonable({"a": torch.tensor([1.0, math.inf]), "b": torch.tensor(3)}) == {"a": [1.0, None], "b": 3}


def test_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError):
        Console().emit_json({"a": object()})


def test_names_cannot_steer_the_terminal(capsys: Captured) -> None:
    assert printable("a\x1b[2J\r\udcffü\nb") == "a\\x1b[2J\\r\\udcffü\nb"
    Console().say("\x1b[31m")
    Console().table("t", {"name": "\x07"})
    assert capsys.readouterr() == ("t\n  name  \\x07\n", "\\x1b[31m\n")


# --- progress


def test_lines_when_piped(capsys: Captured, clock: Clock) -> None:
    """Nothing in the first second, a line at most every five seconds, one line at the end."""
    with Console().progress("fit") as progress:
        for i in range(31):
            progress(i * 100, 3000, "loss 0.0123")
            clock.now += 0.5
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "fit: 200/3000 6% loss 0.0123, 14 s left",
        "fit: 1200/3000 40% loss 0.0123, 9 s left",
        "fit: 2200/3000 73% loss 0.0123, 4 s left",
        "fit: 3000/3000 100% loss 0.0123, took 16 s",
    ]


def test_short_work_shows_nothing(capsys: Captured, clock: Clock) -> None:
    with Console().progress("fit") as progress:
        for i in range(10):
            progress(i, 9)
            clock.now += 0.05
    assert capsys.readouterr().err == ""


def test_resumed_work_is_timed_from_where_it_began(capsys: Captured, clock: Clock) -> None:
    with Console().progress("fit") as progress:
        progress(2000, 3000)
        clock.now += 10
        progress(2500, 3000)
    assert capsys.readouterr().err.splitlines()[0] == "fit: 2500/3000 83%, 10 s left"


def test_unknown_total(capsys: Captured, clock: Clock) -> None:
    with Console().progress("read") as progress:
        progress(0, 0)
        clock.now += 2
        progress(7, 0, "frames")
    assert capsys.readouterr().err.splitlines() == ["read: 7 frames", "read: 7 frames, took 2 s"]


def test_an_error_ends_progress_without_a_last_line(capsys: Captured, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt), Console().progress("fit") as progress:
        clock.now += 2
        progress(1, 10)
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines() == ["fit: 1/10 10%"]


def test_quiet_progress(capsys: Captured, clock: Clock) -> None:
    with Console(quiet=True).progress("fit") as progress:
        clock.now += 100
        progress(1, 2)
    assert capsys.readouterr() == ("", "")


def on_a_terminal(script: str, **env: str) -> str:
    """What a Python script writes to its stderr, a terminal."""
    leader, follower = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-c", script]
    shown = b""
    with subprocess.Popen(command, stderr=follower, env={**inherited, "TERM": "xterm", **env}) as process:
        os.close(follower)
        with suppress(OSError):  # the other end is closed
            while select.select([leader], [], [], 60)[0]:
                shown += os.read(leader, 4096)
    os.close(leader)
    assert process.returncode == 0
    return shown.decode()


BAR = """
from fieldcast import console
console.PATIENCE = 0
with console.Console().progress("fit [b]") as progress:
    for i in range(4):
        progress(i, 3, "loss [red]0.1")
"""


def test_a_bar_on_a_terminal() -> None:
    shown = on_a_terminal(BAR)
    assert "3/3 100% loss [red]0.1" in shown
    assert "fit [b]" in shown
    assert "\x1b[90m" in shown


def test_no_color_is_honoured() -> None:
    shown = on_a_terminal(BAR, NO_COLOR="1")
    assert "3/3 100% loss" in shown
    assert "\x1b[90m" not in shown


def test_a_dumb_terminal_gets_lines() -> None:
    assert "fit [b]: 0/3 0% loss [red]0.1\r\n" in on_a_terminal(BAR, TERM="dumb")


# --- errors and exit codes


def out_of_memory() -> RuntimeError:
    """What torch really says."""
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2**60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("a.ply: expected faces,\n  found none"), 2, "a.ply: expected faces, found none"),
        (FieldcastError("loss is nan"), 1, "loss is nan"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (Terminated(signal.SIGTERM), 143, "ended by SIGTERM"),
        (MemoryError(), 1, "out of memory: no more to be had; try a smaller --size or --chunk"),
        (
            torch.OutOfMemoryError("tried to allocate 3 GiB"),
            1,
            "out of memory: tried to allocate 3 GiB; try a smaller --size or --chunk",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "disk full"),
        (OSError(errno.ENOSPC, "No space left", "a.ply"), 1, "disk full while writing a.ply"),
        (OSError(errno.EFBIG, "File too large"), 1, "File too large"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a\x1b.ply"), 1, "a\\x1b.ply: No such file"),
        (ZeroDivisionError("by zero"), 1, "internal error: ZeroDivisionError: by zero; run again with --debug to see"),
    ],
)
def test_every_error_is_one_line_and_a_code(capsys: Captured, error: BaseException, code: int, text: str) -> None:
    def main() -> None:
        raise error

    assert run(main) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fieldcast: {text}")
    assert err.count("\n") == 1


def test_memory_that_torch_cannot_get() -> None:
    text, code = explain(out_of_memory())
    assert code == 1
    assert text.startswith("out of memory: ")


def test_debug_shows_the_traceback(capsys: Captured) -> None:
    def main() -> None:
        raise InputError("wrong")

    assert run(main, debug=True) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("fieldcast: wrong\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_signals_run_what_cleans_up(number: signal.Signals, code: int) -> None:
    cleaned = []

    def main() -> None:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)

    before = signal.getsignal(number)
    assert run(main) == code
    assert cleaned == [True]
    assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(lambda: signal.raise_signal(signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_pipe_is_quiet() -> None:
    script = "import sys; from fieldcast.console import Console; from fieldcast.endings import run; "
    script += "sys.exit(run(lambda: [Console().emit_json(list(range(100_000))) for _ in range(20)] and 0))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@click.group()
@click.option("--debug", is_flag=True)
def cli(debug: bool) -> None:
    """A program to try things on."""


@cli.command()
@click.argument("what")
def fail(what: str) -> int:
    if what == "validation":
        return 1
    raise {"input": InputError("wrong"), "bug": KeyError("x"), "stop": KeyboardInterrupt()}[what]


@cli.command()
def name() -> None:
    click.echo("é場\udcff")


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["fail", "input"], 2, "fieldcast: wrong\n"),
        (["fail", "validation"], 1, ""),
        (["fail", "bug"], 1, "fieldcast: internal error: KeyError: 'x'; run again with --debug to see where\n"),
        (["fail", "stop"], 130, "\nfieldcast: interrupted\n"),
        (["--help"], 0, ""),
    ],
)
def test_click_commands(capsys: Captured, argv: list[str], code: int, text: str) -> None:
    assert main_guard(cli, argv) == code
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["fail"], "Missing argument 'WHAT'"),
        (["fail", "input", "--nope"], "No such option"),
        (["fial", "x"], "No such command 'fial'"),
    ],
)
def test_usage_errors_are_clicks_own(capsys: Captured, argv: list[str], text: str) -> None:
    assert main_guard(cli, argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("Usage: fieldcast")
    assert text in err


def test_debug_on_the_command_line(capsys: Captured) -> None:
    assert main_guard(cli, ["--debug", "fail", "bug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_name_the_terminal_cannot_show() -> None:
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_console as t; "
    script += "sys.exit(t.main_guard(t.cli, ['name']))"
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=env, check=True)
    assert done.stdout == b"\xe9\\u5834\\udcff\n"


def test_nothing_heavy_is_imported() -> None:
    script = "import sys, fieldcast.console; "
    script += "print(*sorted({'torch', 'numpy', 'rich', 'fieldcast.fields'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert console.__name__ == "fieldcast.console"
