"""Conversions that are told where to end instead of how many steps to take: at a fidelity, or after some seconds.

To a fidelity, a student is taught in rounds, each as long as all before it together, and looked at after each. That is
enough at some point, or a round gains so little that more will not help: then the target is too small for its source.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from fieldcast.distill.convert import Pair
from fieldcast.distill.fidelity import compare, comparison_views
from fieldcast.fields.field import Field
from fieldcast.fields.files.tensors import read_meta
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.spec import FieldSpec
from fieldcast.fields.training import require_checkpoint

FIRST = 4  # the first round is this part of the recipe's own steps
ROUNDS = 7  # together 16 times the recipe's own steps
LITTLE = 0.25  # dB: a doubling of the steps that gains less is the last
LOOKS = 4  # views that rounds are judged by; other ones than those of the report
SEEDS = 7919  # between the random numbers of one round and those of the next
TRIALS = (8, 16, 48)  # steps of the conversions that are timed; the first one compiles


@dataclass(frozen=True)
class Round:
    """steps: so far, of all rounds together. psnr: fidelity in dB after them."""

    steps: int
    psnr: float


@dataclass(frozen=True)
class Reached:
    """A student, the rounds that made it, and the fidelity in dB that was wanted."""

    student: Field
    rounds: list[Round]
    wanted: float

    @property
    def enough(self) -> bool:
        return self.rounds[-1].psnr >= self.wanted

    def summary(self) -> str:
        """One line: whether it is there, and if not, what stands in the way."""
        last, kind = self.rounds[-1], self.student.spec.kind
        told = f"{last.psnr:.1f} dB after {last.steps} steps"
        if self.enough:
            return f"target of {self.wanted:g} dB reached: {told}"
        if len(self.rounds) > 1:
            told += f", of which the last half gained {last.psnr - self.rounds[-2].psnr:.2f}"
        return f"target of {self.wanted:g} dB not reached: {told}; a larger {kind} may hold more (--size)"


def convert_to_fidelity(
    teacher: Field,
    to: str | FieldSpec,
    wanted: float,
    *,
    recipe: str = "fast",
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Reached:
    """Converts until the fidelity is `wanted` dB, or until more steps gain next to nothing.

    Every round is a whole schedule that begins with the student of the round before. A checkpoint continues the round
    that it was left in. Raises what `convert` raises.
    """
    require_checkpoint(checkpoint, resume)
    pair = Pair.of(teacher, to, recipe, seed, progress)
    views = comparison_views(teacher, LOOKS, seed + 1)
    first = max(1, pair.recipe.steps(pair.student.spec.kind) // FIRST)
    begun = round_of(checkpoint, seed) if resume and checkpoint else 0
    pair.taught = begun > 0
    rounds: list[Round] = []
    for number in range(begun, ROUNDS):
        pair.teach(
            first * 2 ** max(number - 1, 0),
            seed + SEEDS * number,
            checkpoint=checkpoint,
            resume=resume and number == begun,
            progress=progress,
        )
        rounds.append(Round(first * 2**number, compare(pair.teacher, pair.student, views, progress=progress).psnr))
        little = len(rounds) > 1 and rounds[-1].psnr - rounds[-2].psnr < LITTLE
        if rounds[-1].psnr >= wanted or little:
            break
    return Reached(pair.finished(seed, progress), rounds, wanted)


def round_of(checkpoint: Path, seed: int) -> int:
    """The round that a checkpoint was left in, told by its random numbers; the first one, if by none."""
    saved = read_meta(checkpoint)[0].get("identity", {}).get("seed")
    seeds = [seed + SEEDS * number for number in range(ROUNDS)]
    return seeds.index(saved) if saved in seeds else 0


def steps_within(
    teacher: Field,
    to: str | FieldSpec,
    seconds: float,
    *,
    recipe: str = "fast",
    seed: int = 0,
    progress: Progress = silent,
) -> int:
    """How many steps make a conversion that takes about `seconds`, with finding that out; at least one.

    Two short conversions are timed: what one takes before its first step, and each step.
    """
    begun = time.perf_counter()
    took = []
    for steps in TRIALS:
        start = time.perf_counter()
        pair = Pair.of(teacher, to, recipe, seed, progress)
        pair.teach(steps, seed, progress=progress)
        pair.finished(seed, progress)
        took.append(time.perf_counter() - start)
    each = max(took[2] - took[1], 1e-9) / (TRIALS[2] - TRIALS[1])
    before = max(took[1] - each * TRIALS[1], 0.0)
    left = seconds - (time.perf_counter() - begun)
    return max(1, int((left - before) / each))
