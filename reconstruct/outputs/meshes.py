"""A reconstructed surface in every frame: as meshes, and as a folder of numbered files.

Letters: T frames, V vertices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from fieldcast.errors import InputError
from fieldcast.fields.files.atomic import atomic_folder
from fieldcast.fields.files.mesh import checked_mesh_suffix, save_mesh
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.space import Vector3
from fieldcast.reconstruct.bodies.body import skinned
from fieldcast.reconstruct.outputs.skin import Skin
from fieldcast.reconstruct.recordings.recording import Person

Y_UP: Vector3 = (0.0, 1.0, 0.0)


def posed_meshes(person: Person, mesh: Mesh, skin: Skin, up: Vector3 = Y_UP) -> Iterator[tuple[int, Mesh]]:
    """Somebody's mesh at rest as they stand in the world, metres, frame by frame; with the number of the frame.

    Frames in which they are not present are left out. up: of the world.
    """
    rest, weights = torch.from_numpy(mesh.vertices), skin.weights.double()
    for t in person.present.nonzero()[:, 0].tolist():
        transforms = person.body.transforms(person.shape, person.pose[[t]], person.place[[t]]).detach().cpu()
        vertices = skinned(rest[None], transforms.double(), skin.index, weights)[0].numpy()
        yield t, replace(mesh, vertices=vertices, up=up)


def save_posed_meshes(
    folder: Path,
    person: Person,
    mesh: Mesh,
    skin: Skin,
    suffix: str = ".ply",
    up: Vector3 = Y_UP,
    force: bool = False,
    progress: Progress = silent,
) -> int:
    """A file for each frame in which somebody is present, named by its number from 0; how many. The folder appears
    whole or not at all. suffix: .ply for colours at the vertices, .glb for a texture or those, .obj for a texture.
    """
    checked_mesh_suffix(folder / f"0000{suffix}")
    total = int(person.present.sum())
    if not total:
        raise InputError(f"{folder}: expected frames in which {person.name} is present, found none")
    with atomic_folder(folder, force) as stump:
        for done, (number, posed) in enumerate(posed_meshes(person, mesh, skin, up), 1):
            save_mesh(posed, stump / f"{number:04d}{suffix}")
            progress(done, total, f"meshes of {person.name}")
    return total
