"""Checkpoints of K-Planes and of its port to nerfstudio: the same function as the programs that wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

import fieldcast
from fieldcast.cli import cli
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields import Field
from fieldcast.fields.cameras import Rays
from fieldcast.fields.kernels.harmonics import harmonics_reference
from fieldcast.fields.metrics import psnr
from fieldcast.fields.rendering import shading

State = dict[str, Tensor]
BOX = [[-1.5, -1.0, -0.5], [1.5, 1.25, 2.0]]


def padded(width: int) -> int:
    return -(-width // 16) * 16


def network(inputs: int, hidden: int) -> Tensor:
    """What tiny-cuda-nn holds: matrices whose outputs keep the size of their inputs, one behind the other."""
    shapes = [(64, padded(inputs)), *[(64, 64)] * (hidden - 1), (16, 64)]
    return torch.cat([(torch.randn(rows, columns) * (2 / columns) ** 0.5).flatten() for rows, columns in shapes])


def run_network(params: Tensor, x: Tensor, hidden: int, outputs: int) -> Tensor:
    """tiny-cuda-nn's perceptron in float64: no biases, and inputs that are padding are 1."""
    x = torch.cat([x, x.new_ones(len(x), padded(x.shape[1]) - x.shape[1])], 1)
    for layer in range(hidden + 1):
        rows = 64 if layer < hidden else 16
        weight, params = params[: rows * x.shape[1]].double(), params[rows * x.shape[1] :]
        x = x @ weight.reshape(rows, -1).T
        x = torch.relu(x) if layer < hidden else x
    return x[:, :outputs]


def state(
    sides: tuple[int, ...] = (8, 16, 24), channels: int = 16, concat: bool = True, code: int = 0, folded: bool = False
) -> State:
    """A static model of sarafridov's K-Planes."""
    inputs = channels * (len(sides) if concat else 1)
    found = {"field.aabb": torch.tensor(BOX), "field.direction_encoder.params": torch.zeros(0)}
    for scale, side in enumerate(sides):
        found |= {f"field.grids.{scale}.{p}": 0.2 + 1.5 * torch.rand(1, channels, side, side) for p in range(3)}
    found |= {"field.sigma_net.params": network(inputs, 1), "field.color_net.params": network(31 + code, 2)}
    found |= {"proposal_networks.0.aabb": torch.tensor(BOX), "proposal_networks.0.sigma_net.params": torch.ones(9)}
    if code:
        found["field.appearance_embedding.weight"] = torch.randn(5, code)
    if folded:
        for name, values in (("global_translation", [0.0, 0.5, -1.0]), ("global_scale", [2.0, 3.0, 4.0])):
            found |= {f"{p}spatial_distortion.{name}": torch.tensor(values) for p in ("", "field.")}
    return found


def kplanes(found: State, x: Tensor, d: Tensor, concat: bool = True, relu: bool = False) -> tuple[Tensor, Tensor]:
    """sigma [N] and rgb [N, 3] in float64, by the paper and the code of sarafridov/K-Planes."""
    prefix = "field.spatial_distortion.global_"
    if f"{prefix}scale" in found:
        n = x * found[f"{prefix}scale"] + found[f"{prefix}translation"]
        size = n.abs().amax(-1, keepdim=True)
        n = torch.where(size < 1, n, (2 - 1 / size) * n / size) / 2
    else:
        low, high = found["field.aabb"].double()
        n = 2 * (x - low) / (high - low) - 1
    scales = []
    while f"field.grids.{len(scales)}.0" in found:
        product = torch.ones((), dtype=torch.float64)
        for plane, pair in enumerate(combinations(range(3), 2)):
            values = found[f"field.grids.{len(scales)}.{plane}"].double()
            at = n[:, pair].reshape(1, 1, -1, 2)
            looked_up = grid_sample(values, at, mode="bilinear", padding_mode="border", align_corners=True)
            product = product * looked_up[0, :, 0].T
        scales.append(product)
    features = torch.cat(scales, -1) if concat else torch.stack(scales).sum(0)
    appearance, s = run_network(found["field.sigma_net.params"], features, 1, 16).split([15, 1], -1)
    seen = [harmonics_reference(d, 3), appearance]
    if "field.appearance_embedding.weight" in found:
        seen.append(found["field.appearance_embedding.weight"].double().mean(0).expand(len(x), -1))
    raw = run_network(found["field.color_net.params"], torch.cat(seen, -1), 2, 3)
    return (torch.relu(s) if relu else torch.exp(s - 1))[:, 0], torch.sigmoid(raw)


