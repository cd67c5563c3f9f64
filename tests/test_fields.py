"""Every kind of field: sizes, shapes, ranges, gradients, and what it computes against an independent computation."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields import KINDS, Cameras, Field, FieldSpec, Occupancy, Space, build, default_spec, render
from fieldcast.fields.cameras import look_at, pinhole
from fieldcast.fields.encodings.frequency import frequencies
from fieldcast.fields.heads import DensityActivation, activate_color, truncated_exp
from fieldcast.fields.kernels.harmonics import harmonics
from fieldcast.fields.kinds import kind_class, spec_from_json
from fieldcast.fields.kinds.voxels import EMPTY_LOGIT, needed_blocks
from fieldcast.fields.rendering import Samples, look

TINY: dict[str, dict[str, Any]] = {
    "mlp": {"layers": 4, "width": 16, "skip": 2, "octaves": 3, "code": 6, "hidden": 8},
    "hashgrid": {
        "levels": 3, "channels": 2, "log2_table": 8, "base_resolution": 4, "finest_resolution": 24, "hidden": 8
    },
    "vm": {"resolution": 7, "density_channels": 2, "appearance_channels": 3, "hidden": 8},
    "cp": {"resolution": 7, "density_channels": 4, "appearance_channels": 5, "hidden": 8},
    "voxels": {"resolution": 11, "degree": 2},
    "planes": {"resolutions": [4, 9], "channels": 3, "hidden": 8},
    "hybrid": {
        "levels": 2, "log2_table": 8, "base_resolution": 4, "finest_resolution": 16, "vm_resolution": 6,
        "vm_channels": 2, "hidden": 8,
    },
    "nerf": {"layers": 4, "width": 16, "skip": 2, "octaves": 3, "view_octaves": 2, "branch": 8},
    "tensorf": {
        "resolution": [5, 7, 4], "density_channels": [2, 1, 3], "appearance_channels": [3, 2, 1],
        "features": 6, "hidden": 8,
    },
}  # fmt: skip
BOX = Space((-1.0, -2.0, 0.5, 2.0, 1.0, 2.5))  # neither a cube nor around the origin
TENSORF_DENSITY = DensityActivation("softplus", shift=-3.6, scale=37.5)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def tiny(kind: str, **shared: Any) -> Field:
    """A field of a few numbers, with parameters large enough that everything matters."""
    shared = {"space": BOX, "occupancy": 8, "steps": 64, **shared}
    field = build(default_spec(kind, **shared).resized(TINY[kind]))
    with torch.no_grad():
        for name, value in field.named_parameters():
            if any(part in name for part in ("table", "planes", "lines", "data")):
                value.normal_(0, 0.6)
    return field


def points(count: int, space: Space = BOX, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Random points in the box, and random directions."""
    low, high = space.box(torch.zeros(0, dtype=dtype))
    x = low + torch.rand(count, 3, dtype=dtype) * (high - low)
    return x, torch.nn.functional.normalize(torch.randn(count, 3, dtype=dtype), dim=-1)


def cells(*where: tuple[int, int, int], side: int = 8) -> Occupancy:
    """An occupancy of just these cells."""
    full = torch.zeros((side,) * 3, dtype=torch.bool)
    for cell in where:
        full[cell] = True
    return Occupancy.of_cells(full)


def test_every_kind_has_a_tiny_version_here() -> None:
    assert set(TINY) == set(KINDS)


# --- sizes


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("mlp", 443_548),
        ("hashgrid", 10_616_496),
        ("vm", 17_346_032),
        ("voxels", 58_720_256),
        # TensoRF-CP: lines of density and appearance, basis, and the colour network that all kinds share.
        ("cp", 3 * 500 * (96 + 288) + 288 * 15 + 31 * 64 + 64 * 64 + 64 * 3),
        # TensoRF-VM as released: grids of density and appearance, basis, and three layers with biases.
        ("tensorf", 3 * (300 * 300 + 300) * 64 + 144 * 27 + 151 * 128 + 129 * 128 + 129 * 3),
        # K-Planes: three planes a resolution, sigma_net from 3 x 16 features, colour network.
        ("planes", 3 * 16 * (128**2 + 256**2 + 512**2) + 48 * 64 + 64 * 16 + 31 * 64 + 64 * 64 + 64 * 3),
    ],
)
def test_default_sizes_are_the_papers(kind: str, count: int) -> None:
    with torch.device("meta"):
        assert build(default_spec(kind)).parameter_count() == count


def test_rows_of_the_hash_table_are_pvds() -> None:
    with torch.device("meta"):
        levels = build(default_spec("hashgrid")).encoding.levels
    assert [level.offset for level in levels[:7]] == [0, 4920, 20552, 63432, 196088, 585112, 1109400]
    assert levels[-1].offset + levels[-1].rows == 5303704


@EVERY_KIND
def test_default_sizes_answer(kind: str) -> None:
    field = build(default_spec(kind))
    x, d = points(16, field.spec.space)
    with torch.no_grad():
        sigma, rgb = field(x, d)
    assert torch.isfinite(sigma).all()
    assert torch.isfinite(rgb).all()
    assert float(sigma.min()) > 0
    assert len(rgb.unique(dim=0)) > 1


