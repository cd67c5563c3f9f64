"""How much of the time of a training step a GPU works, and how much it waits to be told what to do.

    .venv/bin/python benchmarks/busy.py ../shared/data/posed/nerf_synthetic_lego_200

fits a hash grid, converts it by two recipes, and prints for each the seconds of so many steps, those in which kernels
ran on the device, and the kernels that took longest. The first run of each, which compiles, is not counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import measure
import torch
from torch.profiler import ProfilerActivity, profile

import fieldcast
from fieldcast.distill import convert
from fieldcast.fields.field import Field
from fieldcast.fields.fit import fit
from fieldcast.fields.scenes import open_scene

WORK = (("vm", "pvd"), ("vm", "fast"), ("mlp", "pvd"), ("mlp", "fast"))


def works(data: str, steps: int) -> Iterator[tuple[str, Callable[[], Field]]]:
    """A fit, and conversions of a longer one."""
    scene = open_scene(data)
    yield "fit hashgrid", lambda: fit(scene, "hashgrid", steps=steps, device="cuda")
    teacher = fit(scene, "hashgrid", steps=6 * steps, device="cuda")
    for kind, recipe in WORK:
        yield f"{recipe}, hashgrid to {kind}", lambda k=kind, r=recipe: convert(teacher, k, recipe=r, steps=steps)  # type: ignore[misc]


def timed(work: Callable[[], Field]) -> float:
    """Seconds, with all that was queued."""
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def row(name: str, work: Callable[[], Field]) -> list[str]:
    timed(work)
    seconds = timed(work)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        timed(work)
    kernels = [event for event in seen.key_averages() if event.device_type != torch.autograd.DeviceType.CPU]
    busy = sum(event.self_device_time_total for event in kernels) / 1e6
    longest = sorted(kernels, key=lambda event: -event.self_device_time_total)[:3]
    told = ", ".join(f"{event.key:.24} {event.self_device_time_total / 1e3:.0f}" for event in longest)
    return [name, f"{seconds:.2f}", f"{busy:.2f}", f"{100 * busy / seconds:.0f} %", told]


def main() -> int:
    """See the module's own words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="demo")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/busy.py: there is no CUDA device", file=sys.stderr)
        return 2
    rows = [row(name, work) for name, work in works(options.data, options.steps)]
    print(measure.table([f"{options.steps} steps of", "seconds", "device works", "part", "longest, ms"], rows))
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}")
    return 0


if __name__ == "__main__":
    fieldcast.prepare()
    sys.exit(main())
