"""Checkpoints of torch-ngp and of PVD: the same function as their own code, and where something is."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, linear, normalize

import fieldcast
from fieldcast.errors import InputError
from fieldcast.fields import Field
from fieldcast.fields.box import Box
from fieldcast.fields.cameras import Rays
from fieldcast.fields.cut import Cut
from fieldcast.fields.files import describe
from fieldcast.fields.files.checkpoints.cascades import bits_of_occupancy, morton_order, occupancy_of_bits
from fieldcast.fields.files.exports import EXPORTS
from fieldcast.fields.kinds import build, default_spec
from fieldcast.fields.metrics import psnr
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.rendering import shading
from fieldcast.fields.space import Space

State = dict[str, Any]
Reference = Callable[[State, Tensor, Tensor], tuple[Tensor, Tensor]]
PRIMES = 1, 2654435761, 805459861


def bound_of(state: State) -> float:
    return float(state["aabb_train"][3])


def looked_up(state: State, x: Tensor) -> Tensor:
    """The hash grid of torch-ngp, one point, level and corner at a time, in float64, with the scales of its kernel."""
    table, offsets, b = state["encoder.embeddings"].double(), state["encoder.offsets"].tolist(), bound_of(state)
    levels = len(offsets) - 1
    growth = 2 ** (math.log2(2048 * b / 16) / (levels - 1))
    features = torch.zeros(len(x), levels, table.shape[1], dtype=torch.float64)
    for number, place in enumerate(((x + b) / (2 * b)).tolist()):
        for level in range(levels):
            rows, single = offsets[level + 1] - offsets[level], np.float32
            scale = float(np.exp2(single(level) * single(np.log2(growth))) * single(16) - single(1))
            stride = math.ceil(16 * growth**level - 1 - 1e-9) + 2
            position = [u * scale + 0.5 for u in place]
            for corner in range(8):
                bits = [corner >> axis & 1 for axis in range(3)]
                cell = [math.floor(p) + bit for p, bit in zip(position, bits, strict=True)]
                shares = [p % 1 if bit else 1 - p % 1 for p, bit in zip(position, bits, strict=True)]
                row = cell[0] + cell[1] * stride + cell[2] * stride**2
                if stride**3 > rows:
                    row = 0
                    for c, prime in zip(cell, PRIMES, strict=True):
                        row ^= c * prime & 0xFFFFFFFF
                features[number, level] += math.prod(shares) * table[offsets[level] + row % rows]
    return features.flatten(1)


def harmonics(d: Tensor, bands: int) -> Tensor:
    """Real spherical harmonics from the recursion of Legendre's functions, with the sign of Condon and Shortley."""
    around, z = torch.complex(d[:, 0], d[:, 1]), d[:, 2]
    values = []
    for band in range(bands):
        for order in range(-band, band + 1):
            m = abs(order)
            before, now = torch.zeros_like(z), torch.full_like(z, math.prod(range(1, 2 * m, 2)))
            for n in range(m + 1, band + 1):
                before, now = now, ((2 * n - 1) * z * now - (n + m - 1) * before) / (n - m)
            scale = math.sqrt((2 * band + 1) / (4 * math.pi) * math.factorial(band - m) / math.factorial(band + m))
            turn = (around**m).imag if order < 0 else (around**m).real
            values.append((-1) ** m * scale * (math.sqrt(2) if m else 1) * now * turn)
    return torch.stack(values, -1)


def layers(state: State, name: str, h: Tensor) -> Tensor:
    """A network without biases, rectified between its layers."""
    count = sum(key.startswith(f"{name}.") for key in state)
    for place in range(count):
        h = linear(torch.relu(h) if place else h, state[f"{name}.{place}.weight"].to(h))
    return h


def seen(state: State, features: Tensor, d: Tensor) -> Tensor:
    return torch.sigmoid(layers(state, "color_net", torch.cat([harmonics(d, 4), features], -1)))


