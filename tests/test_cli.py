"""Every command as it is typed, on scenes of a few pixels: what is made, what is said, and where."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import fieldcast
from fieldcast.cli import arguments, cli, options
from fieldcast.cli.reconstruction import reconstruct
from fieldcast.distill import RECIPES
from fieldcast.distill.steering import FIRST
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields import KINDS, Cameras, Field, Space, build, default_spec, training
from fieldcast.fields.cameras import orbit
from fieldcast.fields.files import inspect_native, sha256

Captured = pytest.CaptureFixture[str]
RADIUS = 0.6
CP = ["--size", "resolution=6", "--size", "density_channels=2", "--size", "appearance_channels=2", "--size", "hidden=4"]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress however slow the machine: what is said here is said on purpose. test_console.py tests progress."""
    monkeypatch.setattr("fieldcast.console.PATIENCE", math.inf)


def soft_ball() -> Field:
    """The logit 5 - 20 r^2 as a VM field, which holds it exactly at its vertices."""
    spec = default_spec("vm", occupancy=8, steps=48, background=(1.0, 1.0, 1.0))
    sizes = {"resolution": 11, "density_channels": 2, "appearance_channels": 1, "hidden": 4}
    field = build(spec.resized(sizes), seed=1)
    at = torch.linspace(-1, 1, 11)
    with torch.no_grad():
        field.density_vm.planes.zero_()
        field.density_vm.lines.fill_(1)
        field.density_vm.planes[0, :, :, 0] = 5 - 20 * (at[:, None] ** 2 + at**2)
        field.density_vm.planes[0, :, :, 1] = 1
        field.density_vm.lines[0, :, 1] = -20 * at**2
    field.views = orbit(
        Space(), torch.arange(6) * 1.0, torch.full((6,), 0.4), 3.2, width=24, height=16, fov=math.radians(40)
    )
    return field


def write_split(folder: Path, name: str, count: int, turn: float) -> None:
    """A split of a NeRF-Synthetic scene: an opaque painted ball, by intersection of rays with the sphere."""
    i = torch.arange(count) + 0.5
    angle = math.radians(38)
    cameras = orbit(Space(), i * 2.4 + turn, i / count - 0.3, 3.2, width=24, height=24, fov=angle)
    frames = []
    (folder / name).mkdir(parents=True)
    for k in range(count):
        Image.fromarray(ball_image(cameras, k)).save(folder / name / f"r_{k}.png")
        matrix = [*cameras.c2w[k].tolist(), [0, 0, 0, 1]]
        frames.append({"file_path": f"./{name}/r_{k}", "transform_matrix": matrix})
    text = json.dumps({"camera_angle_x": angle, "frames": frames})
    (folder / f"transforms_{name}.json").write_text(text)


