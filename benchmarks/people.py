"""People fitted to a synthetic recording, against its truth, with terms left out and put in.

    fieldcast reconstruct synth out/pair
    .venv/bin/python benchmarks/people.py out/pair --steps 2500 --threads 1
    .venv/bin/python benchmarks/people.py out/pair --runs default --steps 8000

smooths the poses that are given, fits people before a still background as each of the runs says, and prints the tables
of docs/people-evaluation.md; beside them are the poses that were given and the bodies without clothes. The paper's
recipe gets the CPU seconds that `default` took, which has to be the first of the runs then.
"""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import torch

import fieldcast
from fieldcast.errors import InputError
from fieldcast.reconstruct.evaluation.folders import measured
from fieldcast.reconstruct.evaluation.tables import table
from fieldcast.reconstruct.fitting.fit import Fitted, Plan, fit_people
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction
from fieldcast.reconstruct.outputs.sights import Sights
from fieldcast.reconstruct.poses.smoothing import smoothed
from fieldcast.reconstruct.recordings.files import read_recording
from fieldcast.reconstruct.recordings.recording import Recording

RUNS: dict[str, dict[str, Any]] = {
    "default": {},
    "masks asked for once": {"asking": False},
    "with confidence": {"confident": True},
    "with order and apart": {"ordered": True},
    "not smooth": {"smooth": False},
    "on one floor": {"floor": True},
    "true poses": {"moving": False},
    "paper": {"recipe": "paper"},
}
TRIAL = 20  # steps that tell how long a step of the paper's takes


def cpu() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def fitted(recording: Recording, plan: Plan) -> tuple[Fitted, float]:
    """What was fitted, and the CPU seconds that it took."""
    before = cpu()
    return fit_people(recording, plan), cpu() - before


def steps_in(seconds: float, recording: Recording, plan: Plan) -> int:
    """How many steps a recipe makes in so many CPU seconds, from two short runs."""
    few, more = (fitted(recording, replace(plan, steps=steps))[1] for steps in (TRIAL, 3 * TRIAL))
    each = (more - few) / (2 * TRIAL)
    return max(1, int((seconds - few) / each) + TRIAL)


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--runs", default=",".join(RUNS), help=f"of {', '.join(RUNS)}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    given = read_recording(options.folder)
    begun = replace(given, people=tuple(smoothed(person).person for person in given.people))
    true = replace(given, people=read_recording(options.folder / "truth").people)
    reports, seconds = {}, 0.0
    for name in options.runs.split(","):
        if name not in RUNS:
            raise InputError(f"runs: expected some of {', '.join(RUNS)}, found {name}")
        recording, plan = true if name == "true poses" else begun, Plan(options.steps, **RUNS[name])
        if name == "paper":
            plan = replace(plan, steps=steps_in(seconds, recording, plan))
        started = time.monotonic()
        found, took = fitted(recording, plan)
        seconds = took if name == "default" else seconds
        made = Reconstruction.of(recording, found)
        reports[f"{name}, {plan.steps} steps"] = measured(made, Sights.of(made), options.folder)
        print(f"{name}: {plan.steps} steps, {took:.0f} CPU seconds, {time.monotonic() - started:.0f} with measuring")
    print(f"\n{table(reports)}\n\n{measure.machine()}")


if __name__ == "__main__":
    fieldcast.prepare()
    main()
