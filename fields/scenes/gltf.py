"""glTF and GLB, read exactly: vertex colours beside textures, normalised integers, texture transforms and skins.

trimesh drops or changes each of these, and colours are the point here. What is not read is refused (Draco, sparse
accessors) or does not matter for a still picture of the surface (animation, morph targets, roughness).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from fieldcast.errors import InputError
from fieldcast.fields.scenes.checks import MISSING, Node, parse_json
from fieldcast.fields.scenes.images import decode_image
from fieldcast.fields.scenes.surfaces import GREY, Surface, check_geometry, to_linear

_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
# Extensions that change what is read here, and that are handled; another one in `extensionsRequired` is refused.
_KNOWN = ("KHR_texture_transform", "KHR_materials_unlit", "KHR_mesh_quantization", "EXT_texture_webp")
Matrix = Float64[np.ndarray, "4 4"]


def read_gltf(path: Path, allow_outside: bool = False) -> list[Surface]:
    """The triangles of the default scene in its rest pose, in world units."""
    file = _open(path, allow_outside)
    required = file.document["extensionsRequired"]
    for extension in required.items("extensions") if "extensionsRequired" in file.document else []:
        if extension.text() not in _KNOWN and not extension.text().startswith("KHR_materials"):
            hint = "write the file again without it, for example with `gltf-transform copy`"
            required.fail("glTF without compression", extension.text(), hint)
    world = file.world_matrices()
    surfaces = []
    for index, matrix in world.items():
        node = file.entry("nodes", index)
        if "mesh" in node:
            mesh = file.entry("meshes", file.integer(node["mesh"]))
            for primitive in mesh["primitives"].items("primitives"):
                surfaces += file.surface(primitive, matrix, node, world)
    return surfaces


def _open(path: Path, allow_outside: bool) -> _File:
    data = path.read_bytes()
    if not data:
        raise InputError(f"{path}: expected a mesh, found an empty file")
    if data[:4] != b"glTF":
        if path.suffix.lower() == ".glb":
            raise InputError(f"{path}: expected a GLB file, which starts with glTF, found {data[:4]!r}")
        return _File(parse_json(path, data), None, allow_outside)
    if len(data) < 20 or struct.unpack_from("<I", data, 8)[0] > len(data):
        raise InputError(f"{path}: expected a whole GLB file, found {len(data)} bytes: it is cut short")
    version, (length, kind) = struct.unpack_from("<I", data, 4)[0], struct.unpack_from("<I4s", data, 12)
    if version != 2 or kind != b"JSON":
        raise InputError(f"{path}: expected glTF version 2, found version {version}")
    start = 20 + length
    if start + 8 > len(data):
        return _File(parse_json(path, data[20:start]), None, allow_outside)
    binary = struct.unpack_from("<I", data, start)[0]
    return _File(parse_json(path, data[20:start]), data[start + 8 : start + 8 + binary], allow_outside)


@dataclass
class _File:
    """document: the JSON part; binary: the binary part of a GLB; the rest is what has been read so far."""

    document: Node
    binary: bytes | None
    allow_outside: bool
    buffers: dict[int, bytes] = field(default_factory=dict)
    images: dict[int, UInt8[np.ndarray, "h w 4"]] = field(default_factory=dict)

    def integer(self, node: Node, default: int | None = None) -> int:
        number = node.number(default)
        if number != int(number) or number < 0:
            node.fail("a whole number of 0 or more")
        return int(number)

    def entry(self, key: str, index: int) -> Node:
        """Entry `index` of a list at the top of the document."""
        entries = self.document[key].items(key)
        if index >= len(entries):
            self.document[key].fail(f"an entry {index}", f"{len(entries)} entries")
        return entries[index]

    def surface(self, primitive: Node, matrix: Matrix, node: Node, world: dict[int, Matrix]) -> list[Surface]:
        """A primitive as a surface; none when it is made of points or lines."""
        mode = self.integer(primitive["mode"], _TRIANGLES)
        attributes = primitive["attributes"]
        if mode not in (_TRIANGLES, _STRIP, _FAN) or "POSITION" not in attributes:
            return []
        local = self.accessor(attributes["POSITION"], ("VEC3",))
        count = len(local)
        faces = self.faces(primitive, mode, count)
        check_geometry(self.document.file, local, faces)
        vertices = self.skinned(local, attributes, node, world) if "skin" in node else _moved(local, matrix)
        material = self.material(primitive)
        uv = np.zeros((count, 2))
        key = f"TEXCOORD_{material.uv_set}"
        texture = material.texture if key in attributes else None
        if texture is not None:
            uv = (
                self.accessor(attributes[key], ("VEC2",), count) @ material.uv_matrix[:, :2].T
                + material.uv_matrix[:, 2]
            )
        tint = np.tile(material.factor, (count, 1))
        if "COLOR_0" in attributes:
            color = self.accessor(attributes["COLOR_0"], ("VEC3", "VEC4"), count)
            if _has_srgb_colors(self.document):
                color = np.concatenate([to_linear(color[:, :3]), color[:, 3:]], -1)
            tint[:, : color.shape[1]] *= color
        elif "material" not in primitive:
            tint[:, :3] = to_linear(GREY)
        uv, tint = np.nan_to_num(uv).clip(-1e6, 1e6), np.nan_to_num(tint).clip(0, 1e6)
        corners = uv.astype(np.float32)[faces], tint.astype(np.float32)[faces]
        return [Surface(vertices[faces], *corners, texture, material.cutoff)]

    def faces(self, primitive: Node, mode: int, count: int) -> Int64[np.ndarray, "f 3"]:
        """Three vertices a triangle; strips and fans are cut into triangles."""
        flat = np.arange(count)
        if "indices" in primitive:
            flat = self.accessor(primitive["indices"], ("SCALAR",))[:, 0].astype(np.int64)
        if mode == _TRIANGLES:
            return flat[: len(flat) // 3 * 3].reshape(-1, 3)
        i = np.arange(max(len(flat) - 2, 0))
        if mode == _FAN:
            return np.stack([np.repeat(flat[:1], len(i)), flat[i + 1], flat[i + 2]], -1)
        odd = i % 2  # every other triangle of a strip runs the other way round
        return np.stack([flat[i], flat[i + 1 + odd], flat[i + 2 - odd]], -1)

    def skinned(
        self, local: Float64[np.ndarray, "v 3"], attributes: Node, node: Node, world: dict[int, Matrix]
    ) -> Float64[np.ndarray, "v 3"]:
        """Vertices moved by their joints in the rest pose. The place of the node itself does not count, says glTF."""
        skin = self.entry("skins", self.integer(node["skin"]))
        joints = [self.integer(joint) for joint in skin["joints"].items("joints")]
        if not joints or any(joint not in world for joint in joints):
            skin["joints"].fail("joints that are nodes of the scene")
        matrices = np.stack([world[joint] for joint in joints])
        if "inverseBindMatrices" in skin:
            inverse = self.accessor(skin["inverseBindMatrices"], ("MAT4",), len(joints))
            matrices = matrices @ inverse.reshape(-1, 4, 4).transpose(0, 2, 1)
        index = self.accessor(attributes["JOINTS_0"], ("VEC4",), len(local)).astype(np.int64)
        weight = self.accessor(attributes["WEIGHTS_0"], ("VEC4",), len(local))
        if index.max(initial=0) >= len(joints):
            attributes["JOINTS_0"].fail(f"indices of {len(joints)} joints", str(index.max()))
        weight = weight / np.maximum(weight.sum(-1, keepdims=True), 1e-12)
        blended = np.einsum("vj,vjab->vab", weight, matrices[index])
        moved: Float64[np.ndarray, "v 3"] = np.einsum("vab,vb->va", blended[:, :3, :3], local) + blended[:, :3, 3]
        return moved

    def world_matrices(self) -> dict[int, Matrix]:
        """The world matrix of each node of the default scene; nodes that contain themselves are an error."""
        nodes = self.document["nodes"].items("nodes") if "nodes" in self.document else []
        children = {
            i: [self.integer(c) for c in n["children"].items("nodes")] for i, n in enumerate(nodes) if "children" in n
        }
        inner = {child for row in children.values() for child in row}
        roots = [i for i in range(len(nodes)) if i not in inner]
        if "scenes" in self.document:
            scene = self.entry("scenes", self.integer(self.document["scene"], 0))
            roots = [self.integer(n) for n in scene["nodes"].items("nodes")] if "nodes" in scene else []
        world: dict[int, Matrix] = {}
        pending = [(root, np.eye(4)) for root in reversed(roots)]
        while pending:
            index, parent = pending.pop()
            if index in world or index >= len(nodes):
                found = f"node {index} " + ("more than once" if index in world else f"of {len(nodes)}")
                self.document["nodes"].fail("a tree of nodes", found)
            world[index] = parent @ _local_matrix(nodes[index])
            pending += [(child, world[index]) for child in reversed(children.get(index, []))]
        return world

    def material(self, primitive: Node) -> _Material:
        if "material" not in primitive:
            return _Material()
        node = self.entry("materials", self.integer(primitive["material"]))
        mode = node["alphaMode"].value  # OPAQUE where it is not given
        cutoff = None if mode == "BLEND" else node["alphaCutoff"].number(0.5) if mode == "MASK" else 0.0
        pbr = node["pbrMetallicRoughness"]
        factor = np.array(_numbers(pbr["baseColorFactor"], 4, [1, 1, 1, 1]), np.float64)
        if "baseColorTexture" not in pbr:
            return _Material(factor, cutoff=cutoff)
        info = pbr["baseColorTexture"]
        moved = info["extensions"]["KHR_texture_transform"]
        uv_set = self.integer(moved["texCoord"], self.integer(info["texCoord"], 0))
        return _Material(factor, self.texture(self.integer(info["index"])), uv_set, _uv_matrix(moved), cutoff)

    def texture(self, index: int) -> UInt8[np.ndarray, "h w 4"]:
        node = self.entry("textures", index)
        webp = node["extensions"]["EXT_texture_webp"]
        image = self.integer((webp if "source" in webp else node)["source"])
        if image not in self.images:
            entry = self.entry("images", image)
            data = self.view(entry["bufferView"])[0] if "bufferView" in entry else self.uri(entry["uri"])
            self.images[image] = decode_image(data, f"{self.document.file}: images[{image}]").numpy()
        return self.images[image]

    def accessor(self, reference: Node, types: tuple[str, ...], count: int | None = None) -> Float64[np.ndarray, "n k"]:
        """The numbers of an accessor of one of the `types`, integers that stand for 0..1 as such; count: how many."""
        node = self.entry("accessors", self.integer(reference))
        if "sparse" in node or "bufferView" not in node:
            node.fail("an accessor with its own data", "a sparse or compressed one", "write the file again without it")
        if node["type"].value not in types:
            node["type"].fail(f"{' or '.join(types)} for {reference.at}")
        kind, columns = _TYPES.get(self.integer(node["componentType"])), _COLUMNS[node["type"].text()]
        if kind is None:
            node["componentType"].fail(f"one of {', '.join(map(str, _TYPES))}")
        rows, (data, stride) = self.integer(node["count"]), self.view(node["bufferView"])
        if count not in (None, rows):
            node["count"].fail(f"{count} entries, one for each vertex or joint")
        size, start = np.dtype(kind).itemsize * columns, self.integer(node["byteOffset"], 0)
        stride = stride or size
        if rows and start + (rows - 1) * stride + size > len(data):
            node["count"].fail(f"at most {max(0, (len(data) - start - size) // stride + 1)} entries, as the data has")
        shape, strides = (rows, columns), (stride, np.dtype(kind).itemsize)
        values = np.ndarray(shape, kind, data, start if rows else 0, strides).astype(np.float64)
        if node["normalized"].value is True and kind[1] != "f":
            values = np.maximum(values / np.iinfo(kind).max, -1.0)
        return values

    def view(self, reference: Node) -> tuple[bytes, int]:
        """The bytes of a buffer view, and its stride; 0 when its elements lie back to back."""
        node = self.entry("bufferViews", self.integer(reference))
        data = self.buffer(self.integer(node["buffer"]))
        start, length = self.integer(node["byteOffset"], 0), self.integer(node["byteLength"])
        if start + length > len(data):
            node.fail(f"a view of the {len(data)} bytes of its buffer", f"one that ends at {start + length}")
        return data[start : start + length], self.integer(node["byteStride"], 0)

    def buffer(self, index: int) -> bytes:
        if index not in self.buffers:
            node = self.entry("buffers", index)
            if "uri" not in node and self.binary is None:
                node.fail("a uri or the binary part of a GLB file")
            self.buffers[index] = self.uri(node["uri"]) if "uri" in node else self.binary or b""
        return self.buffers[index]

    def uri(self, node: Node) -> bytes:
        """What a uri names: data in the text itself, or a file in the folder of the glTF."""
        text = node.text()
        if text.startswith("data:"):
            try:
                return base64.b64decode(text.partition(",")[2], validate=True)
            except binascii.Error:
                node.fail("base64 data", "other characters")
        root = Path(os.path.normpath(self.document.file.parent))
        path = Path(os.path.normpath(root / unquote(text)))
        if not self.allow_outside and not path.is_relative_to(root):
            node.fail(f"a file inside {root}", json.dumps(text), "pass --allow-outside if you trust this file")
        try:
            return path.read_bytes()
        except (OSError, ValueError) as error:
            node.fail("a readable file", f"{path}: {getattr(error, 'strerror', None) or error}")


@dataclass(frozen=True)
class _Material:
    """factor: linear RGBA. texture: sRGB. uv_set, uv_matrix: which texture coordinates, and how they are moved."""

    factor: Float64[np.ndarray, " 4"] = field(default_factory=lambda: np.ones(4))
    texture: UInt8[np.ndarray, "h w 4"] | None = None
    uv_set: int = 0
    uv_matrix: Float64[np.ndarray, "2 3"] = field(default_factory=lambda: np.eye(2, 3))
    cutoff: float | None = 0.0


def _has_srgb_colors(document: Node) -> bool:
    """COLOR_0 is linear by the standard, but trimesh writes its sRGB colours there, and some files say that they do."""
    generator = str(document["asset"]["generator"].value)
    return "trimesh" in generator or "srgb" in generator.lower()


def _moved(x: Float64[np.ndarray, "v 3"], matrix: Matrix) -> Float64[np.ndarray, "v 3"]:
    moved: Float64[np.ndarray, "v 3"] = x @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _numbers(node: Node, count: int, default: list[float]) -> list[float]:
    if node.value is MISSING:
        return default
    values = [entry.number() for entry in node.items(f"{count} numbers")]
    if len(values) != count:
        node.fail(f"{count} numbers")
    return values


def _local_matrix(node: Node) -> Matrix:
    """A node's own matrix, or its translation x rotation (a quaternion x y z w) x scale."""
    if "matrix" in node:
        return np.array(_numbers(node["matrix"], 16, [])).reshape(4, 4).T
    x, y, z, w = _numbers(node["rotation"], 4, [0, 0, 0, 1])
    n = 2 / max(x * x + y * y + z * z + w * w, 1e-30)
    rotation = np.array(
        [
            [1 - n * (y * y + z * z), n * (x * y - z * w), n * (x * z + y * w)],
            [n * (x * y + z * w), 1 - n * (x * x + z * z), n * (y * z - x * w)],
            [n * (x * z - y * w), n * (y * z + x * w), 1 - n * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * _numbers(node["scale"], 3, [1, 1, 1])
    matrix[:3, 3] = _numbers(node["translation"], 3, [0, 0, 0])
    return matrix


def _uv_matrix(node: Node) -> Float64[np.ndarray, "2 3"]:
    """KHR_texture_transform: translation x rotation x scale of texture coordinates."""
    angle = node["rotation"].number(0.0)
    c, s = np.cos(angle), np.sin(angle)
    (sx, sy), (tx, ty) = _numbers(node["scale"], 2, [1, 1]), _numbers(node["offset"], 2, [0, 0])
    return np.array([[c * sx, s * sy, tx], [-s * sx, c * sy, ty]])
