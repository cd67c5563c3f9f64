"""Each command does its work on small inputs: data on stdout, talk on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import fieldcast
from fieldcast.cli import cli
from fieldcast.console import main_guard
from fieldcast.fields import build, default_spec

TINY = {"levels": "2", "log2_table": "6", "finest_resolution": "16", "hidden": "4"}


@pytest.fixture
def field_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    fieldcast.save(build(default_spec("hashgrid", occupancy=8, steps=32).resized(TINY)), "a.safetensors")
    return "a.safetensors"


def told(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    """The JSON that a command printed, and nothing else on stdout."""
    assert main_guard(cli, [*command, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    facts: dict[str, Any] = json.loads(out)
    return facts


def test_info(field_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = told(capsys, "info", field_file)
    field = fieldcast.open(field_file)
    assert facts["kind"] == "hashgrid"
    assert facts["parameters"] == sum(p.numel() for p in field.parameters())
    assert facts["bytes"] == Path(field_file).stat().st_size
    assert facts["spec"]["sizes"]["levels"] == 2


def test_validate_and_doctor(field_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "validate", field_file)["valid"] is True
    assert told(capsys, "doctor")["torch"] == torch.__version__


def test_compare_with_itself(field_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = told(capsys, "compare", field_file, field_file, "--views", "1")
    assert facts["psnr"] == 100
    assert facts["ssim"] == pytest.approx(1)


def test_convert_reports_and_remembers(field_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["convert", field_file, "b.safetensors", "--to", "cp", "--size", "resolution=8", "--size"]
    facts = told(capsys, *command, "appearance_channels=4", "--steps", "2", "--views", "1", "--report", "b.html")
    assert {"psnr", "ssim", "depth_error"} <= set(facts["fidelity"])
    assert facts["teacher"]["parameters"] == fieldcast.open(field_file).parameter_count()
    assert facts["student"]["parameters"] == fieldcast.open("b.safetensors").parameter_count()
    assert facts["seconds"] > 0
    assert "://" not in Path("b.html").read_text()  # needs nothing from anywhere
    origin = told(capsys, "info", "b.safetensors")["provenance"]
    assert origin["source"] == field_file
    assert len(origin["parents"]) == 1


def test_render(field_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_guard(cli, ["render", field_file, "a.png", "--size", "20x12", "-q"]) == 0
    assert main_guard(cli, ["render", field_file, "a.gif", "--size", "20x12", "--frames", "3", "-q"]) == 0
    with Image.open("a.png") as picture, Image.open("a.gif") as film:
        assert picture.size == film.size == (20, 12)
        assert film.n_frames == 3  # type: ignore[attr-defined]
    assert capsys.readouterr() == ("", "")


def test_fit_and_eval(field_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [f"--size={k}={v}" for k, v in TINY.items()]
    fitted = told(capsys, "fit", "demo", "c.safetensors", "--downscale", "8", "--steps", "3", *sizes)
    assert fitted["parameters"] == fieldcast.open("c.safetensors").parameter_count()
    seen = told(capsys, "eval", "c.safetensors", "demo", "--downscale", "8", "--split", "val", "--out", "c.png")
    assert seen["views"] == 10
    assert 0 < seen["psnr"] < 100
    assert Path("c.png").exists()
