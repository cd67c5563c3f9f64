"""Runs that `fieldcast convert --to nerfstudio` wrote: their settings, and their pictures, which are rendered."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nerfstudio.engine.trainer import TrainerConfig

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.nerfstudio import CONFIG
from fieldcast.fields.kinds import kind_class
from fieldcast.fields.spec import read
from fieldcast.plugin.data import FieldDataManagerConfig
from fieldcast.plugin.methods import method
from fieldcast.plugin.model import FieldModelConfig
from fieldcast.plugin.renders import RendersConfig


@dataclass
class RunConfig(TrainerConfig):
    """Settings of a run that is in one folder, wherever the command is that opens it."""

    run: Path = Path()
    """The folder."""

    def get_base_dir(self) -> Path:
        return self.run


def run_config(kind: str, sizes: dict[str, Any], run: str) -> RunConfig:
    """What the `config.yml` of such a run stands for."""
    folder = Path(run)
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no such run; where a run's folder was moved to is said in its {CONFIG}, at `run`")
    base = method(kind).config
    config = RunConfig(**{f.name: deepcopy(getattr(base, f.name)) for f in fields(base)}, run=folder)
    data = folder / CONFIG
    config.pipeline.datamanager = FieldDataManagerConfig(data=data, dataparser=RendersConfig(data=data))
    config.pipeline.model = FieldModelConfig(kind=kind, sizes=read(kind_class(kind).Sizes, sizes, f"{folder}: sizes"))
    config.output_dir, config.experiment_name, config.timestamp = folder.parent, folder.name, "converted"
    return config
