"""How compiled kernels share their work among threads."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fieldcast.fields.kernels.compiled import FEW, Array, kernel


@kernel
def count(first: int, last: int, visits: Array) -> None:
    """Count each item once."""
    for i in range(first, last):
        visits[i] += 1


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Torch's number of threads for the length of a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("items", [0, 1, 2, 3, FEW, FEW + 1, 1001])
def test_every_item_is_done_once_whatever_the_number_of_threads(items: int, threads: int) -> None:
    visits = np.zeros(items, np.int64)
    count(items, visits)
    assert (visits == 1).all()


def test_an_error_in_a_thread_is_raised(threads: int) -> None:
    with pytest.raises(Exception, match=r"int|type"):
        count(1000, "not an array")


def count_in_child() -> None:
    """Exits with 0 if the kernel works in this process."""
    visits = np.zeros(1000, np.int64)
    count(1000, visits)
    raise SystemExit(int((visits != 1).any()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kernels_work_in_a_forked_process() -> None:
    count(1000, np.zeros(1000, np.int64))  # the threads of this process exist
    child = multiprocessing.get_context("fork").Process(target=count_in_child)
    child.start()
    child.join(20)
    stuck = child.is_alive()
    child.kill()
    assert not stuck
    assert child.exitcode == 0
