"""How near joints and vertices are to the truth, frame by frame, and whether people stand before each other as they do.

Letters: T frames, N joints or vertices, P people. Places are in metres, of the world.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Bool, Float64, Int64

MM = 1000.0
LAYER_GAP = 0.3  # metres: people who follow each other in depth by more are in different layers
DEPTH_THRESHOLD = 0.15  # metres, within which depths count as equal


def position_mm(truth: Float64[np.ndarray, "t n 3"], found: Float64[np.ndarray, "t n 3"]) -> float | None:
    """The mean distance of corresponding points, as they stand in the world: MPJPE of joints, MVE of vertices."""
    return MM * float(np.linalg.norm(found - truth, axis=-1).mean()) if truth.size else None


def rooted(points: Float64[np.ndarray, "t n 3"], root: Float64[np.ndarray, "t 3"]) -> Float64[np.ndarray, "t n 3"]:
    """Points as seen from the root joint, with the axes of the world: neither turned nor scaled."""
    seen: Float64[np.ndarray, "t n 3"] = points - root[:, None]
    return seen


def acceleration_m_s2(
    truth: Float64[np.ndarray, "t n 3"],
    found: Float64[np.ndarray, "t n 3"],
    frames: Int64[np.ndarray, " t"],
    fps: float,
) -> float | None:
    """Jitter: the mean |a found - a truth| of a = (x(t - 1) - 2 x(t) + x(t + 1)) fps^2 (HMMR, Kanazawa et al. 2019).

    frames: the numbers of the frames; only those count whose two neighbours are there too. None where there are none.
    """
    inner = (frames[2:] - frames[1:-1] == 1) & (frames[1:-1] - frames[:-2] == 1)
    if not inner.any():
        return None
    wrong = found - truth
    second = (wrong[:-2] - 2 * wrong[1:-1] + wrong[2:])[inner]
    return float(np.linalg.norm(second, axis=-1).mean()) * fps**2


def depths(root: Float64[np.ndarray, "t p 3"], c2w: Float64[np.ndarray, "t 3 4"]) -> Float64[np.ndarray, "t p"]:
    """How far in front of the camera points are, along its axis, metres."""
    away = root - c2w[:, None, :, 3]
    forward: Float64[np.ndarray, "t p"] = -(away * c2w[:, None, :, 2]).sum(-1)
    return forward


def layers(depth: Float64[np.ndarray, " p"], gap: float = LAYER_GAP) -> Int64[np.ndarray, " p"]:
    """The layer of each person, 0 nearest: by rising depth, a new one begins where the next is farther by > gap."""
    order = np.argsort(depth, kind="stable")
    steps = np.diff(depth[order], prepend=depth[order[:1]]) > gap
    found = np.zeros(len(depth), np.int64)
    found[order] = steps.cumsum()
    return found


def depth_relations(
    truth: Float64[np.ndarray, "t p"],
    found: Float64[np.ndarray, "t p"],
    present: Bool[np.ndarray, "t p"],
    threshold: float = DEPTH_THRESHOLD,
    gap: float = LAYER_GAP,
) -> tuple[int, int]:
    """How many pairs of people stand in the right relation of depth, and how many pairs there are, over all frames.

    BEV's PCDR (Sun et al. 2022), with layers from metres, where theirs were annotated. Of two people of
    one layer, the depths found must differ by less than the threshold; of others, by more, and the right way round.
    present: pairs are of people who are. The truth itself is not right everywhere: two people of one layer may be
    apart by anything from `threshold` to `gap`.
    """
    right = total = 0
    for true, guess, here in zip(truth, found, present, strict=True):
        level, guess = layers(true[here], gap), guess[here]
        for i, j in itertools.combinations(range(len(level)), 2):
            apart, order = guess[j] - guess[i], np.sign(level[j] - level[i])
            right += bool(order * apart > threshold) if order else bool(abs(apart) < threshold)
            total += 1
    return right, total
