"""How much a path bends. Letters: T frames."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def bends(path: Float[Tensor, "t *n 3"], present: Bool[Tensor, " t"]) -> Float[Tensor, ""]:
    """The mean squared length of second differences, over the frames that are present along with both neighbours."""
    known = present[2:] & present[1:-1] & present[:-2]
    if not bool(known.any()):
        return path.sum() * 0
    return path.diff(n=2, dim=0)[known].square().sum(-1).mean()
