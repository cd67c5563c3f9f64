"""What was measured, as tables: a method a row, the mean over its pairs and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from fieldcast.fields.tables import Column, markdown
from fieldcast.morph.evaluation.measures import DISTANCES, mean
from fieldcast.morph.evaluation.methods import PAPERS
from fieldcast.morph.evaluation.protocol import INPUTS, Row

QUALITY = (
    Column("end IoU ↑", "ends/iou"),
    Column("end Chamfer, % ↓", "ends/chamfer", 2, 100),
    Column("end PSNR, dB ↑", "ends/psnr", 1),
    Column("NN-IoU ↑", "objects/likeness"),
    Column("Fréchet ↓", "all/frechet", 2),
    Column("largest part ↑", "objects/largest"),
    Column("parts ↓", "objects/pieces", 1),
    Column("jump ↓", "objects/jump"),
    Column("bend → 1", "surface/bend", 2),
    Column("area → 1", "surface/area", 2),
    Column("watertight ↑", "surface/tight", 2),
    Column("chroma → 1", "color/chroma", 2),
)
COST = (
    Column("s a frame ↓", "cost/seconds", 2),
    Column("evaluations a frame ↓", "cost/evaluations", 0),
    Column("memory, MB ↓", "cost/memory", 0),
    Column("steps", "cost/steps", 0),
    Column("LoRA steps", "cost/lora_steps", 0),
)


def table(rows: list[Row]) -> str:
    """Markdown: smoothness where methods put frames, at equal steps, quality, cost, and how many morphs there were."""
    parts = []
    for prefix, title in (("own", "Frames where each method puts them"), ("equal", "Frames at equal steps")):
        columns = [
            Column(f"{name}-{kind} ↓", f"{prefix}/{name}/{key}", digits, times)
            for name in DISTANCES
            for kind, key, digits, times in (
                ("PPL", "ppl", 3, 1),
                ("PDV × 1000", "pdv", 3, 1000),
                ("step", "step", 2, 1),
                ("ratio", "ratio", 2, 1),
            )
        ]
        parts.append(f"{title}\n\n{_table(rows, columns)}")
    parts.append(f"In-betweens at equal steps, and ends\n\n{_table(rows, QUALITY)}")
    parts.append(f"Cost\n\n{_table(rows, COST)}")
    return "\n\n".join([*parts, *_notes(rows)]) + "\n"


def _table(rows: list[Row], columns: Sequence[Column]) -> str:
    """A row for each method: of each number the mean of what is known."""
    own: dict[str, list[Row]] = {}
    for row in rows:
        own.setdefault(_name(row), []).append(row)
    return markdown("method", columns, [(name, partial(_mean, some)) for name, some in own.items()])


def _mean(rows: list[Row], key: str) -> float | None:
    return mean(row.found.get(key) for row in rows)


def _name(row: Row) -> str:
    """A method, and the part of its own steps that it was given if that is not all."""
    job = row.job
    return f"{job.method} ({job.part:g} of its steps)" if job.method in PAPERS and job.part < 1 else job.method


def _notes(rows: list[Row]) -> list[str]:
    """How many morphs the means are of, and how many pictures the Fréchet distances."""
    morphs = [row.job for row in rows if row.job.pair]
    if not morphs:
        return []
    counts = {_name(row): 0 for row in rows if row.job.method != INPUTS}
    for row in rows:
        if row.job.pair and row.job.method != INPUTS:
            counts[_name(row)] += 1
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    pairs = len({job.pair for job in morphs})
    notes = [f"Prior {morphs[0].prior}; {pairs} pairs, {morphs[0].frames} frames. Morphs: {said}."]
    views = sorted({f"{row.found['all/views']:.0f}" for row in rows if "all/views" in row.found})
    if views:
        real = next(row.found["all/real"] for row in rows if "all/real" in row.found)
        there = any(row.found.get("all/frechet") is not None for row in rows)
        said = "Fréchet distances are of" if there else "Too few for Fréchet distances:"
        notes.append(f"{said} {' or '.join(views)} views to {real:.0f} of real objects.")
    return notes
