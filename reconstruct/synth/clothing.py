"""Clothes on a body: its skin is smoothed and moved outwards where cloth, hair or shoes cover it.

Garments are weights on the vertices of the body at rest, from the joints that move them and from where they are, so
that they fit every shape. Skirts draw both legs into one outline, which closes in the middle and swings with both.
Names of joints, heights and places are those of MakeHuman's body at rest with a shape of zeros, in metres.

Letters: V vertices of the body, N of the clothed surface, F faces, J joints, S numbers of shape.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy import sparse
from torch import Tensor

from fieldcast.reconstruct.bodies.body import Body

Amount = Float64[np.ndarray, " v"]
Points = Float64[np.ndarray, "v 3"]

LEGS = ("thigh", "calf", "foot", "ball")
HEMS = {"trousers": 0.085, "shorts": 0.50, "skirt": 0.42, "gown": 0.10}
FLARES = {"skirt": 0.20, "gown": 0.28}  # half the width at the hem
QUARTER = np.pi / 2
WAIST = 0.97
SLEEVES = {"short": 0.62, "long": 1.9, "none": 0.06}  # 1 at the elbow, 2 at the wrist


@dataclass(frozen=True)
class Outfit:
    """What somebody wears: the keys of HEMS and SLEEVES, and `short` or `long` hair. loose: metres of air below."""

    bottom: str
    sleeves: str
    hair: str
    loose: float


@dataclass(frozen=True, eq=False)
class Covered:
    """How much of each vertex is covered by what, 0 to 1, and how far along the arm and up the body it is."""

    hair: Amount
    shirt: Amount
    bottom: Amount
    shoes: Amount
    places: Points

    @property
    def any(self) -> Amount:
        every: Amount = np.max([getattr(self, f.name) for f in fields(self) if f.name != "places"], axis=0)
        return every


def joint_weights(body: Body) -> Float64[np.ndarray, "v j"]:
    """Weights of all joints, most of them 0."""
    dense = body.weights.new_zeros(len(body.weights), len(body.parents)).scatter_add(1, body.weight_index, body.weights)
    return np.asarray(dense.double().numpy())


def moved_with(body: Body, *names: str) -> Amount:
    """How much vertices are moved by joints whose names begin so."""
    chosen = [i for i, joint in enumerate(body.joint_names) if joint.startswith(names)]
    return np.asarray(joint_weights(body)[:, chosen].sum(1))


def step(x: Amount, width: float) -> Amount:
    """0 below -width / 2, 1 above width / 2, smooth between."""
    part = np.clip(x / width + 0.5, 0, 1)
    return np.asarray(part * part * (3 - 2 * part))


def cover(body: Body, outfit: Outfit) -> Covered:
    """Which vertices are covered by what."""
    places = body.vertices.double().numpy()
    x, y, z = places.T
    arms, head = moved_with(body, "upperarm", "lowerarm", "hand"), moved_with(body, "head", "neck")
    legs = moved_with(body, *LEGS)
    trunk = step(1 - head - arms - 0.5, 0.5)
    neckline = step(1.425 - 0.35 * np.maximum(z - 0.02, 0) - y, 0.012)
    shirt = np.maximum(trunk * step(y - WAIST + 0.05, 0.012), step(arms - 0.5, 0.5)) * neckline
    shirt = shirt * step(SLEEVES[outfit.sleeves] - along_arm(body), 0.05) * step(y - 0.87, 0.01)
    bottom = step(WAIST - y, 0.012) * step(y - HEMS[outfit.bottom], 0.012) * step(0.5 - arms, 0.3)
    shoes = step(legs - 0.5, 0.2) * step(0.095 - y, 0.01)
    hairline = (y - 1.60) + 0.9 * (0.09 - z)
    hair = step(hairline, 0.012) * step(head - 0.5, 0.3)
    if outfit.hair == "long":
        hair = np.maximum(hair, step(0.045 - z, 0.02) * step(y - 1.36, 0.012) * step(0.115 - np.abs(x), 0.03))
    return Covered(hair, shirt, bottom, shoes, places)


def along_arm(body: Body) -> Amount:
    """How far out on an arm a vertex is: 0 at the shoulder, 1 at the elbow, 2 at the wrist; 0 off the arms."""
    found = np.zeros(len(body.vertices))
    for side in ("l", "r"):
        a, b, c = (
            body.joints[body.joint_names.index(f"{name}_{side}")].double().numpy()
            for name in ("upperarm", "lowerarm", "hand")
        )
        on = [moved_with(body, f"{name}_{side}") for name in ("upperarm", "lowerarm", "hand")]
        places = body.vertices.double().numpy()
        upper = np.clip((places - a) @ (b - a) / ((b - a) ** 2).sum(), 0, 1)
        lower = np.clip((places - b) @ (c - b) / ((c - b) ** 2).sum(), 0, 1.5)
        found += np.where(sum(on) > 0.3, upper + lower, 0)
    return found


@dataclass(frozen=True, eq=False)
class Clothed:
    """A clothed person at rest, and what moves it. weights: of all joints. covered, places: of the base body's rest
    vertices, taken along to the finer surface, for whoever paints it.
    """

    vertices: Float64[np.ndarray, "n 3"]
    faces: Int64[np.ndarray, "f 3"]
    weights: Float[Tensor, "n j"]
    covered: Covered


def clothe(body: Body, shape: Float[Tensor, " s"], outfit: Outfit) -> Clothed:
    """A body of some shape in clothes, with four faces for each of its own."""
    faces = body.faces.numpy()
    covered, rest = cover(body, outfit), body.at_rest(shape)[0].double().numpy()
    weights = joint_weights(body)
    dressed = _padded(rest, faces, covered, outfit)
    if outfit.bottom in FLARES:
        dressed, weights = _skirted(body, dressed, weights, covered, outfit)
    finer, split = subdivided(faces, len(rest))
    along = {f.name: split @ getattr(covered, f.name) for f in fields(covered)}
    return Clothed(split @ dressed, finer, torch.from_numpy(split @ weights).float(), Covered(**along))


def _padded(rest: Points, faces: Int64[np.ndarray, "f 3"], covered: Covered, outfit: Outfit) -> Points:
    """The body's surface, smoothed under cloth and moved out along its normals."""
    spread = _neighbours(faces, len(rest))
    cloth = np.clip(covered.any, 0, 1)[:, None]
    smooth = rest
    for _ in range(12):
        smooth = smooth + 0.7 * cloth * (spread @ smooth - smooth)
    normals = _normals(smooth, faces)
    for _ in range(4):
        normals = spread @ normals
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    x, y, z = covered.places.T
    folds = 0.003 * np.sin(55 * y + 9 * np.sin(14 * x + 5 * z)) * np.sin(23 * x - 17 * z)
    long = 0.010 * step(1.56 - y, 0.08) if outfit.hair == "long" else 0.0
    out = np.max(
        [
            covered.hair * (0.028 + long + 0.5 * folds),
            covered.shirt * (0.015 + outfit.loose + folds),
            covered.bottom * (0.014 + 0.6 * outfit.loose + 0.008 * step(0.45 - y, 0.4) + folds),
            covered.shoes * 0.012,
        ],
        axis=0,
    )
    return np.asarray(smooth + out[:, None] * normals)


