"""What is handed out of people: files are read back by hand, by the letter of their formats, and by other readers."""

from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from fieldcast.distill.meshing.decimation import simplified
from fieldcast.errors import InputError
from fieldcast.fields.files.mesh import save_mesh
from fieldcast.fields.mesh import Mesh, edges, unit
from fieldcast.fields.scenes.mesh import Caster, read_surfaces
from fieldcast.fields.triangles import Triangles
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.outputs.layout import GAP, TEXT, shortened, table
from fieldcast.reconstruct.outputs.masks import TINT, overlay, palette, save_masks
from fieldcast.reconstruct.outputs.meshes import posed_meshes, save_posed_meshes
from fieldcast.reconstruct.outputs.pictures import (
    View,
    chosen,
    depth_picture,
    film,
    normal_picture,
    panels,
    save_film,
    save_sheet,
)
from fieldcast.reconstruct.outputs.report import OfPerson, Report, write_report
from fieldcast.reconstruct.outputs.rig import (
    Kept,
    Rigged,
    quaternions,
    rigged,
    save_rigged,
    save_rigged_scene,
    strongest,
)
from fieldcast.reconstruct.outputs.skin import Skin, nearest, skin_of
from fieldcast.reconstruct.outputs.textures import textured
from fieldcast.reconstruct.recordings.recording import Person

FPS = 24.0


@pytest.fixture(scope="module")
def body() -> Body:
    """One whose vertices follow four joints at most, so that a file holds all of its weights."""
    whole = makehuman()
    few, _ = strongest(Skin(whole.weight_index, whole.weights), len(whole.parents))
    return replace(whole, weight_index=few.index, weights=few.weights.float())


def walking(body: Body, frames: int = 6, seed: int = 0) -> Person:
    """Somebody who bends all joints and turns around once."""
    g = torch.Generator().manual_seed(seed)
    pose = 0.4 * torch.randn(frames, len(body.parents), 3, generator=g)
    pose[:, 0] = torch.linspace(0, 2 * torch.pi, frames)[:, None] * torch.tensor([0.1, 1.0, 0.2])
    place = torch.randn(frames, 3, generator=g)
    shape = torch.randn(body.shapes, generator=g)
    return Person(f"ann{seed}", body, shape, pose, place, torch.ones(frames, dtype=torch.bool))


def mesh_of(person: Person) -> Mesh:
    vertices, _ = person.body.at_rest(person.shape)
    colors = np.full((len(vertices), 3), 128, np.uint8)
    return Mesh(vertices.double().numpy(), person.body.faces.numpy(), colors=colors, up=(0.0, 1.0, 0.0))


def own(person: Person) -> Rigged:
    """Somebody whose mesh is the body itself."""
    return rigged(person, mesh_of(person), Skin(person.body.weight_index, person.body.weights))


# ----------------------------------------------------------------------------- glTF by the letter of its specification


