"""Run folders of nerfstudio: their settings are read as plain data, whatever they claim to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.nerfstudio import model_settings, newest_checkpoint, read_config

CONFIG = """\
!!python/object:nerfstudio.engine.trainer.TrainerConfig
_target: &id001 !!python/name:nerfstudio.engine.trainer.Trainer ''
data: &id002 !!python/object/apply:pathlib.PosixPath
- data
- lego
logging: !!python/object:nerfstudio.configs.base_config.LoggingConfig
  max_log_size: 10
pipeline: !!python/object:nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig
  datamanager: {data: *id002}
  model: !!python/object:nerfstudio.models.nerfacto.NerfactoModelConfig
    _target: *id001
    average_init_density: 0.01
    proposal_net_args_list:
    - {hidden_dim: 16, use_linear: false}
    near_far: !!python/tuple
    - 0.05
    - 1000.0
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yml"
    path.write_text(text)
    return path


def test_settings_are_plain(tmp_path: Path) -> None:
    found = read_config(written(tmp_path, CONFIG))
    assert found["data"] == ["data", "lego"] and found["pipeline"]["datamanager"]["data"] == ["data", "lego"]
    assert found["_target"] == "nerfstudio.engine.trainer.Trainer"
    model = model_settings(tmp_path / "nerfstudio_models" / "step-000000010.ckpt")
    assert model == model_settings(tmp_path / "copied.ckpt") == found["pipeline"]["model"]
    assert model["average_init_density"] == 0.01 and model["near_far"] == [0.05, 1000.0]
    assert model["proposal_net_args_list"] == [{"hidden_dim": 16, "use_linear": False}]


@pytest.mark.parametrize(
    "text",
    [
        "pipeline: !!python/object/apply:os.system ['touch executed']\n",
        "pipeline: !!python/object/new:os.system ['touch executed']\n",
        "pipeline: {model: !!python/object/apply:subprocess.Popen [[touch, executed]]}\n",
        "? !!python/object/apply:os.system ['touch executed']\n: 1\n",
        "pipeline: !!python/module:antigravity ''\n",
    ],
)
def test_no_code_is_run(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        model_settings(written(tmp_path, text).with_name("a.ckpt"))
    assert not (tmp_path / "executed").exists()


LAUGHS = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name}\n  <<: [{', '.join(f'*{before}' for _ in range(9))}]\n"
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    "text",
    ["", "a: [", "- 1\n", "pipeline: 3\n", "a: " + "[" * 5000, LAUGHS, "pipeline: {}\n" + "#" * (1 << 18), "\x00\x01"],
)
def test_what_is_no_config_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_config(written(tmp_path, text))
    assert "config.yml" in str(caught.value) and "\n" not in str(caught.value)


def test_the_newest_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a nerfstudio run with nerfstudio_models/step-\*\.ckpt"):
        newest_checkpoint(written(tmp_path, CONFIG))
    (tmp_path / "nerfstudio_models").mkdir()
    for steps in (0, 29999, 2000):
        (tmp_path / "nerfstudio_models" / f"step-{steps:09d}.ckpt").touch()
    wanted = tmp_path / "nerfstudio_models" / "step-000029999.ckpt"
    assert newest_checkpoint(tmp_path) == newest_checkpoint(tmp_path / "config.yml") == wanted


def test_settings_that_are_absent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs the config\.yml of its run"):
        model_settings(tmp_path / "a.ckpt")
