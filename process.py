"""What a process that computes fields says once, before torch is imported: how its threads wait and memory is kept."""

from __future__ import annotations

import ctypes
import os
import sys

KEPT = 1 << 30  # bytes
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of <malloc.h>


def prepare() -> None:
    """Makes training and rendering on a CPU faster; the command line begins with it, and Python programs may.

    Idle OpenMP threads sleep instead of spinning: six times the speed when another program keeps a core busy, and no
    loss when none does; unless OMP_WAIT_POLICY says otherwise, and only if torch is not imported yet.
    Freed memory, up to 1 GB, is kept for the next tensor: otherwise the system fills every large one with zeros, page
    by page, which takes a quarter of a training step. glibc alone is asked; elsewhere this does nothing.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # musl has none
            mallopt(MMAP_THRESHOLD, KEPT)
            mallopt(TRIM_THRESHOLD, KEPT)
