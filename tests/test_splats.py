"""Splats as a scene: projection against gsplat and against many points, pictures, depth, slopes, whereabouts."""

from __future__ import annotations

import importlib
import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fieldcast
from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, orbit, pinhole
from fieldcast.fields.kernels.splatting import splat
from fieldcast.fields.renderable import Renderable
from fieldcast.fields.space import Space
from fieldcast.fields.splats import Splats, rasterize
from fieldcast.fields.splats.projection import project, rotations

BOX = Space((-1.0, -1.0, -1.0, 1.0, 1.0, 1.0))


def some_splats(count: int = 50, degree: int = 2, **options: object) -> Splats:
    """Random ones in the unit ball."""
    means = torch.nn.functional.normalize(torch.randn(count, 3), dim=-1) * torch.rand(count, 1) ** 0.5
    sh = torch.randn(count, (degree + 1) ** 2, 3) * 0.2
    return Splats(
        means, torch.randn(count, 3) * 0.5 - 2.5, torch.randn(count, 4), torch.randn(count), sh, space=BOX, **options
    )


def some_cameras(count: int = 2, width: int = 40, height: int = 30) -> Cameras:
    azimuth = torch.arange(count) * 1.3
    return orbit(BOX, azimuth, torch.full_like(azimuth, 0.4), 3.0, width=width, height=height, fov=0.8)


def one_splat(scale: float = 0.1, opacity: float = 0.9, **options: object) -> Splats:
    """A red ball at (0, 0, 0)."""
    sh = (torch.tensor([[[1.0, 0.0, 0.0]]]) - 0.5) / 0.28209479177387814
    return Splats(
        torch.zeros(1, 3),
        torch.full((1, 3), math.log(scale)),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([math.log(opacity / (1 - opacity))]),
        sh,
        space=BOX,
        **options,
    )


def test_splats_are_renderable() -> None:
    assert isinstance(some_splats(), Renderable)


def test_the_middle_of_a_splat_has_its_colour_opacity_and_distance() -> None:
    (image,) = fieldcast.render(one_splat(background=(0.0, 0.0, 1.0)), some_cameras(1, 41, 31))
    torch.testing.assert_close(image.opacity[15, 20], torch.tensor(0.9), rtol=0, atol=1e-3)
    torch.testing.assert_close(image.rgb[15, 20], torch.tensor([0.9, 0.0, 0.1]), rtol=0, atol=2e-3)
    torch.testing.assert_close(image.depth[15, 20], torch.tensor(3.0), rtol=0, atol=1e-4)
    assert float(image.opacity[0, 0]) == 0 and float(image.depth[0, 0]) == 0
    torch.testing.assert_close(image.rgb[0, 0], torch.tensor([0.0, 0.0, 1.0]))


def test_depth_is_measured_along_the_ray() -> None:
    """A sphere of splats around the camera is equally far in all pixels."""
    around = torch.nn.functional.normalize(torch.randn(20_000, 3), dim=-1) * 2
    ball = Splats(
        around,
        torch.full((20_000, 3), -3.0),
        torch.tensor([[1.0, 0, 0, 0]]).expand(20_000, 4).clone(),
        torch.full((20_000,), 3.0),
        torch.zeros(20_000, 1, 3),
        space=BOX,
    )
    cameras = pinhole(torch.eye(4)[None, :3], 32, 32, 1.6)
    (image,) = ball.render(cameras)
    assert float(image.opacity.min()) > 0.97
    assert float(image.depth.max() / image.depth.min()) < 1.1  # along the axis it would be 1.7
    assert float(image.depth.min()) > 1.8 and float(image.depth.max()) < 2.0


def test_a_projected_covariance_is_that_of_projected_points() -> None:
    """Of small splats, for which the projection is all but linear; EWA adds 0.3 pixels^2."""
    splats, cameras = some_splats(8), some_cameras(1)
    with torch.no_grad():
        splats.log_scales.sub_(2.0)
        seen = project(splats.means, splats.log_scales.exp(), splats.quats, cameras, 0, 0.1)
        a, b, c = seen.conics.unbind(-1)
        found = torch.linalg.inv(torch.stack([a, b, b, c], -1).reshape(-1, 2, 2)) - 0.3 * torch.eye(2)
        for k, index in enumerate(seen.index.tolist()):
            offsets = torch.randn(200_000, 3) * splats.log_scales[index].exp()
            points = splats.means[index] + offsets @ rotations(splats.quats[index : index + 1])[0].T
            expected = torch.cov(pixels(points, cameras).T)
            torch.testing.assert_close(found[k], expected, rtol=0.03, atol=float(expected.abs().max()) * 0.03)


def pixels(x: Tensor, cameras: Cameras) -> Tensor:
    """Where the first camera sees world points."""
    local = (x - cameras.centers[0]) @ cameras.c2w[0, :, :3]
    fx, fy, cx, cy = cameras.intrinsics[0]
    return torch.stack([cx - fx * local[:, 0] / local[:, 2], cy + fy * local[:, 1] / local[:, 2]], -1)


def test_the_nearest_comes_first_and_what_is_too_near_is_left_out() -> None:
    splats, cameras = some_splats(200), some_cameras(1)
    with torch.no_grad():
        seen = project(splats.means, splats.log_scales.exp(), splats.quats, cameras, 0, 3.0)
    assert 20 < len(seen.index) < 180
    assert float(seen.z.min()) > 3.0 and bool((seen.z.diff() >= 0).all())


