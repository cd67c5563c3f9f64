"""Which body a recording names: the one place where a name becomes a `Body`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.makehuman import makehuman

BODIES: dict[str, Callable[[], Body]] = {"makehuman": makehuman}


def open_body(name: str, folder: Path) -> Body:
    """The body of that name. folder: what the paths of body files are relative to."""
    if name not in BODIES:
        raise InputError(f"body {name!r:.80}: expected {', '.join(sorted(BODIES))}")
    return BODIES[name]()
