"""What is shipped, what is public, and how quickly it starts."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import fieldcast
from fieldcast.fields import KINDS, FieldSpec
from fieldcast.fields.files import Provenance
from fieldcast.fields.kernels.gpu import has_triton
from fieldcast.fields.kinds import MADE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
NOT_SHIPPED = ("tests", "benchmarks", "docs", "examples", "build", "dist", "demo-out", "out", "*.egg-info", ".*")


def rooms() -> list[Path]:
    """The folders at the top level that are packages."""
    return sorted(path.parent for path in ROOT.glob("*/__init__.py"))


def shipped_files() -> set[str]:
    """Every file that belongs in the wheel, by its name there."""
    files = [path for room in rooms() for path in room.rglob("*") if path.suffix == ".py" or path.name == "py.typed"]
    for package, patterns in SETUPTOOLS["package-data"].items():
        if package != "*":
            folder = ROOT / package.removeprefix("fieldcast.").replace(".", "/")
            files += [path for pattern in patterns for path in folder.glob(pattern)]
    return {f"fieldcast/{path.relative_to(ROOT).as_posix()}" for path in [*files, *ROOT.glob("*.py")]}


def modules() -> list[str]:
    """The names of all modules that can be imported here: not everybody has Triton or nerfstudio."""
    names = list(SETUPTOOLS["py-modules"])
    for room in rooms():
        package = importlib.import_module(f"fieldcast.{room.name}")
        names += [package.__name__, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))]
    if not has_triton():
        names = [name for name in names if not name.startswith("fieldcast.fields.kernels.gpu.")]
    if find_spec("nerfstudio") is None:
        names = [name for name in names if not name.startswith("fieldcast.plugin.") or name.endswith(".entry")]
    return ["fieldcast" if name == "fieldcast.__init__" else name for name in names]


def test_every_folder_that_is_a_package_is_listed() -> None:
    found = {path.parent.relative_to(ROOT).as_posix() for room in rooms() for path in room.rglob("__init__.py")}
    assert {f"fieldcast.{name.replace('/', '.')}" for name in found} == set(SETUPTOOLS["packages"])


def test_every_module_at_the_top_level_is_listed() -> None:
    assert {f"fieldcast.{path.stem}" for path in ROOT.glob("*.py")} == set(SETUPTOOLS["py-modules"])


def test_every_package_is_marked_as_typed() -> None:
    folders = [ROOT / name.removeprefix("fieldcast.").replace(".", "/") for name in SETUPTOOLS["packages"]]
    assert [folder.name for folder in folders if not (folder / "py.typed").exists()] == []


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SHIPPED, "__pycache__"))
    (source / "stray.py").write_text("")  # what lies about at the top level stays there
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == shipped_files()


def test_one_version() -> None:
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert PROJECT["project"]["version"] == fieldcast.__version__ == cited[1]


def test_public_names_are_those_written_down() -> None:
    """After a change that is meant, CONTRIBUTING.md has the line that writes the file anew."""
    written = json.loads((ROOT / "tests" / "public_api.json").read_text())
    assert written == {name: sorted(importlib.import_module(name).__all__) for name in written}
    for name in written:
        for public in written[name]:
            assert getattr(importlib.import_module(name), public) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fieldcast' has no attribute 'nonsense'"):
        _ = fieldcast.nonsense
    assert set(dir(fieldcast)) == set(fieldcast.__all__)


def test_no_module_is_loaded_under_two_names() -> None:
    """`import fields` works by accident in the checkout, and makes a second class of everything."""
    for name in modules():
        importlib.import_module(name)
    names = defaultdict(set)
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "unknown").resolve()
        if any(room in file.parents for room in rooms()):
            names[file].add(name)
    assert [loaded for loaded in names.values() if len(loaded) > 1] == []


def test_doctests() -> None:
    """In a process of its own: the run-time type checks of the other tests would hide the examples of functions."""
    script = """
import doctest, importlib, json, sys
results = {name: doctest.testmod(importlib.import_module(name)) for name in sys.argv[1:]}
print("\\n" + json.dumps({name: [r.failed, r.attempted] for name, r in results.items()}))
"""
    command = [sys.executable, "-W", "error", "-c", script, *modules()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert [name for name, (failed, _) in results.items() if failed] == [], done.stdout
    assert results["fieldcast.fields.metrics"][1] > 0


def run_help(after: str = "") -> tuple[str, float]:
    """What `fieldcast --help` prints and then Python code `after`, and the CPU seconds that it takes."""
    script = "import sys; sys.argv = ['fieldcast', '--help']; from fieldcast.cli import main\n"
    script += f"try: code = main()\nexcept SystemExit as e: code = e.code\nassert not code, code\n{after}"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    spent = os.times()
    return done.stdout, spent.children_user + spent.children_system - before.children_user - before.children_system


def test_help_is_quick() -> None:
    assert min(run_help()[1] for _ in range(3)) < 0.5


def test_help_imports_nothing_heavy() -> None:
    out, _ = run_help("print('HEAVY', *sorted({'torch', 'numpy', 'rich', 'numba', 'PIL'} & set(sys.modules)))")
    assert out.startswith("Usage: fieldcast ")
    assert out.endswith("HEAVY\n")


def test_the_native_file_is_documented() -> None:
    text = (ROOT / "docs" / "files.md").read_text()
    named = set(re.findall(r"`([a-z_0-9]+)`", text))
    expected = {*KINDS, *MADE, *(f.name for cls in (FieldSpec, Provenance) for f in dataclasses.fields(cls))}
    assert expected - named == set()
