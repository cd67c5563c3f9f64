"""The evaluation: every method on every pair, from every seed that matters to it, and what was measured.

A morph is a line of `rows.jsonl` in a folder. What is there already is not made again, so that an interrupted run goes
on where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.morph.evaluation.cost import Cost, Counted, measured
from fieldcast.morph.evaluation.measures import Numbers, Seen, features, objects, of_morph, seen
from fieldcast.morph.evaluation.methods import METHODS, PAPERS, at_equal_steps, method
from fieldcast.morph.evaluation.pairs import Pair, Wanted, opened
from fieldcast.morph.evaluation.plausibility import frechet
from fieldcast.morph.evaluation.references import References, kept
from fieldcast.morph.priors import Prior

INPUTS = "inputs"  # in place of a method: the objects that were given


@dataclass(frozen=True)
class Protocol:
    """frames: of a morph, ends included. part: of the steps that the papers' methods take. distances: of
    measures.DISTANCES.
    """

    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    frames: int = 11
    part: float = 1.0
    distances: tuple[str, ...] = ("3D", "FLIP", "EffLite")

    def __post_init__(self) -> None:
        if self.frames < 4 or not self.seeds or not 0 < self.part <= 1:
            raise InputError(
                f"evaluation: expected 4 frames or more, a seed and a part in 0..1 of the steps, found {self.frames}, "
                f"{len(self.seeds)} seeds, {self.part}"
            )
        for name in self.methods:
            method(name)


@dataclass(frozen=True)
class Job:
    """One morph. pair: none for what is said of all pairs together. prior: its name, and a digest of its weights.
    recipe: a digest of how a prior's frames are made, none for other methods.
    """

    method: str
    pair: str
    seed: int
    frames: int
    part: float
    prior: str
    recipe: str
    distances: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What was measured of a morph."""

    job: Job
    found: Numbers


def run_evaluation(
    prior: Prior,
    wanted: list[Wanted],
    references: References,
    out: Path,
    protocol: Protocol,
    progress: Progress = silent,
) -> list[Row]:
    """All rows, and one for each method of all its morphs together."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "rows.jsonl"
    todo = list(jobs(prior, wanted, protocol))
    known = {row.job: row for row in read_rows(file)}
    counted, done = Counted(prior), 0
    for one in wanted:
        of_pair = [job for job in todo if job.pair == one.name]
        missing = [job for job in of_pair if job not in known or not _is_whole(out, job)]
        done += len(of_pair) - len(missing)
        if missing:
            pair = opened(one, prior)
            given = seen(pair.first, protocol.distances), seen(pair.second, protocol.distances)
        for job in missing:
            progress(done, len(todo), f"{job.method}: {job.pair}")
            known[job] = Row(job, _run(counted, job, pair, given, references, out))
            _write(file, known[job])
            done += 1
    progress(done, len(todo), "")
    return [known[job] for job in todo] + together(todo, references, out)


def jobs(prior: Prior, wanted: list[Wanted], protocol: Protocol) -> Iterator[Job]:
    """Pair by pair; methods that no seed changes from the first seed alone."""
    if len({one.name for one in wanted}) < len(wanted):
        raise InputError("evaluation: expected pairs of different names, found one twice")
    digest = hashlib.sha256()
    for name, value in prior.network.state_dict().items():
        digest.update(name.encode() + value.cpu().flatten().view(torch.uint8).numpy().tobytes())
    first = Job(INPUTS, "", protocol.seeds[0], protocol.frames, 1.0, "", "", protocol.distances)
    first = replace(first, prior=f"{prior.name}-{digest.hexdigest()[:8]}")
    for one in wanted:
        yield replace(first, pair=one.name)
        for seed in protocol.seeds:
            for name in protocol.methods:
                if seed == protocol.seeds[0] or method(name).seeded:
                    part = protocol.part if name in PAPERS else 1.0
                    recipe = method(name, part).recipe
                    made = hashlib.sha256(repr(recipe).encode()).hexdigest()[:8] if recipe else ""
                    yield replace(first, method=name, pair=one.name, seed=seed, part=part, recipe=made)


def read_rows(file: Path) -> list[Row]:
    """What was measured so far. A line that an interruption has cut off is not there."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [row for row in map(_row, lines) if row]


def _row(line: str) -> Row | None:
    try:
        row = json.loads(line)
        return Row(Job(**{**row["job"], "distances": tuple(row["job"]["distances"])}), row["found"])
    except (ValueError, KeyError, TypeError):
        return None


def _write(file: Path, row: Row) -> None:
    """Behind the rows that there are, on a line of its own."""
    line = json.dumps({"job": asdict(row.job), "found": row.found}, allow_nan=False) + "\n"
    whole = not file.exists() or file.read_bytes()[-1:] in (b"", b"\n")
    with file.open("a", encoding="utf-8") as lines:
        lines.write(line if whole else f"\n{line}")


def _run(prior: Counted, job: Job, pair: Pair, given: tuple[Seen, Seen], references: References, out: Path) -> Numbers:
    """Makes a morph, and measures it. What is measured but not made by the method itself costs it nothing."""
    if job.method == INPUTS:
        return objects([pair.first, pair.second], references.known)
    chosen = method(job.method, job.part)
    with measured(prior) as cost:
        way = chosen.start(prior, pair, job.seed)
        own = way.frames(way.own(job.frames))
    frames = [seen(volume, job.distances) for volume in own]
    equal = frames
    if not chosen.equal:
        equal = [seen(volume, job.distances) for volume in at_equal_steps(way.frames, own)]
    if "EffLite" in job.distances:
        kept(feature_file(out, job), lambda: features(equal).half().numpy())
    found = {**of_morph(frames, equal, given, references.known, job.distances), **spent(cost, job)}
    return {name: value if value is not None and math.isfinite(value) else None for name, value in found.items()}


def spent(cost: Cost, job: Job) -> Numbers:
    """What a morph cost: seconds and evaluations for each of its frames."""
    steps = method(job.method, job.part).recipe
    return {
        "cost/seconds": cost.seconds / job.frames,
        "cost/evaluations": cost.evaluations / job.frames,
        "cost/memory": cost.memory,
        "cost/steps": float(steps.steps) if steps else None,
        "cost/lora_steps": float(steps.lora_steps if steps.lora else 0) if steps else None,
    }


def _is_whole(out: Path, job: Job) -> bool:
    """Whether all that belongs to a row is there."""
    return job.method == INPUTS or "EffLite" not in job.distances or feature_file(out, job).exists()


def feature_file(out: Path, job: Job) -> Path:
    """Where EffLite's summaries of a morph are."""
    name = hashlib.sha256(json.dumps(asdict(job)).encode()).hexdigest()[:16]
    return out / "features" / f"{name}.npy"


def together(done: list[Job], references: References, out: Path) -> list[Row]:
    """For each method the Fréchet distance of its views, from the first seed alone, to those of real objects."""
    rows = []
    for name in dict.fromkeys(job.method for job in done):
        own = [job for job in done if job.method == name and job.seed == done[0].seed]
        files = [feature_file(out, job) for job in own]
        if name == INPUTS or "EffLite" not in own[0].distances:
            continue
        found = torch.cat([_summaries(file) for file in files])
        value = frechet(found, references.real)
        numbers: Numbers = {"all/frechet": value, "all/views": float(len(found))}
        rows.append(Row(replace(own[0], pair=""), numbers | {"all/real": float(len(references.real))}))
    return rows


def _summaries(file: Path) -> Float[Tensor, "n e"]:
    return torch.from_numpy(np.load(file, allow_pickle=False).astype(np.float32))
