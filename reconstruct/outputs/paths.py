"""A free camera: once around people while they move, to and fro where they move for less long than that takes.

Letters: T frames, V cameras, P people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Cameras, look_at, pinhole, up_frame
from fieldcast.fields.space import Vector3
from fieldcast.reconstruct.recordings.recording import Person

FEWEST = 72  # pictures of a round: 5 degrees apart
ELEVATION = math.radians(12)
FOV = math.radians(35)
ROOM = 0.9  # of the distance at which a ball about everybody just fits, into whose corners nobody reaches


def around(
    people: Sequence[Person], up: Vector3, start: Float[Tensor, " 3"], size: tuple[int, int], count: int | None = None
) -> tuple[Cameras, list[int]]:
    """Cameras on a circle that follow the middle of the people, and the frame that each shows.

    start: where a camera stands, from whose side the circle begins. size: width and height in pixels. count: how many
    pictures (default: there and back through the frames, and FEWEST at least).
    """
    frames = len(people[0].place)
    moments = to_and_fro(frames, count or max(FEWEST, 2 * frames - 2))
    low, high = boxes(people)
    middle, reach = (low + high) / 2, float((high - low).norm(dim=-1).max()) / 2
    distance = ROOM * reach / math.sin(FOV / 2)
    ground = up_frame(up)
    side = (start - middle[moments[0]]) @ ground
    angle = math.atan2(float(side[1]), float(side[0])) + torch.arange(len(moments)) * (2 * math.pi / len(moments))
    flat = math.cos(ELEVATION)
    way = torch.stack([flat * angle.cos(), flat * angle.sin(), torch.full_like(angle, math.sin(ELEVATION))], -1)
    target = middle[moments]
    poses = look_at(target + distance * way @ ground.T, target, torch.tensor(up))
    return pinhole(poses, *size, FOV), moments


def to_and_fro(frames: int, count: int) -> list[int]:
    """Numbers of frames from the first to the last and back, so often that there are `count`.

    >>> to_and_fro(3, 7)
    [0, 1, 2, 1, 0, 1, 2]
    """
    there = [*range(frames), *range(frames - 2, 0, -1)]
    return [there[i % len(there)] for i in range(count)]


def boxes(people: Sequence[Person]) -> tuple[Float[Tensor, "t 3"], Float[Tensor, "t 3"]]:
    """The least and the greatest coordinates of bodies, frame by frame, of those who are present; where nobody is, of
    all.
    """
    lows, highs = [], []
    anybody = torch.stack([person.present for person in people]).any(0)
    for person in people:
        vertices = person.posed().vertices
        away = (anybody & ~person.present)[:, None]
        lows.append(vertices.amin(1).masked_fill(away, torch.inf))
        highs.append(vertices.amax(1).masked_fill(away, -torch.inf))
    return torch.stack(lows).amin(0), torch.stack(highs).amax(0)
