"""Fields to meshes and back: shapes, colours and frames that are known exactly, and files that others read."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from click.testing import CliRunner
from torch import Tensor

import fieldcast
from fieldcast.cli import cli
from fieldcast.distill import meshing, scenes
from fieldcast.distill.fidelity import comparison_views
from fieldcast.distill.meshing import MeshSizes, mesh_of, mesh_sizes
from fieldcast.distill.meshing.decimation import cut_apart, proper, pulled_apart, simplified, uncrossed
from fieldcast.distill.meshing.opacity import Grid, opacity_grid
from fieldcast.distill.meshing.paint import seen_sides, spread
from fieldcast.distill.meshing.report import chamfer, likeness
from fieldcast.distill.meshing.source import cells_of
from fieldcast.distill.meshing.surface import level_set, without_holes
from fieldcast.distill.meshing.unwrap import barycentric, rasterized, unwrap
from fieldcast.distill.report import report, write_report
from fieldcast.distill.scenes import How, convert_scene
from fieldcast.distill.views import spec_in
from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields import Field, Space, build, default_spec
from fieldcast.fields.files import open_field
from fieldcast.fields.files.mesh import save_mesh
from fieldcast.fields.mesh import Mesh, groups, neighbors, topology
from fieldcast.fields.scenes import mesh as mesh_scenes
from fieldcast.fields.scenes.mesh import Caster, Surfaces, read_surfaces
from fieldcast.fields.scenes.surfaces import Surface
from fieldcast.fields.splats import Splats

BOX = Space((-1.0, -1.5, 2.0, 1.0, 0.5, 4.0))
MIDDLE = torch.tensor([0.1, -0.6, 3.05])
RADIUS, SIDE = 0.6, 0.9
STEEP = 60.0
AT_HALF = math.log(STEEP * math.log(2))  # the log density at which the depth below it, sigma / STEEP, is log 2
RED, BLUE = (0.9, 0.2, 0.1), (0.1, 0.3, 0.8)
SMALL = MeshSizes(resolution=48, faces=3000, texture=256)


class Solid(Field):
    """A field that is what two functions say: how far inside a point is, world units, and its colour."""

    def __init__(self, inside: Callable[[Tensor], Tensor], paint: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(default_spec("vm", space=BOX, occupancy=32, steps=128))
        self.inside, self.paint = inside, paint

    def features(self, x: Tensor) -> Tensor:
        """The density rises as exp(STEEP x): half of the light ends before x = 0, where `inside` is 0."""
        return torch.cat([(STEEP * self.inside(x) + AT_HALF).clamp(-5, 5.5)[:, None], x], -1)

    def color(self, features: Tensor, d: Tensor) -> Tensor:
        return self.paint(features[:, 1:], d)


def inside_ball(x: Tensor) -> Tensor:
    return RADIUS - (x - MIDDLE).norm(dim=-1)


def inside_cube(x: Tensor) -> Tensor:
    return SIDE / 2 - (x - MIDDLE).abs().amax(-1)


def two_colors(x: Tensor, d: Tensor) -> Tensor:
    return torch.where(x[:, :1] > MIDDLE[0], x.new_tensor(RED), x.new_tensor(BLUE))


def look(surfaces: list[Surface], x: list[float], d: list[float]) -> list[float]:
    """What one ray sees: sRGB and alpha."""
    return Caster(surfaces).look(np.array([x], float), np.float32([d]))[0].tolist()


def from_trimesh(shape: Any) -> Mesh:
    return Mesh(np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64))


@pytest.fixture(scope="module", autouse=True)
def few_rays() -> Iterator[None]:
    """Seconds instead of minutes: what is looked at here is simple."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meshing, "VIEWS", 8)
        patch.setattr(meshing, "PIXELS", 64)
        yield


@pytest.fixture(scope="module")
def ball(few_rays: None) -> Mesh:
    return mesh_of(Solid(inside_ball, two_colors), SMALL)[0]


# ----------------------------------------------------------------------------------------------------------- shape


def test_a_ball_is_where_it_was_and_as_large(ball: Mesh) -> None:
    shape, cell = topology(ball), 2 / SMALL.resolution
    assert shape.watertight and shape.components == 1 and len(ball) <= SMALL.faces
    radius = np.linalg.norm(ball.vertices - MIDDLE.numpy(), axis=-1)
    assert abs(radius.mean() - RADIUS) < cell / 2 and radius.std() < cell / 8
    assert shape.volume == pytest.approx(4 / 3 * math.pi * radius.mean() ** 3, rel=0.02)


