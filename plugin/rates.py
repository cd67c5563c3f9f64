"""Learning rates: those of ours, which go by the kind and by how long the run is, in optimisers of nerfstudio's.

nerfstudio's schedulers are told the length of a run apart from the run itself, and what some of them leave in a
checkpoint, numpy's numbers, torch refuses to read. Here rates are set before each step, and there is no scheduler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.optimizers import OptimizerConfig, Optimizers
from torch import nn

from fieldcast.fields.field import Field

GROUPS = ("fields", "networks")  # what kinds learn at one rate or at two


@dataclass
class FieldOptimizerConfig(OptimizerConfig):
    """AdamW, set up as in `fieldcast fit` or by a recipe of `fieldcast convert`."""

    _target: type = field(default_factory=lambda: torch.optim.AdamW)
    lr: float = 1.0
    """A factor on the learning rate that suits the kind and the length of the run."""

    def setup(self, params: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(params, fused=True)


def optimizers() -> dict[str, dict[str, Any]]:
    """The settings of the optimisers of a method."""
    return {name: {"optimizer": FieldOptimizerConfig(), "scheduler": None} for name in GROUPS}


def parameter_groups(field: Field) -> dict[str, list[nn.Parameter]]:
    """The field's own groups of parameters, under the names of their optimisers."""
    groups = [parameters for parameters, _ in field.learning_rates() if parameters]
    return dict(zip(GROUPS, groups, strict=False))


def following(
    optimizers: Optimizers, groups: list[dict[str, Any]], schedule: Callable[[int, float], float]
) -> TrainingCallback:
    """What sets up the optimisers as `groups`, in the order of theirs, and sets their rates before each step."""
    pairs = []
    for (name, optimizer), wanted in zip(optimizers.optimizers.items(), groups, strict=True):
        (group,) = optimizer.param_groups
        group.update({key: value for key, value in wanted.items() if key != "params"})
        pairs.append((group, optimizers.config[name]["optimizer"].lr))

    def set_rates(step: int) -> None:
        for group, factor in pairs:
            group["lr"] = factor * schedule(step, group["initial_lr"])

    return TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], set_rates)