def _skirted(
    body: Body, dressed: Points, weights: Float64[np.ndarray, "v j"], covered: Covered, outfit: Outfit
) -> tuple[Points, Float64[np.ndarray, "v j"]]:
    """Draws the legs' cloth into the outline of a skirt, each leg its half, and has it move with both thighs.

    The half outlines meet in the plane between the legs, where both sides move alike, so that no gap opens.
    """
    top, hem = 0.84, HEMS[outfit.bottom]
    level = covered.places[:, 1]
    down = np.clip((top - level) / (top - hem), 0, 1)
    much = covered.bottom * step(down - 0.08, 0.16)
    moved = dressed.copy()
    for side, sign in (("l", 1), ("r", -1)):
        own = sign * covered.places[:, 0] > 0
        axis = _leg_axis(body, side, level, dressed)
        angle = np.arctan2(dressed[:, 2] - axis[:, 2], sign * (dressed[:, 0] - axis[:, 0]))
        wide = 0.165 + (FLARES[outfit.bottom] - 0.165) * down + 0.006 * np.sin(9 * angle)
        # Around the leg, the outer half turn becomes the outline, and the inner one the plane between the legs.
        outer = np.clip(angle, -QUARTER, QUARTER) * (1 - 1e-3)
        inside = np.clip(np.abs(angle) / QUARTER - 1, 0, 1)
        x = np.where(inside > 0, 0.002, wide * np.cos(outer) + 0.002)
        z = np.where(inside > 0, np.sign(angle) * (1 - inside), np.sin(outer)) * 0.85 * wide
        wanted = np.stack([sign * x, dressed[:, 1], z + axis[:, 2]], -1)
        moved = np.where(own[:, None], dressed + much[:, None] * (wanted - dressed), moved)
    return moved, _shared(body, weights, moved[:, 0] / 0.16, much, down)


