"""What is typed, turned into ends of a morph: files or captions, recipes by name."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files import SUFFIXES
from fieldcast.fields.files import open as open_file
from fieldcast.fields.files.splats import SPLAT_FORMATS
from fieldcast.fields.scenes import MESH_SUFFIXES
from fieldcast.fields.scenes.mesh import Surfaces
from fieldcast.morph.details import What
from fieldcast.morph.ends import Given
from fieldcast.morph.objects import volume_of_field, volume_of_mesh
from fieldcast.morph.priors import Prior
from fieldcast.morph.recipes import RECIPES, Recipe
from fieldcast.morph.volumes import Volume


def recipe_of(name: str, frames: int, what: str) -> Recipe:
    """A recipe by its name, when all else that was asked for makes sense."""
    if name not in RECIPES:
        raise InputError(f"--recipe {name}: expected one of {', '.join(RECIPES)}")
    if frames < 2:
        raise InputError(f"--frames {frames}: expected at least 2, the two ends")
    if what not in get_args(What):
        raise InputError(f"--what {what}: expected one of {', '.join(get_args(What))}")
    return RECIPES[name]


def given_by(prior: Prior, text: str, caption: str | None = None) -> Given:
    """The object in a file, told by its name's words that the prior knows or by a caption; or a caption alone."""
    path = Path(text)
    if not path.exists() and path.suffix.lower() not in (*MESH_SUFFIXES, *SUFFIXES, *SPLAT_FORMATS):
        prior.embed(text)  # says which words it does not know
        return Given(text, text)
    volume = volume_in(path)
    if caption is not None:
        prior.embed(caption)
    return Given(path.name, prior.known(path.stem) if caption is None else caption, volume)


def volume_in(path: Path) -> Volume:
    """The object in a mesh or field file, on a grid."""
    scene = open_file(path)
    try:
        if isinstance(scene, Surfaces):
            return volume_of_mesh(scene)
        if isinstance(scene, Field):
            return volume_of_field(scene)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    raise InputError(
        f"{path}: expected a mesh or a field, found splats; first: fieldcast convert {path} OUT.safetensors"
    )
