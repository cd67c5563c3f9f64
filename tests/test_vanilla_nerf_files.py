"""Checkpoints of nerfstudio's vanilla-nerf: the same function as its own network, and what is wrong is one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, normalize

import fieldcast
from fieldcast.errors import InputError
from fieldcast.fields import Field
from fieldcast.fields.cameras import Rays
from fieldcast.fields.metrics import psnr
from fieldcast.fields.rendering import shading

Network = dict[str, Tensor]
FINE, COARSE = "_model.field_fine.", "_model.field_coarse."
BLENDER = "nerfstudio.data.dataparsers.blender_dataparser.Blender"


def encoded(x: Tensor, count: int, highest: float) -> Tensor:
    """sin and cos of 2 pi 2^k x, k evenly spread up to `highest`: by axis, sines before cosines, then x itself."""
    frequencies = 2 ** torch.linspace(0, highest, count, dtype=torch.float64).to(x)
    angles = (2 * math.pi * x[..., None] * frequencies).flatten(-2)
    return torch.cat([torch.sin(angles), torch.sin(angles + math.pi / 2), x], -1)


def reference(network: Network, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """sigma [N] and rgb [N, 3] as nerfstudio computes them, without any box."""

    def layer(name: str, h: Tensor) -> Tensor:
        return linear(h, network[f"{name}.weight"].to(h), network[f"{name}.bias"].to(h))

    seen = encoded(x, 10, 8.0)
    h = seen
    for place in range(8):
        h = torch.cat([seen, h], -1) if place == 4 else h
        h = torch.relu(layer(f"mlp_base.layers.{place}", h))
    branch = torch.cat([encoded(d, 4, 4.0), h], -1)
    for place in range(2):
        branch = torch.relu(layer(f"mlp_head.layers.{place}", branch))
    sigma = torch.nn.functional.softplus(layer("field_output_density.net", h))[:, 0]
    return sigma, torch.sigmoid(layer("field_heads.0.net", branch))


def some_network() -> Network:
    """Numbers that keep what flows through as large as it is; low frequencies count more, so that it can be seen."""
    shapes = {f"mlp_base.layers.{n}": (256, 256) for n in range(8)}
    shapes |= {"mlp_base.layers.0": (256, 63), "mlp_base.layers.4": (256, 319), "field_output_density.net": (1, 256)}
    shapes |= {"mlp_head.layers.0": (128, 283), "mlp_head.layers.1": (128, 128), "field_heads.0.net": (3, 128)}
    network: Network = {}
    for name, (outputs, inputs) in shapes.items():
        network[f"{name}.weight"] = torch.randn(outputs, inputs) * (2 / inputs) ** 0.5
        network[f"{name}.bias"] = 0.1 * torch.randn(outputs)
    fade = 4.0 ** -torch.arange(10.0).repeat(6)
    for name in ("mlp_base.layers.0", "mlp_base.layers.4"):
        network[f"{name}.weight"][:, :60] *= fade
    network["field_output_density.net.weight"] *= 3
    return network


def config(parser: str = BLENDER, background: str = "white", far: str = "6.0") -> str:
    return f"""\
pipeline: !!python/object:nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig
  datamanager:
    dataparser: {{_target: !!python/name:{parser} '', scale_factor: 1.0}}
  model:
    background_color: {background}
    collider_params: {{near_plane: 2.0, far_plane: {far}}}