def test_the_level_is_where_the_density_has_it() -> None:
    """The density at the vertices is the one that is reported, but for what the grid smooths."""
    field = Solid(inside_ball, two_colors)
    mesh, level = mesh_of(field, MeshSizes(resolution=96, faces=100_000, texture=512), textured=False)
    depth = inside_ball(torch.from_numpy(mesh.vertices).float())
    expected = (math.log(level.density * BOX.unit) - AT_HALF) / STEEP
    assert float((depth - expected).abs().max()) < 1 / 96
    assert level.opacity == pytest.approx(1 - math.exp(-level.density * 2 / 96))
    assert min(error for _, error in level.tried) == level.error < 2 / 96


def test_a_cube_keeps_its_faces_flat() -> None:
    mesh, _ = mesh_of(Solid(inside_cube, two_colors), SMALL, textured=False)
    shape, cell = topology(mesh), 2 / SMALL.resolution
    assert shape.watertight and shape.components == 1
    low, high = mesh.vertices.min(0) - MIDDLE.numpy(), mesh.vertices.max(0) - MIDDLE.numpy()
    np.testing.assert_allclose(np.stack([-low, high]), SIDE / 2, atol=cell / 2)
    normals = mesh.normals()
    flat = np.abs(normals).max(-1) > 0.99 * np.linalg.norm(normals, axis=-1)
    assert np.linalg.norm(normals[flat], axis=-1).sum() > 0.75 * np.linalg.norm(normals, axis=-1).sum()


def test_what_nobody_sees_is_left_out() -> None:
    """A hollow ball with another one in it is a ball; specks that no ray meets are not there."""

    def hollow(x: Tensor) -> Tensor:
        r = (x - MIDDLE).norm(dim=-1)
        return torch.maximum(torch.minimum(RADIUS - r, r - 0.4), 0.2 - r)

    mesh, _ = mesh_of(Solid(hollow, two_colors), SMALL, textured=False)
    assert topology(mesh).components == 1
    assert np.linalg.norm(mesh.vertices - MIDDLE.numpy(), axis=-1).min() > 0.5


def test_haze_that_the_teacher_lets_light_through_is_left_out() -> None:
    """A sheet above the ball whose density of 100 is above the level, so thin that four fifths of the light pass."""
    log_density, half, height = math.log(100), 0.001, 2 + 43.5 / 24

    def with_sheet(x: Tensor) -> Tensor:
        sheet = torch.where((x[:, 2] - height).abs() < half, (log_density - AT_HALF) / STEEP, -1.0)
        return torch.maximum(inside_ball(x), sheet)

    field = Solid(with_sheet, two_colors)
    field.spec = replace(field.spec, steps=2048)
    mesh, level = mesh_of(field, SMALL, textured=False)
    grid = opacity_grid(field, SMALL.resolution)
    assert level.opacity < grid.values[24, 24, 43], "the level would have it"
    assert mesh.vertices[:, 2].max() < 3.75


def test_the_grid_is_asked_only_where_the_field_is_occupied() -> None:
    field, asked = Solid(inside_ball, two_colors), []
    cells = torch.zeros(32, 32, 32, dtype=torch.bool)
    cells[8:24, 8:24, 8:16] = True
    field.occupancy = fieldcast.fields.Occupancy.of_cells(cells)
    field.features = lambda x: asked.append(x) or Solid.features(field, x)  # type: ignore[method-assign]
    grid = opacity_grid(field, 64)
    assert sum(map(len, asked)) == 32 * 32 * 16
    assert bool(field.mask(torch.cat(asked)).all())
    assert grid.values.shape == (64, 64, 64) and grid.cell == pytest.approx(2 / 64)
    assert grid.values[40, 32, 4] == 0 < grid.values[32, 32, 30]


def test_a_box_that_is_no_cube_has_cubic_cells() -> None:
    field = Solid(inside_ball, two_colors)
    field.spec = replace(field.spec, space=Space((-1.0, -1.4, 2.2, 1.0, 0.3, 3.9)))
    grid = opacity_grid(field, 40)
    assert grid.values.shape == (40, 34, 34) and grid.cell == pytest.approx(0.05)
    np.testing.assert_allclose(grid.origin, [-0.975, -1.375, 2.225])


def test_cavities_are_filled() -> None:
    values = np.zeros((7, 7, 7), np.float32)
    values[1:6, 1:6, 1:6] = 0.9
    values[3, 3, 3] = 0
    grid = Grid(values, np.zeros(3), 1.0)
    assert topology(level_set(grid, 0.5)).components == 2
    assert topology(level_set(without_holes(grid, 0.5), 0.5)).components == 1
    values[3, 3, 4:] = 0  # a channel to the outside: light gets there
    assert without_holes(grid, 0.5).values[3, 3, 3] == 0


