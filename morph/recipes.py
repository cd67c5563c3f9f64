"""How a morph is made: what is interpolated, what frames attend to, where they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from fieldcast.morph.attention import Mixing


@dataclass(frozen=True)
class Recipe:
    """steps: of the flow, there and back. heun: two evaluations a step, else Euler's one. guidance: towards what the
    prior is told, there and back. structure: of frames half-way, less towards the ends: away from where they would go
    untold and without attention in the prior's `structural` blocks. lora: rank of an adapter for each end, 0: none;
    lora_steps, lora_rate: of its training. mixing: what frames attend to. details: what latents leave out of an object
    is added to the frames near it. vivid: frames are no greyer than the ends that they lie between. equal_arc: frames
    at equal distances along the way, else at equal alphas. face: turn the second object like the first.
    """

    steps: int = 25
    heun: bool = True
    guidance: float = 1.0
    structure: float = 0.0
    lora: int = 0
    lora_steps: int = 500
    lora_rate: float = 1e-3
    mixing: Mixing = field(default_factory=Mixing)
    details: bool = False
    vivid: bool = False
    equal_arc: bool = True
    face: bool = True


RECIPES = {
    "default": Recipe(structure=1.0, details=True, vivid=True),
    # "Textured 3D Regenerative Morphing with 3D Diffusion Prior", as its text says: times are steps of its 250.
    "paper": Recipe(
        steps=250,
        heun=False,
        guidance=4.0,
        lora=16,
        mixing=Mixing("kv", (0.0, 0.6), reorder=(0.32, 0.8), low=4.0, low_window=(0.8, 0.92), constant=True),
        equal_arc=False,
        face=False,
    ),
}
"""By name."""
