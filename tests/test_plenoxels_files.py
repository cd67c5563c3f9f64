"""Plenoxels: `.npz` of svox2 open as the same function, are written back as it, and archives are not trusted."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import fieldcast
from fieldcast.cli import cli
from fieldcast.distill.convert import Pair
from fieldcast.distill.fast import TUNED, UNSEEN, Course, start_from_means
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields import Field
from fieldcast.fields.cameras import Rays
from fieldcast.fields.files.checkpoints.arrays import open_archive
from fieldcast.fields.files.checkpoints.plenoxels import fitted, refusal
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kernels.harmonics import harmonics_reference
from fieldcast.fields.kinds import build, default_spec
from fieldcast.fields.kinds.voxels import VoxelsField
from fieldcast.fields.metrics import psnr
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.progress import silent
from fieldcast.fields.rendering import shading
from fieldcast.fields.space import Space

Arrays = dict[str, Any]


def grid(shape: tuple[int, int, int] = (20, 14, 9), degree: int = 2, seed: int = 0) -> Arrays:
    """What svox2 saves: a ball, some of whose vertices are not stored, with distances to it where nothing is."""
    rng = np.random.default_rng(seed)
    n = np.stack(np.meshgrid(*[(np.arange(s) + 0.5) / s * 2 - 1 for s in shape], indexing="ij"), -1)
    density = 60 * np.exp(-5 * (n**2).sum(-1)) - 5 + rng.normal(size=shape)
    stored = (density > -3) & (rng.random(shape) < 0.95)
    stored[:3, -1, :2] = True  # in a corner of the box
    links = np.where(stored, np.cumsum(stored).reshape(shape) - 1, -rng.integers(1, 4, shape)).astype(np.int32)
    count = int(stored.sum())
    return {
        "radius": np.array([1.0, 0.75, 0.5], np.float32),
        "center": np.array([0.25, -1.0, 3.0], np.float32),
        "links": links,
        "density_data": density[stored].astype(np.float32)[:, None],
        "sh_data": rng.normal(0, 0.3, (count, 3 * (degree + 1) ** 2)).astype(np.float16),
        "basis_type": np.array(1),
    }


def svox2(arrays: Arrays, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """sigma [N] and rgb [N, 3] in float64, by the description of Plenoxels and the code of svox2."""
    links = torch.from_numpy(arrays["links"]).long()
    values = torch.from_numpy(np.concatenate([arrays["density_data"], arrays["sh_data"]], 1)).double()
    values = torch.cat([values, torch.zeros_like(values[:1])])  # the last row is that of the vertices without one
    dense = values[torch.where(links < 0, len(values) - 1, links)]
    radius, center = (torch.from_numpy(arrays[name]).double() for name in ("radius", "center"))
    side = torch.tensor(links.shape)
    n = (x - center) / radius
    at = torch.minimum(((n + 1) / 2 * side - 0.5).clamp_min(0), side - 1.0)
    low = torch.minimum(at.floor(), side - 2.0).long()
    result = torch.zeros(len(x), values.shape[1], dtype=torch.float64)
    for corner in torch.cartesian_prod(*[torch.tensor([0, 1])] * 3):
        share = torch.where(corner.bool(), at - low, 1 - (at - low)).prod(-1)
        i, j, k = (low + corner).unbind(-1)
        result += share[:, None] * dense[i, j, k]
    basis = harmonics_reference(d, {1: 0, 4: 1, 9: 2}[(values.shape[1] - 1) // 3])
    rgb = (result[:, 1:].unflatten(1, (3, -1)) * basis[:, None]).sum(-1) + 0.5
    return torch.relu(result[:, 0]) * (n.abs() <= 1).all(-1), rgb.clamp(0, 1)


def written(path: Path, arrays: Arrays, squeezed: bool = False) -> Path:
    (np.savez_compressed if squeezed else np.savez)(path, **arrays)
    return path


def opened(path: Path) -> Field:
    field = fieldcast.open(path)
    assert isinstance(field, Field)
    return field


def points(field: Field, count: int = 4000) -> tuple[Tensor, Tensor]:
    """In the box, outside it, and just within its faces, in float64."""
    generator = torch.Generator().manual_seed(5)
    low, high = field.space.box(torch.zeros(1, dtype=torch.float64))
    u = 1.4 * torch.rand(count, 3, generator=generator, dtype=torch.float64) - 0.2
    for axis in range(3):
        u[axis * 100 : axis * 100 + 100] = torch.rand(100, 3, generator=generator, dtype=torch.float64)
        u[axis * 100 : axis * 100 + 50, axis], u[axis * 100 + 50 : axis * 100 + 100, axis] = 1e-9, 1 - 1e-9
    d = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return low + u * (high - low), torch.nn.functional.normalize(d, dim=-1)


def assert_same(field: Field, reference: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    x, d = points(field)
    sigma, rgb = reference(x, d)
    assert float(sigma.std()) > 1 and float(rgb.std()) > 0.01  # there is something to agree on
    for kind, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-9)):
        with torch.no_grad():
            ours = field.to(kind)(x.to(kind), d.to(kind))
        torch.testing.assert_close(ours[0].double(), sigma, rtol=tolerance, atol=tolerance * float(sigma.max()))
        shown = sigma > 0
        torch.testing.assert_close(ours[1].double()[shown], rgb[shown], rtol=tolerance, atol=10 * tolerance)
    field.float()


@pytest.mark.parametrize(("shape", "degree"), [((20, 14, 9), 2), ((8, 33, 17), 1), ((16, 16, 16), 0)])
@pytest.mark.parametrize("squeezed", [False, True])
def test_the_same_function(tmp_path: Path, shape: tuple[int, int, int], degree: int, squeezed: bool) -> None:
    arrays = grid(shape, degree)
    field = opened(written(tmp_path / "a.npz", arrays, squeezed))
    assert field.spec.kind == "voxels" and field.spec.sizes.degree == degree
    assert not field.occupancy.is_full()
    assert_same(field, lambda x, d: svox2(arrays, x, d))
    fieldcast.save(field, tmp_path / "a.safetensors")
    assert_same(opened(tmp_path / "a.safetensors"), lambda x, d: svox2(arrays, x, d))


def test_the_way_back(tmp_path: Path) -> None:
    """What nothing shows is left out; all else is the same, number for number."""
    arrays = grid()
    fieldcast.save(opened(written(tmp_path / "a.npz", arrays)), tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz", allow_pickle=False) as back:
        found = {name: back[name] for name in back.files}
    assert {name: (a.dtype, a.ndim) for name, a in found.items()} == {n: (a.dtype, a.ndim) for n, a in arrays.items()}
    assert all(np.array_equal(found[name], arrays[name]) for name in ("radius", "center", "basis_type"))
    kept = found["links"] >= 0
    assert kept.sum() <= (arrays["links"] >= 0).sum() and not (kept & (arrays["links"] < 0)).any()
    for name in ("density_data", "sh_data"):
        assert np.array_equal(found[name][found["links"][kept]], arrays[name][arrays["links"][kept]])
    assert_same(opened(tmp_path / "b.npz"), lambda x, d: svox2(arrays, x, d))


@pytest.mark.parametrize("cells", [(), (12, 9, 11)])
def test_fields_of_ours_are_written(tmp_path: Path, cells: tuple[int, ...]) -> None:
    """With vertices on the faces or in the cells, a shifted density, and cells that are not occupied."""
    spec = default_spec(
        "voxels",
        space=Space((-1.0, -2.0, 0.0, 3.0, 2.0, 1.5)),
        density=DensityActivation("relu", shift=-0.25, scale=7.0),
        color="shifted_clamp",
        occupancy=16,
    )
    spec = replace(spec, sizes=replace(spec.sizes, resolution=10, degree=1, cells=cells))
    field = build(spec, 3)
    with torch.no_grad():
        field.data.mul_(20)  # type: ignore[operator, union-attr]
    cell = torch.stack(torch.meshgrid(*[torch.arange(16)] * 3, indexing="ij"), -1)
    field = field.allocate(Occupancy.of_cells(((cell - 7) ** 2).sum(-1) < 30))
    fieldcast.save(field, tmp_path / "a.npz")
    back = opened(tmp_path / "a.npz")
    x, d = points(field)
    within = field.mask(x) > 0  # beyond the cells that are occupied the file goes on to its next vertices
    with torch.no_grad():
        ours, theirs = field(x[within].float(), d[within].float()), back(x[within].float(), d[within].float())
    assert float(ours[0].std()) > 0.1
    torch.testing.assert_close(theirs[0], ours[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs[1], ours[1], rtol=1e-4, atol=1e-4)


def test_a_view_is_that_of_the_grid(tmp_path: Path) -> None:
    arrays = grid((24, 18, 12))
    field = opened(written(tmp_path / "a.npz", arrays))
    center, unit = torch.tensor(field.space.center), field.space.unit
    eye = center + unit * torch.tensor([0.4, -0.5, 2.5])
    pixel = torch.cartesian_prod(torch.linspace(-0.45, 0.45, 24), torch.linspace(-0.45, 0.45, 24))
    d = torch.nn.functional.normalize(torch.cat([pixel, -torch.ones(len(pixel), 1)], 1), dim=-1)
    seen = shading(field, steps=2000)(Rays(eye.expand(len(d), 3), d)).rgb
    t = torch.linspace(0, 4 * unit, 3000, dtype=torch.float64)
    expected = []
    for ray in d.double():
        sigma, rgb = svox2(arrays, eye + t[:, None] * ray, ray.expand(len(t), 3))
        alpha = 1 - torch.exp(-sigma * t[1])
        light = torch.cumprod(torch.cat([alpha.new_ones(1), 1 - alpha]), 0)
        expected.append((rgb * (light[:-1] * alpha)[:, None]).sum(0) + light[-1])
    target = torch.stack(expected).float()
    assert float(target.std()) > 0.05 and psnr(seen, target) > 45


def test_only_what_shows_is_occupied(tmp_path: Path) -> None:
    """No cell that a stored density reaches is missing: the function is the same without the occupancy."""
    field = opened(written(tmp_path / "a.npz", grid((40, 40, 40))))
    x, _ = points(field, 20000)
    with torch.no_grad():
        masked = field.density(x.float())
        field.occupancy = Occupancy.full(field.spec.occupancy)
        assert torch.equal(masked, field.density(x.float()))


def without(*names: str, **others: Any) -> Callable[[Path], Any]:
    """Writes a grid that lacks some arrays, or has others."""
    arrays = {name: array for name, array in (grid() | others).items() if name not in names}
    return lambda path: np.savez(path, **arrays)


def scattered(path: Path) -> None:
    links = np.full((160, 160, 160), -1, np.int32)
    links[::8, ::8, ::8] = np.arange(8000).reshape(20, 20, 20)
    arrays = {
        "links": links,
        "density_data": np.ones((8000, 1), np.float32),
        "sh_data": np.ones((8000, 27), np.float16),
    }
    np.savez_compressed(path, **arrays)


def lying(name: str, header: str, size: int) -> Callable[[Path], Any]:
    """An archive one array of which says that it is larger than it is, or is squeezed as nothing real is."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for key, array in grid().items():
                file = io.BytesIO()
                np.save(file, array)
                data = file.getvalue()
                if key == name:
                    text = header.ljust(117).encode() + b"\n"
                    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(size)
                archive.writestr(f"{key}.npy", data)

    return write