# ------------------------------------------------------------------------------------------------------ decimation


def test_fewer_faces_stay_closed() -> None:
    fine = from_trimesh(trimesh.creation.icosphere(subdivisions=5))
    coarse = simplified(fine, 1000)
    assert len(coarse) <= 1000 and topology(coarse).watertight
    assert topology(coarse).volume == pytest.approx(topology(fine).volume, rel=0.02)


def touching_tetrahedra() -> Mesh:
    """Two of them that share an edge and nothing else."""
    vertices = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0.5], [1, 1, 0.5], [-1, 0, 0.5], [-1, -1, 0.5]], float)
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2], [0, 1, 4], [0, 5, 1], [0, 4, 5], [1, 5, 4]])
    return Mesh(vertices, faces)


def test_solids_that_touch_in_an_edge_are_cut_apart() -> None:
    mesh = touching_tetrahedra()
    assert topology(mesh).crossed_edges == 1
    apart = cut_apart(mesh)
    assert topology(apart).watertight and topology(apart).components == 2
    assert topology(apart).volume == pytest.approx(topology(mesh).volume)
    merged = trimesh.Trimesh(pulled_apart(apart).vertices, apart.faces, process=True)
    assert merged.is_watertight, "whoever merges vertices that lie in one place finds it closed too"


def test_edges_that_cannot_be_cut_apart_are_doubled() -> None:
    mesh = touching_tetrahedra()
    doubled = uncrossed(mesh)
    assert topology(doubled).watertight and len(doubled) == len(mesh) + 4
    assert topology(doubled).volume == pytest.approx(topology(mesh).volume)


def test_open_meshes_stay_as_they_are() -> None:
    """Cutting apart neither closes a hole nor opens one."""
    box = from_trimesh(trimesh.creation.box())
    mesh = box.subset(np.arange(12) > 0)
    assert topology(cut_apart(mesh)) == topology(mesh) and topology(mesh).open_edges == 3


def test_faces_that_enclose_nothing_are_dropped() -> None:
    faces = np.array([[0, 1, 2], [0, 2, 1], [0, 1, 3], [1, 1, 2]])
    assert proper(Mesh(np.zeros((4, 3)), faces)).tolist() == [False, False, True, False]


def test_topology_of_known_shapes() -> None:
    torus = from_trimesh(trimesh.creation.torus(1, 0.3))
    two = Mesh(np.concatenate([torus.vertices, torus.vertices + 5]), np.concatenate([torus.faces] * 2))
    two.faces[len(torus) :] += len(torus.vertices)
    assert topology(two).components == 2 and topology(two).watertight
    assert topology(two).volume == pytest.approx(2 * trimesh.creation.torus(1, 0.3).volume)
    assert groups(4, np.array([[0, 2], [2, 3]])).tolist() == [0, 1, 0, 0]
    assert len(neighbors(torus.faces)) == 3 * len(torus) / 2


# ---------------------------------------------------------------------------------------------------------- colour


def test_colors_are_the_fields(ball: Mesh) -> None:
    """Red in front, blue behind, as the field says; not darker, though the surface is soft."""
    surfaces, (x, y, z) = [ball.surface()], MIDDLE.tolist()
    assert look(surfaces, [x + 3, y, z], [-1, 0, 0]) == pytest.approx([*RED, 1], abs=0.01)
    assert look(surfaces, [x - 3, y, z], [1, 0, 0]) == pytest.approx([*BLUE, 1], abs=0.01)
    for side, color in ((0.1, RED), (-0.1, BLUE)):
        for axis in (1, 2):
            start, d = [x + side, y, z], [0.0, 0.0, 0.0]
            start[axis], d[axis] = start[axis] + 3, -1.0
            assert look(surfaces, start, d) == pytest.approx([*color, 1], abs=0.01)


def test_colors_that_depend_on_the_direction_are_those_from_outside() -> None:
    """A ball that shows each side its own colour: what is painted is near what is seen from straight above."""

    def outward(x: Tensor, d: Tensor) -> Tensor:
        return 0.5 - 0.4 * d

    mesh, _ = mesh_of(Solid(inside_ball, outward), SMALL, textured=False)
    assert mesh.colors is not None
    normal = (mesh.vertices - MIDDLE.numpy()) / np.linalg.norm(mesh.vertices - MIDDLE.numpy(), axis=-1, keepdims=True)
    error = np.abs(mesh.colors / 255 - (0.5 + 0.4 * normal))
    assert error.mean() < 0.08 and error.max() < 0.4


