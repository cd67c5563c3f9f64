"""Whatever is wrong with a scene file, it opens or gives one line: good files, changed at random places."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from fieldcast.errors import InputError
from fieldcast.fields.scenes import mesh, open_scene

ODD: list[Any] = [None, True, -1, 0, 3, 2.5, 1e300, 10**400, "", "x", "\x00", [], {}, [1], [[]], {"a": 1}, "../x"]


@pytest.fixture(autouse=True)
def few_small_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "SIZE", 16)
    monkeypatch.setattr(mesh, "VIEWS", {"train": 1})


def opens_or_says_why(path: Path) -> bool:
    try:
        open_scene(path)
    except InputError as error:
        assert "\n" not in str(error)
        return False
    return True


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every member of every object and list inside of `value`, as (container, key)."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def capture(folder: Path) -> Path:
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    pose = [[1, 0, 0, 0], [0, 0, -1, -4], [0, 1, 0, 0], [0, 0, 0, 1]]
    frame = {"file_path": "a.png", "transform_matrix": pose, "k1": 0.1}
    document = {"fl_x": 4, "w": 4, "h": 4, "camera_model": "OPENCV", "frames": [frame], "train_filenames": ["a.png"]}
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder / "transforms.json"


def textured_gltf(folder: Path) -> Path:
    ball = trimesh.creation.icosphere(subdivisions=1)
    image = Image.new("RGB", (4, 4), "red")
    ball.visual = trimesh.visual.TextureVisuals(uv=np.zeros((len(ball.vertices), 2)), image=image)
    for name, data in ball.export(file_type="gltf").items():
        (folder / name).write_bytes(data)
    return folder / "model.gltf"


@pytest.mark.parametrize("build", [capture, textured_gltf])
def test_any_change_of_the_json(tmp_path: Path, build: Any) -> None:
    file, draw = build(tmp_path), random.Random(0)
    document = json.loads(file.read_text())
    assert opens_or_says_why(file)
    opened = 0
    for _ in range(300):
        changed = copy.deepcopy(document)
        for container, key in draw.sample(places(changed), 2):
            container[key] = draw.choice(ODD)
        file.write_text(json.dumps(changed))
        opened += opens_or_says_why(file)
    assert 0 < opened < 300, "changes of both kinds were tried"


@pytest.mark.parametrize("suffix", ["glb", "ply", "stl", "off", "obj"])
def test_any_change_of_the_bytes(tmp_path: Path, suffix: str) -> None:
    file, draw = tmp_path / f"ball.{suffix}", random.Random(0)
    trimesh.creation.icosphere(subdivisions=1).export(file)
    data = file.read_bytes()
    assert opens_or_says_why(file)
    for _ in range(60):
        changed = bytearray(data[: draw.choice([len(data), draw.randrange(len(data))])])
        for _ in range(min(3, len(changed))):
            changed[draw.randrange(min(len(changed), 400))] = draw.choice([0, 255, 32, 45, 48, 57])
        file.write_bytes(changed)
        opens_or_says_why(file)