# --- queries


@EVERY_KIND
def test_shapes_and_ranges(kind: str) -> None:
    field = tiny(kind)
    for count in (0, 1, 257):
        x, d = points(count)
        with torch.no_grad():
            sigma, rgb = field(x, d)
        assert sigma.shape == (count,)
        assert rgb.shape == (count, 3)
        assert (sigma >= 0).all()
        assert ((rgb >= 0) & (rgb <= 1)).all()
    assert float(sigma.std()) > 0
    assert float(rgb.std()) > 0


@EVERY_KIND
def test_two_blocks_make_the_whole(kind: str) -> None:
    """forward = decode after features; density and logit are its parts, however they are computed."""
    field = tiny(kind)
    x, d = points(64)
    features = field.features(x)
    assert not field.shares_features or features.shape[1] == 16
    sigma, rgb = field(x, d)
    torch.testing.assert_close(field.decode(features, d), (sigma, rgb))
    torch.testing.assert_close(field.logit(x), features[:, 0])
    torch.testing.assert_close(field.density(x), sigma)
    activation = TENSORF_DENSITY if kind == "tensorf" else torch.exp
    torch.testing.assert_close(sigma, activation(features[:, 0]) / 1.5)  # half the longest side of the box


@EVERY_KIND
@torch.no_grad()
def test_only_colour_depends_on_the_direction(kind: str) -> None:
    field = tiny(kind)
    x, d = points(64)
    sigma, rgb = field(x, d)
    other_sigma, other_rgb = field(x, -d)
    assert torch.equal(sigma, other_sigma)
    assert float((rgb - other_rgb).abs().max()) > 1e-3


@EVERY_KIND
def test_nothing_outside_the_box(kind: str) -> None:
    field = tiny(kind)
    x, d = points(64)
    outside = x.clone()
    outside[:, 1] += 3.0  # the box is 3 wide there
    assert (field(outside, d)[0] == 0).all()
    assert (field.density(outside) == 0).all()
    assert (field.density(x) > 0).all()


@EVERY_KIND
def test_nothing_where_the_occupancy_says_so(kind: str) -> None:
    field = tiny(kind)
    field.occupancy = cells((1, 2, 3), (7, 7, 7))
    x, d = points(4096)
    cell = ((x - torch.tensor(BOX.aabb[:3])) / torch.tensor([3.0, 3.0, 2.0]) * 8).floor()
    inside = (cell == torch.tensor([1.0, 2.0, 3.0])).all(-1) | (cell == 7).all(-1)
    assert 2 < int(inside.sum()) < 100
    assert torch.equal(field.density(x) > 0, inside)
    assert torch.equal(field(x, d)[0] > 0, inside)


@EVERY_KIND
def test_an_open_world_has_no_outside(kind: str) -> None:
    field = tiny(kind, space=dataclasses.replace(BOX, contraction="cube"))
    x, d = points(64)
    sigma, rgb = field(1000 * x, d)
    assert (sigma > 0).all()
    assert torch.isfinite(rgb).all()


@EVERY_KIND
def test_a_scaled_scene_is_the_same_scene(kind: str) -> None:
    """The same parameters in a box k times as large: density falls to 1 / k, colours and pictures stay."""
    k, small = 4.0, tiny(kind)
    large = copy.deepcopy(small)
    large.spec = dataclasses.replace(small.spec, space=Space(tuple(k * v for v in BOX.aabb)))
    x, d = points(64)
    sigma, rgb = small(x, d)
    torch.testing.assert_close(large(k * x, d), (sigma / k, rgb), rtol=1e-4, atol=1e-5)
    c2w = look_at(torch.tensor([[4.0, 2.0, 3.0]]), torch.tensor([[0.5, -0.5, 1.5]]), torch.tensor([0.0, 0.0, 1.0]))
    near = pinhole(c2w, 12, 9, 0.8)
    far = dataclasses.replace(near, c2w=torch.cat([c2w[:, :, :3], k * c2w[:, :, 3:]], -1))
    (a,), (b,) = render(small, near), render(large, far)
    assert float(a.opacity.max()) > 0.5
    torch.testing.assert_close(a.rgb, b.rgb, rtol=0, atol=2e-4)
    torch.testing.assert_close(k * a.depth, b.depth, rtol=1e-3, atol=1e-3)


@EVERY_KIND
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    """In float64, in a random direction of each parameter; the float32 version agrees with that."""
    single = tiny(kind)
    double = copy.deepcopy(single).double()
    x, d = points(40, dtype=torch.float64)
    by_sigma, by_rgb = torch.randn(40, dtype=torch.float64), torch.randn(40, 3, dtype=torch.float64)

    def value(field: Field) -> Tensor:
        like = next(field.parameters())
        sigma, rgb = field(x.to(like), d.to(like))
        return (sigma * by_sigma.to(like)).sum() + (rgb * by_rgb.to(like)).sum()

    value(double).backward()
    value(single).backward()
    for (name, p), q in zip(double.named_parameters(), single.parameters(), strict=True):
        assert p.grad is not None, name
        assert float(p.grad.norm()) > 0, name
        v, eps = torch.nn.functional.normalize(torch.randn_like(p).flatten(), dim=0).view_as(p), 1e-5
        with torch.no_grad():
            ahead = value(_moved(double, name, eps * v))
            behind = value(_moved(double, name, -eps * v))
        expected = float((ahead - behind) / (2 * eps))
        assert float((p.grad * v).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-7), name
        difference = float((q.grad.double() - p.grad).norm() / p.grad.norm())
        assert difference < 1e-4, name


