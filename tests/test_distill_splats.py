"""Fields to splats and back: each step against what follows from its definition, and the ways as a whole."""

from __future__ import annotations

import math

import pytest
import torch

import fieldcast
from fieldcast.distill import splats as steps
from fieldcast.distill import views
from fieldcast.distill.fidelity import compare, comparison_views
from fieldcast.distill.scenes import How, convert_scene
from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields import Cameras, Field, Occupancy, build, default_spec
from fieldcast.fields.cameras import orbit
from fieldcast.fields.kernels.harmonics import harmonics
from fieldcast.fields.kinds.voxels import VoxelsField
from fieldcast.fields.occupancy import unravel
from fieldcast.fields.renderable import Image
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.space import Space
from fieldcast.fields.splats import Splats
from fieldcast.fields.splats.projection import rotations


def ball(radius: float = 0.6, density: float = 60.0) -> Field:
    """A ball whose colour is that of its place, in voxels."""
    spec = default_spec("voxels", occupancy=32, steps=128).resized({"resolution": 33, "degree": 0})
    field = build(spec, seed=0)
    side = torch.linspace(-1, 1, 40)  # rows are stored block by block: look places up rather than count them
    with torch.no_grad():
        field.data.zero_()
        x = torch.cartesian_prod(side, side, side)
        values = torch.cat([torch.where(x.norm(dim=-1) < radius, math.log(density), -9.0)[:, None], 1.5 * x], -1)
        u = field.spec.space.to_unit(x)
        weight = field.spread(u, torch.ones(len(x), 1).expand(-1, 4).contiguous())
        field.data.copy_(field.spread(u, values) / weight.clamp_min(1e-6))
        field.data[weight[:, 0] == 0, 0] = -9.0
    return field.requires_grad_(False)


def some_cameras(count: int = 6, side: int = 40) -> Cameras:
    azimuth = torch.arange(count) * 2.4
    return orbit(Space(), azimuth, torch.linspace(-1, 1, count), 2.7, width=side, height=side, fov=0.7)


def test_half_of_what_a_ray_sees_lies_before_its_median() -> None:
    starts = torch.tensor([0, 3, 3, 8, 20])
    weights = torch.rand(20)
    rays = torch.tensor([0, 2, 3])
    expected = []
    for ray in rays.tolist():
        own = weights[starts[ray] : starts[ray + 1]].double()
        expected.append(int(starts[ray]) + int((own.cumsum(0) >= own.sum() / 2).long().argmax()))
    assert steps.median_samples(weights, starts, rays).tolist() == expected


def test_discs_are_turned_to_their_normals() -> None:
    n = torch.nn.functional.normalize(torch.randn(500, 3), dim=-1)
    n[:2] = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    quats = steps.turns_to(n)
    torch.testing.assert_close(rotations(quats)[:, :, 2], n, rtol=0, atol=1e-5)
    torch.testing.assert_close(quats.norm(dim=-1), torch.ones(500))


def test_thinning_leaves_about_as_many_as_are_asked_for() -> None:
    x = torch.nn.functional.normalize(torch.randn(20_000, 3), dim=-1)
    cell, side = steps.thinned(x, 900, 1.0)
    assert 700 < int(cell.max()) + 1 <= 900
    for number in (0, 5, 100):
        assert float((x[cell == number].amax(0) - x[cell == number].amin(0)).max()) <= side


def test_colours_are_those_that_the_rays_saw() -> None:
    """Harmonics of degree 2, from rays that see them exactly, but for the belief that there are none."""
    sh = torch.randn(3, 9, 3) * 0.2
    d = torch.nn.functional.normalize(torch.randn(6000, 3), dim=-1)
    cell = torch.arange(6000) % 3
    rgb = (harmonics(d, 2)[:, :, None] * sh[cell]).sum(1) + 0.5
    sights = steps.Sights(d, d, rgb, torch.rand(6000) * 0.5 + 0.5)
    torch.testing.assert_close(steps.colors(cell, sights, 3, 2), sh, rtol=0, atol=0.02)


def test_splats_lie_on_the_surface_and_across_it() -> None:
    field = ball()
    pictures, sights = steps.looked_at(field, some_cameras())
    assert len(pictures) == 6 and pictures[0].rgb.shape == (40, 40, 3)
    splats = steps.placed(field, sights, 300, 1)
    with torch.no_grad():
        radius = splats.means.norm(dim=-1)
        across = rotations(splats.quats)[:, :, 2]
        assert float(radius.quantile(0.05)) > 0.5 and float(radius.quantile(0.95)) < 0.65
        assert float((across * splats.means / radius[:, None]).sum(-1).median()) > 0.97
        assert bool((splats.log_scales[:, 2] < splats.log_scales[:, 0]).all())