def _leg_axis(body: Body, side: str, level: Amount, dressed: Points) -> Points:
    """The middle of a leg at each height, from the hip to the ankle, of the body as it is dressed."""
    joints = body.joints.double().numpy()
    chain = np.array([joints[body.joint_names.index(f"{name}_{side}")] for name in ("foot", "calf", "thigh")])
    return np.stack([np.interp(level, chain[:, 1], chain[:, i]) for i in range(3)], -1)


def _shared(
    body: Body, weights: Float64[np.ndarray, "v j"], across: Amount, much: Amount, down: Amount
) -> Float64[np.ndarray, "v j"]:
    """Weights of a skirt: the nearer thigh's at the sides, both thighs' between, the pelvis' above; a little of the
    calves below the knees.
    """
    left, knee = step(across, 2.0), 0.35 * step(down - 0.6, 0.5)
    hang = np.zeros_like(weights)
    loose = 0.55 + 0.25 * down
    hang[:, 0] = 1 - loose
    for side, share in (("l", left), ("r", 1 - left)):
        hang[:, body.joint_names.index(f"thigh_{side}")] = loose * share * (1 - knee)
        hang[:, body.joint_names.index(f"calf_{side}")] = loose * share * knee
    return np.asarray(weights + much[:, None] * (hang - weights))


def _neighbours(faces: Int64[np.ndarray, "f 3"], count: int) -> sparse.csr_array:
    """The matrix that takes each vertex to the mean of those beside it."""
    a, b = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    beside = sparse.coo_array((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), (count, count)).tocsr()
    beside.data[:] = 1
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(beside.sum(1), 1)) @ beside)


def _normals(vertices: Points, faces: Int64[np.ndarray, "f 3"]) -> Points:
    from fieldcast.fields.mesh import Mesh

    return Mesh(vertices, faces).vertex_normals()


def subdivided(faces: Int64[np.ndarray, "f 3"], count: int) -> tuple[Int64[np.ndarray, "g 3"], sparse.csr_array]:
    """Each face in four, and the matrix that takes what vertices have to the old ones and the middles of edges."""
    edges = np.sort(np.stack([faces, np.roll(faces, -1, 1)], -1), -1)  # of each face: ab, bc, ca
    unique, index = np.unique(edges.reshape(-1, 2), axis=0, return_inverse=True)
    ab, bc, ca = (count + index.reshape(-1, 3)).T
    a, b, c = faces.T
    finer = np.concatenate([np.stack(f, -1) for f in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    rows = np.r_[np.arange(count), np.repeat(count + np.arange(len(unique)), 2)]
    columns, values = np.r_[np.arange(count), unique.reshape(-1)], np.r_[np.ones(count), np.full(2 * len(unique), 0.5)]
    return finer, sparse.csr_array(sparse.coo_array((values, (rows, columns)), (count + len(unique), count)))
