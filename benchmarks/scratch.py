"""A conversion beside training its target from the images for the same time, on test views.

    .venv/bin/python benchmarks/scratch.py ../shared/data/posed/nerf_synthetic_lego_200 out/lego/hashgrid.safetensors

For each kind: the field is converted to it by `fast`; then the kind is fitted to the images in as many seconds, and, if
that is not as good, in four times as many. Seconds are CPU seconds of all threads over their number,
which other work on the machine changes little. What the field itself took to fit is not in them: a conversion is for
those who have it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import measure
import torch
from matrix import KINDS, cpu_seconds

import fieldcast
from fieldcast.distill import convert
from fieldcast.fields.evaluate import evaluate
from fieldcast.fields.field import Field
from fieldcast.fields.fit import fit
from fieldcast.fields.scenes import Scene, open_scene
from fieldcast.fields.spec import FieldSpec

PACE_STEPS = 60  # of the run that finds how long a step takes
TIMES = (1, 4)  # the seconds of the conversion, so many times
VIEWS = 8  # of the test split


def compared(teacher: Field, kind: str, train: Scene, test: Scene, seed: int) -> list[list[str]]:
    """Rows of the table: the conversion, and fits in multiples of its seconds."""
    start = cpu_seconds()
    student = convert(teacher, kind, seed=seed)
    seconds = (cpu_seconds() - start) / torch.get_num_threads()
    wanted = evaluate(student, test).psnr
    rows = [[kind, "converted", "", f"{seconds:.1f}", f"{wanted:.2f}"]]
    measure.say(rows[-1])
    pace = fitted(train, student.spec, PACE_STEPS, seed)[1] / PACE_STEPS
    for times in TIMES:
        steps = round(times * seconds / pace)
        field, spent = fitted(train, student.spec, steps, seed)
        pace, reached = spent / steps, evaluate(field, test).psnr
        rows.append([kind, "fitted", str(steps), f"{spent:.1f}", f"{reached:.2f}"])
        measure.say(rows[-1])
        if reached >= wanted:
            break
    return rows


def fitted(train: Scene, spec: FieldSpec, steps: int, seed: int) -> tuple[Field, float]:
    """The kind trained on the images, and its seconds."""
    start = cpu_seconds()
    field = fit(train, whole(spec), steps=steps, seed=seed)
    return field, (cpu_seconds() - start) / torch.get_num_threads()


def whole(spec: FieldSpec) -> FieldSpec:
    """The spec of a student before it knows what is empty, which those who start from images do not."""
    return spec.resized({"blocks": "0"}) if hasattr(spec.sizes, "blocks") else spec


def main() -> None:
    """See the module's own words."""
    parser = measure.options(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("field", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    options: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(options.threads)
    train = open_scene(options.data, "train")
    test = open_scene(options.data, "test").spread(VIEWS)
    teacher = fieldcast.open(options.field)
    kinds = [kind for kind in options.kinds.split(",") if kind != teacher.spec.kind]
    rows = [row for kind in kinds for row in compared(teacher, kind, train, test, options.seed)]
    print(measure.table(["target", "way", "steps", "s", "test dB"], rows))
    print(f"\nthe source itself: {evaluate(teacher, test).psnr:.2f} dB\n\n{measure.machine()}")


if __name__ == "__main__":
    fieldcast.prepare()
    main()
