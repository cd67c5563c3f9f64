"""Field to Field: any kind to any other, by distillation, without images; and edits on the way."""

from fieldcast.distill.convert import RECIPES, convert, student_spec
from fieldcast.distill.editing import edit, edited
from fieldcast.distill.edits import Addition, Edits, Move, Place
from fieldcast.distill.fidelity import Fidelity, compare

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
    "student_spec",
]