def ball_image(cameras: Cameras, index: int) -> np.ndarray:
    rays = cameras.image_rays(index)
    middle = -(rays.origins * rays.directions).sum(-1)
    square = middle**2 - rays.origins.square().sum(-1) + RADIUS**2
    x = rays.origins + (middle - square.clamp_min(0).sqrt())[:, None] * rays.directions
    rgba = torch.cat([0.5 + 0.6 * x, torch.ones(len(x), 1)], -1) * (square > 0)[:, None]
    return (rgba * 255).round().to(torch.uint8).reshape(24, 24, 4).numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field, another field and a data set; read only by agreement."""
    folder = tmp_path_factory.mktemp("made")
    fieldcast.save(soft_ball(), folder / "ball.safetensors")
    spec = default_spec("cp", occupancy=8, steps=48)
    fieldcast.save(build(spec.resized({"resolution": 4, "hidden": 4}), seed=0), folder / "fog.safetensors")
    write_split(folder / "data", "train", 8, 0.0)
    write_split(folder / "data", "test", 3, 0.7)
    return folder


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for cls in KINDS.values():
        monkeypatch.setattr(cls, "points_per_step", 1 << 11)
    yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: Captured, *argv: object) -> tuple[str, str]:
    """stdout and stderr of a command that must succeed."""
    code = main_guard(cli, [str(a) for a in argv])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out, err


def run_json(capsys: Captured, *argv: object) -> Any:
    """The one JSON document on stdout."""
    return json.loads(run(capsys, *argv, "--json")[0])


# --- looking at files


def test_info_in_json(made: Path, capsys: Captured) -> None:
    field = soft_ball()
    facts = run_json(capsys, "info", made / "ball.safetensors")
    assert {"kind", "parameters", "bytes", "views", "spec", "provenance"} <= set(facts)
    assert facts["kind"] == "vm"
    assert facts["parameters"] == sum(p.numel() for p in field.parameters())
    assert facts["bytes"] == (made / "ball.safetensors").stat().st_size
    assert facts["views"] == 6
    assert facts["spec"]["sizes"] == {
        "resolution": 11, "density_channels": 2, "appearance_channels": 1, "hidden": 4, "appearance": "free"
    }  # fmt: skip
    assert facts["spec"]["space"]["aabb"] == [-1, -1, -1, 1, 1, 1]


def test_info_for_people(made: Path, capsys: Captured) -> None:
    out, err = run(capsys, "info", made / "ball.safetensors")
    lines = [line.split() for line in out.splitlines()]
    assert ["kind", "vm"] in lines
    assert ["resolution", "11"] in lines
    assert err == ""


def test_validate_a_field(made: Path, capsys: Captured) -> None:
    facts = run_json(capsys, "validate", made / "ball.safetensors")
    assert facts == {
        "path": str(made / "ball.safetensors"), "valid": True, "kind": "vm", "occupied": 1.0, "warnings": []
    }  # fmt: skip


def test_validate_says_when_nothing_is_there(made: Path, folder: Path, capsys: Captured) -> None:
    field = soft_ball()
    field.occupancy_bits.zero_()
    fieldcast.save(field, "empty.safetensors")
    assert run_json(capsys, "validate", "empty.safetensors")["warnings"] == ["the field is empty: no cell is occupied"]


def test_validate_data(made: Path, capsys: Captured) -> None:
    facts = run_json(capsys, "validate", made / "data")
    assert facts["valid"] is True
    assert facts["views"] == 11
    assert "valid" in run(capsys, "validate", made / "data")[0]


def test_doctor(capsys: Captured) -> None:
    facts = run_json(capsys, "doctor")
    assert facts["fieldcast"] == fieldcast.__version__
    assert facts["torch"] == version("torch")
    assert facts["cores"] == os.cpu_count()
    assert facts["networks in training"] in ("bfloat16", "float32")
    assert "torch" in run(capsys, "doctor")[0]


# --- comparing


def test_compare_with_itself(made: Path, capsys: Captured) -> None:
    facts = run_json(capsys, "compare", made / "ball.safetensors", made / "ball.safetensors", "--views", 2)
    assert facts == {"psnr": 100, "ssim": pytest.approx(1), "depth_error": 0, "views": 2, "occupancy_iou": 1}


def test_compare_two_fields(made: Path, folder: Path, capsys: Captured) -> None:
    argv = ["compare", made / "ball.safetensors", made / "fog.safetensors", "--views", 2]
    facts = run_json(capsys, *argv, "--report", "r.html")
    assert 0 < facts["psnr"] < 40
    assert facts["ssim"] < 1
    assert "ball.safetensors and fog.safetensors" in Path("r.html").read_text()
    assert run_json(capsys, *argv, "--seed", 1)["psnr"] != facts["psnr"]
    assert run_json(capsys, *argv)["psnr"] == facts["psnr"]


def test_compare_notes_different_boxes(made: Path, folder: Path, capsys: Captured) -> None:
    other = build(
        default_spec("cp", space=Space((-2.0, -2.0, -2.0, 2.0, 2.0, 2.0)), occupancy=8).resized({"hidden": 1})
    )
    fieldcast.save(other, "other.safetensors")
    err = run(capsys, "compare", made / "ball.safetensors", "other.safetensors", "--views", 1)[1]
    assert "lie in different boxes" in err
    assert run(capsys, "compare", made / "ball.safetensors", "other.safetensors", "--views", 1, "--quiet")[1] == ""


def test_eval(made: Path, folder: Path, capsys: Captured) -> None:
    argv = ["eval", made / "ball.safetensors", made / "data"]
    facts = run_json(capsys, *argv, "--out", "beside.png")
    assert {"psnr", "ssim", "views", "seconds"} <= set(facts)
    assert facts["views"] == 3
    assert list(facts["psnr_per_view"]) == ["test/r_0", "test/r_1", "test/r_2"]
    assert facts["psnr"] == pytest.approx(sum(facts["psnr_per_view"].values()) / 3)
    assert 10 < facts["psnr"] < 40
    with Image.open("beside.png") as picture:
        assert picture.size == (48, 72)
    assert run_json(capsys, *argv, "--split", "train")["views"] == 8
    assert run_json(capsys, *argv, "--split", "all", "--downscale", 2)["views"] == 11
    assert "psnr" in run(capsys, *argv)[0]


def test_eval_on_pictures_too_small_for_ssim(made: Path, capsys: Captured) -> None:
    assert run_json(capsys, "eval", made / "ball.safetensors", made / "data", "--downscale", 4)["ssim"] is None


# --- rendering


def test_render_a_picture(made: Path, folder: Path, capsys: Captured) -> None:
    out, err = run(capsys, "render", made / "ball.safetensors", "a.png", "--size", "30x20")
    assert out == ""
    assert err.startswith("a.png: 1 x 30x20, ")
    with Image.open("a.png") as picture:
        assert picture.size == (30, 20)
        pixels = np.asarray(picture).astype(int)
    assert (pixels[0, 0] == 255).all()  # the white background
    assert pixels[10, 15].min() < 250  # the ball is in the middle
    run(capsys, "render", made / "ball.safetensors", "b.png", "--size", "30x20", "--frame", 20)
    assert Path("a.png").read_bytes() != Path("b.png").read_bytes()
    run(capsys, "render", made / "ball.safetensors", "c.png", "--size", "30x20", "--path", "views")


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "A.GIF"])
def test_render_a_video(made: Path, folder: Path, capsys: Captured, name: str) -> None:
    run(capsys, "render", made / "ball.safetensors", name, "--size", "24x16", "--frames", 5, "--fps", 10)
    frames, facts = decoded(name, 24, 16)
    assert frames.shape == (5, 16, 24, 3)
    assert float(frames[0].std()) > 1
    assert "10 fps" in facts


def decoded(name: str, width: int, height: int) -> tuple[np.ndarray, str]:
    """The frames of a video and what ffmpeg says about it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", name, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3), done.stderr.decode()


