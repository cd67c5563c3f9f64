"""What of packed samples can be seen: those that light still reaches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int64
from torch import Tensor

from fieldcast.fields.kernels.compositing import reached
from fieldcast.fields.rendering.sampling import Samples

OPAQUE = 1e-3  # leftover transmittance below which what lies behind is not looked at
FIRST = 8  # samples of a ray that are asked about before it is known how opaque they are


@torch.no_grad()
def visible(
    ask: Callable[[Samples], tuple[Tensor, ...]], samples: Samples, opaque: float = OPAQUE
) -> tuple[Samples, tuple[Tensor, ...]]:
    """The samples that more than `opaque` of the light reaches, and what `ask` says of them.

    ask: tensors [M, ...] for M samples, the first of which is their density, 1 / world unit. It is asked front to back,
    some samples of each ray at a time and twice as many the next time: most of what is hidden is never computed.
    """
    count = samples.starts.diff()
    kept, light = torch.zeros_like(count), torch.ones_like(count, dtype=samples.t.dtype)
    begin, size = 0, FIRST
    lots: list[tuple[Tensor, Tensor, list[Tensor]]] = []  # how many each ray had before, has, and what was said
    while True:
        asked, starts = ranges(
            samples.starts[:-1] + begin, torch.where(light > opaque, (count - begin).clamp(0, size), 0)
        )
        if lots and not len(asked):
            break
        part = samples.take(asked, starts)
        values = ask(part)
        found, light = reached(values[0] * part.dt, starts, light, opaque)
        inside, _ = ranges(starts[:-1], found)
        lots.append((kept, found, [asked[inside], *(value[inside] for value in values)]))
        kept, begin, size = kept + found, begin + size, size * 2
    starts = torch.cat([kept.new_zeros(1), kept.cumsum(0)])
    if len(lots) == 1:
        index, *said = lots[0][2]
    else:  # what was found a lot at a time is put in the order of the rays
        places = torch.cat([ranges(starts[:-1] + before, found)[0] for before, found, _ in lots])
        index, *said = (_put(places, torch.cat(column)) for column in zip(*(lot[2] for lot in lots), strict=True))
    return samples.take(index, starts), tuple(said)


def ranges(first: Int64[Tensor, " r"], count: Int64[Tensor, " r"]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " r1"]]:
    """The numbers first_i, first_i + 1 … of each of r runs, `count_i` of them, behind one another; where runs begin."""
    starts = torch.cat([count.new_zeros(1), count.cumsum(0)])
    total = int(starts[-1])
    shift = torch.repeat_interleave(first - starts[:-1], count, output_size=total)
    return shift + torch.arange(total, device=first.device), starts


def _put(places: Tensor, values: Tensor) -> Tensor:
    """`values` in the order in which `places` counts."""
    return torch.empty_like(values).index_copy_(0, places, values)
