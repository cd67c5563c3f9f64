"""Points of a teacher to learn from: drawn by how much they show, and moved a little so that none comes twice.

Letters, of a sample on a ray: w its weight in the ray's colour, T the light that reaches it, alpha its opacity. A point
is drawn with a chance in proportion to T (alpha + 0.02): what is seen, and that what is empty is so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.distill.lessons import Lesson
from fieldcast.distill.pvd import LOG_DENSITY
from fieldcast.fields.field import Field
from fieldcast.fields.kernels.compositing import ray_of_sample, ray_weights

EMPTY = 0.02  # of the light that reaches a sample counts as its weight: what is empty is to stay so
ASIDE = 0.75  # steps that a point is moved to the side, the standard deviation along each axis


@dataclass(frozen=True)
class Batch:
    """N points and what the teacher says there.

    x, d: [N, 3] world points and unit directions; dt: [N] steps in world units. share: [N] (or one number for all) what
    makes a sum over them the mean over rays of the sums over their samples. features: [N, F]; rgb: [N, 3];
    transmittance, alpha, weights: [N]; log_density: [N], per half box side, clamped.
    """

    x: Float[Tensor, "n 3"]
    d: Float[Tensor, "n 3"]
    dt: Float[Tensor, " n"]
    share: Float[Tensor, "*n"]
    features: Float[Tensor, "n f"]
    rgb: Float[Tensor, "n 3"]
    transmittance: Float[Tensor, " n"]
    alpha: Float[Tensor, " n"]
    weights: Float[Tensor, " n"]
    log_density: Float[Tensor, " n"]


@dataclass(frozen=True)
class Points:
    """A lesson, sample by sample. transmittance, alpha, weights, log_density: [M]; drawn: [M], chances added up."""

    lesson: Lesson
    transmittance: Float[Tensor, " m"]
    alpha: Float[Tensor, " m"]
    weights: Float[Tensor, " m"]
    log_density: Float[Tensor, " m"]
    drawn: Float[Tensor, " m"]

    @classmethod
    def of(cls, teacher: Field, lesson: Lesson) -> Points:
        """Finds what of each sample shows."""
        alpha, log_density, sigma = opacity(teacher, lesson.features[:, 0], lesson.samples.dt)
        weights, _ = ray_weights(sigma * lesson.samples.dt, lesson.samples.starts)
        light = light_before(weights, lesson.samples.starts)
        chance = light * (alpha + EMPTY)
        return cls(lesson, light, alpha, weights, log_density, chance.double().cumsum(0))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
        """Samples, in the order of their rays, and what makes a sum over them the mean over rays of sums over all."""
        device, total = self.drawn.device, self.drawn[-1]
        spread = (torch.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64)) / count
        index = torch.searchsorted(self.drawn, spread.to(device) * total).clamp_max(len(self.drawn) - 1)
        chance = self.transmittance[index] * (self.alpha[index] + EMPTY)
        return index, total.float() / (chance * count * len(self.lesson))

    def at(self, index: Int64[Tensor, " n"] | slice, share: Float[Tensor, "*n"]) -> Batch:
        """Samples as they are, with what the teacher said of them."""
        s, told = self.lesson.samples, self.lesson
        return Batch(
            s.x[index], s.d[index], s.dt[index], share, told.features[index], told.rgb[index],
            self.transmittance[index], self.alpha[index], self.weights[index], self.log_density[index],
        )  # fmt: skip

    @torch.no_grad()
    def near(
        self, teacher: Field, index: Int64[Tensor, " n"], share: Float[Tensor, " n"], generator: torch.Generator
    ) -> Batch:
        """New points within the steps of samples and beside them, and what the teacher says when asked anew.

        The light that reaches them is taken to be that of their samples.
        """
        s = self.lesson.samples
        d, dt, light = s.d[index], s.dt[index], self.transmittance[index]
        along = torch.rand(len(index), 1, generator=generator).to(d) - 0.5
        aside = ASIDE * torch.randn(len(index), 3, generator=generator).to(d)
        aside = aside - (aside * d).sum(-1, keepdim=True) * d
        x = s.x[index] + (along * d + aside) * dt[:, None]
        features = teacher.features(x)
        alpha, log_density, _ = opacity(teacher, features[:, 0], dt)
        # No more weight than the sample had, by which it was drawn: a deeper point must not count fifty times.
        weights = torch.minimum(self.weights[index], light * alpha)
        return Batch(x, d, dt, share, features, teacher.color(features, d), light, alpha, weights, log_density)


def opacity(
    field: Field, logit: Float[Tensor, " m"], dt: Float[Tensor, " m"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"], Float[Tensor, " m"]]:
    """The opacity of steps of length dt; log density, clamped; density in 1 / world unit."""
    sigma = field.spec.density(logit) / field.spec.space.unit
    return 1 - torch.exp(-sigma * dt), field.spec.density.log(logit).clamp(*LOG_DENSITY), sigma


def light_before(weights: Float[Tensor, " m"], starts: Int64[Tensor, " r1"]) -> Float[Tensor, " m"]:
    """The transmittance that reaches each sample: what the weights before it on its ray leave of 1."""
    total = torch.cat([weights.new_zeros(1, dtype=torch.float64), weights.double().cumsum(0)])
    at_start = total[starts[:-1]][ray_of_sample(starts, len(weights))]
    return (1 - (total[:-1] - at_start)).clamp(0, 1).to(weights.dtype)
