"""Bodies by name, and those in files that users bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.capsules import capsules
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.bodies.smpl import READERS, read_smpl

BODIES: dict[str, Callable[[], Body]] = {"makehuman": makehuman, "capsules": capsules}


def open_body(name: str = "makehuman", folder: Path | None = None) -> Body:
    """A body by its name: one of BODIES, or the path of a file of the SMPL family.

    folder: where a relative path starts; the working folder if None. The name of a body from a file is its whole path,
    which opens it from anywhere.
    """
    if name in BODIES:
        return BODIES[name]()
    path = Path(name)
    if path.suffix.lower() not in READERS:
        raise InputError(
            f"body {name!r}: expected {', '.join(BODIES)}, or a file of SMPL's family ({', '.join(READERS)})"
        )
    return read_smpl((folder or Path()).joinpath(path).absolute())
