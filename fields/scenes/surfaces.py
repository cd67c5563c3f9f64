"""Textured triangles, read from any mesh file into one simple form.

Colours are linear inside and sRGB outside, since what a file multiplies (texture, factor, vertex colour) is linear
light by glTF's rules. Other formats do not say what their numbers mean: vertex, face and material colours of OBJ, PLY,
STL and OFF are taken as sRGB, as their writers nearly always mean them.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from fieldcast.errors import InputError

GREY = 0.75  # sRGB, of surfaces that have no colour


@dataclass(frozen=True)
class Surface:
    """F triangles that share a texture.

    corners: [F, 3, 3] world positions. uv: [F, 3, 2] texture coordinates, v downwards. tint: [F, 3, 4] linear RGBA that
    multiplies the texture. texture: sRGB RGBA 0..255, or None. cutoff: alpha below it is a hole and above it is solid;
    None blends; 0 ignores alpha.
    """

    corners: Float64[np.ndarray, "f 3 3"]
    uv: Float32[np.ndarray, "f 3 2"]
    tint: Float32[np.ndarray, "f 3 4"]
    texture: UInt8[np.ndarray, "h w 4"] | None = None
    cutoff: float | None = 0.0

    def __len__(self) -> int:
        return len(self.corners)


def to_linear(srgb: Any) -> Float32[np.ndarray, "..."]:
    """SRGB 0..1 to linear light."""
    c = np.asarray(srgb, np.float32)
    return np.where(c <= 0.04045, c / 12.92, ((c.clip(0.04045) + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(linear: Any) -> Float32[np.ndarray, "..."]:
    """Linear light 0..1 to sRGB."""
    c = np.asarray(linear, np.float32)
    return np.where(c <= 0.0031308, c * 12.92, 1.055 * c.clip(0.0031308) ** (1 / 2.4) - 0.055).astype(np.float32)


def check_geometry(path: Path, vertices: Float64[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"]) -> None:
    """Finite vertices, and faces that name only vertices which are there."""
    bad = int((~np.isfinite(vertices)).any(-1).sum())
    if bad:
        raise InputError(f"{path}: expected finite vertices, found {bad} of {len(vertices)} with NaN or infinity")
    if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
        wrong = int(((faces < 0) | (faces >= len(vertices))).any(-1).sum())
        raise InputError(
            f"{path}: expected faces of {len(vertices)} vertices, found {wrong} of {len(faces)} faces with an index "
            "out of range"
        )


def read_with_trimesh(path: Path) -> tuple[list[Surface], list[str]]:
    """OBJ, PLY, STL and OFF: the surfaces, and a line for each odd but usable thing."""
    import trimesh

    notes = check_obj(path) if path.suffix.lower() == ".obj" else []
    declared = check_ply(path) if path.suffix.lower() == ".ply" else 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what a texture lacks; broken geometry is checked below
            scene = trimesh.load_scene(str(path), process=False)
    except IndexError as error:
        raise InputError(f"{path}: expected faces of vertices that are there, found an {error}") from None
    except Exception as error:  # trimesh raises almost anything, even ModuleNotFoundError, on files that are not meshes
        reason = "" if isinstance(error, ImportError) or not str(error) else f" ({str(error).splitlines()[0]})"
        raise InputError(f"{path}: expected a mesh, found a damaged file or another format{reason}") from None
    surfaces, points = [], 0
    for name in scene.graph.nodes_geometry:
        matrix, geometry = scene.graph[name]
        mesh = scene.geometry[geometry]
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces):
            surfaces.append(_from_trimesh(path, mesh, np.asarray(matrix)))
        else:
            points += len(getattr(mesh, "vertices", ()))
    if not surfaces and declared:
        raise InputError(f"{path}: expected the {declared} faces that its header names, found none: it is cut short")
    if not surfaces and points:
        raise InputError(
            f"{path}: expected a mesh, found {points} points without faces; a point cloud has no surface to look at"
        )
    return surfaces, notes


def _from_trimesh(path: Path, mesh: Any, matrix: Float64[np.ndarray, "4 4"]) -> Surface:
    vertices = np.asarray(mesh.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    faces = np.asarray(mesh.faces, np.int64)
    check_geometry(path, vertices, faces)
    uv = np.zeros((len(faces), 3, 2), np.float32)
    tint = np.ones((len(faces), 3, 4), np.float32)
    tint[..., :3] = to_linear(GREY)
    texture = None
    visual = mesh.visual
    if visual.kind == "vertex":
        tint = _linear_rgba(visual.vertex_colors)[faces]
    elif visual.kind == "face":
        tint = np.repeat(_linear_rgba(visual.face_colors)[:, None], 3, 1)
    elif visual.kind == "texture":
        material = visual.material
        image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
        if image is not None and visual.uv is not None:
            # A material's diffuse colour beside a texture is left out: exporters write 0.4 or 0.64 there, and mean 1.
            texture, tint = np.array(image.convert("RGBA")), np.ones_like(tint)
            uv = np.asarray(visual.uv, np.float32)[faces]
            uv[..., 1] = 1 - uv[..., 1]  # theirs starts at the lower left corner
        else:
            tint = np.broadcast_to(_linear_rgba(material.main_color), tint.shape).copy()
    return Surface(vertices[faces], uv, tint, texture, cutoff=None)


def _linear_rgba(color: Any) -> Float32[np.ndarray, "... 4"]:
    rgba = np.asarray(color, np.float32) / 255
    return np.concatenate([to_linear(rgba[..., :3]), rgba[..., 3:]], -1)


def check_obj(path: Path) -> list[str]:
    """Face index 0, which trimesh takes as the last vertex, is an error; each material that is not there is a line."""
    text = path.read_text(encoding="utf-8", errors="replace")
    zero = re.search(r"^f\b(?:[^\n]*[ \t])0(?:[/ \t\r]|$)", text, re.MULTILINE)
    if zero:
        line = text.count("\n", 0, zero.start()) + 1
        raise InputError(f"{path}: line {line}: expected face indices from 1, found 0")
    notes = []
    for library in re.findall(r"^mtllib[ \t]+(.+?)[ \t\r]*$", text, re.MULTILINE):
        file = Path(os.path.normpath(path.parent / library))
        if not file.is_relative_to(os.path.normpath(path.parent)):
            notes.append(f"{path}: its material file {library} lies outside the folder: colours are left out")
            continue
        if not file.is_file():
            notes.append(f"{path}: its material file {library} is not there: colours are missing")
            continue
        for name in re.findall(r"^[ \t]*map_Kd[ \t]+(.+?)[ \t\r]*$", file.read_text(errors="replace"), re.MULTILINE):
            texture = name.split()[-1] if name.startswith("-") else name
            if not (path.parent / texture.replace("\\", "/")).is_file():
                notes.append(f"{file}: its texture {texture} is not there: colours are missing")
    return notes


def check_ply(path: Path) -> int:
    """How many faces the header names. Fewer rows than it promises, which trimesh lets pass, are an error."""
    header, _, body = path.read_bytes().partition(b"end_header")
    counts = {name: int(n) for name, n in re.findall(rb"^element[ \t]+(\w+)[ \t]+(\d{1,18})", header, re.MULTILINE)}
    text = b"format ascii" in header
    most = sum(1 for row in body.splitlines() if row.strip()) if text else len(body)
    if sum(counts.values()) > most:
        found = f"{most} {'rows' if text else 'bytes'}"
        raise InputError(
            f"{path}: expected {sum(counts.values())} rows as the header says, found {found}: it is cut short"
        )
    return counts.get(b"face", 0)


def sample_texture(texture: UInt8[np.ndarray, "h w 4"], uv: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 4"]:
    """Linear RGBA at texture coordinates (v downwards, repeating), interpolated between the four nearest texels."""
    height, width = texture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = (x - x0).astype(np.float32)[:, None], (y - y0).astype(np.float32)[:, None]
    result = np.zeros((len(uv), 4), np.float32)
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            texel = texture[(y0 + dy) % height, (x0 + dx) % width]
            result[:, :3] += wy * wx * _LINEAR[texel[:, :3]]
            result[:, 3:] += wy * wx * (texel[:, 3:] / np.float32(255))
    return result


_LINEAR = to_linear(np.arange(256) / 255)
