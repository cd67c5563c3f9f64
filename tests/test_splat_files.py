"""Files of splats: round trips, other programs' readers and writers, real files, and damage."""

from __future__ import annotations

import gzip
import json
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fieldcast
from fieldcast.cli import cli
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields.files import holds_splats
from fieldcast.fields.files.gaussian_ply import NAMES
from fieldcast.fields.files.spz import SIGNS, TURN
from fieldcast.fields.kernels.harmonics import harmonics
from fieldcast.fields.metrics import psnr
from fieldcast.fields.paths import turntable
from fieldcast.fields.space import Space
from fieldcast.fields.splats import Splats

BOX = Space((-2.0, -1.0, -1.0, 1.0, 1.0, 3.0), up=(0.0, 0.0, 1.0))


def some_splats(count: int = 40, degree: int = 3) -> Splats:
    return Splats(
        torch.randn(count, 3),
        torch.randn(count, 3) - 3,
        torch.nn.functional.normalize(torch.randn(count, 4), dim=-1),
        torch.randn(count) * 3,
        torch.randn(count, (degree + 1) ** 2, 3) * 0.3,
        space=BOX,
        background=(0.0, 0.5, 1.0),
    )


def reopened(splats: Splats, path: Path) -> Splats:
    fieldcast.save(splats, path)
    found = fieldcast.open(path)
    assert isinstance(found, Splats)
    return found


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_ply_is_the_same_when_reopened(tmp_path: Path, degree: int) -> None:
    splats = some_splats(degree=degree)
    found = reopened(splats, tmp_path / "a.ply")
    for name, value in splats.named_parameters():
        torch.testing.assert_close(dict(found.named_parameters())[name], value, rtol=1e-6, atol=1e-7)
    assert found.degree == degree
    assert (found.space, found.background) == (splats.space, splats.background)


def test_another_program_reads_our_ply(tmp_path: Path) -> None:
    plyfile = pytest.importorskip("plyfile")
    splats = some_splats()
    fieldcast.save(splats, tmp_path / "a.ply")
    vertex = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    np.testing.assert_allclose(np.stack([vertex[n] for n in "xyz"], -1), splats.means.detach(), rtol=1e-6)
    np.testing.assert_allclose(vertex["opacity"], splats.opacities.detach(), rtol=1e-6)
    # Channel by channel: 15 of red, then of green.
    np.testing.assert_allclose(vertex["f_rest_16"], splats.sh.detach()[:, 2, 1], rtol=1e-6)


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, "<"), (False, ">")])
def test_we_read_a_ply_of_another_program(tmp_path: Path, text: bool, order: str) -> None:
    """With its properties in another order, of other types, and with one that we do not know."""
    plyfile = pytest.importorskip("plyfile")
    names = [*reversed(NAMES), "wetness", *(f"f_rest_{i}" for i in range(9))]
    table = np.zeros(5, [(name, "f8" if name == "x" else "f4") for name in names])
    for name in names:
        table[name] = np.random.default_rng(0).normal(size=5)
    element = plyfile.PlyElement.describe(table, "vertex")
    plyfile.PlyData([element], text=text, byte_order=order).write(tmp_path / "b.ply")
    found = fieldcast.open(tmp_path / "b.ply")
    np.testing.assert_allclose(found.means.detach()[:, 0], table["x"], rtol=1e-5)
    np.testing.assert_allclose(found.quats.detach()[:, 3], table["rot_3"], rtol=1e-5)
    np.testing.assert_allclose(found.sh.detach()[:, 2, 1], table["f_rest_4"], rtol=1e-5)
    assert found.degree == 1 and found.space.up == (0.0, -1.0, 0.0)


