"""The attention of diffusers' networks, handed to whoever computes it here.

Letters: B latents, S tokens: two of them, what the network is told and the time, come before those of the latent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from fieldcast.morph.attention import Attend


class Processor:
    """What diffusers calls for the attention of a block. With `plain`, the results are its own, bit by bit.

    attend: computes it. number: of the block.
    """

    def __init__(self, attend: Attend, number: int) -> None:
        self.attend, self.number = attend, number

    def __call__(self, attn: Any, hidden_states: Float[Tensor, "b s d"], *_: Any, **__: Any) -> Float[Tensor, "b s d"]:
        linears: tuple[nn.Module, ...] = (attn.to_q, attn.to_k, attn.to_v)
        q, k, v = (layer(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for layer in linears)
        h = self.attend((self.number, "self"), q, k, v, None)
        out: Tensor = attn.to_out[0](h.transpose(1, 2).flatten(2))
        return out


@contextmanager
def handed(network: Any, attend: Attend) -> Iterator[None]:
    """Lets another compute all attention of a network, for a while."""
    attentions = [block.attn1 for block in network.transformer_blocks]
    before = [attention.processor for attention in attentions]
    for number, attention in enumerate(attentions):
        attention.set_processor(Processor(attend, number))
    try:
        yield
    finally:
        for attention, processor in zip(attentions, before, strict=True):
            attention.set_processor(processor)
