"""What a Field is, its kinds, and how it is queried, rendered, fitted and stored."""

from fieldcast.fields.cameras import Cameras, Rays
from fieldcast.fields.field import Field
from fieldcast.fields.fit import fit
from fieldcast.fields.kinds import KINDS, build, default_spec
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.renderable import Image, Renderable
from fieldcast.fields.rendering import render
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec
from fieldcast.fields.splats import Splats

__all__ = [
    "KINDS",
    "Cameras",
    "Field",
    "FieldSpec",
    "Image",
    "Occupancy",
    "Rays",
    "Renderable",
    "Space",
    "Splats",
    "build",
    "default_spec",
    "fit",
    "render",
]
