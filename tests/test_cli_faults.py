"""What people get wrong: each mistake is one line on stderr and the right exit code, and leaves nothing behind."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import fieldcast
from fieldcast.cli import cli
from fieldcast.endings import main_guard, run
from fieldcast.fields import build, default_spec
from fieldcast.fields.files.tensors import read_meta

TINY = {"levels": "2", "log2_table": "6", "finest_resolution": "16", "hidden": "4"}
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a tiny field and things that are no fields."""
    monkeypatch.chdir(tmp_path)
    fieldcast.save(build(default_spec("hashgrid", occupancy=8).resized(TINY)), "good.safetensors")
    voxels = default_spec("voxels", occupancy=8).resized({"resolution": "8", "degree": "0"})
    fieldcast.save(build(voxels), "voxels.safetensors")
    whole = Path("good.safetensors").read_bytes()
    Path("empty.safetensors").touch()
    Path("random.safetensors").write_bytes(bytes(range(256)) * 20)
    Path("short.safetensors").write_bytes(whole[:-1000])
    Path("header.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + whole[8:])
    Path("pickle.safetensors").write_bytes(pickle.dumps(Evil()))
    Path("folder.safetensors").mkdir()
    Path("kept.txt").write_text("kept")
    save_file({"a": torch.zeros(2)}, "foreign.safetensors")
    save_file({"a": torch.zeros(2)}, "notjson.safetensors", {"fieldcast": "{"})
    save_file({"a": torch.zeros(2)}, "list.safetensors", {"fieldcast": "[]"})
    Path("path.json").write_text("{")
    Path("nopath.json").write_text("{}")
    Path("old.html").touch()
    Path("old.png").touch()
    Path("data").mkdir()
    Path("data/kept.txt").touch()
    Path("scene").mkdir()
    Image.new("RGB", (16, 12)).save("scene/a.png")
    scene(json.dumps({"fl_x": 20, "frames": [{"file_path": "a.png", "transform_matrix": torch.eye(4).tolist()}]}))
    return tmp_path


def scene(text: str) -> None:
    """A nerfstudio scene of one picture."""
    Path("scene/transforms.json").write_text(text)


def cut(name: str) -> None:
    Path(name).write_bytes(Path(name).read_bytes()[:40])


def deep(name: str) -> None:
    Path(name).write_text("[" * 100_000)


class Evil:
    """A pickle of this would make a file named `executed`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch executed",))


def altered(meta: Callable[[dict[str, Any]], None] = id, tensors: Callable[[dict[str, Any]], None] = id) -> None:  # type: ignore[assignment]
    """Writes bad.safetensors: the good field with its metadata or its tensors changed."""
    changed, values = read_meta(Path("good.safetensors"))[0], load_file("good.safetensors")
    meta(changed)
    tensors(values)
    save_file(values, "bad.safetensors", {"fieldcast": json.dumps(changed)})


def table(**changes: torch.Tensor) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({k.replace("__", "."): v for k, v in changes.items()})


def size(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda meta: meta["spec"]["sizes"].update({name: value})


def spec(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda meta: meta["spec"].update({name: value})


INFO = ["info", "bad.safetensors"]
VALIDATE = ["validate", "bad.safetensors"]
CONVERT = ["convert", "good.safetensors", "out.safetensors", "--to"]
RENDER = ["render", "good.safetensors"]


def halved(tensors: dict[str, Any]) -> None:
    tensors["encoding.table"] = tensors["encoding.table"].half()


NAN = torch.full((2,), float("nan"))

# What is done first, the command, and a part of what it must say.
FILES: list[tuple[str, Callable[[], None] | None, list[str], str]] = [
    ("missing", None, ["info", "nothing.safetensors"], "no such file"),
    ("folder", None, ["info", "folder.safetensors"], "found a folder"),
    ("suffix", None, ["info", "kept.txt"], "ends in .safetensors"),
    ("empty", None, ["info", "empty.safetensors"], "is empty"),
    ("random", None, ["info", "random.safetensors"], "not a whole safetensors file"),
    ("truncated", None, ["info", "short.safetensors"], "not a whole safetensors file"),
    ("header-lies", None, ["info", "header.safetensors"], "not a whole safetensors file"),
    ("pickle", None, ["validate", "pickle.safetensors"], "not a whole safetensors file"),
    ("foreign", None, ["info", "foreign.safetensors"], "not one of fieldcast's"),
    ("meta-not-json", None, ["info", "notjson.safetensors"], "is not JSON"),
    ("meta-a-list", None, ["info", "list.safetensors"], "expected an object"),
    ("newer-format", lambda: altered(lambda m: m.update(format=2)), INFO, "expected format 1, found 2"),
    ("no-spec", lambda: altered(lambda m: m.pop("spec")), INFO, "spec"),
    ("unknown-kind", lambda: altered(spec("kind", "cubes")), INFO, "choose from mlp, hashgrid"),
    ("kind-a-number", lambda: altered(spec("kind", 3)), INFO, "Expected `str`"),
    ("unknown-spec", lambda: altered(spec("extra", 1)), INFO, "unknown extra"),
    ("unknown-size", lambda: altered(size("depth", 1)), INFO, "unknown depth"),
    ("size-a-text", lambda: altered(size("levels", "two")), INFO, "Expected `int`"),
    ("size-huge", lambda: altered(size("levels", 10**9)), INFO, "<= 32"),
    ("size-negative", lambda: altered(size("hidden", -1)), INFO, ">= 1"),
    ("table-not-there", lambda: altered(size("log2_table", 26)), INFO, "expected"),
    ("box-inside-out", lambda: altered(spec("space", {"aabb": [1, 1, 1, 0, 0, 0]})), INFO, "aabb"),
    ("box-short", lambda: altered(spec("space", {"aabb": [1, 1, 1]})), INFO, "aabb"),
    ("occupancy-odd", lambda: altered(spec("occupancy", 9)), INFO, "multiple"),
    ("tensor-missing", lambda: altered(tensors=lambda t: t.pop("encoding.table")), INFO, "missing encoding.table"),
    ("tensor-extra", lambda: altered(tensors=table(more=torch.zeros(1))), INFO, "unexpected more"),
    ("tensor-shape", lambda: altered(tensors=table(encoding__table=torch.zeros(3, 2))), INFO, "found [3, 2]"),
    ("views-torn", lambda: altered(tensors=table(views__c2w=torch.zeros(1, 3, 4))), VALIDATE, "views"),
    ("nan", lambda: altered(tensors=lambda t: t["encoding.table"][0].copy_(NAN)), VALIDATE, "2 values that are NaN"),
    ("half", lambda: altered(tensors=halved), VALIDATE, "float32"),
    ("out-exists", None, ["convert", "good.safetensors", "voxels.safetensors", "--to", "vm"], "--force"),
    ("out-is-in", None, ["convert", "good.safetensors", "good.safetensors", "--to", "vm"], "--force"),
    ("out-a-folder", None, ["convert", "good.safetensors", "folder.safetensors", "--to", "vm", "-f"], "folder"),
    ("out-no-parent", None, ["convert", "good.safetensors", "no/out.safetensors", "--to", "vm"], "does not exist"),
    ("out-suffix", None, ["convert", "good.safetensors", "out.ply", "--to", "vm"], "ends in .safetensors"),
    ("to-unknown", None, [*CONVERT, "voxel"], "did you mean voxels?"),
    ("recipe", None, [*CONVERT, "vm", "--recipe", "magic"], "choose from fast, pvd, active"),
    ("size-no-value", None, [*CONVERT, "vm", "--size", "resolution"], "NAME=VALUE"),
    ("size-no-name", None, [*CONVERT, "vm", "--size", "depth=2"], "its sizes are resolution"),
    ("size-no-number", None, [*CONVERT, "vm", "--size", "resolution=big"], "resolution"),
    ("size-too-large", None, [*CONVERT, "vm", "--size", "resolution=100000"], "8192"),
    ("report-suffix", None, [*CONVERT, "vm", "--report", "out.pdf"], ".html or .png"),
    ("report-exists", None, [*CONVERT, "vm", "--report", "folder.safetensors"], ".html or .png"),
    ("resume-nothing", None, [*CONVERT, "vm", "--resume"], "nothing to resume"),
    ("two-ends", None, [*CONVERT, "vm", "--steps", "5", "--budget", "9"], "give one of them"),
    ("target-nan", None, [*CONVERT, "vm", "--target-db", "nan"], "--target-db nan: expected 1 to 100"),
    ("budget-nan", None, [*CONVERT, "vm", "--budget", "nan"], "--budget nan: expected at least 1"),
    ("mesh-budget", None, ["convert", "good.safetensors", "out.glb", "--to", "mesh", "--budget", "9"], "--budget"),
    ("splats-budget", None, ["convert", "good.safetensors", "o.ply", "--to", "splats", "--budget", "9"], "--budget"),
    ("device", None, [*CONVERT, "vm", "--device", "banana"], "expected auto, cpu or cuda"),
    ("device-number", None, [*CONVERT, "vm", "--device", "cpu:banana"], "expected auto, cpu or cuda"),
    ("size-list", None, [*CONVERT, "planes", "--size", "resolutions=64,,128"], "sizes of planes"),
    ("size-of-another", None, [*CONVERT, "vm", "--size", "levels=2"], "vm has no size 'levels'"),
    ("convert-missing", None, ["convert", "no.safetensors", "out.safetensors", "--to", "vm"], "no such file"),
    ("report-no-parent", None, [*CONVERT, "vm", "--report", "no/out.html"], "does not exist"),
    ("report-is-there", None, [*CONVERT, "vm", "--report", "old.html"], "--force"),
    ("compare-missing", None, ["compare", "good.safetensors", "no.safetensors"], "no such file"),
    ("compare-report", None, ["compare", "good.safetensors", "good.safetensors", "--report", "r.txt"], ".html or .png"),
    ("render-missing", None, ["render", "no.safetensors", "out.png"], "no such file"),
    ("render-exists", None, [*RENDER, "old.png"], "--force"),
    ("render-no-parent", None, [*RENDER, "no/out.mp4"], "does not exist"),
    ("picture-unicode", None, [*RENDER, "out.png", "--size", "²x²"], "WIDTHxHEIGHT"),
    ("picture-endless", None, [*RENDER, "out.png", "--size", "9" * 5000 + "x1"], "WIDTHxHEIGHT"),
    ("path-deep", lambda: deep("deep.json"), [*RENDER, "out.png", "--path", "deep.json"], "not a JSON file"),
    ("eval-out", None, ["eval", "good.safetensors", "data", "--out", "out.jpg"], "ends in .png"),
    ("eval-missing", None, ["eval", "no.safetensors", "data"], "no such file"),
    ("eval-data", None, ["eval", "good.safetensors", "nowhere"], "nowhere"),
    ("validate-missing", None, ["validate", "no.safetensors"], "no such file"),
    ("validate-nothing", None, ["validate", "nowhere"], "nowhere"),
    ("fit-suffix", None, ["fit", "demo", "out.ckpt"], "ends in .safetensors"),
    ("fit-device", None, ["fit", "demo", "out.safetensors", "--device", "tpu"], "expected auto, cpu or cuda"),
    ("fit-size", None, ["fit", "scene", "out.safetensors", "--size", "levels"], "NAME=VALUE"),
    ("fit-resume", None, ["fit", "scene", "out.safetensors", "--resume"], "nothing to resume"),
    ("data-no-frames", lambda: scene('{"frames": []}'), ["fit", "scene", "out.safetensors"], "at least one frame"),
    ("data-not-json", lambda: scene("{"), ["validate", "scene"], "expected JSON"),
    ("data-no-image", lambda: Path("scene/a.png").unlink(), ["fit", "scene", "out.safetensors"], "a.png"),
    ("data-torn-image", lambda: cut("scene/a.png"), ["fit", "scene", "out.safetensors"], "a.png"),
    ("data-split", None, ["eval", "good.safetensors", "scene", "--split", "banana"], "train, val, test"),
    ("demo-not-empty", None, ["demo", "--out", "data"], "not empty"),
    ("long-name", None, [*CONVERT[:2], "x" * 300 + ".safetensors", "--to", "vm"], "File name too long"),
    ("picture-size", None, [*RENDER, "out.png", "--size", "big"], "WIDTHxHEIGHT"),
    ("picture-huge", None, [*RENDER, "out.png", "--size", "99999x1"], "16384"),
    ("picture-suffix", None, [*RENDER, "out.jpeg2"], ".png, .mp4 or .gif"),
    ("frame", None, [*RENDER, "out.png", "--frame", "60"], "60 frames"),
    ("path-unknown", None, [*RENDER, "out.png", "--path", "circle"], "turntable, views or a .json"),
    ("path-views", None, [*RENDER, "out.png", "--path", "views"], "does not know the views"),
    ("path-missing", None, [*RENDER, "out.png", "--path", "no.json"], "no such file"),
    ("path-broken", None, [*RENDER, "out.png", "--path", "path.json"], "not a JSON file"),
    ("path-empty", None, [*RENDER, "out.png", "--path", "nopath.json"], "camera_path"),
    ("data-missing", None, ["fit", "nowhere", "out.safetensors"], "nowhere"),
    ("data-empty", None, ["fit", "data", "out.safetensors"], "data"),
    ("data-a-text", None, ["fit", "kept.txt", "out.safetensors"], "kept.txt"),
    ("fit-kind", None, ["fit", "demo", "out.safetensors", "--kind", "gaussian"], "choose from"),
    ("split", None, ["eval", "good.safetensors", "demo", "--split", "some"], "train, val, test"),
    ("demo-folder", None, ["demo", "--out", "kept.txt"], "expected a folder"),
]  # fmt: skip


def listing(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


@pytest.mark.parametrize(("prepare", "command", "says"), [f[1:] for f in FILES], ids=[f[0] for f in FILES])
def test_a_mistake_is_one_line_and_exit_code_2(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[], None] | None,
    command: list[str],
    says: str,
) -> None:
    if prepare:
        prepare()
    before = listing(folder)
    code = main_guard(cli, command)
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert code == 2, err
    assert lines[-1].startswith("fieldcast: ")
    assert says in lines[-1]
    assert len(lines) == 1, err
    assert out == ""
    assert listing(folder) == before
    assert "executed" not in before


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["convert", "good.safetensors", "out.safetensors"], "--to"),
        (["convert", "good.safetensors"], "OUT"),
        ([*CONVERT, "vm", "--views", "0"], "--views"),
        ([*CONVERT, "vm", "--steps", "-5"], "--steps"),
        ([*CONVERT, "vm", "--sed", "1"], "--seed"),
        (["konvert"], "konvert"),
        (["render", "good.safetensors", "out.mp4", "--fps", "nan"], "--fps"),
        (["render", "good.safetensors", "out.mp4", "--frames", "0"], "--frames"),
        (["render", "good.safetensors", "out.png", "--frame", "-1"], "--frame"),
        (["fit", "scene", "out.safetensors", "--downscale", "0"], "--downscale"),
        (["fit", "scene", "out.safetensors", "--steps", "many"], "--steps"),
        (["fit", "scene", "out.safetensors", "--seed", "-1"], "--seed"),
        (["compare", "good.safetensors"], "Missing argument"),
        (["info"], "Missing argument"),
    ],
)
def test_wrong_usage_is_clicks_own_text_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], says: str
) -> None:
    before = listing(folder)
    assert main_guard(cli, command) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err
    assert listing(folder) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="says that there is no CUDA device")
def test_a_device_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_guard(cli, [*CONVERT, "vm", "--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_block_rows_out_of_range(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta, tensors = read_meta(Path("voxels.safetensors"))[0], load_file("voxels.safetensors")
    tensors["block_table"][0, 0, 0] = 7
    save_file(tensors, "bad.safetensors", {"fieldcast": json.dumps(meta)})
    assert main_guard(cli, VALIDATE) == 2
    assert "block_table" in capsys.readouterr().err


SMALL = [f"--size={k}={v}" for k, v in TINY.items()]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        # What safetensors really raises.
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["system", "safetensors"],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("fieldcast.fields.files.tensors.save_file", full)
    before = listing(folder)
    assert main_guard(cli, [*CONVERT, "hashgrid", *SMALL, "--steps", "1", "-q"]) == 1
    err = capsys.readouterr().err
    assert err == "fieldcast: disk full while writing out.safetensors\n"
    assert listing(folder) == before


def test_a_folder_that_may_not_be_written_to(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shut").mkdir(mode=0o500)
    if os.access("shut", os.W_OK):
        pytest.skip("this user may write anywhere")
    assert main_guard(cli, ["convert", "good.safetensors", "shut/out.safetensors", "--to", "vm"]) == 2
    assert "no permission to write in the folder shut" in capsys.readouterr().err


def test_a_file_that_may_not_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("good.safetensors").chmod(0)
    if os.access("good.safetensors", os.R_OK):
        pytest.skip("this user may read anything")
    assert main_guard(cli, ["info", "good.safetensors"]) == 2
    assert "good.safetensors" in capsys.readouterr().err


def test_a_loss_that_diverges_is_exit_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listing(folder)
    monkeypatch.setattr("fieldcast.distill.fast.LOG_DENSITY_WEIGHT", float("nan"))
    assert main_guard(cli, [*CONVERT, "hashgrid", *SMALL, "--steps", "20", "-q"]) == 1
    err = capsys.readouterr().err
    assert err == "fieldcast: hashgrid to hashgrid: the loss became nan at step 1 of 20; try another --seed\n"
    assert listing(folder) == before


def test_an_empty_field_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    field = fieldcast.open("good.safetensors")
    field.occupancy_bits.zero_()
    fieldcast.save(field, "hollow.safetensors")
    assert main_guard(cli, ["convert", "hollow.safetensors", "out.safetensors", "--to", "vm"]) == 1
    assert capsys.readouterr().err.startswith("fieldcast: the field is empty")
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize(("number", "text"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM")])
def test_an_interruption_that_was_lost_is_what_an_error_is_of(
    capsys: pytest.CaptureFixture[str], number: signal.Signals, text: str
) -> None:
    """Compilers call back into Python, where exceptions are lost, and then have nothing to give."""

    def work() -> int:
        try:
            signal.raise_signal(number)
        except BaseException:
            raise RuntimeError("no compiled object yet") from None
        return 0

    assert run(work) == 128 + number
    assert capsys.readouterr().err == f"fieldcast: {text}\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupted_process_does_not_wait_for_its_threads() -> None:
    """A thread that compiles waits for ever for a lock which was held when the interruption came."""
    script = (
        "import threading\nfrom fieldcast import cli\nfrom fieldcast.fields.kernels import compiled\n"
        "def interrupted(**_):\n    compiled._pool(2).submit(threading.Event().wait)\n    raise KeyboardInterrupt\n"
        "cli.cli.main = interrupted\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and done.stderr == "fieldcast: interrupted\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_conversion_leaves_no_output(folder: Path, number: signal.Signals, code: int) -> None:
    before = listing(folder)
    command = [sys.executable, "-m", "fieldcast.cli", *CONVERT, "vm", "--size", "resolution=16", "--steps", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()  # the first line of progress: it is at work
    time.sleep(0.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert listing(folder) - before <= {".out.checkpoint.safetensors"}
