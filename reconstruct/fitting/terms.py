"""What fitted people are asked to be: like the pictures, where they are seen, smooth, in order and apart.

Letters: T frames, P people, R rays, N points, V vertices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fieldcast.fields.cameras import Rays
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.people import look_at_people
from fieldcast.reconstruct.avatars.shell import trilinear
from fieldcast.reconstruct.fitting.pixels import Batch
from fieldcast.reconstruct.fitting.smoothness import bends
from fieldcast.reconstruct.recordings.recording import Person

MASKS = 1.0  # of shares of pixels, beside colours
BENDS, TURNS = 20.0, 1.0  # of second differences of places and of poses
FAR, AWAY = 5e-4, 20.0  # of leaving the poses and the shape that were given, and of the mean distance
EVEN, PLACES = 0.05, 512  # of squared slopes of offsets, at so many places near a surface: else it is rough
MIRROR = 20.0  # of squared metres by which offsets differ from left to right: a camera sees mostly one side
ORDER, APART = 0.1, 10.0  # of metres in the wrong order; of square metres inside of others
POINTS = 512  # vertices of somebody that are looked for in others
MISSED = 1e-3  # of a ray: less than this of somebody has no depth


def seen_loss(
    avatars: Sequence[Avatar], batch: Batch, generator: torch.Generator, moving: bool, count: int | None = None
) -> Tensor:
    """How far what is seen is from the pictures and the masks (L1, as MultiPly)."""
    layers = look_at_people(avatars, batch.rays, batch.frame, generator, moving=moving, count=count)
    color = layers.rgb + layers.transmittance[:, None] * batch.behind
    return (color - batch.rgb).abs().mean() + MASKS * (layers.opacity - batch.shares).abs().mean()


def roughness(avatar: Avatar, generator: torch.Generator) -> Tensor:
    """How much the surface's distance from the body changes from place to place, and from left to right."""
    x = avatar.shell.near(PLACES, generator)
    slope, lopsided = avatar.shell.unevenness(x, generator)
    return EVEN * slope.square().mean() + MIRROR * lopsided.square().mean()


def near_given(avatar: Avatar, centers: Float[Tensor, "t 3"]) -> Tensor:
    """How far poses, where the person is present, and shape have left what was given; and the mean distance from the
    cameras, whose centers are given for all frames.

    Pictures tell size and distance together alone. Of the two, distance was given in many frames.
    """
    given: Person = avatar.known
    pose, shape = (avatar.pose - given.pose)[given.present], avatar.shape - given.shape
    sight = nn.functional.normalize(given.place - centers, dim=-1)
    farther = ((avatar.place - given.place) * sight).sum(-1)[given.present]
    held = FAR * (pose.square().sum(-1).mean() + shape.square().mean())
    return held + AWAY * farther.mean().square()


def smoothness(avatar: Avatar) -> Tensor:
    """Bends of the path and of turns, which a steady motion has not.

    Frames in which somebody is not present say nothing: paths may do anything across them.
    """
    present = avatar.known.present
    return BENDS * bends(avatar.place, present) + TURNS * bends(avatar.pose, present)


def order_loss(avatars: Sequence[Avatar], batch: Batch, believed: Int64[Tensor, " r"]) -> Tensor:
    """How much farther who is seen is than who is believed to stand before, where that is so.

    MultiPly has log(1 + exp(.)) of it, which goes on pushing people who are in the right order: bodies that are
    displaced to the side contest pixels too, and depths got worse. believed: the number of the person whom bodies have
    in front, where the masks show another.
    """
    depth = torch.stack([_depth(avatar, batch.rays, batch.frame) for avatar in avatars], 1)
    shown = depth.gather(1, batch.shares.argmax(1, keepdim=True))[:, 0]
    before = depth.gather(1, believed[:, None])[:, 0]
    told = shown.isfinite() & before.isfinite()
    if not bool(told.any()):
        return depth.new_zeros(())
    return ORDER * (shown[told] - before[told]).clamp_min(0).mean()


def _depth(avatar: Avatar, rays: Rays, frame: Int64[Tensor, " r"]) -> Float[Tensor, " r"]:
    """How far away somebody is, as if alone; infinity where they are not."""
    alone = look_at_people([avatar], rays, frame, moving=True)
    opacity, depth = alone.opacity[:, 0], alone.depth[:, 0]
    return torch.where(opacity > MISSED, depth / opacity.clamp_min(MISSED), torch.inf)


def apart_loss(avatars: Sequence[Avatar], frame: int, generator: torch.Generator) -> Tensor:
    """How deep vertices of people are inside of others (as MultiPly), by the distances to their bodies."""
    total = avatars[0].place.new_zeros(())
    present = [avatar for avatar in avatars if bool(avatar.known.present[frame])]
    for a in present:
        body = a.known.body
        some = torch.randint(len(body.vertices), (min(POINTS, len(body.vertices)),), generator=generator)
        x = body.posed(a.shape, a.pose[[frame]], a.place[[frame]]).vertices[0, some]
        for b in present:
            if b is not a:
                total = total + APART * _inside(b, frame, x).square().mean()
    return total


def _inside(avatar: Avatar, frame: int, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """How deep points are inside of somebody, metres; 0 outside."""
    at = torch.full((len(x),), frame)
    vertex = avatar.places.at(at, x.detach())
    near = (vertex >= 0).nonzero()[:, 0]
    transforms = avatar.known.body.transforms(avatar.shape, avatar.pose[[frame]], avatar.place[[frame]])
    rest = avatar.to_rest(transforms, torch.zeros_like(near), vertex[near], x[near])
    depth = (-trilinear(avatar.shell.template, avatar.shell.spec.space.to_unit(rest))).clamp_min(0)
    return x.new_zeros(len(x)).index_copy(0, near, depth)
