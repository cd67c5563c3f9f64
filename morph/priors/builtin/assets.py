"""What the built-in prior learns from: a folder of coloured meshes with an index, put on grids once.

`index.csv` has a row a mesh: path, category, name, split (train or val) and core (0: walls, roads, tiles).
"""

from __future__ import annotations

import csv
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.mesh import read_mesh
from fieldcast.morph.objects import volume_of_mesh
from fieldcast.morph.priors.builtin.codec import to_blocks
from fieldcast.morph.priors.builtin.words import color_words
from fieldcast.morph.volumes import BAND, RESOLUTION, Volume

SIDE = RESOLUTION // 8  # blocks
NEAR = 1.0  # cells from the surface, whose colours are an asset's
SCALE = torch.tensor([127.0, 255.0, 255.0, 255.0])[:, None]  # from blocks to bytes
OFFSET = torch.tensor([128.0, 127.5, 127.5, 127.5])[:, None]


@dataclass(frozen=True)
class Asset:
    """path: of its mesh, under the folder. name, category: what it is. split: train or val."""

    path: str
    name: str
    category: str
    split: str


@dataclass(frozen=True, eq=False)
class Assets:
    """rows: what there is. blocks: of their grids. colors: the names of their colours."""

    rows: list[Asset]
    blocks: UInt8[np.ndarray, "n g g g 4 512"]
    colors: list[list[str]]

    def of(self, split: str) -> Int64[np.ndarray, " m"]:
        """The numbers of a split's assets."""
        return np.array([i for i, row in enumerate(self.rows) if row.split == split], np.int64)

    def grids(self, index: Int64[np.ndarray, " b"]) -> Float[Tensor, "b g g g 4 512"]:
        """The blocks of some assets, as the codec takes them."""
        return unpacked(torch.from_numpy(np.asarray(self.blocks[index])))


def read_index(folder: Path) -> list[Asset]:
    """The assets of a folder that are objects. Raises InputError when it has none."""
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("core") != "0"]
        assets = [Asset(row["path"], row["name"], row["category"], row["split"]) for row in rows]
    except OSError as error:
        raise InputError(f"{folder / 'index.csv'}: cannot be read: {error.strerror}") from None
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{folder / 'index.csv'}: expected path, name, category and split of meshes: {error}"
        ) from None
    if not assets:
        raise InputError(f"{folder / 'index.csv'}: expected meshes, found none")
    return assets


def gather(folder: Path, work: Path, progress: Progress = silent) -> Assets:
    """The assets on grids, which are kept in `work` and made only once; an interrupted run goes on where it was.

    Several processes put them there: a script that calls this needs `if __name__ == "__main__"`.
    """
    rows = read_index(folder)
    work.mkdir(parents=True, exist_ok=True)
    file, notes = work / "blocks.npy", work / "assets.json"
    known: list[list[str]] = msgspec.json.decode(notes.read_bytes()) if notes.exists() else []
    fresh = not known or not file.exists()
    known = [] if fresh else known
    shape = (len(rows), SIDE, SIDE, SIDE, 4, 512)
    blocks = np.lib.format.open_memmap(file, "w+" if fresh else "r+", np.uint8, shape if fresh else None)
    if blocks.shape != shape:
        raise InputError(f"{work}: made from {len(blocks)} assets, {folder} has {len(rows)}: use another folder")
    left = [folder / row.path for row in rows[len(known) :]]
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for i, (grid, colors) in enumerate(pool.map(on_grid, left, chunksize=4), len(known)):
            blocks[i] = grid
            known.append(colors)
            if i % 50 == 49 or i == len(rows) - 1:
                blocks.flush()
                notes.write_bytes(msgspec.json.encode(known))
            progress(i + 1, len(rows), "putting meshes on grids")
    return Assets(rows, blocks, known)


def on_grid(mesh: Path) -> tuple[UInt8[np.ndarray, "g g g 4 512"], list[str]]:
    """The blocks of a mesh, in bytes, and the names of its colours."""
    volume = volume_of_mesh(read_mesh(mesh))
    return packed(volume).numpy(), color_words(volume.rgb[volume.sdf.abs() < NEAR])


def packed(volume: Volume) -> UInt8[Tensor, "g g g 4 512"]:
    """The blocks of a grid in bytes."""
    return (blocks_of(volume)[0] * SCALE + OFFSET).round().to(torch.uint8)


def unpacked(blocks: UInt8[Tensor, "b g g g 4 512"]) -> Float[Tensor, "b g g g 4 512"]:
    """The inverse of `packed`, as nearly as bytes allow."""
    return (blocks.float() - OFFSET) / SCALE


def blocks_of(volume: Volume) -> Float[Tensor, "1 g g g 4 512"]:
    """A grid as the codec takes it."""
    return to_blocks(torch.cat([volume.sdf[None] / BAND, volume.rgb.permute(3, 0, 1, 2) - 0.5])[None])
