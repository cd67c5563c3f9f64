"""Meshes into files that others open: GLB with a texture or with colours at its vertices, OBJ with its material and
texture, PLY with colours at its vertices.

All stay in the world frame: nothing is turned so that glTF's y points up. Textures and PLY colours are sRGB, as these
formats mean them.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

import fieldcast
from fieldcast.errors import InputError
from fieldcast.fields.files.atomic import atomic_path, check_writable
from fieldcast.fields.files.glb import Glb, png_of
from fieldcast.fields.mesh import Mesh

SUFFIXES = (".glb", ".obj", ".ply")


def is_textured(path: Path) -> bool:
    """Whether the format of a name holds a texture, rather than colours at the vertices."""
    return path.suffix.lower() in (".glb", ".obj")


def checked_mesh_suffix(path: Path) -> Path:
    """The path itself, if a mesh can be written to a file of that name."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: expected the name of a mesh, which ends in {', '.join(SUFFIXES)}, found {path.suffix or 'none'}"
        )
    return path


def check_mesh_writable(path: Path, force: bool = False) -> None:
    """Raises InputError unless a mesh can be put at `path`, with all the files that belong to it."""
    for file in _files(checked_mesh_suffix(path)):
        check_writable(file, force)


def save_mesh(mesh: Mesh, path: Path, force: bool = False) -> None:
    """Writes a mesh, whole or not at all; which way is up is said where the format has a place for it."""
    textured = is_textured(checked_mesh_suffix(path))
    has_texture, has_colors = mesh.texture is not None and mesh.uv is not None, mesh.colors is not None
    if not (has_texture if textured else has_colors) and not (has_colors and path.suffix.lower() == ".glb"):
        raise InputError(f"{path}: expected a mesh with {'a texture' if textured else 'colours at its vertices'}")
    write = {".glb": _glb, ".obj": _obj, ".ply": _ply}[path.suffix.lower()]
    contents = write(mesh, path)
    with ExitStack() as stack:
        # All are written before any is renamed, and the one that names the others is renamed last.
        for file in _files(path):
            stack.enter_context(atomic_path(file, force)).write_bytes(contents[file.suffix])


def _files(path: Path) -> list[Path]:
    """The file and those that it names."""
    return [path, *(path.with_suffix(s) for s in (".mtl", ".png") if path.suffix.lower() == ".obj")]


def _frame(mesh: Mesh) -> str:
    x, y, z = mesh.up
    return f"in the world frame of the field, up is {x:g} {y:g} {z:g}"


def _glb(mesh: Mesh, path: Path) -> dict[str, bytes]:
    """GLB: one mesh, one unlit material; the texture inside, or linear colours at the vertices."""
    glb = Glb()
    number = glb.add("meshes", {"primitives": [glb.primitive(mesh).entry]})
    node = glb.add("nodes", {"mesh": number, "name": path.stem})
    frame = {"frame": "the world frame of the field, not turned to y up", "up": list(mesh.up)}
    return {path.suffix: glb.packed([node], frame)}


def _obj(mesh: Mesh, path: Path) -> dict[str, bytes]:
    """OBJ, MTL and PNG; texture coordinates start at the lower left corner there."""
    assert mesh.uv is not None
    material, texture = path.with_suffix(".mtl").name, path.with_suffix(".png").name
    uv, index = np.unique(mesh.uv.reshape(-1, 2), axis=0, return_inverse=True)
    corners = np.stack([mesh.faces + 1, index.reshape(-1, 3) + 1], -1).reshape(-1, 6)
    lines = [f"# fieldcast {fieldcast.__version__}; {_frame(mesh)}"]
    lines += [f"mtllib {material}", "usemtl surface"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"vt {u:.9g} {1 - v:.9g}" for u, v in uv.astype(np.float64).tolist()]
    lines += ["f {}/{} {}/{} {}/{}".format(*row) for row in corners.tolist()]
    mtl = f"newmtl surface\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 0\nmap_Kd {texture}\n"
    return {path.suffix: ("\n".join(lines) + "\n").encode(), ".mtl": mtl.encode(), ".png": png_of(mesh)}


def _ply(mesh: Mesh, path: Path) -> dict[str, bytes]:
    """Binary PLY with red, green and blue of each vertex."""
    assert mesh.colors is not None
    vertices = np.zeros(len(mesh.vertices), [("x", "<f4", 3), ("rgb", "u1", 3)])
    vertices["x"], vertices["rgb"] = mesh.vertices, mesh.colors
    faces = np.zeros(len(mesh), [("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.faces
    header = ["ply", "format binary_little_endian 1.0", f"comment fieldcast {fieldcast.__version__}"]
    header += [f"comment {_frame(mesh)}"]
    header += [f"element vertex {len(vertices)}", *(f"property float {c}" for c in "xyz")]
    header += [*(f"property uchar {c}" for c in ("red", "green", "blue")), f"element face {len(faces)}"]
    header += ["property list uchar int vertex_indices", "end_header"]
    return {path.suffix: ("\n".join(header) + "\n").encode() + vertices.tobytes() + faces.tobytes()}
