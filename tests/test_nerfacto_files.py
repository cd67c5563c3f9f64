"""Runs of nerfstudio's nerfacto and instant-ngp: the same function as theirs, with tiny-cuda-nn and without."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, normalize

import fieldcast
from fieldcast.cli import cli
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields import Field
from fieldcast.fields.cameras import Rays
from fieldcast.fields.files.checkpoints.tiny_cuda_nn import Perceptron, fitting
from fieldcast.fields.metrics import psnr
from fieldcast.fields.rendering import shading

LEVELS, CHANNELS, LOG2, BASE, FINEST = 4, 2, 9, 3, 17
GROWTH = math.exp(math.log(FINEST / BASE) / (LEVELS - 1))
WIDTH, WIDE, CODES, PHOTOS = 16, 32, 8, 5
Tensors = dict[str, Tensor]


def hashed(corner: Tensor, size: int) -> Tensor:
    x, y, z = corner.unbind(-1)
    return (x ^ (y * 2654435761) ^ (z * 805459861)) % size


def interpolated(position: Tensor, row: Callable[[Tensor], Tensor], table: Tensor) -> Tensor:
    """Trilinear, of the rows of the eight corners."""
    lower = position.floor()
    rest, total = position - lower, torch.zeros(len(position), table.shape[1], dtype=table.dtype)
    for bits in range(8):
        step = torch.tensor([bits & 1, bits >> 1 & 1, bits >> 2])
        weight = torch.where(step == 1, rest, 1 - rest).prod(-1)
        total = total + weight[:, None] * table[row(lower.long() + step)]
    return total


def nerfstudio_grid(u: Tensor, table: Tensor) -> Tensor:
    parts = []
    for level in range(LEVELS):
        own = table[level << LOG2 : (level + 1) << LOG2]
        scale = math.floor(BASE * GROWTH**level + 1e-6)
        parts.append(interpolated(u * scale, lambda corner: hashed(corner, 1 << LOG2), own))
    return torch.cat(parts, -1)


def tiny_grid(u: Tensor, params: Tensor) -> Tensor:
    """The grid of tiny-cuda-nn, from the end of a vector."""
    parts, offset, sizes = [], 0, []
    for level in range(LEVELS):
        scale = float(np.exp2(np.float32(level) * np.log2(np.float32(GROWTH))) * np.float32(BASE) - np.float32(1))
        side = math.ceil(scale) + 1
        sizes.append((scale, side, min(-(-(side**3) // 8) * 8, 1 << LOG2)))
    table = params[-CHANNELS * sum(rows for *_, rows in sizes) :].reshape(-1, CHANNELS)
    for scale, side, rows in sizes:

        def row(corner: Tensor, side: int = side, rows: int = rows) -> Tensor:
            x, y, z = corner.unbind(-1)
            return (x + y * side + z * side * side) % rows if side**3 <= rows else hashed(corner, rows)

        parts.append(interpolated(u * scale + 0.5, row, table[offset : offset + rows]))
        offset += rows
    return torch.cat(parts, -1)


def harmonics(d: Tensor, sign: float) -> Tensor:
    """The 16 of nerfstudio (sign 1) and tiny-cuda-nn (sign -1), as polynomials."""
    x, y, z = sign * d[:, 0], sign * d[:, 1], d[:, 2]
    first = [torch.full_like(x, 0.28209479177387814), 0.4886025119029199 * y, 0.4886025119029199 * z]
    first += [0.4886025119029199 * x, 1.0925484305920792 * x * y, 1.0925484305920792 * y * z]
    first += [0.9461746957575601 * z * z - 0.31539156525252005, 1.0925484305920792 * x * z]
    first += [0.5462742152960396 * (x * x - y * y), 0.5900435899266435 * y * (3 * x * x - y * y)]
    first += [2.890611442640554 * x * y * z, 0.4570457994644658 * y * (5 * z * z - 1)]
    first += [0.3731763325901154 * z * (5 * z * z - 3), 0.4570457994644658 * x * (5 * z * z - 1)]
    first += [1.445305721320277 * z * (x * x - y * y), 0.5900435899266435 * x * (x * x - 3 * y * y)]
    return torch.stack(first, -1)


def contracted(x: Tensor) -> Tensor:
    norm = x.abs().amax(-1, keepdim=True)
    return (torch.where(norm < 1, x, (2 - 1 / norm) * x / norm) + 2) / 4


def plain_run() -> Tensors:
    """What nerfacto stores when it is trained without tiny-cuda-nn."""
    shapes = {
        "mlp_base.model.1.layers.0": (WIDTH, LEVELS * CHANNELS),
        "mlp_base.model.1.layers.1": (16, WIDTH),
        "mlp_head.layers.0": (WIDE, 16 + 15 + CODES),
        "mlp_head.layers.1": (WIDE, WIDE),
        "mlp_head.layers.2": (3, WIDE),
    }
    tensors = {f"{name}.weight": torch.randn(o, i) * (2 / i) ** 0.5 for name, (o, i) in shapes.items()}
    tensors |= {f"{name}.bias": 0.3 * torch.randn(o) for name, (o, _) in shapes.items()}
    tensors["mlp_base.model.0.hash_table"] = torch.randn(LEVELS << LOG2, CHANNELS)
    return {**tensors, **common()}


def tiny_run() -> Tensors:
    """The same with it: 3 and 6 vertices a side are stored densely, 10 and 17 are hashed."""
    base = Perceptron(LEVELS * CHANNELS, WIDTH, 1, 16)
    head = Perceptron(16 + 15 + CODES, WIDE, 2, 3)
    rows = 32 + 216 + 2 * 512
    assert (base.count, head.count) == (16 * 16 + 16 * 16, 32 * 48 + 32 * 32 + 16 * 32)
    return {
        "mlp_base.model.params": torch.cat([0.3 * torch.randn(base.count), torch.randn(CHANNELS * rows)]),
        "mlp_head.tcnn_encoding.params": 0.3 * torch.randn(head.count),
        "direction_encoding.tcnn_encoding.params": torch.zeros(0),
        "position_encoding.tcnn_encoding.params": torch.zeros(0),
        **common(),
    }


def common() -> Tensors:
    known = {
        "max_res": torch.tensor(FINEST),
        "num_levels": torch.tensor(LEVELS),
        "log2_hashmap_size": torch.tensor(LOG2),
    }
    aabb = torch.tensor([[-1.0, -2.0, -0.5], [1.0, 1.0, 1.5]])
    return {**known, "aabb": aabb, "embedding_appearance.embedding.weight": torch.randn(PHOTOS, CODES)}


def plain_nerfacto(run: Tensors, u: Tensor, d: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Density without its factor, and colour."""

    def layers(x: Tensor, names: list[str]) -> Tensor:
        for place, name in enumerate(names):
            x = linear(x, run[f"{name}.weight"].to(x), run[f"{name}.bias"].to(x))
            x = torch.relu(x) if place < len(names) - 1 else x
        return x

    grid = nerfstudio_grid(u, run["mlp_base.model.0.hash_table"].to(u))
    h = layers(grid, ["mlp_base.model.1.layers.0", "mlp_base.model.1.layers.1"])
    seen = torch.cat([harmonics((d + 1) / 2, 1), h[:, 1:], codes.expand(len(u), -1)], -1)
    return h[:, 0].exp(), layers(seen, [f"mlp_head.layers.{i}" for i in range(3)]).sigmoid()


