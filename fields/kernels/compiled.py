"""The compiled CPU versions of the routines: when they run, and how they are compiled.

They are written in Python for numba, take float32 and are kept in `__pycache__` once compiled. No kernel adds from two
threads to one place, and what is added to a place is added in the order of the points: results are the same to the bit
in every run and at any number of threads.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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


FEW = 64  # items that are handed out one by one: levels of a table, the last of which cost most, or slabs of a grid


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function of (first, last, *arguments), which does the items `first` to `last` of some work.

    The result takes (items, *arguments) and shares them among as many threads as torch uses. numba's own parallel
    loops are no faster and take three to five times as long to compile.
    """
    compiled = _compile(function, fastmath=HARMLESS)

    @functools.wraps(function)
    def shared(items: int, *arguments: Any) -> None:
        threads = torch.get_num_threads()
        parts = items if items <= FEW else threads
        if threads == 1 or parts <= 1:
            compiled(0, items, *arguments)
            return
        todo = iter([(items * part // parts, items * (part + 1) // parts) for part in reversed(range(parts))])

        def work() -> None:
            for first, last in todo:
                compiled(first, last, *arguments)

        pool = _pool(threads - 1)
        others = [pool.submit(work) for _ in range(threads - 1)]
        work()
        for other in others:
            other.result()

    return shared


@functools.lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """The threads beside the one that calls."""
    return ThreadPoolExecutor(threads, thread_name_prefix="fieldcast")


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


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