"""


def run_of(folder: Path, network: Network, settings: str, **more: Any) -> Path:
    """A run folder; more: tensors of the pipeline beside those of the networks, or in their place; None: none."""
    (folder / "nerfstudio_models").mkdir()
    pipeline: dict[str, Any] = {f"{FINE}{name}": value for name, value in network.items()}
    pipeline |= {f"{COARSE}{name}": torch.zeros(()) for name in network}
    pipeline |= {"_model.device_indicator_param": torch.empty(0), "_model.lpips.net.lin0.model.1.weight": torch.ones(4)}
    pipeline |= more
    kept = {name: value for name, value in pipeline.items() if value is not None}
    found = {"step": 7, "pipeline": kept, "optimizers": {}, "schedulers": {}}
    torch.save(found, folder / "nerfstudio_models" / "step-000000007.ckpt")
    (folder / "config.yml").write_text(settings)
    return folder


def opened(folder: Path) -> Field:
    field = fieldcast.open(folder)
    assert isinstance(field, Field)
    return field


def test_the_same_function(tmp_path: Path) -> None:
    network = some_network()
    field = opened(run_of(tmp_path, network, config()))
    assert field.space.aabb == (-1.5, -1.5, -1.5, 1.5, 1.5, 1.5) and field.background == (1.0, 1.0, 1.0)
    x, d = 3 * torch.rand(2000, 3, dtype=torch.float64) - 1.5, torch.randn(2000, 3, dtype=torch.float64)
    x[:50, 0], x[50:100, 2] = 1.5, -1.5  # on the faces
    d = normalize(d, dim=-1)
    sigma, rgb = reference(network, x, d)
    assert float(sigma.std()) > 0.05 and float(rgb.std()) > 0.05  # there is something to agree on
    for kind, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-3)):
        with torch.no_grad():
            ours = field.to(kind)(x.to(kind), d.to(kind))
        torch.testing.assert_close(ours[0].double(), sigma, rtol=tolerance, atol=tolerance * float(sigma.mean()))
        torch.testing.assert_close(ours[1].double(), rgb, rtol=tolerance, atol=tolerance)
    assert not bool(field(1.001 * torch.tensor([[1.5, 0, 0]]), torch.eye(3)[:1])[0].any())  # our box ends there
    fieldcast.save(field.float(), tmp_path / "a.safetensors")
    again = fieldcast.open(tmp_path / "a.safetensors")
    assert isinstance(again, Field)
    torch.testing.assert_close(again(x.float(), d.float()), field(x.float(), d.float()))


def test_a_view(tmp_path: Path) -> None:
    """Against the reference, marched densely through the box."""
    network = some_network()
    field = opened(run_of(tmp_path, network, config(background="black")))
    pixels = torch.cartesian_prod(torch.linspace(-0.4, 0.4, 7), torch.linspace(-0.4, 0.4, 7))
    d = normalize(torch.cat([pixels, -torch.ones(len(pixels), 1)], -1), dim=-1)
    rays = Rays(torch.tensor([0.1, 0.2, 4.0]).expand_as(d), d)
    seen = shading(field, steps=400)(rays).rgb
    count, far = 1000, 7.0
    t = (torch.arange(count) + 0.5) * far / count
    x = rays.origins[:, None] + t[:, None] * d[:, None]
    sigma, rgb = reference(network, x.reshape(-1, 3), d.repeat_interleave(count, 0))
    sigma = sigma.reshape(-1, count) * (x.abs() <= 1.5).all(-1)
    left = torch.exp(-torch.cumsum(sigma * far / count, -1))
    before = torch.cat([torch.ones(len(d), 1), left[:, :-1]], -1)
    wanted = ((before - left)[..., None] * rgb.reshape(len(d), count, 3)).sum(1)
    assert float(wanted.std()) > 0.02
    assert psnr(seen, wanted) > 45


def test_other_runs(tmp_path: Path) -> None:
    """Of other data the box is what cameras in [-1, 1]^3 see; runs over random colours are over black."""
    parser = "nerfstudio.data.dataparsers.nerfstudio_dataparser.Nerfstudio"
    names = {f"_model.module.field_fine.{name}": value for name, value in some_network().items()}
    field = opened(run_of(tmp_path, {}, config(parser, "random", "4.0"), **names))
    assert field.space.aabb[3:] == (5.0, 5.0, 5.0) and field.background == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({f"{FINE}mlp_head.layers.1.bias": None}, r"not a whole vanilla-nerf: missing mlp_head.layers.1.bias"),
        ({f"{FINE}more": torch.ones(1)}, "unexpected more"),
        ({"_model.other": torch.ones(1)}, "unexpected _model.other"),
        ({"_model.temporal_distortion.a": torch.ones(1)}, "scenes that move are not read"),
        ({f"{FINE}mlp_base.layers.4.weight": torch.ones(256, 256)}, r"expected \[256, 319\] numbers, found \[256, 256"),
        ({f"{FINE}field_heads.0.net.bias": torch.full((3,), math.nan)}, "expected finite numbers"),
        ({f"{FINE}field_heads.0.net.bias": "no"}, "expected a tensor, found str"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    network = {k: torch.zeros(v.shape) for k, v in some_network().items()}
    run_of(tmp_path, network, config(), **more)
    assert_refused(tmp_path, message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            config(background="green"),
            "background_color: expected one of white, black, random, last_sample, found green",
        ),
        (config("a.b.Other", far="far"), "far_plane: expected a distance, found far"),
        ("pipeline: {model: 3, datamanager: {dataparser: {_target: a.Other}}}", "far_plane: expected a distance"),
    ],
)
def test_settings_that_nobody_knows(tmp_path: Path, settings: str, message: str) -> None:
    run_of(tmp_path, {k: torch.zeros(v.shape) for k, v in some_network().items()}, settings)
    assert_refused(tmp_path, message)


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    (file,) = (run_of(tmp_path, some_network(), config()) / "nerfstudio_models").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert_refused(tmp_path, "not a whole checkpoint")


def test_settings_are_needed(tmp_path: Path) -> None:
    (run_of(tmp_path, some_network(), "") / "config.yml").unlink()
    with pytest.raises(InputError, match=r"step-000000007.ckpt: needs the config.yml of its run"):
        fieldcast.open(tmp_path / "nerfstudio_models" / "step-000000007.ckpt")


def assert_refused(folder: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fieldcast.open(folder)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(folder))
