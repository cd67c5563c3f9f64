"""The demo of morphs: a car becomes a stag, neither of which the prior has learned from."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import fieldcast
from fieldcast.fields.files import Provenance
from fieldcast.fields.files.atomic import check_folder_writable
from fieldcast.fields.progress import Progress
from fieldcast.morph.folder import write_morph
from fieldcast.morph.inputs import given_by
from fieldcast.morph.priors import open_prior
from fieldcast.morph.recipes import RECIPES
from fieldcast.morph.report import report
from fieldcast.morph.sequence import morph

FIRST, SECOND = "car.glb", "stag.glb"
FRAMES = 16


def run_demo(
    out: Path, seed: int, device: str, force: bool, shown: Callable[[str], AbstractContextManager[Progress]]
) -> dict[str, Any]:
    """Makes the folder `out` and returns its report. shown: gives a progress for a title."""
    check_folder_writable(out, force)
    start, assets, prior = time.perf_counter(), Path(__file__).with_name("assets"), open_prior("builtin", device)
    first, second = given_by(prior, str(assets / FIRST)), given_by(prior, str(assets / SECOND))
    with shown("morph") as progress:
        made = morph(prior, first, second, RECIPES["default"], FRAMES, seed, progress=progress)
        facts = report(made, "default", time.perf_counter() - start)
        told = Provenance(source=f"{FIRST} to {SECOND}", version=fieldcast.__version__)
        write_morph(made, out, facts, told, force, progress)
    return facts
