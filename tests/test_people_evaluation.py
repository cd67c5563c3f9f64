"""Numbers of reconstructions, against cases whose numbers are known and against slow computations."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float64
from scipy.spatial import Delaunay
from scipy.spatial.transform import Rotation
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import look_at, pinhole
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.metrics import psnr, ssim
from fieldcast.fields.triangles import Triangles, crossing, inside_reference, nearest_reference
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.evaluation import report as report_module
from fieldcast.reconstruct.evaluation import solids
from fieldcast.reconstruct.evaluation.closeness import contact_mm, contacts, overlap
from fieldcast.reconstruct.evaluation.people import matched
from fieldcast.reconstruct.evaluation.pictures import counts, mask_numbers, mean, picture_numbers
from fieldcast.reconstruct.evaluation.poses import (
    acceleration_m_s2,
    depth_relations,
    depths,
    layers,
    position_mm,
    rooted,
)
from fieldcast.reconstruct.evaluation.report import Found, Moving, Truth, evaluate
from fieldcast.reconstruct.evaluation.solids import iou, shared, solid
from fieldcast.reconstruct.evaluation.surfaces import Shape, aligned, compare, rigid, sampled
from fieldcast.reconstruct.evaluation.tables import PICTURES, POSES, SHAPE, table
from fieldcast.reconstruct.recordings.recording import Person, Recording

Points = Float64[np.ndarray, "n 3"]
SEEDS = st.integers(0, 2**31 - 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mesh(shape: trimesh.Trimesh, at: Sequence[float] = (0, 0, 0)) -> Mesh:
    return Mesh(np.asarray(shape.vertices, np.float64) + np.asarray(at), np.asarray(shape.faces, np.int64))


def ball(radius: float, at: Sequence[float] = (0, 0, 0), fine: int = 4) -> Mesh:
    return mesh(trimesh.creation.icosphere(fine, radius), at)


def cube(side: float, at: Sequence[float] = (0, 0, 0)) -> Mesh:
    return mesh(trimesh.creation.box((side, side, side)), at)


def soup(seed: int, count: int = 40) -> Mesh:
    """Triangles anywhere, of all sizes."""
    rng = np.random.default_rng(seed)
    size = 10 ** rng.uniform(-3, 0, (count, 1, 1))
    corners = rng.normal(0, 1, (count, 1, 3)) + size * rng.normal(0, 1, (count, 3, 3))
    return Mesh(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))


def both(a: Mesh, b: Mesh) -> dict[str, float]:
    return compare(Shape.of(a, seeded(1)), Shape.of(b, seeded(2)))


# Triangles


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_the_nearest_point_is_that_of_looking_at_every_triangle(seed: int) -> None:
    shape = soup(seed)
    points = np.random.default_rng(seed + 1).normal(0, 2, (20, 3))
    found = Triangles.of(shape).nearest(points)
    assert np.abs(found.distance - nearest_reference(shape, points)).max() < 1e-9
    assert np.abs(np.linalg.norm(found.points - points, axis=1) - found.distance).max() < 1e-9
    for x, face in zip(found.points, found.face, strict=True):  # it is on the face that is named
        a, b, c = shape.corners()[face]
        shares, *_ = np.linalg.lstsq(np.stack([b - a, c - a], 1), x - a, rcond=None)
        assert shares.min() > -1e-6 and shares.sum() < 1 + 1e-6


def test_triangles_without_area_are_segments_and_points() -> None:
    line = Mesh(np.array([[0.0, 0, 0], [2, 0, 0], [1, 0, 0]]), np.array([[0, 1, 2], [0, 0, 0]]))
    points = np.array([[1.5, 2.0, 0.0], [-3.0, 4.0, 0.0], [2.0, 0.0, 0.0]])
    assert np.allclose(Triangles.of(line).nearest(points).distance, [2, 5, 0])


def test_what_is_out_of_reach_is_not_found() -> None:
    found = Triangles.of(ball(1.0)).nearest(np.array([[1.5, 0, 0], [3.0, 0, 0]]), within=1.0)
    assert found.face[0] >= 0 and found.face[1] == -1 and found.distance[1] == math.inf
    nothing = Triangles.of(Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64)))
    assert nothing.nearest(np.zeros((1, 3))).face[0] == -1 and not nothing.inside(np.zeros((1, 3)))[0]


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_inside_is_what_solid_angles_say(seed: int) -> None:
    """Of two balls that run into each other, as one mesh: parity would have their common part outside."""
    rng = np.random.default_rng(seed)
    one, other = ball(1.0, fine=2), ball(0.8, rng.normal(0, 0.5, 3), fine=2)
    joint = Mesh(
        np.concatenate([one.vertices, other.vertices]), np.concatenate([one.faces, other.faces + len(one.vertices)])
    )
    points = rng.uniform(-1.5, 1.5, (60, 3))
    assert (Triangles.of(joint).inside(points) == inside_reference(joint, points)).all()


def test_rays_through_edges_and_corners_count_once() -> None:
    """The rays of all points of the lattice run along faces' sides, through their corners or along their diagonals."""
    points = np.array(list(itertools.product((-0.75, -0.25, 0.0, 0.25, 0.75), repeat=3)))
    assert (Triangles.of(cube(1.0)).inside(points) == (np.abs(points) < 0.5).all(1)).all()
    octahedron = Mesh(
        np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]),
        np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]),
    )
    inner = points[np.abs(np.abs(points).sum(1) - 1) > 0.01]
    assert (Triangles.of(octahedron).inside(inner) == (np.abs(inner).sum(1) < 1)).all()


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_line_through_a_corner_passes_one_of_the_triangles_around_it(seed: int) -> None:
    """A triangulated square of lattice points, any three of which may be on a line; lines go through all of them."""
    rng = np.random.default_rng(seed)
    inner = np.unique(rng.integers(1, 6, (12, 2)), axis=0)
    places = np.concatenate([[[0, 0], [6, 0], [0, 6], [6, 6]], inner]).astype(np.float64)
    corners = np.concatenate([rng.normal(0, 1, (len(places), 1)), places], 1)[Delaunay(places).simplices]
    for y, z in itertools.product(range(1, 6), repeat=2):
        passed = [crossing(corner, 0, float(y), float(z))[0] for corner in corners]
        assert sum(map(abs, passed)) == 1, (y, z)