@dataclass
class File:
    """A GLB file taken apart by hand."""

    document: dict[str, Any]
    binary: bytes

    @classmethod
    def read(cls, path: Path) -> File:
        data = path.read_bytes()
        magic, version, total = struct.unpack_from("<4sII", data)
        assert (magic, version, total) == (b"glTF", 2, len(data))
        length, kind = struct.unpack_from("<I4s", data, 12)
        size, second = struct.unpack_from("<I4s", data, 20 + length)
        assert kind == b"JSON" and second == b"BIN\0" and 28 + length + size == total
        return cls(json.loads(data[20 : 20 + length]), data[28 + length :])

    def array(self, number: int) -> np.ndarray:
        accessor = self.document["accessors"][number]
        view = self.document["bufferViews"][accessor["bufferView"]]
        kind = {5123: "<u2", 5125: "<u4", 5126: "<f4"}[accessor["componentType"]]
        columns = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
        start = view["byteOffset"]
        assert start % np.dtype(kind).itemsize == 0
        data = self.binary[start : start + view["byteLength"]]
        return np.frombuffer(data, kind).reshape(accessor["count"], columns).astype(np.float64)

    def at(self, time: float) -> dict[int, dict[str, np.ndarray]]:
        """Translations and rotations of animated nodes: linear, or spherical between unit quaternions."""
        found: dict[int, dict[str, np.ndarray]] = {}
        animation = self.document["animations"][0]
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            assert sampler["interpolation"] == "LINEAR"
            times, values = self.array(sampler["input"])[:, 0], self.array(sampler["output"])
            path, t = channel["target"]["path"], float(np.clip(time, times[0], times[-1]))
            if path == "rotation":
                assert np.allclose(np.linalg.norm(values, axis=-1), 1, atol=1e-6)
                assert ((values[1:] * values[:-1]).sum(-1) >= -1e-6).all(), "the short way"
                value = Slerp(times, Rotation.from_quat(values))(t).as_quat() if len(times) > 1 else values[0]
            else:
                value = np.array([np.interp(t, times, column) for column in values.T])
            found.setdefault(channel["target"]["node"], {})[path] = value
        return found

    def world(self, time: float) -> dict[int, np.ndarray]:
        """The 4 x 4 matrix of each node."""
        moved, world = self.at(time), dict[int, np.ndarray]()
        pending = [(root, np.eye(4)) for root in self.document["scenes"][0]["nodes"]]
        while pending:
            number, above = pending.pop()
            node = {**self.document["nodes"][number], **moved.get(number, {})}
            local = np.eye(4)
            local[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
            local[:3, 3] = node.get("translation", [0, 0, 0])
            assert number not in world
            world[number] = above @ local
            pending += [(child, world[number]) for child in node.get("children", [])]
        return world

    def skinned(self, time: float) -> dict[str, np.ndarray]:
        """The vertices of each skinned mesh in the scene."""
        world, found = self.world(time), dict[str, np.ndarray]()
        for node in self.document["nodes"]:
            if "skin" not in node:
                continue
            skin = self.document["skins"][node["skin"]]
            inverse = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
            matrices = np.stack([world[j] for j in skin["joints"]]) @ inverse
            mesh = self.document["meshes"][node["mesh"]]
            names = mesh["primitives"][0]["attributes"]
            x, weights = self.array(names["POSITION"]), self.array(names["WEIGHTS_0"])
            joints = self.array(names["JOINTS_0"]).astype(int)
            assert np.allclose(weights.sum(1), 1, atol=1e-6)
            each = np.einsum("vkab,vb->vka", matrices[joints], np.append(x, np.ones((len(x), 1)), 1))
            found[mesh["name"]] = (weights[..., None] * each).sum(1)[:, :3]
        return found


def test_an_animated_file_moves_as_the_body_does(tmp_path: Path, body: Body) -> None:
    person = walking(body)
    kept = save_rigged(tmp_path / "ann.glb", own(person), FPS)
    assert kept.most_share < 1e-6 and kept.vertices == 0
    file, expected = File.read(tmp_path / "ann.glb"), person.posed().vertices.numpy()
    for t in range(len(expected)):
        assert np.abs(file.skinned(t / FPS)[person.name] - expected[t]).max() < 1e-5


def test_between_frames_joints_turn_evenly(tmp_path: Path, body: Body) -> None:
    """Half way in time is half way along the arc: of the root, which turns about one axis all the time."""
    person = walking(body)
    pose = torch.zeros_like(person.pose)
    pose[:, 0] = person.pose[:, 0]
    still = replace(person, pose=pose, place=torch.zeros_like(person.place))
    save_rigged(tmp_path / "ann.glb", own(still), FPS)
    file, halves = File.read(tmp_path / "ann.glb"), (pose[:-1] + pose[1:]) / 2
    expected = body.posed(still.shape, halves, torch.zeros(len(halves), 3)).vertices.numpy()
    for t in range(len(halves)):
        assert np.abs(file.skinned((t + 0.5) / FPS)[person.name] - expected[t]).max() < 1e-4


def test_a_world_with_another_up_is_turned(tmp_path: Path, body: Body) -> None:
    """All heights above the ground stay, and so do all distances."""
    person = walking(body)
    for up in ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (0.6, 0.0, -0.8)):
        save_rigged(tmp_path / "ann.glb", own(person), FPS, up, force=True)
        file, expected = File.read(tmp_path / "ann.glb"), person.posed().vertices[2].double().numpy()
        found = file.skinned(2 / FPS)[person.name]
        assert np.abs(found[:, 1] - expected @ np.array(up)).max() < 1e-5
        spans = [np.linalg.norm(x[::500] - x[::-500][: len(x[::500])], axis=-1) for x in (found, expected)]
        np.testing.assert_allclose(spans[0], spans[1], atol=1e-5)
        assert file.document["asset"]["extras"]["world_up"] == list(up)


