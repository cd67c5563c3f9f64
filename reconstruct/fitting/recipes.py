"""Ways to fit people: what is inside of shells, how rays are sampled, and how fast is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fieldcast.fields.kinds import default_spec
from fieldcast.fields.spec import FieldSpec

FAST = "fast"


@dataclass(frozen=True)
class Recipe:
    """inner: the spec of the field inside a shell. rays: in a step. samples: on a ray through the box about a person,
    all of which are asked; None: as many as are needed. tables, networks: learning rates at first.
    """

    inner: Callable[[], FieldSpec]
    rays: int
    samples: int | None
    tables: float
    networks: float


def small_planes() -> FieldSpec:
    """Small planes, whose sum is quick to learn on a CPU."""
    spec = default_spec("planes")
    return replace(spec, sizes=replace(spec.sizes, resolutions=(48, 128), channels=16, combine="sum", hidden=32))


RECIPES = {
    FAST: Recipe(small_planes, 1024, None, 1e-2, 2e-3),
    # MultiPly's: a network of 8 layers of 256, 512 rays, 97 samples on each, 5e-4.
    "paper": Recipe(lambda: default_spec("mlp"), 512, 97, 5e-4, 5e-4),
}