def test_hidden_cameras_do_not_count() -> None:
    """A face under a lid is looked at from the side that is open, not through the lid."""
    floor = trimesh.creation.box((1, 1, 0.1))
    lid = trimesh.creation.box((8, 8, 0.1))
    lid.apply_translation((0, 0, 1))
    mesh = from_trimesh(trimesh.util.concatenate([floor, lid]))
    up = (mesh.normals()[:, 2] > 0) & (np.arange(len(mesh)) < 12)
    sides = seen_sides(mesh, np.array([[0.0, 0, 6], [10.0, 0, 0.9]]), 0.01)
    assert (sides.eyes[up, 0] == [10.0, 0, 0.9]).all() and (sides.share[up, 0] == 1).all()
    down = (mesh.normals()[:, 2] < 0) & (np.arange(len(mesh)) < 12)
    assert (sides.share[down].max(-1) == 1).all() and (sides.eyes[down, 0, 2] < 0).all(), "seen by none: from above it"


def test_texture_coordinates(ball: Mesh) -> None:
    assert ball.uv is not None and ball.texture is not None
    assert ball.uv.min() >= 0 and ball.uv.max() <= 1 and ball.texture.shape == (256, 256, 3)
    assert ball.colors is not None and ball.colors.shape == ball.vertices.shape