def test_frames_in_which_somebody_is_hidden_have_no_keys(tmp_path: Path, body: Body) -> None:
    person = walking(body)
    person.present[[0, 3]] = False
    person.pose[3], person.place[0] = torch.nan, torch.nan
    save_rigged(tmp_path / "ann.glb", own(person), FPS)
    file = File.read(tmp_path / "ann.glb")
    times = file.array(file.document["animations"][0]["samplers"][0]["input"])[:, 0]
    np.testing.assert_allclose(times * FPS, [1, 2, 4, 5], atol=1e-5)
    assert np.isfinite(file.skinned(3 / FPS)[person.name]).all()


def test_several_people_are_in_one_scene_and_others_read_it(tmp_path: Path, body: Body) -> None:
    people = [walking(body, seed=0), walking(body, seed=1)]
    save_rigged_scene(tmp_path / "all.glb", [own(person) for person in people], FPS)
    file = File.read(tmp_path / "all.glb")
    for person in people:
        expected = person.posed([4]).vertices[0].numpy()
        assert np.abs(file.skinned(4 / FPS)[person.name] - expected).max() < 1e-5
    assert len(file.document["animations"]) == 1 and len(file.document["skins"]) == 2
    surfaces, _ = read_surfaces(tmp_path / "all.glb")
    for surface, person in zip(surfaces, people, strict=True):
        first = person.posed([0]).vertices[0][person.body.faces].numpy()
        assert np.abs(surface.corners - first).max() < 1e-5, "who does not play it sees the first frame"
    scene = trimesh.load_scene(tmp_path / "all.glb", process=False)
    assert sorted(len(g.vertices) for g in scene.geometry.values()) == [len(body.vertices)] * 2
    assert {"pelvis", "hand_l"} <= {name.split("_1")[0] for name in scene.graph.nodes}


def test_weights_beyond_four_are_counted(tmp_path: Path) -> None:
    """A file differs from the body by no more than what was left out can move a vertex."""
    person = walking(makehuman())
    kept = save_rigged(tmp_path / "ann.glb", own(person), FPS)
    sums = person.body.weights.sort(dim=1, descending=True).values[:, :4].sum(1)
    assert kept.most_share == pytest.approx(1 - float(sums.min()), abs=1e-3)
    assert kept.vertices == pytest.approx(int((person.body.weights > 1e-4).sum(1).gt(4).sum()), abs=0)
    expected = person.posed([1]).vertices[0].numpy()
    off = np.linalg.norm(File.read(tmp_path / "ann.glb").skinned(1 / FPS)[person.name] - expected, axis=-1)
    whole = (1 - sums).numpy() < 1e-6
    assert off[whole].max() < 1e-4 and off.max() < 2 * kept.most_share


