"""What nerfstudio's entry points name. Importing this file imports nothing else; getting a name from it never fails.

nerfstudio loads the entry points of every plug-in whenever any of its commands starts, and an exception in one of them
ends all of its commands. A method of ours that cannot be loaded is None here, which nerfstudio skips with a warning.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

METHODS = ("mlp", "hashgrid", "vm", "cp", "voxels", "planes", "hybrid", "nerf", "tensorf", "distill")
# Data parsers are loaded while nerfstudio's data managers are being imported, which methods need: two modules.
HOMES = dict.fromkeys(METHODS, "fieldcast.plugin.methods") | {"renders": "fieldcast.plugin.renders"}


def __getattr__(name: str) -> Any:
    """The specification of a method or a data parser; None, after a line on why, if it cannot be loaded."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(HOMES[name]), name)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        logging.getLogger(__name__).warning("fieldcast-%s cannot be loaded: %.200s", name, reason)
        return None
