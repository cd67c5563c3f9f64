"""The compiled CPU versions of the routines: when they run, and how they are compiled.

They are written in Python for numba, take float32 and are kept in `__pycache__` once compiled. No kernel adds from two
threads to one place, and what is added to a place is added in the order of the points: results are the same to the bit
in every run and at any number of threads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])
Array = NDArray[Any]

# Liberties that keep infinities, NaN and the order of sums what they are.
HARMLESS = {"contract", "nsz", "arcp"}


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function whose `prange` loops run on all threads."""
    return _compile(function, parallel=True, fastmath=HARMLESS)


def helper(function: Function) -> Function:
    """Compile a function for kernels of the same file to call: numba's cache does not notice changes in other files."""
    return _compile(function)


def summing(function: Function) -> Function:
    """A `helper` that may sum in any order."""
    return _compile(function, fastmath=HARMLESS | {"reassoc"})


def _compile(function: Function, **options: Any) -> Function:
    plain = inspect.unwrap(function)  # without the run-time shape checks of the tests
    compiled: Any
    try:
        compiled = numba.njit(cache=True, nogil=True, **options)(plain)
    except RuntimeError:  # no folder to keep the result in
        compiled = numba.njit(nogil=True, **options)(plain)
    return cast(Function, compiled)


def plain_backward(
    plain: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor | None]:
    """The gradients of a plain version, for a `backward` that must be differentiable in its turn (`create_graph`).

    Each input counts as if on its own: what one of them was computed from does not.
    """
    views = [tensor.view_as(tensor) for tensor in inputs]
    wanted = [view for view in views if view.requires_grad]
    found = iter(torch.autograd.grad(plain(*views), wanted, grads, create_graph=True, allow_unused=True))
    return [next(found) if view.requires_grad else None for view in views]


def runs_compiled(*tensors: Tensor) -> bool:
    """Whether the tensors are what the compiled versions take: float32 in main memory."""
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)


def arrays(*tensors: Tensor) -> list[Array]:
    """The tensors as C-ordered numpy arrays, without a copy where they are contiguous."""
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def zeros_like(tensor: Tensor) -> Tensor:
    """Zeros in pages that cost nothing until they are touched, which is most of a large sparse gradient."""
    return torch.from_numpy(np.zeros(tuple(tensor.shape), np.float32))


def use_threads() -> int:
    """Let the kernels use as many threads as torch does; returns how many."""
    limit: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    threads = max(1, min(torch.get_num_threads(), limit))
    numba.set_num_threads(threads)
    return threads
