"""From a recording to a folder of everything that was made of it: poses, avatars, pictures, files and a report.

What takes long is remembered in a folder beside, OUT.unfinished, so that interrupted work goes on to the same result;
it also holds a preview of how far it is, and is gone at the end.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fieldcast.errors import InputError
from fieldcast.fields.files import open_field
from fieldcast.fields.files.atomic import atomic_folder, check_folder_writable
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.evaluation.folders import MEASURED, measured
from fieldcast.reconstruct.fitting.budget import steps_within, trial
from fieldcast.reconstruct.fitting.fit import Fitted, Plan, fit_people
from fieldcast.reconstruct.fitting.recipes import RECIPES
from fieldcast.reconstruct.outputs.folder import files_of, seen_numbers, write_pictures
from fieldcast.reconstruct.outputs.paths import FEWEST as ROUND
from fieldcast.reconstruct.outputs.people import checked_meshes, write_people
from fieldcast.reconstruct.outputs.previews import save_preview
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction
from fieldcast.reconstruct.outputs.report import OfPerson, Report, write_report
from fieldcast.reconstruct.outputs.sights import Sights
from fieldcast.reconstruct.poses.beginning import Beginning, begun
from fieldcast.reconstruct.poses.smoothing import smoothed
from fieldcast.reconstruct.recordings.files import require_people
from fieldcast.reconstruct.recordings.keypoints import Keypoints
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.remembering import Remembered, identity_of, settings_of
from fieldcast.reconstruct.segments.segmenter import SEGMENTERS


@dataclass(frozen=True)
class Job:
    """What is wanted. plan: of the fit. minutes: for everything, instead of the plan's steps. people: how many to look
    for in a recording that says nothing of them; keypoints: what to begin them with. meshes: .ply, .obj or .glb for a
    mesh of everybody in each frame. truth: the folder of a synthetic scene to compare with, in so many frames as
    `measured` says. resume: go on where an interrupted run was. force: replace what is there.
    """

    plan: Plan = field(default_factory=Plan)
    minutes: float | None = None
    people: int | None = None
    keypoints: Keypoints | None = None
    meshes: str | None = None
    truth: Path | None = None
    measured: int = MEASURED
    resume: bool = False
    force: bool = False


@dataclass
class _Clock:
    """What steps took, seconds."""

    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def lap(self, name: str) -> None:
        """What was done since the last lap is called so."""
        self.seconds[name] = round(self.elapsed - sum(self.seconds.values()), 1)


def reconstruct(
    recording: Recording,
    out: Path,
    job: Job | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Makes the folder `out`, whole or not at all, and tells what its report.json does.

    say: is told how sure it is where people begin, before what takes long.
    """
    job, clock = job or Job(), _Clock()
    check_job(job)
    check_folder_writable(out, job.force)
    identity = identity_of(recording, job.plan, job.minutes, job.people, job.keypoints)
    memory = Remembered.opened(out, identity, job.resume, job.force)
    beginning = memory.begun(recording, lambda: _begun(recording, job, progress))
    start = beginning.recording
    if say:
        for one in beginning.sure:
            say(one.sentence)
    clock.lap("poses")
    plan = job.plan
    if job.minutes is not None:
        plan = replace(plan, steps=memory.steps(lambda: _steps(start, job, clock, progress)))
        clock.lap("trial")
    made = memory.reconstruction(start, lambda: _fitted(start, plan, memory, progress))
    clock.lap("fit")
    report = _written(made, beginning, out, replace(job, plan=plan), clock, progress)
    shutil.rmtree(memory.folder, ignore_errors=True)
    return report


