"""What the benchmarks share: timing, the ceilings of the machine measured in the same run, and Markdown.

    build/peers/bin/python benchmarks/measure.py

prints the machine and its ceilings. Import this module before torch: idle threads must be told to sleep before it
starts, as the command line does.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
import numpy as np
import torch


@dataclass(frozen=True)
class Timing:
    """Wall seconds of one call: the best and the median of `runs`."""

    best: float
    median: float
    runs: int


def best(function: Callable[[], Any], seconds: float = 1.0, runs: int = 3) -> Timing:
    """Calls for about `seconds`, `runs` times at least, after one call that does not count."""
    return alternate({"": function}, seconds, runs)[""]


def alternate(functions: Mapping[str, Callable[[], Any]], seconds: float = 1.0, runs: int = 3) -> dict[str, Timing]:
    """`best` of each, in turns, so that whatever else the machine does meets all alike."""
    walls: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(runs):
        for name, function in functions.items():
            end = time.perf_counter() + seconds / runs
            walls[name].append(_wall(function))
            while time.perf_counter() < end:
                walls[name].append(_wall(function))
    return {name: Timing(min(w), statistics.median(w), len(w)) for name, w in walls.items()}


def _wall(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def machine() -> str:
    """One line: processor, cores, threads, versions, date."""
    information = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", information.read_text()) if information.exists() else None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{date.today()}, {name}, {threads}, torch {torch.__version__}, numba {numba.__version__}"


def multiplication_rate(precision: torch.dtype, rows: int = 1 << 16) -> float:
    """FLOP/s of [rows, 64] x [64, 64]."""
    a, b = torch.rand(rows, 64).to(precision), torch.rand(64, 64).to(precision)
    out = torch.zeros(rows, 64, dtype=precision)
    return 2 * rows * 64 * 64 / best(lambda: torch.mm(a, b, out=out), 0.3).best


@lru_cache
def stream_rate(megabytes: int = 128) -> float:
    """Bytes/s, read and written, of a copy from main memory to main memory."""
    source, target = (torch.zeros(megabytes << 18) for _ in range(2))
    return 2 * source.nbytes / best(lambda: target.copy_(source), 0.5).best


@lru_cache
def gather_rate(rows: int, width: int = 2) -> float:
    """Rows/s read at random places of a table of `rows` (a power of 2) rows of `width` float32, by all threads."""
    table = np.ones((rows, width), np.float32)
    return _random_rate(_random_reader(width), table, rows, width)


@lru_cache
def scatter_rate(rows: int, width: int = 2) -> float:
    """Rows/s added to at random places; each thread has a table of its own."""
    tables = np.zeros((torch.get_num_threads(), rows, width), np.float32)
    return _random_rate(_random_adder(width), tables, rows, width)


def _random_rate(kernel: Any, table: Any, rows: int, width: int) -> float:
    count = (1 << 22) // width
    totals = np.zeros(torch.get_num_threads(), np.float32)
    numba.set_num_threads(len(totals))
    timing = best(lambda: kernel(table, rows - 1, count, totals), 0.3)
    return len(totals) * count / timing.best


@numba.njit
def _scrambled(i: Any) -> Any:
    """Any number from a running one, independent of the one before: nothing waits for anything."""
    x = np.uint64(i) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return x >> np.uint64(32)


@lru_cache
def _random_reader(width: int) -> Any:
    @numba.njit(parallel=True, fastmath=True)
    def read(table: Any, mask: int, count: int, totals: Any) -> None:
        for thread in numba.prange(len(totals)):
            total = np.float32(0)
            for i in range(count):
                row = _scrambled(thread * count + i) & np.uint64(mask)
                for k in range(width):
                    total += table[row, k]
            totals[thread] = total

    return read


@lru_cache
def _random_adder(width: int) -> Any:
    @numba.njit(parallel=True, fastmath=True)
    def add(tables: Any, mask: int, count: int, totals: Any) -> None:
        for thread in numba.prange(len(totals)):
            for i in range(count):
                row = _scrambled(thread * count + i) & np.uint64(mask)
                for k in range(width):
                    tables[thread, row, k] += np.float32(1)

    return add


def ceilings() -> str:
    """A table of what this machine can do at most."""
    rows = [
        [f"[2^{log2}, 64] x [64, 64], {str(kind)[6:]}, GFLOP/s", multiplication_rate(kind, 1 << log2) / 1e9]
        for kind in (torch.float32, torch.bfloat16)
        for log2 in (15, 16)
    ]
    rows.append(["copy of 128 MiB, GB/s read and written", stream_rate() / 1e9])
    for log2 in (14, 16, 19, 22):
        rows.append([f"8-byte rows read at random from 2^{log2}, million/s", gather_rate(1 << log2) / 1e6])
        rows.append([f"8-byte rows added to at random in 2^{log2}, million/s", scatter_rate(1 << log2) / 1e6])
    return table(["ceiling", "value"], [[name, f"{value:.0f}"] for name, value in rows])


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    if any(len(row) != len(head) for row in rows):
        raise ValueError(f"expected {len(head)} entries a row, found {sorted({len(row) for row in rows})}")
    lines = ["| " + " | ".join(str(entry) for entry in line) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def say(*words: object) -> None:
    """Talk, on stderr: stdout is for the table."""
    print(*words, file=sys.stderr, flush=True)


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows the module's own words, with the number of threads."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: all")
    return parser


def main() -> None:
    """See the module's own words."""
    torch.set_num_threads(options(__doc__).parse_args().threads)
    print(ceilings())
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
