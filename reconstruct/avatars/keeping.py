"""An avatar as tensors with names, and the same avatar of them again: for files, and for work that is interrupted.

Letters: T frames.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.kinds import spec_from_json
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.recordings.recording import Person

BEGUN = ("shape", "pose", "place", "present")
Tensors = dict[str, Tensor]


def tensors_of(avatar: Avatar) -> Tensors:
    """All but its body and its name. `begun.*`: how it began; `spec`: the JSON of its inner field, as bytes."""
    begun = {f"begun.{key}": getattr(avatar.known, key) for key in BEGUN}
    return {**begun, "spec": text(json.dumps(avatar.shell.inner.spec.to_json())), **avatar.state_dict()}


def avatar_of(tensors: Tensors, name: str, body: Body, what: str) -> Avatar:
    """The avatar, settled. what: stands in errors."""
    own = {key: value for key, value in tensors.items() if key != "spec" and not key.startswith("begun.")}
    try:
        known = Person(name, body, *(tensors[f"begun.{key}"] for key in BEGUN))
        body.check(known.shape, known.pose, known.place, what)
        avatar = Avatar(known, spec_from_json(json.loads(words(tensors["spec"])), what))
        avatar.load_state_dict(own)
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{what}: not a whole avatar of the body {body.name} ({' '.join(str(error).split())})"
        ) from None
    avatar.shell.settle()
    avatar.settle()
    return avatar


def text(value: str) -> Tensor:
    """Words as a tensor of bytes."""
    return torch.tensor(list(value.encode()), dtype=torch.uint8)


def words(value: Tensor) -> str:
    """The inverse of `text`."""
    return bytes(value.tolist()).decode()
