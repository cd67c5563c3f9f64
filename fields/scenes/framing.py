"""Where a scene is thought to be, from nothing but the cameras that look at it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.space import Space, Vector3

# Half the side of the box over the median distance of the cameras from what they look at. In Instant-NGP's fox that
# distance is 5.0. A ball of radius 3.0 = 0.6 x 5.0 is the smallest that holds the head in all views, from the tips of
# the ears, 2.8 from the centre, to the nose and the board behind it; half the distance cuts off the ears, and the
# whole of it wastes 4/5 of a grid's cells. The wall, of which each view shows a part, goes into the contracted shell.
SUBJECT = 0.6
# The same for cameras that stand together and look around, over their largest distance from their mean.
SURROUNDINGS = 2.0


def capture_space(c2w: Float[Tensor, "v 3 4"]) -> Space:
    """A cube around what the cameras look at, contracted, so that all the world beyond it fits in too."""
    return cube(*focus(c2w.double()), up_direction(c2w))


def cube(center: Float[Tensor, " 3"], half: float, up: Vector3) -> Space:
    """The contracted space with the box center +- half."""
    low, high = [c - half for c in center.tolist()], [c + half for c in center.tolist()]
    return Space((low[0], low[1], low[2], high[0], high[1], high[2]), "sphere", up)


def focus(c2w: Float[Tensor, "v 3 4"]) -> tuple[Float[Tensor, " 3"], float]:
    """The centre [3] of the scene and half its size, both in world units.

    Cases: all cameras look at a subject; they stand together and look outward; they look the same way (or there is
    only one), so that nothing but how far apart they stand says how large the scene is.
    """
    eyes, axes = c2w[:, :, 3], -c2w[:, :, 2]
    mean = eyes.mean(0)
    spread = float((eyes - mean).norm(dim=-1).max())
    across = torch.eye(3, dtype=c2w.dtype) - axes[:, :, None] * axes[:, None, :]
    normal = across.sum(0)
    if float(torch.linalg.eigvalsh(normal)[0]) < 1e-4 * len(eyes):
        reach = 4 * spread if spread > 1e-6 else 4.0
        ahead = torch.nn.functional.normalize(axes.mean(0), dim=0)
        return mean + reach * ahead, SUBJECT * reach
    nearest = torch.linalg.solve(normal, (across @ eyes[:, :, None]).sum(0)[:, 0])
    in_front = ((nearest - eyes) * axes).sum(-1) > 0
    distance = float((nearest - eyes).norm(dim=-1).median())
    if float(in_front.double().mean()) > 0.5 and distance > 1e-6:
        return nearest, SUBJECT * distance
    return mean, SURROUNDINGS * spread if spread > 1e-6 else 1.0


def up_direction(c2w: Float[Tensor, "v 3 4"], near_z: float = 30.0) -> Vector3:
    """Where the cameras' own up points on average; +z when that is within `near_z` degrees of it.

    nerfstudio and Instant-NGP turn captures so that +z is up, more exactly than a photographer holds a camera.
    """
    mean = c2w[:, :, 1].double().mean(0)
    length = float(mean.norm())
    if length < 1e-3 or float(mean[2]) / length > math.cos(math.radians(near_z)):
        return (0.0, 0.0, 1.0)
    x, y, z = (mean / length).tolist()
    return (x, y, z)
