"""How fast everything is on a GPU: one command, Markdown tables, eight minutes at most.

    .venv/bin/python benchmarks/gpu.py
    .venv/bin/python benchmarks/gpu.py ../shared/data/posed/nerf_synthetic_lego_200

Three tables: the kernels beside their plain versions and beside tinycudann and nerfacc where these can be imported;
training, on the demo scene or on the images in DATA; rendering of what was trained. A table that fails says so in one
line and the others go on; one whose time is up stops and says so. Compiling is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from routines import ROUTINES, Routine, imported, size
from torch import Tensor

from fieldcast.distill import convert
from fieldcast.fields.field import Field
from fieldcast.fields.fit import fit
from fieldcast.fields.kernels.gpu import runs_triton
from fieldcast.fields.paths import turntable
from fieldcast.fields.rendering import render
from fieldcast.fields.scenes import open_scene

POINTS = (1 << 16, 1 << 18, 1 << 20)
SECONDS = {"kernels": 150, "training": 240, "rendering": 45}  # a table; the rest is for importing and making the scene
FIT_STEPS, CONVERT_STEPS, WARM_UP = 600, 300, 50
Function = Callable[..., Any]


class OutOfTimeError(Exception):
    """The time of a table is up."""


# Timing.


def milliseconds(call: Callable[[], Any], device: torch.device, seconds: float = 0.5) -> float:
    """The median over lots of calls that fit in `seconds` of the time of a call; the first calls are not counted.

    A lot is queued as a whole: what Python needs to start a call is hidden where the device needs longer.
    """
    _lot(call, device, 3)
    start = time.perf_counter()
    _lot(call, device, 3)
    each = max((time.perf_counter() - start) / 3, 1e-5)
    calls = max(1, min(20, int(seconds / 5 / each)))
    return statistics.median(_lot(call, device, calls) for _ in range(5 if each * calls < seconds else 3))


def _lot(call: Callable[[], Any], device: torch.device, calls: int) -> float:
    """Milliseconds a call."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) * 1e3 / calls
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end)) / calls


def forward_and_both(function: Function | None, leaves: list[Tensor], device: torch.device) -> list[str]:
    """Milliseconds of the function, and of it and its gradients by the leaves."""
    if function is None:
        return ["", ""]
    try:
        with torch.no_grad():
            plain = milliseconds(lambda: function(*leaves), device)
        return [f"{plain:.3f}", f"{_both(function, leaves, device):.3f}" if leaves else ""]
    except torch.cuda.OutOfMemoryError:
        return ["no memory", "no memory"]


def _both(function: Function, leaves: list[Tensor], device: torch.device) -> float:
    inputs = [leaf if leaf.requires_grad else leaf.detach().requires_grad_() for leaf in leaves]
    grads = [torch.ones_like(output) for output in tupled(function(*inputs))]
    return milliseconds(lambda: torch.autograd.grad(tupled(function(*inputs)), inputs, grads), device)


