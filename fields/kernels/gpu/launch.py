"""How the CUDA versions are compiled and started."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


def jit(function: Callable[..., Any]) -> Any:
    """Compile a kernel, or a function that kernels call, when it is first used."""
    return triton.jit(inspect.unwrap(function))  # without the run-time shape checks of the tests


def launch(kernel: Any, programs: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run that many programs on the device of the first argument, a tensor. Tensors must be contiguous."""
    if 0 not in programs:
        with torch.cuda.device_of(arguments[0]):
            kernel[programs](*arguments, **constants, enable_fp_fusion=True)  # said, since the default is to change


def probe(device: torch.device) -> bool:
    """Whether a kernel that doubles some numbers does so."""
    numbers = torch.arange(16.0, device=device)
    doubled = torch.zeros_like(numbers)
    launch(_double, (1,), numbers, doubled, COUNT=16)
    return torch.equal(doubled, 2 * numbers)


@jit
def _double(numbers: tl.tensor, doubled: tl.tensor, COUNT: tl.constexpr) -> None:
    i = tl.arange(0, COUNT)
    tl.store(doubled + i, 2 * tl.load(numbers + i))


def contiguous(*tensors: Tensor) -> list[Tensor]:
    """The tensors in C order without their history, and without a copy where they are contiguous."""
    return [tensor.detach().contiguous() for tensor in tensors]


def blocks(n: int, size: int) -> int:
    """How many blocks of `size` hold n things."""
    return -(-n // size)


def power_of_two(n: int) -> int:
    """The least power of two that is not below n: Triton's tiles have no other sizes."""
    return 1 << max(n - 1, 0).bit_length()
