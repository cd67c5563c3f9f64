"""That the benchmarks can be started, and what they say where they cannot run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`benchmarks/gpu.py` as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("gpu", "routines"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("gpu")


def test_without_a_gpu_there_is_one_line_and_code_2() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(BENCHMARKS / "gpu.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "benchmarks/gpu.py: there is no CUDA device\n"


def test_every_routine_fits_into_its_row(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, few points, called once: every cell of ours and of the plain version is a number."""
    monkeypatch.setattr(gpu, "bandwidth", lambda device: 1e9)
    monkeypatch.setattr(gpu, "milliseconds", lambda call, device: (call(), 1.0)[1])
    small = [make for make in gpu.ROUTINES if getattr(make, "__name__", "") not in ("vm_routine", "voxels_routine")]
    monkeypatch.setattr(gpu, "ROUTINES", small)
    table = list(gpu.kernels(torch.device("cpu"), time.monotonic() + 100, (128,)))
    columns = gpu.KERNEL_HEAD.splitlines()[0].count("|")
    assert [line.count("|") for line in table[-len(small) :]] == [columns] * len(small)
    for line in table[-len(small) :]:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert cells[1:4] == ["2^7", "1.000", "1.000"] and float(cells[5].split()[0]) >= 0


def test_a_table_that_fails_or_is_late_says_so(gpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.show("Rendering", lambda until: gpu.rendering(torch.device("cpu"), until, []), 10)
    gpu.show("Late", lambda until: late(gpu, until), 0)
    out = capsys.readouterr().out
    assert "Failed: RuntimeError: there is no fitted field to render" in out
    assert out.endswith("a row\n\nStopped: 0 s are up.\n")


def late(gpu: Any, until: float) -> Any:
    yield "a row"
    gpu.Clock(until, warm_up=1)(1, 2, "loss 1, 1 steps/s")
