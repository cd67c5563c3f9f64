"""Objects on grids: from meshes and fields and back, against analytic shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from fieldcast.errors import InputError
from fieldcast.fields.files.mesh import save_mesh
from fieldcast.fields.mesh import topology
from fieldcast.fields.scenes.gltf import read_gltf
from fieldcast.fields.scenes.mesh import Surfaces
from fieldcast.fields.scenes.surfaces import Surface, to_linear, to_srgb
from fieldcast.fields.space import Vector3
from fieldcast.morph.distance import distance
from fieldcast.morph.objects import SKIN, volume_of_field, volume_of_mesh
from fieldcast.morph.volumes import BAND, FILL, Volume, world_from_grid

UPS: list[Vector3] = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, -1), (0, -1, 0), (-1, 0, 0), (0.05, 0.9987, 0.0)]
RED, BLUE = (0.9, 0.2, 0.1), (0.1, 0.3, 0.8)


def scene(mesh: trimesh.Trimesh, up: Vector3 = (0.0, 0.0, 1.0)) -> Surfaces:
    """A mesh whose faces are red where x is positive and blue elsewhere."""
    corners = np.asarray(mesh.triangles, np.float64)
    tint = np.ones((len(corners), 3, 4), np.float32)
    tint[..., :3] = to_linear(np.where(corners.mean(1)[:, :1] > 0, RED, BLUE))[:, None]
    return Surfaces([Surface(corners, np.zeros((len(corners), 3, 2), np.float32), tint)], up)


def ball(radius: float = 1.0, center: Vector3 = (0.0, 0.0, 0.0), up: Vector3 = (0.0, 0.0, 1.0)) -> Surfaces:
    mesh = trimesh.creation.icosphere(4, radius)
    return scene(mesh.apply_translation(center), up)


def middles(volume: Volume) -> torch.Tensor:
    """The middle of each cell in cells from the middle of the grid, on its own axes."""
    at = torch.arange(volume.resolution) + 0.5 - volume.resolution / 2
    return torch.stack(torch.meshgrid(at, at, at, indexing="ij"), -1)


def test_ball_has_its_distances() -> None:
    volume = volume_of_mesh(ball(2.5, (3.0, -1.0, 7.0)))
    radius = FILL * 32
    wanted = (middles(volume).norm(dim=-1) - radius - SKIN).clamp(-BAND, BAND)
    near = wanted.abs() < BAND - SKIN - 0.2
    at_face = (wanted + SKIN).abs() < 0.1  # whose side may be mistaken, by which a distance changes twice its own
    assert float((volume.sdf - wanted)[near & ~at_face].abs().max()) < 0.1  # the ball has corners
    assert float((volume.sdf - wanted)[near & at_face].abs().max()) < 0.3
    assert bool((volume.sdf.sign() == wanted.sign())[~near].all())
    assert volume.space.center == pytest.approx((3, -1, 7))
    assert volume.space.unit == pytest.approx(2.5 / FILL, rel=1e-3)


def test_colors_are_those_of_the_nearest_face() -> None:
    volume = volume_of_mesh(ball())
    near = volume.sdf.abs() < 2
    x = middles(volume) @ world_from_grid((0, 0, 1)).T
    for side, color in ((x[..., 0] > 2, RED), (x[..., 0] < -2, BLUE)):
        assert torch.allclose(volume.rgb[near & side], torch.tensor(color), atol=0.01)


def test_open_sheet_gets_a_skin_and_closed_box_is_filled() -> None:
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    solid = volume_of_mesh(scene(sheet)).solid
    assert 0 < int(solid.any(0).any(0).sum()) <= 2  # layers
    box = volume_of_mesh(scene(trimesh.creation.box((1, 1, 1))))
    assert float(box.sdf[32, 32, 32]) == -BAND
    assert float(box.solid.float().mean()) == pytest.approx(((FILL * 64 + 2 * SKIN) / 64) ** 3, rel=0.05)


def test_open_cup_stays_hollow() -> None:
    cup = trimesh.creation.annulus(0.8, 1.0, 2.0)
    solid = volume_of_mesh(scene(cup)).solid
    assert not bool(solid[32, 32, 32])
    assert bool(solid[32 + int(0.9 * FILL * 32), 32, 32])


@pytest.mark.parametrize("up", UPS)
def test_frame_is_a_rotation_by_quarters_with_up_third(up: Vector3) -> None:
    turn = world_from_grid(up)
    assert torch.equal(turn.T @ turn, torch.eye(3))
    assert float(torch.linalg.det(turn)) == pytest.approx(1)
    assert float(turn[:, 2] @ torch.tensor(up, dtype=torch.float32)) > 0.99


@pytest.mark.parametrize("up", UPS)
def test_mesh_and_field_lie_where_the_object_is(up: Vector3) -> None:
    lying = trimesh.creation.box((4.0, 2.0, 1.0)).apply_translation((1.0, 2.0, 3.0))
    volume = volume_of_mesh(scene(lying, up))
    cell = 2 * volume.space.unit / 64
    mesh = volume.mesh()
    assert np.abs(mesh.vertices.min(0) - (lying.bounds[0] - SKIN * cell)).max() < 0.5 * cell
    assert np.abs(mesh.vertices.max(0) - (lying.bounds[1] + SKIN * cell)).max() < 0.5 * cell
    assert topology(mesh).watertight
    assert topology(mesh).volume > 0  # faces look outwards
    field = volume.field()
    inside, outside = torch.tensor([[2.9, 2.0, 3.0], [1.0, 2.9, 3.0]]), torch.tensor([[1.0, 2.0, 4.2], [1.0, 3.4, 3.0]])
    d = torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3)
    field.requires_grad_(False)
    sigma, rgb = field(inside, d)
    assert float(sigma.min()) * cell > 2
    assert float(field.density(outside).max()) * cell < 0.01
    assert torch.allclose(rgb[0], torch.tensor(RED), atol=0.02)


def test_field_comes_back_as_the_same_object() -> None:
    volume = volume_of_mesh(ball(2.0, (1.0, 1.0, 1.0), (0.0, 1.0, 0.0)))
    again = volume_of_field(volume.field())
    assert distance(volume, again) < 0.12  # the skin makes it 2 % larger, and the grid with it
    assert again.space.unit == pytest.approx(volume.space.unit, rel=0.05)


def test_four_quarters_are_a_whole_turn() -> None:
    volume = volume_of_mesh(scene(trimesh.creation.box((3.0, 1.0, 1.0))))
    assert distance(volume, volume.turned(4)) == 0
    assert distance(volume, volume.turned(1)) > 0.5
    x, y = volume.solid.any(1).any(1), volume.turned(1).solid.any(0).any(1)
    assert torch.equal(x, y.flip(0)) or torch.equal(x, y)


def test_nothing_solid_is_an_error() -> None:
    empty = volume_of_mesh(ball())
    field = Volume(torch.full_like(empty.sdf, BAND), empty.rgb, empty.space).field()
    with pytest.raises(InputError, match="something solid"):
        volume_of_field(field)
    with pytest.raises(InputError, match="faces without area"):
        volume_of_mesh(scene(trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False)))


def test_distance_grows_as_balls_move_apart() -> None:
    volume = volume_of_mesh(ball())
    assert distance(volume, volume) == 0
    shifts = [distance(volume, Volume(volume.sdf.roll(k, 0), volume.rgb, volume.space)) for k in (1, 3, 8)]
    assert 0 < shifts[0] < shifts[1] < shifts[2]
    grey = Volume(volume.sdf, torch.zeros_like(volume.rgb), volume.space)
    assert distance(volume, grey) == pytest.approx(0.5 * float(volume.rgb[volume.solid].mean()), rel=0.05)


def test_glb_keeps_colors_of_vertices(tmp_path: Path) -> None:
    mesh = volume_of_mesh(ball()).mesh()
    save_mesh(mesh, tmp_path / "ball.glb")
    (surface,) = read_gltf(tmp_path / "ball.glb", False)
    assert np.abs(surface.corners - mesh.corners()).max() < 1e-5
    assert mesh.colors is not None
    assert np.abs(to_srgb(surface.tint[..., :3]) - mesh.colors[mesh.faces] / 255).max() < 1e-3
    other = trimesh.load(tmp_path / "ball.glb", force="mesh")
    assert len(other.faces) == len(mesh)
