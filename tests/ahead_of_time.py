"""Compiles every CUDA kernel to machine code, on a machine without a GPU: what an interpreter lets pass fails here.

    python tests/ahead_of_time.py OUT 80 90

Writes OUT/KERNEL.sm_80.cubin and .ptx for each kernel and each architecture that is named, and prints the kernels'
names. For the first architecture all sizes that kinds have are compiled, for the others one of them. Not a test by
itself: `test_kernels_gpu.py` runs it in a process of its own, where Triton does not interpret.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from fieldcast.fields.kernels.hashgrid import hash_levels
from fieldcast.fields.space import Space

TYPES = {torch.float32: "*fp32", torch.int32: "*i32", torch.int64: "*i64", torch.uint8: "*u8"}
ROUTINES = ("launch", "hashgrid", "lowrank", "voxels", "compositing", "marching")
MODULES = {name: importlib.import_module(f"fieldcast.fields.kernels.gpu.{name}") for name in ROUTINES}


def compiling(done: Callable[[str, Any], None], target: GPUTarget, once: bool) -> Callable[..., None]:
    """What stands in for a launch: compiles the kernel for the arguments, as a launch would, and runs nothing.

    once: for the first arguments only.
    """
    seen: set[str] = set()

    def run(kernel: JITFunction[Any], *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> None:
        name = f"{kernel.__module__.rpartition('.')[2]}{kernel.__name__}"
        if once and name in seen:
            return
        seen.add(name)
        options = {name: constants.pop(name) for name in set(constants) - set(kernel.arg_names)}
        given = dict(zip(kernel.arg_names, arguments, strict=False)) | constants
        constants |= {name: 1 for name, value in given.items() if isinstance(value, int) and value == 1}
        types = {name: type_of(given[name]) if name not in constants else "constexpr" for name in kernel.arg_names}
        aligned = [i for i, name in enumerate(kernel.arg_names) if types[name].startswith("*")]
        attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
        source = ASTSource(kernel, types, constants, attributes)
        done(name, triton.compile(source, target=target, options=options))

    return run


def type_of(argument: Any) -> str:
    """Triton's name for the type of an argument of a kernel."""
    if isinstance(argument, Tensor):
        return TYPES[argument.dtype]
    return "fp32" if isinstance(argument, float) else "i32"


def launch_all() -> None:
    """Calls every routine forward and backward, at the sizes that kinds have by default."""
    MODULES["launch"].probe(torch.device("cpu"))
    u, n = torch.rand(20, 3, requires_grad=True), 20
    for c in (1, 2, 4, 8):
        levels = hash_levels(1 if c == 1 else 2, 16, 64, 12)
        rows = levels[-1].offset + levels[-1].rows
        MODULES["hashgrid"].hash_encode(u, torch.zeros(rows, c, requires_grad=True), levels).sum().backward()
    for c in (1, 16, 48):
        planes, lines = torch.zeros(3, 8, 8, c, requires_grad=True), torch.zeros(3, 8, c, requires_grad=True)
        MODULES["lowrank"].product(u, planes, lines, (2, 1, 0)).sum().backward()
    for c in (1, 28):
        data, table = torch.zeros(512, c, requires_grad=True), torch.zeros(1, 1, 1, dtype=torch.int32)
        MODULES["voxels"].trilinear(u, data, table, 8, torch.zeros(c)).sum().backward()
    starts = torch.tensor([0, n])
    for c in (1, 4):
        tau, values = torch.rand(n, requires_grad=True), torch.rand(n, c, requires_grad=True)
        weights, left = MODULES["compositing"].ray_weights(tau, starts)
        (MODULES["compositing"].accumulate(weights, values, starts).sum() + left.sum()).backward()
    bits, offsets = torch.zeros(64, dtype=torch.uint8), torch.arange(9.0)
    for r, contraction in ((1, "none"), (20, "none"), (20, "sphere"), (20, "cube")):
        rays = (torch.rand(r, 3), torch.rand(r, 3), torch.zeros(r), torch.ones(r), offsets, torch.zeros(r))
        MODULES["marching"].march(*rays, bits, 8, Space(contraction=contraction))  # type: ignore[arg-type]


def main(out: Path, *architectures: str) -> None:
    """See the module's own words."""
    names: set[str] = set()
    for i, architecture in enumerate(architectures):

        def keep(name: str, compiled: Any, suffix: str = f"sm_{architecture}") -> None:
            (out / f"{name}.{suffix}.cubin").write_bytes(compiled.asm["cubin"])
            (out / f"{name}.{suffix}.ptx").write_text(compiled.asm["ptx"])
            names.add(name)

        target = GPUTarget("cuda", int(architecture), 32)
        JITFunction.run = compiling(keep, target, once=i > 0)  # type: ignore[method-assign]
        launch_all()
    sys.stdout.write("\n".join(sorted(names)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
