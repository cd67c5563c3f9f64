"""`fieldcast morph` as it is typed: what is made, what is said of mistakes, and that nothing is left of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch
import trimesh
from PIL import Image

import fieldcast
from fieldcast.cli import cli
from fieldcast.endings import main_guard
from fieldcast.fields.files import inspect_native
from fieldcast.fields.files.tensors import read_tensors, write_tensors
from fieldcast.morph.priors import open_prior
from fieldcast.morph.priors.builtin import BuiltinPrior

Captured = pytest.CaptureFixture[str]
QUICK = ["--prior", "tiny.safetensors"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_prior: BuiltinPrior) -> Path:
    """A folder to work in, with two meshes, a field, a prior and things that are none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fieldcast.console.PATIENCE", math.inf)
    monkeypatch.setattr("fieldcast.morph.folder.FILM", 48)
    monkeypatch.setattr("fieldcast.morph.folder.SHEET", 32)
    trimesh.creation.box((3.0, 1.0, 1.0)).export("red_car.glb")
    trimesh.creation.icosphere(2).apply_translation((0.0, 5.0, 0.0)).export("ball.glb")
    Path("empty.glb").touch()
    Path("broken.glb").write_bytes(Path("ball.glb").read_bytes()[:700])
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False).export("flat.ply")
    tiny_prior.save(Path("tiny.safetensors"))
    tensors, meta = read_tensors(Path("tiny.safetensors"))
    write_tensors(Path("later.safetensors"), tensors, meta | {"prior": 99})
    write_tensors(Path("less.safetensors"), {k: v for k, v in tensors.items() if "mean" not in k}, meta)
    write_tensors(Path("other.safetensors"), tensors, {"format": 1})
    Path("there").mkdir()
    return tmp_path


