"""Field to Field: any kind to any other, by distillation, without images."""

from fieldcast.distill.convert import RECIPES, convert, student_spec
from fieldcast.distill.fidelity import Fidelity, compare

__all__ = ["RECIPES", "Fidelity", "compare", "convert", "student_spec"]