def test_render_along_a_camera_path(made: Path, folder: Path, capsys: Captured) -> None:
    """As nerfstudio's viewer writes it: the first camera sees the ball, the second looks away."""
    views = soft_ball().views
    assert views is not None
    matrix = torch.cat([views.c2w[0], torch.tensor([[0.0, 0.0, 0.0, 1.0]])])
    away = matrix.clone()
    away[:3, [0, 2]] *= -1
    frames = [{"camera_to_world": m.reshape(-1).tolist(), "fov": 40.0} for m in (matrix, away)]
    Path("path.json").write_text(json.dumps({"camera_path": frames}))
    run(capsys, "render", made / "ball.safetensors", "a.gif", "--path", "path.json", "--size", "20x20")
    frames_seen = decoded("a.gif", 20, 20)[0]
    seen, nothing = frames_seen[0], frames_seen[-1]
    assert seen[10, 10].min() < 250
    assert (nothing == 255).all()


def test_render_replaces_only_with_force(made: Path, folder: Path, capsys: Captured) -> None:
    Path("a.png").write_text("mine")
    argv = ["render", made / "ball.safetensors", "a.png", "--size", "20x20"]
    assert main_guard(cli, [str(a) for a in argv]) == 2
    assert Path("a.png").read_text() == "mine"
    run(capsys, *argv, "-f")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


# --- making fields


def test_convert(made: Path, folder: Path, capsys: Captured) -> None:
    argv = ["convert", made / "ball.safetensors", "small.safetensors", "--to", "cp", *CP, "--steps", 20, "--views", 2]
    facts = run_json(capsys, *argv, "--report", "r.html", "--seed", 3)
    assert facts["fidelity"]["views"] == 2
    assert facts["fidelity"]["psnr"] > 5
    assert facts["teacher"]["parameters"] == sum(p.numel() for p in soft_ball().parameters())
    assert facts["student"]["kind"] == "cp"
    assert facts["seconds"] > 0
    assert (facts["recipe"], facts["steps"], facts["seed"]) == ("fast", 20, 3)
    student = fieldcast.open("small.safetensors")
    assert student.spec.kind == "cp"
    assert student.spec.sizes.resolution == 6
    assert student.views is not None
    assert Path("r.html").read_text().startswith("<!doctype html>")
    assert {p.name for p in folder.iterdir()} == {"small.safetensors", "r.html"}


