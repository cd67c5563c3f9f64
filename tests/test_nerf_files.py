"""Checkpoints of nerf-pytorch and its relative: the same function as the programs that wrote them, and nothing run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

import fieldcast
from fieldcast.cli import cli
from fieldcast.distill.scenes import How, convert_scene
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields import Field
from fieldcast.fields.cameras import Rays
from fieldcast.fields.evaluate import photograph
from fieldcast.fields.files.exports import EXPORTS
from fieldcast.fields.kinds import build, default_spec
from fieldcast.fields.metrics import psnr
from fieldcast.fields.rendering import shading
from fieldcast.fields.scenes import open_scene
from fieldcast.fields.space import Space

Network = dict[str, Tensor]
Reference = Callable[[Network, Tensor, Tensor], tuple[Tensor, Tensor]]


def encoded(x: Tensor, octaves: int) -> Tensor:
    """What both programs make of positions and directions."""
    return torch.cat([x, *(f(x * 2.0**k) for k in range(octaves) for f in (torch.sin, torch.cos))], -1)


def layer(network: Network, name: str, x: Tensor) -> Tensor:
    return linear(x, network[f"{name}.weight"].to(x), network[f"{name}.bias"].to(x))


def nerf_pytorch(network: Network, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """sigma [N] and rgb [N, 3] of the network of yenchenlin/nerf-pytorch, which skips behind layer 4."""
    seen, h = encoded(x, 10), encoded(x, 10)
    for place in range(8):
        h = torch.relu(layer(network, f"pts_linears.{place}", h))
        if place == 4:
            h = torch.cat([seen, h], -1)
    feature = layer(network, "feature_linear", h)
    branch = torch.relu(layer(network, "views_linears.0", torch.cat([feature, encoded(d, 4)], -1)))
    return torch.relu(layer(network, "alpha_linear", h))[:, 0], torch.sigmoid(layer(network, "rgb_linear", branch))


def krrish94(network: Network, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """The same of krrish94/nerf-pytorch, whose deeper networks skip before the layer 4 of those after the first."""
    octaves = (network["layer1.weight"].shape[1] - 3) // 6
    h = layer(network, "layer1", encoded(x, octaves))
    for place in range(sum(name.startswith("layers_xyz") for name in network) // 2):
        if network[f"layers_xyz.{place}.weight"].shape[1] > h.shape[1]:
            h = torch.cat([h, encoded(x, octaves)], -1)
        h = torch.relu(layer(network, f"layers_xyz.{place}", h))
    feature = torch.relu(layer(network, "fc_feat", h))
    branch = torch.relu(layer(network, "layers_dir.0", torch.cat([feature, encoded(d, 4)], -1)))
    return torch.relu(layer(network, "fc_alpha", h))[:, 0], torch.sigmoid(layer(network, "fc_rgb", branch))


def some_network(shapes: dict[str, tuple[int, int]]) -> Network:
    """Layers (outputs, inputs) with numbers that keep what flows through them about as large as it is."""
    network: Network = {}
    for name, (outputs, inputs) in shapes.items():
        network[f"{name}.weight"] = torch.randn(outputs, inputs) * (2 / inputs) ** 0.5
        network[f"{name}.bias"] = 0.1 * torch.randn(outputs)
    return network


def wide(width: int = 32) -> Network:
    trunk = {f"pts_linears.{i}": (width, 63 if i == 0 else width + 63 * (i == 5)) for i in range(8)}
    head = {"alpha_linear": (1, width), "feature_linear": (width, width)}
    return some_network({**trunk, **head, "views_linears.0": (width // 2, width + 27), "rgb_linear": (3, width // 2)})


def rebuilt(layers: int = 4, width: int = 32, encoded: int = 63) -> Network:
    trunk = {f"layers_xyz.{i}": (width, width + encoded * (i == 4)) for i in range(layers - 1)}
    head = {"fc_feat": (width, width), "fc_alpha": (1, width), "layers_dir.0": (width // 2, width + 27)}
    return some_network({"layer1": (width, encoded), **trunk, **head, "fc_rgb": (3, width // 2)})


def points(count: int = 2000) -> tuple[Tensor, Tensor]:
    """In the box of NeRF-Synthetic, in float64."""
    x = 3 * torch.rand(count, 3, dtype=torch.float64) - 1.5
    return x, torch.nn.functional.normalize(torch.randn(count, 3, dtype=torch.float64), dim=-1)


def assert_same(field: Field, network: Network, reference: Reference) -> None:
    """In float64, where a frequency of 2^9 does not lose digits, to 1e-6; in float32, as both programs run, to 1e-3."""
    x, d = points()
    sigma, rgb = reference(network, x, d)
    assert float(sigma.std()) > 0.05 and float(rgb.std()) > 0.05  # there is something to agree on
    for kind, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-3)):
        with torch.no_grad():
            ours = field.to(kind)(x.to(kind), d.to(kind))
        torch.testing.assert_close(ours[0].double(), sigma, rtol=tolerance, atol=tolerance * float(sigma.mean()))
        torch.testing.assert_close(ours[1].double(), rgb, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("network", "reference", "wrap"),
    [
        (wide, nerf_pytorch, lambda n: {"global_step": 1, "network_fn_state_dict": {}, "network_fine_state_dict": n}),
        (wide, nerf_pytorch, lambda n: {"network_fn_state_dict": {f"module.{k}": v for k, v in n.items()}}),
        (rebuilt, krrish94, lambda n: {"iter": 7, "model_coarse_state_dict": {}, "model_fine_state_dict": n}),
        (lambda: rebuilt(7), krrish94, lambda n: {"model_coarse_state_dict": n, "model_fine_state_dict": None}),
        (lambda: rebuilt(3, encoded=39), krrish94, lambda n: {"model_fine_state_dict": n}),
    ],
)
def test_the_same_function(
    tmp_path: Path, network: Callable[[], Network], reference: Reference, wrap: Callable[[Network], Any]
) -> None:
    torch.manual_seed(3)
    tensors = network()
    torch.save(wrap(tensors), tmp_path / "a.tar")
    assert_same(fieldcast.open(tmp_path / "a.tar"), tensors, reference)
    fieldcast.save(fieldcast.open(tmp_path / "a.tar"), tmp_path / "a.safetensors")
    assert_same(fieldcast.open(tmp_path / "a.safetensors"), tensors, reference)


SCENES = ("chair", "drums", "fern", "hotdog", "lego", "materials", "ship")


@pytest.mark.parametrize("scene", SCENES)
def test_networks_that_were_trained(data: Path, scene: str) -> None:
    (file,) = (data / "ckpt" / "nerf-pytorch" / f"{scene}-lowres").glob("*.weights.ckpt")
    field = fieldcast.open(file)
    assert isinstance(field, Field)
    network = torch.load(file, weights_only=True)["model_fine_state_dict"]  # noqa: TID251
    x, d = points(500)
    sigma, rgb = krrish94(network, x, d)
    with torch.no_grad():
        ours = field.double()(x, d)
    assert bool(field.notes) == (scene == "fern") and field.background == (
        (0.0,) * 3 if scene == "fern" else (1.0,) * 3
    )
    torch.testing.assert_close(ours[0], sigma, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(ours[1], rgb, rtol=1e-6, atol=1e-6)


def test_a_trained_network_shows_its_scene(data: Path) -> None:
    """Random pixels of a test view that it was not trained on; its authors have 27 dB on all."""
    field = fieldcast.open(data / "ckpt" / "nerf-pytorch" / "lego-lowres" / "checkpoint199999.ckpt")
    scene = open_scene(data / "posed" / "nerf_synthetic_lego_100", "test").spread(1)
    chosen = torch.randperm(100 * 100, generator=torch.Generator().manual_seed(0))[:400]
    rays: Rays = scene.cameras.image_rays(0)[chosen]
    seen = shading(field, steps=512)(rays).rgb
    assert psnr(seen, photograph(scene, 0, (1.0, 1.0, 1.0)).reshape(-1, 3)[chosen]) > 24


@pytest.mark.parametrize(
    ("name", "text", "background", "ndc"),
    [
        ("args.txt", "dataset_type = blender\nno_ndc = False\nwhite_bkgd = True\n", 1.0, False),
        ("args.txt", "dataset_type = blender\nwhite_bkgd = False\n", 0.0, False),
        ("args.txt", "dataset_type = llff\nno_ndc = False\nwhite_bkgd = False\n", 0.0, True),
        ("config.txt", "expname = a\ndataset_type = llff\nno_ndc = True\n", 0.0, False),
        ("args.txt", "nothing = known\n", 1.0, False),
        ("config.yml", "dataset: {no_ndc: false}\nnerf: {validation: {white_background: false}}\n", 0.0, True),
        ("config.yml", "dataset: {no_ndc: true}\nnerf: {train: 3}\n", 1.0, False),
        ("config.yml", "- 1\n", 1.0, False),
    ],
)
def test_settings_beside_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, background: float, ndc: bool
) -> None:
    torch.save({"network_fn_state_dict": wide(8)}, tmp_path / "a.tar")
    (tmp_path / name).write_text(text)
    field = fieldcast.open(tmp_path / "a.tar")
    assert isinstance(field, Field) and field.background == (background,) * 3
    assert any("normalised device coordinates" in note for note in field.notes) == ndc
    code, _, err = run(capsys, "render", tmp_path / "a.tar", tmp_path / "a.png", "--size", "4x4")
    assert code == 0 and ("note: it was trained in normalised device coordinates" in err) == ndc


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    torch.save({"network_fn_state_dict": wide(8)}, tmp_path / "a.tar")
    (tmp_path / "config.yml").write_text("dataset: {no_ndc: maybe}\n")
    with pytest.raises(InputError, match=r"config.yml: white_background, no_ndc: expected .* found True, maybe"):
        fieldcast.open(tmp_path / "a.tar")
    (tmp_path / "config.yml").write_text("dataset: !!python/object/apply:os.system ['touch executed']\n")
    assert isinstance(fieldcast.open(tmp_path / "a.tar"), Field) and not Path("executed").exists()


def narrow(half: float, **sizes: Any) -> Field:
    """A field that fits into nerf-pytorch's networks, with numbers that can be seen."""
    fit = EXPORTS[".tar"]
    space = Space((-half,) * 3 + (half,) * 3)
    field = build(fit.fitted(default_spec("nerf", space=space).resized({"width": 40, "branch": 20} | sizes)), 0)
    with torch.no_grad():
        for value in field.parameters():
            value.copy_(torch.randn(value.shape) * ((2 / value.shape[-1]) ** 0.5 if value.dim() == 2 else 0.1))
    return field


