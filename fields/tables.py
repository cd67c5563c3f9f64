"""What was measured, as tables in Markdown: a row for each thing measured, a column for each number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """title: with its unit, and an arrow for the way in which it is better. key: what rows call the number. digits:
    behind the point. times: what it is multiplied by.
    """

    title: str
    key: str
    digits: int = 3
    times: float = 1.0


Row = tuple[str, Callable[[str], float | None]]  # a name, and what gives the number of a key, or None


def markdown(corner: str, columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Of the columns and rows in which there is a number; nothing if there is none. corner: above the names."""
    found = [(name, [number(column.key) for column in columns]) for name, number in rows]
    known = [i for i in range(len(columns)) if any(numbers[i] is not None for _, numbers in found)]
    lines = [[corner, *(columns[i].title for i in known)], ["---"] * (len(known) + 1)]
    for name, numbers in found:
        if any(number is not None for number in numbers):
            lines.append([name.replace("|", "\\|"), *(_cell(numbers[i], columns[i]) for i in known)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if known else ""


def _cell(number: float | None, column: Column) -> str:
    return "–" if number is None else f"{number * column.times:.{column.digits}f}"