def test_quaternions_turn_as_scipy_says() -> None:
    pose = 3 * torch.randn(40, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = quaternions(pose)
    expected = Rotation.from_rotvec(pose.reshape(-1, 3).numpy()).as_matrix()
    np.testing.assert_allclose(Rotation.from_quat(found.reshape(-1, 4)).as_matrix(), expected, atol=1e-12)
    assert ((found[1:] * found[:-1]).sum(-1) >= 0).all()


def test_what_cannot_be_animated_is_said_in_a_line(tmp_path: Path, body: Body) -> None:
    person = own(walking(body))
    wrong: list[tuple[str, Rigged, str]] = [
        ("a.gltf", person, r"expected a name that ends in \.glb, found \.gltf"),
        ("a.glb", replace(person, present=torch.zeros(6, dtype=torch.bool)), "in which ann0 is present, found none"),
        ("a.glb", replace(person, place=torch.full((6, 3), torch.nan)), "finite numbers in the place of ann0"),
        ("a.glb", replace(person, skin=Skin(person.skin.index[:5], person.skin.weights[:5])), "13380 vertices"),
    ]
    for name, given, message in wrong:
        with pytest.raises(InputError, match=message):
            save_rigged(tmp_path / name, given, FPS)
    with pytest.raises(InputError, match="at least one person"):
        save_rigged_scene(tmp_path / "a.glb", [], FPS)
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------------- skin


def test_no_triangle_is_nearer_than_the_one_that_is_found() -> None:
    """Against all of them, one by one: among those that face the same way, and else among all."""
    shape = trimesh.creation.capsule(height=0.5, radius=0.1, count=[10, 8])
    flat = trimesh.creation.box((0.4, 0.4, 0.02))
    flat.apply_translation((0, 0, 0.8))
    both = trimesh.util.concatenate([shape, flat])
    surface = Mesh(np.asarray(both.vertices, np.float64), np.asarray(both.faces, np.int64))
    g = np.random.default_rng(0)
    x, normals = g.uniform(-0.4, 0.9, (200, 3)), unit(g.normal(size=(200, 3)))
    found = Triangles.of(surface).nearest(x, facing=normals, farther=0.05)
    on = (surface.corners()[found.face] * found.weights[..., None]).sum(1)
    np.testing.assert_allclose(on, found.points, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(on - x, axis=-1), found.distance, atol=1e-12)
    for i in range(len(x)):
        each = np.repeat(x[i : i + 1], len(surface), 0)
        away = np.linalg.norm(trimesh.triangles.closest_point(surface.corners(), each) - each, axis=-1)
        same = surface.normals() @ normals[i] >= 0
        agreeing = away[same].min()
        expected = agreeing if agreeing <= away.min() + 0.05 else away.min()
        assert found.distance[i] == pytest.approx(expected, abs=1e-9)


def dense_weights(skin: Skin) -> Tensor:
    return skin.dense(22).double()


def test_a_bodys_own_vertices_have_its_own_weights() -> None:
    whole = makehuman()
    surface = Mesh(whole.vertices.double().numpy(), whole.faces.numpy())
    found = dense_weights(skin_of(surface, whole.vertices, whole))
    assert float((found - dense_weights(Skin(whole.weight_index, whole.weights))).abs().max()) < 2e-4


def around(body: Body, distance: float) -> tuple[Mesh, Tensor]:
    """A closed surface so far outside of the body that every vertex of it has a vertex of the body, whose it is."""
    at = Mesh(body.vertices.double().numpy(), body.faces.numpy())
    return replace(at, vertices=at.vertices + distance * at.vertex_normals()), dense_weights(
        Skin(body.weight_index, body.weights)
    )


def test_vertices_slightly_off_the_surface_have_nearly_its_weights(body: Body) -> None:
    surface, expected = around(body, 0.002)
    found = dense_weights(skin_of(surface, body.vertices, body))
    off = (found - expected).abs().sum(1)
    assert float(off.mean()) < 0.005 and float(off.quantile(0.99)) < 0.05
    assert torch.allclose(found.sum(1), torch.ones(len(found), dtype=torch.float64))


def test_cloth_keeps_its_distance_when_the_body_moves(body: Body) -> None:
    """A surface of other vertices than the body's, 8 mm outside of it, with weights of its own."""
    cloth = simplified(around(body, 0.008)[0], 3000)
    skin = skin_of(cloth, body.vertices, body)
    bent = walking(body, frames=1)
    person = replace(bent, shape=torch.zeros(body.shapes), pose=0.6 * bent.pose)
    ((_, posed),) = posed_meshes(person, cloth, skin)
    still, moved = (
        nearest(at, Mesh(under.double().numpy(), body.faces.numpy())).distance
        for at, under in ((cloth, body.vertices), (posed, person.posed().vertices[0]))
    )
    change = np.abs(moved - still)
    assert change.mean() < 0.0005 and np.quantile(change, 0.98) < 0.004


def test_a_hand_beside_a_thigh_does_not_follow_it() -> None:
    """Two slabs: cloth of the hand, 1 cm outside of it, is nearer to the thigh than to the hand."""
    thigh, hand = trimesh.creation.box((0.1, 0.6, 0.4)), trimesh.creation.box((0.03, 0.2, 0.1))
    hand.apply_translation((0.05 + 0.015 + 0.015, 0, 0))  # a gap of 15 mm
    both = trimesh.util.concatenate([thigh, hand])
    index = torch.tensor([0] * 8 + [1] * 8)[:, None]
    x = torch.from_numpy(np.asarray(both.vertices)).float()
    none = torch.zeros(16, 3, 1)
    two = Body("two", ("thigh", "hand"), (-1, 0), x, none, torch.zeros(2, 3), torch.zeros(2, 3, 1),
               torch.from_numpy(np.asarray(both.faces)).long(), index, torch.ones(16, 1),
               torch.zeros(17, dtype=torch.long))  # fmt: skip
    cloth = trimesh.creation.box((0.05, 0.22, 0.12)).subdivide()
    cloth.apply_translation((0.08, 0, 0))
    sleeve = Mesh(np.asarray(cloth.vertices, np.float64), np.asarray(cloth.faces, np.int64))
    facing = sleeve.vertex_normals()[:, 0] < -0.9
    nearer = Triangles.of(Mesh(x.double().numpy(), two.faces.numpy())).nearest(sleeve.vertices).face < 12
    assert facing.any() and nearer[facing].all(), "without the normals they would go with the thigh"
    found = skin_of(sleeve, x, two).dense(2)
    assert float(found[:, 0].max()) < 1e-6


def test_far_clothes_change_gradually(body: Body) -> None:
    """A skirt: between the legs, weights pass from one thigh to the other over several vertices, not from one to the
    next; and stay where the body is near.
    """
    skirt = trimesh.creation.capsule(height=0.3, radius=0.3, count=[96, 48])
    skirt.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, (1, 0, 0), (0, 0, 0)))
    skirt.apply_translation((0, 0.55, 0))
    cloth = Mesh(np.asarray(skirt.vertices, np.float64), np.asarray(skirt.faces, np.int64))
    found = skin_of(cloth, body.vertices, body).dense(22).numpy()
    between = (np.abs(cloth.vertices[:, 0]) < 0.1) & (np.abs(cloth.vertices[:, 1] - 0.65) < 0.15)
    a, b = np.unique(edges(cloth.faces)[0], axis=0).T
    jump = np.abs(found[a] - found[b]).sum(1)[between[a] & between[b]].max()
    assert jump < 0.7, "of 2, which is one joint alone and then another"


