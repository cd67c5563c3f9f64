"""The colours of a mesh, from the field that it was made of, or from anything else that tells the colour of a point.

A point of a field's surface gets what is seen of the field along a short segment through it, from outside to inside, in
several directions from which the surface is seen there; so a colour that depends on the direction becomes its mean.
Letters: N points, S samples along the segment, D directions of each, F faces, V cameras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor

from fieldcast.distill.meshing.unwrap import Texels
from fieldcast.fields.field import Field
from fieldcast.fields.mesh import Mesh, unit
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.mesh import Caster

DIRECTIONS = 3
SEGMENT = (0.75, 0.25, -0.25, -0.75)  # cells outside of the surface at which the field is asked, from outside inwards
SLIGHT = 0.05  # samples with a smaller share of the colour are left out
CHUNK = 1 << 16  # points painted at a time

Points = Float64[np.ndarray, "n 3"]
Paint = Callable[[Points, Points, Int64[np.ndarray, " n"]], Float32[np.ndarray, "n 3"]]
"""The sRGB colours, 0 to 1, of points of a surface: from where they are, their unit normals, and their faces."""


@dataclass(frozen=True)
class Sides:
    """Where each face is looked at from. eyes: [F, D, 3] world positions. share: [F, D] of the colour, 0 for none."""

    eyes: Float64[np.ndarray, "f d 3"]
    share: Float64[np.ndarray, "f d"]


def seen_sides(mesh: Mesh, centers: Float64[np.ndarray, "v 3"], tolerance: float, progress: Progress = silent) -> Sides:
    """The cameras that see each face best: in front of it, nothing between by more than `tolerance` world units.

    A face that none sees is looked at from straight above, from a hundred tolerances away.
    """
    middle, normal = mesh.corners().mean(1), unit(mesh.normals())
    cosine = np.zeros((len(mesh), len(centers)))
    caster = Caster([mesh.surface()])
    for k, center in enumerate(centers):
        away = middle - center
        distance = np.linalg.norm(away, axis=-1)
        d = unit(away)
        facing = -(d * normal).sum(-1)
        front = (facing > 0.05).nonzero()[0]
        start = np.broadcast_to(center, (len(front), 3))
        t, _ = caster.meet(start, d[front].astype(np.float32))
        cosine[front, k] = np.where(t > distance[front] - tolerance, facing[front], 0)
        progress(k + 1, len(centers), "looking from where faces are seen")
    best = np.argsort(-cosine, axis=-1, kind="stable")[:, :DIRECTIONS]
    share, eyes = np.take_along_axis(cosine, best, -1), centers[best]
    unseen = share[:, 0] == 0
    eyes[unseen, 0], share[unseen, 0] = (middle + 100 * tolerance * normal)[unseen], 1
    return Sides(eyes, share / share.sum(-1, keepdims=True))


def seen(field: Field, sides: Sides, cell: float) -> Paint:
    """The colours that a field shows; cell: world units, how thick its surface may be."""
    return lambda x, normal, face: surface_colors(field, x, normal, sides.eyes[face], sides.share[face], cell)


def painted(
    mesh: Mesh, texels: Texels, size: int, paint: Paint, progress: Progress = silent
) -> UInt8[np.ndarray, "h w 3"]:
    """The texture of a mesh, sRGB; texels beside its faces take the colour of the nearest."""
    weight = texels.weight.astype(np.float64)[:, :, None]
    corner = mesh.faces[texels.face]
    normals, colors = mesh.vertex_normals(), np.zeros((len(corner), 3), np.float32)
    for first in range(0, len(corner), CHUNK):
        part = slice(first, first + CHUNK)
        x = (mesh.vertices[corner[part]] * weight[part]).sum(1)
        n = unit((normals[corner[part]] * weight[part]).sum(1))
        colors[part] = paint(x, n, texels.face[part])
        progress(min(first + CHUNK, len(corner)), len(corner), "painting")
    return spread(texels.place, colors, size)


def vertex_colors(mesh: Mesh, paint: Paint, progress: Progress = silent) -> UInt8[np.ndarray, "v 3"]:
    """The colours of a mesh's vertices, sRGB; each is seen as one of its faces is."""
    face = np.zeros(len(mesh.vertices), np.int64)
    face[mesh.faces.reshape(-1)] = np.repeat(np.arange(len(mesh)), 3)
    normals, colors = mesh.vertex_normals(), np.zeros((len(face), 3), np.float32)
    for first in range(0, len(face), CHUNK):
        part = slice(first, first + CHUNK)
        colors[part] = paint(mesh.vertices[part], normals[part], face[part])
        progress(min(first + CHUNK, len(face)), len(face), "painting")
    return np.round(colors.clip(0, 1) * 255).astype(np.uint8)


@torch.no_grad()
def surface_colors(
    field: Field,
    x: Float64[np.ndarray, "n 3"],
    normal: Float64[np.ndarray, "n 3"],
    eyes: Float64[np.ndarray, "n d 3"],
    share: Float64[np.ndarray, "n d"],
    cell: float,
) -> Float32[np.ndarray, "n 3"]:
    """The sRGB colours of points of a surface, seen from `eyes`, each of which counts its `share`."""
    point, outward = (torch.from_numpy(a).float().to(field.device) for a in (x, normal))
    away = torch.from_numpy(unit((x[:, None] - eyes).reshape(-1, 3)).reshape(eyes.shape)).float().to(field.device)
    weight, features = _segment(field, point, outward, cell)
    counts = torch.from_numpy(share).float().to(field.device)
    color = torch.zeros_like(point)
    for s in range(len(SEGMENT)):
        for k in range(eyes.shape[1]):
            part = weight[:, s] * counts[:, k]
            some = ((weight[:, s] > SLIGHT) & (counts[:, k] > 0)).nonzero()[:, 0]
            seen = field.color(features[s][some], away[some, k])
            color.index_add_(0, some, seen * part[some, None])
    result: Float32[np.ndarray, "n 3"] = color.cpu().numpy()
    return result


def _segment(field: Field, x: Tensor, normal: Tensor, cell: float) -> tuple[Tensor, list[Tensor]]:
    """How much each sample of the segment through x counts [N, S], adding up to 1, and its features, S times [N, F]."""
    step = cell * (SEGMENT[0] - SEGMENT[1])
    light, weights, features = torch.ones_like(x[:, 0]), [], []
    for height in SEGMENT:
        at = x + height * cell * normal
        features.append(field.features(at))
        sigma = field.mask(at) * field.spec.density(features[-1][:, 0]) / field.spec.space.unit
        passed = torch.exp(-sigma * step)
        weights.append(light * (1 - passed) + 1e-6)  # where nothing is at all, all count alike
        light = light * passed
    weight = torch.stack(weights, -1)
    weight = torch.where(weight > SLIGHT * weight.sum(-1, keepdim=True), weight, 0.0)
    return weight / weight.sum(-1, keepdim=True), features


def spread(place: Int64[np.ndarray, " m"], colors: Float32[np.ndarray, "m 3"], size: int) -> UInt8[np.ndarray, "h w 3"]:
    """A picture with colours at places, row by row; the others take that of the nearest."""
    from scipy.ndimage import distance_transform_edt

    picture, empty = np.zeros((size * size, 3), np.uint8), np.ones(size * size, bool)
    picture[place], empty[place] = np.round(colors.clip(0, 1) * 255).astype(np.uint8), False
    y, x = distance_transform_edt(empty.reshape(size, size), return_distances=False, return_indices=True)
    whole: UInt8[np.ndarray, "h w 3"] = picture.reshape(size, size, 3)[y, x]
    return whole
