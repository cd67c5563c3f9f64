"""Every 3D scene is a `Field`: files open into Fields, verbs turn Fields into Fields, Fields save into files.

import fieldcast
field = fieldcast.open("lego.safetensors")
student = fieldcast.convert(field, "vm")
fieldcast.save(student, "lego-vm.safetensors")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldcast.distill import Edits as Edits
    from fieldcast.distill import convert as convert
    from fieldcast.distill import edit as edit
    from fieldcast.fields import Box as Box
    from fieldcast.fields import Cameras as Cameras
    from fieldcast.fields import Field as Field
    from fieldcast.fields import FieldSpec as FieldSpec
    from fieldcast.fields import fit as fit
    from fieldcast.fields import render as render
    from fieldcast.fields.files import open as open
    from fieldcast.fields.files import save as save
    from fieldcast.fields.scenes import open_scene as open_scene
    from fieldcast.process import prepare as prepare

__version__ = "0.1.0"

# Where each public name lives; nothing is imported before it is asked for, so that `fieldcast --help` is quick.
_HOMES = {
    "Box": "fieldcast.fields",
    "Cameras": "fieldcast.fields",
    "Edits": "fieldcast.distill",
    "Field": "fieldcast.fields",
    "FieldSpec": "fieldcast.fields",
    "convert": "fieldcast.distill",
    "edit": "fieldcast.distill",
    "fit": "fieldcast.fields",
    "open": "fieldcast.fields.files",
    "open_scene": "fieldcast.fields.scenes",
    "prepare": "fieldcast.process",
    "render": "fieldcast.fields",
    "save": "fieldcast.fields.files",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fieldcast' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
