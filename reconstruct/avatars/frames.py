"""A layered scene at a frame as one field: the people who are there, and what is behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fieldcast.errors import InputError
from fieldcast.fields.composed import Part, compose
from fieldcast.fields.field import Field
from fieldcast.fields.occupancy import diagonal
from fieldcast.fields.space import Vector3
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.posed import UP, posed_field
from fieldcast.reconstruct.avatars.rays import STEP


def frame_field(avatars: Sequence[Avatar], frame: int, behind: Field | None = None, up: Vector3 = UP) -> Field:
    """All who are present at a frame: densities add up, colours are their means, weighted by density.

    behind: a field in the same world, whose background, up and space are then those of the whole; it is not copied.
    up: of the world, where nothing is behind.
    """
    people = [posed_field(avatar, frame, up) for avatar in avatars if _is_present(avatar, frame)]
    fields = people if behind is None else [behind, *people]
    if not people:
        raise InputError(f"frame {frame}: expected people who are present, found none")
    if len(fields) == 1:
        return fields[0]
    scene = compose([Part(field) for field in fields])
    steps = math.ceil(diagonal(scene.spec.space) / STEP)  # behind them, longer ones may do
    scene.spec = replace(scene.spec, steps=max(scene.spec.steps, min(steps, 1 << 16)))
    return scene


def _is_present(avatar: Avatar, frame: int) -> bool:
    """Whether anything is known of where somebody is. Frames that there are not are for `posed_field` to refuse."""
    present = avatar.known.present
    return not 0 <= frame < len(present) or bool(present[frame])
