"""Laws of writing: the new file is whole, or the old one is untouched and nothing else is left behind."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fieldcast.endings import Terminated
from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.files.atomic import atomic_path, check_writable


@pytest.mark.parametrize("name", ["a.png", "with space.mp4", "Ünï-場.field.safetensors", "-dash", "x" * 250 + ".png"])
def test_writes_under_any_name(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with atomic_path(target) as stump:
        assert stump.parent == tmp_path
        assert stump.suffix == target.suffix
        assert not target.exists()
        stump.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_path(Path("a.bin")) as stump:
        stump.write_bytes(b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, lambda: Terminated(15), ValueError])
@pytest.mark.parametrize("old", [b"old", None])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, error: type[BaseException], old: bytes | None) -> None:
    target = tmp_path / "a.bin"
    if old is not None:
        target.write_bytes(old)
    raised = error()
    with pytest.raises(type(raised)), atomic_path(target, force=True) as stump:
        stump.write_bytes(b"half")
        raise raised
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_sigterm_leaves_the_old_file(tmp_path: Path) -> None:
    """A real signal in a real process."""
    script = f"""
import pathlib, sys, time
from fieldcast.endings import run
from fieldcast.fields.files.atomic import atomic_path
def main():
    with atomic_path(pathlib.Path({str(tmp_path / "a.bin")!r}), force=True) as stump:
        stump.write_bytes(b"half")
        print("ready", flush=True)
        time.sleep(60)
sys.exit(run(main))
"""
    (tmp_path / "a.bin").write_bytes(b"old")
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        _, talk = process.communicate(timeout=60)
    assert process.returncode == 143
    assert talk == b"fieldcast: ended by SIGTERM\n"
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["write", "sync"])
def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    if where == "sync":  # some file systems find out only then
        monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(FieldcastError, match=r"^disk full while writing .*a\.bin$") as caught,
        atomic_path(target, force=True) as stump,
    ):
        stump.write_bytes(b"half")
        if where == "write":
            full()
    assert caught.value.exit_code == 1
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a file system of 64 KiB, where one may be mounted."""
    script = f"""
import pathlib
from fieldcast.endings import run
from fieldcast.fields.files.atomic import atomic_path
folder = pathlib.Path({str(tmp_path)!r})
def main():
    with atomic_path(folder / "a.bin", force=True) as stump:
        stump.write_bytes(bytes(200_000))
(folder / "a.bin").write_bytes(b"old")
code = run(main)
print(code, [(p.name, p.read_bytes()) for p in folder.iterdir()])
"""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    mount = f'mount -t tmpfs -o size=64k tmpfs "{tmp_path}" || exit 77; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.stdout == "":
        pytest.skip(f"may not mount a file system here: {done.stderr.strip()}")
    assert done.stdout == "1 [('a.bin', b'old')]\n"
    assert done.stderr == f"fieldcast: disk full while writing {tmp_path}/a.bin\n"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_mode_of_a_new_file_is_what_the_umask_allows(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "a.bin") as stump:
            stump.write_bytes(b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o666 & ~mask


def test_mode_of_the_old_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    target.chmod(0o640)
    with atomic_path(target, force=True) as stump:
        stump.unlink()  # some writers make a file of their own
        stump.write_bytes(b"new")
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real.bin", tmp_path / "link.bin"
    real.write_bytes(b"old")
    link.symlink_to(real)
    with atomic_path(link, force=True) as stump:
        stump.write_bytes(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("old.bin", "exists; use --force to replace it"),
        ("folder", "expected the name of a file to write, found a folder"),
        ("missing/a.bin", "missing does not exist; create the folder first"),
        ("old.bin/a.bin", "old.bin is not a folder"),
        ("pipe", "found a device, pipe or socket"),
        ("x" * 300, "File name too long"),
    ],
)
def test_refused_before_work_starts(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "old.bin").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    target = tmp_path / name
    with pytest.raises(InputError) as caught:
        check_writable(target)
    assert str(caught.value).startswith(str(target))
    assert str(caught.value).endswith(reason)
    with pytest.raises(InputError), atomic_path(target):
        pytest.fail("the work must not start")
    if name != "old.bin":  # force replaces files, nothing else
        with pytest.raises(InputError):
            check_writable(target, force=True)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # for root every folder is open
    with pytest.raises(InputError, match="no permission to write in the folder"):
        check_writable(tmp_path / "a.bin")
