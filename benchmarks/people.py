"""People fitted to a synthetic recording, against its truth.

    fieldcast reconstruct synth out/pair
    .venv/bin/python benchmarks/people.py out/pair --steps 4000

smooths the poses that are given, fits people before a still background, and prints the tables of
docs/people-evaluation.md; beside them are the poses that were given and the bodies without clothes.
"""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import measure
import torch

import fieldcast
from fieldcast.reconstruct.evaluation.folders import measured
from fieldcast.reconstruct.evaluation.tables import table
from fieldcast.reconstruct.fitting.fit import Plan, fit_people
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction
from fieldcast.reconstruct.outputs.sights import Sights
from fieldcast.reconstruct.poses.smoothing import smoothed
from fieldcast.reconstruct.recordings.files import read_recording


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--still", action="store_true", help="keep the poses that are given")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    given = read_recording(options.folder)
    begun = replace(given, people=tuple(smoothed(person).person for person in given.people))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    made = Reconstruction.of(begun, fit_people(begun, Plan(options.steps, moving=not options.still)))
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    report = measured(made, Sights.of(made), options.folder)
    print(table({f"{options.steps} steps": report}))
    print(f"\n{seconds:.0f} CPU seconds\n\n{measure.machine()}")


if __name__ == "__main__":
    fieldcast.prepare()
    main()
