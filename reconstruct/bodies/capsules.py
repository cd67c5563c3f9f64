"""A body without any data: 16 joints, and one smooth surface around capsules. Small enough for tests.

Round cones (capsules with two radii) stand for the parts; their smooth union, -k log sum exp(-distance / k), is meshed
by marching cubes and pulled onto its surface. How near each part is also says which joints move a vertex. Joints have
the names of the same joints of the body in the package. The numbers of shape are stature, girth, leg length and breadth
of shoulders.

Letters: V vertices, P parts, J joints.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.reconstruct.bodies.body import Body

CELL = 0.04  # of the grid, metres
BLEND = 0.012  # how far parts reach for each other, metres
NEAR = 0.015  # over which distance one joint takes over from another, metres
HIP = 0.9  # height, metres
TRUNK = {  # joint: its parent, its place
    "pelvis": ("", (0.0, 0.93, 0.0)),
    "spine_01": ("pelvis", (0.0, 1.08, 0.0)),
    "neck_01": ("spine_01", (0.0, 1.42, -0.005)),
    "head": ("neck_01", (0.0, 1.51, 0.005)),
}
LIMBS = {  # of the left side
    "upperarm": ("spine_01", (0.17, 1.36, 0.0)),
    "lowerarm": ("upperarm", (0.365, 1.165, 0.0)),
    "hand": ("lowerarm", (0.535, 0.985, 0.03)),
    "thigh": ("pelvis", (0.095, HIP, 0.0)),
    "calf": ("thigh", (0.125, 0.49, 0.01)),
    "foot": ("calf", (0.15, 0.08, -0.015)),
}
TRUNK_PARTS = (  # the joint that they hang on, two ends, and the radius at each
    ("pelvis", (-0.06, 0.92, 0.0), (0.06, 0.92, 0.0), 0.105, 0.105),
    ("pelvis", (0.0, 0.93, 0.0), (0.0, 1.06, 0.005), 0.115, 0.105),
    ("spine_01", (0.0, 1.08, 0.005), (0.0, 1.25, 0.0), 0.105, 0.115),
    ("spine_01", (-0.07, 1.27, 0.0), (0.07, 1.27, 0.0), 0.105, 0.105),
    ("spine_01", (-0.14, 1.375, -0.005), (0.14, 1.375, -0.005), 0.055, 0.055),
    ("neck_01", (0.0, 1.38, -0.01), (0.0, 1.52, 0.005), 0.058, 0.05),
    ("head", (0.0, 1.605, -0.03), (0.0, 1.605, 0.02), 0.078, 0.075),
    ("head", (0.0, 1.525, 0.04), (0.0, 1.6, 0.025), 0.045, 0.07),
)
LIMB_PARTS = (
    ("upperarm", (0.17, 1.36, 0.0), (0.365, 1.165, 0.0), 0.055, 0.04),
    ("lowerarm", (0.365, 1.165, 0.0), (0.535, 0.985, 0.03), 0.043, 0.026),
    ("hand", (0.545, 0.975, 0.032), (0.6, 0.91, 0.055), 0.034, 0.03),
    ("hand", (0.55, 0.965, 0.05), (0.56, 0.925, 0.085), 0.018, 0.014),
    ("thigh", (0.095, HIP, 0.0), (0.125, 0.49, 0.01), 0.085, 0.055),
    ("calf", (0.125, 0.49, 0.01), (0.135, 0.36, -0.015), 0.052, 0.057),
    ("calf", (0.135, 0.36, -0.015), (0.15, 0.08, -0.015), 0.057, 0.036),
    ("foot", (0.15, 0.045, -0.035), (0.165, 0.035, 0.15), 0.045, 0.035),
)
NOSE = (0.0, 1.575, 0.12)
FACE = (NOSE, (0.03, 1.605, 0.095), (-0.03, 1.605, 0.095), (0.08, 1.6, -0.01), (-0.08, 1.6, -0.01))
STOUTER = {"pelvis": 1.0, "spine_01": 1.0, "neck_01": 0.6, "head": 0.2, "upperarm": 1.0, "lowerarm": 0.7, "thigh": 1.0}
STOUTER |= {"calf": 0.7, "hand": 0.0, "foot": 0.0}


def capsules() -> Body:
    """The body. It is computed anew each time, always to the same numbers."""
    joints = {name: place for name, (_, place) in TRUNK.items()}
    joints |= {f"{name}_{side}": _on(side, place) for name, (_, place) in LIMBS.items() for side in "lr"}
    names, at = tuple(joints), torch.tensor(list(joints.values()), dtype=torch.float64)
    parts = Parts(names)
    vertices, faces = parts.mesh()
    vertices, marks = _with_face(vertices, parts)
    ground = torch.tensor([0.0, float(vertices[:, 1].min()), 0.0], dtype=torch.float64)
    weights, index = parts.joint_weights(vertices).topk(4, dim=1)
    weights = weights / weights.sum(1, keepdim=True)
    dense = torch.zeros(len(vertices), len(names), dtype=torch.float64).scatter(1, index, weights)
    limbs = [names.index(f"{limb}_{side}") for limb in LIMBS for side in "lr"]
    return Body(
        "capsules",
        names,
        _parents(names),
        (vertices - ground).float(),
        _directions(names, dense, vertices, parts.girth(vertices)).float(),
        (at - ground).float(),
        _directions(names, torch.eye(len(names), dtype=torch.float64), at, torch.zeros_like(at)).float(),
        faces,
        index,
        weights.float(),
        torch.tensor([*(len(names) + mark for mark in marks), *limbs]),
    )


class Parts:
    """The round cones, and what their distances say. names: of all joints."""

    def __init__(self, names: tuple[str, ...]) -> None:
        both = [(f"{n}_{s}", _on(s, a), _on(s, b), ra, rb) for n, a, b, ra, rb in LIMB_PARTS for s in "lr"]
        every = [*TRUNK_PARTS, *both]
        self.joints = len(names)
        self.joint = torch.tensor([names.index(part[0]) for part in every])
        self.a, self.b = (torch.tensor([part[i] for part in every], dtype=torch.float64) for i in (1, 2))
        self.radius = torch.tensor([part[3:] for part in every], dtype=torch.float64)
        self.stouter = torch.tensor([STOUTER[part[0].removesuffix("_l").removesuffix("_r")] for part in every])

    def offsets(self, x: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, "n p 3"], Float[Tensor, "n p"]]:
        """From the nearest point on each axis to the points, and how far outside of each part they are, metres."""
        axis = self.b - self.a
        t = (((x[:, None] - self.a) * axis).sum(-1) / axis.square().sum(-1)).clamp(0, 1)
        away = x[:, None] - self.a - t[..., None] * axis
        return away, away.norm(dim=-1) - self.radius[:, 0] - t * (self.radius[:, 1] - self.radius[:, 0])

    def distance(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """About the distance to the smooth union; negative inside."""
        return -BLEND * torch.logsumexp(-self.offsets(x)[1] / BLEND, 1)

    def onto(self, x: Float[Tensor, "n 3"], steps: int = 3) -> Float[Tensor, "n 3"]:
        """Points moved onto the surface, along the gradient (Newton)."""
        for _ in range(steps):
            x = x.detach().requires_grad_()
            distance = self.distance(x)
            (slope,) = torch.autograd.grad(distance.sum(), x)
            x = x - (distance / slope.square().sum(-1).clamp_min(1e-6))[:, None] * slope
        return x.detach()

    def mesh(self) -> tuple[Float[Tensor, "v 3"], Int64[Tensor, "f 3"]]:
        """The surface as one closed mesh, with triangles of about the same size."""
        from skimage.measure import marching_cubes

        axes = [CELL * torch.arange(low, high, dtype=torch.float64) for low, high in ((0, 19), (-2, 46), (-5, 7))]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        volume = self.distance(grid.reshape(-1, 3)).reshape(grid.shape[:3])
        found, faces, _, _ = marching_cubes(volume.numpy(), 0.0, spacing=(CELL,) * 3, allow_degenerate=False)
        left = grid[0, 0, 0] + torch.from_numpy(found.astype(np.float64))
        vertices, triangles = _with_mirror_image(left, torch.from_numpy(faces.astype(np.int64)))
        for _ in range(6):
            vertices = self.onto(_evened(vertices, triangles))
        return vertices, triangles

    def shares(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n p"]:
        """How much each part has of points at the surface: they add up to 1, and change smoothly."""
        return torch.softmax(-self.offsets(x)[1] / NEAR, 1)

    def joint_weights(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n j"]:
        """The same, of joints."""
        return torch.zeros(len(x), self.joints, dtype=x.dtype).index_add(1, self.joint, self.shares(x))

    def girth(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Away from the axes, as far as the parts there grow."""
        return ((self.shares(x) * self.stouter)[..., None] * self.offsets(x)[0]).sum(1)