def test_convert_to_a_fidelity(made: Path, folder: Path, capsys: Captured) -> None:
    """Here the first round is enough; what the file is worth is kept in it and passed on to its conversions."""
    argv = [
        "convert",
        made / "ball.safetensors",
        "small.safetensors",
        "--to",
        "cp",
        *CP,
        "--target-db",
        6,
        "--views",
        1,
    ]
    facts = run_json(capsys, *argv)
    assert facts["reached"]
    assert facts["steps"] == RECIPES["fast"].steps("cp") // FIRST
    assert facts["verdict"]["level"] == "unknown"
    again = ["convert", "small.safetensors", "again.safetensors", "--to", "cp", *CP, "--steps", 1, "--views", 1]
    file = inspect_native(Path("small.safetensors"))
    known = replace(file.provenance, psnr=20.0)
    fieldcast.save(fieldcast.open("small.safetensors"), "small.safetensors", provenance=known, force=True)
    verdict = run_json(capsys, *again)["verdict"]
    assert verdict["source_psnr"] == 20.0
    assert inspect_native(Path("again.safetensors")).provenance.psnr == pytest.approx(20.0 - verdict["lost"])
    out, _ = run(capsys, *argv, "--force")
    assert "target of 6 dB reached" in out
    assert "verdict: faithful if the source's own PSNR is at most" in out


def test_convert_for_people(made: Path, folder: Path, capsys: Captured) -> None:
    argv = ["convert", made / "ball.safetensors", "v.safetensors", "--to", "voxels", "--size", "resolution=12"]
    out, err = run(capsys, *argv, "--steps", 5, "--views", 1, "--report", "r.png")
    assert "fidelity" in out
    assert "dropped: view-dependent colour beyond spherical harmonics of degree 2" in out
    assert "teacher" in out
    assert err == ""
    with Image.open("r.png") as picture:
        assert picture.size[0] == 3 * 24


def test_a_field_remembers_what_it_was_made_from(made: Path, folder: Path, capsys: Captured) -> None:
    source = made / "ball.safetensors"
    run(capsys, "convert", source, "a.safetensors", "--to", "cp", *CP, "--steps", 2, "--views", 1)
    run(capsys, "convert", "a.safetensors", "b.safetensors", "--to", "cp", *CP, "--steps", 2, "--views", 1)
    made_from = inspect_native(Path("b.safetensors")).provenance
    assert made_from.source == "a.safetensors"
    assert made_from.sha256 == sha256(Path("a.safetensors"))
    assert made_from.version == fieldcast.__version__
    assert [p["source"] for p in made_from.parents] == [str(source), ""]
    assert made_from.parents[0]["sha256"] == sha256(source)


def test_convert_onto_its_own_source(made: Path, folder: Path, capsys: Captured) -> None:
    fieldcast.save(soft_ball(), "a.safetensors")
    before = sha256(Path("a.safetensors"))
    run(capsys, "convert", "a.safetensors", "a.safetensors", "--to", "cp", *CP, "--steps", 2, "--views", 1, "--force")
    assert fieldcast.open("a.safetensors").spec.kind == "cp"
    assert inspect_native(Path("a.safetensors")).provenance.sha256 == before


def test_fit(made: Path, folder: Path, capsys: Captured) -> None:
    argv = ["fit", made / "data", "ball.safetensors", "--kind", "cp", *CP, "--steps", 20]
    facts = run_json(capsys, *argv)
    assert {"out", "kind", "parameters", "bytes", "seconds", "steps", "views", "training_psnr"} <= set(facts)
    assert facts["views"] == 8
    assert facts["steps"] == 20
    assert facts["bytes"] == Path("ball.safetensors").stat().st_size
    field = fieldcast.open("ball.safetensors")
    assert field.spec.sizes.resolution == 6
    assert field.parameter_count() == facts["parameters"]
    assert field.spec.space.aabb == (-1.5, -1.5, -1.5, 1.5, 1.5, 1.5)
    assert inspect_native(Path("ball.safetensors")).provenance.source == str(made / "data")
    assert [p.name for p in folder.iterdir()] == ["ball.safetensors"]