def test_charts_do_not_overlap_and_keep_their_distance() -> None:
    """On a knot, which folds over itself from each axis."""
    mesh = from_trimesh(trimesh.creation.torus(1, 0.4, major_sections=40, minor_sections=20))
    at, texels = unwrap(mesh, 256)
    assert len(np.unique(texels.place)) == len(texels.place) > 256**2 / 5
    everything = rasterized(at, 256)
    inner = everything.weight.min(-1) > 1e-3
    assert len(np.unique(everything.place[inner])) == inner.sum()
    spots = np.stack([texels.place % 256, texels.place // 256], -1) + 0.5
    again = (at[texels.face] * texels.weight[..., None]).sum(1)
    np.testing.assert_allclose(again, spots, atol=1e-3)
    lengths = [np.linalg.norm(c[:, [1, 2, 0]] - c, axis=-1).max(-1) for c in (at, mesh.corners())]
    ratio = lengths[0] / lengths[1]
    assert ratio.min() > 0.4 * ratio.max(), "no face gets far fewer texels than another"


def test_barycentric_weights_make_the_points() -> None:
    generator = np.random.default_rng(0)
    corners, points = generator.random((50, 3, 2)), generator.random((50, 2))
    weight = barycentric(corners, points)
    np.testing.assert_allclose(weight.sum(-1), 1)
    np.testing.assert_allclose((corners * weight[..., None]).sum(1), points, atol=1e-9)
    assert np.isnan(barycentric(np.zeros((1, 3, 2)), np.zeros((1, 2)))).any()


def test_seams_are_padded() -> None:
    picture = spread(np.array([9, 54]), np.float32([[1, 0, 0], [0, 0, 1]]), 8)
    assert picture[1, 1].tolist() == picture[0, 0].tolist() == picture[2, 3].tolist() == [255, 0, 0]
    assert picture[6, 6].tolist() == picture[7, 7].tolist() == [0, 0, 255]


# ----------------------------------------------------------------------------------------------------------- files


def colored(ball: Mesh) -> Mesh:
    return replace(ball, colors=np.tile(np.uint8([200, 100, 50]), (len(ball.vertices), 1)))


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
def test_files_hold_the_mesh_in_its_world_frame(tmp_path: Path, ball: Mesh, suffix: str) -> None:
    """Read with our own reader of others' files, corner by corner, and with trimesh."""
    path = tmp_path / f"ball{suffix}"
    save_mesh(colored(ball), path)
    surfaces, warnings = read_surfaces(path)
    assert len(surfaces) == 1 and not warnings
    np.testing.assert_allclose(surfaces[0].corners, ball.corners(), atol=1e-6)
    other = trimesh.load_mesh(path, process=False)
    other.merge_vertices(merge_tex=True, merge_norm=True)
    assert other.is_watertight and other.volume == pytest.approx(topology(ball).volume, rel=1e-4)
    x, y, z = MIDDLE.tolist()
    seen = look(surfaces, [x + 3, y, z], [-1, 0, 0])
    assert seen == pytest.approx([200 / 255, 100 / 255, 50 / 255, 1] if suffix == ".ply" else [*RED, 1], abs=0.01)


def test_gltf_says_what_it_means(tmp_path: Path, ball: Mesh) -> None:
    save_mesh(replace(ball, up=(0.0, 1.0, 0.0)), tmp_path / "ball.glb")
    data = (tmp_path / "ball.glb").read_bytes()
    document = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    assert int.from_bytes(data[8:12], "little") == len(data)
    assert document["asset"]["extras"]["up"] == [0, 1, 0]
    assert "matrix" not in document["nodes"][0] and "rotation" not in document["nodes"][0]
    assert document["extensionsUsed"] == ["KHR_materials_unlit"]
    assert "baseColorFactor" not in document["materials"][0]["pbrMetallicRoughness"], "1, whether linear or not"
    np.testing.assert_allclose(document["accessors"][1]["min"], ball.vertices.min(0), atol=1e-6)


def test_no_file_is_left_half_written(tmp_path: Path, ball: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.suffix == ".png":
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FieldcastError, match="disk full while writing"):
        save_mesh(ball, tmp_path / "ball.obj")
    assert list(tmp_path.iterdir()) == []


def test_files_beside_an_obj_are_not_replaced(tmp_path: Path, ball: Mesh) -> None:
    (tmp_path / "ball.mtl").write_text("mine")
    with pytest.raises(InputError, match=r"ball\.mtl exists; use --force"):
        save_mesh(ball, tmp_path / "ball.obj")
    assert [p.name for p in tmp_path.iterdir()] == ["ball.mtl"]
    save_mesh(ball, tmp_path / "ball.obj", force=True)
    assert {p.name for p in tmp_path.iterdir()} == {"ball.obj", "ball.mtl", "ball.png"}


def test_wrong_names_and_meshes_without_colors(tmp_path: Path, ball: Mesh) -> None:
    with pytest.raises(InputError, match=r"a\.stl: expected the name of a mesh, which ends in \.glb, \.obj, \.ply"):
        save_mesh(ball, tmp_path / "a.stl")
    with pytest.raises(InputError, match="expected a mesh with colours at its vertices"):
        save_mesh(replace(ball, colors=None), tmp_path / "a.ply")
    with pytest.raises(InputError, match="expected a mesh with a texture"):
        save_mesh(Mesh(ball.vertices, ball.faces), tmp_path / "a.glb")


def test_sizes() -> None:
    assert mesh_sizes({"faces": "5000"}) == MeshSizes(faces=5000)
    with pytest.raises(InputError, match="mesh has no size 'levels'; its sizes are resolution, faces, texture"):
        mesh_sizes({"levels": "3"})
    with pytest.raises(InputError, match="sizes of mesh: "):
        mesh_sizes({"resolution": "1"})


def test_too_few_texels_for_the_charts() -> None:
    many = trimesh.util.concatenate([trimesh.creation.box().apply_translation((3 * i, 0, 0)) for i in range(200)])
    with pytest.raises(InputError, match="texture=64: too small for 1200 charts; give more texels or fewer faces"):
        unwrap(from_trimesh(many), 64)


def test_an_empty_field_is_said_to_be() -> None:
    with pytest.raises(FieldcastError, match="the field is empty"):
        mesh_of(Solid(lambda x: x.new_full((len(x),), -1.0), two_colors), SMALL)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(FieldcastError, match="pip install fast-simplification"):
        simplified(from_trimesh(trimesh.creation.icosphere()), 100)


# ---------------------------------------------------------------------------------------------------------- report


def test_likeness_of_a_ball_and_a_larger_one() -> None:
    """The field's surface is where its density stops light; a mesh 0.1 outside of it is 0.1 away."""
    field = Solid(inside_ball, two_colors)
    shape = trimesh.creation.icosphere(subdivisions=5, radius=RADIUS + 0.1)
    shape.apply_translation(MIDDLE.tolist())
    larger = from_trimesh(shape)
    like = likeness(field, larger.surfaces(), comparison_views(field, 2, 0, longest=60))
    assert like.chamfer.field_to_mesh == pytest.approx(0.1, abs=0.03)
    assert like.chamfer.mesh_to_field == pytest.approx(0.1, abs=0.03)
    assert like.chamfer.percent == pytest.approx(50 * max(like.chamfer.field_to_mesh, like.chamfer.mesh_to_field))
    assert 0.5 < like.depth.agree < 0.9, "the rays that meet the larger one alone"
    back = likeness(larger.surfaces(), field, comparison_views(field, 2, 0, longest=60))
    assert (back.depth, back.chamfer) == (like.depth, like.chamfer), "whichever was made of the other"
    assert back.fidelity.psnr == pytest.approx(like.fidelity.psnr)


def test_distance_between_two_planes() -> None:
    plane = np.stack(np.meshgrid(np.linspace(0, 1, 50), np.linspace(0, 1, 50), [0.0]), -1).reshape(-1, 3)
    square = Mesh(np.array([[0, 0, 0.2], [1, 0, 0.2], [1, 1, 0.2], [0, 1, 0.2]]), np.array([[0, 1, 2], [0, 2, 3]]))
    found = chamfer(plane, plane + np.array([0, 0, 0.2]), [square.surface()], Space((-2.0,) * 3 + (2.0,) * 3))
    assert found.field_to_mesh == pytest.approx(0.2, abs=1e-3) and found.mesh_to_field == pytest.approx(0.2)
    assert found.percent == pytest.approx(5, abs=0.03)


# --------------------------------------------------------------------------------------------------- mesh to field


@pytest.fixture
def few_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_scenes, "SIZE", 40)
    monkeypatch.setattr(mesh_scenes, "VIEWS", {"train": 24, "val": 2, "test": 2})


def painted_box(folder: Path) -> Path:
    box = trimesh.creation.box((2, 3, 2.5))
    box.apply_translation((5, 0, -2))
    box.visual.face_colors = [[200, 60, 40, 255] if n[0] > 0.5 else [40, 90, 180, 255] for n in box.face_normals]
    box.export(folder / "box.ply")
    return folder / "box.ply"


def test_the_cells_of_a_mesh(tmp_path: Path) -> None:
    surfaces, space = read_surfaces(painted_box(tmp_path))[0], Space((3.0, -2.0, -4.0, 7.0, 2.0, 0.0))
    cells = cells_of(surfaces, space, 32).cells()
    middle = space.from_unit((torch.cartesian_prod(*[torch.arange(32)] * 3) + 0.5) / 32)
    inside = torch.tensor([1.0, 1.5, 1.25]) - (middle - torch.tensor([5.0, 0, -2])).abs()
    distance = torch.where((inside > 0).all(-1), inside.amin(-1), inside.clamp_max(0).norm(dim=-1))
    cells = cells.reshape(-1)
    assert bool(cells[distance < 0.06].all()), "no part of the surface is left out"
    assert not bool(cells[distance > 3 * 0.125].any()), "and little else is in"


@pytest.mark.usefixtures("few_views")
def test_a_mesh_becomes_a_field_and_a_mesh_again(tmp_path: Path) -> None:
    path = painted_box(tmp_path)
    sizes = {"levels": 6, "channels": 2, "log2_table": 14, "finest_resolution": 128, "hidden": 16}
    box = fieldcast.open(path)
    assert isinstance(box, Surfaces) and len(box) == 12
    field = fieldcast.convert(box, spec_in(box, "hashgrid").resized(sizes), steps=200)
    like = likeness(box, field, comparison_views(box, 2, 0, longest=40))
    assert like.fidelity.psnr > 22 and like.chamfer.percent < 2
    outside = torch.tensor([[5.0, 0.0, -2.0], [5.0, 0.0, -0.3], [5.0, 1.6, -3.5]])  # its middle, above it, beside it
    assert field.density(outside).tolist() == [0, 0, 0], "it is a shell"
    mesh, _ = convert_scene(field, "mesh", {**vars(SMALL), "resolution": 128}, How())  # finer than the shell
    y, z = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-2.8, -1.2, 9))
    seen = []
    for start, toward in ((9.0, -1), (1.0, 1)):
        origins = np.stack([np.full(81, start), y.reshape(-1), z.reshape(-1)], -1)
        rgba = Caster([mesh.surface()]).look(origins, np.tile(np.float32([toward, 0, 0]), (81, 1)))
        seen.append(np.median(rgba, 0))
    assert seen[0][3] == seen[1][3] == 1
    assert seen[0][0] - seen[1][0] > 0.1 < seen[1][2] - seen[0][2], "red before, blue behind, as far as 200 steps go"
    np.testing.assert_allclose(mesh.vertices.min(0), [4, -1.5, -3.25], atol=0.15)
    np.testing.assert_allclose(mesh.vertices.max(0), [6, 1.5, -0.75], atol=0.15)


