"""nerfstudio's own commands, with our methods in them and with a plug-in that is broken."""

from __future__ import annotations

import subprocess
import sys

from fieldcast.plugin.entry import METHODS

BROKEN = """
import sys
sys.modules["fieldcast.plugin.methods"] = sys.modules["fieldcast.plugin.renders"] = None
sys.argv = ["ns-train", "nerfacto", "--help"]
from nerfstudio.scripts.train import entrypoint
entrypoint()
"""
WHOLE = """
import sys
sys.argv = ["ns-train", *sys.argv[1:]]
from nerfstudio.scripts.train import entrypoint
entrypoint()
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


def test_the_methods_are_listed() -> None:
    done = run(WHOLE, "--help")
    assert done.returncode == 0, done.stderr
    for name in METHODS:
        assert f"fieldcast-{name}" in done.stdout
    assert "cannot be loaded" not in done.stderr


def test_sizes_and_data_are_flags() -> None:
    done = run(WHOLE, "fieldcast-vm", "fieldcast-renders", "--help")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "--pipeline.datamanager.dataparser.eval-views" in text or "--eval-views" in text


def test_a_broken_plug_in_breaks_nothing_else() -> None:
    done = run(BROKEN)
    assert done.returncode == 0, done.stderr
    assert "--pipeline.model.near-plane" in done.stdout
    assert "fieldcast-vm cannot be loaded: import of fieldcast.plugin.methods halted" in done.stderr