# --------------------------------------------------------------------------------------------------- meshes, textures


def test_posed_meshes_are_the_posed_body_file_by_file(tmp_path: Path) -> None:
    """Read by trimesh, in metres, in the world."""
    person = walking(makehuman(), frames=4)
    person.present[1] = False
    skin = Skin(person.body.weight_index, person.body.weights)
    assert save_posed_meshes(tmp_path / "ann", person, mesh_of(person), skin, up=(0.0, 0.0, 1.0)) == 3
    assert sorted(p.name for p in (tmp_path / "ann").iterdir()) == ["0000.ply", "0002.ply", "0003.ply"]
    expected = person.posed([2]).vertices[0].numpy()
    found = trimesh.load_mesh(tmp_path / "ann" / "0002.ply", process=False)
    np.testing.assert_allclose(np.asarray(found.vertices), expected, atol=1e-5)
    assert b"up is 0 0 1" in (tmp_path / "ann" / "0002.ply").read_bytes()[:400]
    with pytest.raises(InputError, match="use --force"):
        save_posed_meshes(tmp_path / "ann", person, mesh_of(person), skin)
    with pytest.raises(InputError, match="name of a mesh, which ends in"):
        save_posed_meshes(tmp_path / "b", person, mesh_of(person), skin, ".stl")
    person.present[:] = False
    with pytest.raises(InputError, match="ann0 is present, found none"):
        save_posed_meshes(tmp_path / "b", person, mesh_of(person), skin)
    assert [p.name for p in tmp_path.iterdir()] == ["ann"]


def stripes(x: Tensor, normal: Tensor) -> Tensor:
    """Colours of the place and of the normal, which no vertex colour of a coarse mesh could hold."""
    return torch.stack([0.5 + 0.4 * torch.sin(20 * x[:, 1]), 0.5 + 0.4 * normal[:, 0], 0.5 + 0.4 * normal[:, 2]], -1)


def test_a_texture_shows_the_colour_of_each_point(tmp_path: Path) -> None:
    """Of a ball, where points and normals are known: looked at in the file that others open."""
    shape = trimesh.creation.icosphere(subdivisions=3)
    ball = textured(Mesh(np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64)), stripes, 512)
    save_mesh(ball, tmp_path / "ball.glb")
    parts, _ = read_surfaces(tmp_path / "ball.glb")
    g = np.random.default_rng(0)
    d = unit(g.normal(size=(500, 3)))
    seen = Caster(parts).look(3 * d, -d.astype(np.float32))
    expected = stripes(torch.from_numpy(d).float(), torch.from_numpy(d).float()).numpy()
    assert (seen[:, 3] == 1).all() and np.abs(seen[:, :3] - expected).mean() < 0.015
    assert ball.colors is not None
    at = stripes(*[torch.from_numpy(np.array(shape.vertices)).float()] * 2).numpy()
    assert np.abs(ball.colors / 255 - at).max() < 0.03