@pytest.mark.usefixtures("few_views")
def test_a_mesh_in_memory_becomes_the_same_field_as_its_file(tmp_path: Path) -> None:
    """Bit for bit: the corners are whole quarters, and a .ply holds colours as they are."""
    box = fieldcast.open(painted_box(tmp_path)).parts[0]
    colors = np.tile(np.uint8([[200, 60, 40]]), (36, 1))
    mesh = Mesh(box.corners.reshape(-1, 3), np.arange(36).reshape(-1, 3), colors=colors)
    fieldcast.save(mesh, tmp_path / "again.ply")
    again = fieldcast.open(tmp_path / "again.ply")
    spec = spec_in(again, "cp").resized({"resolution": 12, "hidden": 4})
    a, b = (fieldcast.convert(source, spec, steps=4).state_dict() for source in (mesh, again))
    assert spec.space.up == mesh.up and all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------------------------------------- any scene to any other


def test_a_field_becomes_a_mesh_that_any_format_holds(
    tmp_path: Path, ball: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "mesh_sizes", lambda sizes: SMALL)
    field = Solid(inside_ball, two_colors)
    field.spec = replace(field.spec, space=replace(BOX, up=(0.0, 1.0, 0.0)))
    mesh = fieldcast.convert(field, "mesh")
    assert isinstance(mesh, Mesh) and mesh.up == (0, 1, 0)
    radius = np.linalg.norm(mesh.vertices - MIDDLE.numpy(), axis=-1)
    assert abs(radius.mean() - RADIUS) < 1 / SMALL.resolution
    x, y, z = MIDDLE.tolist()
    for name in ("a.glb", "a.obj", "a.ply"):
        fieldcast.save(mesh, tmp_path / name)
        again = fieldcast.open(tmp_path / name)
        assert isinstance(again, Surfaces) and len(again) == len(mesh)
        np.testing.assert_allclose(again.parts[0].corners, mesh.corners(), atol=1e-6)
        assert look(again.parts, [x + 3, y, z], [-1, 0, 0]) == pytest.approx([*RED, 1], abs=0.01)
    with pytest.raises(InputError, match="use --force"):
        fieldcast.save(mesh, tmp_path / "a.glb")