def stored(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)  # noqa: TID251
    return found


@pytest.mark.parametrize("half", [1.5, 1.0, 2.0])
def test_the_way_back(tmp_path: Path, half: float) -> None:
    """The program's own networks are the field in its box, and empty around it."""
    field = narrow(half)
    fieldcast.save(field, tmp_path / "a.tar")
    found = stored(tmp_path / "a.tar")
    network = found["network_fine_state_dict"]
    assert {name: tuple(value.shape) for name, value in network.items()} == {
        name: tuple(value.shape) for name, value in wide(256).items()
    }
    assert all(torch.equal(value, found["network_fn_state_dict"][name]) for name, value in network.items())
    x, d = points()
    x = x * half / 1.5
    x[:40, 0], x[40:80, 1] = half, -half  # on the faces
    sigma, rgb = nerf_pytorch(network, x, d)
    again = fieldcast.open(tmp_path / "a.tar")
    assert isinstance(again, Field) and again.space == field.space
    for ours in (field, again):
        with torch.no_grad():
            values = ours.double()(x, d)
        torch.testing.assert_close(values[0], sigma, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(values[1], rgb, rtol=1e-6, atol=1e-6)
    assert float(sigma.std()) > 0.05
    outside = (4 * x.abs() > half + 1e-5).any(-1)
    assert bool(outside.any()) and not bool(nerf_pytorch(network, 4 * x, d)[0][outside].any())
    optimizer = torch.optim.Adam([torch.zeros(1) for _ in range(2 * len(network))])
    optimizer.load_state_dict(found["optimizer_state_dict"])
    assert found["global_step"] == 0


def test_what_was_read_is_written_as_it_was(tmp_path: Path) -> None:
    network = wide(256)
    torch.save({"network_fn_state_dict": {}, "network_fine_state_dict": network}, tmp_path / "a.tar")
    fieldcast.save(fieldcast.open(tmp_path / "a.tar"), tmp_path / "b.tar")
    written = stored(tmp_path / "b.tar")["network_fine_state_dict"]
    for name, value in network.items():
        torch.testing.assert_close(written[name], value, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 4}, "its sizes must be layers=8, skip=5, octaves=10, view_octaves=4, lowest=0.584963"),
        ({"width": 257}, "a width of at most 256"),
        ({"branch": 129}, "a branch of at most 128"),
        ({"first": "linear"}, "first, code and activation as they are by default"),
        ({"activation": "silu"}, "first, code and activation as they are by default"),
    ],
)
def test_what_nerf_pytorch_cannot_hold(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"a file of nerf-pytorch cannot hold this nerf: .*{message}"):
        fieldcast.save(narrow(1.5, **change), tmp_path / "a.tar")
    assert not list(tmp_path.iterdir())