def test_a_textured_person_moves_in_a_file(tmp_path: Path, body: Body) -> None:
    """Vertices that a seam doubles take the weights of the one that they are."""
    person = walking(body, frames=2)
    mesh = textured(mesh_of(person), stripes, 1024)
    skin = Skin(body.weight_index, body.weights)
    save_rigged(tmp_path / "ann.glb", rigged(person, mesh, skin), FPS)
    file = File.read(tmp_path / "ann.glb")
    primitive = file.document["meshes"][0]["primitives"][0]
    index = file.array(primitive["indices"])[:, 0].astype(int)
    expected = person.posed([1]).vertices[0].numpy()[body.faces.numpy().reshape(-1)]
    assert np.abs(file.skinned(1 / FPS)[person.name][index] - expected).max() < 1e-5
    assert "TEXCOORD_0" in primitive["attributes"] and file.document["images"][0]["mimeType"] == "image/png"


# ----------------------------------------------------------------------------------------------------------- pictures


def test_masks_are_labels_in_a_palette(tmp_path: Path) -> None:
    """Read by Pillow: numbers are the labels, colours those of the overlays."""
    labels = torch.zeros(5, 7, dtype=torch.uint8)
    labels[1:4, 1:3], labels[2:, 4:] = 1, 2
    save_masks(tmp_path / "masks", [labels, labels.flip(0)])
    with Image.open(tmp_path / "masks" / "0001.png") as picture:
        assert picture.mode == "P" and picture.size == (7, 5)
        assert np.array_equal(np.array(picture), labels.flip(0).numpy())
        rgb = np.array(picture.convert("RGB"))
    assert np.array_equal(rgb, palette()[labels.flip(0).long()].numpy())
    assert len({tuple(c) for c in palette(8).tolist()}) == 8
    with pytest.raises(InputError, match="at least one frame of labels"):
        save_masks(tmp_path / "none", [])


def test_an_overlay_tints_people_and_leaves_the_rest() -> None:
    frame = torch.full((9, 9, 3), 100, dtype=torch.uint8)
    labels = torch.zeros(9, 9, dtype=torch.uint8)
    labels[2:7, 2:7] = 2
    shown = overlay(frame, labels)
    assert (shown[labels == 0] == 100).all(), "nothing outside"
    assert torch.equal(shown[2, 2], palette()[2]) and torch.equal(shown[4, 6], palette()[2]), "outlined"
    tinted = 100 + TINT * (palette()[2].float() - 100)
    assert (shown[4, 4].float() - tinted).abs().max() <= 0.5


