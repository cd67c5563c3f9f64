"""Every kind of field to every other kind, by every recipe, as curves of fidelity over time.

    .venv/bin/python benchmarks/matrix.py ../shared/data/posed/nerf_synthetic_lego_200 out/lego

fits the data set as each kind (the teachers), converts each to each other kind by each recipe at several lengths, and
prints the table. Where `fast` does not reach the end of `pvd` in its own number of steps, it is run with twice as many.
Every conversion is a line of `benchmarks/runs/NAME.jsonl`, NAME being that of the folder OUT; what is there already is
not run again, so that an interrupted run continues. `--only table` runs nothing; `--figure` draws the curves.

Fidelity is the student's pictures against its teacher's, mean PSNR over views that neither was trained on. Seconds are
of the conversion alone, with asking the teacher; `cpu` is what all threads took together, divided by their number: it
holds when the machine does other work beside.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
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
# Parts of the recipe's own steps; so many of `active` take as long as all of `pvd`.
LENGTHS = {"pvd": (1.0,), "active": (0.86,), "fast": (1.0, 0.5, 0.25)}
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
        command = [sys.executable, "-m", "fieldcast.cli", "fit", str(data), str(file), "--kind", kind]
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


def longer(found: dict[Job, dict[str, Any]], wanted: list[Job]) -> Iterator[Job]:
    """`fast` with twice its steps, for those of the wanted pairs in which it is not where `pvd` ends."""
    for job in wanted:
        if job.recipe == "fast" and job.steps == RECIPES["fast"].steps(job.target):
            end = found.get(replace(job, recipe="pvd", steps=RECIPES["pvd"].steps(job.target)))
            if end and job in found and found[job]["psnr"] < end["psnr"]:
                yield replace(job, steps=2 * job.steps)


def runs(file: Path) -> dict[Job, dict[str, Any]]:
    """What was measured so far."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {Job(**line.pop("job")): line for line in map(json.loads, lines)}


def measured(teacher: Field, pictures: list[torch.Tensor], views: fieldcast.Cameras, job: Job) -> dict[str, Any]:
    """Converts once: seconds, and fidelity in dB."""
    before, start = cpu_seconds(), time.perf_counter()
    student = convert(teacher, job.target, recipe=job.recipe, steps=job.steps, seed=job.seed)
    if student.device.type == "cuda":
        torch.cuda.synchronize()
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


def run_all(data: Path, out: Path, wanted: list[Job], fit_steps: int, device: str) -> None:
    """Runs what is missing, teacher by teacher."""
    file = runs_file(out)
    known: dict[tuple[str, int], tuple[Field, list[torch.Tensor], fieldcast.Cameras]] = {}
    for job in wanted:
        if job in runs(file):
            continue
        if (job.source, job.seed) not in known:
            known.clear()
            teacher = fieldcast.open(teacher_file(data, out, job.source, fit_steps), device)
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


CELL, GAP = (130, 90), 8  # of the figure, in pixels
SECONDS, DECIBEL = (1.0, 128.0), (22.0, 44.0)  # what its axes span, the first one in powers of 2
COLORS = {"pvd": "#888888", "active": "#2060c0", "fast": "#d04010"}


def figure(found: dict[Job, dict[str, Any]], time_of: str) -> str:
    """An SVG: sources from top to bottom, targets from left to right, in each cell dB over seconds."""
    parts = [f'<text x="4" y="12">dB ({DECIBEL[0]:.0f} to {DECIBEL[1]:.0f}) over seconds ({SECONDS[0]:.0f} to ']
    parts[0] += f"{SECONDS[1]:.0f}, doubling): pvd grey, active blue, fast red; rows from, columns to</text>"
    for row, source in enumerate(KINDS):
        for column, target in enumerate(KINDS):
            x, y = column * (CELL[0] + GAP) + GAP, row * (CELL[1] + GAP) + 24
            parts.append(f'<rect x="{x}" y="{y}" width="{CELL[0]}" height="{CELL[1]}" fill="#f6f6f6"/>')
            parts.append(f'<text x="{x + 4}" y="{y + 12}" fill="#555">{source} to {target}</text>')
            parts += [line(points, x, y, COLORS[recipe]) for recipe, points in curves(found, source, target, time_of)]
    width, height = len(KINDS) * (CELL[0] + GAP) + GAP, len(KINDS) * (CELL[1] + GAP) + 24
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
    return f'{head} font-size="10"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'


def curves(
    found: dict[Job, dict[str, Any]], source: str, target: str, time_of: str
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """The points of each recipe and seed for a pair."""
    for recipe in COLORS:
        for seed in sorted({job.seed for job in found}):
            points = [
                (r[time_of], r["psnr"]) for j, r in found.items() if j == Job(source, target, recipe, j.steps, seed)
            ]
            if points:
                yield recipe, sorted(points)


def line(points: list[tuple[float, float]], x: float, y: float, color: str) -> str:
    """Points, joined, in the cell whose corner is (x, y)."""
    doublings = math.log2(SECONDS[1] / SECONDS[0])
    placed = [
        (
            x + CELL[0] * min(max(math.log2(t / SECONDS[0]) / doublings, 0), 1),
            y + CELL[1] * (1 - min(max((db - DECIBEL[0]) / (DECIBEL[1] - DECIBEL[0]), 0), 1)),
        )
        for t, db in points
    ]
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{color}"/>' for a, b in placed)
    return f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in placed)}" fill="none" stroke="{color}"/>{dots}'


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
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("table",))
    parser.add_argument("--figure", type=Path, metavar="FILE.svg")
    options: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    lists = [getattr(options, name).split(",") for name in ("sources", "targets", "recipes")]
    wanted = list(jobs(*lists, [int(seed) for seed in options.seeds.split(",")]))
    if options.only != "table":
        run_all(options.data, options.out, wanted, options.fit_steps, options.device)
        again = list(longer(runs(runs_file(options.out)), wanted))
        run_all(options.data, options.out, again, options.fit_steps, options.device)
    print(table(runs(runs_file(options.out)), options.time))
    print(f"\n{measure.machine()}")
    if options.figure:
        options.figure.write_text(figure(runs(runs_file(options.out)), options.time))


if __name__ == "__main__":
    fieldcast.prepare()
    main()
