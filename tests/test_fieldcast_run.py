"""Runs of our methods of nerfstudio, as far as that takes no nerfstudio: written, read, damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

import fieldcast
from fieldcast.cli import cli
from fieldcast.errors import InputError
from fieldcast.fields import Field, Occupancy, build, default_spec
from fieldcast.fields.files import describe, write_run
from fieldcast.fields.files.atomic import atomic_folder
from fieldcast.fields.paths import turntable


@pytest.fixture
def field() -> Field:
    spec = default_spec("vm", occupancy=16, steps=64).resized({"resolution": 8, "hidden": 8})
    cells = torch.zeros((16,) * 3, dtype=torch.bool)
    cells[4:9, 4:9, 4:9] = True
    made = build(spec, seed=0)
    made.occupancy, made.views = Occupancy.of_cells(cells), turntable(made, 3, (16, 12))
    return made


@pytest.fixture
def run(field: Field, tmp_path: Path) -> Path:
    write_run(field, tmp_path / "run")
    return tmp_path / "run"


def checkpoint(run: Path) -> Path:
    return run / "nerfstudio_models" / "step-000000000.ckpt"


@pytest.mark.parametrize("part", ["", "config.yml", "nerfstudio_models/step-000000000.ckpt"])
def test_it_opens_as_the_very_field(run: Path, field: Field, part: str) -> None:
    back = fieldcast.open(run / part)
    assert isinstance(back, Field)
    assert back.spec == field.spec and back.views is not None and field.views is not None
    tensors = back.state_dict()
    assert all(torch.equal(value, tensors[name]) for name, value in field.state_dict().items())
    assert torch.equal(back.views.c2w, field.views.c2w) and torch.equal(back.views.size, field.views.size)
    assert all(parameter.requires_grad for parameter in back.parameters())
    assert describe(run)["kind"] == "vm"


def test_its_settings_name_a_function_and_the_folder(run: Path) -> None:
    """Whoever has the plug-in makes the settings of it; the text itself has no objects of nerfstudio's."""
    text = (run / "config.yml").read_text()
    (node,) = yaml.compose_all(text)
    assert node.tag == "tag:yaml.org,2002:python/object/apply:fieldcast.plugin.runs.run_config"
    settings = yaml.safe_load(text.split("\n", 2)[2])["kwds"]
    assert settings["kind"] == "vm" and settings["sizes"]["resolution"] == 8 and settings["run"] == str(run)


def test_the_command(field: Field, tmp_path: Path) -> None:
    source, out = tmp_path / "a.safetensors", tmp_path / "run"
    fieldcast.save(field, source)

    def convert(*options: str) -> Any:
        return CliRunner().invoke(cli, ["convert", str(source), str(out), "--to", "nerfstudio", *options])

    done = convert("--json")
    assert done.exit_code == 0 and '"kind": "vm"' in done.stdout
    assert "exists; use --force" in str(convert().exception)
    assert convert("--force").exit_code == 0
    assert "written as it is" in str(convert("--force", "--size", "resolution=4").exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "run"]


def test_no_other_folder_is_replaced(field: Field, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match="expected the folder of a nerfstudio run to replace"):
        write_run(field, tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(RuntimeError), atomic_folder(target) as stump:
        (stump / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for text in "first", "second":
        with atomic_folder(target, force=True) as stump:
            (stump / text).write_text(text)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "second"]
    with pytest.raises(RuntimeError), atomic_folder(target, force=True):
        raise RuntimeError
    assert (target / "second").read_text() == "second"


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    r"missing basis\.weight": lambda s: s.pop("_model.field.basis.weight"),
    r"unexpected _model\.stray": lambda s: s.update({"_model.stray": torch.zeros(1)}),
    "unexpected stray": lambda s: s.update({"_model.field.stray": torch.zeros(1)}),
    r"unexpected datamanager\.x": lambda s: s.update({"datamanager.x": torch.zeros(1)}),
    r"basis\.weight: expected finite numbers": lambda s: s["_model.field.basis.weight"].fill_(torch.nan),
    r"basis\.weight: expected torch\.float32": lambda s: s.update(
        {"_model.field.basis.weight": s["_model.field.basis.weight"].double()}
    ),
    r"density_vm\.planes: expected \[3, 8, 8, 16\] by the spec": lambda s: s.update(
        {"_model.field.density_vm.planes": torch.zeros(3, 8, 9, 16)}
    ),
    r"expected all of views\.c2w": lambda s: s.pop("_model.views.size"),
    r"views\.size: expected I64": lambda s: s.update({"_model.views.size": s["_model.views.size"].float()}),
    r"_model\.spec: expected JSON": lambda s: s.update({"_model.spec": torch.zeros(4, dtype=torch.uint8)}),
    r"_model\.spec: expected text": lambda s: s.update({"_model.spec": torch.zeros(4)}),
    r"spec: .*sizes": lambda s: s.update({"_model.spec": bytes_of('{"kind": "vm"}')}),
    r"unknown kind 'tree'": lambda s: s.update({"_model.spec": bytes_of('{"kind": "tree", "sizes": {}}')}),
    r"occupancy_bits: expected \[262144\] by the spec": lambda s: s.update(
        {"_model.spec": bytes_of('{"kind": "vm", "sizes": {"resolution": 2048}}')}
    ),
}


def bytes_of(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


@pytest.mark.parametrize("line", DAMAGES)
def test_what_is_damaged_is_one_line(run: Path, line: str) -> None:
    path = checkpoint(run)
    found = torch.load(path, weights_only=True)  # noqa: TID251
    DAMAGES[line](found["pipeline"])
    torch.save(found, path)
    with pytest.raises(InputError, match=line) as caught:
        fieldcast.open(run)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_cut_off_is_one_line(run: Path) -> None:
    path = checkpoint(run)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        fieldcast.open(run)
