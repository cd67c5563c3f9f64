"""Scene to scene: any kind of field to any other, by distillation, without images; and to and from splats."""

from fieldcast.distill.convert import RECIPES, student_spec
from fieldcast.distill.fidelity import Fidelity, compare
from fieldcast.distill.scenes import convert
from fieldcast.distill.views import field_from_views

__all__ = ["RECIPES", "Fidelity", "compare", "convert", "field_from_views", "student_spec"]
