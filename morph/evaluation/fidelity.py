"""How much an end of a morph is the object that was given: in what it fills, where its surface is, how it looks.

Letters: F faces, N points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from fieldcast.fields.mesh import Mesh
from fieldcast.fields.metrics import psnr
from fieldcast.morph.distance import filled
from fieldcast.morph.evaluation.looks import Views
from fieldcast.morph.volumes import Volume

BEST = 60.0  # dB: that of pictures which differ by less than 8 bits hold, and what equal ones are given
MOST = 4000  # faces of a surface, that distances are taken from
NEAR = 4  # faces that are looked at for the nearest point of a surface


@dataclass(frozen=True)
class Fidelity:
    """iou: of what is filled, 0 to 1. chamfer: mean distance of the surfaces, over the longest side of what was given;
    None: one has no surface. psnr: of views, dB, at most BEST.
    """

    iou: float
    chamfer: float | None
    psnr: float


def fidelity(given: Volume, found: Volume, given_views: Views, found_views: Views) -> Fidelity:
    """Of a frame, to the object that it should be."""
    decibel = min(BEST, psnr(given_views, found_views))
    return Fidelity(iou(given, found), chamfer(given.mesh(), found.mesh()), decibel)


def iou(a: Volume, b: Volume) -> float:
    """What both fill over what either fills; cells at a surface count by how much of them is inside."""
    x, y = filled(a), filled(b)
    either = torch.maximum(x, y).sum()
    return float(torch.minimum(x, y).sum() / either) if either > 0 else 1.0


def chamfer(given: Mesh, found: Mesh) -> float | None:
    """Half the mean distance from one surface to the other, plus half of that back, over the longest side of `given`.

    The means are over faces by their areas (of more than MOST, every second, third and so on), from the middle of each
    to the nearest point of the other surface.
    """
    if not len(given) or not len(found):
        return None
    longest = float(np.ptp(given.vertices, axis=0).max())
    return (_away(given, found) + _away(found, given)) / 2 / longest


def _away(a: Mesh, b: Mesh) -> float:
    """The mean distance from the surface of one mesh to that of the other."""
    kept = slice(None, None, math.ceil(len(a) / MOST))
    area = np.linalg.norm(a.normals()[kept], axis=-1)
    return float((_nearest(a.corners()[kept].mean(1), b.corners()) * area).sum() / area.sum())


def _nearest(points: Float64[np.ndarray, "n 3"], corners: Float64[np.ndarray, "f 3 3"]) -> Float64[np.ndarray, " n"]:
    """How far points are from faces, of which those with the NEAR nearest middles are looked at."""
    from scipy.spatial import cKDTree
    from trimesh.triangles import closest_point

    near = min(NEAR, len(corners))
    _, face = cKDTree(corners.mean(1)).query(points, near)
    tried = np.repeat(points, near, axis=0)
    away = np.linalg.norm(closest_point(corners[face.reshape(-1)], tried) - tried, axis=-1)
    nearest: Float64[np.ndarray, " n"] = np.nan_to_num(away, nan=math.inf).reshape(-1, near).min(1)
    return nearest