def test_depth_and_normals_as_colours() -> None:
    depth = torch.tensor([[1.0, 2.0, 3.0, torch.inf]])
    grey = depth_picture(depth)[0, :, 0]
    assert grey[0] == 1 and grey[3] == 0 and grey[0] - grey[1] == pytest.approx(float(grey[1] - grey[2]))
    assert torch.equal(depth_picture(depth, (1.0, 5.0))[0, 2], torch.full((3,), 0.6))
    assert float(depth_picture(torch.full((2, 2), torch.inf)).max()) == 0
    normals = torch.tensor([[[0.0, 0.0, 1.0], [-2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    expected = torch.tensor([[[0.5, 0.5, 1.0], [0.0, 0.5, 0.5], [1.0, 1.0, 1.0]]])
    assert torch.allclose(normal_picture(normals), expected)


@pytest.mark.parametrize(("frames", "expected"), [(0, []), (1, [0]), (3, [0, 1, 2]), (15, [0, 2, 4, 6, 8, 10, 12, 14])])
def test_frames_of_a_sheet_are_spread_over_all(frames: int, expected: list[int]) -> None:
    assert chosen(frames) == expected


def view(value: int = 0, people: int = 2) -> View:
    """A frame whose panels have a flat colour each."""
    frame = torch.full((20, 30, 3), 10 + value, dtype=torch.uint8)
    alone = [torch.tensor([0.2 * (k + 1), 0.0, 0.0, 1.0]).expand(20, 30, 4) for k in range(people)]
    depth, labels = torch.full((20, 30), 2.0 + value), torch.ones(20, 30, dtype=torch.uint8)
    return View(frame, torch.full((20, 30, 3), 0.5), alone, torch.ones(20, 30, 3), depth, labels)


def test_panels_show_what_they_say() -> None:
    found = panels(view(), ["ann", "bob"])
    names = ["input", "who is where", "reconstruction", "ann alone", "bob alone", "normals", "depth"]
    assert list(found) == names
    assert found["input"].unique().tolist() == [10] and found["reconstruction"].unique().tolist() == [128]
    assert found["ann alone"][0, 0].tolist() == [51, 0, 0] and found["bob alone"][0, 0].tolist() == [102, 0, 0]
    bare = View(view().frame, view().rendering)
    assert list(panels(bare, ["ann"])) == ["input", "reconstruction"]
    clear = replace(view(), alone=[torch.zeros(20, 30, 4)])
    assert (panels(clear, ["ann"])["ann alone"] == 255).all(), "what is empty is white, whatever its colour"


def test_a_table_has_every_picture_in_its_place_and_words_around() -> None:
    """Cells are 6 times as large, so that their columns have room for words; between them is white."""
    rows = [[torch.full((20, 30, 3), 10 * (2 * i + j) + 40, dtype=torch.uint8) for j in range(2)] for i in range(3)]
    made = table(rows, ["left", "right"], ["one", "two", "three"])
    margin = made.shape[1] - 2 * (180 + GAP)
    for i in range(3):
        for j in range(2):
            y, x = 2 * GAP + TEXT + i * (120 + GAP), margin + j * (180 + GAP)
            assert made[y : y + 120, x : x + 180].unique().tolist() == [10 * (2 * i + j) + 40]
    above, beside = made[: 2 * GAP + TEXT - 1, margin:], made[2 * GAP + TEXT :, : margin - 1]
    for words in (above[:, :180], above[:, 188:], beside[:120], beside[128:248]):
        assert 0.01 < (words < 128).float().mean() < 0.5
    assert (made[:, -GAP + 1 :] == 255).all() and (made[-GAP + 1 :] == 255).all()
    wide = table([[torch.zeros(1080, 1920, 3, dtype=torch.uint8)]], [""], [""])
    assert wide.shape == (2 * GAP + TEXT + 144 + GAP, 2 * GAP + 256, 3)


def test_long_words_end_in_dots() -> None:
    assert shortened("ann alone", 200) == "ann alone"
    short = shortened("somebody with a very long name alone", 100)
    assert short.startswith("somebody") and short.endswith("…")


def test_sheets_and_films(tmp_path: Path) -> None:
    """Written, read with others' readers; a film's frames are made when they are asked for, and all of one size."""
    views = {t: view(t) for t in (0, 3)}
    save_sheet(tmp_path / "sheet.png", views, ["ann", "bob"], FPS)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 7 * 180 and sheet.size[1] > 2 * 120
    save_film(tmp_path / "film.mp4", (view(t) for t in range(5)), ["ann", "bob"], 12, (2.0, 6.0))
    width, height = next(iter(film([view()], ["ann", "bob"]))).shape[1::-1]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "film.mp4"), "-f", "rawvideo", "-pix_fmt", "rgb24"]
    done = subprocess.run([*command, "-"], capture_output=True, check=True)
    frames = np.frombuffer(done.stdout, np.uint8).reshape(5, height + height % 2, width + width % 2, 3).astype(int)
    assert b"12 fps" in done.stderr and width > 4 * 180
    assert abs(frames[4, 100, 40, 0] - frames[0, 100, 40, 0] - 4) <= 2, "the input, whose grey rises"
    with pytest.raises(InputError, match="at least one frame"):
        save_sheet(tmp_path / "none.png", {}, [], FPS)


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    """Units in the keys, null where there is no number."""
    person = OfPerson("ann", 5, 100, 196, Kept(2, 0.001, 0.02))
    made = Report("clip.mp4", 6, FPS, 320, 240, (person,), {"poses": 1.5}, metrics={"psnr_db": float("inf")})
    write_report(made, tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["people"] == [{"name": "ann", "frames_present": 5, "vertices": 100, "faces": 196,
                               "rig": {"vertices": 2, "mean_share": 0.001, "most_share": 0.02},
                               "begun": None, "sure": None}]  # fmt: skip
    assert told["metrics"] == {"psnr_db": None} and told["seconds"] == {"poses": 1.5} and told["width_px"] == 320
    with pytest.raises(InputError, match="use --force"):
        write_report(made, tmp_path / "report.json")