def test_two_objects_become_a_film_and_frames(folder: Path, capsys: Captured) -> None:
    assert main_guard(cli, ["morph", "red_car.glb", "ball.glb", "film", *QUICK, "--frames", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(Path("film/report.json").read_text())
    assert told["frames"] == 3 and told["alphas"][0] == 0 and told["alphas"][-1] == 1
    assert told["first"]["caption"] == "red car" and told["second"]["caption"] == ""
    assert told["first"]["distance_to_input"] < 0.05 < told["first"]["distance_without_details"]
    names = {p.relative_to("film").as_posix() for p in Path("film").rglob("*") if p.is_file()}
    assert {"morph.mp4", "sheet.png", "report.json", "frames/000.safetensors", "frames/002.safetensors"} <= names
    field = fieldcast.open("film/frames/001.safetensors")
    assert isinstance(field, fieldcast.Field)
    assert field.space.center == pytest.approx((0, 0, 0), abs=1e-5)  # where the first object is
    assert field.space.up == (0, 1, 0)
    assert inspect_native(Path("film/frames/001.safetensors")).provenance.source == "red_car.glb to ball.glb"
    frames, _ = imageio_ffmpeg.count_frames_and_secs("film/morph.mp4")
    assert frames == 2 * (3 + 1)
    with Image.open("film/sheet.png") as sheet:
        assert sheet.size == (3 * 32, 32)
    with Image.open("film/ends.png") as ends:
        assert ends.size == (2 * 64, 2 * 64)
    assert not list(folder.glob(".*"))


def test_same_seed_same_frames_and_captions_as_ends(folder: Path, capsys: Captured) -> None:
    command = ["morph", "blue house", "ball.glb", "OUT", *QUICK, "--frames", "2", "--quiet", "--what"]
    for out, what in (("a", "both"), ("b", "both"), ("c", "texture")):
        assert main_guard(cli, [*command[:3], out, *command[4:], what]) == 0
    first, again, other = (Path(out, "frames/001.safetensors").read_bytes() for out in "abc")
    a, b = (read_tensors(Path(out, "frames/001.safetensors"))[0] for out in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert first != other and again != other


def test_words_and_prior_files(folder: Path, capsys: Captured, tiny_prior: BuiltinPrior) -> None:
    assert main_guard(cli, ["morph", "words", *QUICK]) == 0
    assert capsys.readouterr().out.split() == ["blue", "car", "house", "red", "tree"]
    opened = open_prior("tiny.safetensors")
    latent = torch.randn(1, 64, 32, generator=torch.Generator().manual_seed(0))
    t, told = torch.tensor([0.3]), tiny_prior.embed("tree")
    from fieldcast.morph.attention import plain

    difference = opened.velocity(latent, t, opened.embed("tree"), plain) - tiny_prior.velocity(latent, t, told, plain)
    assert float(difference.abs().max()) < 1e-2  # it is kept in half precision


MISTAKES = [
    ("frames", ["a.glb", "b.glb", "out", "--frames", "1"], "--frames 1: expected at least 2"),
    ("recipe", ["a.glb", "b.glb", "out", "--recipe", "magic"], "expected one of default, paper"),
    ("what", ["a.glb", "b.glb", "out", "--what", "colour"], "expected one of both, shape, texture"),
    ("there", ["red_car.glb", "ball.glb", "there", *QUICK], "there exists; use --force"),
    ("missing", ["no.glb", "ball.glb", "out", *QUICK], "no.glb: expected a mesh file, found: No such file"),
    ("empty", ["empty.glb", "ball.glb", "out", *QUICK], "empty.glb: expected a mesh, found an empty file"),
    ("broken", ["ball.glb", "broken.glb", "out", *QUICK], "broken.glb"),
    ("flat", ["flat.ply", "ball.glb", "out", *QUICK], "flat.ply: expected a mesh with a surface"),
    ("same", ["ball.glb", "ball.glb", "out", *QUICK], "ball.glb and ball.glb are the same object"),
    ("words", ["red zebra", "ball.glb", "out", *QUICK], "the prior does not know 'zebra'"),
    ("near", ["red hause", "ball.glb", "out", *QUICK], "near it: house"),
    ("caption", ["ball.glb", "red_car.glb", "out", *QUICK, "--caption-b", "dragon"], "does not know 'dragon'"),
    ("no-prior", ["ball.glb", "red_car.glb", "out", "--prior", "none.safetensors"], "none.safetensors: no such file"),
    ("version", ["ball.glb", "red_car.glb", "out", "--prior", "later.safetensors"], "format 2, found 99"),
    ("part", ["ball.glb", "red_car.glb", "out", "--prior", "less.safetensors"], "less.safetensors: not a whole prior"),
    ("other", ["ball.glb", "red_car.glb", "out", "--prior", "other.safetensors"], "expected a prior"),
    ("resume", ["ball.glb", "red_car.glb", "out", *QUICK, "--resume"], "nothing to resume"),
    ("assets", ["train-prior", "there", "out.safetensors"], "index.csv: cannot be read"),
]


@pytest.mark.parametrize(("command", "says"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(folder: Path, capsys: Captured, command: list[str], says: str) -> None:
    before = {p.name for p in folder.rglob("*")}
    assert main_guard(cli, ["morph", *command]) == 2
    out, err = capsys.readouterr()
    assert says in err and len(err.strip().splitlines()) == 1 and not out
    assert {p.name for p in folder.rglob("*")} == before


def test_interrupted_and_resumed(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["morph", "red_car.glb", "ball.glb", "film", *QUICK, "--frames", "3", "--quiet"]

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fieldcast.morph.folder.write_morph", interrupted)
        assert main_guard(cli, command) == 130
    assert not Path("film").exists()
    assert Path(".film.checkpoint.safetensors").exists()
    assert main_guard(cli, [*command, "--resume"]) == 0
    assert Path("film/morph.mp4").exists()
    assert not Path(".film.checkpoint.safetensors").exists()


def models(splits: list[str]) -> None:
    """A folder of four boxes with an index."""
    Path("models").mkdir()
    rows = ["path,category,name,split,core"]
    for i, (name, split) in enumerate(zip(("red_car", "blue_car", "tree_pine", "tree_oak"), splits, strict=True)):
        trimesh.creation.box((1.0 + i, 1.0, 1.0)).export(f"models/{name}.glb")
        rows.append(f"{name}.glb,prop,{name},{split},1")
    Path("models/index.csv").write_text("\n".join(rows) + "\n")


def test_methods_are_measured_and_go_on(folder: Path, capsys: Captured) -> None:
    models(["train", "train", "val", "val"])
    command = ["morph", "eval", "models", "out", *QUICK, "--methods", "grid,latent", "--distances", "3D"]
    command += ["--seeds", "1", "--frames", "4", "--pairs", "models/pairs.csv", "--json"]
    Path("models/pairs.csv").write_text("tree_pine.glb,tree_oak.glb\n")
    assert main_guard(cli, command) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in rows} >= {"inputs", "grid", "latent"}
    (grid,) = (row for row in rows if row["method"] == "grid" and row["pair"])
    assert grid["ends/iou"] > 0.99  # its ends are what was given
    before = Path("out/rows.jsonl").read_text()
    assert "grid" in Path("out/table.md").read_text()
    assert main_guard(cli, command) == 0  # nothing is made again
    assert Path("out/rows.jsonl").read_text() == before
    assert json.loads(capsys.readouterr().out) == rows


def test_training_a_prior_on_a_few_meshes_and_going_on(folder: Path, capsys: Captured) -> None:
    """The whole training, of a few steps, interrupted by its end and continued, gives a prior that opens."""
    models(["train"] * 4)
    command = ["morph", "train-prior", "models", "--steps", "2", "--codec-steps", "2", "--work", "work", "--json"]
    assert main_guard(cli, [*command[:3], "p.safetensors", *command[3:]]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["assets"] == 4 and told["bytes"] < 25e6
    prior = open_prior("p.safetensors")
    assert isinstance(prior, BuiltinPrior)
    assert {"car", "tree", "prop", "red"} <= set(prior.words) and "oak" not in prior.words
    assert main_guard(cli, [*command[:3], "again.safetensors", *command[3:]]) == 0  # all is in `work` already
    a, b = (read_tensors(Path(name))[0] for name in ("p.safetensors", "again.safetensors"))
    assert all(torch.equal(a[name], b[name]) for name in a)
