"""The one abstraction: a `Field` is a spec and tensors, and answers what is at a point and how it looks.

Letters: `x` world points [N, 3], `d` unit directions [N, 3], `n` points in box units, `sigma` density in
1 / world unit, `rgb` sRGB colour in [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.space import Space, Vector3
from fieldcast.fields.spec import FieldSpec


class Field(nn.Module, ABC):
    """A scene: `spec` plus tensors. Build one with `build(spec)`.

    Subclasses give block 1, `features` (where), and block 2, `decode` (what it looks like). Attributes:
        spec: rebuilds the module exactly.
        views: cameras that the scene was seen from, or None. Conversions look from places like these.
        occupancy_bits: where the field is not empty; what it computes elsewhere does not count.
        notes: what is to be told when its file is opened. They are not saved.
    """

    Sizes: ClassVar[type]
    """The kind's own sizes, a dataclass with defaults."""
    shares_features: bool = True
    """Whether `features` is the F of the distillation paper (density logit and 15 appearance features)."""

    default_density: ClassVar[DensityActivation] = DensityActivation()
    """The density activation of fields that are made anew."""

    points_per_step: ClassVar[int] = 1 << 15
    """How many points a training step takes on a CPU so that it stays quick; a GPU takes eight times as many."""

    occupancy_bits: Tensor

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__()
        self.spec = spec
        self.views: Cameras | None = None
        self.notes: tuple[str, ...] = ()
        self.register_buffer("occupancy_bits", torch.full((spec.occupancy**3 // 8,), 255, dtype=torch.uint8))

    @abstractmethod
    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """Block 1: the features at world points; column 0 is the density logit. Not masked by box or occupancy."""

    @abstractmethod
    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Block 2's half that depends on the direction: sRGB in [0, 1]."""

    def decode(
        self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Block 2: density in 1 / world unit, and colour."""
        return self.spec.density(features[:, 0]) / self.spec.space.unit, self.color(features, d)

    def logit(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Column 0 of `features`; kinds that can compute it alone, do."""
        return self.features(x)[:, 0]

    def density(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Density in 1 / world unit: 0 outside the box and where the occupancy says that nothing is."""
        return self.mask(x) * self.spec.density(self.logit(x)) / self.spec.space.unit

    def forward(
        self, x: Float[Tensor, "n 3"], d: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Density in 1 / world unit and sRGB colour at world points seen along unit directions."""
        sigma, rgb = self.decode(self.features(x), d)
        return self.mask(x) * sigma, rgb

    def mask(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """1 where the field counts: in the box, in occupied cells; 0 elsewhere."""
        space = self.spec.space
        return (space.contains(x) & self.occupancy.contains(space.to_unit(x))).to(x.dtype)

    def normalized(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """World points to [-1, 1]^3, the box (or the contracted world)."""
        return 2 * self.spec.space.to_unit(x) - 1

    @property
    def occupancy(self) -> Occupancy:
        return Occupancy(self.occupancy_bits, self.spec.occupancy)

    @occupancy.setter
    def occupancy(self, occupancy: Occupancy) -> None:
        self.occupancy_bits = occupancy.bits.to(self.occupancy_bits.device)

    @property
    def space(self) -> Space:
        return self.spec.space

    @property
    def background(self) -> Vector3:
        return self.spec.background

    @property
    def device(self) -> torch.device:
        return self.occupancy_bits.device

    def allocate(self, occupancy: Occupancy) -> Field:
        """The field, ready to be trained where `occupancy` says; sparse kinds return one with storage just there."""
        self.occupancy = occupancy
        return self

    def check(self, what: str) -> None:
        """Raises InputError, beginning with `what`, if tensors from a file would make look-ups go out of range."""

    def ready(self) -> None:
        """Computes anew what is not in files, once the tensors of one are in place and were checked."""

    def learning_rates(self) -> list[tuple[list[nn.Parameter], float]]:
        """Groups of parameters and their learning rates (PVD, section 4: 1e-2 for tables)."""
        return [(list(self.parameters()), 1e-2)]

    def stride(self, steps: int) -> float:
        """A factor on the learning rates in a run of `steps`; 1 in a run as long as the published ones."""
        return 1.0

    def regularizer(self) -> Tensor | None:
        """A penalty that the kind's own paper trains with, or None."""
        return None

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())


def shortage(steps: int) -> float:
    """How much shorter than the published 30,000 steps (PVD, section 4) a run is; 1 if it is not."""
    return max(1.0, 30_000 / steps)