def _moved(field: Field, name: str, by: Tensor) -> Field:
    moved = copy.deepcopy(field)
    moved.get_parameter(name).data.add_(by)
    return moved


@EVERY_KIND
def test_gradients_are_finite_at_extremes(kind: str) -> None:
    """Logits of thousands: density saturates, and what training does next is still a number."""
    field = tiny(kind)
    with torch.no_grad():
        for value in field.parameters():
            value.mul_(50)
    x, d = points(256)
    sigma, rgb = field(x, d)
    (torch.exp(-sigma).sum() + rgb.sum()).backward()
    assert torch.isfinite(sigma).all()
    assert all(bool(torch.isfinite(p.grad).all()) for p in field.parameters())


@EVERY_KIND
def test_every_parameter_has_one_learning_rate(kind: str) -> None:
    field = tiny(kind)
    groups = [p for parameters, rate in field.learning_rates() for p in parameters if rate > 0]
    assert sorted(map(id, groups)) == sorted(map(id, field.parameters()))


def test_learning_rates_are_pvds() -> None:
    def rate(kind: str, name: str) -> float:
        field = tiny(kind)
        wanted = field.get_parameter(name)
        return next(r for parameters, r in field.learning_rates() if any(p is wanted for p in parameters))

    assert rate("mlp", "trunk.0.weight") == 1e-3
    assert rate("mlp", "color_net.layers.0.weight") == 1e-3
    assert rate("hashgrid", "encoding.table") == 1e-2
    assert rate("hashgrid", "sigma_net.0.weight") == 1e-2
    assert rate("vm", "density_vm.planes") == rate("vm", "appearance_vm.lines") == 1e-2
    assert rate("vm", "basis.weight") == rate("vm", "color_net.layers.0.weight") == 1e-3
    assert rate("voxels", "data") == 1e-2


def test_the_regularizer_of_vm_is_tensorfs() -> None:
    """1e-4 of the mean absolute density factors, plane by plane and line by line."""
    field = tiny("vm")
    planes, lines = (field.density_vm.planes.detach().numpy(), field.density_vm.lines.detach().numpy())
    expected = 1e-4 * sum(np.abs(planes[m]).mean() + np.abs(lines[m]).mean() for m in range(3))
    assert field.regularizer().item() == pytest.approx(float(expected), rel=1e-5)
    assert tiny("hashgrid").regularizer() is None


# --- independent computations, in float64


def color_by_hand(field: Field, features: np.ndarray, d: np.ndarray) -> np.ndarray:
    """PVD's colour network: [16 harmonics, 15 features], two hidden layers without biases, a sigmoid."""
    h = np.concatenate([sh(d, 3), features[:, 1:]], 1)
    weights = [p.detach().double().numpy() for p in field.color_net.parameters()]
    for weight in weights[:-1]:
        h = np.maximum(h @ weight.T, 0)
    return 1 / (1 + np.exp(-h @ weights[-1].T))


def sigma_net_by_hand(field: Field, code: np.ndarray) -> np.ndarray:
    first, last = (p.detach().double().numpy() for p in field.sigma_net.parameters())
    return np.maximum(code @ first.T, 0) @ last.T


def sh(d: np.ndarray, degree: int) -> np.ndarray:
    """Real spherical harmonics from their definition, with the Condon-Shortley sign in the Legendre functions."""
    x, y, z = d.T
    phi = np.arctan2(y, x)
    columns = []
    for band in range(degree + 1):
        for m in range(-band, band + 1):
            a = abs(m)
            norm = math.sqrt((2 * band + 1) / (4 * math.pi) * math.factorial(band - a) / math.factorial(band + a))
            value = norm * legendre(band, a, z)
            if m:
                value = value * math.sqrt(2) * (np.cos(a * phi) if m > 0 else np.sin(a * phi))
            columns.append(value)
    return np.stack(columns, 1)


def legendre(band: int, m: int, z: np.ndarray) -> np.ndarray:
    """Associated Legendre function P_band^m, by derivatives of the polynomial."""
    polynomial = np.polynomial.legendre.Legendre.basis(band).convert(kind=np.polynomial.Polynomial)
    derivative = polynomial.deriv(m) if m else polynomial
    return (-1) ** m * (1 - z * z) ** (m / 2) * derivative(z)


def unit(x: Tensor) -> Tensor:
    low, high = torch.tensor(BOX.aabb[:3], dtype=x.dtype), torch.tensor(BOX.aabb[3:], dtype=x.dtype)
    return (x - low) / (high - low)


