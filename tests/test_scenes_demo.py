"""The built-in demo scene: its pictures are those of its field."""

from __future__ import annotations

import torch

from fieldcast.fields.cameras import Rays
from fieldcast.fields.scenes import open_scene
from fieldcast.fields.scenes.demo import demo_cameras, demo_query, demo_scene, draw, march


def test_field_lies_in_its_box_and_is_finite() -> None:
    x = torch.rand(20000, 3) * 4 - 2
    d = torch.nn.functional.normalize(torch.randn(20000, 3), dim=-1)
    sigma, rgb = demo_query(x, d)
    outside = (x.abs() > 1).any(-1)
    assert sigma[outside].max() == 0
    assert sigma.min() >= 0 and sigma.max() > 100
    assert rgb.min() >= 0 and rgb.max() <= 1 and rgb.isfinite().all()
    assert 0.02 < float((sigma[~outside] > 1).float().mean()) < 0.3


def test_colors_depend_on_the_view() -> None:
    x = torch.rand(20000, 3) * 2 - 1
    up, down = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, -1.0])
    sigma, above = demo_query(x, down.expand_as(x))
    again, below = demo_query(x, up.expand_as(x))
    assert torch.equal(sigma, again)
    assert (above - below).abs().max() > 0.1


def reference(rays: Rays, samples: int = 6000) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain quadrature with equal steps all along the ray, sample by sample as the formula has it."""
    near, far = 2.2, 5.2
    step = (far - near) / samples
    t = near + step * (torch.arange(samples) + 0.5)
    x = rays.origins[:, None] + t[:, None] * rays.directions[:, None]
    d = rays.directions[:, None].expand_as(x)
    sigma, rgb = demo_query(x.reshape(-1, 3), d.reshape(-1, 3))
    alpha = 1 - torch.exp(-sigma.reshape(len(rays), -1) * step)
    clear = torch.cumprod(torch.cat([torch.ones(len(rays), 1), 1 - alpha], 1), 1)
    return ((clear[:, :-1] * alpha)[..., None] * rgb.reshape(len(rays), -1, 3)).sum(1), 1 - clear[:, -1]


def test_pictures_are_those_of_the_field() -> None:
    """The strides through empty space give what plain quadrature gives. One ray in twenty may graze an edge."""
    rays = demo_cameras("val", 20).image_rays(3)
    color, alpha = march(rays)
    expected, opacity = reference(rays)
    error = (color - expected).abs().amax(-1) + (alpha - opacity).abs()
    assert error.quantile(0.95) < 0.02 and error.mean() < 0.01


def test_scene_and_splits() -> None:
    scene = demo_scene("val", size=16)
    assert len(scene) == 10 and scene.images[0].shape == (16, 16, 4) and scene.background == (1.0, 1.0, 1.0)
    assert all(0 < int((image[..., 3] > 128).sum()) < 256 for image in scene.images)
    assert (scene.cameras.centers[:, 2] > 0.2).all(), "seen from above the table"
    again = demo_scene("val", size=16)
    assert all(torch.equal(a, b) for a, b in zip(scene.images, again.images, strict=True))
    every = torch.cat([demo_cameras(split, 16).centers for split in ("train", "val", "test")])
    apart = torch.cdist(every, every) + 10 * torch.eye(len(every))
    assert apart.min() > 0.05, "no view of one split stands where one of another stands"


def test_drawing_does_not_depend_on_company() -> None:
    cameras = demo_cameras("test", 12)
    assert torch.equal(draw(cameras)[7], draw(cameras[[7]])[0])


def test_demo_opens_by_name() -> None:
    told: list[int] = []
    scene = open_scene("demo", "test", downscale=8, progress=lambda done, total, note="": told.append(total - done))
    assert scene.images[0].shape == (16, 16, 4) and scene.names[0] == "test/000"
    assert told[-1] == 0
