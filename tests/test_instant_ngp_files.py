"""Snapshots of Instant-NGP: the same function as the program, by a plain version written from its description."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

import fieldcast
from fieldcast.cli import cli
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields import Field, Occupancy, Space, build, default_spec
from fieldcast.fields.files.checkpoints.instant_ngp_out import fitted, refusal
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kernels.harmonics import harmonics
from fieldcast.fields.kernels.hashgrid import hash_levels

LEVELS, CHANNELS, LOG2, BASE, SCALE = 3, 4, 9, 4, 1.7
WIDTH = 16
ROWS = 64 + 344 + 512  # 4 and 7 vertices a side are stored densely, 12 are hashed
COUNTS = 16 * 16 + 16 * 16, 16 * 32 + 16 * 16 + 16 * 16


def snapshot(params: np.ndarray[Any, Any], **changes: Any) -> dict[str, Any]:
    """What the program writes, as far as it is read; and some of what is not."""
    network = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None", "n_neurons": WIDTH}
    half = params.dtype == np.float16
    file: dict[str, Any] = {
        "loss": {"otype": "Huber"},
        "encoding": {
            "otype": "HashGrid",
            "n_levels": LEVELS,
            "n_features_per_level": CHANNELS,
            "log2_hashmap_size": LOG2,
            "base_resolution": BASE,
            "per_level_scale": SCALE,
        },
        "network": {**network, "n_hidden_layers": 1},
        "rgb_network": {**network, "n_hidden_layers": 2},
        "dir_encoding": {
            "otype": "Composite",
            "nested": [{"otype": "SphericalHarmonics", "n_dims_to_encode": 3, "degree": 4}, {"otype": "Identity"}],
        },
        "snapshot": {
            "version": 1,
            "mode": "nerf",
            "n_params": len(params),
            "params_type": "__half" if half else "float",
            "params_binary": params.tobytes(),
            "density_grid_size": 128,
            "density_grid_binary": b"",
            "nerf": {"aabb_scale": 2, "dataset": {"is_hdr": False, "n_images": 0}},
            "aabb": {"min": [-0.5, -0.5, -0.5], "max": [1.5, 1.5, 1.5]},
            "up_dir": [0.0, 1.0, 0.0],
            "background_color": [0.0, 0.5, 1.0, 1.0],
        },
    }
    for path, value in changes.items():
        *parts, last = path.split("__")
        place = file
        for part in parts:
            place = place[part]
        place[last] = value
    return file


def parameters(kind: Any = np.float32) -> np.ndarray[Any, Any]:
    draw = np.random.default_rng(3)
    networks = 0.5 * draw.normal(size=sum(COUNTS))
    return np.concatenate([networks, draw.normal(size=ROWS * CHANNELS)]).astype(kind)


def written(path: Path, file: dict[str, Any]) -> Path:
    data = msgspec.msgpack.encode(file)
    path.write_bytes(zlib.compress(data) if path.suffix == ".ingp" else data)
    return path


def by_hand(x: Tensor, d: Tensor, params: Tensor) -> tuple[float, Tensor]:
    """One point of the program's frame: its density and colour."""
    u = [(float(c) + 0.5) / 2 for c in x]
    density, color = params[: COUNTS[0]], params[COUNTS[0] : sum(COUNTS)]
    table, offset, code = params[sum(COUNTS) :].reshape(-1, CHANNELS), 0, []
    for level in range(LEVELS):
        scale = float(np.exp2(np.float32(level) * np.log2(np.float32(SCALE))) * np.float32(BASE) - np.float32(1))
        side = math.ceil(scale) + 1
        rows = min(-(-(side**3) // 8) * 8, 1 << LOG2)
        total = torch.zeros(CHANNELS, dtype=params.dtype)
        for bits in product((0, 1), repeat=3):
            at, weight = [], 1.0
            for c, bit in zip(u, bits, strict=True):
                place = c * scale + 0.5
                at.append(math.floor(place) + bit)
                weight *= place - math.floor(place) if bit else 1 - (place - math.floor(place))
            dense = at[0] + at[1] * side + at[2] * side**2
            hashed = at[0] ^ (at[1] * 2654435761) ^ (at[2] * 805459861)
            total += weight * table[offset + (dense if side**3 <= rows else hashed) % rows]
        code.append(total)
        offset += rows
    assert offset == ROWS
    h = torch.cat([*code, torch.zeros(4, dtype=params.dtype)])
    h = density[256:].reshape(16, 16) @ torch.relu(density[:256].reshape(16, 16) @ h)
    seen = torch.cat([h, harmonics(d[None], 3)[0]])
    seen = torch.relu(color[512:768].reshape(16, 16) @ torch.relu(color[:512].reshape(16, 32) @ seen))
    return math.exp(float(h[0])), torch.sigmoid(color[768:].reshape(16, 16) @ seen)[:3]


@pytest.mark.parametrize("suffix", [".msgpack", ".ingp"])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_the_same_function(tmp_path: Path, suffix: str, kind: Any) -> None:
    params = parameters(kind)
    field = fieldcast.open(written(tmp_path / f"a{suffix}", snapshot(params)))
    assert isinstance(field, Field) and field.spec.kind == "hashgrid" and field.background == (0.0, 0.5, 1.0)
    assert field.space.aabb == (-0.5, -0.5, -0.5, 1.5, 1.5, 1.5) and field.space.up == (0, 1, 0)
    x = 2 * torch.rand(60, 3, dtype=torch.float64) - 0.5
    x[:5, 0] = 1.499
    d = torch.nn.functional.normalize(torch.randn(60, 3, dtype=torch.float64), dim=-1)
    exact = torch.from_numpy(params).double()
    expected = [by_hand(a, b, exact) for a, b in zip(x, d, strict=True)]
    sigma, rgb = torch.tensor([e[0] for e in expected]).double(), torch.stack([e[1] for e in expected])
    assert float(sigma.std() / sigma.mean()) > 0.05 and float(rgb.std()) > 0.05
    for precision, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        with torch.no_grad():
            ours = field.to(precision)(x.to(precision), d.to(precision))
        torch.testing.assert_close(ours[0].double(), sigma, rtol=tolerance, atol=tolerance * float(sigma.mean()))
        torch.testing.assert_close(ours[1].double(), rgb, rtol=tolerance, atol=tolerance)


def test_settings_that_the_program_finds_itself(tmp_path: Path) -> None:
    """The growth of the levels, from the side of the box."""
    rows = hash_levels(LEVELS, BASE, 2048 * 4, LOG2, "tiny-cuda-nn")
    params = np.zeros(sum(COUNTS) + CHANNELS * (rows[-1].offset + rows[-1].rows), np.float16)
    file = snapshot(params, snapshot__nerf={"aabb_scale": 4})
    del file["encoding"]["per_level_scale"]
    field = fieldcast.open(written(tmp_path / "a.msgpack", file))
    assert field.space.aabb == (-1.5, -1.5, -1.5, 2.5, 2.5, 2.5)
    assert field.spec.sizes.finest_resolution == pytest.approx(8192)


def test_padding_to_8(tmp_path: Path) -> None:
    """As before September 2022: 12 codes need 16 inputs in both, but 3 colours 8 outputs instead of 16."""
    params = parameters()
    start = COUNTS[0] + 512 + 256
    older = np.concatenate([params[: start + 8 * 16], params[start + 16 * 16 :]])
    x, d = 2 * torch.rand(50, 3) - 0.5, torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    new = fieldcast.open(written(tmp_path / "new.msgpack", snapshot(params)))
    old = fieldcast.open(written(tmp_path / "old.msgpack", snapshot(older)))
    assert all(torch.equal(a, b) for a, b in zip(new(x, d), old(x, d), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snapshot__mode": "sdf"}, "the snapshot's mode: expected nerf, found 'sdf'"),
        ({"encoding__otype": "TiledGrid"}, "encoding: expected HashGrid or Grid"),
        ({"encoding__interpolation": "Smoothstep"}, "encoding.interpolation"),
        ({"encoding__n_levels": 40}, "not a whole snapshot"),
        ({"encoding__log2_hashmap_size": 26}, "parameters for its settings, found"),
        ({"network__n_hidden_layers": 3}, "parameters for its settings, found"),
        ({"rgb_network__activation": "Sine"}, "rgb_network.activation: expected ReLU"),
        ({"dir_encoding": {"otype": "Frequency"}}, "dir_encoding: expected SphericalHarmonics of degree 4"),
        ({"snapshot__nerf": {"dataset": {"is_hdr": True}}}, "high dynamic range"),
        ({"snapshot__nerf": {"dataset": {"n_extra_learnable_dims": 16}}}, "learned dimensions of each photograph"),
        ({"snapshot__n_params": 1 << 25}, "expected 33,554,432 parameters of type float"),
        ({"snapshot__params_binary": b""}, "found 0 bytes"),
        ({"snapshot__params_binary": "text"}, "not a whole snapshot"),
        ({"snapshot__nerf": {"aabb_scale": 1 << 20}}, "not a whole snapshot"),
        ({"snapshot__params_type": "double"}, "not a whole snapshot"),
    ],
)
def test_what_it_is_not(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        fieldcast.open(written(tmp_path / "a.msgpack", snapshot(parameters(), **change)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda data: b"", "not a whole snapshot"),
        (lambda data: data[: len(data) // 2], "not a whole snapshot"),
        (lambda data: b"\xdd\xff\xff\xff\xff", "not a whole snapshot"),
        (lambda data: b"\x91" * 100_000, "not a whole snapshot"),
        (lambda data: zlib.compress(data)[:-20], "is cut off"),
        (lambda data: zlib.compress(data)[:50] + b"\xff" * 50, "damaged"),
        (lambda data: zlib.compress(bytes(1 << 28)), "unpacks to more than"),
        (lambda data: gzip.compress(bytes(1 << 28), mtime=0), "unpacks to more than"),
    ],
)
def test_damaged(tmp_path: Path, make: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "a.ingp"
    path.write_bytes(make(msgspec.msgpack.encode(snapshot(parameters()))))
    with pytest.raises(InputError) as caught:
        fieldcast.open(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_parameters_that_are_none(tmp_path: Path) -> None:
    params = parameters()
    params[7] = np.nan
    with pytest.raises(InputError, match="expected finite numbers"):
        fieldcast.open(written(tmp_path / "a.msgpack", snapshot(params)))


def test_harmonics_are_those_that_tiny_cuda_nn_printed() -> None:
    """At (2, 2, 2), which it takes for (3, 3, 3), to the digits of 16-bit numbers."""
    printed = [0.28198, -1.4658, 1.4658, -1.4658, 9.8359, -9.8359, 8.2031, -9.8359, 0.0]
    torch.testing.assert_close(harmonics(torch.full((1, 3), 3.0), 2)[0], torch.tensor(printed), rtol=1e-3, atol=1e-6)


def small(**changes: Any) -> Field:
    """A hash grid that fits into a snapshot, somewhere in the world, with most of its cells empty."""
    sizes = {"storage": "tiny-cuda-nn", "levels": 4, "log2_table": 9, "hidden": 16, "finest_resolution": 30}
    spec = default_spec("hashgrid", space=Space((-1.0, 2.0, 0.0, 3.0, 6.0, 4.0)), background=(0.2, 0.4, 0.6))
    spec = replace(spec.resized(sizes), density=DensityActivation("exp", scale=changes.get("scale", 1.0)))
    field = build(spec, seed=1)
    with torch.no_grad():
        field.encoding.table.normal_(0, 5, generator=torch.Generator().manual_seed(2))
    cells = torch.zeros((128,) * 3, dtype=torch.bool)
    cells[30:90, 40:100, 50:70] = True
    field.occupancy = Occupancy.of_cells(cells)
    return field


@pytest.mark.parametrize("suffix", [".msgpack", ".ingp"])
@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_there_and_back(tmp_path: Path, suffix: str, scale: float) -> None:
    """In the program's frame, a box of side 2 `scale`; what is read is written as it was."""
    field, path = small(scale=scale), tmp_path / f"a{suffix}"
    fieldcast.save(field, path)
    found = fieldcast.open(path)
    assert isinstance(found, Field) and found.space.aabb == (*[0.5 - scale] * 3, *[0.5 + scale] * 3)
    assert found.background == pytest.approx(field.background) and found.space.up == field.space.up
    assert torch.equal(found.occupancy_bits, field.occupancy_bits)
    u, d = torch.rand(3000, 3), torch.nn.functional.normalize(torch.randn(3000, 3), dim=-1)
    with torch.no_grad():
        sigma, rgb = field.double()(field.space.from_unit(u.double()), d.double())
        ours = found.double()(found.space.from_unit(u.double()), d.double())
    assert float(sigma.max()) > 0 and float(rgb.std()) > 0.01
    torch.testing.assert_close(ours[0] * (2 * scale / 4), sigma, rtol=1e-6, atol=1e-9)  # its unit is a part of ours
    torch.testing.assert_close(ours[1], rgb, rtol=1e-6, atol=1e-6)
    again = tmp_path / f"b{suffix}"
    fieldcast.save(found.float(), again)
    other = fieldcast.open(again)
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: replace(s, space=Space((0, 0, 0, 1, 1, 2))), "its box must be a cube"),
        (lambda s: replace(s, space=Space(contraction="cube")), "its space end there"),
        (lambda s: s.resized({"storage": "torch-ngp"}), "storage=tiny-cuda-nn"),
        (lambda s: s.resized({"hidden": 20}), "hidden one of 16"),
        (lambda s: s.resized({"appearance": 7}), "15 appearance features"),
        (lambda s: replace(s, density=DensityActivation("softplus")), "its density must be"),
        (lambda s: replace(s, density=DensityActivation("exp", scale=0.7)), "its density must be"),
    ],
)
def test_what_a_snapshot_cannot_hold(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        fieldcast.save(build(change(small().spec)), tmp_path / "a.ingp")
    assert message in str(caught.value) and not (tmp_path / "a.ingp").exists()
    fits = fitted(replace(small().spec, density=DensityActivation("softplus")))
    assert refusal(fits) is None and fitted(fits) == fits


def test_the_report_is_about_the_scene_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Though the file is in the program's frame."""
    fieldcast.save(small(), tmp_path / "a.safetensors")
    argv = ["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "a.ingp"), "--to", "hashgrid"]
    assert main_guard(cli, [*argv, "--views", "1", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"] == "copy" and told["fidelity"]["psnr"] > 80
