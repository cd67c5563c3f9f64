"""A prepared process keeps freed memory: a large tensor made anew costs no page faults."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
if "prepared" in sys.argv:
    import fieldcast
    fieldcast.prepare()
import torch
def fill():
    return torch.full((1 << 24,), 1.0)  # 64 MB, more than glibc ever keeps unless it is told to
for _ in range(24):
    fill()  # glibc cuts a tensor's place a little too small for the next one, until freed places have joined
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str) -> int:
    """Page faults of making eight large tensors, one after the other, in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", FAULTS, *arguments], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is asked")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    assert faults("prepared") * 10 < faults()


def test_waiting_threads_sleep_unless_the_user_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    from fieldcast.process import prepare

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    prepare()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
