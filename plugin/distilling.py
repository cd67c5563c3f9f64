"""A field that learns from another scene, by a recipe of `fieldcast convert`, a step at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from torch import Tensor

import fieldcast
from fieldcast.cli.arguments import parsed_sizes
from fieldcast.distill.convert import Pair, checked_recipe, student_spec, tightened
from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.heads import trained_in, training_precision
from fieldcast.fields.kinds import build, default_spec
from fieldcast.fields.training import Training
from fieldcast.plugin.model import FieldModel, FieldModelConfig, Outputs

Kind = Literal["mlp", "hashgrid", "vm", "cp", "voxels", "planes", "hybrid", "nerf", "tensorf"]


@dataclass
class DistillModelConfig(FieldModelConfig):
    """Settings of a field that learns from another."""

    _target: type = field(default_factory=lambda: DistillModel)
    kind: Kind = "vm"
    """What the scene becomes."""
    sizes: tuple[str, ...] = ()
    """Sizes of the kind that are not to be the default, such as resolution=128."""
    teacher: Path | None = None
    """The field to learn from, whatever `fieldcast info` opens; none: the data of the run."""
    recipe: Literal["fast", "pvd", "active"] = "fast"
    """How, as for `fieldcast convert`."""


class DistillModel(FieldModel):
    """The student. The teacher stays outside of what is saved; without it a run can be looked at, but not go on."""

    config: DistillModelConfig

    def new_field(self) -> Field:
        self.pair: Pair | None = None
        self.course: Training | None = None
        self.step = 0
        path = self.config.teacher or self.views.data
        try:
            self.pair = self.paired(path)
        except InputError as error:
            self.refusal = str(error)
            spec = default_spec(self.config.kind).resized(parsed_sizes(self.config.sizes))
            return build(spec)
        return self.pair.student

    def paired(self, path: Path | None) -> Pair:
        """The teacher and its new student. Raises InputError if there is no teacher, or if it is no field."""
        if path is None:
            raise InputError("teacher: expected a field to learn from: --data FIELD or --pipeline.model.teacher FIELD")
        teacher = fieldcast.open(path, self.kwargs.get("device", "cpu"))
        if not isinstance(teacher, Field):
            raise InputError(f"{path}: expected a field; first: fieldcast convert {path} OUT.safetensors --to hashgrid")
        spec = student_spec(teacher.spec, self.config.kind).resized(parsed_sizes(self.config.sizes))
        return Pair.of(teacher, spec, self.config.recipe, self.seed)

    @property
    def seed(self) -> int:
        return self.generator.initial_seed() % 2**31

    def rates(self, steps: int) -> tuple[list[dict[str, Any]], Callable[[int, float], float]]:
        if self.pair is None:
            raise InputError(self.refusal)
        train = checked_recipe(self.config.recipe).training
        self.course = train(self.pair.teacher, self.pair.student, steps=steps, seed=self.seed, again=self.loaded)
        return self.course.groups(), self.course.schedule

    def lessons(self, pipeline: Any) -> list[TrainingCallback]:
        def begin(step: int) -> None:
            self.step = step

        def end(step: int) -> None:  # what was made empty is not marched through any more
            if self.course is not None and step == self.course.steps - 1:
                kept = tightened(self.field, self.seed)
                self.field.occupancy = kept if kept.fraction() > 0 else self.field.occupancy

        where = TrainingCallbackLocation
        return [
            TrainingCallback([where.BEFORE_TRAIN_ITERATION], begin),
            TrainingCallback([where.AFTER_TRAIN_ITERATION], end),
        ]

    def get_outputs(self, ray_bundle: Any) -> Outputs:
        """Nothing in training: the teacher has its own rays."""
        return {} if self.learns else super().get_outputs(ray_bundle)

    def get_metrics_dict(self, outputs: Outputs, batch: dict[str, Any]) -> dict[str, Any]:
        return {} if self.learns else super().get_metrics_dict(outputs, batch)

    def get_loss_dict(self, outputs: Outputs, batch: dict[str, Any], metrics_dict: Any = None) -> dict[str, Tensor]:
        if not self.learns:
            return super().get_loss_dict(outputs, batch, metrics_dict)
        assert self.course is not None
        with trained_in(self.field, training_precision(self.device)):
            return {"distill_loss": self.differentiable(self.course.loss(self.step, self.generator))}

    @property
    def learns(self) -> bool:
        """Whether this is a step of training, not a look between two."""
        return self.training and self.course is not None and torch.is_grad_enabled()