def check(field: Field, expected_sigma: np.ndarray, expected_rgb: np.ndarray, x: Tensor, d: Tensor) -> None:
    """The float64 field to many digits, and the float32 one to its own."""
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        with torch.no_grad():
            sigma, rgb = copy.deepcopy(field).to(dtype)(x.to(dtype), d.to(dtype))
        np.testing.assert_allclose(sigma.double().numpy(), expected_sigma, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(rgb.double().numpy(), expected_rgb, rtol=0, atol=tolerance)


@pytest.mark.parametrize("sizes", [{}, TINY["mlp"]])
def test_mlp_is_pvds_network(sizes: dict[str, Any]) -> None:
    """[x, sin x, cos x, sin 2x, ...] through the trunk, which sees its input again before layer `skip`."""
    spec = default_spec("mlp", space=BOX, occupancy=8).resized(sizes)
    field = build(spec)
    x, d = points(32, dtype=torch.float64)
    n = 2 * unit(x).numpy() - 1
    encoded = np.concatenate([n, *(f(2.0**k * n) for k in range(spec.sizes.octaves) for f in (np.sin, np.cos))], 1)
    h = encoded
    for index, layer in enumerate(field.trunk):
        if index == spec.sizes.skip:
            h = np.concatenate([encoded, h], 1)
        h = h @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        h = np.maximum(h, 0) if index < len(field.trunk) - 1 else h
    features = sigma_net_by_hand(field, h)
    check(field, np.exp(features[:, 0]) / 1.5, color_by_hand(field, features, d.numpy()), x, d)


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("first", ["linear", "rectified"])
def test_nerf_without_a_branch(first: str, skip: int) -> None:
    """As Shap-E has it: x sigmoid(x) between layers, and one layer from the trunk to the colour, seen from anywhere."""
    sizes = {"layers": 3, "width": 8, "skip": skip, "octaves": 3, "branch_layers": 0, "activation": "silu"}
    field = build(default_spec("nerf", space=BOX, occupancy=8).resized({**sizes, "first": first}))
    x, d = points(32, dtype=torch.float64)
    n = 2 * unit(x).numpy() - 1
    encoded = np.concatenate([n, *(f(2.0**k * n) for k in range(3) for f in (np.sin, np.cos))], 1)

    def layer(given: Any, h: np.ndarray) -> np.ndarray:
        made: np.ndarray = h @ given.weight.detach().double().numpy().T + given.bias.detach().double().numpy()
        return made

    h = encoded
    for index, linear in enumerate(field.trunk):
        h = layer(linear, np.concatenate([encoded, h], 1) if index == skip > 0 else h)
        h = h if index == 0 and first == "linear" else h / (1 + np.exp(-h))
    sigma = np.exp(layer(field.density_net[0], h)[:, 0]) / 1.5
    check(field, sigma, 1 / (1 + np.exp(-layer(field.color_net[0], h))), x, d)


def test_vm_is_tensorfs_formula() -> None:
    """Sums of a plane times a line, both by torch's own interpolation (PVD: plane [second id, first id])."""
    field = tiny("vm")
    x, d = points(64, dtype=torch.float64)
    n = 2 * unit(x) - 1

    def components(encoding: Any) -> Tensor:
        parts = []
        for m, ((first, second), third) in enumerate((((0, 1), 2), ((0, 2), 1), ((1, 2), 0))):
            plane = encoding.planes[m].detach().double().permute(2, 0, 1)[None]
            line = encoding.lines[m].detach().double().T[None, :, :, None]
            at_plane = torch.stack([n[:, first], n[:, second]], -1)[None, None]
            at_line = torch.stack([torch.zeros_like(n[:, 0]), n[:, third]], -1)[None, None]
            sample = torch.nn.functional.grid_sample
            product = sample(plane, at_plane, align_corners=True) * sample(line, at_line, align_corners=True)
            parts.append(product[0, :, 0].T)
        return torch.cat(parts, -1)

    logit = components(field.density_vm).sum(-1, keepdim=True)
    appearance = components(field.appearance_vm) @ field.basis.weight.detach().double().T
    features = torch.cat([logit, appearance], -1).numpy()
    check(field, np.exp(features[:, 0]) / 1.5, color_by_hand(field, features, d.numpy()), x, d)


def test_cp_is_a_product_of_lines() -> None:
    field = tiny("cp")
    x, d = points(64, dtype=torch.float64)
    u = unit(x).numpy()

    def components(encoding: Any) -> np.ndarray:
        lines = encoding.lines.detach().double().numpy()
        at = np.linspace(0, 1, lines.shape[1])
        values = [[np.interp(u[:, axis], at, lines[axis, :, c]) for c in range(lines.shape[2])] for axis in range(3)]
        return np.prod(np.array(values), 0).T

    logit = components(field.density_cp).sum(1, keepdims=True)
    appearance = components(field.appearance_cp) @ field.basis.weight.detach().double().numpy().T
    features = np.concatenate([logit, appearance], 1)
    check(field, np.exp(features[:, 0]) / 1.5, color_by_hand(field, features, d.numpy()), x, d)


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_planes_combine_three_interpolations(combine: str) -> None:
    field = tiny("planes")
    field.spec = field.spec.resized({"combine": combine})
    field.encoding.combine = combine
    x, d = points(64, dtype=torch.float64)
    n, codes = 2 * unit(x) - 1, []
    for planes in field.encoding.planes:
        looked_up = [
            torch.nn.functional.grid_sample(
                planes[m].detach().double().permute(2, 0, 1)[None],
                torch.stack([n[:, first], n[:, second]], -1)[None, None],
                align_corners=True,
            )[0, :, 0].T
            for m, (first, second) in enumerate(((0, 1), (0, 2), (1, 2)))
        ]
        a, b, c = looked_up
        codes.append(a * b * c if combine == "product" else a + b + c)
    features = sigma_net_by_hand(field, torch.cat(codes, -1).numpy())
    check(field, np.exp(features[:, 0]) / 1.5, color_by_hand(field, features, d.numpy()), x, d)


def dense_volume(field: Field) -> Tensor:
    """All vertices of a voxel field as a volume [channels, z, y, x], as PVD stores it."""
    r = field.spec.sizes.resolution
    data, table = field.data.detach().double(), field.block_table
    volume = torch.zeros(data.shape[1], r, r, r, dtype=torch.float64)
    volume[0] = EMPTY_LOGIT
    for i in range(r):
        for j in range(r):
            for k in range(r):
                block = int(table[i // 8, j // 8, k // 8])
                if block >= 0:
                    volume[:, k, j, i] = data[block * 512 + i % 8 * 64 + j % 8 * 8 + k % 8]
    return volume


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_voxels_are_pvds_volume(degree: int, sparse: bool) -> None:
    """Trilinear interpolation of logits and harmonics, colour by colour; vertices that are not stored are empty."""
    field = build(tiny("voxels").spec.resized({"degree": degree}))
    field.data.data.normal_()
    if sparse:
        field = field.allocate(cells((0, 0, 0), (0, 1, 7)))
        field.occupancy = Occupancy.full(8)
        assert 0 < field.spec.sizes.blocks < 8
    x, d = points(64, dtype=torch.float64)
    at = (2 * unit(x) - 1)[None, None, None]
    values = torch.nn.functional.grid_sample(dense_volume(field)[None], at, align_corners=True)[0, :, 0, 0].T.numpy()
    coefficients = values[:, 1:].reshape(64, 3, (degree + 1) ** 2)
    rgb = 1 / (1 + np.exp(-np.einsum("nck,nk->nc", coefficients, sh(d.numpy(), degree))))
    check(field, np.exp(values[:, 0]) / 1.5, rgb, x, d)


@pytest.mark.parametrize("sizes", [TINY["hashgrid"], {"levels": 14, "log2_table": 10, "hidden": 8}])
def test_hashgrid_is_torch_ngps_layout(sizes: dict[str, Any]) -> None:
    """A loop over points, levels and corners: dense levels have stride resolution + 1, x fastest; the others hash."""
    field = build(default_spec("hashgrid", space=BOX, occupancy=8).resized(sizes))
    field.encoding.table.data.normal_()
    x, d = points(16, dtype=torch.float64)
    codes = np.array([hash_code(u, field) for u in unit(x).tolist()])
    features = sigma_net_by_hand(field, codes)
    np.testing.assert_allclose(copy.deepcopy(field).double().features(x).detach().numpy(), features, atol=1e-9)
    # In float32 a point at the finest level moves by a ten-thousandth of a cell, and features with it.
    np.testing.assert_allclose(field.features(x.float()).detach().double().numpy(), features, atol=5e-3)
    rgb = color_by_hand(field, features, d.numpy())
    np.testing.assert_allclose(copy.deepcopy(field).double()(x, d)[1].detach().numpy(), rgb, atol=1e-9)


def hash_code(u: list[float], field: Field) -> list[float]:
    sizes, table = field.spec.sizes, field.encoding.table.detach().double().numpy()
    growth = (sizes.finest_resolution / sizes.base_resolution) ** (1 / max(sizes.levels - 1, 1))
    offset, code = 0, []
    for level in range(sizes.levels):
        stride = math.ceil(round(sizes.base_resolution * growth**level - 1, 9)) + 2
        single = np.float32  # in which its kernel computes where a point is
        scale = float(np.exp2(single(level) * single(np.log2(growth))) * single(sizes.base_resolution) - single(1))
        rows = min(2**sizes.log2_table, (stride**3 + 7) // 8 * 8)
        position = [c * scale + 0.5 for c in u]
        cell = [math.floor(p) for p in position]
        value = np.zeros(sizes.channels)
        for corner in range(8):
            shift = [corner >> axis & 1 for axis in range(3)]
            vertex = [c + s for c, s in zip(cell, shift, strict=True)]
            weight = math.prod(p - c if s else 1 - (p - c) for p, c, s in zip(position, cell, shift, strict=True))
            if stride**3 <= rows:
                row = vertex[0] + vertex[1] * stride + vertex[2] * stride**2
            else:
                row = (vertex[0] ^ (vertex[1] * 2654435761 % 2**32) ^ (vertex[2] * 805459861 % 2**32)) % rows
            value += weight * table[offset + row]
        code += value.tolist()
        offset += rows
    assert offset == len(table)
    return code


def test_hybrid_is_both_encodings_side_by_side() -> None:
    """With the same tables, its code is that of a hash grid, then that of a VM grid."""
    field = tiny("hybrid")
    x, d = points(32, dtype=torch.float64)
    sizes = field.spec.sizes
    hashed = build(
        default_spec("hashgrid", space=BOX, occupancy=8).resized(
            {k: getattr(sizes, k) for k in ("levels", "channels", "log2_table", "base_resolution", "finest_resolution")}
        )
    )
    hashed.encoding.table.data.copy_(field.encodings[0].table.data)
    codes = np.array([hash_code(u, hashed) for u in unit(x).tolist()])
    vm = build(default_spec("vm", space=BOX, occupancy=8).resized({**TINY["vm"], "resolution": sizes.vm_resolution}))
    vm.density_vm = field.encodings[1]
    components = vm.density_vm.double()(unit(x)).detach().numpy()
    field.encodings[1].float()
    features = sigma_net_by_hand(field, np.concatenate([codes, components], 1))
    check(field, np.exp(features[:, 0]) / 1.5, color_by_hand(field, features, d.numpy()), x, d)


# --- parts


def test_harmonics_are_their_definition() -> None:
    d = points(100, dtype=torch.float64)[1]
    for degree in range(4):
        np.testing.assert_allclose(harmonics(d, degree).numpy(), sh(d.numpy(), degree), atol=1e-12)
        np.testing.assert_allclose(harmonics(d.float(), degree).numpy(), sh(d.numpy(), degree), atol=1e-6)


def test_harmonics_are_orthonormal() -> None:
    """By a quadrature that is exact for polynomials of degree 6: Gauss in z, even steps around."""
    z, weight = np.polynomial.legendre.leggauss(8)
    phi = np.arange(16) * 2 * math.pi / 16
    ring = np.sqrt(1 - z * z)
    d = np.stack([np.outer(ring, np.cos(phi)), np.outer(ring, np.sin(phi)), np.outer(z, np.ones(16))], -1)
    values = harmonics(torch.tensor(d.reshape(-1, 3)), 3).numpy()
    gram = (values * np.repeat(weight, 16)[:, None]).T @ values * 2 * math.pi / 16
    np.testing.assert_allclose(gram, np.eye(16), atol=1e-12)


def test_frequencies_without_octaves_are_the_input() -> None:
    n = torch.randn(5, 3)
    assert torch.equal(frequencies(n, 0), n)
    assert frequencies(n, 10).shape == (5, 63)


def test_truncated_exp_is_exp_with_a_bounded_gradient() -> None:
    s = torch.tensor([-200.0, -12.0, 0.0, 3.0, 12.0, 20.0, 200.0], requires_grad=True)
    value = truncated_exp(s)
    torch.testing.assert_close(value[:6], s[:6].exp())
    assert torch.isfinite(value).all()
    value.sum().backward()
    torch.testing.assert_close(s.grad, s.detach().clamp(-12, 12).exp())


@pytest.mark.parametrize("name", ["exp", "softplus", "relu"])
def test_density_activations(name: str) -> None:
    s = torch.linspace(-5, 5, 41, dtype=torch.float64)
    density = DensityActivation(name, shift=0.5, scale=3.0)
    f = {"exp": np.exp, "softplus": lambda v: np.log1p(np.exp(v)), "relu": lambda v: np.maximum(v, 0)}[name]
    expected = 3.0 * f(s.numpy() + 0.5)
    np.testing.assert_allclose(density(s).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(density.log(s).numpy(), np.log(np.maximum(expected, math.exp(-30))), rtol=1e-12)


def test_colour_activations() -> None:
    raw = torch.tensor([-3.0, -0.5, 0.0, 0.25, 3.0])
    torch.testing.assert_close(activate_color(raw, "shifted_clamp"), torch.tensor([0.0, 0.0, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(activate_color(raw, "sigmoid"), 1 / (1 + torch.exp(-raw)))


# --- occupancy and sparse storage


def test_bits_of_the_occupancy_are_as_documented() -> None:
    full = torch.rand(8, 8, 8) > 0.5
    occupancy = Occupancy.of_cells(full)
    for i, j, k in torch.randint(8, (50, 3)).tolist():
        c = (i * 8 + j) * 8 + k
        assert bool(int(occupancy.bits[c >> 3]) >> (c & 7) & 1) == bool(full[i, j, k])
    assert torch.equal(occupancy.cells(), full)
    assert occupancy.fraction() == pytest.approx(float(full.float().mean()))


def test_grown_by_neighbours() -> None:
    cells = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.98
    wanted = torch.nn.functional.max_pool3d(cells.float()[None, None], 3, stride=1, padding=1)[0, 0] > 0
    assert torch.equal(Occupancy.of_cells(cells).grown().cells(), wanted)


def test_iou_counts_cells() -> None:
    a, b = cells((0, 0, 0), (1, 1, 1)), cells((1, 1, 1), (2, 2, 2))
    assert a.iou(b) == pytest.approx(1 / 3)
    assert a.iou(a) == cells().iou(cells()) == 1
    assert a.iou(cells()) == 0


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 150),
    st.sampled_from([8, 16]),
    st.lists(st.tuples(*[st.integers(0, 15)] * 3), min_size=1, max_size=3),
)
@example(63, 8, [(1, 1, 1)])  # a cell of 7.75 voxels touches three blocks
@example(127, 8, [(2, 2, 2)])
@example(2, 8, [(7, 0, 3)])
def test_sparse_voxels_store_what_occupied_cells_need(
    resolution: int, side: int, where: list[tuple[int, int, int]]
) -> None:
    """A brute force over vertices: those within a voxel of an occupied cell are stored, those beyond two are not."""
    occupancy = cells(*[tuple(c % side for c in cell) for cell in where], side=side)
    needed = needed_blocks(occupancy, default_spec("voxels").resized({"resolution": resolution}).sizes).numpy()
    assert not (blocks_near(occupancy, resolution, 1) & ~needed).any()
    assert not (needed & ~blocks_near(occupancy, resolution, 2)).any()


def blocks_near(occupancy: Occupancy, resolution: int, voxels: int) -> np.ndarray:
    """The blocks of all vertices that are less than so many voxels from an occupied cell."""
    found = np.zeros((-(-resolution // 8),) * 3, dtype=bool)
    vertices, last, side = np.arange(resolution), resolution - 1, occupancy.resolution
    for cell in occupancy.cells().nonzero().tolist():
        near = [
            vertices[((vertices + voxels) * side > c * last) & ((vertices - voxels) * side < (c + 1) * last)]
            for c in cell
        ]
        found[np.ix_(*[np.unique(n // 8) for n in near])] = True
    return found


def test_allocate_keeps_what_both_store() -> None:
    field = tiny("voxels", space=Space())
    occupancy = cells((0, 0, 0), (1, 1, 1))
    sparse = field.allocate(occupancy)
    assert sparse.parameter_count() < field.parameter_count()
    x, d = points(512, Space())
    field.occupancy = occupancy
    torch.testing.assert_close(sparse(x, d)[0], field(x, d)[0])
    inside = field.density(x) > 0
    torch.testing.assert_close(sparse(x, d)[1][inside], field(x, d)[1][inside])
    again = sparse.allocate(occupancy)
    assert torch.equal(again.data, sparse.data)


def test_allocate_of_nothing_is_still_a_field() -> None:
    field = tiny("voxels").allocate(cells())
    assert field.spec.sizes.blocks == 1
    assert (field.density(points(64)[0]) == 0).all()


@EVERY_KIND
def test_allocate_sets_the_occupancy(kind: str) -> None:
    occupancy = cells((3, 3, 3))
    assert torch.equal(tiny(kind).allocate(occupancy).occupancy.bits, occupancy.bits)


def test_what_is_looked_at_is_the_field() -> None:
    """In the box and in occupied cells renderers skip the mask."""
    field = tiny("vm")
    x, d = points(64)
    seen = look(field, Samples(torch.arange(65), x[:, 0], torch.full((64,), 1e-3), x, d))
    torch.testing.assert_close((seen.sigma, seen.rgb), field(x, d))


# --- specs


def sizes_of(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Sizes in the ranges that the kind's dataclass declares."""
    cls = kind_class(kind).Sizes
    hints = get_type_hints(cls, include_extras=True)
    drawn = st.fixed_dictionaries({f.name: _values(hints[f.name]) for f in dataclasses.fields(cls)})
    return drawn.map(_agreeing) if kind == "tensorf" else drawn


def _agreeing(sizes: dict[str, Any]) -> dict[str, Any]:
    """Sizes of a tensorf, some of which depend on others."""
    features = {"harmonics": 27, "none": 3}.get(sizes["shading"], sizes["features"])
    channels = {n: sizes[n][:1] * 3 for n in ("density_channels", "appearance_channels") if sizes["factors"] == "cp"}
    return {**sizes, "features": features, **channels}


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if hint is bool:
        return st.booleans()
    if hasattr(hint, "__metadata__"):
        meta = hint.__metadata__[0]
        if meta.min_length is not None:  # 0: none of them or all
            each, most = _values(get_args(get_args(hint)[0])[0]), meta.max_length
            all_or_some = st.lists(each, min_size=meta.min_length or most, max_size=most)
            return all_or_some if meta.min_length else all_or_some | st.just([])
        return st.integers(meta.ge, meta.le)
    if get_origin(hint) is tuple:
        return st.tuples(*map(_values, get_args(hint))).map(list)
    return st.sampled_from(get_args(hint))


SPACES = st.builds(
    lambda low, extent, contraction: Space(
        (*low, *(a + b for a, b in zip(low, extent, strict=True))), contraction, (0.0, 1.0, 0.0)
    ),
    st.tuples(*[st.floats(-100, 100)] * 3),
    st.tuples(*[st.floats(0.01, 100)] * 3),
    st.sampled_from(["none", "sphere", "cube"]),
)


@EVERY_KIND
@settings(deadline=None, max_examples=25)
@given(drawn=st.data())
def test_a_spec_survives_its_json(kind: str, drawn: st.DataObject) -> None:
    spec = FieldSpec(
        kind=kind,
        sizes=msgspec.convert(drawn.draw(sizes_of(kind)), type=kind_class(kind).Sizes),
        space=drawn.draw(SPACES),
        density=DensityActivation(drawn.draw(st.sampled_from(["exp", "softplus", "relu"])), -1.0, 2.5),
        color=drawn.draw(st.sampled_from(["sigmoid", "shifted_clamp"])),
        background=drawn.draw(st.tuples(*[st.floats(0, 1)] * 3)),
        occupancy=drawn.draw(st.sampled_from([8, 64, 1024])),
        steps=drawn.draw(st.integers(8, 1 << 16)),
    )
    assert spec_from_json(json.loads(json.dumps(spec.to_json())), "spec") == spec


@EVERY_KIND
@settings(deadline=None, max_examples=15)
@given(drawn=st.data())
def test_sizes_can_be_typed(kind: str, drawn: st.DataObject) -> None:
    """What `--size NAME=VALUE` gives is the same as the numbers themselves."""
    sizes = drawn.draw(sizes_of(kind))
    typed = {k: ",".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in sizes.items()}
    assert default_spec(kind).resized(typed) == default_spec(kind).resized(sizes)


def changed(**parts: Any) -> dict[str, Any]:
    return {**default_spec("vm").to_json(), **parts}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"kind": "vm"}, "missing required field `sizes`"),
        ([], "Expected `object`, got `array`"),
        (None, "Expected `object`, got `null`"),
        (changed(kind="wm"), "unknown kind 'wm': choose from mlp, hashgrid, vm, cp, voxels, planes, hybrid"),
        (changed(kind="hashgird"), "did you mean hashgrid?"),
        (changed(sizes=None), "spec.sizes: Expected `object`, got `null`"),
        (changed(sizes={"resolution": 10**9}), "Expected `int` <= 8192"),
        (changed(sizes={"resolution": 1}), "Expected `int` >= 2"),
        (changed(sizes={"resolution": "12"}), "Expected `int`, got `str`"),
        (changed(sizes={"resolution": True}), "Expected `int`, got `bool`"),
        (changed(sizes={"resolutoin": 12}), "unknown resolutoin"),
        (changed(colour="sigmoid"), "unknown colour"),
        (changed(space={"aabb": [0, 0, 0, 1, 1, 1], "fold": 1}), "unknown space.fold"),
        (changed(space={"aabb": [0, 0, 0, 1, 1, 0]}), "expected finite minima below maxima"),
        (changed(space={"aabb": [0, 0, 0, 1, 1]}), "Expected `array` of length 6"),
        (changed(space={"aabb": [0, 0, math.nan, 1, 1, 1]}), "expected finite minima below maxima"),
        (changed(space={"up": [0, 0, 0]}), "expected a vector of length 1"),
        (changed(space={"contraction": "ball"}), "Invalid enum value 'ball'"),
        (changed(density={"name": "tanh"}), "Invalid enum value 'tanh'"),
        (changed(density={"scale": 0}), "Expected `float` > 0"),
        (changed(density={"scale": math.inf}), "finite"),
        (changed(density={"shift": math.nan}), "finite"),
        (changed(background=[1, 1, math.nan]), "background"),
        (changed(background=[1, 1]), "Expected `array` of length 3"),
        (changed(occupancy=12), "multiple of 8"),
        (changed(occupancy=4096), "Expected `int` <= 1024"),
        (changed(steps=0), "Expected `int` >= 8"),
    ],
)
def test_a_wrong_spec_is_one_line(data: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        spec_from_json(data, "lego.safetensors: spec")
    message = str(caught.value)
    assert text in message
    assert "\n" not in message
    assert "kind" in message or message.startswith("lego.safetensors: spec")


@pytest.mark.parametrize(
    ("kind", "sizes", "text"),
    [
        ("vm", {"levels": "3"}, "vm has no size 'levels'; its sizes are resolution, density_channels"),
        ("vm", {"resolution": "many"}, "sizes of vm"),
        ("vm", {"resolution": "1e9"}, "sizes of vm"),
        ("hashgrid", {"levels": "1000000000"}, "<= 32"),
        ("hashgrid", {"channels": "3"}, "sizes of hashgrid"),
        ("planes", {"resolutions": ""}, "sizes of planes"),
        ("planes", {"resolutions": "64,,128"}, "sizes of planes"),
        ("planes", {"resolutions": "64,²"}, "sizes of planes"),
        ("planes", {"resolutions": ",".join(["64"] * 17)}, "sizes of planes"),
        ("planes", {"combine": "max"}, "Invalid enum value 'max'"),
    ],
)
def test_wrong_sizes_are_one_line(kind: str, sizes: dict[str, str], text: str) -> None:
    with pytest.raises(InputError) as caught:
        default_spec(kind).resized(sizes)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown kind 'cubes': choose from mlp, hashgrid, vm, cp"):
        build(FieldSpec(kind="cubes", sizes=None))


def test_views_can_move_between_fields() -> None:
    """`views` is an attribute like any other: a copy has them too."""
    field = tiny("cp")
    field.views = Cameras(torch.zeros(1, 3, 4), torch.ones(1, 4), torch.ones(1, 2, dtype=torch.int64))
    assert copy.deepcopy(field).views is not None