def test_half_a_turn_changes_the_signs_of_harmonics() -> None:
    d = torch.nn.functional.normalize(torch.randn(100, 3), dim=-1)
    signs = torch.cat([torch.ones(1), torch.from_numpy(SIGNS)])
    torch.testing.assert_close(harmonics(d * torch.from_numpy(TURN), 3), harmonics(d, 3) * signs)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spz_keeps_what_it_has_bits_for(tmp_path: Path, degree: int) -> None:
    splats = some_splats(degree=degree)
    found = reopened(splats, tmp_path / "a.spz")
    assert found.degree == degree
    torch.testing.assert_close(found.means, splats.means, rtol=0, atol=2**-17)
    torch.testing.assert_close(found.log_scales, splats.log_scales, rtol=0, atol=1 / 32 + 1e-6)
    torch.testing.assert_close(found.opacities.sigmoid(), splats.opacities.sigmoid(), rtol=0, atol=0.6 / 255)
    torch.testing.assert_close(found.sh[:, :1], splats.sh[:, :1], rtol=0, atol=0.5 / 255 / 0.15 + 1e-6)
    torch.testing.assert_close(found.sh[:, 1:], splats.sh[:, 1:].clamp(-1, 127 / 128), rtol=0, atol=1 / 128 + 1e-6)
    likeness = (found.quats * splats.quats).detach().sum(-1).abs()
    assert float(likeness.min()) > 1 - 1e-5


def test_spz_of_a_large_world(tmp_path: Path) -> None:
    splats = some_splats(degree=0)
    with torch.no_grad():
        splats.means.mul_(1e5)
    torch.testing.assert_close(reopened(splats, tmp_path / "a.spz").means, splats.means, rtol=0, atol=1.0)


def test_another_program_reads_our_spz(tmp_path: Path) -> None:
    """gsply leaves the file's axes (right, up, back) as they are."""
    spz = pytest.importorskip("gsply.spz")
    splats = some_splats()
    fieldcast.save(splats, tmp_path / "a.spz")
    found = spz.read_spz(tmp_path / "a.spz")
    np.testing.assert_allclose(found.means, splats.means.detach().numpy() * TURN, atol=1e-4)
    np.testing.assert_allclose(found.scales, splats.log_scales.detach(), atol=0.04)
    quats = splats.quats.detach().numpy() * np.array([1, *TURN])
    assert (np.abs((found.quats * quats).sum(1)) > 1 - 1e-5).all()


@pytest.mark.parametrize("version", [3, 4])
def test_we_read_an_spz_of_another_program(tmp_path: Path, version: int) -> None:
    spz = pytest.importorskip("gsply.spz")
    pytest.importorskip("zstandard")
    fieldcast.save(some_splats(), tmp_path / "a.spz")
    spz.write_spz(tmp_path / "b.spz", spz.read_spz(tmp_path / "a.spz"), version=version)
    a, b = fieldcast.open(tmp_path / "a.spz"), fieldcast.open(tmp_path / "b.spz")
    torch.testing.assert_close(b.means, a.means, rtol=0, atol=1e-3)
    torch.testing.assert_close(b.log_scales, a.log_scales, rtol=0, atol=0.07)
    # Other programs keep 5 bits of the first degree and 4 of the others.
    torch.testing.assert_close(b.sh[:, 1:], a.sh[:, 1:], rtol=0, atol=0.08)
    assert float((b.quats * a.quats).detach().sum(-1).abs().min()) > 1 - 1e-4


def test_a_splat_file_byte_by_byte(tmp_path: Path) -> None:
    record = struct.pack("<6f8B", 1, 2, 3, 0.1, 0.2, 0.3, 255, 128, 0, 51, 255, 128, 128, 0)
    (tmp_path / "a.splat").write_bytes(record)
    splats = fieldcast.open(tmp_path / "a.splat")
    assert splats.means.tolist() == [[1.0, 2.0, 3.0]]
    torch.testing.assert_close(splats.log_scales.exp(), torch.tensor([[0.1, 0.2, 0.3]]))
    torch.testing.assert_close(splats.opacities.sigmoid(), torch.tensor([0.2]))
    torch.testing.assert_close(splats.quats, torch.tensor([[127 / 128, 0.0, 0.0, -1.0]]))
    color = splats.colors(torch.zeros(3), torch.tensor([0]))
    torch.testing.assert_close(color, torch.tensor([[1.0, 128 / 255, 0.0]]))
    fieldcast.save(splats, tmp_path / "b.splat")
    again = struct.unpack("<6f8B", (tmp_path / "b.splat").read_bytes())
    assert again[:3] == (1, 2, 3) and again[6:10] == (255, 128, 0, 51)


def test_a_splat_file_begins_with_what_shows_most(tmp_path: Path) -> None:
    found = reopened(some_splats(), tmp_path / "a.splat")
    shown = (found.log_scales.sum(1) + found.opacities.sigmoid().log()).detach()
    assert bool((shown.diff() < 0.1).all())


