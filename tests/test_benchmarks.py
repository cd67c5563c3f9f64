"""What the benchmarks share; the peers themselves are not needed."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "measure.py"
    spec = importlib.util.spec_from_file_location("measure", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_best_is_no_shorter_than_the_call_and_no_longer_than_the_median(measure: ModuleType) -> None:
    timing = measure.best(lambda: time.sleep(0.01), seconds=0.05, runs=2)
    assert 0.01 <= timing.best <= timing.median
    assert timing.runs >= 2


def test_functions_are_called_in_turns(measure: ModuleType) -> None:
    called: list[str] = []
    timings = measure.alternate({name: lambda name=name: called.append(name) for name in "ab"}, seconds=0, runs=3)
    assert called == list("ab" + "ab" * 3)  # the first of each does not count
    assert [timing.runs for timing in timings.values()] == [3, 3]


def test_markdown_table(measure: ModuleType) -> None:
    assert measure.table(["a", "b"], [[1, "x"]]) == "| a | b |\n|---|---|\n| 1 | x |"
    with pytest.raises(ValueError, match="expected 2 entries a row, found \\[3\\]"):
        measure.table(["a", "b"], [[1, 2, 3]])


def test_when_a_curve_is_there(measure: ModuleType) -> None:
    """Between its points a curve is straight; before the first one nothing is known, so that counts."""
    path = Path(__file__).parents[1] / "benchmarks" / "matrix.py"
    spec = importlib.util.spec_from_file_location("matrix", path)
    assert spec
    assert spec.loader
    matrix = importlib.util.module_from_spec(spec)
    sys.modules["matrix"] = matrix
    spec.loader.exec_module(matrix)
    curve = [(20.0, 34.0), (10.0, 30.0), (40.0, 38.0)]
    assert matrix.reached(curve, 32.0) == pytest.approx(15.0)
    assert matrix.reached(curve, 37.0) == pytest.approx(35.0)
    assert matrix.reached(curve, 29.0) == 10.0
    assert matrix.reached(curve, 38.5) is None
    wanted = list(matrix.jobs(["vm", "cp"], ["vm"], ["pvd"], [0, 1]))
    assert [(job.source, job.target, job.steps, job.seed) for job in wanted] == [
        ("cp", "vm", 1000, 0),
        ("cp", "vm", 1000, 1),
    ]
    pvd, fast = matrix.Job("cp", "vm", "pvd", 1000, 0), matrix.Job("cp", "vm", "fast", 320, 0)
    below, above = ({pvd: {"psnr": 36.0}, fast: {"psnr": end}} for end in (35.9, 36.1))
    assert list(matrix.longer(below, [fast])) == [matrix.Job("cp", "vm", "fast", 640, 0)]
    assert not list(matrix.longer(above, [fast]))
