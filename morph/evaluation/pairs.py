"""Which objects become which: pairs of a file, or of those that the prior has not learned from."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fieldcast.errors import InputError
from fieldcast.morph.ends import facing
from fieldcast.morph.inputs import volume_in
from fieldcast.morph.priors import Prior
from fieldcast.morph.priors.builtin.assets import Asset, read_index
from fieldcast.morph.volumes import Volume

SAME, CROSS = 5, 15  # pairs of one category, and of two
HELD_OUT = "val"


@dataclass(frozen=True)
class Item:
    """path: of a mesh or a field. said: its name, or a caption."""

    path: Path
    said: str


@dataclass(frozen=True)
class Wanted:
    """A pair that is not opened yet."""

    name: str
    first: Item
    second: Item


@dataclass(frozen=True, eq=False)
class Pair:
    """Two objects in one cube, the second turned by quarters to face like the first. captions: what priors are told."""

    name: str
    first: Volume
    second: Volume
    captions: tuple[str, str]


def held_out_pairs(folder: Path, same: int = SAME, cross: int = CROSS, seed: int = 0) -> list[Wanted]:
    """Pairs of assets of a folder with an index that the prior has not learned from; no asset is in two of them.

    Those of one category are of as many categories.
    """
    rows = [row for row in read_index(folder) if row.split == HELD_OUT]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    left = [rows[i] for i in order]
    chosen: list[tuple[Asset, Asset]] = []
    for category in dict.fromkeys(row.category for row in left):
        two = [row for row in left if row.category == category][:2]
        if len(two) == 2 and len(chosen) < same:
            chosen.append((two[0], two[1]))
    left = [row for row in left if not any(row in pair for pair in chosen)]
    while len(chosen) < same + cross and left:
        first = left.pop(0)
        other = next((row for row in left if row.category != first.category), None)
        if other is not None:
            left.remove(other)
            chosen.append((first, other))
    if len(chosen) < same + cross:
        raise InputError(f"{folder}: expected assets for {same + cross} pairs in {HELD_OUT}, found {len(chosen)}")
    return [_wanted(*(Item(folder / row.path, f"{row.name} {row.category}") for row in pair)) for pair in chosen]


def read_pairs(file: Path) -> list[Wanted]:
    """Pairs of a CSV file: a row is two meshes or fields, from the file's folder on, and maybe two captions behind."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row and not row[0].startswith("#")]
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: expected rows of two files: {error}") from None
    found = []
    for number, row in enumerate(rows, 1):
        if len(row) not in (2, 4):
            raise InputError(
                f"{file}: pair {number}: expected two files, or two and two captions, found {len(row)} entries"
            )
        said = row[2:] or [Path(cell).stem for cell in row]
        found.append(_wanted(*(Item(file.parent / cell, text) for cell, text in zip(row, said, strict=False))))
    if not found:
        raise InputError(f"{file}: expected pairs of files, found none")
    return found


def opened(wanted: Wanted, prior: Prior) -> Pair:
    """The objects of a pair on grids, and what is said of them as far as a prior knows the words."""
    first, second = (volume_in(item.path) for item in (wanted.first, wanted.second))
    turned, _ = facing(first, second)
    captions = prior.known(wanted.first.said), prior.known(wanted.second.said)
    return Pair(wanted.name, first, replace(turned, space=first.space), captions)


def _wanted(first: Item, second: Item) -> Wanted:
    return Wanted(f"{first.path.stem} to {second.path.stem}", first, second)
