"""Whether frames look like objects: like one that is known, in one piece, and without sudden growth.

Letters: N known objects, R cells a side, E a dimension of features.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from fieldcast.morph.distance import filled
from fieldcast.morph.priors.builtin.assets import packed
from fieldcast.morph.volumes import BAND, Volume

COARSE = 2  # cells a side of one whose filling is kept
CHUNK = 64  # objects whose blocks are in memory at once
ONES = np.array([bin(i).count("1") for i in range(256)], np.uint16)
ENOUGH = 2  # samples for each dimension of a covariance, in all


def occupancies(blocks: UInt8[np.ndarray, "n g g g 4 512"]) -> UInt8[np.ndarray, "n bytes"]:
    """What objects fill, a bit for every COARSE^3 cells: 32^3 of a grid of 64^3. blocks: as `packed` gives them."""
    found = []
    for start in range(0, len(blocks), CHUNK):
        sdf = (torch.from_numpy(np.array(blocks[start : start + CHUNK, ..., 0, :])).float() - 128) * (BAND / 127)
        full = (0.5 - sdf).clamp(0, 1).unflatten(-1, (8 // COARSE, COARSE) * 3).mean((5, 7, 9)) > 0.5
        cells = full.permute(0, 1, 4, 2, 5, 3, 6).flatten(1)
        found.append(np.packbits(cells.numpy(), axis=1))
    return np.concatenate(found)


def likeness(volume: Volume, known: UInt8[np.ndarray, "n bytes"]) -> float:
    """The largest IoU with one of some known objects, over the four ways in which it can face."""
    best, sizes = 0.0, _ones(known)
    for quarters in range(4):
        own = occupancies(packed(volume.turned(quarters))[None].numpy())
        both = _ones(known & own)
        either = sizes + _ones(own) - both
        best = max(best, float((both / either.clip(1)).max()))
    return best


def _ones(bits: UInt8[np.ndarray, "n bytes"]) -> Int64[np.ndarray, " n"]:
    """How many bits are set in each row."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        counts = np.bitwise_count(np.ascontiguousarray(bits).view(np.uint64))
    else:
        counts = ONES[bits]
    ones: Int64[np.ndarray, " n"] = counts.sum(1, dtype=np.int64)
    return ones


@dataclass(frozen=True)
class Pieces:
    """count: of connected parts (by faces of cells). largest: the share of the largest in the cells that are filled."""

    count: int
    largest: float


def pieces(volume: Volume) -> Pieces:
    """How an object hangs together; nothing is no part, of share 0."""
    from scipy.ndimage import label

    parts, count = label(volume.solid.numpy())
    if not count:
        return Pieces(0, 0.0)
    sizes = np.bincount(parts.ravel())[1:]
    return Pieces(int(count), float(sizes.max() / sizes.sum()))


def jump(frames: list[Volume], ends: tuple[Volume, Volume]) -> float:
    """The largest change of the volume from a frame to the next, over the mean volume of the objects given."""
    sizes = [float(filled(frame).sum()) for frame in frames]
    mean = sum(float(filled(end).sum()) for end in ends) / 2
    return max(abs(b - a) for a, b in itertools.pairwise(sizes)) / max(mean, 1e-6)


def frechet(a: Float[Tensor, "n e"], b: Float[Tensor, "m e"]) -> float | None:
    """The Fréchet distance of the Gaussians of two sets of features (Heusel et al. 2017, eq. 6); None: too few.

    It is biased upwards by few samples: compare only numbers from as many.
    """
    if min(len(a), len(b)) < ENOUGH * a.shape[1]:
        return None
    x, y = a.double(), b.double()
    return gaussians(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())


def gaussians(
    mean: Float[Tensor, " e"], cov: Float[Tensor, "e e"], other_mean: Float[Tensor, " e"], other: Float[Tensor, "e e"]
) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)); the last trace is that of (C^(1/2) C' C^(1/2))^(1/2)."""
    values, vectors = torch.linalg.eigh(cov)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ other @ root).clamp_min(0).sqrt().sum()
    return float((mean - other_mean).square().sum() + cov.trace() + other.trace() - 2 * cross)
