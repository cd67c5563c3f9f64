"""Views of meshes: colours exactly as the file has them, shapes where they are, and one line for each fault."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import fieldcast
from fieldcast.errors import InputError
from fieldcast.fields import Renderable
from fieldcast.fields.cameras import orbit
from fieldcast.fields.scenes import mesh, open_scene
from fieldcast.fields.scenes.mesh import Caster, read_mesh, read_surfaces
from fieldcast.fields.scenes.surfaces import sample_texture, to_linear, to_srgb

# A square in the xy plane that faces +z: its corners, texture coordinates as glTF has them (v downwards), and faces.
CORNERS = np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
UV = np.float32([[0, 1], [1, 1], [1, 0], [0, 0]])
FACES = np.uint16([[0, 1, 2], [0, 2, 3]])
KINDS = {"f": 5126, "u1": 5121, "u2": 5123, "u4": 5125}
SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


def gltf(folder: Path, edit: Callable[[dict[str, Any]], Any] = lambda d: None, **arrays: Any) -> Path:
    """Writes the square with more attributes (COLOR_0=..., normalised where they are integers) as a .gltf."""
    arrays = {"POSITION": CORNERS, **arrays}
    document: dict[str, Any] = {"asset": {"version": "2.0"}, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}]}
    document |= {"accessors": [], "bufferViews": [], "buffers": []}

    def add(array: Any) -> int:
        data = base64.b64encode(array.tobytes()).decode()
        document["buffers"].append({"byteLength": array.nbytes, "uri": f"data:application/octet-stream;base64,{data}"})
        document["bufferViews"].append({"buffer": len(document["buffers"]) - 1, "byteLength": array.nbytes})
        kind, columns = array.dtype.str[1:].replace("f4", "f"), array.shape[1] if array.ndim == 2 else 1
        accessor = {"bufferView": len(document["bufferViews"]) - 1, "componentType": KINDS[kind], "count": len(array)}
        document["accessors"].append({**accessor, "type": SHAPES[columns], "normalized": kind != "f"})
        return len(document["accessors"]) - 1

    attributes = {name: add(array) for name, array in arrays.items() if name.isupper()}
    indices = add(arrays.get("faces", FACES).reshape(-1))
    document["accessors"][indices]["normalized"] = False
    document["meshes"] = [{"primitives": [{"attributes": attributes, "indices": indices}]}]
    document["add"] = add
    edit(document)
    del document["add"]
    file = folder / "square.gltf"
    file.write_text(json.dumps(document))
    return file


def see(path: Path, *points: tuple[float, float]) -> np.ndarray:
    """sRGB RGBA 0..255 of what rays see that come down the z axis at the points x, y."""
    x = np.array([[*point, 5.0] for point in points])
    rgba = Caster(read_surfaces(path)[0]).look(x, np.tile(np.float32([0, 0, -1]), (len(points), 1)))
    return np.round(rgba * 255).astype(int)


def textured(factor: list[float] | None = None, **info: Any) -> Callable[[dict[str, Any]], None]:
    """Adds a texture of 2x2 texels: red, green; blue, white."""

    def edit(document: dict[str, Any]) -> None:
        pbr = {"baseColorTexture": {"index": 0, **info}, **({"baseColorFactor": factor} if factor else {})}
        document["materials"] = [{"pbrMetallicRoughness": pbr}]
        document["textures"], document["images"] = [{"source": 0}], [{"uri": "four%20colors.png"}]
        document["meshes"][0]["primitives"][0]["material"] = 0

    return edit


@pytest.fixture
def four(tmp_path: Path) -> Path:
    texels = np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]])
    Image.fromarray(np.repeat(np.repeat(texels, 8, 0), 8, 1)).save(tmp_path / "four colors.png")
    return tmp_path


# -------------------------------------------------------------------------------------------------------- colour


def test_textures_are_upright(four: Path) -> None:
    """The upper left quarter of the picture is at the upper left corner of the square."""
    found = see(gltf(four, textured(), TEXCOORD_0=UV), (-0.5, 0.5), (0.5, 0.5), (-0.5, -0.5), (0.5, -0.5), (3, 0))
    expected = [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255], [255, 255, 255, 255], [0, 0, 0, 0]]
    assert found.tolist() == expected


def test_factors_are_linear_and_textures_srgb(four: Path) -> None:
    """Half of the light of white is 188 in sRGB, not 128."""
    file = gltf(four, textured([0.5, 0.5, 0.5, 1.0]), TEXCOORD_0=UV)
    assert see(file, (0.5, -0.5)).tolist() == [[188, 188, 188, 255]]


@pytest.mark.parametrize(
    ("color", "generator", "expected"),
    [
        (np.tile(np.float32([0.5, 1, 0]), (4, 1)), "", [188, 255, 0, 255]),
        (np.tile(np.uint8([51, 255, 0, 255]), (4, 1)), "", [124, 255, 0, 255]),
        (np.tile(np.uint16([13107, 65535, 0, 65535]), (4, 1)), "", [124, 255, 0, 255]),
        (np.tile(np.uint8([51, 255, 0, 255]), (4, 1)), "colours are sRGB", [51, 255, 0, 255]),
    ],
)
def test_vertex_colors(tmp_path: Path, color: Any, generator: str, expected: list[int]) -> None:
    file = gltf(tmp_path, lambda d: d["asset"].update(generator=generator), COLOR_0=color)
    assert see(file, (0.3, 0.2)).tolist() == [expected]


def test_vertex_colors_multiply_textures(four: Path) -> None:
    color = np.tile(np.float32([0.5, 0.5, 0.0]), (4, 1))
    assert see(gltf(four, textured(), TEXCOORD_0=UV, COLOR_0=color), (0.5, -0.5)).tolist() == [[188, 188, 0, 255]]


def test_texture_transforms_and_second_coordinates(four: Path) -> None:
    """Coordinates all 0, moved to the middle of the lower right texel by KHR_texture_transform."""
    moved = {"KHR_texture_transform": {"offset": [0.75, 0.25], "scale": [0, 0], "texCoord": 1}}
    file = gltf(four, textured(extensions=moved), TEXCOORD_0=UV, TEXCOORD_1=UV)
    assert see(file, (-0.5, -0.5)).tolist() == [[0, 255, 0, 255]]


def test_textures_repeat() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    uv = np.random.default_rng(1).random((50, 2)).astype(np.float32)
    np.testing.assert_allclose(
        sample_texture(texture, uv + np.float32([3, -2])), sample_texture(texture, uv), atol=1e-4
    )


def test_texel_centers_have_the_texels_color() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    y, x = np.mgrid[:5, :7]
    uv = np.stack([(x + 0.5) / 7, (y + 0.5) / 5], -1).reshape(-1, 2).astype(np.float32)
    found = sample_texture(texture, uv)
    found[:, :3] = to_srgb(found[:, :3])
    np.testing.assert_allclose(found * 255, texture.reshape(-1, 4), atol=0.01)


def test_srgb_is_its_own_inverse_and_known_values() -> None:
    c = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(to_srgb(to_linear(c)), c, atol=2e-6)
    np.testing.assert_allclose(to_linear([0.5, 0.04045]), [0.21404114, 0.0031308], atol=1e-6)


@pytest.mark.parametrize(("mode", "alpha"), [("OPAQUE", 255), ("BLEND", 102), ("MASK", 0)])
def test_alpha_modes(tmp_path: Path, mode: str, alpha: int) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["materials"] = [{"alphaMode": mode, "pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 0.4]}}]
        document["meshes"][0]["primitives"][0]["material"] = 0

    assert see(gltf(tmp_path, edit), (0.2, 0.1))[0, 3] == alpha


def test_what_is_behind_shows_through(tmp_path: Path) -> None:
    """Red of alpha 0.6 before solid blue is 0.6 red and 0.4 blue."""

    def edit(document: dict[str, Any]) -> None:
        primitive = document["meshes"][0]["primitives"][0]
        document["materials"] = [
            {"alphaMode": "BLEND", "pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 0.6]}},
            {"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 1, 1]}},
        ]
        document["meshes"] = [{"primitives": [{**primitive, "material": k}]} for k in (0, 1)]
        document["nodes"] = [{"mesh": 0}, {"mesh": 1, "translation": [0, 0, -1]}]
        document["scenes"] = [{"nodes": [0, 1]}]

    assert see(gltf(tmp_path, edit), (0.2, 0.1)).tolist() == [[153, 0, 102, 255]]


# ---------------------------------------------------------------------------------------------------- placement


def test_nodes_place_their_meshes(tmp_path: Path) -> None:
    """A parent turned by a quarter about z and moved; its child is scaled: x' = parent * child * x."""

    def edit(document: dict[str, Any]) -> None:
        half = 0.5**0.5
        document["nodes"] = [
            {"children": [1], "translation": [10, 0, 0], "rotation": [0, 0, half, half]},
            {"mesh": 0, "matrix": [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1]},
        ]

    corners = read_surfaces(gltf(tmp_path, edit))[0][0].corners
    assert corners.min((0, 1)) == pytest.approx([9, 3, 0]) and corners.max((0, 1)) == pytest.approx([11, 7, 0])


