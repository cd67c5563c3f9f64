"""Where somebody stands and which way they face, frame by frame, before their limbs are looked at.

A body in its neutral stance is turned to each of 24 directions. For each one the place follows in closed form: a point
q + s in camera coordinates, with q known and s the place, is seen at (x, y) if q_x + s_x + x (q_z + s_z) = 0 and the
same of y, which is linear in s. What remains is in metres at the depth of the body; its robust mean says how well a
direction fits, and the cheapest path through directions over time (Viterbi 1967) is the start.

Letters: T frames, Y directions, N points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fieldcast.reconstruct.bodies.body import rotations

DIRECTIONS = 24
SPREAD = 0.07
"""Metres by which keypoints differ from those of a neutral stance, in the trunk."""
TURN = 0.2
"""Radians by which people turn from one frame to the next, at 24 frames a second."""


@dataclass(frozen=True, eq=False)
class Start:
    """place: metres. yaw: radians, from +z to +x. sure: the share, 0.5 to 1, of this direction's likelihood in the sum
    with that of the best one that differs by more than a right angle."""

    place: Float[Tensor, "t 3"]
    yaw: Float[Tensor, " t"]
    sure: Float[Tensor, " t"]


def upright(up: Float[Tensor, " 3"], yaw: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3 3"]:
    """Turns of a body that stands along `up`, about which it has turned by `yaw`."""
    from fieldcast.reconstruct.poses.limbs import between

    return between(torch.tensor([0.0, 1.0, 0.0]), up) @ rotations(yaw[..., None] * torch.tensor([0.0, 1.0, 0.0]))


def placed(
    q: Float[Tensor, "*t y n 3"], xy: Float[Tensor, "*t n 2"], weight: Float[Tensor, "*t n"], rounds: int = 6
) -> tuple[Float[Tensor, "*t y 3"], Float[Tensor, "*t y"]]:
    """Places in camera coordinates at which points q are seen at xy, and what it costs: half squares by `SPREAD`.

    Robust: each round weighs points by Geman and McClure's estimator at twice the spread (1987).
    """
    xy, weight = xy[..., None, :, :], weight[..., None, :]
    zero, one = torch.zeros_like(xy[..., 0]), torch.ones_like(xy[..., 0])
    rows = torch.stack([torch.stack([one, zero, xy[..., 0]], -1), torch.stack([zero, one, xy[..., 1]], -1)], -2)
    found, scale = weight.expand(q.shape[:-1]), 2 * SPREAD
    for _ in range(rounds):
        normal = torch.einsum("...n,...nri,...nrj->...ij", found, rows, rows) + 1e-6 * torch.eye(3)
        right = torch.einsum("...n,...nri,...nrj,...nj->...i", found, rows, rows, -q)
        s = torch.linalg.solve(normal, right)
        off = torch.einsum("...nri,...ni->...nr", rows, q + s[..., None, :]).square().sum(-1)
        found = weight * (1 + off / scale**2) ** -2
    cost = 0.5 * (weight * off / (1 + off / scale**2)).sum(-1) / SPREAD**2
    # Behind the camera everything fits too, upside down.
    return s, cost + 1e3 * (s[..., 2] + q[..., 2].mean(-1) > -0.3)


def tracked(cost: Float[Tensor, "t y"], fps: float) -> tuple[Int64[Tensor, " t"], Float[Tensor, "t y"]]:
    """The cheapest path through directions, and for each frame and direction what the cheapest one through it costs."""
    count = cost.shape[1]
    steps = torch.arange(count)
    apart = (steps[:, None] - steps).abs()
    turn = torch.minimum(apart, count - apart) * (2 * math.pi / count)
    # Straight up to a limit: somebody may turn fast once, and is then not held back for ever.
    change = (0.5 * (turn / (TURN * 24 / fps)).square()).clamp_max(40.0)
    ahead, behind = [cost[0]], [torch.zeros(count)]
    for now in cost[1:]:
        ahead.append(now + (ahead[-1][:, None] + change).amin(0))
    for after in cost.flip(0)[:-1]:
        behind.append((change + (behind[-1] + after)[None]).amin(1))
    through = torch.stack(ahead) + torch.stack(behind[::-1])
    return _path(torch.stack(ahead), change), through


def _path(ahead: Float[Tensor, "t y"], change: Float[Tensor, "y y"]) -> Int64[Tensor, " t"]:
    """The path whose costs up to each frame are `ahead`, from its end to its beginning."""
    path = [int(ahead[-1].argmin())]
    for before in ahead.flip(0)[1:]:
        path.append(int((before + change[:, path[-1]]).argmin()))
    return torch.tensor(path[::-1])


def surely(path: Int64[Tensor, " t"], through: Float[Tensor, "t y"]) -> Float[Tensor, " t"]:
    """How much likelier a path is than all that go more than a right angle off it, frame by frame: 0.5 to 1."""
    count = through.shape[1]
    apart = (torch.arange(count) - path[:, None]).abs()
    other = torch.minimum(apart, count - apart) > count // 4
    rival = through.masked_fill(~other, torch.inf).amin(1)
    return torch.sigmoid((rival - through.gather(1, path[:, None])[:, 0]).clamp_min(0))


def bridged(values: Float[Tensor, "t n"], known: Bool[Tensor, " t"]) -> Float[Tensor, "t n"]:
    """Values between known frames on the straight line, and beyond them those of the nearest one."""
    import numpy as np

    frames = np.arange(len(values))
    at = frames[known.numpy()]
    columns = [np.interp(frames, at, column.numpy()[at]) for column in values.T]
    return torch.from_numpy(np.stack(columns, 1)).to(values)


def unwrapped(angle: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Angles without jumps of a whole turn."""
    step = angle.diff()
    return angle[0] + torch.cat([torch.zeros(1), (step - 2 * math.pi * (step / (2 * math.pi)).round()).cumsum(0)])
