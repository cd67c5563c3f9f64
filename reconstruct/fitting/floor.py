"""That people stand on one floor: what one camera sees of somebody's size and distance together, feet tell apart.

Letters: T frames, V vertices, S those of soles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.bodies.body import Body, blended, moved_by
from fieldcast.reconstruct.recordings.recording import Recording

SOLE = 0.02  # metres from the lowest vertex at rest
MANY = 128  # vertices that stand for them
OFF = 0.03  # metres that the lower foot is off the floor
STANDS = 4e-3  # of half the square of that, beside colours


@dataclass(frozen=True, eq=False)
class Floor:
    """up: of the world. soles: of each person's body. height: metres of the floor along up [1], as found last."""

    up: Float[Tensor, " 3"]
    soles: list[Int64[Tensor, " s"]]
    height: Float[Tensor, " 1"]

    @staticmethod
    def of(recording: Recording, avatars: Sequence[Avatar]) -> Floor:
        """The floor that people seem to be on."""
        soles = [soles_of(avatar.known.body) for avatar in avatars]
        floor = Floor(torch.tensor(recording.up, device=avatars[0].place.device), soles, torch.zeros(1))
        floor.settle(avatars)
        return floor

    @torch.no_grad()
    def settle(self, avatars: Sequence[Avatar]) -> None:
        """Finds it anew: the median of the lowest soles."""
        found = [self._lowest(a, s)[a.known.present] for a, s in zip(avatars, self.soles, strict=True)]
        self.height.copy_(torch.cat(found).median()[None])

    def loss(self, avatars: Sequence[Avatar]) -> Tensor:
        """How far people are off it. Below it is wrong; above it may be a jump, whose cost stops growing."""
        total = avatars[0].place.new_zeros(())
        for avatar, soles in zip(avatars, self.soles, strict=True):
            above = self._lowest(avatar, soles)[avatar.known.present] - self.height.to(avatar.place.device)
            off = 0.5 * (above / OFF).square()
            total = total + STANDS * torch.where(above < 0, off, off / (1 + off / 4)).mean()
        return total

    def _lowest(self, avatar: Avatar, soles: Int64[Tensor, " s"]) -> Float[Tensor, " t"]:
        """How high the lowest sole is in each frame."""
        body = avatar.known.body
        rest = body.vertices[soles] + body.shape_directions[soles] @ avatar.shape
        maps = blended(avatar.transforms(), body.weight_index[soles], body.weights[soles])
        lowest: Tensor = (moved_by(maps, rest.expand(len(maps), -1, -1)) @ self.up).amin(1)
        return lowest


def soles_of(body: Body) -> Int64[Tensor, " s"]:
    """Some of the vertices that a body stands on at rest, about MANY."""
    height = body.vertices[:, 1]
    found = (height < height.min() + SOLE).nonzero()[:, 0]
    return found[:: max(1, len(found) // MANY)]
