"""What is left of a field when boxes are taken out: itself, and nothing there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldcast.fields.box import Box
from fieldcast.fields.cells import cell_bounds
from fieldcast.fields.field import Field
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.spec import FieldSpec

NOTHING = -30.0  # the log density, per half box side, of what was taken out


@dataclass(frozen=True)
class CutSizes:
    """of: the spec of the whole field. crop, erased: see `Cut`."""

    of: FieldSpec
    crop: Box | None = None
    erased: tuple[Box, ...] = ()


class Cut(Field):
    """A field that is empty outside the box `crop`, if there is one, and in the boxes `erased`; elsewhere as before.

    It is exact and asks the whole field when it is asked; what it shares with its kind, features and networks, stays.
    """

    Sizes = CutSizes

    def __init__(self, whole: Field, crop: Box | None = None, erased: tuple[Box, ...] = ()) -> None:
        # Logits are clamped here, if they are: of what was taken out they are not, which would leave fog.
        density = replace(whole.spec.density, clip=None)
        super().__init__(replace(whole.spec, kind="cut", sizes=CutSizes(whole.spec, crop, erased), density=density))
        self.whole, self.crop, self.erased = whole, crop, erased
        self.shares_features = whole.shares_features
        self.views = whole.views
        self.to(whole.device)
        self.occupancy = whole.occupancy & touched(self)

    def keeps(self, x: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
        """Which world points were not taken out."""
        kept = torch.ones(len(x), dtype=torch.bool, device=x.device)
        if isinstance(self.whole, Cut):
            kept = self.whole.keeps(x)
        if self.crop is not None:
            kept = kept & self.crop.contains(x)
        for box in self.erased:
            kept = kept & ~box.contains(x)
        return kept

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        features = self.whole.features(x)
        return torch.cat([self._without(features[:, 0], x)[:, None], features[:, 1:]], -1)

    def logit(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        return self._without(self.whole.logit(x), x)

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return self.whole.color(features, d)

    def mask(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        return super().mask(x) * self.keeps(x)

    def _without(self, logit: Float[Tensor, " n"], x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        clip = self.whole.spec.density.clip
        logit = logit if clip is None else logit.clamp(*clip)
        return torch.where(self.keeps(x), logit, self.spec.density.logit(logit.new_tensor(NOTHING)))


def touched(cut: Cut) -> Occupancy:
    """The cells of which any part may be left."""
    space, resolution = cut.spec.space, cut.spec.occupancy
    cells = torch.stack([_left_of(cut, *cell_bounds(space, resolution, slab)) for slab in range(resolution)])
    return Occupancy(Occupancy.of_cells(cells.reshape((resolution,) * 3)).bits.to(cut.device), resolution)


def _left_of(cut: Cut, low: Float[Tensor, "n 3"], high: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
    """Whether anything is left of the boxes from `low` to `high`."""
    left = torch.ones(len(low), dtype=torch.bool)
    if cut.crop is not None:
        first, last = low.new_tensor(cut.crop.low), low.new_tensor(cut.crop.high)
        left = ((high >= first) & (low <= last)).all(-1)
    for box in cut.erased:
        left = left & ~(box.contains(low) & box.contains(high))
    return left
