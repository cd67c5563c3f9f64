"""What is learned from: the pixels in which people are, or may be, and what is behind them.

Pixels of somebody who is seen but whose pose is not known there are left out: nothing could explain them.

Letters: T frames, P people, H by W pixels, R rays.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fieldcast.fields.cameras import Cameras, Rays
from fieldcast.reconstruct.fitting.behind import Behind, still
from fieldcast.reconstruct.recordings.recording import Recording

AROUND = 0.04  # heights of the picture about people that are looked at too
BELIEVED = 0.3  # of a pixel, from which on somebody is there


@dataclass(frozen=True, eq=False)
class Batch:
    """frame, row, column: of each ray. rgb: what is seen. behind: the background alone. shares: of each person."""

    rays: Rays
    frame: Int64[Tensor, " r"]
    row: Int64[Tensor, " r"]
    column: Int64[Tensor, " r"]
    rgb: Float[Tensor, "r 3"]
    behind: Float[Tensor, "r 3"]
    shares: Float[Tensor, "r p"]


@dataclass(frozen=True, eq=False)
class People:
    """The pixels of a recording. pool: frame, row and column of those that are drawn from."""

    cameras: Cameras
    rgb: Float[Tensor, "t h w 3"]
    behind: Behind
    shares: Float[Tensor, "t p h w"]
    pool: Int64[Tensor, "n 3"]

    @staticmethod
    def of(recording: Recording, shares: Float[Tensor, "t p h w"], behind: Behind | None = None) -> People:
        """shares: who is where. behind: what is behind people; None: the camera stands still, and pictures tell."""
        there = shares.sum(1) > BELIEVED
        margin = max(1, round(AROUND * there.shape[1]))
        grown = torch.nn.functional.max_pool2d(there[:, None].float(), 2 * margin + 1, 1, margin)[:, 0] > 0
        present = torch.stack([person.present for person in recording.people], 1)
        unknown = (shares * ~present[..., None, None]).sum(1) > BELIEVED
        rgb = torch.stack(recording.frames).float() / 255
        behind = still(recording, there) if behind is None else behind
        return People(recording.cameras, rgb, behind, shares, (grown & ~unknown).nonzero())

    def among(self, chosen: Bool[Tensor, "t h w"]) -> Int64[Tensor, "n 3"]:
        """The places of the pool that are chosen."""
        return self.pool[chosen[self.pool.unbind(1)]]

    def sample(self, count: int, generator: torch.Generator, pool: Int64[Tensor, "n 3"] | None = None) -> Batch:
        """Random pixels of the pool, or of another, which must not be empty."""
        pool = self.pool if pool is None else pool
        frame, row, column = pool[torch.randint(len(pool), (count,), generator=generator)].unbind(1)
        rays = self.cameras.rays(frame, torch.stack([column, row], -1) + 0.5)
        behind = self.behind.color[self.behind.view(frame), row, column]
        rgb, shares = self.rgb[frame, row, column], self.shares[frame, :, row, column]
        return Batch(rays, frame, row, column, rgb, behind, shares)
