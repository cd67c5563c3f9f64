"""Conversions that end at a fidelity or within a budget of seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fieldcast.distill import convert, scenes, steering, student_spec
from fieldcast.distill.convert import RECIPES, Recipe
from fieldcast.distill.scenes import How, convert_scene
from fieldcast.distill.steering import TRIALS, Reached, Round, convert_to_fidelity, steps_within
from fieldcast.errors import InputError
from fieldcast.fields import KINDS, Field, Space, build, default_spec, training
from fieldcast.fields.cameras import orbit
from fieldcast.fields.files.tensors import read_tensors

BOX = Space()
SIZES = {"resolution": "12", "density_channels": "2", "appearance_channels": "2", "hidden": "8"}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of a few steps of milliseconds."""
    for cls in KINDS.values():
        monkeypatch.setattr(cls, "points_per_step", 1 << 9)
    monkeypatch.setitem(RECIPES, "fast", Recipe(RECIPES["fast"].training, lambda kind: 16))


def ball() -> Field:
    """A soft ball: the logit 5 - 20 r^2 at the vertices of voxels, redder to one side."""
    spec = default_spec("voxels", space=BOX, occupancy=8, steps=32).resized({"resolution": 16, "degree": 0})
    field = build(spec, seed=0)
    at = torch.linspace(-1, 1, 16)
    grid = torch.stack(torch.meshgrid(at, at, at, indexing="ij"), -1)
    with torch.no_grad():
        for block in range(8):
            i, j, k = block // 4 * 8, block // 2 % 2 * 8, block % 2 * 8
            part = grid[i : i + 8, j : j + 8, k : k + 8].reshape(-1, 3)
            row = int(field.block_table[i // 8, j // 8, k // 8]) * 512
            field.data[row : row + 512, 0] = 5 - 20 * part.square().sum(-1)
            field.data[row : row + 512, 1] = 4 * part[:, 0]
    field.views = orbit(BOX, torch.arange(6) * 1.0, torch.full((6,), 0.4), 3.2, width=20, height=16, fov=0.7)
    return field


def vm(teacher: Field) -> Any:
    return student_spec(teacher.spec, "vm").resized(SIZES)


def test_rounds_double_until_it_is_enough() -> None:
    teacher = ball()
    reached = convert_to_fidelity(teacher, vm(teacher), 100.0)
    steps = [r.steps for r in reached.rounds]
    assert steps == [4 * 2**n for n in range(len(steps))]
    assert not reached.enough
    target = reached.rounds[1].psnr - 0.01
    again = convert_to_fidelity(teacher, vm(teacher), target)
    assert again.rounds == reached.rounds[: len(again.rounds)]  # the same way, as far as it is needed
    assert again.enough
    assert all(r.psnr < target for r in again.rounds[:-1])


def test_a_round_that_gains_little_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "LITTLE", 1000.0)
    reached = convert_to_fidelity(ball(), vm(ball()), 100.0)
    assert [r.steps for r in reached.rounds] == [4, 8]
    assert "not reached" in reached.summary()
    assert "a larger vm may hold more (--size)" in reached.summary()


def test_a_round_goes_on_from_the_one_before() -> None:
    """The second round goes on from the first one's student, instead of from nothing."""
    teacher = ball()
    reached = convert_to_fidelity(teacher, vm(teacher), 100.0)
    alone = convert(teacher, vm(teacher), steps=4)
    best = steering.compare(teacher, alone, steering.comparison_views(teacher, steering.LOOKS, 1)).psnr
    assert reached.rounds[-1].psnr > best + 2


def test_what_was_reached_is_told() -> None:
    student = ball()
    there = Reached(student, [Round(4, 30.0), Round(8, 33.25)], 33.0)
    assert there.summary() == "target of 33 dB reached: 33.2 dB after 8 steps"
    short = Reached(student, [Round(4, 30.0), Round(8, 33.25)], 40.0)
    assert short.summary().startswith(
        "target of 40 dB not reached: 33.2 dB after 8 steps, of which the last half gained"
    )


def stop_at(step: int, total: int) -> Any:
    def progress(done: int, of: int, note: str = "") -> None:
        if note.startswith("voxels to") and (done, of) == (step, total):
            raise KeyboardInterrupt

    return progress


def test_interrupted_in_its_third_round_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    teacher, checkpoint = ball(), tmp_path / "c.safetensors"
    whole = convert_to_fidelity(teacher, vm(teacher), 100.0)
    with pytest.raises(KeyboardInterrupt):
        convert_to_fidelity(teacher, vm(teacher), 100.0, checkpoint=checkpoint, progress=stop_at(6, 8))
    assert read_tensors(checkpoint)[1]["step"] == 5
    resumed = convert_to_fidelity(teacher, vm(teacher), 100.0, checkpoint=checkpoint, resume=True)
    assert resumed.rounds == whole.rounds[2:]
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[name]), name
    assert list(tmp_path.iterdir()) == []


def test_steps_that_fit_into_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion that takes 2 s and 0.05 s a step, the first one 7 s more."""
    clock = [0.0]

    class Timed:
        @classmethod
        def of(cls, *_: Any) -> Timed:
            return cls()

        def teach(self, steps: int, *_: Any, **__: Any) -> None:
            clock[0] += 2 + 0.05 * steps + (7 if clock[0] == 0 else 0)

        def finished(self, *_: Any) -> None:
            pass

    monkeypatch.setattr(steering, "Pair", Timed)
    monkeypatch.setattr(steering.time, "perf_counter", lambda: clock[0])
    teacher = ball()
    spent = 3 * 2 + 0.05 * sum(TRIALS) + 7
    assert steps_within(teacher, "vm", spent + 2 + 0.05 * 300.5) == 300
    clock[0] = 0.0
    assert steps_within(teacher, "vm", 1.0) == 1


def test_what_is_known_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = ball()
    _, facts = convert_scene(teacher, "vm", SIZES, How(target_db=5.0))
    assert facts == {
        "recipe": "fast", "seed": 0, "steps": 4, "target_db": 5.0, "reached": True, "note": facts["note"]
    }  # fmt: skip
    monkeypatch.setattr(scenes, "steps_within", lambda *_, **__: 7)
    _, facts = convert_scene(teacher, "vm", SIZES, How(budget=30.0))
    assert (facts["steps"], facts["budget"], facts["note"]) == (7, 30.0, "budget of 30 s: 7 steps")


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ({"steps": 3, "budget": 4.0}, "--steps and --budget: each says when to end"),
        ({"target_db": 30.0, "budget": 4.0}, "--target-db and --budget"),
        ({"budget": 4.0, "resume": True}, "expected --steps"),
    ],
)
def test_one_end_is_enough(ends: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        How(**ends)


def test_the_ball_is_a_ball() -> None:
    """So that the tests above rest on something."""
    at = torch.linspace(-1, 1, 16)[[7, 10, 15]]
    x = torch.stack([at, torch.full((3,), float(at[0])), torch.full((3,), float(at[0]))], -1)
    torch.testing.assert_close(ball().logit(x).detach(), 5 - 20 * x.square().sum(-1), rtol=1e-4, atol=1e-3)