def test_more_that_nerf_pytorch_cannot_hold() -> None:
    check = EXPORTS[".tar"].check
    plain = default_spec("nerf")
    with pytest.raises(InputError, match="its density must be relu"):
        check(Path("a.tar"), plain)
    with pytest.raises(InputError, match="its box must be a cube around the origin"):
        check(Path("a.tar"), replace(plain, space=Space((0, 0, 0, 1, 1, 1))))
    with pytest.raises(InputError, match="holds a nerf, not a vm"):
        check(Path("a.tar"), default_spec("vm"))


def test_fields_are_converted_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its density and its frequencies."""
    fit, source = EXPORTS[".tar"], tmp_path / "a.safetensors"
    teacher = build(default_spec("vm", occupancy=8, steps=16).resized({"resolution": 8}), 0)
    fieldcast.save(teacher, source)
    sizes = {**fit.sizes, "width": "16", "branch": "8"}
    student, _ = convert_scene(teacher, "nerf", sizes, How(steps=2), fitted=fit.fitted)
    assert isinstance(student, Field)
    fieldcast.save(student, tmp_path / "b.tar")
    again = fieldcast.open(tmp_path / "b.tar")
    assert isinstance(again, Field) and again.spec.density.name == "relu" and again.space.aabb[3:] == (1.0, 1.0, 1.0)
    code, _, err = run(capsys, "convert", source, tmp_path / "c.tar", "--to", "nerf", "--size", "layers=4")
    assert code == 2 and "its sizes must be layers=8" in err


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


def squeezed(path: Path) -> None:
    """An archive that unpacks to much more than it is."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * 10_000_000)


