"""Runs of our own methods of nerfstudio. What rebuilds a field is in the checkpoint: reading takes no `config.yml`.

Beside the field's tensors and those of its views, all under `_model.`, lies `spec`: its JSON as bytes. `state_of` and
`field_of_state` are all that there is to the format; the methods themselves save and load by them.

A run that is written here was never trained: its `config.yml` names a function of the plug-in (`plugin/runs.py`) that
makes its settings, so that nerfstudio need not be installed where it is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.atomic import atomic_folder, check_folder_writable
from fieldcast.fields.files.checkpoints.named import tensors_of
from fieldcast.fields.files.checkpoints.nerfstudio import CONFIG, MODELS
from fieldcast.fields.files.native import VIEWS, check_shapes, check_views, field_of_tensors, tensors_of_field
from fieldcast.fields.kinds import KINDS, spec_from_json
from fieldcast.fields.spec import FieldSpec

MODEL, FIELD, SPEC = "_model.", "field.", "spec"
MARKER = "device_indicator_param"  # of nerfstudio's models; holds nothing
MAKER = "fieldcast.plugin.runs.run_config"
LARGEST = 1 << 16  # bytes of JSON
TYPES = {torch.float32: "F32", torch.int64: "I64"}


def holds_run(found: Any) -> bool:
    """Whether what a checkpoint holds looks like a field of ours."""
    return isinstance(found, dict) and isinstance(found.get("pipeline"), dict) and MODEL + SPEC in found["pipeline"]


def read_run(path: Path, found: dict[str, Any]) -> Field:
    """The field in a checkpoint that holds `found`, exactly as it was saved. Raises InputError if it is not whole."""
    stray = [str(key) for key in found["pipeline"] if not str(key).startswith(MODEL)]
    if stray:
        raise InputError(f"{path}: pipeline: unexpected {', '.join(stray[:5]):.200}")
    return field_of_state(path, tensors_of(path, found["pipeline"], "pipeline", MODEL))


def state_of(field: Field) -> dict[str, Tensor]:
    """The tensors of a field by their names in a checkpoint, without `_model.`."""
    spec = json.dumps(field.spec.to_json(), sort_keys=True).encode()
    named = {name if name in VIEWS else FIELD + name: value for name, value in tensors_of_field(field).items()}
    return {**named, SPEC: torch.tensor(list(spec), dtype=torch.uint8)}


def field_of_state(path: Path, state: Mapping[str, Tensor]) -> Field:
    """The inverse: nothing may be missing, and nothing else be there. path: stands in errors."""
    if SPEC not in state:
        raise InputError(f"{path}: not a checkpoint of fieldcast: it has no {MODEL}{SPEC}")
    spec = _spec(path, state[SPEC])
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if name not in (SPEC, MARKER):
            tensors[name.removeprefix(FIELD) if name.startswith(FIELD) else _view(path, name)] = value.detach()
    check_shapes(path, spec, {name: list(value.shape) for name, value in tensors.items()})
    check_views(path, {n: (list(v.shape), TYPES.get(v.dtype, str(v.dtype))) for n, v in tensors.items() if n in VIEWS})
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: tensor {name}: expected finite numbers")
    return field_of_tensors(path, spec, tensors)


def check_run_writable(folder: Path, force: bool = False) -> None:
    """Raises InputError unless a run can be put there; with `force` over another run, but over no other folder."""
    if folder.is_dir() and force and not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: expected the folder of a nerfstudio run to replace, found one without {CONFIG}")
    check_folder_writable(folder, force)


def write_run(field: Field, folder: Path, force: bool = False) -> None:
    """A run of nerfstudio with this field, whole or not at all: `ns-viewer --load-config FOLDER/config.yml`."""
    check_run_writable(folder, force)
    if field.spec.kind not in KINDS:
        raise InputError(f"{folder}: a {field.spec.kind} field is made of others: convert it to a kind first")
    state = {MODEL + name: value.detach().cpu().contiguous() for name, value in state_of(field).items()}
    state[MODEL + MARKER] = torch.zeros(0)
    found = {"step": 0, "pipeline": state, "optimizers": {}, "schedulers": {}, "scalers": {}}
    frame = {"transform": torch.eye(4)[:3].tolist(), "scale": 1.0}
    with atomic_folder(folder, force) as stump:
        (stump / MODELS).mkdir()
        torch.save(found, stump / MODELS / "step-000000000.ckpt")
        (stump / "dataparser_transforms.json").write_text(json.dumps(frame, indent=4), encoding="utf-8")
        (stump / CONFIG).write_text(_config(field.spec, folder), encoding="utf-8")


def _config(spec: FieldSpec, folder: Path) -> str:
    """The settings of a run in `folder`, in nerfstudio's YAML."""
    settings = {"kind": spec.kind, "sizes": asdict(spec.sizes), "run": str(folder.absolute())}
    text = yaml.safe_dump({"kwds": settings}, sort_keys=False, allow_unicode=True)
    return f"# Where the folder moves, `run` must follow.\n--- !!python/object/apply:{MAKER}\n{text}"


def _view(path: Path, name: str) -> str:
    """The name itself, if it is a tensor of the views."""
    if name not in VIEWS:
        raise InputError(f"{path}: unexpected {MODEL}{name:.80}")
    return name


def _spec(path: Path, value: Tensor) -> FieldSpec:
    if value.dtype != torch.uint8 or value.dim() != 1 or len(value) > LARGEST:
        raise InputError(f"{path}: {MODEL}{SPEC}: expected text, found {list(value.shape)} of {value.dtype}")
    try:
        data = json.loads(bytes(value.tolist()))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {MODEL}{SPEC}: expected JSON ({error!s:.100})") from None
    return spec_from_json(data, f"{path}: {MODEL}{SPEC}")