def _on(side: str, place: tuple[float, float, float]) -> tuple[float, float, float]:
    """A place on the left side, or its mirror image."""
    return (place[0] if side == "l" else -place[0], place[1], place[2])


def _parents(names: tuple[str, ...]) -> tuple[int, ...]:
    """The number of each joint's parent."""
    above = {name: parent for name, (parent, _) in TRUNK.items()}
    for name, (parent, _) in LIMBS.items():
        above |= {f"{name}_{side}": parent if parent in TRUNK else f"{parent}_{side}" for side in "lr"}
    return tuple(names.index(above[name]) if above[name] else -1 for name in names)


def _with_mirror_image(
    left: Float[Tensor, "h 3"], faces: Int64[Tensor, "g 3"]
) -> tuple[Float[Tensor, "v 3"], Int64[Tensor, "f 3"]]:
    """Both halves of a surface of which one ends at x = 0, as one: what lies there is of both."""
    off = left[:, 0] > 0
    other = torch.arange(len(left)).masked_scatter(off, len(left) + torch.arange(int(off.sum())))
    mirrored = left[off] * torch.tensor([-1.0, 1.0, 1.0], dtype=left.dtype)
    return torch.cat([left, mirrored]), torch.cat([faces, other[faces].flip(1)])


def _evened(vertices: Float[Tensor, "v 3"], faces: Int64[Tensor, "f 3"]) -> Float[Tensor, "v 3"]:
    """Each vertex halfway to the mean of its neighbours."""
    start, end = faces.flatten(), faces.roll(-1, 1).flatten()  # in a closed mesh every edge is there in both directions
    sums = torch.zeros_like(vertices).index_add(0, start, vertices[end])
    return (vertices + sums / torch.bincount(start, minlength=len(vertices))[:, None]) / 2


