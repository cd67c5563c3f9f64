"""Avatars in native files: the shell, with the shape of the body that it was made about. Every verb opens them.

What changes from frame to frame, and the shape that was learned, are the person's own (`recordings/params.py`).
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch

import fieldcast
from fieldcast.errors import InputError
from fieldcast.fields.files import Provenance, open_field, save
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.posed import shown
from fieldcast.reconstruct.avatars.shell import Shell, trilinear
from fieldcast.reconstruct.recordings.recording import Person

FRAME = "a body at rest: metres, y up, facing +z"
OFF = 0.02  # metres, in the mean, by which a body's vertices may lie off the surface that a shell was made about


def save_avatar(path: Path, avatar: Avatar, force: bool = False) -> None:
    """Writes the whole file or nothing."""
    provenance = Provenance(source=avatar.known.name, version=fieldcast.__version__, frame=FRAME)
    save(shown(copy.deepcopy(avatar.shell)), path, provenance=provenance, force=force)


def open_avatar(path: Path, person: Person) -> Avatar:
    """The avatar of a file, in the shape and the poses that the person has.

    Raises InputError if it is no avatar, or not one about the person's body.
    """
    shell, body = open_field(path), person.body
    if not isinstance(shell, Shell):
        raise InputError(f"{path}: expected an avatar, a field of kind shell; found {shell.spec.kind}")
    if len(shell.shape) != body.shapes:
        about = f"{len(shell.shape)} numbers of shape"
        raise InputError(f"{path}: expected an avatar about {body.name}, which has {body.shapes}; found {about}")
    if _off(shell, person) > OFF:
        raise InputError(f"{path}: expected an avatar about {body.name}; it was made about another body")
    return Avatar(person, shell)


@torch.no_grad()
def _off(shell: Shell, person: Person) -> float:
    """Metres from the vertices of a person's body at rest to the surface that a shell was made about, in the mean."""
    vertices, _ = person.body.at_rest(shell.shape)
    return float(trilinear(shell.template, shell.spec.space.to_unit(vertices)).abs().mean())
