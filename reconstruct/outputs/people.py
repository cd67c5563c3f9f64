"""What is written of each person: an animated GLB, a mesh at rest with a texture, meshes of frames, the avatar itself.

NAME.glb: the surface with its skeleton and all poses. NAME.rest.glb: the surface at rest, with the same texture.
NAME.safetensors: the field of the person at rest, which every verb opens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fieldcast.distill.meshing.decimation import simplified
from fieldcast.fields.files.mesh import save_mesh
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.files import save_avatar
from fieldcast.reconstruct.avatars.surface import rest_mesh, surface_color
from fieldcast.reconstruct.outputs.meshes import posed_meshes, save_posed_meshes
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction
from fieldcast.reconstruct.outputs.report import OfPerson
from fieldcast.reconstruct.outputs.rig import rigged, save_rigged_scene
from fieldcast.reconstruct.outputs.skin import Skin, skin_of
from fieldcast.reconstruct.outputs.textures import textured
from fieldcast.reconstruct.recordings.files import stems

FACES, TEXELS = 40_000, 1024


@dataclass(frozen=True, eq=False)
class Surface:
    """Somebody's surface at rest, and what moves it."""

    mesh: Mesh
    skin: Skin

    @staticmethod
    def of(avatar: Avatar, faces: int | None = None) -> Surface:
        """faces: at most about so many; colours are at the vertices if all are kept."""
        mesh = rest_mesh(avatar)
        mesh = mesh if faces is None else simplified(mesh, faces)
        return Surface(mesh, skin_of(mesh, avatar.person.body.at_rest(avatar.person.shape)[0], avatar.person.body))


def moving(avatar: Avatar) -> dict[int, Mesh]:
    """The whole surface of somebody as they stand in the world, by the frames in which they are present."""
    surface = Surface.of(avatar)
    return dict(posed_meshes(avatar.person, surface.mesh, surface.skin))


def write_people(
    made: Reconstruction, folder: Path, meshes: str | None = None, progress: Progress = silent
) -> list[OfPerson]:
    """Fills folder/people, which may be there, and folder/people.glb with everybody.

    meshes: the suffix of a file for each frame, in folder/meshes/NAME; None for none.
    """
    (folder / "people").mkdir(exist_ok=True)
    if meshes:
        (folder / "meshes").mkdir()
    recording, surfaces, told = made.recording, list[Surface](), list[OfPerson]()
    for avatar, stem in zip(made.avatars, stems(recording.people), strict=True):
        surface = painted(avatar, progress)
        surfaces.append(surface)
        person, at = avatar.person, folder / "people" / stem
        save_avatar(at.with_name(f"{stem}.safetensors"), avatar)
        save_mesh(surface.mesh, at.with_name(f"{stem}.rest.glb"))
        rig = rigged(person, surface.mesh, surface.skin)
        kept = save_rigged_scene(at.with_name(f"{stem}.glb"), [rig], recording.fps, recording.up)[0]
        if meshes:
            target = folder / "meshes" / stem
            save_posed_meshes(target, person, surface.mesh, surface.skin, meshes, recording.up, progress=progress)
        vertices, faces = len(surface.mesh.vertices), len(surface.mesh)
        told.append(OfPerson(person.name, int(person.present.sum()), vertices, faces, kept))
    rigs = [rigged(a.person, s.mesh, s.skin) for a, s in zip(made.avatars, surfaces, strict=True)]
    save_rigged_scene(folder / "people.glb", rigs, recording.fps, recording.up)
    return told


def painted(avatar: Avatar, progress: Progress = silent) -> Surface:
    """A surface of FACES with a texture of TEXELS a side, and with colours at its vertices."""
    plain = Surface.of(avatar, FACES)
    mesh = textured(plain.mesh, lambda x, normal: surface_color(avatar, x), TEXELS, progress)
    return Surface(mesh, plain.skin)


def checked_meshes(suffix: str | None) -> str | None:
    """The suffix of meshes that can be written: .ply, .obj or .glb, given with its dot or without."""
    from fieldcast.fields.files.mesh import checked_mesh_suffix

    if suffix is None:
        return None
    dotted = suffix if suffix.startswith(".") else f".{suffix}"
    return checked_mesh_suffix(Path(f"mesh{dotted}")).suffix