def test_skins_move_vertices_and_the_node_does_not(tmp_path: Path) -> None:
    """Two joints, of which the left corners follow one and the right corners the other."""

    def edit(document: dict[str, Any]) -> None:
        for accessor, name in zip(document["accessors"], ("POSITION", "JOINTS_0", "WEIGHTS_0"), strict=False):
            accessor["normalized"] = name == "WEIGHTS_0" and accessor["componentType"] != 5126
        inverse = np.tile(np.eye(4, dtype=np.float32).T.reshape(1, 16), (2, 1))
        inverse[1, 12:15] = [0, -1, 0]  # column by column
        bind = document["add"](inverse)
        document["accessors"][bind]["normalized"] = False
        document["nodes"] = [
            {"mesh": 0, "skin": 0, "translation": [99, 99, 99]},
            {"translation": [0, 0, 7]},
            {"translation": [0, 1, 0], "scale": [3, 1, 1]},
        ]
        document["scenes"] = [{"nodes": [0, 1, 2]}]
        document["skins"] = [{"joints": [1, 2], "inverseBindMatrices": bind}]

    joints = np.uint8([[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    weights = np.float32([[1, 0, 0, 0]] * 4)
    corners = read_surfaces(gltf(tmp_path, edit, JOINTS_0=joints, WEIGHTS_0=weights))[0][0].corners[0]
    assert corners.tolist() == [[-1, -1, 7], [3, -1, 0], [3, 1, 0]]


def test_strips_and_fans(tmp_path: Path) -> None:
    for mode, order in ((5, [0, 1, 3, 2]), (6, [0, 1, 2, 3])):
        file = gltf(tmp_path, lambda d, m=mode: d["meshes"][0]["primitives"][0].update(mode=m), faces=np.uint16(order))
        corners = read_surfaces(file)[0][0].corners
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert normals.tolist() == [[0, 0, 4], [0, 0, 4]]


def test_hit_points_are_those_of_trimesh(tmp_path: Path) -> None:
    """Colours that are positions: what a ray sees tells where it hit, to be compared with trimesh's own ray caster."""
    shape = trimesh.creation.icosphere(subdivisions=2)
    color = ((np.asarray(shape.vertices) + 1) / 2 * 255).astype(np.uint8)
    shape.visual = trimesh.visual.ColorVisuals(shape, vertex_colors=color)
    shape.export(tmp_path / "ball.ply")
    x = np.array([[0.3, -0.2, 5.0], [-0.5, 0.4, 5.0], [0.0, 0.0, 5.0]])
    d = np.tile(np.float32([0, 0, -1]), (3, 1))
    seen = Caster(read_surfaces(tmp_path / "ball.ply")[0]).look(x, d)
    where, ray, _ = shape.ray.intersects_location(x, d, multiple_hits=False)
    np.testing.assert_allclose(seen[ray, :3], (where + 1) / 2, atol=0.02)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "SIZE", 32)
    monkeypatch.setattr(mesh, "VIEWS", {"train": 7, "val": 3, "test": 4})


@pytest.mark.usefixtures("small")
def test_views_of_a_mesh(tmp_path: Path) -> None:
    box = trimesh.creation.box((2, 4, 1))
    box.apply_translation((10, 0, 0))
    box.visual.face_colors = [200, 100, 50, 255]
    box.export(tmp_path / "box.obj")
    scene = open_scene(tmp_path / "box.obj", "all")
    assert len(scene) == 14 and scene.names[7] == "val/000" and scene.images[0].shape == (32, 32, 4)
    assert scene.space.aabb == pytest.approx((7.9, -2.1, -2.1, 12.1, 2.1, 2.1)) and scene.space.up == (0, 0, 1)
    for image in scene.images:
        edge = torch.cat([image[0], image[-1], image[:, 0], image[:, -1]])
        assert edge[:, 3].max() == 0 and image[..., 3].max() == 255, "the whole mesh is in the picture"


@pytest.mark.usefixtures("small")
def test_up_of_gltf_is_y(tmp_path: Path) -> None:
    scene = open_scene(gltf(tmp_path), "test", 2)
    assert scene.space.up == (0, 1, 0) and scene.images[0].shape == (16, 16, 4)
    assert (scene.cameras.c2w[:, 1, 1] >= 0).all(), "cameras stand upright"


def test_pictures_agree_with_their_cameras(tmp_path: Path) -> None:
    """The square covers exactly the pixels whose centres lie inside of its corners as an own pinhole projects them."""
    caster = Caster(read_surfaces(gltf(tmp_path))[0])
    space, radius = caster.space((0.0, 1.0, 0.0))
    cameras = mesh._cameras("test", space, radius * 3, 64)
    for index in (3, 8, 17):
        c2w, (fx, fy, cx, cy) = cameras.c2w[index].double(), cameras.intrinsics[index].tolist()
        local = (torch.tensor(CORNERS).double() - c2w[:, 3]) @ c2w[:, :3]
        corner = torch.stack([fx * local[:, 0] / -local[:, 2] + cx, -fy * local[:, 1] / -local[:, 2] + cy], -1)
        y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
        edge, to = corner.roll(-1, 0) - corner, torch.stack([x, y], -1)[..., None, :] - corner
        side = edge[:, 0] * to[..., 1] - edge[:, 1] * to[..., 0]
        inside = (side > 0).all(-1) | (side < 0).all(-1)
        assert int((inside != (caster.view(cameras, index)[..., 3] > 0)).sum()) <= 1
        assert int(inside.sum()) > 50


def test_a_mesh_is_a_scene_that_renders_itself(tmp_path: Path) -> None:
    """A red ball, against the intersection of rays with a sphere."""
    radius, distance, center = 0.8, 4.0, torch.tensor([1.0, 2.0, 3.0])
    ball = trimesh.creation.icosphere(subdivisions=5, radius=radius)
    ball.apply_translation(center.tolist())
    ball.visual.vertex_colors = [255, 0, 0, 255]
    ball.export(tmp_path / "ball.ply")
    scene = read_mesh(tmp_path / "ball.ply")
    assert isinstance(scene, Renderable) and scene.space.up == (0, 0, 1)
    assert scene.space.aabb == pytest.approx((0.16, 1.16, 2.16, 1.84, 2.84, 3.84), abs=1e-5)
    cameras = orbit(
        scene.space, torch.tensor([0.3, 2.0]), torch.tensor([0.2, -1.0]), distance, width=60, height=40, fov=0.6
    )
    for index, image in enumerate(fieldcast.render(scene, cameras)):
        rays = cameras.image_rays(index)
        middle = ((center - rays.origins) * rays.directions).sum(-1)
        square = (radius**2 - (center - rays.origins).square().sum(-1) + middle**2).reshape(40, 60)
        inside, away = square > 0.05, square < -0.05
        assert bool((image.opacity[inside] == 1).all()) and bool((image.opacity[away] == 0).all())
        expected = middle.reshape(40, 60) - square.clamp_min(0).sqrt()
        torch.testing.assert_close(image.depth[inside], expected[inside], rtol=0, atol=0.01)
        assert bool((image.rgb[inside] == torch.tensor([1.0, 0.0, 0.0])).all()) and bool((image.rgb[away] == 1).all())


def test_views_of_a_mesh_are_those_that_its_fields_learn_from(tmp_path: Path) -> None:
    square = fieldcast.open(gltf(tmp_path))
    scene = open_scene(tmp_path / "square.gltf", "train", 4)
    assert torch.equal(square.views.c2w, scene.cameras.c2w) and square.space == scene.space


# --------------------------------------------------------------------------------------------------------- faults


OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\n"
PLY = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
PLY_FACES = "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n"
TEXT_FAULTS: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("a.obj", "", "expected a mesh, found an empty file"),
    "empty glb": ("a.glb", "", "expected a mesh, found an empty file"),
    "no faces": ("a.obj", "v 0 0 0\nv 1 0 0\n", "expected a mesh, found "),
    "nan": (
        "a.obj",
        OBJ.replace("v 0 1 0", "v 0 nan 0"),
        "expected finite vertices, found 1 of 4 with NaN or infinity",
    ),
    "index 0": ("a.obj", OBJ.replace("f 1 2 4", "f 0 2 4"), "line 6: expected face indices from 1, found 0"),
    "index 0 later": (
        "a.obj",
        OBJ.replace("f 1 2 4", "f 1/1 2/2 0/3"),
        "line 6: expected face indices from 1, found 0",
    ),
    "index too large": (
        "a.obj",
        OBJ.replace("f 1 2 4", "f 1 2 7"),
        "expected faces of vertices that are there, found an index",
    ),
    "ply index": (
        "a.ply",
        PLY + PLY_FACES + "3 0 1 9\n",
        "expected faces of 3 vertices, found 1 of 1 faces with an index out of range",
    ),
    "ply nan": (
        "a.ply",
        PLY + PLY_FACES.replace("1 0 0", "nan 0 inf") + "3 0 1 2\n",
        "expected finite vertices, found 1 of 3 with NaN or infinity",
    ),
    "point cloud": (
        "a.ply",
        PLY + "end_header\n0 0 0\n1 0 0\n0 1 0\n",
        "expected a mesh, found 3 points without faces; a point cloud has no surface to look at",
    ),
    "ply header": (
        "a.ply",
        (PLY + PLY_FACES + "3 0 1 2\n").replace("vertex 3", "vertex 2000000000"),
        "expected 2000000001 rows as the header says, found 4 rows: it is cut short",
    ),
    "truncated ply": ("a.ply", PLY + PLY_FACES, "expected 4 rows as the header says, found 3 rows: it is cut short"),
    "truncated row": (
        "a.ply",
        PLY + PLY_FACES + "3 0",
        "expected the 1 faces that its header names, found none: it is cut short",
    ),
    "truncated binary ply": (
        "a.ply",
        (PLY + PLY_FACES[:-18]).replace("ascii", "binary_little_endian").encode() + struct.pack("<9f", *range(9)),
        "expected the 1 faces that its header names, found none: it is cut short",
    ),
    "random ply": ("a.ply", bytes(range(256)), "expected a mesh, found a damaged file or another format"),
    "random stl": ("a.stl", bytes(range(256)), "expected a mesh, found "),
    "stl count": ("a.stl", b"\0" * 80 + struct.pack("<I", 4_000_000_000) + b"\0" * 50, "expected a mesh, found "),
    "random off": ("a.off", bytes(range(256)), "expected a mesh, found a damaged file or another format"),
    "random glb": (
        "a.glb",
        bytes(range(256)),
        "expected a GLB file, which starts with glTF, found b'\\x00\\x01\\x02\\x03'",
    ),
    "short glb": ("a.glb", b"glTF\2\0\0\0", "expected a whole GLB file, found 8 bytes: it is cut short"),
    "old glb": ("a.glb", b"glTF\1\0\0\0" + b"\x14\0\0\0" + b"\0" * 8, "expected glTF version 2, found version 1"),
    "one place": (
        "a.obj",
        "v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n",
        "expected a mesh with an extent, found all vertices in",
    ),
}


@pytest.mark.parametrize("name", TEXT_FAULTS)
def test_each_fault_is_one_line(tmp_path: Path, name: str) -> None:
    file, content, message = TEXT_FAULTS[name]
    path = tmp_path / file
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as error:
        open_scene(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value) and "charset" not in str(error.value)


def nan(document: dict[str, Any]) -> None:
    values = CORNERS.copy()
    values[1, 0] = np.nan
    document["buffers"][0]["uri"] = "data:;base64," + base64.b64encode(values.tobytes()).decode()


def at(*keys: Any, **values: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        place: Any = document
        for key in keys:
            place = place[key]
        place.update(values)

    return edit


GLTF_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no meshes": (at(nodes=[{}]), "expected a mesh, found no faces"),
    "nan": (nan, "expected finite vertices, found 1 of 4 with NaN or infinity"),
    "outside": (
        at("buffers", 0, uri="../../etc/passwd"),
        'buffers[0].uri: expected a file inside {folder}, found "../../etc/passwd"; '
        "pass --allow-outside if you trust this file",
    ),
    "outside, encoded": (
        at("buffers", 0, uri="%2e%2e/secret"),
        'buffers[0].uri: expected a file inside {folder}, found "%2e%2e/secret"; '
        "pass --allow-outside if you trust this file",
    ),
    "missing buffer": (
        at("buffers", 0, uri="a.bin"),
        "buffers[0].uri: expected a readable file, found {folder}/a.bin: No such file or directory",
    ),
    "too long": (
        at("accessors", 0, count=3_000_000_000),
        "accessors[0].count: expected at most 4 entries, as the data has",
    ),
    "too short": (
        at("bufferViews", 0, byteLength=99),
        "bufferViews[0]: expected a view of the 48 bytes of its buffer, found one that ends at 99",
    ),
    "negative": (
        at("accessors", 0, byteOffset=-4),
        "accessors[0].byteOffset: expected a whole number of 0 or more, found -4",
    ),
    "cycle": (
        at(nodes=[{"mesh": 0, "children": [0]}]),
        "nodes: expected a tree of nodes, found node 0 more than once",
    ),
    "stranger": (at("nodes", 0, mesh=5), "meshes: expected an entry 5, found 1 entries"),
    "component": (
        at("accessors", 0, componentType=1),
        "accessors[0].componentType: expected one of 5120, 5121, 5122, 5123, 5125, 5126, found 1",
    ),
    "component a list": (
        at("accessors", 0, componentType=[]),
        "accessors[0].componentType: expected a number, found a",
    ),
    "type": (
        at("accessors", 0, type="VEC2"),
        'accessors[0].type: expected VEC3 for meshes[0].primitives[0].attributes.POSITION, found "VEC2"',
    ),
    "extensions": (at(extensionsRequired=5), "extensionsRequired: expected a list of extensions, found 5"),
    "far away": (
        at("nodes", 0, scale=[1e300, 1, 1]),
        "expected a mesh with an extent, found all vertices in one place or",
    ),
    "sparse": (
        at("accessors", 0, sparse={}),
        "accessors[0]: expected an accessor with its own data, found a sparse or compressed one; write the file again",
    ),
    "draco": (
        at(extensionsRequired=["KHR_draco_mesh_compression"]),
        "extensionsRequired: expected glTF without compression, found KHR_draco_mesh_compression; write the file again",
    ),
}


@pytest.mark.parametrize("name", GLTF_FAULTS)
def test_each_gltf_fault_is_one_line(tmp_path: Path, name: str) -> None:
    edit, message = GLTF_FAULTS[name]
    file = gltf(tmp_path, edit)
    with pytest.raises(InputError) as error:
        open_scene(file)
    assert str(error.value).startswith(f"{file}: {message}".replace("{folder}", str(tmp_path)))
    assert "\n" not in str(error.value)


def test_gltf_index_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected faces of 4 vertices, found 1 of 2 faces with an index out of range"):
        open_scene(gltf(tmp_path, faces=np.uint16([[0, 1, 2], [0, 2, 4]])))


def test_missing_mesh(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing there"):
        open_scene(tmp_path / "a.glb")


def test_materials_that_are_not_there_are_warnings(tmp_path: Path) -> None:
    path = tmp_path / "a.obj"
    path.write_text("mtllib here.mtl\nmtllib gone.mtl\nmtllib ../outside.mtl\n" + OBJ)
    (tmp_path / "here.mtl").write_text("newmtl m\nmap_Kd wood.png\n")
    assert read_surfaces(path)[1] == [
        f"{tmp_path}/here.mtl: its texture wood.png is not there: colours are missing",
        f"{path}: its material file gone.mtl is not there: colours are missing",
        f"{path}: its material file ../outside.mtl lies outside the folder: colours are left out",
    ]


# ----------------------------------------------------------------------------------------------------- real files


REAL = [
    ("keenan_crane/spot/spot.obj", 1, 5856),
    ("ycb/YcbBanana/textured_simple_reoriented.obj", 1, 15728),
    ("kaolin/armchair.gltf", 3, 18400),
    ("raw_gltf/kenney_food/burger-cheese.glb", 4, 226),
    ("raw_gltf/kaykit_restaurant/stove_multi.gltf", 1, 1084),
    ("raw_gltf/quaternius/Fox.glb", 5, 1848),
    ("trimesh_models/CesiumMilkTruck.glb", 5, 3624),
    ("mesh2motion/fox-dog.glb", 1, 2616),
]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("name", "parts", "faces"), REAL)
def test_real_meshes(data: Path, name: str, parts: int, faces: int) -> None:
    path = data / "textured" / name
    surfaces, warnings = read_surfaces(path)
    assert (len(surfaces), sum(map(len, surfaces)), warnings) == (parts, faces, [])
    scene = open_scene(path, "val")
    seen = torch.cat([image[image[..., 3] == 255][:, :3] for image in scene.images]).float()
    assert len(seen) > 100 and seen.std(0).max() > 5, "colours that differ from place to place"


def test_colors_of_a_real_low_poly_model(data: Path) -> None:
    """The models hold sRGB numbers in COLOR_0 and say so: they come out unchanged."""
    path = data / "meshes" / "models" / "quaternius-animals-pack" / "Alpaca.glb"
    surfaces, _ = read_surfaces(path)
    tint = to_srgb(np.concatenate([s.tint.reshape(-1, 4) for s in surfaces])[:, :3]) * 255
    expected = np.asarray(trimesh.load_mesh(path, process=False).visual.vertex_colors)[:, :3]
    assert {tuple(c) for c in np.round(tint).astype(int).tolist()} == {tuple(c) for c in expected.tolist()}