def gsplat_checkpoint(splats: Splats) -> dict[str, Any]:
    names = {"means": "means", "scales": "log_scales", "quats": "quats", "opacities": "opacities"}
    values = {name: getattr(splats, ours).detach() for name, ours in names.items()}
    return {"step": 9, "splats": {**values, "sh0": splats.sh.detach()[:, :1], "shN": splats.sh.detach()[:, 1:]}}


def splatfacto_checkpoint(splats: Splats) -> dict[str, Any]:
    values = gsplat_checkpoint(splats)["splats"]
    values["opacities"] = values["opacities"][:, None]
    values["features_dc"], values["features_rest"] = values.pop("sh0")[:, 0], values.pop("shN")
    rates = {"means": {"_last_lr": [np.float64(1e-4)]}}  # what trainers with schedulers leave behind
    return {"step": 9, "pipeline": {f"_model.gauss_params.{k}": v for k, v in values.items()}, "schedulers": rates}


@pytest.mark.parametrize(("name", "layout"), [("a.pt", gsplat_checkpoint), ("a.ckpt", splatfacto_checkpoint)])
def test_checkpoints_of_trainers(tmp_path: Path, name: str, layout: Any) -> None:
    splats = some_splats(degree=2)
    torch.save(layout(splats), tmp_path / name)
    found = fieldcast.open(tmp_path / name)
    for key, value in splats.named_parameters():
        torch.testing.assert_close(dict(found.named_parameters())[key], value)


