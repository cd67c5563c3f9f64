"""Scene to scene: any kind of field to any other, by distillation, without images; to and from splats; and edits."""

from fieldcast.distill.convert import RECIPES, student_spec
from fieldcast.distill.editing import edit, edited
from fieldcast.distill.edits import Addition, Edits, Move, Place
from fieldcast.distill.fidelity import Fidelity, compare
from fieldcast.distill.scenes import convert
from fieldcast.distill.views import field_from_views

__all__ = [
    "RECIPES",
    "Addition",
    "Edits",
    "Fidelity",
    "Move",
    "Place",
    "compare",
    "convert",
    "edit",
    "edited",
    "field_from_views",
    "student_spec",
]
