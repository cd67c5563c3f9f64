"""Fitting a field to pictures a step at a time, as `fieldcast fit` does, with rays that somebody else draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fieldcast.fields.cameras import Cameras, Rays
from fieldcast.fields.field import Field
from fieldcast.fields.fit import REFRESH, WARMUP, Lot, OccupancyTracker
from fieldcast.fields.heads import trained_in, training_precision
from fieldcast.fields.rendering import Rendered, composite


@dataclass
class Fitting:
    """The state of a fit. first: the step that it began with; looks: whether this step looks at what is empty."""

    field: Field
    tracker: OccupancyTracker
    lot: Lot
    generator: torch.Generator
    first: int | None = None
    looks: bool = True

    @staticmethod
    def of(field: Field, cameras: Cameras | None, rays: int, generator: torch.Generator, knows: bool) -> Fitting:
        """rays: of the first step. knows: whether the field knows where it is empty, to begin with."""
        known = field.occupancy
        tracker = OccupancyTracker(field, cameras)
        if knows:
            tracker.begin_with(known)
        return Fitting(field, tracker, Lot(field, torch.tensor([rays])), generator)

    @property
    def rays(self) -> int:
        """How many the next step takes."""
        return int(self.lot.rays)

    def begin(self, step: int) -> None:
        """Before each step."""
        self.first = step if self.first is None else self.first
        self.looks = (step - self.first) % REFRESH == 0
        if self.looks:
            self.tracker.update(self.generator, warmup=step - self.first < WARMUP * REFRESH)

    def observe(self, rays: Rays) -> tuple[Rendered, Tensor]:
        """What rays see of the field as it learns, over random colours [R, 3], and these."""
        field, device = self.field, rays.origins.device
        background = torch.rand(len(rays), 3, generator=self.generator).to(device)
        with trained_in(field, training_precision(device)):
            samples = self.lot.samples(rays, self.generator, self.looks)
            sigma, rgb = field.decode(field.features(samples.x), samples.d)
        return composite(sigma, rgb, samples, background), background