def test_the_same_command_makes_the_same_field(made: Path, folder: Path, capsys: Captured) -> None:
    tensors = []
    for name in ("a", "b"):
        run(capsys, "fit", made / "data", f"{name}.safetensors", "--kind", "cp", *CP, "--steps", 5, "--seed", 4)
        tensors.append(fieldcast.open(f"{name}.safetensors").state_dict())
    assert all(torch.equal(tensors[0][k], tensors[1][k]) for k in tensors[0])


def test_pictures_of_a_few_pixels_can_be_fitted(made: Path, folder: Path, capsys: Captured) -> None:
    argv = ["fit", made / "data", "a.safetensors", "--kind", "cp", *CP, "--steps", 2, "--downscale", 6]
    assert run_json(capsys, *argv)["training_psnr"] > 0


@pytest.mark.parametrize("verb", ["fit", "convert"])
def test_what_was_interrupted_is_resumed(
    made: Path, folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Ctrl-C leaves a checkpoint beside the output and nothing else; --resume comes to the same field."""
    source = made / ("data" if verb == "fit" else "ball.safetensors")

    def argv(name: str) -> list[str]:
        kind = ["--kind", "cp"] if verb == "fit" else ["--to", "cp", "--views", "1"]
        return [verb, str(source), name, *kind, *CP, "--steps", "8", "--quiet"]

    run(capsys, *argv("whole.safetensors"))
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    save, saved = training.Training._save, []

    def save_and_stop(self: Any, path: Path, step: int, *rest: Any) -> None:
        save(self, path, step, *rest)
        saved.append(step)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Training, "_save", save_and_stop)
    assert main_guard(cli, argv("part.safetensors")) == 130
    assert capsys.readouterr().err.strip() == "fieldcast: interrupted"
    assert {p.name for p in folder.iterdir()} == {"whole.safetensors", ".part.checkpoint.safetensors"}
    run(capsys, *argv("part.safetensors"), "--resume")
    assert {p.name for p in folder.iterdir()} == {"whole.safetensors", "part.safetensors"}
    whole, part = (fieldcast.open(f"{name}.safetensors").state_dict() for name in ("whole", "part"))
    assert all(torch.equal(whole[k], part[k]) for k in whole)


# --- how it talks


def test_quiet_is_silent(made: Path, folder: Path, capsys: Captured) -> None:
    ball = made / "ball.safetensors"
    assert run(capsys, "render", ball, "a.png", "--size", "12x12", "--quiet") == ("", "")
    for argv in (
        ["fit", made / "data", "f.safetensors", "--kind", "cp", *CP, "--steps", 2],
        ["convert", ball, "c.safetensors", "--to", "cp", *CP, "--steps", 2, "--views", 1],
        ["compare", ball, ball, "--views", 1],
        ["eval", ball, made / "data"],
    ):
        out, err = run(capsys, *argv, "-q")
        assert err == ""
        assert out != ""  # data is not talk


def spawn(*argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fieldcast.cli", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_data_on_stdout_and_talk_on_stderr(made: Path, folder: Path) -> None:
    """A run of seconds, as a program starts it: one JSON document here, plain lines of progress there."""
    argv = ["fit", made / "data", "a.safetensors", "--kind", "vm", "--size", "resolution=16", "--steps", 30, "--json"]
    done = spawn(*argv)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["out"] == "a.safetensors"
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    assert "fit: 30/30 100% fit vm: loss" in done.stderr


def test_the_installed_command(made: Path) -> None:
    program = Path(sys.executable).with_name("fieldcast")
    if not program.exists():
        pytest.skip("the package is not installed")
    done = subprocess.run(
        [program, "info", made / "ball.safetensors", "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["kind"] == "vm"
    assert done.stderr == ""


def test_names_of_all_sorts(made: Path, folder: Path, capsys: Captured) -> None:
    for name in ("with space.safetensors", "Ünï-場.safetensors", "[red]x.safetensors", "a\x1b[31m.safetensors"):
        fieldcast.save(soft_ball(), name)
        out, err = run(capsys, "info", name)
        assert "\x1b" not in out + err
        assert run_json(capsys, "validate", name)["path"] == name
    fieldcast.save(soft_ball(), "-dash.safetensors")
    run(capsys, "info", "--", "-dash.safetensors")


def test_debug_shows_where(folder: Path, capsys: Captured) -> None:
    assert main_guard(cli, ["info", "no.safetensors", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "fieldcast: no.safetensors: no such file"


def test_every_command_has_help() -> None:
    assert set(cli.commands) == {
        "fit", "convert", "edit", "morph", "reconstruct", "eval", "compare", "render", "info", "validate", "demo",
        "doctor",
    }  # fmt: skip
    steps = [("reconstruct", name) for name, command in reconstruct.commands.items() if not command.hidden]
    for words in [*((name,) for name in cli.commands), *steps]:
        shown, name = CliRunner().invoke(cli, [*words, "--help"], prog_name="fieldcast"), " ".join(words)
        assert shown.exit_code == 0
        assert f"Usage: fieldcast {name}" in shown.output
        assert "  -q, --quiet" in shown.output
        assert (
            name == "doctor" or f"fieldcast {name} " in shown.output.split("Usage:")[1].split("\n", 1)[1]
        )  # an example
    assert fieldcast.__version__ in CliRunner().invoke(cli, ["--version"]).output


def test_the_help_names_the_kinds_that_there_are() -> None:
    assert ", ".join(KINDS) == options.KIND_NAMES


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert arguments.chosen_device("auto") == "cpu"
    assert arguments.chosen_device("cpu") == "cpu"
    for name in ("banana", "cpu:x", "cuda:", "", "gpu", "cuda:x"):
        with pytest.raises(InputError, match="--device"):
            arguments.chosen_device(name)
    with pytest.raises(InputError, match="sees no CUDA device"):
        arguments.chosen_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert arguments.chosen_device("auto") == "cuda"
    assert arguments.chosen_device("cuda:1") == "cuda:1"
    with pytest.raises(InputError, match="torch sees 2 CUDA devices"):
        arguments.chosen_device("cuda:2")


@pytest.mark.parametrize(
    ("text", "size"), [("800x600", (800, 600)), ("1X1", (1, 1)), ("16384x16384", (16384, 16384)), ("007x9", (7, 9))]
)
def test_picture_sizes(text: str, size: tuple[int, int]) -> None:
    assert arguments.parsed_picture_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "800", "800x", "0x5", "-5x5", "5x5x5", "²x2", "٣x٣", "16385x1", "9" * 5000 + "x1", "1e3x5"]
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="expected WIDTHxHEIGHT in pixels up to 16384"):
        arguments.parsed_picture_size(text)


def test_a_checkpoint_has_the_name_of_its_output() -> None:
    assert arguments.checkpoint_of(Path("out/lego.field.safetensors")) == Path("out/.lego.field.checkpoint.safetensors")


def test_demo_is_the_built_in_scene_though_a_folder_has_its_name(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def fit(scene: fieldcast.Scene, *_: object, **__: object) -> None:
        seen.append(scene.source)
        raise InputError("enough")

    monkeypatch.setattr("fieldcast.distill.demo.fit", fit)
    assert main_guard(cli, ["demo", "--out", "demo"]) == 2
    assert seen == ["demo"] and capsys.readouterr().err.endswith("enough\n")


@pytest.mark.slow
def test_demo(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the demo's own number of points
    rows = run_json(capsys, "demo", "--out", folder / "demo")
    assert [row["kind"] for row in rows] == ["hashgrid", "vm", "cp", "voxels", "planes", "hybrid", "mlp"]
    assert rows[0]["test dB"] > 22
    assert all(row["fidelity dB"] > 20 for row in rows[1:])
    names = {p.name for p in (folder / "demo").iterdir()}
    assert {"demo-hashgrid.safetensors", "all-kinds.png", "turntable.mp4", "demo-vm.html"} <= names
    assert all(not n.startswith(".") for n in names)