def test_a_field_to_splats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PICTURES", 10)
    field = ball()
    field.views = some_cameras(12)
    splats, facts = convert_scene(field, "splats", {"count": "400", "degree": "1"}, How(steps=40))
    assert isinstance(splats, Splats)
    assert facts == {"recipe": "surfaces", "steps": 40, "seed": 0}
    assert (splats.space, splats.background, splats.views) == (field.space, field.background, field.views)
    assert 200 < len(splats) <= 400 and splats.degree == 1
    rough, _ = convert_scene(field, "splats", {"count": "400", "degree": "1"}, How(steps=0))
    cameras = comparison_views(field, 3, 0)
    fidelity = compare(field, splats, cameras).psnr
    assert fidelity > 24 and fidelity > compare(field, rough, cameras).psnr + 1.5
    again, _ = convert_scene(field, "splats", {"count": 400, "degree": 1}, How(steps=0))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), rough.parameters(), strict=True))


def painted_splats() -> Splats:
    """A ball of overlapping opaque splats, of the colour of their place."""
    x = torch.nn.functional.normalize(torch.randn(3000, 3), dim=-1) * 0.6
    quats = torch.tensor([[1.0, 0, 0, 0]]).expand(3000, 4).clone()
    opacities = torch.full((3000,), 3.0)
    return Splats(x, torch.full((3000, 3), -3.2), quats, opacities, (x * 1.2)[:, None], space=Space())


def test_splats_to_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SIDE", 32)
    monkeypatch.setattr(VoxelsField, "points_per_step", 1 << 12)
    splats = painted_splats()
    spec = views.spec_in(splats, "voxels").resized({"resolution": 32, "degree": 0})
    field = views.field_from_views(splats, spec, views=12, steps=80)
    assert field.spec.kind == "voxels" and field.spec.space == splats.space
    assert compare(splats, field, comparison_views(splats, 3, 0, 40)).psnr > 20


def test_pictures_without_their_background() -> None:
    color = torch.tensor([0.2, 0.4, 0.8])
    opacity = torch.tensor([[0.0, 0.25, 1.0]])
    over = color * opacity[..., None] + torch.tensor([1.0, 0.5, 0.0]) * (1 - opacity[..., None])
    rgba = views.straight_rgba(Image(over, opacity, opacity), (1.0, 0.5, 0.0))
    assert rgba.tolist() == [[[0, 0, 0, 0], [51, 102, 204, 64], [51, 102, 204, 255]]]


def test_the_hull_is_what_no_view_sees_through() -> None:
    """A ball of radius 0.6: from cameras far away its hull is hardly larger."""
    splats = painted_splats()
    cameras = orbit(
        Space(), torch.rand(40) * 6.28, torch.asin(torch.rand(40) * 2 - 1), 8.0, width=100, height=100, fov=0.5
    )
    images = [views.straight_rgba(image, splats.background) for image in splats.render(cameras)]
    scene = Scene(cameras, images, ("",) * 40, splats.space, splats.background, "here")
    inside = views.hull(scene, 32)
    x = splats.space.from_unit((unravel(torch.arange(32**3), 32) + 0.5) / 32)
    distance = x.norm(dim=-1)
    found = inside.cells().reshape(-1)
    assert bool(found[distance < 0.7].all())
    assert not bool(found[distance > 1.1].any())


def test_fitting_stays_within_the_cells_that_it_is_given() -> None:
    splats = painted_splats()
    scene = views.posed_views(splats, 2, 0)
    cells = torch.zeros(32, 32, 32, dtype=torch.bool)
    cells[8:20] = True
    spec = default_spec("voxels", occupancy=32, steps=64).resized({"resolution": 8, "degree": 0})
    field = fieldcast.fit(scene, spec, steps=2, within=Occupancy.of_cells(cells))
    assert not bool((field.occupancy.cells() & ~cells).any())
    half = fieldcast.fit(scene, spec.resized({"resolution": 32}), steps=1, within=Occupancy.of_cells(cells))
    assert half.spec.sizes.blocks <= 48  # of 64: none beyond x = 20 / 32


def test_scenes_in_which_nothing_is() -> None:
    field = ball(density=1e-4)
    with pytest.raises(FieldcastError, match="the field is empty: nothing of it shows"):
        steps.looked_at(field, some_cameras())
    nothing = painted_splats()
    with torch.no_grad():
        nothing.opacities.fill_(-20)
    with pytest.raises(FieldcastError, match="the scene is empty: nothing of it shows"):
        views.posed_views(nothing, 2, 0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"count": "0"}, "sizes of splats: Expected `int` >= 1"),
        ({"degree": "4"}, "sizes of splats: Invalid enum value 4"),
        ({"degree": "two"}, "sizes of splats: "),
        ({"resolution": "9"}, "sizes of splats: unknown resolution"),
    ],
)
def test_sizes_of_splats(sizes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert_scene(ball(), "splats", sizes, How())
    with pytest.raises(InputError, match="the format changes alone"):
        convert_scene(painted_splats(), "splats", sizes, How())


def test_the_public_convert_takes_scenes_of_all_sorts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PICTURES", 4)
    field = ball()
    field.views = some_cameras(4, 24)
    assert isinstance(fieldcast.convert(field, "splats", steps=1), Splats)
