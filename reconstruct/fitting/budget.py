"""How many steps fit into some minutes: a short trial tells what everything costs on this machine.

A trial of a few steps is trained by the same plan: what surfaces are seen through, and with it the cost of a step,
changes over it as over a whole run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.fitting.fit import Fitted, Plan, fit_people
from fieldcast.reconstruct.recordings.recording import Recording

TRIAL = 24  # steps
FEWEST = 20  # steps that are worth doing
MASKS = 3.0  # times that masks are asked for, of which the trial's beginning has one


@dataclass
class _Watch:
    """When the first step was done, and the seconds of those after it."""

    shown: Progress
    started: float = field(default_factory=time.perf_counter)
    first: float | None = None
    steps: list[float] = field(default_factory=list)
    last: float = 0.0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        self.shown(done, total, "measuring how long a step takes")
        now = time.perf_counter()
        if total != TRIAL:
            return
        if self.first is None:
            self.first = now - self.started
        else:
            self.steps.append(now - self.last)
        self.last = now


@dataclass(frozen=True, eq=False)
class Trial:
    """begin: seconds before the first step, most of them for masks. step: seconds. fitted: a first, poor result."""

    begin: float
    step: float
    fitted: Fitted


def trial(recording: Recording, plan: Plan, progress: Progress = silent) -> Trial:
    """What a few steps take. Steps between which masks are asked for anew do not count: the median is taken."""
    watch = _Watch(progress)
    fitted = fit_people(recording, replace(plan, steps=TRIAL), watch)
    assert watch.first is not None and watch.steps
    ordered = sorted(watch.steps)
    usual = [seconds for seconds in ordered if seconds < 4 * ordered[len(ordered) // 2]]
    return Trial(watch.first, sum(usual) / len(usual), fitted)


def steps_within(seconds: float, found: Trial) -> int:
    """Steps that fit into what is left. Raises InputError when hardly any do."""
    steps = int((seconds - MASKS * found.begin) / found.step)
    if steps < FEWEST:
        needed = MASKS * found.begin + FEWEST * found.step - seconds
        raise InputError(
            f"budget: expected time for {FEWEST} steps or more beside masks and pictures, found too little on this "
            f"machine; give {needed / 60:.1f} minutes more"
        )
    return steps