def test_what_a_mesh_is_worth_told_from_python(tmp_path: Path, ball: Mesh) -> None:
    """Without a file it is as large as it is in memory, and nobody says at which density its surface is."""
    field = Solid(inside_ball, two_colors)
    told = report(field, ball, views=1, seed=0, run={"seed": 0})
    shown = told.to_json()
    assert "level" not in shown and "surface at" not in told.rows() and shown["shape"]["watertight"]
    assert ball.texture is not None
    assert shown["student"]["bytes"] > ball.texture.nbytes and shown["student"]["vertices"] == len(ball.vertices)
    write_report(told, tmp_path / "r.html", "a ball")
    fieldcast.save(ball, tmp_path / "a.glb")
    file, mesh = tmp_path / "a.glb", fieldcast.open(tmp_path / "a.glb")
    back = report(mesh, field, views=1, seed=0, run={}, files=(file, None)).to_json()
    assert back["teacher"]["bytes"] == file.stat().st_size and back["teacher"]["faces"] == len(ball)
    assert "shape" not in back and "level" not in back


def splats() -> Splats:
    x = torch.zeros(2, 3)
    return Splats(x, x, torch.ones(2, 4), x[:, 0], x[:, None], space=Space())


@pytest.mark.parametrize(
    ("scene", "kind", "how", "message"),
    [
        ("mesh", "mesh", {}, "only fields become meshes; convert to a field first"),
        ("mesh", "splats", {}, "only fields become splats; convert to a field first"),
        ("splats", "mesh", {}, "only fields become meshes; convert to a field first"),
        ("field", "mesh", {"target_db": 30.0}, "--target-db: conversions to meshes are told their --steps and sizes"),
        ("field", "mesh", {"resume": True}, "--resume: conversions to meshes keep no checkpoint"),
        ("mesh", "vm", {"budget": 30.0}, "--budget: conversions from meshes are told their --steps and sizes"),
        ("mesh", "vm", {"resume": True}, "nothing to resume"),
        ("mesh", "cubes", {}, "unknown kind 'cubes'"),
    ],
)
@pytest.mark.usefixtures("few_views")
def test_ways_that_are_none(ball: Mesh, scene: str, kind: str, how: dict[str, Any], message: str) -> None:
    source = {"mesh": ball.surfaces(), "splats": splats(), "field": Solid(inside_ball, two_colors)}[scene]
    with pytest.raises(InputError, match=message):
        convert_scene(source, kind, {}, How(**how))


def test_a_mesh_is_no_field(tmp_path: Path) -> None:
    path = painted_box(tmp_path)
    with pytest.raises(InputError, match=rf"expected a field, found a mesh; first: fieldcast convert {path} OUT"):
        open_field(path)


# --------------------------------------------------------------------------------------------------- command line