class Trap:
    """A pickle that would make a folder when opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    torch.save({"splats": Trap(tmp_path / "trapped")}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a\.pt: not a whole checkpoint of plain tensors"):
        fieldcast.open(tmp_path / "a.pt")
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("splats"), "of no program that is known: it holds step"),
        (lambda c: c["splats"].pop("quats"), "it has no quats"),
        (lambda c: c["splats"].update(shN=torch.zeros(40, 7, 3)), "expected 0, 3, 8 or 15 harmonics, found 7"),
        (lambda c: c["splats"].update(scales=torch.zeros(39, 3)), r"scales: expected \(40, 3\), found \(39, 3\)"),
        (lambda c: c["splats"]["means"].fill_(math.nan), "splat 0: mean: expected finite numbers"),
    ],
)
def test_odd_checkpoints(tmp_path: Path, change: Any, message: str) -> None:
    content = gsplat_checkpoint(some_splats())
    change(content)
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=message):
        fieldcast.open(tmp_path / "a.pt")


HEADER = "ply\nformat {order} 1.0\n{more}element vertex {count}\n{properties}end_header\n"


def ply(path: Path, order: str = "ascii", more: str = "", count: str = "1", names: Any = NAMES, body: str = "") -> Path:
    properties = "".join(f"property float {name}\n" for name in names)
    path.write_text(HEADER.format(order=order, more=more, count=count, properties=properties) + body)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "morse"}, "format: expected one of binary_little_endian, binary_big_endian, ascii, found 'morse'"),
        ({"count": "999999999999", "order": "binary_little_endian"}, "found 0 bytes; the file is cut off"),
        ({"count": "999999999999"}, "expected 999999999999 splats of 14 numbers, found 0 numbers"),
        ({"count": "-4"}, "expected `element vertex` and a count, found `element vertex -4`"),
        ({"count": "0"}, "expected splats, found none"),
        ({"names": NAMES[1:]}, "its vertices lack x"),
        ({"names": [*NAMES, "x"]}, "expected each property once, found x twice"),
        ({"names": [*NAMES, "f_rest_0"]}, "expected 0, 9, 24 or 45 properties f_rest_0 and on, found 1"),
        ({"more": "element face 3\n"}, "expected `element vertex` first, found `element face 3`"),
        ({"more": "comment fieldcast {\n"}, "comment fieldcast: expected JSON"),
        ({"body": "1 " * 13 + "one"}, "could not convert string to float"),
        ({"body": "1 " * 13 + "nan"}, "splat 0: harmonic: expected finite numbers"),
        ({"body": "0 " * 14}, "splat 0: quaternion: expected a length above 0"),
        ({"body": "99 " * 14}, "splat 0: log scale: expected finite numbers up to 25"),
    ],
)
def test_damaged_ply(tmp_path: Path, options: Any, message: str) -> None:
    path = ply(tmp_path / "a.ply", **options)
    with pytest.raises(InputError) as caught:
        fieldcast.open(path)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value) and "\n" not in str(caught.value)


def test_splats_that_are_flat_or_opaque_altogether(tmp_path: Path) -> None:
    """Some programs write the logarithm of 0 and the logit of 1."""
    values = ["0", "0", "0", "-inf", "-3", "-3", "1", "0", "0", "0", "inf", "0", "0", "0"]
    splats = fieldcast.open(ply(tmp_path / "a.ply", body=" ".join(values)))
    assert splats.log_scales.tolist() == [[-25.0, -3.0, -3.0]] and splats.opacities.tolist() == [30.0]
    (image,) = splats.render(turntable(splats, 1, (20, 20)))
    assert bool(torch.isfinite(image.rgb).all())
    (tmp_path / "a.splat").write_bytes(struct.pack("<6f8B", 0, 0, 0, 0, 0.1, 0.1, 255, 0, 0, 255, 255, 128, 128, 128))
    assert float(fieldcast.open(tmp_path / "a.splat").log_scales.detach().min()) > -26


def spz_bytes(version: int = 3, count: int = 1, degree: int = 0, bits: int = 12, body: int = 20) -> bytes:
    return struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, bits, 0, 0) + bytes([77]) * body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"PK\3\4nonsense.........", "expected a .spz file"),
        (gzip.compress(b"nonsense.........", mtime=0), "expected a .spz file"),
        (gzip.compress(spz_bytes(), mtime=0)[:-12], "expected 20 bytes after the header"),
        (b"\x1f\x8b" + bytes(30), "its gzip stream is damaged"),
        (gzip.compress(spz_bytes(version=9), mtime=0), "expected .spz version 2, 3 or 4, found 9"),
        (gzip.compress(spz_bytes(degree=7, body=300), mtime=0), "degree 0 to 3, found 7"),
        (gzip.compress(spz_bytes(bits=60), mtime=0), "expected at most 24 bits after the point, found 60"),
        (gzip.compress(spz_bytes(count=2**32 - 1), mtime=0), "promises 4294967295 splats, more than"),
        (
            gzip.compress(spz_bytes(count=2), mtime=0),
            "expected 40 bytes after the header, found 20; the file is cut off",
        ),
        (gzip.compress(spz_bytes(body=21), mtime=0), "expected 20 bytes after the header, found more"),
        (spz_bytes(version=4, count=2**32 - 1), "promises 4294967295 splats, more than"),
        (spz_bytes(version=4), "expected a table of 5 streams"),
        (spz_bytes(count=0, body=0), "expected splats, found none"),
    ],
)
def test_damaged_spz(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.spz").write_bytes(data)
    with pytest.raises(InputError) as caught:
        fieldcast.open(tmp_path / "a.spz")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_splat(tmp_path: Path) -> None:
    (tmp_path / "a.splat").write_bytes(bytes(33))
    with pytest.raises(InputError, match="expected a multiple of 32 bytes, found 33"):
        fieldcast.open(tmp_path / "a.splat")
    (tmp_path / "a.splat").write_bytes(struct.pack("<6f8B", 1, 2, 3, -1, 1, 1, *range(8)))
    with pytest.raises(InputError, match="splat 0: scale: expected 0 or more"):
        fieldcast.open(tmp_path / "a.splat")


def test_every_cut_of_a_real_file_is_one_line(tmp_path: Path) -> None:
    for name in ("a.ply", "a.spz", "a.pt"):
        whole = tmp_path / name
        if name == "a.pt":
            torch.save(gsplat_checkpoint(some_splats()), whole)
        else:
            fieldcast.save(some_splats(), whole)
        data = whole.read_bytes()
        for length in range(0, len(data) - 1, len(data) // 23):
            whole.write_bytes(data[:length])
            with pytest.raises(InputError) as caught:
                fieldcast.open(whole)
            assert "\n" not in str(caught.value)


def test_bits_that_flipped_are_one_line_or_harmless(tmp_path: Path) -> None:
    fieldcast.save(some_splats(), tmp_path / "a.spz")
    data = bytearray(gzip.decompress((tmp_path / "a.spz").read_bytes()))
    for place in range(16):
        damaged = bytearray(data)
        damaged[place] ^= 0x41
        (tmp_path / "a.spz").write_bytes(zlib.compress(bytes(damaged), wbits=31))
        try:
            fieldcast.open(tmp_path / "a.spz")
        except InputError as error:
            assert "\n" not in str(error)


def test_what_goes_where(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a name that ends in \.ply, \.splat, \.spz, found \.pt"):
        fieldcast.save(some_splats(), tmp_path / "a.pt")
    fieldcast.save(some_splats(), tmp_path / "a.ply")
    with pytest.raises(InputError, match="use --force"):
        fieldcast.save(some_splats(), tmp_path / "a.ply")
    (tmp_path / "mesh.ply").write_text("ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header\n")
    assert holds_splats(tmp_path / "a.ply") and not holds_splats(tmp_path / "mesh.ply")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_real_files_of_one_capture_look_alike(data: Path) -> None:
    folder = data / "splats" / "playbot_cc_by"
    names = ["playbot_8406.ply", "playbot_8406.v3.spz", "playbot_8406.v4.spz"]
    scenes = [fieldcast.open(folder / name) for name in names]
    cameras = turntable(scenes[0], 2, (100, 100))
    first, *others = [next(fieldcast.render(scene, cameras)).rgb.clamp(0, 1) for scene in scenes]
    assert float(first.std()) > 0.2  # something is there
    assert all(psnr(first, other) > 39 for other in others)
    assert all(len(scene) == 8406 and scene.degree == 2 for scene in scenes)


def test_minimal_files_of_another_program(data: Path) -> None:
    folder = data / "splats" / "minimal_fixtures"
    for name in ("minimal-raw.spz", "minimal-v2.spz", "minimal-v3.spz", "minimal-v4.spz", "minimal.splat"):
        splats = fieldcast.open(folder / name)
        assert len(splats) == 4 and splats.degree == 0
        torch.testing.assert_close(splats.means.abs().sum(0), torch.tensor([2.0, 0.0, 2.0]))
        torch.testing.assert_close(splats.log_scales.exp(), torch.full((4, 3), 0.1), rtol=0.02, atol=0)
        torch.testing.assert_close(splats.opacities.sigmoid(), torch.full((4,), 0.9), rtol=0.01, atol=0)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code of a command as a user types it, and its stdout and stderr."""
    code = main_guard(cli, [str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_commands_take_splats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.ply", tmp_path / "a.spz"
    fieldcast.save(some_splats(), a)
    info = json.loads(run(capsys, "info", a, "--json")[1])
    assert (info["kind"], info["splats"], info["degree"]) == ("splats", 40, 3)
    assert "(0.0, 0.5, 1.0)" in run(capsys, "info", a)[1]
    assert json.loads(run(capsys, "validate", a, "--json")[1])["valid"]
    assert run(capsys, "render", a, tmp_path / "a.png", "--size", "40x30")[0] == 0
    code, out, err = run(capsys, "convert", a, b, "--to", "splats", "--views", 2, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["fidelity"]["psnr"] > 30 and report["occupancy_iou"] is None
    assert report["student"]["kind"] == "splats"
    assert json.loads(run(capsys, "compare", a, b, "--views", 2, "--json")[1])["psnr"] > 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", "a.ply", "b.ckpt", "--to", "splats"), "expected a name that ends in .ply, .splat, .spz"),
        (("convert", "a.ply", "b.ply", "--to", "hashgrid"), "expected a name that ends in .safetensors"),
        (("convert", "a.ply", "b.safetensors", "--to", "hashgrid", "--resume"), "keep no checkpoint"),
        (("convert", "a.ply", "b.safetensors", "--to", "cubes"), "unknown kind 'cubes'"),
        (("info", "cut.ply"), "the file is cut off"),
        (("validate", "cut.ply"), "the file is cut off"),
        (("render", "cut.ply", "a.png"), "the file is cut off"),
    ],
)
def test_commands_say_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    fieldcast.save(some_splats(), "a.ply")
    Path("cut.ply").write_bytes(Path("a.ply").read_bytes()[:-9])
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1 and message in err
    assert {path.name for path in tmp_path.iterdir()} == {"a.ply", "cut.ply"}
