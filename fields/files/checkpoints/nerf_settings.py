"""What a run of nerf-pytorch, or of its relative, says beside its checkpoint: what is behind the scene, and in which
coordinates it lies. Without these files both are taken to be as in NeRF-Synthetic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.nerfstudio import CONFIG, plain_yaml
from fieldcast.fields.space import Vector3

ARGS = ("args.txt", "config.txt")  # of nerf-pytorch: all settings, or those that were typed
LARGEST = 1 << 18  # bytes
NDC = (
    "it was trained in normalised device coordinates (no_ndc is false) and is in those: cameras of the world do not "
    "see it as it was"
)
BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class RunSettings:
    """background: sRGB 0..1. ndc: whether positions are normalised device coordinates, not those of the world."""

    background: Vector3 = WHITE
    ndc: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell of it."""
        return (NDC,) if self.ndc else ()


def settings_beside(path: Path) -> RunSettings:
    """The settings of the run of a checkpoint, from what is in its folder."""
    for name in ARGS:
        file = path.parent / name
        if file.is_file() and file.stat().st_size <= LARGEST:
            return _typed(file.read_text(encoding="utf-8", errors="replace"))
    file = path.parent / CONFIG
    return _structured(file) if file.is_file() else RunSettings()


def _typed(text: str) -> RunSettings:
    """Of nerf-pytorch: `name = value` lines. Scenes of LLFF are in device coordinates unless no_ndc is true."""
    found = dict(re.findall(r"(?m)^[ \t]*(white_bkgd|no_ndc|dataset_type)[ \t]*=[ \t]*(\w+)", text))
    if not found:
        return RunSettings()
    ndc = found.get("dataset_type", "llff") == "llff" and found.get("no_ndc") != "True"
    return RunSettings(WHITE if found.get("white_bkgd") == "True" else BLACK, ndc)


def _structured(path: Path) -> RunSettings:
    """Of krrish94's: `dataset.no_ndc`, and what validation is over."""
    found = plain_yaml(path)
    dataset, nerf = (found.get(name) if isinstance(found, dict) else None for name in ("dataset", "nerf"))
    checked = nerf.get("validation") if isinstance(nerf, dict) else None
    white = checked.get("white_background", True) if isinstance(checked, dict) else True
    ndc = dataset.get("no_ndc", True) if isinstance(dataset, dict) else True
    if not isinstance(white, bool) or not isinstance(ndc, bool):
        raise InputError(f"{path}: white_background, no_ndc: expected true or false, found {white!s:.40}, {ndc!s:.40}")
    return RunSettings(WHITE if white else BLACK, not ndc)