def cut_short(path: Path) -> None:
    np.savez(path, **grid())
    path.write_bytes(path.read_bytes()[:2000])


HEADER = "{{'descr': '{}', 'fortran_order': {}, 'shape': {}}}"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.write_bytes(b"PK\3\4 and nothing"), "not a whole archive of arrays"),
        (lambda p: p.write_bytes(b""), "not a whole archive of arrays"),
        (cut_short, "not a whole archive of arrays"),
        (lambda p: np.savez(p, weights=np.ones(3)), "of no program that is known: it holds weights"),
        (without("sh_data"), "not a whole grid of svox2: missing sh_data"),
        (without(more=np.ones(2)), "unexpected more"),
        (without(basis_type=np.array(4)), "found a basis that was learned"),
        (without(basis_mlp_0_weight=np.ones(2)), "found a basis that was learned"),
        (without(background_links=np.ones((2, 2)), background_data=np.ones(2)), "background_links: expected a grid"),
        (without(data=np.ones((3, 28))), "unexpected data"),
        (without(links=np.zeros((4, 4), np.int32)), r"links: expected .* found \[4, 4\]"),
        (without(links=np.zeros((4, 1, 4), np.int32)), r"links: expected .* found \[4, 1, 4\]"),
        (without(links=np.zeros((4, 4, 4))), "links: expected whole numbers, found float64"),
        (without(links=np.full((4, 4, 4), 5000, np.int32)), "links: expected numbers of .* values, found 5000"),
        (without(links=np.zeros((4, 4, 4), np.int32)), "a value of its own for each vertex, found 64 of 1"),
        (without(links=np.full((4, 4, 4), -1, np.int32)), "expected a grid with something in it"),
        (without(sh_data=np.ones((5, 27), np.float16)), r"sh_data \[N, 3, 12 or 27\], found"),
        (without(sh_data=np.ones((grid()["density_data"].size, 48), np.float16)), r"sh_data \[N, 3, 12 or 27\]"),
        (without(density_data=grid()["density_data"] * np.nan), "density_data: expected finite numbers"),
        (without(sh_data=grid()["sh_data"] + np.float16(np.inf)), "sh_data: expected finite numbers"),
        (without(radius=np.array([1.0, 0.0, 1.0])), "expected finite minima below maxima"),
        (without(radius=np.ones(2)), "radius: expected three finite numbers"),
        (without(center=np.ones(1 << 10)), "center: expected three finite numbers"),
        (without(center=np.array([{}], dtype=object)), "center: expected numbers, found object"),
        (without(links=np.asfortranarray(grid()["links"])), "an array in Fortran's order"),
        (scattered, "8,000 values lie so far apart that 8,000 blocks"),
        (
            lying("links", HEADER.format("<i4", False, "(1000, 1000, 1000)"), 4000),
            "expected 4,000,000,000 bytes, found",
        ),
        (lying("links", HEADER.format("<i4", False, "(99999999999999999999,)"), 40), "links: expected"),
        (lying("links", HEADER.format("<i4", False, "(-1, -1, 4)"), 16), "an array of shape"),
        (lying("links", HEADER.format("<i4", True, "(2, 2"), 16), "not a whole archive"),
        (
            lying("density_data", HEADER.format("<f4", False, "(25000000, 1)"), 100_000_000),
            "expected density_data",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, write: Callable[[Path], Any], message: str) -> None:
    write(tmp_path / "a.npz")
    with pytest.raises(InputError, match=message) as caught:
        fieldcast.open(tmp_path / "a.npz")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(tmp_path / "a.npz"))


