"""Checkpoints of TensoRF and of nerfstudio's tensorf: the same function as theirs, in both directions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, linear, normalize, relu, softplus

import fieldcast
from fieldcast.cli import cli
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields import Field, Occupancy, Space, build, default_spec
from fieldcast.fields.cameras import Rays, look_at, pinhole
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.metrics import psnr
from fieldcast.fields.rendering import shading

Found = dict[str, Any]
AABB = torch.tensor([[-0.7, -1.2, -0.5], [0.6, 1.1, 1.0]])
GRID = (9, 13, 7)
PLANES, LINES = ((0, 1), (0, 2), (1, 2)), (2, 1, 0)


# --- what the programs compute, written down anew


def factor(tensor: Tensor, along: Tensor) -> Tensor:
    """A plane [1, C, h, w] or a line [1, C, g, 1] at places [N, 2] in [-1, 1]: [N, C]."""
    return grid_sample(tensor.to(along), along[None, :, None], align_corners=True)[0, :, :, 0].T


def components(state: dict[str, Tensor], name: str, n: Tensor) -> Tensor:
    """The components [N, sum of C] at points of the box [-1, 1]^3; of CP, products of three lines [N, C]."""
    nothing = torch.zeros_like(n[:, 0])
    lines = [factor(state[f"{name}_line.{m}"], torch.stack([nothing, n[:, LINES[m]]], -1)) for m in range(3)]
    if f"{name}_plane.0" not in state:
        return lines[0] * lines[1] * lines[2]
    planes = [factor(state[f"{name}_plane.{m}"], n[:, PLANES[m]]) for m in range(3)]
    return torch.cat([plane * line for plane, line in zip(planes, lines, strict=True)], -1)


def seen(x: Tensor, frequencies: list[float]) -> Tensor:
    angles = (x[:, :, None] * torch.tensor(frequencies, dtype=x.dtype)).flatten(1)
    return torch.cat([torch.sin(angles), torch.cos(angles)], -1)


def network(state: dict[str, Tensor], features: Tensor, d: Tensor, *more: Tensor) -> Tensor:
    h = torch.cat([features, d, *more], -1)
    for layer in (0, 2, 4):
        name = f"renderModule.mlp.{layer}"
        h = linear(h if layer == 0 else relu(h), state[f"{name}.weight"].to(h), state[f"{name}.bias"].to(h))
    return torch.sigmoid(h)


def harmonic_color(features: Tensor, d: Tensor) -> Tensor:
    x, y, z = d.unbind(-1)
    bands = [x * 0 + 0.5 / math.pi**0.5]
    bands += [0.75**0.5 / math.pi**0.5 * a for a in (-y, z, -x)]
    factors = 15**0.5 / (4 * math.pi) ** 0.5
    bands += [factors * a for a in (x * y, -y * z, (2 * z * z - x * x - y * y) / 12**0.5, -x * z, (x * x - y * y) / 2)]
    return relu((features.reshape(-1, 3, 9) * torch.stack(bands, -1)[:, None]).sum(-1) + 0.5)


def masked(found: Found, x: Tensor) -> Tensor:
    """Whether the alpha mask of a checkpoint is above 0 at world points."""
    if "alphaMask.mask" not in found:
        return torch.ones(len(x), dtype=torch.bool)
    shape = found["alphaMask.shape"]
    volume = np.unpackbits(found["alphaMask.mask"])[: math.prod(shape)].reshape(shape)
    low, high = found["alphaMask.aabb"].to(x)
    at = (2 * (x - low) / (high - low) - 1)[None, :, None, None]
    return grid_sample(torch.from_numpy(volume).to(x), at, align_corners=True).reshape(-1) > 0


def tensorf(found: Found, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """sigma [N] in 1 / world unit and rgb [N, 3], as TensoRF evaluates a checkpoint; the mask is not asked."""
    kwargs, state = found["kwargs"], found["state_dict"]
    low, high = kwargs["aabb"].to(x)
    n = 2 * (x - low) / (high - low) - 1
    logit = components(state, "density", n).sum(-1)
    dense = softplus(logit + kwargs["density_shift"]) if kwargs["fea2denseAct"] == "softplus" else relu(logit)
    inside = ((x >= low) & (x <= high)).all(-1)
    features = components(state, "app", n) @ state["basis_mat.weight"].to(x).T
    mode, views = kwargs["shadingMode"], seen(d, [2.0**k for k in range(kwargs["view_pe"])])
    if mode == "MLP_Fea":
        rgb = network(state, features, d, seen(features, [2.0**k for k in range(kwargs["fea_pe"])]), views)
    elif mode == "MLP":
        rgb = network(state, features, d, views)
    else:
        rgb = harmonic_color(features, d) if mode == "SH" else features
    return inside * kwargs["distance_scale"] * dense, rgb.clamp(0, 1)


# --- checkpoints


def released(mode: str = "MLP_Fea", factors: str = "vm", fea: int = 2, view: int = 2, **changed: Any) -> Found:
    """What TensoRF would save, with numbers that make something to look at; changed: of kwargs."""
    kwargs: Found = {
        "aabb": AABB.clone(), "gridSize": list(GRID), "density_n_comp": [3, 1, 2], "appearance_n_comp": [4, 2, 3],
        "app_dim": 3 if mode == "RGB" else 27, "density_shift": -10, "alphaMask_thres": 1e-4, "distance_scale": 25,
        "rayMarch_weight_thres": 1e-4, "fea2denseAct": "softplus", "near_far": [2.0, 6.0], "step_ratio": 0.5,
        "shadingMode": mode, "pos_pe": 6, "view_pe": view, "fea_pe": fea, "featureC": 16, **changed,
    }  # fmt: skip
    if factors == "cp":
        kwargs |= {"density_n_comp": [4], "appearance_n_comp": [5]}
    state: dict[str, Tensor] = {}
    for name, counts, size in (
        ("density", kwargs["density_n_comp"], 2.5),
        ("app", kwargs["appearance_n_comp"], 1.0),
    ):
        for m in range(3):
            count, (a, b) = counts[m % len(counts)], PLANES[m]
            state[f"{name}_line.{m}"] = size * torch.randn(1, count, GRID[LINES[m]], 1)
            if factors == "vm":
                state[f"{name}_plane.{m}"] = size * torch.randn(1, count, GRID[b], GRID[a])
    width = sum(kwargs["appearance_n_comp"])
    state["basis_mat.weight"] = torch.randn(kwargs["app_dim"], width) * 2 / width**0.5
    if mode.startswith("MLP"):
        inputs = 30 + 6 * view + (54 * fea if mode == "MLP_Fea" else 0)
        for layer, (outputs, width) in {0: (16, inputs), 2: (16, 16), 4: (3, 16)}.items():
            state[f"renderModule.mlp.{layer}.weight"] = torch.randn(outputs, width) * 2 / width**0.5
            state[f"renderModule.mlp.{layer}.bias"] = 0.3 * torch.randn(outputs)
    return {"kwargs": kwargs, "state_dict": state}


def with_mask(found: Found, box: Tensor = AABB, shape: tuple[int, int, int] = (21, 30, 17)) -> Found:
    """Besides, a mask: samples along z, y and x, some of them on."""
    volume = torch.zeros(1, 1, *shape, dtype=torch.bool)
    volume[0, 0, 4:12, 5:16, 3:9] = torch.rand(8, 11, 6) > 0.7
    return found | {
        "alphaMask.shape": tuple(volume.shape),
        "alphaMask.mask": np.packbits(volume.numpy().reshape(-1)),
        "alphaMask.aabb": box,
    }


def points(count: int = 3000) -> tuple[Tensor, Tensor]:
    """In and around the box, and on its faces, in float64; directions."""
    low, high = AABB.double()
    x = low + (high - low) * (1.2 * torch.rand(count, 3, dtype=torch.float64) - 0.1)
    x[:300] = x[:300].clamp(low, high)
    x[100:200, 2], x[200:300, 0] = high[2], low[0]
    return x, normalize(torch.randn(count, 3, dtype=torch.float64), dim=-1)


def assert_same(field: Field, found: Found) -> None:
    x, d = points()
    sigma, rgb = tensorf(found, x, d)
    assert float(sigma.std()) > 0.05 and float(rgb.std()) > 0.05  # there is something to agree on
    with torch.no_grad():
        mask = field.double().mask(x)
        ours = field(x, d)
        rest = field.to(torch.float32)(x.float(), d.float())
    torch.testing.assert_close(ours[0], mask * sigma, rtol=1e-6, atol=1e-9)
    inside = ((x >= AABB[0]) & (x <= AABB[1])).all(-1)
    torch.testing.assert_close(ours[1][inside], rgb[inside], rtol=1e-6, atol=1e-9)
    inside &= ((x > AABB[0] + 1e-4) & (x < AABB[1] - 1e-4)).all(-1) & (mask > 0)
    torch.testing.assert_close(rest[0].double()[inside], sigma[inside], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(rest[1].double()[inside], rgb[inside], rtol=1e-3, atol=1e-3)


CHECKPOINTS: dict[str, Callable[[], Found]] = {
    "lego": released,
    "flower": lambda: released(fea=0, view=0, fea2denseAct="relu"),
    "cp": lambda: released(factors="cp"),
    "MLP": lambda: released("MLP", fea=6, view=1),
    "SH": lambda: released("SH"),
    "RGB": lambda: released("RGB"),
    "masked": lambda: with_mask(released()),
    "other numbers": lambda: released(density_shift=-3.5, distance_scale=7.25, step_ratio=1),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_same_function_both_ways(tmp_path: Path, name: str) -> None:
    found = CHECKPOINTS[name]()
    torch.save(found, tmp_path / "a.th")
    field = fieldcast.open(tmp_path / "a.th")
    assert isinstance(field, Field) and field.spec.kind == "tensorf" and field.spec.background == (1.0, 1.0, 1.0)
    assert_same(field, found)
    fieldcast.save(field, tmp_path / "a.safetensors")
    assert_same(fieldcast.open(tmp_path / "a.safetensors"), found)
    fieldcast.save(field, tmp_path / "b.th")
    again = fieldcast.open(tmp_path / "b.th")
    assert again.spec == field.spec
    for key, value in field.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    written = torch.load(tmp_path / "b.th", weights_only=False)  # noqa: TID251
    assert written["kwargs"].keys() == found["kwargs"].keys()
    assert_same(again, written)
    x = points()[0]
    inside = ((x > AABB[0]) & (x < AABB[1])).all(-1)  # what is on a face is on one of the samples that are off
    assert torch.equal(masked(written, x)[inside], field.double().mask(x).bool()[inside])


@pytest.mark.parametrize("room", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_masks_of_older_and_newer_numpy(tmp_path: Path, room: bytes) -> None:
    """Also in the format of torch before 1.6, which is no archive and so can be edited."""
    torch.save(with_mask(released()), tmp_path / "b.th", _use_new_zipfile_serialization=False)
    old = (tmp_path / "b.th").read_bytes()
    (tmp_path / "b.th").write_bytes(re.sub(rb"numpy\._?core\.multiarray", room, old))
    assert fieldcast.open(tmp_path / "b.th").occupancy.fraction() < 0.5


@pytest.mark.parametrize("margin", [0.0, 0.35])
@pytest.mark.parametrize("shape", [(21, 30, 17), (3, 2, 5), (40, 150, 30)])
def test_masks_are_kept_where_they_reach(tmp_path: Path, margin: float, shape: tuple[int, int, int]) -> None:
    """Nothing that the mask lets through is lost, and nothing is kept that is farther off than a cell."""
    box = AABB + torch.tensor([[-margin], [2 * margin]])
    found = with_mask(released(), box)
    volume = torch.rand(1, 1, *shape) < (0.02 if math.prod(shape) > 1000 else 0.3)
    found |= {"alphaMask.shape": tuple(volume.shape), "alphaMask.mask": np.packbits(volume.numpy().reshape(-1))}
    torch.save(found, tmp_path / "a.th")
    field = fieldcast.open(tmp_path / "a.th").double()
    low, high = AABB.double()
    x = low + (high - low) * torch.rand(10_000, 3, dtype=torch.float64)
    let_through, kept = masked(found, x), field.mask(x).bool()
    assert bool(kept[let_through].all()) and bool(kept.any())
    cell = (high - low) / field.spec.occupancy
    lost = x[kept & ~let_through]
    corners = torch.cartesian_prod(*[torch.linspace(-1, 1, 3, dtype=torch.float64)] * 3)
    near = torch.stack([masked(found, lost + corner * cell) for corner in corners]).any(0)
    assert bool(near.all())


def test_a_view_is_theirs(tmp_path: Path) -> None:
    """48 pixels a side, against their function at 1500 places along each ray."""
    found = released("SH", density_shift=-14)
    torch.save(found, tmp_path / "a.th")
    field = fieldcast.open(tmp_path / "a.th")
    eye, target, up = torch.tensor([[2.0, 1.5, 1.8]]), torch.tensor([[0.0, 0.0, 0.2]]), torch.tensor([0.0, 0.0, 1.0])
    camera = pinhole(look_at(eye, target, up), 48, 48, 0.9)
    rays = camera.image_rays(0)
    assert psnr(shading(field, steps=1500)(rays).rgb, traced(found, rays)) > 45


def traced(found: Found, rays: Rays, places: int = 1500, far: float = 6.0) -> Tensor:
    """The colours [R, 3] of rays in front of white."""
    dt = far / places
    light, color = torch.ones(len(rays)), torch.zeros(len(rays), 3)
    for place in range(places):
        x = rays.origins + (place + 0.5) * dt * rays.directions
        near = ((x >= AABB[0]) & (x <= AABB[1])).all(-1).nonzero()[:, 0]
        sigma, rgb = tensorf(found, x[near], rays.directions[near])
        alpha = 1 - torch.exp(-sigma * dt)
        color[near] += (light[near] * alpha)[:, None] * rgb
        light[near] *= 1 - alpha
    return color + light[:, None]


# --- nerfstudio


def trained(factors: str = "vm", r: int = 8) -> dict[str, Tensor]:
    """The tensors of a model of nerfstudio, and of what is beside it in a checkpoint."""
    state = {"aabb": AABB.clone(), "B.weight": torch.randn(27, 15 if factors == "vm" else 5)}
    for grid, count in (("density", 2), ("color", 5)):
        state[f"{grid}_encoding.line_coef"] = 1.5 * torch.randn(3, count, r, 1)
        if factors == "vm":
            state[f"{grid}_encoding.plane_coef"] = 1.5 * torch.randn(3, count, r, r)
    for name, (outputs, inputs) in {
        "mlp_head.layers.0": (128, 150), "mlp_head.layers.1": (128, 128), "field_output_rgb.net": (3, 128),
    }.items():  # fmt: skip
        state |= {f"{name}.weight": torch.randn(outputs, inputs) / inputs**0.5, f"{name}.bias": torch.randn(outputs)}
    return {f"_model.field.{name}": value for name, value in state.items()} | {
        "_model.lpips.net.lin0.weight": torch.ones(3),
        "_model.camera_optimizer.pose_adjustment": torch.ones(9, 6),
        "_model.device_indicator_param": torch.ones(0),
    }


def nerfstudio(pipeline: dict[str, Tensor], x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """sigma and rgb, as nerfstudio evaluates the tensors of a pipeline."""
    field = {name.removeprefix("_model.field."): value for name, value in pipeline.items()}
    state = {"basis_mat.weight": field["B.weight"]}
    for theirs, ours in (("mlp_head.layers.0", 0), ("mlp_head.layers.1", 2), ("field_output_rgb.net", 4)):
        state |= {f"renderModule.mlp.{ours}.{part}": field[f"{theirs}.{part}"] for part in ("weight", "bias")}
    for grid, name in (("density", "density"), ("color", "app")):
        for kind in ("plane", "line"):
            whole = field.get(f"{grid}_encoding.{kind}_coef")
            state |= {} if whole is None else {f"{name}_{kind}.{m}": whole[m : m + 1] for m in range(3)}
    low, high = field["aabb"].to(x)
    n = 2 * (x - low) / (high - low) - 1
    features = components(state, "app", n) @ state["basis_mat.weight"].to(x).T
    inside = ((x >= low) & (x <= high)).all(-1)  # rays end at the box
    turns = [2 * math.pi, 8 * math.pi]
    rgb = network(state, features, d, seen(features, turns), seen(d, turns))
    return inside * relu(components(state, "density", n).sum(-1)), rgb


def run_of(folder: Path, pipeline: dict[str, Tensor], background: str = "white") -> Path:
    """A run folder with a checkpoint."""
    (folder / "nerfstudio_models").mkdir(parents=True)
    settings = f"pipeline:\n  model:\n    background_color: {background}\n    tensorf_encoding: vm\n"
    (folder / "config.yml").write_text(settings)
    torch.save({"step": 7, "pipeline": pipeline}, folder / "nerfstudio_models" / "step-000000007.ckpt")
    return folder


@pytest.mark.parametrize("factors", ["vm", "cp"])
@pytest.mark.parametrize("background", ["white", "random"])
def test_runs_of_nerfstudio(tmp_path: Path, factors: str, background: str) -> None:
    pipeline = trained(factors)
    field = fieldcast.open(run_of(tmp_path / "run", pipeline, background))
    assert isinstance(field, Field) and field.background == ((1.0,) * 3 if background == "white" else (0.0,) * 3)
    x, d = points()
    with torch.no_grad():
        ours = field.double()(x, d)
    sigma, rgb = nerfstudio(pipeline, x, d)
    assert float(sigma.std()) > 0.05 and float(rgb.std()) > 0.05
    torch.testing.assert_close(ours[0], sigma, rtol=1e-6, atol=1e-9)
    inside = ((x >= AABB[0]) & (x <= AABB[1])).all(-1)
    torch.testing.assert_close(ours[1][inside], rgb[inside], rtol=1e-6, atol=1e-9)
    with pytest.raises(InputError, match="cannot hold this tensorf: its frequencies are not 1, 2, 4"):
        fieldcast.save(field, tmp_path / "a.th")


# --- what is wrong


class Objects:
    """A numpy array of objects, as it is pickled."""

    def __init__(self, *objects: Any) -> None:
        self.objects = np.array(objects, dtype=object)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.objects.__reduce__()


def other(part: str = "kwargs", **changed: Any) -> Found:
    """A checkpoint with some entries changed; None: missing."""
    found = with_mask(released())
    there = found if part == "" else found[part]
    there |= {name.replace("__", "."): value for name, value in changed.items()}
    for name in [name for name, value in there.items() if value is None]:
        del there[name]
    return found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda: other(shadingMode="MLP_PE"), "MLP_PE is not read: TensoRF itself cannot evaluate"),
        (lambda: other(shadingMode="Phong"), "kwargs: Invalid enum value 'Phong'"),
        (lambda: other(turbo=1), "kwargs: unknown turbo"),
        (lambda: other(featureC=None), "missing required field `featureC`"),
        (lambda: other(app_dim=12), r"basis_mat.weight: expected \[12, 9\] numbers, found \[27, 9\]"),
        (lambda: other(gridSize=[9, 13]), "kwargs: Expected `array` of length 3"),
        (lambda: other(gridSize=[1 << 40, 13, 7]), "kwargs: Expected `int` <= 8192"),
        (lambda: other(gridSize=[8000, 8000, 7]), r"density_plane.0: expected \[1, 3, 8000, 8000\] numbers, found"),
        (lambda: other(density_n_comp=[3]), "density_n_comp: expected three numbers, found"),
        (lambda: other(density_shift=math.nan), "density: expected a finite shift"),
        (lambda: other(distance_scale=-1), "kwargs: Expected `float` > 0"),
        (lambda: other(aabb=AABB.flip(0)), "kwargs: aabb: expected finite minima below maxima"),
        (lambda: other(aabb=[0, 1]), "kwargs: aabb: expected the two corners of a box"),
        (lambda: other("state_dict", app_line__1=None), "not a whole TensoRF: missing app_line.1"),
        (lambda: other("state_dict", bonus=torch.ones(1)), "unexpected bonus"),
        (lambda: other("state_dict", basis_mat__weight=torch.full((27, 9), torch.nan)), "expected finite numbers"),
        (lambda: other("", alphaMask__shape=(1, 1, 9, 9, 9)), "alphaMask.mask: expected 92 bytes for 729 samples"),
        (lambda: other("", alphaMask__shape=(1 << 20,) * 3), "expected samples along three axes"),
        (lambda: other("", alphaMask__shape=(8, 8, -8)), "expected numbers of samples"),
        (lambda: other("", alphaMask__mask=None), "alphaMask.mask: expected"),
        (lambda: other("", alphaMask__aabb=None), "alphaMask.aabb: expected the two corners"),
        (lambda: other("", alphaMask__mask=Objects("a", 1)), "not a whole checkpoint of plain tensors"),
        (lambda: other("", alphaMask__mask=np.zeros((3, 3), np.uint8)), "numpy arrays of anything but a row of bytes"),
        (lambda: other("", alphaMask__mask=np.zeros(1340)), "numpy arrays of anything but a row of bytes"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, found: Callable[[], Found], message: str) -> None:
    torch.save(found(), tmp_path / "a.th")
    with pytest.raises(InputError, match=message) as caught:
        fieldcast.open(tmp_path / "a.th")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(tmp_path / "a.th"))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_what_is_cut_short(tmp_path: Path, kept: float) -> None:
    torch.save(with_mask(released()), tmp_path / "a.th")
    whole = (tmp_path / "a.th").read_bytes()
    (tmp_path / "a.th").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=r"a\.th: "):
        fieldcast.open(tmp_path / "a.th")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"density_encoding.line_coef": None}, "not a whole tensorf|a checkpoint of none"),
        ({"B.weight": None}, "not a whole tensorf: its grids or layers are missing"),
        ({"color_encoding.plane_coef": None}, "not a whole tensorf: missing color_encoding.plane_coef"),
        ({"more": torch.ones(2)}, "not a whole tensorf: unexpected more"),
        ({"color_encoding.plane_coef": torch.ones(3, 5, 8, 9)}, r"color_encoding.plane_coef: expected \[3, 5, 8, 8\]"),
        ({"aabb": None}, "aabb: expected the two corners"),
    ],
)
def test_runs_that_are_damaged(tmp_path: Path, changed: dict[str, Tensor | None], message: str) -> None:
    pipeline = trained() | {f"_model.field.{name}": value for name, value in changed.items()}
    run = run_of(tmp_path / "run", {name: value for name, value in pipeline.items() if value is not None})
    with pytest.raises(InputError, match=message):
        fieldcast.open(run)


def test_a_run_without_its_settings(tmp_path: Path) -> None:
    torch.save({"pipeline": trained()}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"needs the config\.yml of its run"):
        fieldcast.open(tmp_path / "a.ckpt")


# --- writing


SMALL = {"resolution": [6, 6, 6], "density_channels": [2] * 3, "appearance_channels": [2] * 3, "hidden": 8}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"density": DensityActivation()}, "its density is exp"),
        ({"density": DensityActivation("relu", shift=1.0)}, "its density is relu of a shifted sum"),
        ({"color": "shifted_clamp"}, "its colours are shifted_clamp"),
        ({"space": Space(contraction="cube")}, "its world is contracted"),
    ],
)
def test_what_tensorf_cannot_be(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    field = build(replace(default_spec("tensorf", occupancy=8).resized(SMALL), **changed))
    with pytest.raises(InputError, match=message):
        fieldcast.save(field, tmp_path / "a.th")
    assert not list(tmp_path.iterdir())


def test_fine_occupancies_are_halved(tmp_path: Path) -> None:
    field = build(default_spec("tensorf", occupancy=272).resized(SMALL))
    cells = torch.zeros(272, 272, 272, dtype=torch.bool)
    cells[100:201, 33, 7] = True
    field.occupancy = Occupancy.of_cells(cells)
    fieldcast.save(field, tmp_path / "a.th")
    kept = fieldcast.open(tmp_path / "a.th").occupancy
    expected = torch.zeros(136, 136, 136, dtype=torch.bool)
    expected[50:101, 16, 3] = True
    assert torch.equal(kept.cells(), expected)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code of a command as a user types it, and its stdout and stderr."""
    code = main_guard(cli, [str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(with_mask(released()), tmp_path / "a.th")
    info = json.loads(run(capsys, "info", tmp_path / "a.th", "--json")[1])
    assert info["kind"] == "tensorf" and info["spec"]["sizes"]["resolution"] == list(GRID)
    few = ("--steps", "2", "--views", "1")
    sizes = ("--size", "resolution=16", *few)
    code, out, err = run(capsys, "convert", tmp_path / "a.th", tmp_path / "b.safetensors", "--to", "vm", *sizes)
    assert code == 0, err
    sizes = ("--size", "resolution=8,9,10", "--size", "hidden=8", *few, "--json")
    code, out, err = run(capsys, "convert", tmp_path / "b.safetensors", tmp_path / "c.th", "--to", "tensorf", *sizes)
    assert code == 0, err
    assert json.loads(out)["student"]["kind"] == "tensorf"
    assert fieldcast.open(tmp_path / "c.th").spec.sizes.resolution == (8, 9, 10)
    run_of(tmp_path / "run", trained())
    code, _, err = run(capsys, "convert", tmp_path / "run", tmp_path / "d.th", "--to", "tensorf", *sizes)
    assert code == 0, err
    assert fieldcast.open(tmp_path / "d.th").spec.sizes.spacing == 1  # a student, whose frequencies TensoRF knows
    assert run(capsys, "convert", tmp_path / "a.th", tmp_path / "e.th", "--to", "vm")[0] == 2
