"""People as fields: layers against the paper's formula, warps against the body's vertices, shells against VolSDF."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldcast.errors import FieldcastError
from fieldcast.fields.cameras import Rays
from fieldcast.fields.kinds import default_spec
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.spec import FieldSpec
from fieldcast.fields.triangles import Triangles
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.layers import Layers, layered, merged
from fieldcast.reconstruct.avatars.people import look_at_people
from fieldcast.reconstruct.avatars.rays import STEP, near_person
from fieldcast.reconstruct.avatars.shell import LIMIT, Shell, inset, log_laplace, shell_of, trilinear
from fieldcast.reconstruct.avatars.surface import rest_mesh
from fieldcast.reconstruct.avatars.template import REACH, signed_distances, template_of
from fieldcast.reconstruct.avatars.warp import CELL, NEAR, Places, inverse, places_of
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.capsules import capsules
from fieldcast.reconstruct.recordings.recording import Person


@pytest.fixture(scope="module")
def body() -> Body:
    return capsules()


@pytest.fixture(scope="module")
def moved(body: Body) -> tuple[Tensor, Tensor, Tensor]:
    """Shape, pose and place of three frames."""
    g = torch.Generator().manual_seed(4)
    pose = 0.3 * torch.randn(3, len(body.parents), 3, generator=g)
    return torch.zeros(body.shapes), pose, torch.randn(3, 3, generator=g)


def by_the_formula(tau: Tensor, rgb: Tensor, t: Tensor, person: Tensor, people: int) -> tuple[Tensor, Tensor, Tensor]:
    """One ray, sample by sample, in float64: each is dimmed by all that is nearer, whosever it is."""
    o = 1 - torch.exp(-tau.double())
    color, opacity = torch.zeros(3).double(), torch.zeros(people).double()
    for i in range(len(tau)):
        light = 1.0
        for j in range(len(tau)):
            if t[j] < t[i]:
                light *= 1 - float(o[j])
        color += float(o[i]) * light * rgb[i].double()
        opacity[person[i]] += float(o[i]) * light
    return color, opacity, torch.prod(1 - o)


def test_layers_are_those_of_the_papers_formula() -> None:
    g = torch.Generator().manual_seed(0)
    rays, count, people = 5, 60, 3
    ray, person = torch.randint(rays, (count,), generator=g), torch.randint(people, (count,), generator=g)
    tau, t = 0.5 * torch.rand(count, generator=g), torch.rand(count, generator=g)
    rgb = torch.rand(count, 3, generator=g)
    m = merged(ray, t, rays)
    found = layered(tau[m.order], rgb[m.order], t[m.order], person[m.order], m.starts, people)
    for r in range(rays):
        mine = ray == r
        color, opacity, left = by_the_formula(tau[mine], rgb[mine], t[mine], person[mine], people)
        assert torch.allclose(found.rgb[r].double(), color, atol=1e-5)
        assert torch.allclose(found.opacity[r].double(), opacity, atol=1e-5)
        assert abs(float(found.transmittance[r]) - float(left)) < 1e-5
    assert torch.allclose(found.opacity.sum(1) + found.transmittance, torch.ones(rays), atol=1e-5)


def test_merged_samples_are_ray_after_ray_and_front_to_back() -> None:
    g = torch.Generator().manual_seed(1)
    ray, t = torch.randint(7, (100,), generator=g), torch.rand(100, generator=g)
    m = merged(ray, t, 9)
    assert sorted(m.order.tolist()) == list(range(100))
    for r in range(9):
        mine = m.order[m.starts[r] : m.starts[r + 1]]
        assert bool((ray[mine] == r).all()) and bool((t[mine].diff() >= 0).all())
        assert len(mine) == int((ray == r).sum())


def test_who_stands_before_whom_is_seen_alone() -> None:
    """Two opaque sheets: the nearer one is all of the picture, and its depth is where it is."""
    ray, t = torch.zeros(2, dtype=torch.int64), torch.tensor([2.0, 1.0])
    m = merged(ray, t, 1)
    found = layered(torch.full((2,), 100.0), torch.eye(3)[:2], t[m.order], m.order, m.starts, 2)
    assert torch.allclose(found.opacity, torch.tensor([[0.0, 1.0]]))
    assert torch.allclose(found.depth, torch.tensor([[0.0, 1.0]]))


@pytest.fixture(scope="module")
def avatar(body: Body, moved: tuple[Tensor, Tensor, Tensor]) -> Avatar:
    person = Person("ann", body, *moved, torch.ones(3, dtype=torch.bool))
    return Avatar(person, small())


def test_the_warp_takes_posed_vertices_back_to_where_they_are_at_rest(avatar: Avatar, body: Body) -> None:
    vertices, _ = body.at_rest(avatar.known.shape)
    posed, every = avatar.person.posed().vertices, torch.arange(len(body.vertices))
    for t in range(3):
        found = avatar.to_rest(avatar.transforms(), torch.full_like(every, t), every, posed[t])
        assert torch.allclose(found, vertices, atol=1e-5)


def test_when_the_shape_changes_the_shell_stays_where_it_was(body: Body, moved: tuple[Tensor, Tensor, Tensor]) -> None:
    avatar = Avatar(Person("ann", body, *moved, torch.ones(3, dtype=torch.bool)), small())
    before, _ = body.at_rest(avatar.known.shape)
    with torch.no_grad():
        avatar.shape += 0.5
    every = torch.arange(len(before))
    found = avatar.to_rest(avatar.transforms(), torch.ones_like(every), every, avatar.person.posed().vertices[1])
    assert torch.allclose(found, before, atol=1e-5)


def test_points_at_rest_move_with_pose_place_and_shape_as_differences_say(avatar: Avatar) -> None:
    g = torch.Generator().manual_seed(9)
    vertex = torch.randint(len(avatar.known.body.vertices), (12,), generator=g)
    frame = torch.randint(3, (12,), generator=g)
    x = avatar.person.posed().vertices[frame, vertex] + 0.02 * torch.randn(12, 3, generator=g)
    weight = torch.randn(12, 3, generator=g)

    def value() -> Tensor:
        return (avatar.to_rest(avatar.transforms(), frame, vertex, x) * weight).sum()

    parameters = [avatar.pose, avatar.place, avatar.shape]
    gradients = torch.autograd.grad(value(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        way = torch.randn(parameter.shape, generator=g)
        with torch.no_grad():
            parameter += 1e-3 * way
            above = value()
            parameter -= 2e-3 * way
            below = value()
            parameter += 1e-3 * way
        slope = float((above - below) / 2e-3)
        assert abs(float((gradient * way).sum()) - slope) < 0.02 * (1 + abs(slope))


def picture_rays(avatar: Avatar, frame: int, count: int = 24) -> Rays:
    """Parallel rays at the whole of a body."""
    places = avatar.places
    low, high = places.low[frame], places.high[frame]
    x, y = torch.meshgrid(torch.linspace(0, 1, count), torch.linspace(0, 1, count), indexing="ij")
    origins = torch.stack([low[0] + x * (high - low)[0], low[1] + y * (high - low)[1], 0 * x + high[2] + 1], -1)
    return Rays(origins.reshape(-1, 3), torch.tensor([0.0, 0.0, -1.0]).expand(count * count, 3))


def unculled(avatar: Avatar, rays: Rays, frame: int) -> Layers:
    """Every sample asked, one person."""
    at = torch.full((len(rays),), frame)
    near = near_person(avatar.places, rays, at)
    rest = avatar.to_rest(avatar.transforms(), at[near.ray], near.vertex, near.x)
    sigma, rgb = avatar.shell.decode(avatar.shell.features(rest), near.x)
    m = merged(near.ray, near.t, len(rays))
    return layered((sigma * STEP)[m.order], rgb[m.order], near.t[m.order], torch.zeros_like(m.order), m.starts, 1)


def test_what_is_left_out_would_not_have_been_seen(avatar: Avatar) -> None:
    avatar.shell.beta.fill_(0.008)
    rays = picture_rays(avatar, 1)
    with torch.no_grad():
        found, every = (
            look_at_people([avatar], rays, torch.ones(len(rays), dtype=torch.int64)),
            unculled(avatar, rays, 1),
        )
    assert float(every.opacity.max()) > 0.99 and float(every.opacity.min()) < 0.01
    assert float((found.opacity - every.opacity).abs().max()) < 0.01
    assert float((found.rgb - every.rgb).abs().max()) < 0.01


def test_the_silhouette_of_a_new_avatar_is_its_bodys(avatar: Avatar) -> None:
    avatar.shell.beta.fill_(0.003)
    rays = picture_rays(avatar, 0)
    with torch.no_grad():
        seen = look_at_people([avatar], rays, torch.zeros(len(rays), dtype=torch.int64)).opacity[:, 0] > 0.5
    mesh = Mesh(avatar.person.posed([0]).vertices[0].double().numpy(), avatar.known.body.faces.numpy())
    t, _ = mesh.surfaces().caster.meet(rays.origins.double().numpy(), rays.directions.numpy())
    body = torch.from_numpy(np.isfinite(t))
    assert float((seen & body).sum() / (seen | body).sum()) > 0.85  # a cell of the template is 1.5 cm, a ray's 8 cm


def test_of_two_people_the_nearer_hides_the_other_and_order_does_not_matter(
    body: Body, moved: tuple[Tensor, Tensor, Tensor]
) -> None:
    shape, pose, place = moved
    present = torch.ones(3, dtype=torch.bool)
    front = Avatar(Person("ann", body, shape, pose, place + torch.tensor([0.0, 0.0, 1.0]), present), small(), 1)
    back = Avatar(Person("bob", body, shape, pose, place, present), small(), 2)
    for one in (front, back):
        one.shell.beta.fill_(0.003)
    rays, at = picture_rays(front, 2), torch.full((24 * 24,), 2)
    with torch.no_grad():
        both, alone = look_at_people([back, front], rays, at), look_at_people([front], rays, at)
        swapped = look_at_people([front, back], rays, at)
    assert torch.allclose(both.opacity[:, 1], alone.opacity[:, 0], atol=0.01)
    assert torch.allclose(both.opacity.flip(1), swapped.opacity, atol=1e-6)
    assert float(both.opacity[alone.opacity[:, 0] > 0.99, 0].max()) < 0.02


def test_gradients_reach_poses_only_if_they_are_asked_for(avatar: Avatar) -> None:
    rays = picture_rays(avatar, 1)
    at = torch.ones(len(rays), dtype=torch.int64)
    for moving in (False, True):
        avatar.zero_grad()
        look_at_people([avatar], rays, at, torch.Generator().manual_seed(0), moving=moving).rgb.sum().backward()
        assert all(p.grad is not None for p in avatar.shell.inner.parameters())
        for parameter in (avatar.pose, avatar.place, avatar.shape):
            assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == moving


def test_inverses_undo_affine_maps() -> None:
    g = torch.Generator().manual_seed(2)
    maps = torch.cat([torch.eye(3) + 0.2 * torch.randn(8, 3, 3, generator=g), torch.randn(8, 3, 1, generator=g)], -1)
    x = torch.randn(8, 3, generator=g)
    there = (maps[:, :, :3] @ x[:, :, None])[..., 0] + maps[:, :, 3]
    m = inverse(maps)
    assert torch.allclose((m[:, :, :3] @ there[:, :, None])[..., 0] + m[:, :, 3], x, atol=1e-4)


def test_places_know_the_nearest_vertex_but_for_half_a_cell(body: Body, moved: tuple[Tensor, Tensor, Tensor]) -> None:
    posed = body.posed(*moved).vertices
    places = places_of(posed)
    g = torch.Generator().manual_seed(3)
    for t in range(3):
        x = posed[t][torch.randint(posed.shape[1], (200,), generator=g)] + 0.03 * torch.randn(200, 3, generator=g)
        found = places.at(torch.full((200,), t), x)
        true = torch.cdist(x.double(), posed[t].double()).min(1).values
        known = found >= 0
        assert bool(known[true < NEAR - CELL].all()) and not bool(known[true > NEAR + CELL].any())
        chosen = (posed[t][found[known]] - x[known]).norm(dim=-1)
        assert bool((chosen < true[known] + math.sqrt(3) * CELL + 1e-5).all())


def test_nothing_is_near_outside_of_the_box(body: Body, moved: tuple[Tensor, Tensor, Tensor]) -> None:
    places = places_of(body.posed(*moved).vertices)
    far = torch.stack([places.low[0] - 0.01, places.high[0] + 1.0, torch.full((3,), 100.0)])
    assert places.at(torch.zeros(3, dtype=torch.int64), far).tolist() == [-1, -1, -1]


def cube_places(low: float, high: float) -> Places:
    """A cube that is all near vertex 0."""
    count = round((high - low) / CELL)
    nearest, row = torch.zeros(1, count, count, count, dtype=torch.int16), torch.zeros(1, dtype=torch.int64)
    return Places(nearest, row, torch.full((1, 3), low), torch.full((1, 3), high))


def test_rays_are_sampled_from_entry_to_exit() -> None:
    rays = Rays(torch.tensor([[0.0, 0.0, 3.0], [5.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, -1.0]]))
    found = near_person(cube_places(-0.5, 0.5), rays, torch.zeros(2, dtype=torch.int64))
    assert bool((found.ray == 0).all()) and len(found.t) == round(1 / STEP)
    assert abs(float(found.t[0]) - 2.5 - STEP / 2) < 1e-5 and bool((found.t.diff() > 0).all())
    assert torch.allclose(found.x[:, 2], 3 - found.t, atol=1e-6)


def test_rays_that_begin_within_are_sampled_forwards_alone() -> None:
    rays = Rays(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    found = near_person(cube_places(-0.5, 0.5), rays, torch.zeros(1, dtype=torch.int64))
    assert float(found.t.min()) >= 0 and len(found.t) == round(0.5 / STEP)


def sphere(radius: float) -> tuple[np.ndarray, np.ndarray]:
    from trimesh.creation import icosphere

    mesh = icosphere(subdivisions=4, radius=radius)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def test_distances_to_a_sphere() -> None:
    vertices, faces = sphere(0.3)
    axis = np.linspace(-0.5, 0.5, 41)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    found = signed_distances(points, Mesh(vertices.astype(np.float64), faces.astype(np.int64)))
    expected = np.clip(np.linalg.norm(points, axis=-1) - 0.3, -REACH, REACH)
    assert np.abs(found - expected).max() < 0.002


def test_a_template_holds_the_body_and_its_volume(body: Body) -> None:
    vertices, _ = body.at_rest(torch.zeros(body.shapes))
    template = template_of(vertices, body.faces, 0.02)
    at = trilinear(template.distances, template.space.to_unit(vertices))
    assert float(at.abs().mean()) < 0.004
    corners = vertices[body.faces].double()
    volume = float((corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6)
    solid = float((template.distances < 0).sum()) * 0.02**3
    assert abs(solid - volume) < 0.06 * volume


def small() -> FieldSpec:
    spec = default_spec("planes")
    return replace(spec, sizes=replace(spec.sizes, resolutions=(16,), channels=4, combine="sum", hidden=16))


@pytest.fixture(scope="module")
def shell(body: Body) -> Shell:
    vertices, _ = body.at_rest(torch.zeros(body.shapes))
    return shell_of(template_of(vertices, body.faces, 0.03), small())


def test_the_density_of_a_shell_is_volsdfs(shell: Shell) -> None:
    """sigma = 1 / beta (1/2 + 1/2 sign(s) expm1(-|s| / beta)) with s the distance from a little inside of the surface,
    with its sign changed.
    """
    g = torch.Generator().manual_seed(5)
    x = shell.spec.space.from_unit(torch.rand(500, 3, generator=g))
    s, beta = -shell.distance(x).double() - float(inset(shell.beta)), float(shell.beta)
    expected = (0.5 - 0.5 * s.sign() * torch.expm1(-s.abs() / beta)) / beta
    assert torch.allclose(shell.density(x).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [0.002, 0.005, 0.02])
@pytest.mark.parametrize("radius", [0.03, 0.06, 0.15])
def test_half_of_the_light_passes_a_ball_where_its_outline_is(shell: Shell, radius: float, beta: float) -> None:
    """Without the inset it is 1 to 2.5 betas outside, by which people that are fitted to outlines become too thin."""
    along, aside = torch.linspace(-0.4, 0.4, 4001), torch.linspace(0, 0.3, 601)
    distance = (along**2 + aside[:, None] ** 2).sqrt() - radius
    with torch.no_grad():
        shell.beta.fill_(beta)
        tau = shell.log_density(distance.flatten()).exp().reshape(distance.shape).sum(1) * 0.8 / 4000
    half = float(aside[tau > math.log(2)].max())
    assert abs(half - radius) < 0.6 * beta


def test_a_shells_surface_stays_within_its_limit_and_follows_its_inner_field(shell: Shell) -> None:
    x = shell.spec.space.from_unit(torch.rand(300, 3, generator=torch.Generator().manual_seed(6)))
    template = trilinear(shell.template, shell.spec.space.to_unit(x))
    offset = template - shell.distance(x)
    assert bool((offset.abs() <= LIMIT + 1e-6).all())
    assert torch.allclose(offset, LIMIT * torch.tanh(shell.inner.logit(x)), atol=1e-6)


def test_a_shell_looks_the_same_from_everywhere(shell: Shell) -> None:
    g = torch.Generator().manual_seed(7)
    x = shell.spec.space.from_unit(torch.rand(50, 3, generator=g))
    d = torch.nn.functional.normalize(torch.randn(2, 50, 3, generator=g), dim=-1)
    assert torch.equal(shell(x, d[0])[1], shell(x, d[1])[1])


def test_laplace_is_finite_and_steep_where_it_should_be() -> None:
    u = torch.tensor([-1e4, -3.0, 0.0, 3.0, 1e4], dtype=torch.float64, requires_grad=True)
    value = log_laplace(u)
    expected = torch.tensor(
        [-1e4 + math.log(0.5), -3 + math.log(0.5), math.log(0.5), math.log(1 - 0.5 * math.exp(-3)), 0]
    )
    assert torch.allclose(value, expected.double())
    (slope,) = torch.autograd.grad(value.sum(), u)
    assert bool(slope.isfinite().all()) and torch.allclose(slope[:2], torch.ones(2).double())


def test_gradients_flow_to_places_and_parameters(shell: Shell) -> None:
    x = shell.spec.space.from_unit(torch.rand(20, 3, generator=torch.Generator().manual_seed(8))).requires_grad_()
    sigma, rgb = shell(x, torch.zeros_like(x))
    (sigma.sum() + rgb.sum()).backward()
    assert x.grad is not None and bool(x.grad.isfinite().all()) and bool((x.grad.abs().sum(1) > 0).any())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in shell.inner.parameters())


def test_the_mesh_of_a_new_avatar_is_its_bodys_and_grows_with_the_shape(
    body: Body, moved: tuple[Tensor, Tensor, Tensor]
) -> None:
    avatar = Avatar(Person("ann", body, *moved, torch.ones(3, dtype=torch.bool)), small())
    with torch.no_grad():
        for parameter in avatar.shell.inner.parameters():
            parameter.zero_()  # no offset anywhere
    avatar.shell.settle()
    for shape in (torch.zeros(body.shapes), torch.full((body.shapes,), 0.5)):
        with torch.no_grad():
            avatar.shape.copy_(shape)
        mesh = rest_mesh(avatar)
        surface = Mesh(body.at_rest(shape)[0].double().numpy(), body.faces.numpy())
        distance = Triangles.of(surface).nearest(mesh.vertices).distance
        assert distance.mean() < 0.003 and len(mesh) > 1000
        assert (mesh.vertex_normals() * (mesh.vertices - mesh.vertices.mean(0))).sum(-1).mean() > 0  # outwards
        assert mesh.colors is not None and len(mesh.colors) == len(mesh.vertices)


def test_an_avatar_without_a_surface_is_told(avatar: Avatar) -> None:
    kept = avatar.shell.coarse.clone()
    avatar.shell.coarse.fill_(1.0)
    with pytest.raises(FieldcastError, match="ann: nothing is left of the surface"):
        rest_mesh(avatar)
    avatar.shell.coarse.copy_(kept)


def test_slopes_and_lopsidedness_are_those_of_the_offset(body: Body, moved: tuple[Tensor, Tensor, Tensor]) -> None:
    """An offset that is the same everywhere has none; one that grows along x has at most its own slope."""
    shell = Avatar(Person("ann", body, *moved, torch.ones(3, dtype=torch.bool)), small()).shell
    g = torch.Generator().manual_seed(10)
    kept = shell.inner.logit
    try:
        shell.inner.logit = lambda x: torch.full_like(x[:, 0], 0.3)  # type: ignore[method-assign]
        slopes, lopsided = shell.unevenness(shell.near(200, g), g)
        assert float(slopes.abs().max()) == 0 and float(lopsided.abs().max()) == 0
        shell.inner.logit = lambda x: torch.atanh(0.1 * x[:, 0] / LIMIT)  # type: ignore[method-assign]
        x = shell.near(2000, g)
        slopes, lopsided = shell.unevenness(x, g)
        assert torch.allclose(lopsided, -0.2 * x[:, 0], atol=1e-5)
    finally:
        shell.inner.logit = kept  # type: ignore[method-assign]
    assert float(slopes.abs().max()) < 0.101
    assert 0.047 < float(slopes.abs().mean()) < 0.053  # |cos| of a direction is 1/2 in the mean