# Solids


def test_a_cube_fills_its_cells_and_moved_ones_share_what_they_should() -> None:
    assert solid(cube(0.4)).cells == 20**3
    assert iou(solid(cube(0.4)), solid(cube(0.4, (0.1, 0, 0)))) == pytest.approx(0.3 / 0.5, abs=1e-12)
    assert iou(solid(cube(0.4)), solid(cube(0.2, (0.1, 0.1, -0.1)))) == pytest.approx(1 / 8, abs=1e-12)
    assert iou(solid(cube(0.4)), solid(cube(0.4, (5, 0, 0)))) == 0.0


@pytest.mark.parametrize("apart", [0.1, 0.4, 0.9])
def test_iou_of_two_balls(apart: float) -> None:
    """Two balls of radius r, d apart, share a lens of pi (4 r + d) (2 r - d)^2 / 12."""
    r = 0.5
    lens = math.pi * (4 * r + apart) * (2 * r - apart) ** 2 / 12
    a, b = solid(ball(r)), solid(ball(r, (apart, 0, 0)))
    assert a.cells * solids.VOXEL**3 == pytest.approx(4 / 3 * math.pi * r**3, rel=0.01)
    assert shared(a, b) * solids.VOXEL**3 == pytest.approx(lens, rel=0.02)
    assert iou(a, b) == pytest.approx(lens / (8 / 3 * math.pi * r**3 - lens), abs=0.01)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_cells_are_those_whose_middles_are_inside(seed: int) -> None:
    turn = Rotation.random(random_state=seed).as_matrix()
    shape = Mesh(cube(0.3).vertices @ turn.T, cube(0.3).faces)
    found = solid(shape, 0.05)
    cells = np.argwhere(np.ones_like(found.filled))
    middles = (cells + found.first + 0.5) * 0.05
    assert (found.filled[tuple(cells.T)] == inside_reference(shape, middles)).all()


def test_small_holes_change_nothing_but_cells_right_at_them() -> None:
    """A hole of three cells a side. One ray through it is outvoted; a cell may have two only if it is at the hole."""
    whole = ball(0.5, (0.003, 0.007, 0.011))
    gone = [5, 1000, 1200, 3000]
    holes = Mesh(whole.vertices, np.delete(whole.faces, gone, axis=0))
    wrong = np.argwhere(solid(holes).filled != solid(whole).filled)
    middles = (wrong + solid(whole).first + 0.5) * solids.VOXEL
    away = np.linalg.norm(middles[:, None] - whole.corners()[gone].mean(1), axis=-1)
    assert len(wrong) <= 2 * len(gone) and (away.min(1) < 2 * solids.VOXEL).all()
    inside_out = Mesh(whole.vertices, whole.faces[:, ::-1].copy())
    assert (solid(inside_out).filled == solid(whole).filled).all()


def test_nothing_and_what_is_much_too_large() -> None:
    nothing = solid(Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64)))
    assert iou(nothing, nothing) is None and iou(nothing, solid(cube(0.2))) == 0.0
    with pytest.raises(InputError, match=r"^v_iou: expected people of a few metres, found a surface of 500 x 500"):
        solid(cube(500.0))


# Surfaces


def test_samples_are_spread_by_area() -> None:
    """A unit square of three triangles: with 1/2, 1/4 and 1/4 of its area."""
    corner = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 0]])
    square = Mesh(corner, np.array([[0, 1, 2], [0, 2, 3], [4, 4, 4]]))
    found = sampled(square, 20_000, seeded())
    assert (found.normals == [0, 0, 1]).all()
    counted, *_ = np.histogram2d(found.points[:, 0], found.points[:, 1], 4, ((0, 1), (0, 1)))
    assert np.abs(counted / 20_000 - 1 / 16).max() < 0.006  # 3.5 deviations of independent draws
    assert (sampled(square, 100, seeded()).points == sampled(square, 100, seeded()).points).all()
    assert len(sampled(Mesh(corner, np.array([[4, 4, 4]])), 100, seeded()).points) == 0