@pytest.fixture(scope="module")
def soft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball as a VM field: the logit 8 - 40 r^2 is a sum of products of planes and lines."""
    spec = default_spec("vm", occupancy=16, steps=64)
    field = build(
        spec.resized({"resolution": 21, "density_channels": 2, "appearance_channels": 2, "hidden": 4}), seed=1
    )
    at = torch.linspace(-1, 1, 21)
    with torch.no_grad():
        field.density_vm.planes.zero_()
        field.density_vm.lines.fill_(1)
        field.density_vm.planes[0, :, :, 0] = 8 - 40 * (at[:, None] ** 2 + at**2)
        field.density_vm.planes[0, :, :, 1] = 1
        field.density_vm.lines[0, :, 1] = -40 * at**2
    path = tmp_path_factory.mktemp("soft") / "ball.safetensors"
    fieldcast.save(field, path)
    return path


def run(*argv: Any) -> Any:
    return CliRunner().invoke(cli, [str(a) for a in argv])


def test_convert_to_a_mesh(soft: Path, tmp_path: Path) -> None:
    sizes = [a for s in ("resolution=32", "faces=2000", "texture=128") for a in ("--size", s)]
    done = run("convert", soft, tmp_path / "ball.glb", "--to", "mesh", *sizes, "--views", 1, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["shape"]["watertight"] and told["shape"]["open_edges"] == 0 and told["student"]["faces"] <= 2000
    assert told["chamfer"]["percent"] < 2 and told["fidelity"]["psnr"] > 20
    assert told["lost"][0].startswith("view-dependent colour")
    assert read_surfaces(tmp_path / "ball.glb")[0][0].texture is not None
    again = run("convert", soft, tmp_path / "ball.glb", "--to", "mesh")
    assert isinstance(again.exception, InputError) and "exists; use --force" in str(again.exception)


def test_convert_to_a_mesh_for_people(soft: Path, tmp_path: Path) -> None:
    done = run("convert", soft, tmp_path / "b.ply", "--to", "mesh", "--size", "resolution=32", "--views", 1, "--quiet",
               "--report", tmp_path / "b.html")  # fmt: skip
    assert done.exit_code == 0, done.output
    for words in ("watertight", "yes, 0 open edges", "Chamfer", "dropped: translucency", "surface at", "fidelity "):
        assert words in done.stdout
    assert (tmp_path / "b.html").stat().st_size > 1000
    assert trimesh.load_mesh(tmp_path / "b.ply").visual.kind == "vertex"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a.stl", "--to", "mesh"], "expected the name of a mesh, which ends in .glb, .obj, .ply, found .stl"),
        (["a.glb", "--to", "vm"], "expected a name that ends in .safetensors, "),
        (["a.glb", "--to", "mesh", "--size", "width=3"], "mesh has no size 'width'"),
        (["none/a.glb", "--to", "mesh"], "none does not exist; create the folder first"),
        (["a.glb", "--to", "mesh", "--report", "a.txt"], "expected a report name that ends in .html or .png"),
    ],
)
def test_wrong_commands_are_one_line(
    soft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("convert", soft, *argv)
    assert isinstance(done.exception, InputError) and message in str(done.exception)
    assert "\n" not in str(done.exception) and list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few_views")
def test_convert_from_a_mesh(tmp_path: Path) -> None:
    small = ["--size", "resolution=12", "--size", "hidden=4", "--steps", 20, "--views", 1]
    out = tmp_path / "box.safetensors"
    done = run("convert", painted_box(tmp_path), out, "--to", "cp", *small, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["teacher"] == {**told["teacher"], "kind": "mesh", "faces": 12} and "shape" not in told
    assert fieldcast.open(out).spec.kind == "cp"
    done = run("convert", tmp_path / "box.ply", tmp_path / "box.glb", "--to", "mesh")
    assert isinstance(done.exception, InputError) and "convert to a field first" in str(done.exception)


def test_commands_that_look_at_meshes(tmp_path: Path) -> None:
    path = painted_box(tmp_path)
    assert run("render", path, tmp_path / "a.png", "--size", "20x16", "--quiet").exit_code == 0
    done = run("compare", path, path, "--views", 1, "--json", "--quiet")
    assert json.loads(done.stdout) == {"psnr": 100, "ssim": pytest.approx(1), "depth_error": 0, "views": 1}


def test_what_is_odd_about_a_mesh_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("mtllib no.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\n")
    done = run("render", tmp_path / "a.obj", tmp_path / "a.png", "--size", "20x16")
    assert done.exit_code == 0 and "note: " in done.stderr and "its material file no.mtl is not there" in done.stderr