def ported(found: State) -> State:
    """The same as the port to nerfstudio names it."""
    names = {f"grids.{s}.{p}": f"grids.{s}.plane_coefs.{p}" for s in range(4) for p in range(3)}
    names |= {"direction_encoder.params": "direction_encoding.params"}
    names |= {"appearance_embedding.weight": "appearance_ambedding.embedding.weight"}
    result = {"_model.device_indicator_param": torch.zeros(0), "_model.lpips.net.weight": torch.ones(3)}
    for name, value in found.items():
        short = name.removeprefix("field.")
        if name.startswith("field.") and "distortion" not in name:
            result[f"_model.field.{names.get(short, short)}"] = value[0] if short.startswith("grids") else value
    return result


def saved(path: Path, found: State, **changes: Any) -> Path:
    """Written as sarafridov does, with some tensors changed; None: missing."""
    model = {**found, **{name.replace("__", "."): value for name, value in changes.items()}}
    model = {name: value for name, value in model.items() if value is not None}
    torch.save({"model": model, "optimizer": {}, "lr_scheduler": None, "global_step": 30000}, path)
    return path


def opened(path: Path) -> Field:
    field = fieldcast.open(path)
    assert isinstance(field, Field) and field.spec.kind == "planes"
    return field


def points(field: Field, count: int = 3000) -> tuple[Tensor, Tensor]:
    """In the box, on its faces and, if space is folded, far outside it, in float64."""
    u = torch.rand(count, 3, dtype=torch.float64) * 0.998 + 0.001
    for axis in range(3):
        u[axis * 20 : axis * 20 + 20, axis] = 1e-9 if field.space.bounded else 0.25  # a face of the box either way
        u[axis * 20 + 10 : axis * 20 + 20, axis] = 1 - 1e-9 if field.space.bounded else 0.75
    return field.space.from_unit(u), normalize(torch.randn(count, 3, dtype=torch.float64), dim=-1)


def assert_same(field: Field, reference: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    x, d = points(field)
    sigma, rgb = reference(x, d)
    assert float(sigma.std()) > 1e-3 and float(rgb.std()) > 0.05  # there is something to agree on
    for kind, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        with torch.no_grad():
            ours = field.to(kind)(x.to(kind), d.to(kind))
        torch.testing.assert_close(ours[0].double(), sigma, rtol=tolerance, atol=tolerance * float(sigma.mean()))
        torch.testing.assert_close(ours[1].double(), rgb, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"concat": False},
        {"sides": (8, 16), "channels": 12},  # the density network has inputs that are 1
        {"sides": (16,), "channels": 32, "code": 5},
        {"sides": (8, 16), "code": 33, "folded": True},
    ],
)
def test_the_same_function(tmp_path: Path, made: dict[str, Any]) -> None:
    torch.manual_seed(7)
    found, concat = state(**made), made.get("concat", True)
    field = opened(saved(tmp_path / "model.pth", found))
    assert field.spec.sizes.resolutions == made.get("sides", (8, 16, 24))
    assert_same(field, lambda x, d: kplanes(found, x, d, concat))
    fieldcast.save(field.float(), tmp_path / "a.safetensors")
    assert_same(opened(tmp_path / "a.safetensors"), lambda x, d: kplanes(found, x, d, concat))


def test_what_shapes_do_not_tell_is_in_the_settings(tmp_path: Path) -> None:
    """Eight channels and four of two scales are padded to as many."""
    torch.manual_seed(7)
    found = state((8, 16), 4)
    found["field.sigma_net.params"][-64:].abs_()  # of the density, which relu is to leave something of
    path = saved(tmp_path / "model.pth", found)
    assert_same(opened(path), kplanes_of(found, concat=True, relu=False))
    settings = tmp_path / "config.csv"
    settings.write_text("expname\tlego\nconcat_features_across_scales\tFalse\ndensity_activation\trelu\n")
    assert_same(opened(path), kplanes_of(found, concat=False, relu=True))
    settings.write_text("density_activation\tsoftplus\n")
    with pytest.raises(InputError, match=r"config.csv: density_activation: expected trunc_exp or relu, found softplus"):
        opened(path)
    settings.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"config.csv: cannot be read"):
        opened(path)


def kplanes_of(found: State, concat: bool, relu: bool) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return lambda x, d: kplanes(found, x, d, concat, relu)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("average", [True, False])
def test_the_port_to_nerfstudio(tmp_path: Path, folded: bool, average: bool) -> None:
    torch.manual_seed(7)
    found = state(code=6)
    run = tmp_path / "nerfstudio_models"
    run.mkdir()
    torch.save({"step": 1, "pipeline": ported(found)}, run / "step-000000001.ckpt")
    settings = (
        f"is_contracted: {str(folded).lower()}, use_average_appearance_embedding: {str(average).lower()}, "
        "concat_features_across_scales: true, background_color: black"
    )
    (tmp_path / "config.yml").write_text(f"pipeline: {{model: {{{settings}}}}}\n")
    field = opened(tmp_path)
    assert field.background == (0, 0, 0) and field.space.bounded is not folded
    if folded:
        found |= {
            f"field.spatial_distortion.global_{n}": v
            for n, v in (("scale", torch.ones(3)), ("translation", torch.zeros(3)))
        }
    if not average:
        found["field.appearance_embedding.weight"].zero_()
    assert_same(field, lambda x, d: kplanes(found, x, d))
    (tmp_path / "config.yml").unlink()
    with pytest.raises(InputError, match=r"needs the config.yml of its run"):
        opened(run / "step-000000001.ckpt")


