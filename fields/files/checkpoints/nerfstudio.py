"""Run folders of nerfstudio: `config.yml`, and the checkpoint that is beside it. Nothing in either is run.

nerfstudio writes its settings as YAML that makes Python objects when it is read as nerfstudio reads it. Here they are
mappings, lists, numbers and text, whatever they claim to be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fieldcast.errors import InputError

CONFIG, MODELS = "config.yml", "nerfstudio_models"
LARGEST = 1 << 18  # bytes; nerfstudio writes about ten thousand


class _PlainLoader(yaml.SafeLoader):
    """Data alone: objects become the mapping of what they hold, names their text, calls the list of their arguments."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Mappings are not merged: a few lines could stand for more than the memory holds."""


def _plain(loader: _PlainLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)  # type: ignore[arg-type]


def _name(_: _PlainLoader, suffix: str, __: yaml.Node) -> str:
    return suffix


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/name:", _name)  # the first that fits is taken
_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def read_config(path: Path) -> dict[str, Any]:
    """A run's `config.yml` as plain data: paths are lists of their parts. Raises InputError for what is none."""
    loaded = plain_yaml(path)
    if not isinstance(loaded, dict) or not isinstance(loaded.get("pipeline"), dict):
        raise InputError(f"{path}: expected the config.yml of a nerfstudio run, which has a pipeline")
    return loaded


def plain_yaml(path: Path) -> Any:
    """The settings in a small file, whatever run it is of: mappings, lists, numbers and text. Raises InputError."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: expected the settings of a run, found {path.stat().st_size:,} bytes")
        return yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not the settings of a run ({reason:.120})") from None


def model_settings(path: Path) -> dict[str, Any]:
    """The settings of a checkpoint's model, from the `config.yml` of its run. Raises InputError if there is none."""
    model = pipeline_settings(path).get("model")
    if not isinstance(model, dict):
        raise InputError(f"{path}: the {CONFIG} of its run: pipeline: expected the settings of a model")
    return model


def pipeline_settings(path: Path) -> dict[str, Any]:
    """The settings of the model and of its data: from the `config.yml` of a checkpoint's run, in its folder or above.

    Raises InputError if there is none: some of what a model computes is written there alone.
    """
    for folder in (path.parent, path.parent.parent):
        if (folder / CONFIG).is_file():
            pipeline: dict[str, Any] = read_config(folder / CONFIG)["pipeline"]
            return pipeline
    raise InputError(
        f"{path}: needs the {CONFIG} of its run, in its folder or in the one above: not all that a model computes is "
        "in a checkpoint"
    )


def newest_checkpoint(config: Path) -> Path:
    """The checkpoint of the most steps in a run. config: its `config.yml`, or its folder."""
    folder = config if config.is_dir() else config.parent
    steps = sorted((folder / MODELS).glob("step-*.ckpt"))
    if not steps:
        raise InputError(f"{folder}: expected a nerfstudio run with {MODELS}/step-*.ckpt in it, found none")
    return steps[-1]
