"""Laws of volume rendering, most of them on scenes whose pictures have a closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fieldcast.fields import Cameras, Image, Occupancy, Rays, Space, build, default_spec, render
from fieldcast.fields.cameras import look_at, pinhole
from fieldcast.fields.rendering import Query, Sampler, Samples, composite, render_image, render_rays, visible
from fieldcast.fields.rendering.sampling import FAR, NEAR, entry_and_exit, step_edges
from fieldcast.fields.rendering.visibility import OPAQUE

BLACK, WHITE = torch.zeros(3), torch.ones(3)
RADIUS = 0.7


def sphere(sigma: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0), radius: float = RADIUS) -> Query:
    """Constant density in a sphere; colours that change with place and direction."""

    def query(x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        inside = (x - x.new_tensor(center)).norm(dim=-1) < radius
        return sigma * inside.to(x), 0.5 + 0.25 * torch.sin(3 * x) + 0.25 * d

    return query


def blobs(x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth densities without any symmetry."""
    centers = x.new_tensor([[0.3, 0.1, -0.2], [-0.4, 0.3, 0.3], [0.0, -0.5, 0.1]])
    near = torch.exp(-((x[:, None] - centers) ** 2).sum(-1) / 0.04)
    return near @ x.new_tensor([6.0, 12.0, 25.0]), torch.sigmoid(near * 4 - 2 + d)


def parallel_rays(offsets: Tensor) -> Rays:
    """Along +x, from x = -3 on, at the heights `offsets`."""
    origins = torch.stack([torch.full_like(offsets, -3.0), torch.zeros_like(offsets), offsets], -1)
    return Rays(origins, torch.tensor([[1.0, 0.0, 0.0]]).expand(len(offsets), 3).contiguous())


def sampler(steps: int = 512, space: Space | None = None, occupancy: Occupancy | None = None) -> Sampler:
    return Sampler(space or Space(), occupancy or Occupancy.full(8), steps)


def camera(width: int = 21, height: int = 15, eye: tuple[float, float, float] = (2.0, -1.7, 1.3)) -> Cameras:
    return pinhole(look_at(torch.tensor([eye]), torch.zeros(1, 3), torch.tensor([0.0, 0.0, 1.0])), width, height, 0.8)