def test_a_view_is_that_of_the_model(tmp_path: Path) -> None:
    torch.manual_seed(7)
    found = state((8, 16))
    for plane in range(3):  # something to see: nothing at the faces, where a field ends
        found[f"field.grids.0.{plane}"][..., [0, 1, -2, -1], :] *= 0.05
        found[f"field.grids.0.{plane}"][..., [0, 1, -2, -1]] *= 0.05
    field = opened(saved(tmp_path / "model.pth", found))
    eye = torch.tensor([0.3, 0.2, 6.0])
    pixel = torch.cartesian_prod(torch.linspace(-0.25, 0.25, 20), torch.linspace(-0.25, 0.25, 20))
    d = normalize(torch.cat([pixel, -torch.ones(len(pixel), 1)], 1), dim=-1)
    seen = shading(field, steps=1000)(Rays(eye.expand(len(d), 3), d)).rgb
    t = torch.linspace(3.5, 7.5, 1500, dtype=torch.float64)
    target = torch.zeros(len(d), 3)
    for number, ray in enumerate(d.double()):
        x = eye + t[:, None] * ray
        sigma, rgb = kplanes(found, x, ray.expand(len(t), 3))
        sigma = sigma * field.space.contains(x)
        alpha = 1 - torch.exp(-sigma * (t[1] - t[0]))
        light = torch.cumprod(torch.cat([alpha.new_ones(1), 1 - alpha]), 0)
        target[number] = (rgb * (light[:-1] * alpha)[:, None]).sum(0) + light[-1]
    assert float(target.std()) > 0.02 and psnr(seen, target) > 45


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"field__sigma_net__params": None}, "not a whole K-Planes: missing sigma_net.params"),
        ({"field__grids__1__2": None}, "missing grids.1.2"),
        ({"field__more": torch.ones(1)}, "unexpected more"),
        ({"field__grids__0__3": torch.ones(1, 16, 5, 8)}, "scenes that change in time are not read"),
        ({"field__color_basis__params": torch.ones(5)}, "found a linear decoder, which is not read"),
        ({"field__grids__1__0": torch.ones(1, 16, 9, 8)}, r"as many samples along each axis, .* found \[1, 16, 9, 8\]"),
        ({"field__grids__1__1": torch.ones(1, 16, 9, 9)}, r"expected \[1, 16, 16, 16\] numbers, found \[1, 16, 9, 9\]"),
        ({"field__grids__2__0": torch.ones(1, 8, 24, 24)}, r"grids.2.0: expected \[1, 16, 24, 24\]"),
        ({"field__grids__1__1": torch.ones(16)}, "as many samples along each axis"),
        ({"field__grids__99__0": torch.ones(1, 16, 4, 4)}, "expected at most 16 scales, found 100"),
        ({"field__grids__0__0": torch.ones(1, 16, 1, 1)}, "2 to 8192, found"),
        ({"field__grids__1__2": torch.full((1, 16, 16, 16), torch.nan)}, "grids.1.2: expected finite numbers"),
        ({"field__sigma_net__params": torch.ones(100)}, "sigma_net.params: expected 4,096 numbers, found 100"),
        ({"field__color_net__params": torch.ones(100)}, "color_net.params: expected 7,168 numbers, found 100"),
        ({"field__aabb": torch.ones(2, 3)}, "aabb: space.aabb: expected finite minima below maxima"),
        ({"field__aabb": torch.ones(6)}, r"aabb: expected \[2, 3\] numbers, found \[6\]"),
        ({"field__spatial_distortion__global_scale": torch.zeros(3)}, "missing spatial_distortion.global_translation"),
        (
            {f"field__spatial_distortion__global_{n}": torch.zeros(3) for n in ("scale", "translation")},
            "global_scale: expected numbers above 0",
        ),
        ({"field__sigma_net__params": "more"}, "sigma_net.params: expected a tensor, found str"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = saved(tmp_path / "model.pth", state(), **changes)
    with pytest.raises(InputError, match=message) as caught:
        fieldcast.open(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


def test_commands_take_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(7)
    path = saved(tmp_path / "model.pth", state((8, 16), 8))
    assert main_guard(cli, ["info", str(path), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["program"], info["kind"], info["spec"]["sizes"]["resolutions"]) == ("K-Planes", "planes", [8, 16])
    assert main_guard(cli, ["validate", str(path)]) == 0
