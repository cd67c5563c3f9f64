"""Which views are for training and which are held out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from fieldcast.errors import InputError

SPLITS = ("train", "val", "test", "all")
# Held-out views of captures without a split of their own, as in mip-NeRF 360 and the LLFF papers.
HOLD_OUT = 8


def require_split(split: str) -> None:
    if split not in SPLITS:
        raise InputError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")


def missing_split(file: Path, split: str, present: Collection[str]) -> InputError:
    """The error about a split that the data does not have."""
    there = ", ".join([*(name for name in SPLITS if name in present), "all"])
    return InputError(f"{file}: expected a split {split!r}, found {there}; pass one of those")


def every_eighth(names: Sequence[str], split: str) -> list[int]:
    """Indices of the views of a split: sorted by name, every 8th is held out, for both `val` and `test`.

    A single view is in every split.
    """
    order = sorted(range(len(names)), key=lambda i: names[i])
    if split == "all" or len(order) == 1:
        return order
    return [i for rank, i in enumerate(order) if (rank % HOLD_OUT == 0) == (split != "train")]