def torch_ngp(state: State, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """sigma [N] in 1 / unit of the checkpoint's frame, and rgb [N, 3]."""
    h = layers(state, "sigma_net", looked_up(state, x))
    return h[:, 0].exp(), seen(state, h[:, 1:], d)


def pvd_hash(state: State, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    sigma, rgb = torch_ngp(state, x, d)
    return sigma.clamp(math.exp(-2), math.exp(7)), rgb


def pvd_mlp(state: State, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """PVD's skip is behind the layer 3, whatever the bound."""
    wide = [x, *(f(x * 2.0**k) for k in range(10) for f in (torch.sin, torch.cos))]
    encoded = h = torch.cat(wide, -1)
    for place in range(8):
        h = linear(h, state[f"nerf_mlp.{place}.weight"].to(h), state[f"nerf_mlp.{place}.bias"].to(h))
        h = torch.relu(h) if place < 7 else h
        h = torch.cat([encoded, h], -1) if place == 3 else h
    h = layers(state, "sigma_net", h)
    return h[:, 0].clamp(-2, 7).exp(), seen(state, h[:, 1:], d)


def components(state: State, name: str, n: Tensor) -> Tensor:
    """Products of planes and lines [N, 3 c], as torch samples images of them."""
    found = []
    for number, (axes, along) in enumerate((((0, 1), 2), ((0, 2), 1), ((1, 2), 0))):
        plane = grid_sample(state[f"{name}_mat.{number}"].to(n), n[None, :, None, axes], align_corners=True)
        place = torch.stack([torch.zeros_like(n[:, along]), n[:, along]], -1)
        line = grid_sample(state[f"{name}_vec.{number}"].to(n), place[None, :, None], align_corners=True)
        found.append((plane * line)[0, :, :, 0].T)
    return torch.cat(found, -1)


def pvd_vm(state: State, x: Tensor, d: Tensor, clip: bool = False) -> tuple[Tensor, Tensor]:
    n = x / bound_of(state)
    features = linear(components(state, "color", n), state["basis_mat.weight"].to(x))
    assert bool((features.abs() > 7).any())
    sigma = components(state, "sigma", n).sum(-1).clamp(-2, 7).exp()
    return sigma, seen(state, features.clamp(-2, 7) if clip else features, d)


def pvd_student(state: State, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    return pvd_vm(state, x, d, clip=True)


def pvd_tensors(state: State, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    place = (x / bound_of(state))[None, None, :, None]
    values = grid_sample(state["tensor_volume.0"].to(x), place, align_corners=True)[0, :, 0, :, 0].T
    colors = (values[:, 1:].reshape(-1, 3, 9) * harmonics(d, 3)[:, None]).sum(-1)
    return values[:, 0].clamp(-2, 7).exp(), torch.sigmoid(colors)


def network(*widths: int) -> list[Tensor]:
    """Matrices that keep what flows through them about as large as it is."""
    return [torch.randn(b, a) * (2 / a) ** 0.5 for a, b in itertools.pairwise(widths)]


def around(bound: float, color: tuple[int, int] | None = (64, 64), **tensors: Any) -> State:
    """A state with its boxes and a network for the colour."""
    box = torch.tensor([-bound] * 3 + [bound] * 3)
    state: State = {
        "aabb_train": box,
        "aabb_infer": box.clone(),
        **{k.replace("__", "."): v for k, v in tensors.items()},
    }
    return state | ({f"color_net.{n}.weight": w for n, w in enumerate(network(31, *color, 3))} if color else {})


def hashed(bound: float = 1.0, levels: int = 5, rows: int = 1 << 13, hidden: int = 24) -> State:
    """A hash grid whose first levels are dense; its networks are of unequal widths."""
    growth = 2 ** (math.log2(2048 * bound / 16) / (levels - 1))
    counts = [min(rows, -(-((math.ceil(16 * growth**n - 1e-9) + 1) ** 3) // 8) * 8) for n in range(levels)]
    offsets = torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()], dtype=torch.int32)
    fade = torch.cat([torch.randn(count, 2) / 4**n for n, count in enumerate(counts)])
    first, second = network(2 * levels, hidden, 16)
    first[:, :2] *= 3
    tensors = {"sigma_net__0__weight": first, "sigma_net__1__weight": second}
    return around(bound, (40, 40), encoder__embeddings=fade, encoder__offsets=offsets, **tensors)


def mlp(bound: float = 1.0) -> State:
    state, sizes = around(bound), [63, 32, 32, 32, 32, 32, 32, 32, 28]
    for place, (a, b) in enumerate(itertools.pairwise(sizes)):
        state[f"nerf_mlp.{place}.weight"] = network(a + 63 * (place == 4), b)[0]
        state[f"nerf_mlp.{place}.bias"] = 0.1 * torch.randn(b)
    return state | {f"sigma_net.{n}.weight": w for n, w in enumerate(network(28, 64, 16))}


def vm(bound: float = 1.0) -> State:
    state = around(bound, basis_mat__weight=torch.randn(15, 18))
    for name, channels in (("sigma", 4), ("color", 6)):
        state |= {f"{name}_mat.{n}": torch.randn(1, channels, 20, 20) for n in range(3)}
        state |= {f"{name}_vec.{n}": torch.randn(1, channels, 20, 1) for n in range(3)}
    return state


def tensors(bound: float = 1.0) -> State:
    return around(bound, None, tensor_volume__0=2 * torch.randn(1, 28, 12, 12, 12))


def saved(path: Path, state: State, stored: str = "", **more: Any) -> Path:
    stats = {"loss": [], "checkpoints": [f"log/checkpoints/{stored}"] if stored else []}
    torch.save({"epoch": 3, "global_step": 7, "stats": stats, "model": state, **more}, path)
    return path


def opened(path: Path) -> Field:
    field = fieldcast.open(path)
    assert isinstance(field, Field)
    return field


CASES = [
    (lambda: hashed(), torch_ngp, "ngp_ep0003.pth", "hashgrid"),
    (lambda: hashed(2.0), torch_ngp, "ngp_ep0003.pth", "hashgrid"),
    (lambda: hashed(levels=14, rows=1 << 12), pvd_hash, "mlp2hash_ep0003.pth", "hashgrid"),
    (lambda: mlp(), pvd_mlp, "mlp_ep0003.pth", "mlp"),
    (lambda: mlp(4.0), pvd_mlp, "hash2mlp_ep0003.pth", "mlp"),
    (lambda: vm(), pvd_vm, "vm_ep0003.pth", "vm"),
    (lambda: vm(2.0), pvd_student, "hash2vm_ep0003.pth", "vm"),
    (lambda: tensors(2.0), pvd_tensors, "hash2tensors_ep0003.pth", "voxels"),
]


@pytest.mark.parametrize(("make", "reference", "stored", "kind"), CASES)
def test_the_same_function(
    tmp_path: Path, make: Callable[[], State], reference: Reference, stored: str, kind: str
) -> None:
    torch.manual_seed(3)
    state = make()
    field = opened(saved(tmp_path / "a.pth", state, stored))
    bound = bound_of(state)
    assert field.spec.kind == kind and field.space.aabb[3:] == (bound,) * 3 and field.space.up == (0, 1, 0)
    x, d = bound * (2 * torch.rand(400, 3, dtype=torch.float64) - 1), torch.randn(400, 3, dtype=torch.float64)
    x[:20, 0], x[20:40, 2] = bound, -bound  # on the faces
    d = normalize(d, dim=-1)
    sigma, rgb = reference(state, x, d)
    assert float(sigma.std()) > 0.05 and float(rgb.std()) > 0.05  # there is something to agree on
    for number, tolerance in ((torch.float64, 1e-6), (torch.float32, 2e-3)):
        with torch.no_grad():
            ours = field.to(number)(x.to(number), d.to(number))
        torch.testing.assert_close(ours[0].double(), sigma, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(ours[1].double(), rgb, rtol=tolerance, atol=tolerance)
    fieldcast.save(field.float(), tmp_path / "a.safetensors")
    again = opened(tmp_path / "a.safetensors")
    torch.testing.assert_close(again(x.float(), d.float()), field(x.float(), d.float()))


def test_a_view(tmp_path: Path) -> None:
    """Against the reference, marched densely; only the marked cells of torch-ngp are seen."""
    state = vm()
    ball = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 3, indexing="ij"), -1).norm(dim=-1) < 0.7
    state["density_bitfield"] = bits_of_occupancy(Occupancy.of_cells(ball), 1.0, 32)
    field = opened(saved(tmp_path / "a.pth", state, "vm_ep0003.pth"))
    pixels = torch.cartesian_prod(torch.linspace(-0.3, 0.3, 8), torch.linspace(-0.3, 0.3, 8))
    d = normalize(torch.cat([pixels, -torch.ones(len(pixels), 1)], -1), dim=-1)
    rays = Rays(torch.tensor([0.1, 0.2, 3.0]).expand_as(d), d)
    count, far = 1200, 5.0
    t = (torch.arange(count) + 0.5) * far / count
    x = (rays.origins[:, None] + t[:, None] * d[:, None]).reshape(-1, 3)
    sigma, rgb = pvd_vm(state, x, d.repeat_interleave(count, 0))
    cell = ((x + 1) * 16).long().clamp(0, 31)
    sigma = sigma * ball[cell[:, 0], cell[:, 1], cell[:, 2]] * (x.abs() <= 1).all(-1)
    left = torch.exp(-torch.cumsum(sigma.reshape(-1, count) * far / count, -1))
    before = torch.cat([torch.ones(len(d), 1), left[:, :-1]], -1)
    wanted = ((before - left)[..., None] * rgb.reshape(len(d), count, 3)).sum(1) + left[:, -1:]
    assert float(wanted.std()) > 0.02
    assert psnr(shading(field, steps=1500)(rays).rgb, wanted) > 45


def test_averages_are_read(tmp_path: Path) -> None:
    state = hashed(levels=2)
    names = [
        "encoder.embeddings",
        "sigma_net.0.weight",
        "sigma_net.1.weight",
        *(f"color_net.{n}.weight" for n in range(3)),
    ]
    ema = {"decay": 0.95, "num_updates": 3, "shadow_params": [state[n] for n in names], "collected_params": None}
    moved = state | {name: state[name] + 1 for name in names}
    average, plain = (opened(saved(tmp_path / "a.pth", s, **more)) for s, more in ((moved, {"ema": ema}), (state, {})))
    assert all(torch.equal(a, b) for a, b in zip(average.parameters(), plain.parameters(), strict=True))
    ema["shadow_params"] = [state[n] for n in names[1:]]
    refused(saved(tmp_path / "a.pth", moved, ema=ema), "ema: expected averages of the 6 tensors of the model")


def test_clamps_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "args.txt").write_text("\n('sigma_clip_max', 3.5)\n('sigma_clip_min', -1)\n('skip', 3)\n")
    file = saved(tmp_path / "checkpoints" / "hash2vm_ep0007.pth", vm())
    spec = opened(file).spec
    assert spec.density.clip == (-1.0, 3.5) and spec.sizes.appearance == "clamped"
    (tmp_path / "args.txt").write_text("('sigma_clip_max', -5)\n")
    with pytest.raises(
        InputError, match=r"args.txt: sigma_clip_min and sigma_clip_max: expected two numbers that rise"
    ):
        fieldcast.open(file)


def test_what_was_taken_out_leaves_no_fog(tmp_path: Path) -> None:
    """Clamped logits are at least -2, but not where a box is empty."""
    field = opened(saved(tmp_path / "a.pth", vm()))
    x = 2 * torch.rand(500, 3) - 1
    cut = Cut(Cut(field, erased=(Box((-1, -1, -1), (0, 1, 1)),)), erased=(Box((0.5, -1, -1), (1, 1, 1)),))
    gone = (x[:, 0] < 0) | (x[:, 0] > 0.5)
    with torch.no_grad():
        sigma, whole = cut.spec.density(cut.features(x)[:, 0]), field.spec.density(field.features(x)[:, 0])
    assert float(sigma[gone].max()) < 1e-9
    torch.testing.assert_close(sigma[~gone], whole[~gone])


@pytest.mark.parametrize("bound", [1.0, 1.5, 2.0, 4.0])
def test_cascades(bound: float) -> None:
    """A point that torch-ngp marches through, at whatever level, lies in a cell that is not empty."""
    side, levels = 16, {1.0: 1, 1.5: 2, 2.0: 2, 4.0: 3}[bound]
    flags = torch.rand(levels, side**3) < 0.004
    bits = (flags.reshape(-1, 8).to(torch.uint8) * 2 ** torch.arange(8, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)
    occupancy = occupancy_of_bits(bits, bound, side, side)
    x = bound * (2 * torch.rand(40_000, 3) - 1)
    marched = torch.zeros(len(x), dtype=torch.bool)
    for level in range(levels):
        reach = min(2.0**level, bound)
        cell = (0.5 * (x / reach + 1) * side).long().clamp(0, side - 1)
        number = torch.zeros(len(x), dtype=torch.int64)
        for bit in range(4):
            for axis in range(3):
                number |= (cell[:, axis] >> bit & 1) << 3 * bit + axis
        marched |= flags[level][number] & (x.abs() < reach).all(-1)
    held = occupancy.contains((x / bound + 1) / 2)
    assert bool(marched.any()) and not bool((marched & ~held).any())
    if bound == 1.0:
        assert torch.equal(marched, held)
    written = bits_of_occupancy(occupancy, bound, side)
    again = occupancy_of_bits(written, bound, side, side)
    assert not bool((occupancy.cells() & ~again.cells()).any())
    assert bound == 1.5 or torch.equal(again.bits, occupancy.bits)
    assert torch.equal(morton_order(2), torch.tensor([0, 4, 2, 6, 1, 5, 3, 7]))


def test_the_shown_part(tmp_path: Path) -> None:
    """aabb_infer: what lies outside it is not looked at."""
    state = tensors()
    state["aabb_infer"] = torch.tensor([-1, -1, -1, 0.5, 1, 1])
    field = opened(saved(tmp_path / "a.pth", state))
    x = torch.tensor([[0.4, 0, 0], [0.52, 0, 0]])
    assert (field.density(x) > 0).tolist() == [True, False]


def test_what_others_say(tmp_path: Path) -> None:
    """A state dict alone is read too; the grid of densities is not needed; a run that never looked is not empty."""
    state = hashed(levels=2) | {"density_grid": torch.zeros(1, 16**3), "density_bitfield": torch.zeros(512).byte()}
    torch.save(state, tmp_path / "a.pth")
    assert opened(tmp_path / "a.pth").occupancy.is_full()
    assert json.loads(json.dumps(describe(tmp_path / "a.pth")))["spec"]["sizes"]["hidden"] == 40


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fieldcast.open(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


@pytest.mark.parametrize("half", [1.0, 2.0])
def test_the_way_back(tmp_path: Path, half: float) -> None:
    """All that torch-ngp's own model has, under its names and in its shapes, and the same field again."""
    fit = EXPORTS[".pth"]
    spec = default_spec("hashgrid", space=Space((-half,) * 3 + (half,) * 3)).resized(dict(fit.sizes))
    assert fit.refusal(spec) is not None or half == 1.0
    field = build(fit.fitted(spec), 0)
    with torch.no_grad():
        for number, level in enumerate(field.encoding.levels):
            field.encoding.table[level.offset : level.offset + level.rows].normal_(0, 4.0**-number)
    x = half * (2 * torch.rand(3000, 3) - 1)
    inside = (torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 128)] * 3, indexing="ij"), -1) < 0.25).all(-1)
    field.occupancy = Occupancy.of_cells(inside)
    fieldcast.save(field, tmp_path / "a.pth")
    found = torch.load(tmp_path / "a.pth", weights_only=True)  # noqa: TID251
    cascades = 1 if half == 1 else 2
    rows = {1.0: 6119864, 2.0: 6328848}[half]  # of a model that torch-ngp made itself
    shapes = {name: tuple(value.shape) for name, value in found["model"].items()}
    assert shapes == {
        **{"aabb_train": (6,), "aabb_infer": (6,), "density_grid": (cascades, 128**3), "step_counter": (16, 2)},
        **{"density_bitfield": (cascades * 128**3 // 8,), "encoder.embeddings": (rows, 2), "encoder.offsets": (17,)},
        **{"sigma_net.0.weight": (64, 32), "sigma_net.1.weight": (16, 64), "color_net.0.weight": (64, 31)},
        **{"color_net.1.weight": (64, 64), "color_net.2.weight": (3, 64)},
    }
    assert {"stats", "epoch", "global_step", "mean_count", "mean_density"} < found.keys()
    again, d = opened(tmp_path / "a.pth"), normalize(torch.randn(3000, 3), dim=-1)
    assert torch.equal(again.occupancy.bits, field.occupancy.bits) and fit.refusal(again.spec) is None
    with torch.no_grad():
        torch.testing.assert_close(again(x, d), field(x, d), rtol=0, atol=0)
    sigma, rgb = torch_ngp(found["model"], x[:100].double(), d[:100].double())
    with torch.no_grad():
        ours = again.double()(x[:100].double(), d[:100].double())
    torch.testing.assert_close(ours[0], sigma * again.mask(x[:100].double()), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours[1], rgb, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("space", "change", "message"),
    [
        (Space(contraction="cube"), {}, "its box must be a cube around the origin"),
        (Space((-1, -1, -1, 1, 1, 2)), {}, "its box must be a cube around the origin"),
        (Space((-1.1, -1.1, -1.1, 1.1, 1.1, 1.1)), {}, "half its box, 1.1, must be a multiple of 1 / 2048"),
        (Space(), {"levels": 14}, "its sizes must be levels=16"),
        (Space((-2, -2, -2, 2, 2, 2)), {}, "its sizes must be .*, from 16 to 4096 cells, 2048 times half its box"),
        (
            Space((-2, -2, -2, 2, 2, 2)),
            {"finest_resolution": 4096},
            r"its density must be exp\(logit\) in 1 / world unit",
        ),
    ],
)
def test_what_torch_ngp_cannot_hold(tmp_path: Path, space: Space, change: dict[str, Any], message: str) -> None:
    spec = default_spec("hashgrid", space=space).resized({"levels": 16, "log2_table": 10} | change)
    field = build(spec, 0)
    if change or "sizes" in message:
        field.spec = spec.resized({"log2_table": 19})  # with a small table all the same
    with pytest.raises(InputError, match=f"a file of torch-ngp cannot hold this hashgrid: {message}"):
        fieldcast.save(field, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_other_kinds_become_hash_grids_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a file of torch-ngp holds a hashgrid, not a mlp"):
        fieldcast.save(opened(saved(tmp_path / "a.pth", mlp())), tmp_path / "b.pth")


ZEROS = torch.zeros(1)


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (hashed, {"color_net.1.weight": None}, "not a whole torch-ngp model: missing color_net.1.weight"),
        (hashed, {"more": ZEROS}, "unexpected more"),
        (hashed, {"bg_net.0.weight": ZEROS}, "a network for what is behind the scene"),
        (hashed, {"sigma_net.1.weight": torch.zeros(15, 24)}, r"expected \[16, 24\] numbers, found \[15, 24\]"),
        (hashed, {"color_net.0.weight": torch.full((40, 31), math.nan)}, "color_net.0.weight: expected finite numbers"),
        (hashed, {"aabb_train": torch.tensor([-1.0, -1, -1, 1, 1, 2])}, "expected a cube around the origin"),
        (
            hashed,
            {"aabb_train": torch.tensor([1.0, -1, -1, 1, 1, 2])},
            "aabb_train: space.aabb: expected finite minima",
        ),
        (
            hashed,
            {"encoder.offsets": torch.tensor([0, 1 << 30])},
            "encoder.offsets: expected levels of up to 2048 cells",
        ),
        (hashed, {"encoder.offsets": torch.arange(100)}, "expected where up to 32 levels begin"),
        (hashed, {"encoder.offsets": ZEROS}, "expected where up to 32 levels begin"),
        (hashed, {"encoder.embeddings": torch.zeros(8, 3)}, "expected 1, 2, 4 or 8 features"),
        (hashed, {"encoder.embeddings": torch.zeros(8, 2)}, "in the 8 rows of encoder.embeddings"),
        (hashed, {"density_bitfield": torch.zeros(100).byte()}, "density_bitfield: expected 1 grids of bits"),
        (hashed, {"density_bitfield": torch.zeros(64)}, "density_bitfield: expected 1 grids of bits"),
        (mlp, {"nerf_mlp.3.bias": None}, "not a whole mlp model of PVD: missing nerf_mlp.3.bias"),
        (mlp, {"nerf_mlp.3.weight": torch.zeros(32, 31)}, r"nerf_mlp.3.weight: expected \[32, 32\]"),
        (mlp, {"nerf_mlp.0.weight": torch.zeros(1 << 13, 63)}, "Expected `int` <= 4096"),
        (mlp, {"nerf_mlp.0.weight": torch.zeros(4096, 63), "nerf_mlp.0.bias": torch.zeros(4096)}, "4096, 4096"),
        (
            hashed,
            {"color_net.0.weight": torch.zeros(0, 31), "sigma_net.0.weight": torch.zeros(0, 10)},
            "found .40, 40.",
        ),
        (mlp, {"nerf_mlp.0.weight": torch.zeros(32, 62)}, "expected 3 \\+ 6 L encoded numbers"),
        (vm, {"sigma_mat.1": torch.zeros(1, 4, 20, 19)}, r"vm model|sigma_mat.1: expected \[1, 4, 20, 20\]"),
        (vm, {"basis_mat.weight": torch.zeros(27, 18)}, r"basis_mat.weight: expected \[15, any\]"),
        (vm, {"sigma_mat.0": torch.zeros(1, 4, 1, 1)}, "expected planes of 2 to 8192 cells"),
        (tensors, {"tensor_volume.0": torch.zeros(1, 28, 8, 8, 9)}, "found 28 at 8 x 8 x 9"),
        (tensors, {"tensor_volume.0": torch.zeros(1, 27, 8, 8, 8)}, "expected 4, 13, 28 or 49 numbers"),
        (tensors, {"color_net.0.weight": ZEROS}, "unexpected color_net.0.weight"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, make: Callable[[], State], change: dict[str, Any], message: str
) -> None:
    state = {name: value for name, value in (make() | change).items() if value is not None}
    refused(saved(tmp_path / "a.pth", state), message)
