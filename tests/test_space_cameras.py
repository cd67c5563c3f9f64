"""Laws of spaces, cameras and camera paths."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields import Cameras, Field, Space, build, default_spec
from fieldcast.fields.cameras import distort, look_at, orbit, pinhole, undistort, undistort_fisheye, up_frame
from fieldcast.fields.paths import (
    FOV,
    RADIUS,
    camera_path,
    default_path,
    flight,
    nearest_tour,
    read_camera_path,
    turntable,
)

CONTRACTED = pytest.mark.parametrize("contraction", ["sphere", "cube"])
NUMBER = st.floats(-50, 50, width=32)
BOX = (-1.0, -2.0, 0.5, 2.0, 1.0, 2.5)


def rotations(count: int) -> Tensor:
    """Random rotation matrices."""
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64))
    q = q * torch.diagonal(r, dim1=1, dim2=2).sign()[:, None]
    q[:, :, 0] *= torch.linalg.det(q)[:, None]
    return q.float()


def some_cameras(count: int = 5) -> Cameras:
    """Cameras with odd lenses, turned anyhow."""
    c2w = torch.cat([rotations(count), torch.randn(count, 3, 1)], -1)
    intrinsics = torch.tensor([30.0, 40.0, 11.0, 17.0]) + torch.rand(count, 4)
    return Cameras(c2w, intrinsics, torch.tensor([[24, 36]]).repeat(count, 1))


def project(cameras: Cameras, index: int, x: Tensor) -> np.ndarray:
    """World points to pixels through a 3x4 matrix in the computer vision convention (y down, z forward), float64."""
    c2w = np.eye(4)
    c2w[:3] = cameras.c2w[index].double().numpy()
    fx, fy, cx, cy = cameras.intrinsics[index].double().tolist()
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]) @ np.diag([1, -1, -1]) @ np.linalg.inv(c2w)[:3]
    image = np.c_[x.double().numpy(), np.ones(len(x))] @ matrix.T
    return image[:, :2] / image[:, 2:]


# --- spaces


@CONTRACTED
@settings(deadline=None)
@given(point=st.tuples(NUMBER, NUMBER, NUMBER))
def test_contraction_has_an_inverse(contraction: Any, point: tuple[float, float, float]) -> None:
    space = Space(BOX, contraction)
    x = torch.tensor([point], dtype=torch.float64)
    u = space.to_unit(x)
    assert bool(((u >= 0) & (u <= 1)).all())
    torch.testing.assert_close(space.from_unit(u), x, rtol=1e-7, atol=1e-7)


@CONTRACTED
def test_contraction_is_the_papers(contraction: Any) -> None:
    """mip-NeRF 360, equation 10, with the L2 or the largest norm."""
    space = Space(BOX, contraction)
    for x in (torch.randn(200, 3, dtype=torch.float64) * 10).numpy():
        n = (2 * x - BOX[:3] - np.array(BOX[3:])) / (np.array(BOX[3:]) - BOX[:3])
        norm = np.linalg.norm(n) if contraction == "sphere" else np.abs(n).max()
        folded = n if norm <= 1 else (2 - 1 / norm) * n / norm
        np.testing.assert_allclose(space.to_unit(torch.tensor(x)).numpy(), (folded + 2) / 4, atol=1e-12)


@CONTRACTED
def test_contraction_bears_extremes(contraction: Any) -> None:
    space = Space(contraction=contraction)
    x = torch.tensor([[1e20, -1e20, 3.0], [0.0, 0.0, 0.0], [1e-30, 0.0, 0.0]])
    u = space.to_unit(x)
    assert bool(((u >= 0) & (u <= 1)).all())
    assert bool(
        torch.isfinite(space.from_unit(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.5, 0.5], [1.0, 1.0, 1.0]]))).all()
    )
    assert bool(space.contains(x).all())


@settings(deadline=None)
@given(st.tuples(*[st.floats(0, 1, width=32)] * 3))
def test_a_box_is_mapped_to_the_unit_cube(at: tuple[float, float, float]) -> None:
    space = Space(BOX)
    u = torch.tensor([at], dtype=torch.float64)
    x = torch.tensor(BOX[:3], dtype=torch.float64) + u * torch.tensor([3.0, 3.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(space.to_unit(x), u)
    torch.testing.assert_close(space.from_unit(u), x)


def test_points_outside_a_box_are_clamped_to_its_faces() -> None:
    space = Space(BOX)
    x = torch.tensor([[-9.0, 0.0, 1.0], [0.0, 9.0, 1.0], [0.0, 0.0, 1.0], [2.0, 1.0, 2.5]])
    assert space.contains(x).tolist() == [False, False, True, True]
    assert space.to_unit(x)[0, 0] == 0
    assert space.to_unit(x)[1, 1] == 1


def test_unit_and_center() -> None:
    assert Space(BOX).unit == 1.5
    assert Space(BOX).center == (0.5, -0.5, 1.5)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"aabb": (0.0, 0.0, 0.0, 1.0, 1.0, 0.0)}, "expected finite minima below maxima"),
        ({"aabb": (0.0, 0.0, 0.0, 1.0, 1.0, math.nan)}, "expected finite minima below maxima"),
        ({"aabb": (0.0, 0.0, 0.0, 1.0, 1.0, math.inf)}, "expected finite minima below maxima"),
        ({"up": (0.0, 0.0, 2.0)}, "expected a vector of length 1"),
        ({"up": (math.nan, 0.0, 1.0)}, "expected a vector of length 1"),
    ],
)
def test_a_wrong_space_is_an_input_error(parts: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Space(**parts)


# --- cameras and rays


def test_look_at_is_a_rotation_that_looks() -> None:
    eye, target, up = torch.randn(50, 3), torch.randn(50, 3), torch.tensor([0.0, 0.6, 0.8])
    eye[0], target[0] = torch.tensor([0.0, 0.6, 0.8]), torch.zeros(3)  # straight along up
    c2w = look_at(eye, target, up)
    rotation = c2w[:, :, :3]
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(3).expand(50, 3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50), rtol=0, atol=1e-5)
    assert torch.equal(c2w[:, :, 3], eye)
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    torch.testing.assert_close(-rotation[:, :, 2], forward, rtol=0, atol=1e-5)
    assert bool((rotation[1:, :, 1] @ up > 0).all())  # up is up
    torch.testing.assert_close(rotation[1:, :, 0] @ up, torch.zeros(49), rtol=0, atol=1e-5)  # no roll


def test_rays_project_back_to_their_pixels() -> None:
    cameras = some_cameras()
    for index in range(len(cameras)):
        pixel = torch.rand(40, 2) * torch.tensor([24.0, 36.0])
        rays = cameras.rays(torch.full((40,), index), pixel)
        torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(40))
        assert torch.equal(rays.origins, cameras.centers[index].expand(40, 3))
        x = rays.origins + (0.5 + 10 * torch.rand(40, 1)) * rays.directions
        np.testing.assert_allclose(project(cameras, index, x), pixel.numpy(), atol=1e-3)


def test_pixel_centres_are_at_one_half() -> None:
    """Row by row from the upper left; the middle of the image looks straight ahead."""
    cameras = pinhole(
        look_at(torch.tensor([[0.0, -3.0, 0.0]]), torch.zeros(1, 3), torch.tensor([0.0, 0.0, 1.0])), 5, 3, 1.0
    )
    rays = cameras.image_rays(0)
    assert len(rays) == 15
    torch.testing.assert_close(rays.directions[7], torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-6)
    assert rays.directions[0, 0] < 0 < rays.directions[0, 2]  # the first pixel is left of it and above
    assert rays.directions[4, 0] > 0 > rays.directions[10, 2]
    rows, columns = np.meshgrid(np.arange(3) + 0.5, np.arange(5) + 0.5, indexing="ij")
    expected = np.stack([columns.ravel(), rows.ravel()], -1)
    np.testing.assert_allclose(project(cameras, 0, rays.origins + rays.directions), expected, atol=1e-5)


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400))
def test_resized_cameras_see_the_same(width: int, height: int) -> None:
    """The corners of the picture stay the corners."""
    torch.manual_seed(0)
    cameras = some_cameras(2)
    other = cameras.resized(width, height)
    assert other.size.tolist() == [[width, height]] * 2
    part, index = torch.rand(10, 2), torch.randint(2, (10,))
    a = cameras.rays(index, part * cameras.size[0])
    b = other.rays(index, part * other.size[0])
    torch.testing.assert_close(a.directions, b.directions, rtol=1e-4, atol=1e-5)


def test_pinhole_measures_its_angle_across_the_shorter_side() -> None:
    for width, height in ((40, 20), (20, 40)):
        cameras = pinhole(torch.eye(3, 4)[None], width, height, 0.9)
        ends = (
            torch.tensor([[20.0, 0.0], [20.0, 20.0]]) if width > height else torch.tensor([[0.0, 20.0], [20.0, 20.0]])
        )
        a, b = cameras.rays(torch.zeros(2, dtype=torch.int64), ends).directions
        assert math.acos(float(a @ b)) == pytest.approx(0.9, rel=1e-4)


def test_a_subset_of_cameras_is_those_cameras() -> None:
    cameras = dataclasses.replace(some_cameras(), distortion=torch.rand(5, 6))
    part = cameras[[3, 1]]
    assert len(part) == 2
    assert torch.equal(part.c2w, cameras.c2w[[3, 1]])
    assert torch.equal(part.distortion, cameras.distortion[[3, 1]])
    assert cameras.undistorted().distortion is None
    assert torch.equal(cameras.undistorted().c2w, cameras.c2w)


@pytest.mark.parametrize("k", [(0.1, -0.05, 0.01, 0.0, 0.002, -0.003), (-0.2, 0.05, 0.0, 0.0, 0.0, 0.0)])
def test_undistort_inverts_distort(k: tuple[float, ...]) -> None:
    xy = torch.rand(100, 2, dtype=torch.float64) - 0.5
    coefficients = torch.tensor(k, dtype=torch.float64).expand(100, 6)
    torch.testing.assert_close(undistort(distort(xy, coefficients), coefficients), xy, rtol=0, atol=1e-9)


def test_undistort_fisheye_solves_the_equidistant_model() -> None:
    k = torch.tensor([0.05, -0.01, 0.002, 0.0, 0.0, 0.0], dtype=torch.float64)
    theta, phi = torch.linspace(0.0, 1.4, 50, dtype=torch.float64), torch.linspace(0.0, 6.0, 50, dtype=torch.float64)
    distorted = theta * (1 + k[0] * theta**2 + k[1] * theta**4 + k[2] * theta**6 + k[3] * theta**8)
    xy = distorted[:, None] * torch.stack([phi.cos(), phi.sin()], -1)
    expected = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], -1)
    torch.testing.assert_close(undistort_fisheye(xy, k.expand(50, 6)), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("fisheye", [False, True])
def test_a_lens_without_coefficients_bends_nothing_but_a_fisheye(fisheye: bool) -> None:
    ideal = some_cameras(1)
    lens = dataclasses.replace(ideal, distortion=torch.zeros(1, 6), fisheye=fisheye)
    index, pixel = torch.zeros(20, dtype=torch.int64), torch.rand(20, 2) * 24
    difference = float((lens.rays(index, pixel).directions - ideal.rays(index, pixel).directions).abs().max())
    assert difference > 1e-3 if fisheye else difference < 1e-6


# --- paths


UPS = pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.6, 0.0, -0.8)])


@UPS
def test_orbit_looks_at_the_centre(up: tuple[float, float, float]) -> None:
    space = Space(BOX, up=up)
    azimuth, elevation = torch.rand(20) * 6, torch.rand(20) - 0.5
    radius = 2 + torch.rand(20)
    cameras = orbit(space, azimuth, elevation, radius, width=21, height=11, fov=0.7)
    center = torch.tensor(space.center)
    offset = cameras.centers - center
    torch.testing.assert_close(offset.norm(dim=-1), radius)
    torch.testing.assert_close(torch.asin(offset @ torch.tensor(up) / radius), elevation, rtol=0, atol=1e-4)
    for index in range(20):
        np.testing.assert_allclose(project(cameras, index, center[None]), [[10.5, 5.5]], atol=1e-3)
        above = project(cameras, index, center[None] + 0.01 * torch.tensor(up))
        assert above[0, 1] < 5.5  # up in the world is up in the picture
    axes = up_frame(up)
    torch.testing.assert_close(axes.T @ axes, torch.eye(3), rtol=0, atol=1e-6)


def field_with(views: Cameras | None, space: Space | None = None) -> Field:
    spec = default_spec("cp", space=space or Space(BOX), occupancy=8)
    field = build(spec.resized({"resolution": 2, "density_channels": 1, "appearance_channels": 1, "hidden": 1}))
    field.views = views
    return field


def test_a_turntable_goes_round() -> None:
    cameras = turntable(field_with(None), 12, (30, 20))
    offset = (cameras.centers - torch.tensor([0.5, -0.5, 1.5])).double()
    torch.testing.assert_close(offset.norm(dim=-1), torch.full((12,), RADIUS * 1.5, dtype=torch.float64))
    angles = torch.atan2(offset[:, 1], offset[:, 0])
    steps = (angles.roll(-1) - angles) % (2 * math.pi)
    torch.testing.assert_close(steps, torch.full((12,), 2 * math.pi / 12, dtype=torch.float64), rtol=0, atol=1e-5)
    assert cameras.size.tolist() == [[30, 20]] * 12
    assert 2 * math.atan(10 / float(cameras.intrinsics[0, 1])) == pytest.approx(FOV, rel=1e-5)


def test_a_turntable_stands_where_the_views_did() -> None:
    """The same distance, height and lens, whatever the size of the pictures."""
    azimuth, elevation = torch.linspace(0, 5, 7), torch.full((7,), 0.3)
    views = orbit(Space(BOX), azimuth, elevation, 6.0, width=64, height=48, fov=0.5)
    cameras = turntable(field_with(views), 5, (20, 40))
    offset = cameras.centers - torch.tensor([0.5, -0.5, 1.5])
    torch.testing.assert_close(offset.norm(dim=-1), torch.full((5,), 6.0))
    torch.testing.assert_close(torch.asin(offset[:, 2] / 6), torch.full((5,), 0.3), rtol=0, atol=1e-4)
    assert 2 * math.atan(10 / float(cameras.intrinsics[0, 0])) == pytest.approx(0.5, rel=1e-4)


def test_a_flight_passes_its_views() -> None:
    views = orbit(Space(BOX), torch.arange(6) * 0.4, torch.full((6,), 0.2), 5.0, width=64, height=48, fov=0.6)
    path = flight(views, 24, (32, 24))
    assert len(path) == 24
    rotation = path.c2w[:, :, :3]
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(3).expand(24, 3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(path.c2w[::4], views.c2w, rtol=0, atol=1e-5)  # every fourth picture is a view
    assert float((path.centers[1:] - path.centers[:-1]).norm(dim=-1).min()) > 0
    assert float(path.intrinsics[0, 0]) == pytest.approx(float(views.intrinsics[0, 0]) / 2, rel=1e-5)


def test_a_flight_through_one_view_stays_there() -> None:
    views = orbit(Space(BOX), torch.tensor([1.0]), torch.tensor([0.2]), 5.0, width=8, height=8, fov=0.6)
    torch.testing.assert_close(flight(views, 3, (8, 8)).c2w, views.c2w.expand(3, 3, 4), rtol=0, atol=1e-5)


@settings(deadline=None)
@given(st.permutations(range(9)))
def test_a_tour_takes_the_nearest_next(order: list[int]) -> None:
    points = torch.tensor([[float(i), 0.0, 0.0] for i in order])
    tour = nearest_tour(points)
    assert sorted(tour) == list(range(9))
    assert tour[0] == 0
    left = set(range(1, 9))
    for here, there in itertools.pairwise(tour):
        nearest = min(abs(order[here] - order[other]) for other in left)
        assert abs(order[here] - order[there]) == nearest
        left.remove(there)


def test_the_path_that_suits_a_field() -> None:
    views = orbit(Space(BOX), torch.arange(3.0), torch.full((3,), 0.2), 5.0, width=8, height=8, fov=0.6)
    assert default_path(field_with(views)) == "turntable"
    assert default_path(field_with(views, Space(BOX, "cube"))) == "views"
    assert default_path(field_with(None, Space(BOX, "cube"))) == "turntable"
    assert len(camera_path(field_with(views), "views", 7, (8, 8))) == 7


@pytest.mark.parametrize(
    ("path", "text"), [("views", "does not know the views"), ("zigzag", "expected turntable, views")]
)
def test_a_path_that_cannot_be(path: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        camera_path(field_with(None), path, 5, (8, 8))


def test_a_camera_path_of_nerfstudios_viewer(tmp_path: Path) -> None:
    """Matrices flat or in rows; `fov` is the vertical angle in degrees, of each frame its own."""
    views = some_cameras(2)
    flat = torch.cat([views.c2w[0], torch.tensor([[0.0, 0.0, 0.0, 1.0]])]).reshape(-1).tolist()
    rows = [*views.c2w[1].tolist(), [0, 0, 0, 1]]
    file = tmp_path / "path.json"
    frames = [{"camera_to_world": flat, "fov": 60}, {"camera_to_world": rows, "fov": 30.0}]
    file.write_text("\ufeff" + json.dumps({"camera_path": frames, "fps": 24}), encoding="utf-8")
    for width, height in ((20, 40), (40, 20)):
        cameras = read_camera_path(file, (width, height))
        torch.testing.assert_close(cameras.c2w, views.c2w)
        assert cameras.size.tolist() == [[width, height]] * 2
        for index, degrees in enumerate((60, 30)):
            top, bottom = cameras.rays(
                torch.full((2,), index), torch.tensor([[width / 2, 0.0], [width / 2, float(height)]])
            ).directions
            assert math.degrees(math.acos(float(top @ bottom))) == pytest.approx(degrees, rel=1e-4)


IDENTITY: list[Any] = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


BROKEN_PATHS = [
    ("", "not a JSON file"),
    ("{", "not a JSON file"),
    ("[" * 100_000, "not a JSON file"),
    ("[]", "expected an object with a list `camera_path`"),
    ('{"camera_path": []}', "expected an object with a list `camera_path`"),
    ('{"camera_path": {"0": 1}}', "expected an object with a list `camera_path`"),
    ('{"camera_path": [7]}', r"camera_path\[0\].camera_to_world: expected 16 finite numbers"),
    ('{"camera_path": [{"camera_to_world": [1, 2]}]}', r"camera_path\[0\].camera_to_world: expected 16 finite"),
    (
        json.dumps({"camera_path": [{"camera_to_world": [*IDENTITY[:15], math.nan]}]}),
        "expected 16 finite numbers",
    ),
    (json.dumps({"camera_path": [{"camera_to_world": [*IDENTITY[:15], 10**400]}]}), "expected 16 finite numbers"),
    (json.dumps({"camera_path": [{"camera_to_world": [*IDENTITY[:15], True]}]}), "expected 16 finite numbers"),
    (
        json.dumps({"camera_path": [{"camera_to_world": IDENTITY}, {"camera_to_world": IDENTITY, "fov": 0}]}),
        r"camera_path\[1\].fov: expected degrees between 0 and 180, found 0",
    ),
    (
        json.dumps({"camera_path": [{"camera_to_world": IDENTITY, "fov": "wide"}]}),
        r"camera_path\[0\].fov: expected degrees between 0 and 180, found 'wide'",
    ),
]


@pytest.mark.parametrize(("text", "message"), BROKEN_PATHS, ids=range(len(BROKEN_PATHS)))
def test_a_broken_camera_path_says_where(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "path.json"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_camera_path(file, (8, 8))
    assert str(caught.value).startswith(str(file))


def test_a_camera_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_camera_path(tmp_path / "path.json", (8, 8))
    with pytest.raises(InputError, match="not a JSON file"):
        (tmp_path / "path.json").mkdir()
        read_camera_path(tmp_path / "path.json", (8, 8))


@pytest.mark.parametrize("contraction", ["none", "sphere", "cube"])
def test_the_world_is_longer_where_it_is_folded(contraction: Any) -> None:
    """By the derivative of distance from the centre; on an axis, where both norms agree."""
    space = Space((-2.0, -2.0, -2.0, 2.0, 2.0, 2.0), contraction)
    along = torch.linspace(0.51, 0.99, 40, dtype=torch.float64)
    u = torch.stack([along, torch.full_like(along, 0.5), torch.full_like(along, 0.5)], -1).requires_grad_()
    (slope,) = torch.autograd.grad(space.from_unit(u)[:, 0].sum(), u)
    inside = 4.0 if contraction == "none" else 8.0  # world units from one face of the cube to the other
    torch.testing.assert_close(space.stretch(u.detach()).double(), slope[:, 0] / inside)
