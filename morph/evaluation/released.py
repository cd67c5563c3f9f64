"""The paper's method as its authors' program runs it, where that differs from the paper's text.

"Textured 3D Regenerative Morphing with 3D Diffusion Prior", released program: attention is fused while t < 0.64;
reordering of tokens and enhancement of low frequencies sit behind a condition that is never met; adapters have rank 4
and a rate of 1e-4, and between two of them A and B are interpolated apart. Not repeated: keys that are not normalised
beside ones that are, and a second stage for colours with a window of its own, which a prior of one stage does not have.

Letters: R rank, B latents, N adapters, I and O features in and out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldcast.morph.attention import Mixing
from fieldcast.morph.lora import Adapter, linears
from fieldcast.morph.priors import Prior
from fieldcast.morph.recipes import Recipe

RELEASED = Recipe(
    steps=250,
    heun=False,
    guidance=4.0,
    lora=4,
    lora_rate=1e-4,
    mixing=Mixing("kv", (0.0, 0.64)),
    equal_arc=False,
    face=False,
)


@contextmanager
def adapted_apart(prior: Prior, adapters: list[Adapter], weights: Float[Tensor, "b n"]) -> Iterator[None]:
    """As `lora.adapted`, but with (sum of w B) (sum of w A) in place of the sum of w B A."""

    def changed(name: str) -> Any:
        pairs = [adapter.pair(name) for adapter in adapters]
        a, b = (torch.einsum("bn,nij->bij", weights.to(m[0]), torch.stack(m)) for m in zip(*pairs, strict=True))

        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0]
            rows = x.reshape(len(x), -1, x.shape[-1])
            change = rows @ a.to(x).transpose(1, 2) @ b.to(x).transpose(1, 2)
            return output + change.reshape(output.shape)

        return hook

    names = linears(prior) if adapters else {}
    handles = [layer.register_forward_hook(changed(name)) for name, layer in names.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
