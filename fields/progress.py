"""How long work tells how far it is. The library never prints: whoever calls it decides what to show."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called now and then with what is done of what there is to do, and a few words, such as `loss 0.0123`."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def silent(done: int, total: int, note: str = "") -> None:
    """Shows nothing."""
