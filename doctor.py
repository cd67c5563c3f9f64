"""What an installation can do."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

PACKAGES = (
    "torch",
    "numpy",
    "numba",
    "safetensors",
    "pillow",
    "trimesh",
    "scikit-image",
    "imageio-ffmpeg",
    "embreex",
    "fast-simplification",
)


def examine() -> dict[str, Any]:
    """Versions, devices and threads; a package that is missing says what goes without it."""
    import torch

    import fieldcast
    from fieldcast.fields.heads import training_precision

    facts: dict[str, Any] = {"fieldcast": fieldcast.__version__, "python": platform.python_version()}
    facts |= {name: _version(name) for name in PACKAGES}
    facts["cores"] = os.cpu_count()
    facts["torch threads"] = torch.get_num_threads()
    precision = training_precision(torch.device("cpu"))
    facts["networks in training"] = str(precision).removeprefix("torch.")
    facts["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: everything runs on the CPU"
    facts["mesh views"] = "yes" if find_spec("embreex") else "no: pip install embreex"
    facts["mp4"] = _ffmpeg()
    return facts


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _ffmpeg() -> str:
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_version())
    except RuntimeError as error:
        return f"no: {error}"
