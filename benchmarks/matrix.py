"""Every kind of field to every other kind, by every recipe, as curves of fidelity over time.

    .venv/bin/python benchmarks/matrix.py ../shared/data/posed/nerf_synthetic_lego_200 out/lego

fits the data set as each kind (the teachers), converts each to each other kind by each recipe at several lengths, and
prints the table. Every conversion is a line of `benchmarks/runs/NAME.jsonl`, NAME being that of the folder OUT; what is
there already is not run again, so that an interrupted run continues. `--only table` runs nothing.

Fidelity is the student's pictures against its teacher's, mean PSNR over views that neither was trained on. Seconds are
of the conversion alone, with asking the teacher; `cpu` is what all threads took together, divided by their number: it
holds when the machine does other work beside.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import measure
import torch

import fieldcast
from fieldcast.distill import convert
from fieldcast.distill.convert import RECIPES
from fieldcast.distill.fidelity import comparison_views
from fieldcast.fields.field import Field
from fieldcast.fields.metrics import psnr
from fieldcast.fields.rendering import render

KINDS = ("mlp", "hashgrid", "vm", "cp", "voxels", "planes", "hybrid")
LENGTHS = {"pvd": (1.0,), "active": (1.0,), "fast": (1.0, 0.5, 0.25)}  # parts of the recipe's own steps
VIEWS = 4


@dataclass(frozen=True)
class Job:
    """One conversion."""

    source: str
    target: str
    recipe: str
    steps: int
    seed: int


def teacher_file(data: Path, out: Path, kind: str, steps: int) -> Path:
    """The data set, fitted as a kind by the command line."""
    file = out / f"{kind}.safetensors"
    if not file.exists():
        command = [str(Path(sys.executable).with_name("fieldcast")), "fit", str(data), str(file), "--kind", kind]
        subprocess.run([*command, "--steps", str(steps), "--quiet"], check=True, stdout=sys.stderr)
    return file


def jobs(sources: list[str], targets: list[str], recipes: list[str], seeds: list[int]) -> Iterator[Job]:
    """All conversions, the first seed's before the next one's."""
    for seed in seeds:
        for source in sources:
            for recipe in recipes:
                for target in targets:
                    for part in LENGTHS[recipe] if target != source else ():
                        yield Job(source, target, recipe, round(part * RECIPES[recipe].steps(target)), seed)


def runs(file: Path) -> dict[Job, dict[str, Any]]:
    """What was measured so far."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {Job(**line.pop("job")): line for line in map(json.loads, lines)}


def measured(teacher: Field, pictures: list[torch.Tensor], views: fieldcast.Cameras, job: Job) -> dict[str, Any]:
    """Converts once: seconds, and fidelity in dB."""
    before, start = cpu_seconds(), time.perf_counter()
    student = convert(teacher, job.target, recipe=job.recipe, steps=job.steps, seed=job.seed)
    wall, cpu = time.perf_counter() - start, (cpu_seconds() - before) / torch.get_num_threads()
    seen = [image.rgb.clamp(0, 1) for image in render(student, views)]
    values = [psnr(a, b) for a, b in zip(pictures, seen, strict=True)]
    return {"wall": round(wall, 2), "cpu": round(cpu, 2), "psnr": round(sum(values) / len(values), 3)}


def cpu_seconds() -> float:
    """What this process has used so far, of all processors together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def runs_file(out: Path) -> Path:
    """Where the measurements of a folder are kept, with the project."""
    return Path(__file__).with_name("runs") / f"{out.name}.jsonl"


def run_all(data: Path, out: Path, wanted: list[Job], fit_steps: int) -> None:
    """Runs what is missing, teacher by teacher."""
    file = runs_file(out)
    known: dict[tuple[str, int], tuple[Field, list[torch.Tensor], fieldcast.Cameras]] = {}
    for job in wanted:
        if job in runs(file):
            continue
        if (job.source, job.seed) not in known:
            known.clear()
            teacher = fieldcast.open(teacher_file(data, out, job.source, fit_steps))
            views = comparison_views(teacher, VIEWS, job.seed)
            pictures = [image.rgb.clamp(0, 1) for image in render(teacher, views)]
            known[job.source, job.seed] = teacher, pictures, views
        teacher, pictures, views = known[job.source, job.seed]
        result = measured(teacher, pictures, views, job)
        measure.say(job, result)
        with file.open("a") as lines:
            lines.write(json.dumps({"job": asdict(job), **result}) + "\n")
        gc.collect()


def reached(curve: list[tuple[float, float]], wanted: float) -> float | None:
    """The seconds at which a curve of (seconds, dB) reaches a fidelity, between its points; None: never."""
    curve = sorted(curve)
    if curve and curve[0][1] >= wanted:
        return curve[0][0]
    for (t0, a), (t1, b) in itertools.pairwise(curve):
        if b >= wanted:
            return t0 + (t1 - t0) * (wanted - a) / (b - a)
    return None


def table(found: dict[Job, dict[str, Any]], time_of: str) -> str:
    """One line a pair: what pvd ends with, what the others end with, and how much sooner `fast` is there."""
    pairs = sorted({(j.source, j.target) for j in found}, key=lambda p: (KINDS.index(p[0]), KINDS.index(p[1])))
    seeds = sorted({j.seed for j in found})
    rows = []
    for source, target in pairs:
        for seed in seeds:
            curves = {
                recipe: [
                    (r[time_of], r["psnr"])
                    for j, r in found.items()
                    if (j.source, j.target, j.seed, j.recipe) == (source, target, seed, recipe)
                ]
                for recipe in LENGTHS
            }
            if curves["pvd"] and curves["fast"]:
                rows.append([source, target, str(seed), *pair_row(curves)])
    head = ["source", "target", "seed", "pvd: s", "dB", "active: s", "dB", "fast: s", "dB", "fast at pvd's dB: s", "x"]
    return measure.table(head, rows)


def pair_row(curves: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Ends of the curves, and when `fast` is where pvd ends."""
    row: list[str] = []
    for recipe in ("pvd", "active", "fast"):
        last = max(curves[recipe], default=None)
        row += [f"{last[0]:.1f}", f"{last[1]:.2f}"] if last else ["", ""]
    seconds, fidelity = max(curves["pvd"])
    there = reached(curves["fast"], fidelity)
    return row + ([f"{there:.1f}", f"{seconds / there:.1f}"] if there else ["not reached", "–"])


def main() -> None:
    """See the module's own words."""
    parser = measure.options(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sources", default=",".join(KINDS))
    parser.add_argument("--targets", default=",".join(KINDS))
    parser.add_argument("--recipes", default="pvd,fast")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--fit-steps", type=int, default=3000)
    parser.add_argument("--time", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--only", choices=("table",))
    options: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    lists = [getattr(options, name).split(",") for name in ("sources", "targets", "recipes")]
    wanted = list(jobs(*lists, [int(seed) for seed in options.seeds.split(",")]))
    if options.only != "table":
        run_all(options.data, options.out, wanted, options.fit_steps)
    print(table(runs(runs_file(options.out)), options.time))
    print(f"\n{measure.machine()}")


if __name__ == "__main__":
    fieldcast.prepare()
    main()
