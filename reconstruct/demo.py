"""The demo of people: two who do not exist, filmed, reconstructed from guessed poses and compared with the truth."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress
from fieldcast.reconstruct.fitting.fit import Plan
from fieldcast.reconstruct.outputs.report import Report
from fieldcast.reconstruct.pipeline import Job, reconstruct
from fieldcast.reconstruct.recordings.files import read_recording
from fieldcast.reconstruct.synth.files import write_synthetic
from fieldcast.reconstruct.synth.scenes import Wanted, make

WANTED = Wanted(frames=20, size=128, fps=12)
STEPS = 800
MEASURED = 3  # frames that are compared with the truth: that takes longer than to make them


def run_demo(out: Path, seed: int, force: bool, shown: Callable[[str], AbstractContextManager[Progress]]) -> Report:
    """Fills the folder `out`: clip/ is what was filmed, people/ what was made of it. shown: a progress for a title."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder, found a file")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"{out} is not empty; use --force to replace what the demo makes")
    out.mkdir(parents=True, exist_ok=True)
    clip, wanted = out / "clip", replace(WANTED, seed=seed)
    with shown("clip") as progress:
        write_synthetic(make(wanted, progress), clip, asdict(wanted), force)
    with shown("people") as progress:
        job = Job(Plan(steps=STEPS, seed=seed), truth=clip, measured=MEASURED, force=force)
        return reconstruct(read_recording(clip), out / "people", job, progress)
