"""What a Field is, its kinds, and how it is queried, rendered, fitted and stored."""

from fieldcast.fields.box import Box
from fieldcast.fields.cameras import Cameras, Rays
from fieldcast.fields.composed import Part, compose
from fieldcast.fields.field import Field
from fieldcast.fields.fit import fit
from fieldcast.fields.kinds import KINDS, build, default_spec
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.motion import Motion
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.renderable import Image, Renderable
from fieldcast.fields.rendering import render
from fieldcast.fields.scenes.mesh import Surfaces
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec
from fieldcast.fields.splats import Splats

__all__ = [
    "KINDS",
    "Box",
    "Cameras",
    "Field",
    "FieldSpec",
    "Image",
    "Mesh",
    "Motion",
    "Occupancy",
    "Part",
    "Rays",
    "Renderable",
    "Space",
    "Splats",
    "Surfaces",
    "build",
    "compose",
    "default_spec",
    "fit",
    "render",
]
