"""Files appear whole or not at all: written under a temporary name in the same folder, synced, renamed.

Whatever ends the work early (an error, Ctrl-C, a full disk) leaves the old file, if there was one, as it was.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fieldcast.errors import FieldcastError, InputError


def check_writable(target: Path, force: bool = False) -> None:
    """Raises InputError unless a file can be put at `target`. Called before long work starts, not after it.

    force: a regular file that is there already may be replaced.
    """
    folder = target.parent
    try:
        found = target.stat() if target.exists() else None
        if not folder.is_dir():
            reason = "is not a folder" if folder.exists() else "does not exist; create the folder first"
            raise InputError(f"{target}: cannot be written: {folder} {reason}")
    except OSError as error:  # such as a name that is too long, or a folder that may not be entered
        raise InputError(f"{target}: cannot be written: {error.strerror}") from error
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise InputError(f"{target}: expected the name of a file to write, found a folder")
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise InputError(f"{target}: expected the name of a file to write, found a device, pipe or socket")
    if found is not None and not force:
        raise InputError(f"{target} exists; use --force to replace it")
    if not os.access(_real(target).parent, os.W_OK | os.X_OK):
        raise InputError(f"{target}: cannot be written: no permission to write in the folder {folder}")


@contextmanager
def atomic_path(target: Path, force: bool = False) -> Iterator[Path]:
    """Gives an empty file beside `target`, with the same suffix, to write to; renames it to `target` at the end.

    The new file has the mode of the one that it replaces, or what the umask allows. A link is followed: what it
    points at is replaced.
    """
    check_writable(target, force)
    final = _real(target)
    stump: Path | None = None
    try:
        stump = _create_beside(final)
        mode = stat.S_IMODE((final if final.exists() else stump).stat().st_mode)
        yield stump
        stump.chmod(mode)
        _sync(stump)
        stump.replace(final)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FieldcastError(f"disk full while writing {target}") from error
        raise
    finally:  # after the rename there is nothing left to remove
        if stump is not None:
            stump.unlink(missing_ok=True)
    with suppress(OSError):  # some file systems cannot sync a folder; the file itself is safe already
        _sync(final.parent)


@contextmanager
def atomic_folder(target: Path, force: bool = False) -> Iterator[Path]:
    """Gives an empty folder beside `target` to fill; renames it to `target` at the end, files synced.

    force: a folder that is there already is replaced, with all that is in it.
    """
    check_folder_writable(target, force)
    final = _real(target)
    stump, old = (final.with_name(f".fieldcast-{secrets.token_hex(6)}{end}") for end in ("", ".old"))
    try:
        stump.mkdir()
        yield stump
        for file in stump.rglob("*"):
            _sync(file)
        if final.exists():
            final.rename(old)
        stump.rename(final)
    except OSError as error:
        if old.exists() and not final.exists():
            old.rename(final)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FieldcastError(f"disk full while writing {target}") from error
        raise
    finally:  # after the rename the first is gone; the second, if there was one, has been replaced
        for left in (stump, old) if final.exists() else (stump,):
            shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):
        _sync(final.parent)


def check_folder_writable(target: Path, force: bool = False) -> None:
    """Raises InputError unless a folder can be put at `target`."""
    try:
        if target.exists() and not target.is_dir():
            raise InputError(f"{target}: expected the name of a folder to write, found a file")
        if target.exists() and not force:
            raise InputError(f"{target} exists; use --force to replace it")
        folder = _real(target).parent
        if not folder.is_dir():
            raise InputError(f"{target}: cannot be written: {folder} does not exist; create the folder first")
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{target}: cannot be written: no permission to write in the folder {folder}")


def _real(target: Path) -> Path:
    """Where the bytes go: absolute, links followed."""
    return Path(os.path.realpath(target))


def _create_beside(final: Path) -> Path:
    """A new empty file that nobody else has, with the mode that the umask allows (mkstemp's would be 0600)."""
    stump = final.with_name(f".fieldcast-{secrets.token_hex(6)}{final.suffix}")
    os.close(os.open(stump, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return stump


def _sync(path: Path) -> None:
    """Returns when what was written to `path` is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