def test_a_small_file_does_not_ask_for_much_memory(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", values=np.zeros(1 << 25, np.float32))
    archive = open_archive(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"values: [0-9,]+ bytes unpack to 134,217,728"):
        archive.read("values")
    assert sum(len(part) for part in archive.slabs("values", 1 << 20)) == 1 << 25  # in parts it may be read


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    spec = default_spec("voxels")
    for other, reason in (
        (spec, "its density is exp"),
        (replace(spec, density=DensityActivation("relu")), "its colours are those of a sigmoid"),
        (replace(spec, space=Space(contraction="cube")), "its space has no end"),
        (replace(fitted(spec), sizes=replace(spec.sizes, degree=3)), "its harmonics are of degree 3"),
    ):
        assert reason in (refusal(other) or "")
    assert refusal(fitted(spec)) is None and fitted(fitted(spec)) == fitted(spec)
    with pytest.raises(
        InputError, match=r"cannot hold this voxels: its density is exp, .*: convert it with --to voxels"
    ):
        fieldcast.save(build(replace(spec, sizes=replace(spec.sizes, resolution=8))), tmp_path / "a.npz")
    field = build(replace(fitted(spec), sizes=replace(spec.sizes, resolution=8)))
    field.occupancy = Occupancy.of_cells(torch.zeros((128,) * 3, dtype=torch.bool))
    with pytest.raises(InputError, match="the field is empty"):
        fieldcast.save(field, tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code of a command as a user types it, and its stdout and stderr."""
    code = main_guard(cli, [str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_commands_take_and_make_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "a.npz", grid((16, 16, 16)))
    info = json.loads(run(capsys, "info", file, "--json")[1])
    assert (info["program"], info["kind"], info["spec"]["sizes"]["cells"]) == ("Plenoxels", "voxels", [16, 16, 16])
    assert json.loads(run(capsys, "validate", file, "--json")[1])["kind"] == "voxels"
    code, out, err = run(capsys, "convert", file, tmp_path / "b.npz", "--to", "voxels", "--views", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["recipe"] == "copy"
    small = ("--size", "resolution=16", "--steps", "3", "--views", "1")
    assert run(capsys, "convert", file, tmp_path / "c.safetensors", "--to", "voxels", *small)[0] == 0
    code, _, err = run(capsys, "convert", tmp_path / "c.safetensors", tmp_path / "d.npz", "--to", "voxels", *small)
    assert code == 0, err
    assert opened(tmp_path / "d.npz").spec.sizes.cells == (16, 16, 16)
    code, _, err = run(capsys, "convert", file, tmp_path / "e.npz", "--to", "vm")
    assert code == 2 and "holds a voxels" in err
    code, _, err = run(capsys, "convert", file, tmp_path / "e.npz", "--to", "voxels", "--size", "degree=3")
    assert code == 2 and "degree 3" in err


def test_voxels_that_learn_anew_choose_their_blocks(tmp_path: Path) -> None:
    """Those of a small ball in the last corner of a large grid, not as many from the first one on."""
    shape = (64, 64, 64)
    n = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), -1) - 58.0
    stored = (n**2).sum(-1) < 20
    count = int(stored.sum())
    values = {"density_data": np.full((count, 1), 50, np.float32), "sh_data": np.ones((count, 3), np.float16)}
    links = np.where(stored, np.cumsum(stored).reshape(shape) - 1, -1).astype(np.int32)
    teacher = opened(written(tmp_path / "a.npz", {"links": links, **values}))
    student = Pair.of(teacher, teacher.spec).student
    assert isinstance(teacher, VoxelsField) and isinstance(student, VoxelsField)
    assert 0 < teacher.spec.sizes.blocks < 10
    assert bool((student.block_table[teacher.block_table >= 0] >= 0).all())


def test_what_no_light_reaches_is_thin_in_all_activations() -> None:
    """The first values of voxels say the same whatever makes densities of them."""
    found = []
    small = default_spec("voxels", occupancy=16).resized({"resolution": 64, "degree": 0})
    for spec in (small, fitted(small)):
        teacher = build(default_spec("vm", occupancy=16).resized({"resolution": 8}), 1)
        pair = Pair.of(teacher, spec)
        course = Course(pair.teacher, pair.student, TUNED["voxels"], 2, 0, silent)
        start_from_means(pair.student, course.points(0))
        found.append(float(pair.student.spec.density(pair.student.data[:, 0]).detach().min()))
    assert found[0] == pytest.approx(np.exp(UNSEEN)) and found[1] == pytest.approx(found[0])