def naive(sigma: np.ndarray, dt: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and leftover transmittance of one ray, sample by sample."""
    transmittance, weights = 1.0, []
    for s, step in zip(sigma, dt, strict=True):
        alpha = 1 - math.exp(-s * step)
        weights.append(transmittance * alpha)
        transmittance *= 1 - alpha
    return np.array(weights), transmittance


# --- closed forms


@pytest.mark.parametrize("sigma", [0.3, 2.0, 20.0])
def test_a_sphere_of_constant_density(sigma: float) -> None:
    """Opacity is 1 - exp(-sigma L) on a chord of length L; depth is the mean of the exponential law cut off at L."""
    steps = 2048
    b = torch.linspace(-0.95, 0.95, 39)
    seen = render_rays(sphere(sigma), parallel_rays(b), sampler(steps), BLACK)
    chord = 2 * (RADIUS**2 - b.double() ** 2).clamp_min(0).sqrt()
    step = 2 * math.sqrt(3) / steps  # each end of the chord is off by half of it, and light below OPAQUE is dropped
    expected = 1 - torch.exp(-sigma * chord)
    assert float((seen.opacity - expected).abs().max()) < sigma * step * float(expected.max()) + OPAQUE
    hit = chord > 0.2
    leftover = torch.exp(-sigma * chord[hit])
    depth = 3 - chord[hit] / 2 + 1 / sigma - chord[hit] * leftover / (1 - leftover)
    assert float((seen.depth[hit] - depth).abs().max()) < 2 * step + OPAQUE
    assert float(seen.depth[chord == 0].abs().max()) == 0


def test_a_dense_sphere_shows_its_surface() -> None:
    b = torch.linspace(-0.6, 0.6, 13)
    seen = render_rays(sphere(1e6), parallel_rays(b), sampler(2048), BLACK)
    surface = 3 - (RADIUS**2 - b**2).sqrt()
    torch.testing.assert_close(seen.depth, surface, rtol=0, atol=2 * math.sqrt(3) / 2048)
    rays = parallel_rays(b)
    at_surface = sphere(1.0)(rays.origins + surface[:, None] * rays.directions, rays.directions)[1]
    torch.testing.assert_close(seen.rgb, at_surface, rtol=0, atol=3e-3)


def test_a_uniform_medium_in_an_open_world() -> None:
    """From the near plane to where the world ends, in steps that grow with the distance."""
    sigma, steps, space = 2e-3, 512, Space(contraction="sphere")
    rays = Rays(torch.zeros(6, 3), torch.nn.functional.normalize(torch.randn(6, 3), dim=-1))
    seen = render_rays(
        lambda x, d: (torch.full_like(x[:, 0], sigma), torch.ones_like(x)), rays, sampler(steps, space), BLACK
    )
    expected = math.exp(-sigma * (FAR - NEAR))
    last = FAR * 4 / steps
    assert seen.transmittance.tolist() == pytest.approx([expected] * 6, rel=sigma * last)
    depth = NEAR + 1 / sigma - FAR * expected / (1 - expected)
    assert seen.depth.tolist() == pytest.approx([depth] * 6, rel=0.01)


@pytest.mark.parametrize("contraction", ["sphere", "cube"])
def test_something_far_away_in_an_open_world(contraction: str) -> None:
    """A ball of radius 10, 40 box sizes away, seen from inside the box."""
    steps, space = 2048, Space(contraction=contraction)
    query = sphere(0.05, (40.0, 0.0, 0.0), 10.0)
    rays = Rays(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    seen = render_rays(query, rays, sampler(steps, space), BLACK)
    assert float(seen.opacity) == pytest.approx(1 - math.exp(-0.05 * 20), abs=0.05 * 50 * 4 / steps)


def test_a_camera_inside_sees_from_its_near_plane_on() -> None:
    rays = Rays(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.0]]))
    seen = render_rays(lambda x, d: (torch.full_like(x[:, 0], 2.0), torch.ones_like(x)), rays, sampler(2048), BLACK)
    assert float(seen.transmittance) == pytest.approx(math.exp(-2 * (1 - NEAR)), abs=2 * 2 * math.sqrt(3) / 2048)


def test_nothing_is_the_background() -> None:
    background = torch.tensor([0.2, 0.5, 0.9])
    rays = parallel_rays(torch.linspace(-3, 3, 7))  # some miss the box, some cross it
    for query in (sphere(0.0), sphere(5.0, (0.0, 0.0, 9.0))):
        seen = render_rays(query, rays, sampler(), background)
        assert torch.equal(seen.rgb, background.expand(7, 3))
        assert float(seen.opacity.abs().max()) == float(seen.depth.abs().max()) == 0
    empty = render_rays(sphere(5.0), rays, sampler(occupancy=Occupancy.of_cells(torch.zeros(8, 8, 8) > 0)), background)
    assert torch.equal(empty.rgb, background.expand(7, 3))


def test_the_background_shines_through() -> None:
    """Colour over a background = colour over black + leftover light times the background."""
    rays = parallel_rays(torch.linspace(-0.8, 0.8, 17))
    background = torch.tensor([0.2, 0.5, 0.9])
    over, black = (render_rays(sphere(1.0), rays, sampler(), color) for color in (background, BLACK))
    torch.testing.assert_close(over.rgb, black.rgb + black.transmittance[:, None] * background)
    assert 0.1 < float(black.transmittance.min()) < 0.5


# --- sums


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 1e4, width=32), st.floats(2**-12, 1, width=32)), max_size=12),
        min_size=1,
        max_size=5,
    )
)
def test_weights_and_what_is_left_make_one(rays: list[list[tuple[float, float]]]) -> None:
    """Rays of any number of samples, none included; checked against a loop."""
    sigma = torch.tensor([s for ray in rays for s, _ in ray])
    dt = torch.tensor([step for ray in rays for _, step in ray])
    starts = torch.tensor([0, *np.cumsum([len(ray) for ray in rays])])
    samples = Samples(starts, torch.rand(len(dt)), dt, torch.randn(len(dt), 3), torch.randn(len(dt), 3))
    rgb = torch.rand(len(dt), 3)
    white = composite(sigma, torch.ones_like(rgb), samples, WHITE)
    torch.testing.assert_close(white.rgb, torch.ones(len(rays), 3))
    seen = composite(sigma, rgb, samples, BLACK)
    for i, ray in enumerate(rays):
        part = slice(int(starts[i]), int(starts[i + 1]))
        weights, left = naive(*np.array(ray, dtype=float).reshape(-1, 2).T)
        assert float(seen.transmittance[i]) == pytest.approx(left, abs=1e-5)
        np.testing.assert_allclose(seen.rgb[i].numpy(), weights @ rgb[part].numpy(), atol=1e-5)
        if weights.sum() > 0.01:
            depth = weights @ samples.t[part].numpy() / weights.sum()
            assert float(seen.depth[i]) == pytest.approx(depth, abs=1e-3)


def test_infinite_density_is_opaque_and_differentiable() -> None:
    sigma = torch.tensor([0.0, math.inf, 3.0], requires_grad=True)
    rgb = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    samples = Samples(torch.tensor([0, 3]), torch.arange(3.0), torch.ones(3), torch.zeros(3, 3), torch.zeros(3, 3))
    seen = composite(sigma, rgb, samples, WHITE)
    torch.testing.assert_close(seen.rgb, torch.tensor([[1.0, 0.0, 0.0]]))
    torch.testing.assert_close(seen.depth, torch.tensor([1.0]))
    seen.rgb.sum().backward()
    assert bool(torch.isfinite(sigma.grad).all())
    assert bool(torch.isfinite(rgb.grad).all())


def test_gradients_of_composite_are_those_of_finite_differences() -> None:
    starts = torch.tensor([0, 4, 4, 9])
    t, dt = torch.rand(9, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    samples = Samples(starts, t, dt, torch.zeros(9, 3, dtype=torch.float64), torch.zeros(9, 3, dtype=torch.float64))
    background = torch.rand(3, 3, dtype=torch.float64)

    def picture(sigma: Tensor, rgb: Tensor) -> Tensor:
        seen = composite(sigma, rgb, samples, background)
        return torch.cat([seen.rgb, seen.depth[:, None], seen.transmittance[:, None]], -1)

    inputs = (torch.rand(9, dtype=torch.float64) * 3, torch.rand(9, 3, dtype=torch.float64))
    assert torch.autograd.gradcheck(picture, tuple(v.requires_grad_() for v in inputs))


def test_a_batch_without_samples_is_the_background_of_each_ray() -> None:
    field = build(default_spec("vm", occupancy=8, steps=64).resized({"resolution": 4, "hidden": 4}))
    rays = parallel_rays(torch.tensor([5.0, -5.0, 7.0]))
    samples = Sampler.of(field)(rays)
    assert len(samples) == 0
    background = torch.rand(3, 3)
    seen = composite(*field(samples.x, samples.d), samples, background)
    torch.testing.assert_close(seen.rgb, background)
    seen.rgb.sum().backward()
    assert all(p.grad is None or float(p.grad.abs().max()) == 0 for p in field.parameters())


# --- sampling


@pytest.mark.parametrize("space", [Space((-1.0, -2.0, 0.5, 2.0, 1.0, 2.5)), Space(contraction="cube")])
def test_samples_are_ordered_in_the_box_and_in_occupied_cells(space: Space) -> None:
    occupancy = Occupancy.of_cells(torch.rand(8, 8, 8) > 0.5)
    rays = Rays(
        torch.randn(60, 3) * 2 + torch.tensor(space.center), torch.nn.functional.normalize(torch.randn(60, 3), dim=-1)
    )
    for jitter in (False, True):
        samples = sampler(100, space, occupancy)(rays, torch.Generator().manual_seed(1), jitter)
        assert len(samples) > 100
        ray = torch.repeat_interleave(torch.arange(60), samples.starts.diff())
        torch.testing.assert_close(samples.x, rays.origins[ray] + samples.t[:, None] * rays.directions[ray])
        assert torch.equal(samples.d, rays.directions[ray])
        same = ray[1:] == ray[:-1]
        assert bool((samples.t.diff()[same] > 0).all())
        assert bool((samples.t >= NEAR * space.unit).all())
        assert bool(space.contains(samples.x + 1e-4 * (torch.tensor(space.center) - samples.x)).all())
        # A sample on the border of two cells may be taken for one of the other.
        assert float(occupancy.contains(space.to_unit(samples.x)).float().mean()) > 0.999


def test_no_occupied_step_is_left_out() -> None:
    """All steps of a dense march whose middles lie in occupied cells, found by hand."""
    space, occupancy = Space(), Occupancy.of_cells(torch.rand(8, 8, 8) > 0.5)
    rays = Rays(
        torch.tensor([[-3.0, 0.11, 0.23]]), torch.nn.functional.normalize(torch.tensor([[1.0, 0.1, -0.05]]), dim=-1)
    )
    samples = sampler(400, space, occupancy)(rays)
    o, d = rays.origins[0].double().numpy(), rays.directions[0].double().numpy()
    entry, step = (-1 - o[0]) / d[0], 2 * math.sqrt(3) / 400
    expected = []
    for k in range(402):
        t = entry + (k + 0.5) * step
        u = (o + t * d + 1) / 2
        if (u >= 0).all() and (u <= 1).all() and bool(occupancy.cells()[tuple((u * 8).astype(int))]):
            expected.append(t)
    assert abs(len(expected) - len(samples)) <= 1
    np.testing.assert_allclose(samples.t[: len(expected)].numpy(), expected[: len(samples)], atol=1e-4)
    assert samples.dt.tolist() == pytest.approx([step] * len(samples), rel=1e-3)


def test_jitter_is_one_place_in_the_steps_of_each_ray() -> None:
    rays = parallel_rays(torch.zeros(2000))
    samples = sampler(50)(rays, torch.Generator().manual_seed(0), jitter=True)
    offset = ((samples.t - 2) / (2 * math.sqrt(3) / 50)).frac()
    first = offset[samples.starts[:-1]]
    torch.testing.assert_close(offset, first.repeat_interleave(samples.starts.diff()), rtol=0, atol=1e-3)
    assert float(first.mean()) == pytest.approx(0.5, abs=0.03)  # 2000 draws: 4 standard errors
    assert float(first.std()) == pytest.approx(1 / math.sqrt(12), abs=0.02)
    again = sampler(50)(rays, torch.Generator().manual_seed(0), jitter=True)
    assert torch.equal(again.t, samples.t)


def test_entry_and_exit_of_a_box() -> None:
    """The slab test against a fine walk along each ray; rays along the axes too."""
    space = Space((-1.0, -2.0, 0.5, 2.0, 1.0, 2.5))
    directions = torch.cat([torch.randn(80, 3), torch.eye(3), -torch.eye(3)])
    rays = Rays(torch.randn(86, 3) * 3, torch.nn.functional.normalize(directions, dim=-1))
    rays.origins[-6:] = torch.tensor([0.5, -0.5, 1.5]) - 5 * rays.directions[-6:]
    entry, leaving = entry_and_exit(space, rays.origins, rays.directions)
    t = torch.linspace(NEAR * space.unit, 20, 40_000)
    for i in range(86):
        inside = space.contains(rays.origins[i] + t[:, None] * rays.directions[i])
        if inside.sum() < 5:
            assert float(leaving[i] - entry[i]) < 0.01
            continue
        assert float(entry[i]) == pytest.approx(float(t[inside].min()), abs=2e-3)
        assert float(leaving[i]) == pytest.approx(float(t[inside].max()), abs=2e-3)


def test_steps_cover_the_space() -> None:
    for space in (Space(), Space(contraction="sphere"), Space((0.0, 0.0, 0.0, 10.0, 10.0, 10.0), "cube")):
        edges = step_edges(space, 256)
        assert edges[0] == 0
        assert bool((edges.diff() > 0).all())
        reach = 2 * math.sqrt(3) if space.bounded else (FAR - NEAR) * space.unit
        assert float(edges[-1]) >= reach * 0.9999
    grown = step_edges(Space(contraction="sphere"), 256)
    assert 4 / 256 * 500 < float(grown.diff()[-1]) < 4 / 256 * 1.05 * FAR


# --- invariance


def rotation(seed: int) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    q = q * torch.diagonal(r).sign()
    return (q * torch.linalg.det(q)).float()


QUARTER = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("turn", "space"),
    [
        (QUARTER, Space()),  # the box is turned onto itself
        (QUARTER, Space(contraction="cube")),
        (rotation(0), Space(contraction="sphere")),
        (rotation(1), Space(contraction="sphere")),
    ],
)
def test_a_world_turned_with_its_cameras_looks_the_same(turn: Tensor, space: Space) -> None:
    def turned(x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        return blobs(x @ turn, d @ turn)

    here = camera()
    there = replace(here, c2w=turn @ here.c2w)
    a = render_image(lambda rays: render_rays(blobs, rays, sampler(256, space), WHITE), here, 0)
    b = render_image(lambda rays: render_rays(turned, rays, sampler(256, space), WHITE), there, 0)
    assert float(a.opacity.max()) > 0.9
    assert float(a.rgb.std()) > 0.05
    torch.testing.assert_close(a.rgb, b.rgb, rtol=0, atol=1e-3)
    torch.testing.assert_close(a.opacity, b.opacity, rtol=0, atol=1e-3)


@pytest.mark.parametrize("chunk", [1, 37, 1000])
def test_chunks_do_not_show(chunk: int) -> None:
    rays = camera().image_rays(0)[100:140]
    whole = render_rays(blobs, rays, sampler(96), WHITE)
    parts = render_rays(blobs, rays, sampler(96), WHITE, chunk=chunk)
    torch.testing.assert_close(parts.rgb, whole.rgb, rtol=0, atol=1e-6)
    torch.testing.assert_close(parts.depth, whole.depth, rtol=0, atol=1e-5)


def test_no_query_is_larger_than_a_chunk() -> None:
    asked = []

    def query(x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(x))
        return blobs(x, d)

    render_rays(query, camera().image_rays(0), sampler(96), WHITE, chunk=500)
    assert max(asked) == 500


def test_the_order_of_rays_does_not_matter() -> None:
    rays = camera().image_rays(0)
    order = torch.randperm(len(rays))
    straight, shuffled = (render_rays(blobs, r, sampler(128), WHITE) for r in (rays, rays[order]))
    torch.testing.assert_close(shuffled.rgb, straight.rgb[order], rtol=0, atol=1e-6)
    torch.testing.assert_close(shuffled.depth, straight.depth[order], rtol=0, atol=1e-5)


def test_skipping_what_is_empty_changes_nothing() -> None:
    """Cells that the sphere touches, against all cells."""
    side = 16
    low = torch.stack(torch.meshgrid(*[torch.arange(side) / side * 2 - 1] * 3, indexing="ij"), -1)
    nearest = torch.maximum(torch.maximum(low, -(low + 2 / side)), torch.zeros(3)).norm(dim=-1)
    occupancy = Occupancy.of_cells(nearest < RADIUS)
    assert 0.1 < occupancy.fraction() < 0.5
    rays = camera().image_rays(0)
    skipping, all_over = sampler(300, occupancy=occupancy), sampler(300, occupancy=Occupancy.full(side))
    assert len(skipping(rays)) < 0.6 * len(all_over(rays))
    a, b = (render_rays(sphere(4.0), rays, s, WHITE) for s in (skipping, all_over))
    torch.testing.assert_close(a.rgb, b.rgb, rtol=0, atol=OPAQUE)
    torch.testing.assert_close(a.opacity, b.opacity, rtol=0, atol=OPAQUE)


@pytest.mark.parametrize("sigma", [0.5, 5.0, 500.0])
def test_front_to_back_is_the_whole_sum(sigma: float) -> None:
    """What an opaque ray leaves out is at most what would still shine through."""
    rays, s = camera().image_rays(0), sampler(300)
    samples = s(rays)
    full = composite(*sphere(sigma)(samples.x, samples.d), samples, WHITE)
    rounds = render_rays(sphere(sigma), rays, s, WHITE)
    torch.testing.assert_close(rounds.rgb, full.rgb, rtol=0, atol=2 * OPAQUE)
    torch.testing.assert_close(rounds.transmittance, full.transmittance, rtol=0, atol=OPAQUE)
    torch.testing.assert_close(rounds.depth, full.depth, rtol=0, atol=5e-3)


@pytest.mark.parametrize("opaque", [0.0, 0.01, 0.3, 2.0])
def test_what_is_visible_is_what_light_reaches(opaque: float) -> None:
    """Ray by ray and sample by sample, in float64."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([0, 1, 7, 8, 9, 0, 40, 200, 3, 0])
    starts, total = torch.tensor([0, *counts]).cumsum(0), int(counts.sum())
    sigma = torch.rand(total, generator=generator) ** 6 * 100
    x = torch.arange(total * 3.0).reshape(-1, 3)
    samples = Samples(starts, torch.arange(total * 1.0), torch.full((total,), 0.02), x, x)

    def ask(part: Samples) -> tuple[Tensor, Tensor]:
        place = part.t.long()
        return sigma[place], torch.stack([part.t, -part.t], -1)

    kept, (density, twice) = visible(ask, samples, opaque)
    expected, lengths = [], []
    for ray in range(len(counts)):
        light, length = 1.0, 0
        for i in range(int(starts[ray]), int(starts[ray + 1])):
            if light <= opaque:
                break
            expected.append(i)
            length += 1
            light *= math.exp(-float(sigma[i]) * 0.02)
        lengths.append(length)
    assert kept.t.long().tolist() == expected and kept.starts.diff().tolist() == lengths
    assert torch.equal(density, sigma[expected]) and torch.equal(kept.x, x[expected])
    assert torch.equal(twice, torch.stack([kept.t, -kept.t], -1))


def test_what_is_hidden_is_not_asked_for() -> None:
    asked = 0

    def query(x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal asked
        asked += len(x)
        return torch.full_like(x[:, 0], 1e4), torch.ones_like(x)

    rays = parallel_rays(torch.linspace(-0.9, 0.9, 50))
    render_rays(query, rays, sampler(1024), WHITE)
    assert asked <= 50 * 8


def test_float64_agrees_with_float32() -> None:
    rays = camera().image_rays(0)
    double = Rays(rays.origins.double(), rays.directions.double())
    a, b = render_rays(blobs, rays, sampler(128), WHITE), render_rays(blobs, double, sampler(128), WHITE.double())
    assert b.rgb.dtype == torch.float64
    torch.testing.assert_close(a.rgb.double(), b.rgb, rtol=0, atol=2e-3)


# --- images


def test_an_image_has_its_cameras_shape_and_place() -> None:
    """A wide picture: a ball above and to the right of the middle is in the upper right of it."""
    wide = camera(40, 18, (0.0, -3.0, 0.0))
    ball = sphere(50.0, (0.5, 0.0, 0.3), 0.15)
    image = render_image(lambda rays: render_rays(ball, rays, sampler(256), BLACK), wide, 0)
    assert image.rgb.shape == (18, 40, 3)
    assert image.depth.shape == image.opacity.shape == (18, 40)
    rows, columns = (image.opacity > 0.5).nonzero().double().mean(0).tolist()
    focal = float(wide.intrinsics[0, 0])
    assert columns + 0.5 == pytest.approx(20 + focal * 0.5 / 3, abs=0.7)
    assert rows + 0.5 == pytest.approx(9 - focal * 0.3 / 3, abs=0.7)


def test_render_gives_one_image_a_camera() -> None:
    spec = default_spec("vm", occupancy=8, steps=64, background=(0.1, 0.2, 0.3)).resized({"resolution": 4, "hidden": 4})
    field = build(spec)
    field.occupancy = Occupancy.of_cells(torch.rand(8, 8, 8) > 0.9)
    cameras = camera(13, 17)[[0, 0, 0]]
    calls = []
    images = list(render(field, cameras, progress=lambda done, total, note="": calls.append((done, total))))
    assert [type(image) for image in images] == [Image] * 3
    assert [(i.rgb.shape, i.depth.shape) for i in images] == [((17, 13, 3), (17, 13))] * 3
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert not images[0].rgb.requires_grad
    clear = images[0].opacity == 0
    assert bool(clear.any())
    assert torch.equal(images[0].rgb[clear], torch.tensor([0.1, 0.2, 0.3]).expand(int(clear.sum()), 3))


def test_more_steps_are_finer_steps() -> None:
    """A field is rendered at its own number of steps unless another is asked for; both approach one picture."""
    field = build(default_spec("vm", occupancy=8, steps=64).resized({"resolution": 4, "hidden": 4}))
    (own,), (same,), (fine,) = (render(field, camera(), steps=s) for s in (None, 64, 256))
    assert torch.equal(own.rgb, same.rgb)
    assert 0 < float((own.rgb - fine.rgb).abs().max()) < 0.1