def check_job(job: Job) -> None:
    """Raises InputError for what can be known to be wrong before any work."""
    checked_meshes(job.meshes)
    if job.minutes is not None and not 0 < job.minutes < float("inf"):
        raise InputError(f"budget: expected minutes above 0, found {job.minutes:g}")
    if job.plan.steps < 1:
        raise InputError(f"steps: expected 1 or more, found {job.plan.steps}")
    if job.people is not None and job.people < 1:
        raise InputError(f"people: expected 1 or more, found {job.people}")
    if job.plan.recipe not in RECIPES:
        raise InputError(f"recipe {job.plan.recipe}: expected one of {', '.join(RECIPES)}")
    if job.plan.segmenter not in SEGMENTERS:
        raise InputError(f"segmenter {job.plan.segmenter}: expected one of {', '.join(SEGMENTERS)}")
    if job.plan.folder is not None and not job.plan.folder.is_dir():
        found = "a file" if job.plan.folder.exists() else "nothing"
        raise InputError(f"{job.plan.folder}: expected a folder of masks or of weights, found {found}")
    if job.plan.background is not None:
        open_field(job.plan.background)


def _begun(recording: Recording, job: Job, progress: Progress) -> Beginning:
    """The poses that are given, or those that can be begun with, made smooth."""
    known = len(recording.people)
    if known and job.people not in (None, known):
        raise InputError(
            f"{recording.source}: people: expected {job.people}, found the poses of {known}; leave --people out"
        )
    found = begun(recording, job.people, progress, job.keypoints)
    require_people(found.recording)
    people = tuple(smoothed(person).person for person in found.recording.people)
    return replace(found, recording=replace(found.recording, people=people))


def _steps(start: Recording, job: Job, clock: _Clock, progress: Progress) -> int:
    """What fits into the minutes beside everything else."""
    assert job.minutes is not None
    tried = trial(start, job.plan, progress)
    before = clock.elapsed
    Reconstruction.of(start, tried.fitted).rendered(0)
    picture = clock.elapsed - before
    pictures = (2 + len(start.people)) * len(start) + ROUND
    return steps_within(60 * job.minutes - clock.elapsed - pictures * picture, tried)


def _fitted(start: Recording, plan: Plan, memory: Remembered, progress: Progress) -> Reconstruction:
    """The fit itself, with a preview now and then."""

    def watch(step: int, fitted: Fitted) -> None:
        save_preview(Reconstruction.of(start, fitted), memory.preview)

    going_on = memory.checkpoint.exists()
    return Reconstruction.of(start, fit_people(start, plan, progress, watch, memory.checkpoint, going_on))


def _written(
    made: Reconstruction, beginning: Beginning, out: Path, job: Job, clock: _Clock, progress: Progress
) -> Report:
    """Everything in the folder."""
    with atomic_folder(out, job.force) as stump:
        sights = Sights.of(made, progress, alone=True)
        clock.lap("look")
        write_pictures(made, sights, stump, progress)
        people = write_people(made, stump, checked_meshes(job.meshes), progress)
        clock.lap("write")
        metrics: dict[str, Any] = {"seen": seen_numbers(made, sights)}
        if job.truth is not None:
            metrics["truth"] = measured(made, sights, job.truth, job.measured, progress)
            clock.lap("measure")
        report = _report(made, beginning, people, job, clock, metrics, stump)
        write_report(report, stump / "report.json")
    return report


def _report(
    made: Reconstruction,
    beginning: Beginning,
    people: list[OfPerson],
    job: Job,
    clock: _Clock,
    metrics: dict[str, Any],
    folder: Path,
) -> Report:
    recording = made.recording
    width, height = recording.cameras.size[0].tolist()
    sure = {one.name: one for one in beginning.sure}
    told = [replace(p, begun=sure[p.name].sentence, sure=sure[p.name].number) if sure else p for p in people]
    return Report(
        source=recording.source,
        frames=len(recording),
        fps=recording.fps,
        width_px=width,
        height_px=height,
        people=tuple(told),
        seconds={**clock.seconds, "all": round(clock.elapsed, 1)},
        peak_memory_mb=peak_memory_mb(),
        metrics=metrics,
        files=files_of(folder),
        settings={**settings_of(job.plan), "budget": job.minutes, "resumed": job.resume},
        warnings=recording.warnings,
    )


def peak_memory_mb() -> float | None:
    """Of this process so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