def endless() -> dict[str, Any]:
    """A container that holds itself."""
    found: dict[str, Any] = {"more": []}
    found["more"].append(found)
    return found


def changed(**values: Any) -> dict[str, Any]:
    """A checkpoint some tensors of which are others; None: missing."""
    network: dict[str, Any] = {**rebuilt(), **{name.replace("__", "."): value for name, value in values.items()}}
    return {"model_fine_state_dict": {name: value for name, value in network.items() if value is not None}}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.write_bytes(pickle.dumps({"model_fine_state_dict": Runs()})), "not a whole checkpoint of plain"),
        (lambda p: torch.save({"model_fine_state_dict": Runs()}, p), "not a whole checkpoint of plain tensors"),
        (squeezed, "torch does not compress"),
        (lambda p: p.write_bytes(b"PK\3\4 and nothing"), "not a whole checkpoint"),
        (lambda p: p.write_bytes(b""), "not a whole checkpoint"),
        (lambda p: torch.save([1], p), "expected a checkpoint, found list; what is read"),
        (
            lambda p: torch.save({"pipeline": {"_model.sdf_field.a.b": 1, "_model.lpips.net": 2, "x": 3}}, p),
            "a run of nerfstudio by a method that is not known: its model has sdf_field.a, lpips.net; what is read",
        ),
        (
            lambda p: torch.save({"weights": 1}, p),
            "a checkpoint of no program that is known: it holds weights; what is read: fieldcast in nerfstudio, gsplat",
        ),
        (lambda p: torch.save(endless(), p), "it holds more"),
        (lambda p: torch.save({"model_fine_state_dict": [1]}, p), "expected the tensors of a network"),
        (lambda p: torch.save({"model_fine_state_dict": {}}, p), "its networks are empty"),
        (lambda p: torch.save({"model_fine_state_dict": torch.ones(2)}, p), "expected the tensors of a network"),
        (
            lambda p: torch.save(changed(layers_xyz__1__weight=None, layers_xyz__1__bias=None), p),
            "missing layers_xyz.1",
        ),
        (lambda p: torch.save(changed(fc_feat__bias=torch.ones(32).to_sparse()), p), "expected plain numbers"),
        (lambda p: torch.save(changed(fc_feat__bias=torch.ones(32, device="meta")), p), "expected plain numbers"),
        (lambda p: torch.save(changed(fc_alpha__bias=None), p), "not a whole NeRF: missing fc_alpha.bias"),
        (lambda p: torch.save(changed(more=torch.ones(1)), p), "unexpected more"),
        (lambda p: torch.save(changed(layer1__weight=torch.ones(32)), p), r"layer1.weight: .* found \[32\]"),
        (lambda p: torch.save(changed(layer1__weight=torch.ones(32, 62)), p), "expected 3 \\+ 6 L encoded numbers"),
        (
            lambda p: torch.save(
                changed(layer1__weight=torch.ones(9999, 63), layers_dir__0__weight=torch.ones(16, 9999 + 27)), p
            ),
            "Expected `int` <= 4096",
        ),
        (lambda p: torch.save(changed(fc_alpha__weight=torch.ones(2, 32)), p), r"fc_alpha: expected \[1, 32\]"),
        (lambda p: torch.save(changed(layers_xyz__0__weight=torch.ones(9, 32)), p), r"expected \[32, 32\], found"),
        (lambda p: torch.save(changed(fc_feat__bias=torch.full((32,), torch.inf)), p), "fc_feat.bias: expected finite"),
        (
            lambda p: torch.save(changed(fc_feat__weight=torch.ones(1).expand(1 << 20, 1 << 20)), p),
            r"model_fine_state_dict.fc_feat.weight: expected \[1048576, 1048576\] numbers, found 4 bytes",
        ),
        (
            lambda p: torch.save(changed(fc_rgb__weight=None, fc_rgb__bias=None), p),
            "networks without view directions are not read",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, write: Callable[[Path], Any], message: str) -> None:
    write(tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=message) as caught:
        fieldcast.open(tmp_path / "a.ckpt")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(tmp_path / "a.ckpt"))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code of a command as a user types it, and its stdout and stderr."""
    code = main_guard(cli, [str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_commands_take_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(3)
    file = tmp_path / "a.tar"
    torch.save({"network_fn_state_dict": wide(16)}, file)
    info = json.loads(run(capsys, "info", file, "--json")[1])
    assert (info["kind"], info["spec"]["sizes"]["skip"], info["spec"]["sizes"]["width"]) == ("nerf", 5, 16)
    assert json.loads(run(capsys, "validate", file, "--json")[1])["kind"] == "nerf"
    assert run(capsys, "render", file, tmp_path / "a.png", "--size", "16x12")[0] == 0
    small = ("--size", "resolution=16", "--steps", "2", "--views", "1")
    code, out, err = run(capsys, "convert", file, tmp_path / "b.safetensors", "--to", "vm", *small, "--json")
    assert code == 0, err
    assert json.loads(out)["teacher"]["kind"] == "nerf"
    back = ("--size", "layers=2", "--size", "width=16", "--size", "skip=0", "--steps", "2", "--views", "1")
    code, _, err = run(capsys, "convert", tmp_path / "b.safetensors", tmp_path / "d.safetensors", "--to", "nerf", *back)
    assert code == 0, err


def test_conversions_look_from_where_it_was_seen(tmp_path: Path) -> None:
    """From above the ground, as the cameras of NeRF-Synthetic; in device coordinates nobody knows from where."""
    torch.manual_seed(3)
    torch.save({"model_fine_state_dict": rebuilt()}, tmp_path / "a.ckpt")
    views = fieldcast.open(tmp_path / "a.ckpt").views
    assert views is not None
    torch.testing.assert_close(views.centers.norm(dim=-1), torch.full((len(views),), 4.03))
    assert float(views.centers[:, 2].min()) > 0 and float(views.centers.mean(0)[:2].norm()) < 0.2
    (tmp_path / "config.yml").write_text("dataset: {no_ndc: false}\n")
    assert fieldcast.open(tmp_path / "a.ckpt").views is None