def test_two_balls_with_one_middle() -> None:
    found = both(ball(0.5), ball(0.4))
    assert found["chamfer_cm"] == pytest.approx(10, rel=0.01) and found["p2s_cm"] == pytest.approx(10, rel=0.01)
    assert found["normal_consistency"] == pytest.approx(1, abs=0.005)
    assert found["v_iou"] == pytest.approx(0.8**3, abs=0.01)


def test_a_moved_cube() -> None:
    """From a cube of 40 cm, moved by 10 cm along x, to where it was.

    The front is 10 cm away. Of the back, inside, points are min(0.1, m) away, m from the nearest side, of which the
    share (1 - 5 t)^2 has m > t: (1 - 1/8) / 15. Sides reach out by 10 of 40 cm: 0.1^2 / 2 / 0.4.
    """
    away = (0.1 + 0.875 / 15 + 4 * 0.0125) / 6
    found = both(cube(0.4), cube(0.4, (0.1, 0, 0)))
    assert found["p2s_cm"] == pytest.approx(100 * away, rel=0.02)
    assert found["chamfer_cm"] == pytest.approx(100 * away, rel=0.02)  # it is as far from the one to the other
    assert found["v_iou"] == pytest.approx(0.6, abs=1e-12)


def test_p2s_is_one_way_and_chamfer_is_both() -> None:
    """Half of a ball lies on the ball, but not the ball on its half."""
    whole = ball(0.5)
    half = Mesh(whole.vertices, whole.faces[whole.corners().mean(1)[:, 2] > 0])
    found = both(whole, half)
    assert found["p2s_cm"] < 1e-6 and found["chamfer_cm"] > 5
    assert both(half, whole)["p2s_cm"] == pytest.approx(2 * found["chamfer_cm"], rel=0.02)


