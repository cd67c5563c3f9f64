"""GLB (glTF 2.0) put together piece by piece: arrays and pictures become one binary part, what they mean becomes JSON.

Colours of our meshes have light in them already, so glTF is told not to light them (KHR_materials_unlit). Textures are
sRGB and colours at vertices linear light, as glTF means them. Letters: V vertices of a mesh, N vertices of the file,
which are more where charts end.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from PIL import Image

import fieldcast
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.scenes.surfaces import to_linear

_COMPONENTS = {"u1": 5121, "u2": 5123, "u4": 5125, "f4": 5126}  # glTF's numbers
_VERTICES, _INDICES = 34962, 34963
_SAMPLER = {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}
# The order in which the lists of the document are written.
_LISTS = ("meshes", "materials", "textures", "samplers", "images", "skins", "animations", "accessors", "bufferViews")

Attributes = dict[str, Float32[np.ndarray, "n k"]]


@dataclass(frozen=True)
class Primitive:
    """entry: what the document says of the triangles. origin: [N] the vertex of the mesh that each of theirs is."""

    entry: dict[str, Any]
    origin: Int64[np.ndarray, " n"]


@dataclass
class Glb:
    """lists: the document's, by name. parts: what the buffer views hold, in their order."""

    lists: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in ("nodes", *_LISTS)})
    parts: list[bytes] = field(default_factory=list)

    def add(self, name: str, entry: dict[str, Any]) -> int:
        """Puts an entry at the end of a list of the document; its number there."""
        self.lists[name].append(entry)
        return len(self.lists[name]) - 1

    def view(self, data: bytes, **target: int) -> int:
        """Puts bytes into the binary part; the number of their buffer view."""
        start = sum(len(_padded(part, b"\0")) for part in self.parts)
        self.parts.append(data)
        return self.add("bufferViews", {"buffer": 0, "byteOffset": start, "byteLength": len(data), **target})

    def array(self, values: np.ndarray, kind: str, *, bounds: bool = False, **target: int) -> int:
        """Puts the rows of an array into the binary part; the number of their accessor.

        kind: SCALAR, VEC2 to VEC4 or MAT4 (column by column). bounds: glTF wants them of positions and of times.
        """
        component = _COMPONENTS[values.dtype.str[1:]]
        view = self.view(np.ascontiguousarray(values).tobytes(), **target)
        entry: dict[str, Any] = {"bufferView": view, "componentType": component, "count": len(values), "type": kind}
        if bounds:
            rows = values.reshape(len(values), -1)
            entry |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        return self.add("accessors", entry)

    def primitive(self, mesh: Mesh) -> Primitive:
        """Puts the triangles of a mesh there, with its texture or, without one, the colours of its vertices."""
        index, origin, attributes = _colored(mesh) if mesh.texture is None else _textured(mesh)
        indices = self.array(index.astype("<u4"), "SCALAR", target=_INDICES)
        numbers = {name: self.attribute(values, bounds=name == "POSITION") for name, values in attributes.items()}
        entry = {"attributes": numbers, "indices": indices, "material": self._material(mesh)}
        return Primitive(entry, origin)

    def attribute(self, values: np.ndarray, *, bounds: bool = False) -> int:
        """Puts values of vertices there, a row each; the number of their accessor."""
        return self.array(values, f"VEC{values.shape[1]}", bounds=bounds, target=_VERTICES)

    def _material(self, mesh: Mesh) -> int:
        """An unlit one."""
        surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
        if mesh.texture is not None:
            image = self.add("images", {"bufferView": self.view(png_of(mesh)), "mimeType": "image/png"})
            sampler = 0 if self.lists["samplers"] else self.add("samplers", _SAMPLER)
            surface["baseColorTexture"] = {"index": self.add("textures", {"source": image, "sampler": sampler})}
        return self.add("materials", {"pbrMetallicRoughness": surface, "extensions": {"KHR_materials_unlit": {}}})

    def packed(self, roots: list[int], extras: dict[str, Any]) -> bytes:
        """The file. roots: the nodes that hang on no other. extras: of the whole, in words and numbers."""
        binary = b"".join(_padded(part, b"\0") for part in self.parts)
        document = {
            "asset": {"version": "2.0", "generator": f"fieldcast {fieldcast.__version__}", "extras": extras},
            "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0,
            "scenes": [{"nodes": roots}],
            "nodes": self.lists["nodes"],
            **{name: self.lists[name] for name in _LISTS if self.lists[name]},
            "buffers": [{"byteLength": len(binary)}],
        }
        text = _padded(json.dumps(document, separators=(",", ":"), allow_nan=False).encode(), b" ")
        header = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(binary))
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
        return header + chunks


def png_of(mesh: Mesh) -> bytes:
    """The texture of a mesh as a PNG file."""
    assert mesh.texture is not None
    buffer = io.BytesIO()
    Image.fromarray(mesh.texture).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _textured(mesh: Mesh) -> tuple[Int64[np.ndarray, " i"], Int64[np.ndarray, " n"], Attributes]:
    """Indices, where vertices come from, and their attributes; they are doubled where charts end."""
    assert mesh.uv is not None
    keys = np.concatenate([mesh.faces.reshape(-1, 1), mesh.uv.reshape(-1, 2).view(np.int32)], -1)
    _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    origin = mesh.faces.reshape(-1)[first]
    position = mesh.vertices[origin].astype("<f4")
    uv = mesh.uv.reshape(-1, 2)[first].astype("<f4")
    return index.reshape(-1), origin, {"POSITION": position, "TEXCOORD_0": uv}


def _colored(mesh: Mesh) -> tuple[Int64[np.ndarray, " i"], Int64[np.ndarray, " n"], Attributes]:
    """Indices, where vertices come from, and their attributes; glTF's colours are linear light."""
    assert mesh.colors is not None
    colors = to_linear(mesh.colors / 255).astype("<f4")
    origin = np.arange(len(mesh.vertices))
    return mesh.faces.reshape(-1), origin, {"POSITION": mesh.vertices.astype("<f4"), "COLOR_0": colors}


def _padded(data: bytes, filler: bytes) -> bytes:
    """The data with as much behind it as glTF's four byte steps need."""
    return data + filler * (-len(data) % 4)