def tiny_nerfacto(run: Tensors, u: Tensor, d: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    base, head = run["mlp_base.model.params"].to(u), run["mlp_head.tcnn_encoding.params"].to(u)
    grid = torch.cat([tiny_grid(u, base), u.new_zeros(len(u), 8)], -1)
    h = torch.relu(grid @ base[:256].reshape(16, 16).T) @ base[256:512].reshape(16, 16).T
    seen = torch.cat([harmonics(d, -1), h[:, 1:], codes.expand(len(u), -1), u.new_ones(len(u), 9)], -1)
    sizes = [(32, 48), (32, 32), (16, 32)]
    for place, (part, shape) in enumerate(zip(head.split([o * i for o, i in sizes]), sizes, strict=True)):
        seen = seen @ part.reshape(shape).T
        seen = torch.relu(seen) if place < 2 else seen
    return h[:, 0].exp(), seen[:, :3].sigmoid()


SETTINGS = {
    "average_init_density": 0.01,
    "hidden_dim": WIDTH,
    "hidden_dim_color": WIDE,
    "base_res": BASE,
    "use_average_appearance_embedding": True,
    "background_color": "last_sample",
    "disable_scene_contraction": False,
}


def saved(folder: Path, run: Tensors, settings: dict[str, Any] | None = None) -> Path:
    """A run's folder; the path of its settings."""
    pipeline = {f"_model.field.{name}": value for name, value in run.items()}
    pipeline |= {"_model.lpips.net.weight": torch.zeros(3), "datamanager.train_camera_optimizer.x": torch.zeros(1)}
    (folder / "nerfstudio_models").mkdir(exist_ok=True)
    torch.save({"step": 7, "pipeline": pipeline}, folder / "nerfstudio_models" / "step-000000007.ckpt")
    lines = "".join(f"    {name}: {value}\n" for name, value in (SETTINGS | (settings or {})).items())
    (folder / "config.yml").write_text(f"pipeline: !!python/object:a.B\n  model: !!python/object:c.D\n{lines}")
    return folder / "config.yml"


def assert_same(field: Field, x: Tensor, d: Tensor, sigma: Tensor, rgb: Tensor) -> None:
    assert float(sigma.std() / sigma.mean()) > 0.05 and float(rgb.std()) > 0.05  # there is something to agree on
    for kind, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        with torch.no_grad():
            ours = field.to(kind)(x.to(kind), d.to(kind))
        torch.testing.assert_close(ours[0].double(), sigma, rtol=tolerance, atol=tolerance * float(sigma.mean()))
        torch.testing.assert_close(ours[1].double(), rgb, rtol=tolerance, atol=tolerance)


def directions(count: int) -> Tensor:
    return normalize(torch.randn(count, 3, dtype=torch.float64), dim=-1)


RUNS = pytest.mark.parametrize(
    ("make", "reference"), [(plain_run, plain_nerfacto), (tiny_run, tiny_nerfacto)], ids=["plain", "tiny-cuda-nn"]
)


@RUNS
def test_the_same_function_in_a_contracted_world(tmp_path: Path, make: Any, reference: Any) -> None:
    run = make()
    field = fieldcast.open(saved(tmp_path, run))
    assert isinstance(field, Field) and field.spec.kind == "hashgrid" and field.background == (0, 0, 0)
    x = torch.cat([torch.randn(2000, 3, dtype=torch.float64), 50 * torch.randn(500, 3, dtype=torch.float64)])
    d = directions(len(x))
    mean = run["embedding_appearance.embedding.weight"].double().mean(0)
    sigma, rgb = reference(run, contracted(x), d, mean)
    assert_same(field, x, d, 0.01 * sigma, rgb)


@RUNS
def test_the_same_function_in_a_box(tmp_path: Path, make: Any, reference: Any) -> None:
    """Up to its faces, where tiny-cuda-nn looks beyond the last vertices; nothing behind them; the embedding is 0."""
    run = make()
    settings = {"disable_scene_contraction": True, "use_average_appearance_embedding": False}
    field = fieldcast.open(saved(tmp_path, run, settings | {"background_color": "white"}))
    assert field.space.aabb == (-1, -2, -0.5, 1, 1, 1.5) and field.background == (1, 1, 1)
    u = torch.cat([torch.rand(2000, 3, dtype=torch.float64), 1 - 0.02 * torch.rand(500, 3, dtype=torch.float64)])
    low, high = run["aabb"].double()
    d = directions(len(u))
    sigma, rgb = reference(run, u, d, torch.zeros(CODES, dtype=torch.float64))
    assert_same(field, low + u * (high - low), d, 0.01 * sigma, rgb)
    assert not field.density((high + 0.01)[None]).any()


@RUNS
def test_a_view(tmp_path: Path, make: Any, reference: Any) -> None:
    """Against the reference, marched densely through the box."""
    run = make()
    settings = {"disable_scene_contraction": True, "average_init_density": 0.3}
    field = fieldcast.open(saved(tmp_path, run, settings))
    pixels = torch.cartesian_prod(torch.linspace(-0.3, 0.3, 8), torch.linspace(-0.3, 0.3, 8))
    d = normalize(torch.cat([pixels, -torch.ones(len(pixels), 1)], -1), dim=-1)
    rays = Rays(torch.tensor([0.1, -0.4, 4.0]).expand_as(d), d)
    count, near, far = 2000, 2.0, 6.0
    t = near + (torch.arange(count) + 0.5) * (far - near) / count
    x = (rays.origins[:, None] + t[:, None] * d[:, None]).reshape(-1, 3)
    low, high = run["aabb"]
    inside = ((x > low) & (x < high)).all(-1)
    u = torch.where(inside[:, None], (x - low) / (high - low), torch.full_like(x, 0.5))
    mean = run["embedding_appearance.embedding.weight"].mean(0)
    sigma, rgb = reference(run, u, d.repeat_interleave(count, 0), mean)
    left = torch.exp(-torch.cumsum((0.3 * sigma * inside).reshape(-1, count) * (far - near) / count, -1))
    before = torch.cat([torch.ones(len(d), 1), left[:, :-1]], -1)
    wanted = ((before - left)[..., None] * rgb.reshape(len(d), count, 3)).sum(1)
    assert float(wanted.std()) > 0.02
    assert psnr(shading(field, steps=2000)(rays).rgb, wanted) > 45


def test_older_checkpoints(tmp_path: Path) -> None:
    """Their names; without the sizes that newer ones hold; and networks padded to 8."""
    run = tiny_run()
    x, d = torch.randn(300, 3, dtype=torch.float64), directions(300)
    expected = fieldcast.open(saved(tmp_path, run)).double()(x, d)
    params = run.pop("mlp_base.model.params")
    settings = {"max_res": FINEST, "num_levels": LEVELS, "log2_hashmap_size": LOG2}
    older = {k: v for k, v in run.items() if k not in settings} | {"mlp_base.params": params}
    older["mlp_head.params"] = older.pop("mlp_head.tcnn_encoding.params")
    apart = {k: v for k, v in run.items() if k not in settings} | {
        "mlp_base_mlp.tcnn_encoding.params": params[:512],
        "mlp_base_grid.tcnn_encoding.params": params[512:],
        "mlp_base.0.tcnn_encoding.params": params[512:],
        "mlp_base.1.tcnn_encoding.params": params[:512],
    }
    narrow = dict(run)
    base, head = Perceptron(8, WIDTH, 1, 16), Perceptron(16 + 15 + CODES, WIDE, 2, 3)
    less = [Perceptron(n.inputs, n.width, n.hidden, n.outputs, 8) for n in (base, head)]
    assert less[0].shapes[0] == (16, 8) and less[1].shapes[0] == (32, 40) and less[1].shapes[-1] == (8, 32)
    layers = head.unpacked(run["mlp_head.tcnn_encoding.params"], fed=1)
    first = torch.cat([layers[0][0], layers[0][1][:, None]], 1)  # one column of padding is left, and is the bias
    narrow["mlp_base.model.params"] = torch.cat(
        [less[0].packed([matrix for matrix, _ in base.unpacked(params, fed=0)]), params[512:]]
    )
    narrow["mlp_head.tcnn_encoding.params"] = less[1].packed([first, *(matrix for matrix, _ in layers[1:])])
    for other in (older, apart, narrow):
        found = fieldcast.open(saved(tmp_path, other, settings)).double()(x, d)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_sizes_of_nerfacto() -> None:
    """Golden numbers of parameters: of nerfacto's networks at their defaults."""
    assert Perceptron(32, 64, 1, 16).count == 3072 and Perceptron(63, 64, 2, 3).count == 9216
    assert Perceptron(10, 16, 1, 1).count == 512
    assert fitting(32, 64, 1, 16, 3072) == Perceptron(32, 64, 1, 16) and fitting(32, 64, 1, 16, 3071) is None


@pytest.mark.parametrize("packed", [Perceptron(63, 64, 2, 3), Perceptron(10, 16, 1, 1, 8), Perceptron(32, 64, 1, 16)])
def test_packing_is_the_inverse_of_unpacking(packed: Perceptron) -> None:
    matrices = [torch.randn(rows, columns) for rows, columns in packed.shapes]
    matrices[0][:, packed.inputs :] = 0
    matrices[-1][packed.outputs :] = 0
    params = torch.cat([matrix.flatten() for matrix in matrices])
    layers = packed.unpacked(params, fed=1)
    assert [tuple(m.shape) for m, _ in layers][-1] == (packed.outputs, packed.width)
    assert torch.equal(packed.packed([matrix for matrix, _ in layers]), params)


def damaged(change: Callable[[Tensors], Any], make: Callable[[], Tensors]) -> Tensors:
    run = make()
    change(run)
    return run


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (plain_run, lambda r: r.pop("mlp_head.layers.1.bias"), "missing mlp_head.layers.1.bias"),
        (plain_run, lambda r: r.update(stray=torch.zeros(1)), "unexpected stray"),
        (plain_run, lambda r: r.update(num_levels=torch.tensor(31)), "the hash table: expected [15872, 2] numbers"),
        (plain_run, lambda r: r.update(log2_hashmap_size=torch.tensor(99)), "sizes of its hash grid"),
        (plain_run, lambda r: r.update({"mlp_head.layers.2.weight": torch.zeros(3, 40)}), "a layer of its networks"),
        (plain_run, lambda r: r["mlp_base.model.0.hash_table"].fill_(math.nan), "expected finite numbers"),
        (tiny_run, lambda r: r.pop("mlp_head.tcnn_encoding.params"), "missing mlp_head.tcnn_encoding.params"),
        (tiny_run, lambda r: r.update(max_res=torch.tensor(1 << 19)), "mlp_base.model.params: expected"),
        (tiny_run, lambda r: r.update({"mlp_head.tcnn_encoding.params": torch.zeros(7)}), "expected 3,072 or"),
        (tiny_run, lambda r: r.update(aabb=torch.zeros(3)), "aabb: expected [2, 3] numbers, found [3]"),
    ],
)
def test_damaged(tmp_path: Path, make: Any, change: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        fieldcast.open(saved(tmp_path, damaged(change, make)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_without_its_settings(tmp_path: Path) -> None:
    saved(tmp_path, plain_run()).unlink()
    with pytest.raises(InputError, match=r"needs the config\.yml of its run"):
        fieldcast.open(tmp_path / "nerfstudio_models" / "step-000000007.ckpt")


@pytest.mark.parametrize("settings", [{"average_init_density": "much"}, {"base_res": -1}])
def test_settings_that_are_none(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the setting"):
        fieldcast.open(saved(tmp_path, plain_run(), settings))


def test_the_command_line_takes_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = saved(tmp_path, tiny_run())
    assert main_guard(cli, ["info", str(config), "--json"]) == 0
    assert '"storage": "tiny-cuda-nn"' in capsys.readouterr().out
    out = tmp_path / "copy.safetensors"
    assert main_guard(cli, ["convert", str(tmp_path), str(out), "--to", "hashgrid", "--views", "1", "--quiet"]) == 0
    x, d = torch.randn(100, 3), directions(100).float()
    copied, original = fieldcast.open(out), fieldcast.open(config)
    copied.occupancy = original.occupancy  # which is looked up when it is opened by the command line
    for a, b in zip(copied(x, d), original(x, d), strict=True):
        torch.testing.assert_close(a, b)