def test_gsplat_projects_and_colours_alike(gsplat: Any) -> None:
    splats, cameras = some_splats(300, degree=3).double(), some_cameras(1, 60, 44)
    c2w = cameras.c2w[0].double()
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = (c2w[:, :3] * torch.tensor([1, -1, -1])).T
    view[:3, 3] = -view[:3, :3] @ c2w[:, 3]
    fx, fy, cx, cy = cameras.intrinsics[0].tolist()
    lens = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    with torch.no_grad():
        splats.means[:30] *= 2.5  # some beside the picture and behind the camera
        covariances, _ = gsplat._quat_scale_to_covar_preci(splats.quats, splats.log_scales.exp())
        _, means, depths, conics, _ = gsplat._fully_fused_projection(
            splats.means, covariances, view[None], lens[None], 60, 44, near_plane=0.05
        )
        seen = project(splats.means, splats.log_scales.exp(), splats.quats, cameras, 0, 0.05)
        torch.testing.assert_close(seen.z, depths[0, seen.index])
        torch.testing.assert_close(seen.means, means[0, seen.index])
        torch.testing.assert_close(seen.conics, conics[0, seen.index], rtol=1e-7, atol=1e-9)
        expected = gsplat._spherical_harmonics(3, splats.means - c2w[:, 3], splats.sh)
        found = splats.colors(c2w[:, 3], torch.arange(300))
        torch.testing.assert_close(found, (expected + 0.5).clamp_min(0), rtol=1e-6, atol=1e-7)


def test_slopes_of_an_image_are_those_of_its_values() -> None:
    splats, cameras = some_splats(5).double(), some_cameras(1, 6, 5)
    names = [name for name, _ in splats.named_parameters()]

    def seen(*values: Tensor) -> Tensor:
        swapped = {f"scene.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Whole(splats), swapped, cameras)

    assert torch.autograd.gradcheck(seen, tuple(splats.parameters()), atol=1e-5)


class Whole(torch.nn.Module):
    """Colour and opacity of the first camera's image, as a module's forward."""

    def __init__(self, scene: Splats) -> None:
        super().__init__()
        self.scene = scene

    def forward(self, cameras: Cameras) -> Tensor:
        image = self.scene.image(cameras, 0)
        return torch.cat([image.rgb, image.opacity[..., None]], -1)


def test_a_world_that_is_turned_with_its_cameras_looks_the_same() -> None:
    splats, cameras = some_splats(100, degree=0), some_cameras(1)
    turn = rotations(torch.tensor([[0.7, 0.1, -0.5, 0.4]]))[0]
    w, x, y, z = torch.nn.functional.normalize(torch.tensor([0.7, 0.1, -0.5, 0.4]), dim=0)
    product = torch.stack(
        [
            torch.stack([w, -x, -y, -z]),
            torch.stack([x, w, -z, y]),
            torch.stack([y, z, w, -x]),
            torch.stack([z, -y, x, w]),
        ]
    )
    with torch.no_grad():
        turned = Splats(
            splats.means @ turn.T, splats.log_scales, splats.quats @ product.T, splats.opacities, splats.sh, space=BOX
        )
    moved = Cameras(turn @ cameras.c2w, cameras.intrinsics, cameras.size)
    (a,), (b,) = splats.render(cameras), turned.render(moved)
    torch.testing.assert_close(a.rgb, b.rgb, rtol=0, atol=1e-4)
    torch.testing.assert_close(a.depth, b.depth, rtol=1e-4, atol=1e-4)


def test_lenses_that_distort_are_refused() -> None:
    cameras = some_cameras(1)
    bent = Cameras(cameras.c2w, cameras.intrinsics, cameras.size, torch.zeros(1, 6))
    with pytest.raises(InputError, match="ideal lenses"):
        next(some_splats().render(bent))


def test_the_box_of_splats_leaves_strays_out() -> None:
    means = torch.rand(5000, 3) * 2 - 1
    means[:4] = 4.0
    parts = torch.full((5000, 3), -6.0), torch.ones(5000, 4), torch.zeros(5000), torch.zeros(5000, 1, 3)
    space = Splats(means, *parts).space
    assert space.bounded and space.up == (0.0, -1.0, 0.0)
    assert all(1.0 < abs(side) < 1.2 for side in space.aabb)
    means[4:300] *= 50
    assert not Splats(means, *parts).space.bounded


def test_the_way_through_gsplat_gives_the_same(gsplat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its CUDA function is given is right: a stand-in of its torch parts and our compositing says the same."""
    signature = inspect.signature(importlib.import_module("gsplat").rasterization)

    def rasterization(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
        given = signature.bind(*arguments, **named)
        given.apply_defaults()
        a = given.arguments
        assert a["render_mode"] == "RGB+D" and a["eps2d"] == 0.3 and a["rasterize_mode"] == "classic"
        covariances, _ = gsplat._quat_scale_to_covar_preci(a["quats"], a["scales"])
        _, means, depths, conics, _ = gsplat._fully_fused_projection(
            a["means"], covariances, a["viewmats"], a["Ks"], a["width"], a["height"], near_plane=a["near_plane"]
        )
        d = a["means"] - torch.linalg.inv(a["viewmats"][0])[:3, 3]
        colors = (gsplat._spherical_harmonics(a["sh_degree"], d, a["colors"]) + 0.5).clamp_min(0)
        order = depths[0].argsort()
        order = order[depths[0, order] > a["near_plane"]]
        values = torch.cat([colors, depths[0, :, None]], -1)[order]
        size = a["width"], a["height"]
        totals, light = splat(means[0, order], conics[0, order], a["opacities"][order], values, size)
        return totals[None], (1 - light)[None, ..., None], {}

    monkeypatch.setattr("gsplat.rasterization", rasterization)
    splats, cameras = some_splats(200), some_cameras(2)
    with torch.no_grad():
        for camera in range(2):
            own, other = (way(splats, cameras, camera, 0.05) for way in (rasterize._own, rasterize._gsplat))
            torch.testing.assert_close(other, own, rtol=1e-4, atol=1e-4)