def tupled(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def bandwidth(device: torch.device, count: int = 1 << 28) -> float:
    """Bytes a second of a copy of a gigabyte within the device's memory, read and written."""
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    return 2 * size(source) / milliseconds(lambda: target.copy_(source), device) * 1e3


def least_bytes(routine: Routine) -> tuple[int, int]:
    """What must be read and written forward, and forward and backward, if nothing is moved twice."""
    with torch.no_grad():
        outputs = size(*tupled(routine.fast(*routine.leaves)))
    forward = routine.read + min(size(*routine.leaves), routine.touched) + outputs
    return forward, forward + outputs + size(*routine.leaves)


# Tables.

KERNEL_HEAD = """| routine | points | forward ms | plain | peer | least | both ms | plain | peer | least |
|---|---|---|---|---|---|---|---|---|---|"""
TRAINING_HEAD = """| what | steps | steps/s | seconds in all |
|---|---|---|---|"""
RENDERING_HEAD = """| size | frames | frames/s |
|---|---|---|"""


def kernels(device: torch.device, deadline: float, points: tuple[int, ...] = POINTS) -> Iterator[str]:
    """Each routine. `least` is the time in which the memory moves what must be moved, and the factor above it."""
    rate = bandwidth(device)
    yield f"Memory moves {rate / 1e9:.0f} GB/s (a copy). `both`: forward and backward. `least`: what the memory needs."
    yield ""
    yield KERNEL_HEAD
    for make in ROUTINES:
        for n in points:
            if time.monotonic() > deadline:
                raise OutOfTimeError
            yield kernel_row(make(n, device), n, device, rate)


def kernel_row(routine: Routine, n: int, device: torch.device, rate: float) -> str:
    fast = forward_and_both(routine.fast, routine.leaves, device)
    plain = forward_and_both(routine.plain, routine.leaves, device)
    try:
        peer = forward_and_both(routine.peer, routine.peer_leaves, device)
    except Exception as error:  # somebody else's
        peer = [type(error).__name__] * 2
    least = [count / rate * 1e3 for count in least_bytes(routine)]
    cells = [routine.name, f"2^{n.bit_length() - 1}"]
    for ours, theirs, others, floor in zip(fast, plain, peer, least, strict=True):
        above = f" (x {float(ours) / floor:.1f})" if ours[:1].isdigit() else ""
        cells += [ours, theirs, others, f"{floor:.3f}{above}" if ours else ""]
    return f"| {' | '.join(cells)} |"


class Clock:
    """A `Progress` that measures steps a second after the first ones, and stops at a deadline."""

    def __init__(self, deadline: float, warm_up: int) -> None:
        self.deadline, self.warm_up, self.start, self.rate, self.done = deadline, warm_up, 0.0, 0.0, 0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if "steps/s" in note:  # not other parts of the work
            now = time.perf_counter()
            if done <= self.warm_up:
                self.start = now
            else:
                self.rate = (done - self.warm_up) / (now - self.start)
            self.done = done
        if time.monotonic() > self.deadline:
            raise OutOfTimeError


def timed(name: str, work: Callable[[Clock], Field], deadline: float, warm_up: int) -> tuple[str, Field | None]:
    """A row, and the field that came out; None if the time was up."""
    clock, start, result = Clock(deadline, warm_up), time.perf_counter(), None
    try:
        result = work(clock)
    except OutOfTimeError:
        name += " (stopped: time is up)"
    seconds = time.perf_counter() - start
    return f"| {name} | {clock.done} | {clock.rate:.1f} | {seconds:.1f} |", result


def training(
    device: torch.device,
    deadline: float,
    data: str,
    fields: list[Field],
    steps: tuple[int, int, int] = (FIT_STEPS, CONVERT_STEPS, WARM_UP),
) -> Iterator[str]:
    """A fit, and conversions of its result, which is put into `fields`. steps: of each, and not counted."""
    scene = open_scene(data)
    yield TRAINING_HEAD
    total = deadline - time.monotonic()
    work = partial(fit, scene, "hashgrid", steps=steps[0], device=device)
    row, teacher = timed("fit hashgrid", lambda clock: work(progress=clock), deadline - total / 2, steps[2])
    yield row
    if teacher is None:
        return
    fields.append(teacher)
    for left, kind in zip((3, 2, 1), ("vm", "voxels", "mlp"), strict=True):
        until = time.monotonic() + (deadline - time.monotonic()) / left
        work = partial(convert, teacher, kind, steps=steps[1])
        yield timed(f"hashgrid to {kind}", lambda clock, work=work: work(progress=clock), until, steps[2])[0]


def rendering(
    device: torch.device, deadline: float, fields: list[Field], sizes: tuple[int, ...] = (400, 800)
) -> Iterator[str]:
    """Frames of a turntable around what was fitted."""
    if not fields:
        raise RuntimeError("there is no fitted field to render")
    yield RENDERING_HEAD
    for side in sizes:
        frames, start = 0, 0.0
        for frames, _ in enumerate(render(fields[0], turntable(fields[0], 21, (side, side)))):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if frames == 0:  # not counted
                start = time.perf_counter()
            elif time.monotonic() > deadline:
                break
        yield f"| {side} x {side} | {frames} | {frames / (time.perf_counter() - start):.2f} |"


def show(title: str, make: Callable[[float], Iterator[str]], seconds: float) -> None:
    """Prints a table line by line; whatever goes wrong is one line too."""
    print(f"\n## {title}\n", flush=True)
    try:
        for line in make(time.monotonic() + seconds):
            print(line, flush=True)
    except OutOfTimeError:
        print(f"\nStopped: {seconds} s are up.", flush=True)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        print(f"\nFailed: {type(error).__name__}: {text}", flush=True)


def main() -> int:
    """See the module's own words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="demo")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py: there is no CUDA device", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    triton = getattr(imported("triton"), "__version__", "none: the plain versions run")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton}, {time.strftime('%Y-%m-%d')}")
    if not runs_triton(torch.zeros(1, device=device)):
        print("\nTriton cannot be imported: `forward` and `both` are of the plain versions.")
    fields: list[Field] = []
    show("Kernels", lambda until: kernels(device, until), SECONDS["kernels"])
    show("Training", lambda until: training(device, until, options.data, fields), SECONDS["training"])
    show("Rendering", lambda until: rendering(device, until, fields), SECONDS["rendering"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