def test_normals_of_tilted_planes() -> None:
    flat = Mesh(np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    turn = Rotation.from_rotvec([math.radians(30), 0, 0]).as_matrix()
    tilted = Mesh(flat.vertices @ turn.T, flat.faces[:, ::-1].copy())  # facing the other way, which does not count
    assert both(flat, tilted)["normal_consistency"] == pytest.approx(math.cos(math.radians(30)), abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_laws_of_distances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (Shape.of(ball(r, at, fine=2), seeded(seed)) for r, at in ((0.4, (0, 0, 0)), (0.5, rng.normal(0, 0.2, 3))))
    same, there, back = compare(a, a), compare(a, b), compare(b, a)
    assert same["chamfer_cm"] < 1e-9 and same["p2s_cm"] < 1e-9 and same["v_iou"] == 1
    assert same["normal_consistency"] == pytest.approx(1, abs=1e-9)
    for key in ("chamfer_cm", "normal_consistency", "v_iou"):
        assert there[key] == pytest.approx(back[key], abs=1e-12)
    assert there["p2s_cm"] + back["p2s_cm"] == pytest.approx(2 * there["chamfer_cm"], rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_rigid_motions_are_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn, shift, points = Rotation.random(random_state=seed).as_matrix(), rng.normal(0, 1, 3), rng.normal(0, 1, (20, 3))
    found = rigid(points, points @ turn.T + shift)
    assert np.allclose(found[0], turn, atol=1e-9) and np.allclose(found[1], shift, atol=1e-9)
    mirrored, _ = rigid(points, points * [-1, 1, 1])
    assert np.linalg.det(mirrored) == pytest.approx(1, abs=1e-9)


def test_alignment_undoes_a_small_motion_and_keeps_shape(body: Body) -> None:
    rest = Mesh(body.vertices.double().numpy(), body.faces.numpy())
    turn = Rotation.from_rotvec([0.03, 0.06, -0.04]).as_matrix()
    truth = Shape.of(rest, seeded(1))
    moved = Shape.of(Mesh(rest.vertices @ turn.T + [0.02, -0.01, 0.03], rest.faces), seeded(2))
    before, after = compare(truth, moved), compare(truth, aligned(truth, moved))
    assert after["chamfer_cm"] < 0.1 * before["chamfer_cm"] and after["v_iou"] > 0.95 > before["v_iou"]
    placed = aligned(truth, moved).mesh.vertices
    edge = rest.faces[:, :2]
    lengths = [np.linalg.norm(v[edge[:, 0]] - v[edge[:, 1]], axis=-1) for v in (rest.vertices, placed)]
    assert np.abs(lengths[0] - lengths[1]).max() < 1e-9


# Poses


@pytest.fixture(scope="module")
def body() -> Body:
    return makehuman()


def test_a_moved_body_is_off_by_its_shift_and_not_at_all_from_its_root(body: Body) -> None:
    pose = 0.3 * torch.randn(3, 22, 3)
    shift = torch.tensor([0.03, 0.0, 0.04])
    a, b = (body.posed(torch.zeros(10), pose, shift.expand(3, 3) * k) for k in (0, 1))
    for key in ("joints", "vertices"):
        one, other = getattr(a, key).double().numpy(), getattr(b, key).double().numpy()
        roots = a.joints[:, 0].double().numpy(), b.joints[:, 0].double().numpy()
        assert position_mm(one, other) == pytest.approx(50, abs=1e-3)
        assert position_mm(rooted(one, roots[0]), rooted(other, roots[1])) == pytest.approx(0, abs=1e-3)
    assert position_mm(np.zeros((0, 22, 3)), np.zeros((0, 22, 3))) is None


def test_a_turned_elbow_moves_the_hand_alone(body: Body) -> None:
    """By 2 sin(angle / 2) times the hand's distance from the axis; the mean is over 22 joints."""
    names, angle = body.joint_names, 0.4
    pose = torch.zeros(1, 22, 3)
    pose[0, names.index("lowerarm_l"), 2] = angle
    a, b = (body.posed(torch.zeros(10), p, torch.zeros(1, 3)).joints.double().numpy() for p in (0 * pose, pose))
    arm = (body.joints[names.index("hand_l")] - body.joints[names.index("lowerarm_l")])[:2].norm().item()
    assert position_mm(a, b) == pytest.approx(1000 * 2 * math.sin(angle / 2) * arm / 22, abs=1e-2)


def test_acceleration_is_the_second_difference_of_the_error() -> None:
    frames = np.arange(7)
    t = frames[:, None, None] / 24
    truth = np.sin(t) * np.ones((7, 4, 3))
    found = (
        truth + 0.5 * 3.0 * t**2 * np.array([1.0, 0, 0]) + 2 * t + 5
    )  # 3 m/s^2 along x; speed and place do not count
    assert acceleration_m_s2(truth, found, frames, 24.0) == pytest.approx(3, abs=1e-9)
    assert acceleration_m_s2(truth, truth, frames, 24.0) == 0
    gaps = np.array([0, 1, 3, 4, 6])
    assert acceleration_m_s2(truth[gaps], found[gaps], gaps, 24.0) is None
    some = np.array([0, 2, 3, 4, 6])  # 3 is the only one with both neighbours
    assert acceleration_m_s2(truth[some], found[some], some, 24.0) == pytest.approx(3, abs=1e-9)


def test_depths_are_along_the_axis_of_the_camera() -> None:
    c2w = look_at(torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([0.0, 1.0, 0.0]))
    root = np.array([[[1.0, 2.0, 0.0], [4.0, -1.0, 2.0]]])
    assert np.allclose(depths(root, c2w.double().numpy()), [[5, 3]])


def test_layers_begin_where_the_next_is_farther() -> None:
    assert layers(np.array([3.0, 1.0, 1.25, 1.5, 2.0])).tolist() == [2, 0, 0, 0, 1]  # a chain of small steps is one
    assert layers(np.zeros(0)).tolist() == []


@pytest.mark.parametrize(
    ("truth", "found", "right"),
    [
        ([2.0, 3.0], [2.0, 3.0], 1),
        ([2.0, 3.0], [3.0, 2.0], 0),  # swapped
        ([2.0, 3.0], [2.5, 2.6], 0),  # in order, but not by the threshold
        ([2.0, 2.1], [2.1, 2.0], 1),  # one layer: either way, while near
        ([2.0, 2.1], [2.0, 2.3], 0),
        ([2.0, 2.2], [2.0, 2.2], 0),  # one layer by the gap, but the truth is not within the threshold
        ([2.0, 3.0, 4.0], [2.0, 4.0, 3.0], 2),
    ],
)
def test_depth_relations(truth: list[float], found: list[float], right: int) -> None:
    present = np.ones((1, len(truth)), np.bool_)
    pairs = math.comb(len(truth), 2)
    assert depth_relations(np.array([truth]), np.array([found]), present) == (right, pairs)
    turned = [np.array([d[::-1]]) for d in (truth, found)]
    assert depth_relations(turned[0], turned[1], present) == (right, pairs)  # whoever is numbered first
    assert depth_relations(np.array([truth]), np.array([found]), ~present) == (0, 0)


# Closeness


def test_contacts_are_the_nearest_vertices_both_ways() -> None:
    a = np.array([[0.0, 0, 0], [1.0, 0, 0], [5.0, 0, 0]])
    b = np.array([[0.0, 0.01, 0], [1.0, 0.02, 0], [1.0, 0.025, 0], [9.0, 0, 0]])
    pairs = contacts(a, b)
    assert pairs.tolist() == [[0, 0], [1, 1], [0, 0], [1, 1], [1, 2]]
    assert contact_mm(a, b, pairs) == pytest.approx((10 + 20 + 10 + 20 + 25) / 5)
    far, near = b + np.array([0, 0, 10.0]), b + np.array([0, 0, 0.1])
    assert contact_mm(a, far, contacts(a, far)) is None
    apart = [math.hypot(y, 0.1) for y in (0.01, 0.02, 0.01, 0.02, 0.025)]
    assert contact_mm(a, near, pairs) == pytest.approx(1000 * sum(apart) / 5)


@pytest.mark.parametrize("apart", [1.2, 1.5, 1.8])
def test_penetration_of_two_balls(apart: float) -> None:
    """Of a unit sphere, the cap with cos > d / 2 is inside one that is d away: (1 - d / 2) / 2 of its area.

    A point of the cap is 1 - sqrt(1 + d^2 - 2 d cos) deep, and the cosine is even over a sphere's area.
    """
    found = overlap(ball(1.0), ball(1.0, (apart, 0, 0)))
    cosine = np.linspace(apart / 2, 1, 10001)
    deep = 1000 * (1 - np.sqrt(1 + apart**2 - 2 * apart * cosine)).mean()
    assert found.share_percent == pytest.approx(100 * (1 - apart / 2) / 2, rel=0.05)
    assert found.depth_mm == pytest.approx(deep, rel=0.05)
    assert found.gap == 0.0


def test_people_apart_do_not_penetrate_and_have_a_gap() -> None:
    found = overlap(ball(1.0), ball(0.5, (2.0, 1.5, 0)))
    assert (found.inside, found.depth, found.depth_mm, found.share_percent) == (0, 0.0, 0.0, 0.0)
    assert found.gap == pytest.approx(2.5 - 1.5, abs=0.01)
    # A small vertex before the middle of a large face, and the other way round.
    near = overlap(cube(2.0), ball(0.1, (1.3, 0.111, 0.222)))
    assert near.gap == pytest.approx(0.2, abs=1e-3)
    assert overlap(ball(0.1, (1.3, 0.111, 0.222)), cube(2.0)).gap == near.gap


# Pictures


def test_masks_of_known_pixels() -> None:
    truth, found = torch.zeros(2, 8, 8, dtype=torch.bool), torch.zeros(2, 8, 8, dtype=torch.bool)
    truth[0, :4], found[0, 2:6, :4] = True, True  # 32 and 16 pixels, 8 of them shared
    empty = torch.zeros(8, 8, dtype=torch.bool)
    first = mask_numbers([counts(truth[0], found[0])])
    assert first == {"masks": 1, "mask_iou": 8 / 40, "mask_recall": 8 / 32, "mask_f1": 16 / 48}
    assert mask_numbers([counts(truth[0], found[0]), counts(empty, empty)]) == first  # hidden, and not found
    ghost = mask_numbers([counts(truth[0], truth[0]), counts(empty, found[0])])
    assert ghost == {"masks": 2, "mask_iou": 0.5, "mask_recall": 1.0, "mask_f1": 0.5}
    nobody = mask_numbers([counts(empty, empty)])
    assert nobody == {"masks": 0, "mask_iou": None, "mask_recall": None, "mask_f1": None}
    with pytest.raises(InputError, match=r"^masks: expected 8 x 8 pixels as in truth, found 4 x 8$"):
        counts(empty, empty[:, :4])


def picture_pair() -> tuple[Tensor, Tensor]:
    a = torch.randint(0, 256, (24, 31, 3), dtype=torch.uint8)
    noise = torch.randint(-30, 30, a.shape)
    return a, (a.long() + noise).clamp(0, 255).to(torch.uint8)


def test_pictures_whole_are_those_of_the_metrics_of_fields() -> None:
    a, b = picture_pair()
    everywhere = torch.ones(24, 31, dtype=torch.bool)
    found = picture_numbers(a, b, everywhere)
    for prefix in ("", "people_"):
        assert found[f"{prefix}psnr_db"] == pytest.approx(psnr(a / 255, b / 255), abs=1e-6)
        assert found[f"{prefix}ssim"] == pytest.approx(ssim(a / 255, b / 255), abs=1e-9)


def test_pictures_of_people_alone_count_their_pixels() -> None:
    a, b = picture_pair()
    people = torch.zeros(24, 31, dtype=torch.bool)
    people[8:16, 10:20] = True
    b[people] = a[people] // 2
    square = ((a[people].double() - b[people].double()) / 255).square().mean().item()
    found = picture_numbers(a, b, people)
    assert found["people_psnr_db"] == pytest.approx(-10 * math.log10(square), abs=1e-4)
    beside = picture_numbers(torch.where(people[..., None], a, 0), torch.where(people[..., None], b, 0), people)
    assert found["people_psnr_db"] == pytest.approx(beside["people_psnr_db"])
    other = b.clone()
    other[:2, :2] = 0  # farther from people than the window reaches
    assert picture_numbers(a, other, people)["people_ssim"] == pytest.approx(found["people_ssim"], abs=1e-12)
    nobody = picture_numbers(a, b, torch.zeros_like(people))
    assert nobody["people_psnr_db"] is None and nobody["people_ssim"] is None and nobody["psnr_db"] is not None
    assert set(picture_numbers(a, b, None)) == {"psnr_db", "ssim"}


def test_pictures_of_other_sizes_are_refused() -> None:
    a, b = picture_pair()
    with pytest.raises(InputError, match=r"^pictures: expected 31 x 24 pixels as in truth, found 30 x 24$"):
        picture_numbers(a, b[:, :-1], None)
    with pytest.raises(InputError, match=r"^ssim: expected 11 pixels a side or more, found 31 x 8$"):
        picture_numbers(a[:8], b[:8], None)


def test_means_leave_out_what_is_not_there() -> None:
    assert mean([1.0, None, 3.0]) == 2.0
    assert mean([]) is None and mean([None]) is None and mean([1.0, math.inf]) is None


# Reports


def toy() -> Body:
    """A ball of 25 cm with a joint in its middle and one at its top that moves the upper half."""
    shape = ball(0.25, (0, 0.25, 0), fine=3)
    vertices, faces = torch.from_numpy(shape.vertices).float(), torch.from_numpy(shape.faces)
    joints = torch.tensor([[0.0, 0.25, 0.0], [0.0, 0.5, 0.0]])
    count = len(vertices)
    upper = (vertices[:, 1] > 0.25).long()[:, None]
    return Body(
        name="toy",
        joint_names=("root", "top"),
        parents=(-1, 0),
        vertices=vertices,
        shape_directions=torch.zeros(count, 3, 1),
        joints=joints,
        joint_directions=torch.zeros(2, 3, 1),
        faces=faces,
        weight_index=upper,
        weights=torch.ones(count, 1),
        keypoints=torch.arange(17) % 2,
    )


TOY = toy()
FRAMES = 3


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of toys take a tenth of the points."""
    monkeypatch.setattr(report_module, "SAMPLES", 1000)


def person(name: str, x: float, z: float = 0.0) -> Person:
    place = torch.tensor([[x, 0.0, z]]).repeat(FRAMES, 1)
    return Person(name, TOY, torch.zeros(1), torch.zeros(FRAMES, 2, 3), place, torch.ones(FRAMES, dtype=torch.bool))


def recording(*people: Person) -> Recording:
    """Seen from +z; labels show the first two people as squares, the second one hidden in frame 0."""
    eye, middle = torch.tensor([[0.0, 0.25, 4.0]]), torch.tensor([[0.0, 0.25, 0.0]])
    c2w = look_at(eye, middle, torch.tensor([0.0, 1.0, 0.0])).repeat(FRAMES, 1, 1)
    frames = list(torch.randint(0, 256, (FRAMES, 16, 16, 3), generator=seeded(), dtype=torch.uint8))
    labels = torch.zeros(FRAMES, 16, 16, dtype=torch.uint8)
    labels[:, 6:9, 6:8], labels[1:, 6:9, 8:10] = 1, 2
    return Recording(frames, pinhole(c2w, 16, 16, 0.8), people, list(labels))


def surfaces(people: Sequence[Person]) -> dict[str, Moving]:
    return {p.name: Moving(p.posed().vertices.numpy(), TOY.faces.numpy()) for p in people}


def truth_of(*people: Person) -> Truth:
    made = recording(*people)
    return Truth(made, surfaces(people), made)


def found_of(*people: Person, given: Recording | None = None) -> Found:
    moving = surfaces(people)
    made = recording(*people)
    return Found(made, lambda t: [moving[p.name].at(t) for p in people], made.frames, made.frames, given)


def test_the_truth_is_like_itself() -> None:
    people = person("ann", -0.3), person("bob", 0.3, 0.5)
    calls: list[tuple[int, int]] = []
    report = evaluate(
        truth_of(*people), found_of(*people), progress=lambda done, total, note="": calls.append((done, total))
    )
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert calls[0] == (0, FRAMES) and calls[-1] == (FRAMES, FRAMES)
    shape = report["surfaces"]["found"]["mean"]
    assert shape["v_iou"] == 1 and shape["chamfer_cm"] < 1e-5 and shape["found_share"] == 1
    assert shape["normal_consistency"] > 0.9999 and shape["aligned"]["chamfer_cm"] < 1e-4
    assert report["surfaces"]["true_body"]["people"]["ann"]["chamfer_cm"] < 1e-5
    poses = report["poses"]["found"]["people"]["bob"]
    assert poses["mpjpe_mm"] == poses["mve_mm"] == poses["acceleration_m_s2"] == 0 and poses["points"] == "joints"
    pairs = report["pairs"]
    assert pairs["found"]["pcdr"] == 1 and pairs["found"]["gap_error_mm"] == 0 and pairs["found"]["contact_mm"] is None
    assert pairs["truth"]["gap_mm"] == pytest.approx(1000 * (math.hypot(0.6, 0.5) - 0.5), abs=5)
    masks = report["masks"]
    assert masks["mean"]["mask_iou"] == 1 and masks["people"]["ann"]["masks"] == 3
    assert masks["people"]["bob"]["masks"] == 2  # hidden in frame 0
    assert report["pictures"]["ssim"] == 1 and report["pictures"]["psnr_db"] is None  # infinite
    assert "given" not in report["poses"]


def test_what_was_moved_is_as_far_away_as_it_was_moved_and_better_than_what_was_given() -> None:
    people = person("ann", -0.3), person("bob", 0.3)
    truth = truth_of(*people)
    report = evaluate(
        truth,
        found_of(person("ann", -0.31), person("bob", 0.29), given=recording(person("ann", -0.2), person("bob", 0.4))),
    )
    assert report["poses"]["found"]["mean"]["mpjpe_mm"] == pytest.approx(10, abs=1e-3)
    assert report["poses"]["given"]["mean"]["mve_mm"] == pytest.approx(100, abs=1e-3)
    assert report["poses"]["given"]["mean"]["mve_rooted_mm"] == pytest.approx(0, abs=1e-3)
    rows = report["surfaces"]
    # A point of a ball that is moved by d is |d cos| away from where it was, to first order: d / 2 on average.
    assert rows["found"]["mean"]["chamfer_cm"] == pytest.approx(0.5, rel=0.05)
    assert rows["found_body"]["mean"]["chamfer_cm"] == pytest.approx(0.5, rel=0.05)
    assert rows["given_body"]["mean"]["chamfer_cm"] > 4 and rows["true_body"]["mean"]["chamfer_cm"] < 1e-5
    assert rows["found"]["mean"]["aligned"]["chamfer_cm"] < 0.1
    assert report["pairs"]["found"]["gap_error_mm"] == pytest.approx(0, abs=1e-3)


def test_people_who_are_closer_than_they_should_be() -> None:
    report = evaluate(
        truth_of(person("ann", -0.26), person("bob", 0.26)), found_of(person("ann", -0.2), person("bob", 0.2))
    )["pairs"]
    assert report["truth"]["penetration_percent"] == 0 and report["truth"]["gap_mm"] == pytest.approx(20, abs=3)
    assert report["found"]["gap_error_mm"] == pytest.approx(20, abs=3) and report["found"]["gap_mm"] == 0
    assert report["found"]["penetration_percent"] == pytest.approx(100 * (1 - 0.2 / 0.25) / 2, rel=0.2)
    assert report["truth"]["contact_mm"] < 30 and report["found"]["contact_mm"] > report["truth"]["contact_mm"]
    assert report["found"]["contact_frames"] == FRAMES


def test_people_are_matched_by_name_and_else_by_place() -> None:
    ann, bob = person("ann", -0.3), person("bob", 0.3)
    by_name = matched(recording(ann, bob), recording(replace(ann, name="bob"), replace(bob, name="ann")))
    assert (by_name.pairs, by_name.by) == (((0, 1), (1, 0)), "name")
    by_root = matched(recording(ann, bob), recording(person("x", 0.4), person("y", -0.4), person("z", 9.0)))
    assert (by_root.pairs, by_root.by) == (((0, 1), (1, 0)), "root")
    never = replace(person("x", -0.3), present=torch.zeros(FRAMES, dtype=torch.bool))
    assert matched(recording(ann), recording(never)).pairs == ()


def test_swapped_depths_are_in_the_wrong_order() -> None:
    truth = truth_of(person("ann", -0.3, 0.5), person("bob", 0.3, -0.5))
    report = evaluate(truth, found_of(person("ann", -0.3, -0.5), person("bob", 0.3, 0.5)))
    assert report["pairs"]["found"]["pcdr"] == 0 and report["pairs"]["found"]["pcdr_pairs"] == FRAMES
    assert report["pairs"]["truth"]["pcdr"] == 1


def test_who_is_missing_and_what_has_no_surface_is_said() -> None:
    people = person("ann", -0.3), person("bob", 0.3)
    moving = surfaces(people)
    hole = Found(recording(person("stranger", 0.3)), lambda t: [None if t else moving["bob"].at(t)])
    report = evaluate(truth_of(*people), hole)
    assert report["people"] == {
        "matched_by": "root",
        "found_as": {"bob": "stranger"},
        "missing": ["ann"],
        "extra": [],
    }
    bob = report["surfaces"]["found"]["people"]["bob"]
    assert bob["found_share"] == pytest.approx(1 / 3) and bob["v_iou"] == pytest.approx(1 / 3)
    assert bob["chamfer_cm"] < 1e-5  # of the one frame
    assert report["pictures"] is None and report["views"] is None
    text = table({"run": report})
    assert "run: means are without ann, who was not found." in text
    assert "run: distances are of the 33 % of people's frames that have a surface." in text


def test_frames_in_which_somebody_is_hidden_are_left_out() -> None:
    ann = person("ann", -0.3)
    there = torch.tensor([True, True, False])
    moved = replace(ann, place=ann.place + torch.tensor([[0.0], [0.0], [5.0]]), present=there)
    report = evaluate(truth_of(ann), found_of(moved))
    assert report["poses"]["found"]["mean"]["mpjpe_mm"] == 0
    assert report["poses"]["found"]["mean"]["found_share"] == pytest.approx(2 / 3)
    hidden = evaluate(truth_of(replace(ann, present=there)), found_of(moved))
    assert hidden["surfaces"]["found"]["mean"]["v_iou"] == 1
    assert hidden["poses"]["found"]["mean"]["found_share"] == 1


def test_other_bodies_are_compared_by_keypoints() -> None:
    ann = person("ann", -0.3)
    other = replace(ann, body=replace(TOY, name="other"), place=ann.place + 0.01)
    report = evaluate(truth_of(ann), found_of(other))["poses"]["found"]["people"]["ann"]
    assert report["points"] == "keypoints" and report["mve_mm"] is None
    assert report["mpjpe_mm"] == pytest.approx(10 * math.sqrt(3), abs=1e-3)


def test_the_numbers_of_a_frame_do_not_depend_on_the_others() -> None:
    truth, found = truth_of(person("ann", -0.3)), found_of(person("ann", -0.27))
    alone = evaluate(truth, found, [1])["surfaces"]["found"]["people"]["ann"]
    every = [evaluate(truth, found, [t])["surfaces"]["found"]["people"]["ann"]["chamfer_cm"] for t in range(FRAMES)]
    all_of_them = evaluate(truth, found)["surfaces"]["found"]["people"]["ann"]
    assert all_of_them["chamfer_cm"] == pytest.approx(sum(every) / FRAMES, abs=1e-12)
    assert alone["chamfer_cm"] == every[1]


def test_what_does_not_fit_together_is_refused() -> None:
    ann = person("ann", -0.3)
    truth, found = truth_of(ann), found_of(ann)
    short = replace(found, recording=found.recording.at([0, 1]))
    nan = found_of(replace(ann, place=ann.place * torch.tensor([1.0, math.nan, 1.0])))
    broken = surfaces([ann])["ann"].at(0)
    broken.vertices[0, 0] = math.nan
    cases = [
        (truth, short, None, "found: expected 3 frames as in truth, found 2"),
        (truth, replace(found, given=short.recording), None, "given: expected 3 frames as in truth, found 2"),
        (replace(truth, surfaces={}), found, None, "truth: expected a surface of 'ann', found []"),
        (truth, replace(found, pictures=found.recording.frames[:1]), None, "pictures: expected 3 as in truth, found 1"),
        (truth, replace(found, views=[]), None, "views: expected 3 as in truth, found 0"),
        (truth, nan, None, "found: expected finite numbers as the place of 'ann', found NaN or infinity"),
        (truth, found, [3], "frames: expected numbers from 0 to 2, found [3]"),
        (truth, found, [], "frames: expected numbers from 0 to 2, found []"),
        (
            truth,
            replace(found, meshes=lambda t: [ball(50.0)]),
            None,
            "v_iou: expected people of a few metres, found a surface of 100 x 100 x 100 m: ann in frame 0",
        ),
        (
            truth,
            replace(found, meshes=lambda t: [broken]),
            None,
            "found: expected finite vertices, found NaN or infinity: ann in frame 0",
        ),
    ]
    for one, other, frames, text in cases:
        with pytest.raises(InputError) as caught:
            evaluate(one, other, frames)
        assert str(caught.value) == text


def test_runs_side_by_side() -> None:
    truth = truth_of(person("ann", -0.3), person("bob", 0.3))
    start = recording(person("ann", -0.2), person("bob", 0.4))
    runs = {
        f"moved by {d} cm": evaluate(
            truth, found_of(person("ann", -0.3 + d / 100), person("bob", 0.3 + d / 100), given=start), [1]
        )
        for d in (1, 2)
    }
    lines = table(runs).splitlines()
    title = next(line for line in lines if "MPJPE" in line)
    column = title.split(" | ").index("MPJPE, mm ↓")
    poses = itertools.takewhile(bool, lines[lines.index(title) :])
    values = {line.split(" | ")[0].strip("| "): line.split(" | ")[column] for line in poses}
    assert values["moved by 1 cm"] == "10.0" and values["moved by 2 cm"] == "20.0"
    assert values["as given"] == "100.0" and values["truth"] == "–"
    assert sum(line.startswith("| true body, no clothes") for line in lines) == 1
    for line, following in itertools.pairwise(lines):
        if line.startswith("|") and following.startswith("|"):
            assert line.count("|") == following.count("|")
    for column in (*SHAPE, *POSES, *PICTURES):
        here = runs["moved by 1 cm"]
        for key in column.key.format(row="found").split("."):
            assert key in here, column.key
            here = here[key]
    assert "new views" not in table({"a": {**runs["moved by 1 cm"], "views": None}})
