"""What rays see of several people: samples near their bodies, those that light reaches asked, layers composited.

Most samples are dropped before anything is computed of them: by a rough distance that is looked up, those in the open,
and those behind what is opaque already, whosever it is. Letters: R rays, N samples, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.fields.cameras import Rays
from fieldcast.fields.kernels.compositing import ray_of_sample, reached
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.layers import Layers, Merged, layered, merged
from fieldcast.reconstruct.avatars.rays import NearPerson, near_person
from fieldcast.reconstruct.avatars.shell import inset

OPAQUE = 1e-3  # leftover light behind which nothing is asked
FAINT, SLACK = 6.0, 0.01  # betas from a surface, and metres more for the roughness, beyond which nothing is seen


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Samples of one person that may be seen, and their rough optical depth."""

    near: NearPerson
    tau: Float[Tensor, " n"]


def look_at_people(
    avatars: Sequence[Avatar],
    rays: Rays,
    frame: Int64[Tensor, " r"],
    generator: torch.Generator | None = None,
    *,
    moving: bool = False,
    count: int | None = None,
) -> Layers:
    """What rays see, each at its own frame. moving: gradients also flow to poses, places and shapes.

    generator: of where the steps of a ray begin; None: in the middle. count: of samples in the box about a person, all
    of which are asked; None: as many as are needed.
    """
    with torch.set_grad_enabled(moving and torch.is_grad_enabled()):
        transforms = [avatar.transforms() for avatar in avatars]
    found = [
        _candidates(a, m.detach(), rays, frame, generator, count) for a, m in zip(avatars, transforms, strict=True)
    ]
    each = ((c.near.ray, c.near.t, c.near.dt, c.tau) for c in found)
    ray, t, dt, tau = (torch.cat(parts) for parts in zip(*each, strict=True))
    person = torch.cat([torch.full_like(c.near.ray, p) for p, c in enumerate(found)])
    order, starts = _reached(tau, merged(ray, t, len(rays)))
    sigma, rgb = t.new_zeros(len(t)), t.new_zeros(len(t), 3)
    for p, (avatar, candidates) in enumerate(zip(avatars, found, strict=True)):
        index = order[person[order] == p]
        chosen = candidates.near.take(index - sum(len(c.tau) for c in found[:p]))
        density, color = _asked(avatar, transforms[p], frame, chosen)
        sigma, rgb = sigma.index_copy(0, index, density), rgb.index_copy(0, index, color)
    tau, color = (sigma * dt).index_select(0, order), rgb.index_select(0, order)
    return layered(tau, color, t[order], person[order], starts, len(avatars))


@torch.no_grad()
def _candidates(
    avatar: Avatar,
    transforms: Float[Tensor, "t j 3 4"],
    rays: Rays,
    frame: Int64[Tensor, " r"],
    generator: torch.Generator | None,
    count: int | None,
) -> _Candidates:
    """count: as above; then nothing is dropped, for which no depth at all is told."""
    near = near_person(avatar.places, rays, frame, generator, count)
    if count is not None:
        return _Candidates(near, torch.zeros_like(near.t))
    rest = avatar.to_rest(transforms, frame[near.ray], near.vertex, near.x)
    shell, distance = avatar.shell, avatar.shell.roughly(rest)
    kept = (distance + inset(shell.beta) < FAINT * shell.beta + SLACK).nonzero()[:, 0]
    return _Candidates(near.take(kept), shell.log_density(distance[kept]).exp() * near.dt[kept])


@torch.no_grad()
def _reached(tau: Float[Tensor, " m"], merged: Merged) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " r1"]]:
    """The samples that light reaches, and one more of each ray since depths are rough: their order, and where the rays
    begin.
    """
    order, starts = merged.order, merged.starts
    count, _ = reached(tau[order], starts, tau.new_ones(len(starts) - 1), OPAQUE)
    ray = ray_of_sample(starts, len(order))
    kept = torch.arange(len(order), device=order.device) - starts[ray] <= count[ray]
    counts = torch.bincount(ray[kept], minlength=len(count))
    return order[kept], torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _asked(
    avatar: Avatar, transforms: Float[Tensor, "t j 3 4"], frame: Int64[Tensor, " r"], near: NearPerson
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
    """Density, 1 / metre, and colour at samples."""
    rest = avatar.to_rest(transforms, frame[near.ray], near.vertex, near.x)
    return avatar.shell.decode(avatar.shell.features(rest), near.x)
