"""What a morph costs: seconds, evaluations of the prior's network, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fieldcast.fields.field import Field
from fieldcast.fields.space import Space
from fieldcast.morph.attention import Attend
from fieldcast.morph.priors import Condition, Prior
from fieldcast.morph.volumes import Volume

PROCESS = Path("/proc/self")


@dataclass
class Cost:
    """seconds: of wall time. evaluations: of the network, one for each latent that it is given. memory: the most that
    was in use beyond what was when it began, MB: of the GPU if the network is there, else of the whole process; None
    where it cannot be told.
    """

    seconds: float = 0.0
    evaluations: int = 0
    memory: float | None = None


@contextmanager
def measured(prior: Counted) -> Iterator[Cost]:
    """What is spent inside, which is known behind it."""
    cost, before, start = Cost(), prior.evaluations, time.perf_counter()
    device = next(prior.network.parameters()).device
    _forget_peak(device)
    there = _peak(device)
    yield cost
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    cost.seconds = time.perf_counter() - start
    cost.evaluations = prior.evaluations - before
    peak = _peak(device)
    cost.memory = None if peak is None or there is None else peak - there


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")


def _peak(device: torch.device) -> float | None:
    """MB since it was forgotten; a process can tell on Linux alone."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("VmHWM:")), None)


class Counted:
    """A prior that counts how often its network is evaluated."""

    def __init__(self, prior: Prior) -> None:
        self.prior, self.evaluations = prior, 0

    @property
    def name(self) -> str:
        return self.prior.name

    @property
    def shape(self) -> tuple[int, int]:
        return self.prior.shape

    @property
    def positions(self) -> Float[Tensor, "t 3"] | None:
        return self.prior.positions

    @property
    def groups(self) -> Int64[Tensor, " s"] | None:
        return self.prior.groups

    @property
    def parts(self) -> dict[str, slice]:
        return self.prior.parts

    @property
    def structural(self) -> tuple[int, ...]:
        return self.prior.structural

    @property
    def grids(self) -> bool:
        return self.prior.grids

    @property
    def network(self) -> nn.Module:
        return self.prior.network

    @property
    def adapted(self) -> tuple[str, ...]:
        return self.prior.adapted

    def encode(self, volume: Volume) -> Float[Tensor, "t c"]:
        return self.prior.encode(volume)

    def known(self, name: str) -> str:
        return self.prior.known(name)

    def times(self, steps: int) -> list[float]:
        return self.prior.times(steps)

    def embed(self, caption: str) -> Condition:
        return self.prior.embed(caption)

    def velocity(
        self, x: Float[Tensor, "b t c"], t: Float[Tensor, " b"], condition: Condition, attend: Attend
    ) -> Float[Tensor, "b t c"]:
        self.evaluations += len(x)
        return self.prior.velocity(x, t, condition, attend)

    def volume(self, latent: Float[Tensor, "t c"], space: Space) -> Volume:
        return self.prior.volume(latent, space)

    def decode(self, latent: Float[Tensor, "t c"], space: Space) -> Field:
        return self.prior.decode(latent, space)
