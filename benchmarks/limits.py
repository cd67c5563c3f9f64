"""What commands cost as a user meets them: seconds and peak memory of whole processes, and the first use of kernels.

    .venv/bin/python benchmarks/limits.py ../shared/data/posed/nerf_synthetic_lego_200 out/lego/hashgrid.safetensors

Everything goes through the command line. `cold` is the first run after an installation: compiled kernels are looked for
in an empty folder; `again` is the same command once more. Peak memory is that of the whole process, libraries included.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One command: seconds, peak memory in MB, and what it said."""

    seconds: float
    megabytes: float
    said: str


def run(*arguments: object, cache: Path | None = None) -> Run:
    """Runs one command of the command line to its end."""
    command = [str(Path(sys.executable).with_name("fieldcast")), *map(str, arguments)]
    print("$ fieldcast", *arguments, file=sys.stderr, flush=True)
    environment = os.environ | ({} if cache is None else {"NUMBA_CACHE_DIR": str(cache)})
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)
    assert process.stderr
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}\n{said}")
    return Run(time.perf_counter() - start, usage.ru_maxrss / 1e3, said.strip())


def main() -> None:
    """See the module's own words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="a folder of posed images")
    parser.add_argument("field", type=Path, help="a fitted field of that scene")
    parser.add_argument("--fit-steps", type=int, default=500)
    parser.add_argument("--steps", type=int, default=200, help="of conversions")
    parser.add_argument("--frames", type=int, default=30, help="of the turntable")
    parser.add_argument("--large", default="4000x4000", help="size of the large picture")
    options = parser.parse_args()
    rows: list[tuple[str, Run, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        out, cache = Path(folder), Path(folder) / "kernels"
        picture = ("render", options.field, out / "small.png", "--size", "8x8", "--force")
        rows.append(("import and --version", run("--version"), ""))
        cold, again = run(*picture, cache=cache), run(*picture, cache=cache)
        rows += [
            ("render 8x8, cold", cold, f"{cold.seconds - again.seconds:.1f} s more"),
            ("render 8x8, again", again, ""),
        ]
        few = ("fit", options.scene, out / "few.safetensors", "--kind", "hashgrid", "--steps", 1, "--force")
        cold, again = run(*few, cache=cache), run(*few, cache=cache)
        rows += [
            ("fit, 1 step, cold", cold, f"{cold.seconds - again.seconds:.1f} s more"),
            ("fit, 1 step, again", again, ""),
        ]
        fitted = run("fit", options.scene, out / "fit.safetensors", "--kind", "hashgrid", "--steps", options.fit_steps)
        rows.append((f"fit hashgrid, {options.fit_steps} steps", fitted, ""))
        for kind in ("vm", "voxels", "mlp"):
            target = out / f"{kind}.safetensors"
            done = run("convert", options.field, target, "--to", kind, "--recipe", "pvd", "--steps", options.steps)
            rows.append((f"convert to {kind}, {options.steps} steps", done, ""))
        table = ("render", options.field, out / "turntable.mp4", "--path", "turntable", "--frames", options.frames)
        turned = run(*table)
        rows.append((f"turntable, {options.frames} frames of 400x400", turned, turned.said.split(", ")[-1]))
        rows.append(
            (f"render {options.large}", run("render", options.field, out / "a.png", "--size", options.large), "")
        )
    print("| command | seconds | peak MB | |\n|---|---|---|---|")
    for name, done, note in rows:
        print(f"| {name} | {done.seconds:.1f} | {done.megabytes:,.0f} | {note} |")
    print(f"\n{date.today()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