def _with_face(vertices: Float[Tensor, "v 3"], parts: Parts) -> tuple[Float[Tensor, "v 3"], list[int]]:
    """The vertices nearest to nose, eyes and ears, moved there; the tip of the nose stands out of the surface."""
    places = torch.tensor(FACE, dtype=torch.float64)
    places[1:] = parts.onto(places[1:])
    nearest = torch.cdist(places, vertices).argmin(1)
    return vertices.index_copy(0, nearest, places), nearest.tolist()


def _directions(
    names: tuple[str, ...],
    weights: Float[Tensor, "n j"],
    places: Float[Tensor, "n 3"],
    girth: Float[Tensor, "n 3"],
) -> Float[Tensor, "n 3 4"]:
    """What each number of shape adds to points that hang on joints by weights: stature 4%, girth 10%, legs 3%, and
    shoulders 1.5 cm a side.
    """
    limbs = {"legs": ("thigh", "calf", "foot"), "arms": ("upperarm", "lowerarm", "hand"), "chest": ("spine_01",)}
    share = {k: weights[:, [n.startswith(starts) for n in names]].sum(1) for k, starts in limbs.items()}
    x, y, _ = places.unbind(1)
    zero = torch.zeros_like(x)
    lifted = 0.03 * (share["legs"] * y.clamp(max=HIP) + (1 - share["legs"]) * HIP)
    spread = 0.015 * (share["arms"] * x.sign() + share["chest"] * (x / 0.15).clamp(-1, 1))
    legs, shoulders = torch.stack([zero, lifted, zero], 1), torch.stack([spread, zero, zero], 1)
    return torch.stack([0.04 * places, 0.1 * girth, legs, shoulders], -1)
