"""Low-rank changes of a network for one object, and what lies between two of them.

LoRA (Hu et al. 2021): y = W x + scale B A x. Between two objects the changes themselves are interpolated,
(1 - a) B0 A0 + a B1 A1; interpolating A and B apart gives a change 0.7 times as large that points elsewhere.

Letters: R rank, B latents, N adapters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fieldcast.fields.progress import Progress, silent
from fieldcast.morph.attention import plain
from fieldcast.morph.interpolation import joined
from fieldcast.morph.priors import Condition, Prior
from fieldcast.morph.recipes import Recipe

Pair = tuple[Float[Tensor, "r i"], Float[Tensor, "o r"]]
BATCH = 4


class Adapter(nn.Module):
    """The change of a network: of each of its linear layers that a prior names, A [R, in] and B [out, R]."""

    def __init__(self, prior: Prior, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.pairs = nn.ParameterDict()
        for name, layer in linears(prior).items():
            a = torch.randn(rank, layer.in_features, generator=generator) / math.sqrt(layer.in_features)
            key, device = name.replace(".", "/"), layer.weight.device
            self.pairs[f"{key}:a"] = nn.Parameter(a.to(device))
            self.pairs[f"{key}:b"] = nn.Parameter(torch.zeros(layer.out_features, rank, device=device))

    def pair(self, name: str) -> Pair:
        """A and B of a layer."""
        key = name.replace(".", "/")
        return self.pairs[f"{key}:a"], self.pairs[f"{key}:b"]


def linears(prior: Prior) -> dict[str, nn.Linear]:
    """The layers that an adapter changes, by name."""
    return {
        name: module
        for name, module in prior.network.named_modules()
        if isinstance(module, nn.Linear) and f".{name}".endswith(prior.adapted)
    }


@contextmanager
def adapted(prior: Prior, adapters: list[Adapter], weights: Float[Tensor, "b n"]) -> Iterator[None]:
    """Lets a prior's network compute with adapters, for a while; weights: how much of each, for each latent."""

    def changed(name: str) -> Any:
        pairs = [adapter.pair(name) for adapter in adapters]

        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0]
            for n, (a, b) in enumerate(pairs):
                part = functional.linear(functional.linear(x, a.to(x)), b.to(x))
                output = output + weights[:, n].to(part).reshape(-1, *[1] * (part.ndim - 1)) * part
            return output

        return hook

    handles = [layer.register_forward_hook(changed(name)) for name, layer in linears(prior).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tuned(
    prior: Prior,
    adapter: Adapter,
    latent: Float[Tensor, "t c"],
    condition: Condition,
    recipe: Recipe,
    seed: int,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Trains a change that makes a prior's flow lead to one object, as the prior was trained; its tensors."""
    generator, steps = torch.Generator().manual_seed(seed), recipe.lora_steps
    optimizer = torch.optim.AdamW(adapter.parameters(), recipe.lora_rate, weight_decay=0.05)
    told, full = joined([condition] * BATCH), torch.ones(BATCH, 1)
    for step in range(steps):
        noise = torch.randn(BATCH, *latent.shape, generator=generator).to(latent)
        t = torch.rand(BATCH, generator=generator).to(latent)
        with adapted(prior, [adapter], full):
            velocity = prior.velocity(torch.lerp(noise, latent[None], t[:, None, None]), t, told, plain)
        loss = functional.mse_loss(velocity, latent[None] - noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        progress(step + 1, steps, f"adapting: loss {float(loss.detach()):.3g}")
    return dict(adapter.requires_grad_(False).state_dict())
