"""What frames are held against: objects that are known, and what real ones look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.space import Space
from fieldcast.morph.evaluation.looks import FEATURES, stages, summary
from fieldcast.morph.evaluation.pairs import HELD_OUT
from fieldcast.morph.evaluation.plausibility import occupancies
from fieldcast.morph.evaluation.views import views
from fieldcast.morph.priors.builtin.assets import Assets
from fieldcast.morph.priors.builtin.codec import from_blocks
from fieldcast.morph.volumes import BAND, Volume


@dataclass(frozen=True, eq=False)
class References:
    """known: what objects fill (plausibility.occupancies). real: EffLite's summaries of views of other objects, none
    if EffLite is not asked.
    """

    known: UInt8[np.ndarray, "n bytes"]
    real: Float[Tensor, "m e"]


def references(assets: Assets, out: Path, distances: tuple[str, ...], progress: Progress = silent) -> References:
    """The assets that the prior has learned from, and views of the others; kept in a folder, made only once."""
    known = kept(out / "known.npy", lambda: occupancies(assets.blocks[assets.of("train")]))
    real = np.zeros((0, FEATURES), np.float32)
    if "EffLite" in distances:
        real = kept(out / "real.npy", lambda: _real(assets, progress))
    return References(known, torch.from_numpy(real))


def object_of(assets: Assets, number: int) -> Volume:
    """An asset on its grid, as nearly as its blocks hold it."""
    grid = from_blocks(assets.grids(np.array([number])))[0]
    return Volume(grid[0].mul(BAND).clamp(-BAND, BAND), (grid[1:].permute(1, 2, 3, 0) + 0.5).contiguous(), Space())


def kept(file: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array in a file, which is made if there is none."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file, force=True) as stump, stump.open("wb") as stream:
            np.save(stream, make(), allow_pickle=False)
    found: np.ndarray = np.load(file, allow_pickle=False)
    return found


def _real(assets: Assets, progress: Progress) -> Float32[np.ndarray, "m e"]:
    numbers, found = assets.of(HELD_OUT).tolist(), []
    for done, number in enumerate(numbers, 1):
        found.append(summary(stages(views(object_of(assets, number)))))
        progress(done, len(numbers), "looking at real objects")
    return torch.cat(found).numpy()
