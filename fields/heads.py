"""How features become density and colour: activations, and the two small networks that kinds share.

Letters: `s` the density logit, `sigma` density. Kinds compute density per half box side (`Space.unit`); `Field` turns
it into 1 / world unit, so that a scene and its scaled copy have the same parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.kernels.dense import dense
from fieldcast.fields.kernels.harmonics import harmonics

HARMONICS = 16  # of directions, which come before the appearance features in what colour is made of
FEATURES = 16  # F of the distillation paper: the density logit and 15 appearance features

ColorActivation = Literal["sigmoid", "shifted_clamp"]
"""`sigmoid`; or `shifted_clamp`, clamp(c + 1/2, 0, 1), as Plenoxels and splats store colour."""


class _TruncatedExp(torch.autograd.Function):
    """exp whose gradient is bounded: g * exp(clamp(s, -12, 12)), as PVD and torch-ngp do."""

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        ctx.save_for_backward(s)
        return torch.exp(s.clamp(max=80))  # e^80 is opaque already, and finite in float32

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (s,) = ctx.saved_tensors
        return grad * torch.exp(s.clamp(-12, 12))


def truncated_exp(s: Tensor) -> Tensor:
    """exp(s), with the gradient bounded to that of s in [-12, 12]."""
    return _TruncatedExp.apply(s)  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True)
class DensityActivation:
    """sigma = scale * f(s + shift), with f one of exp, softplus and relu; per half box side.

    clip: what s is clamped to first, as PVD does; None: it is not.
    """

    name: Literal["exp", "softplus", "relu"] = "exp"
    shift: float = 0.0
    scale: Annotated[float, Meta(gt=0)] = 1.0
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.shift) and math.isfinite(self.scale)):
            raise InputError(f"density: expected a finite shift and scale, found {self.shift} and {self.scale}")
        if self.clip is not None and not -1e30 < self.clip[0] < self.clip[1] < 1e30:
            raise InputError(f"density: clip: expected two finite numbers that rise, found {self.clip}")

    def __call__(self, s: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Density, never negative."""
        s = s if self.clip is None else s.clamp(*self.clip)
        if self.name == "exp":
            return self.scale * truncated_exp(s + self.shift)
        activation = nn.functional.softplus if self.name == "softplus" else torch.relu
        return self.scale * activation(s + self.shift)

    def logit(self, log_density: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The logit of a density that is given by its natural logarithm."""
        value = log_density - math.log(self.scale)
        if self.name == "softplus":
            y = value.exp()
            value = y + torch.log(-torch.expm1(-y))
        elif self.name == "relu":
            value = value.exp()
        return value - self.shift

    def log(self, s: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The natural logarithm of the density; at least -30, where there is none."""
        if self.name == "exp":
            s = s if self.clip is None else s.clamp(*self.clip)
            return s + (self.shift + math.log(self.scale))
        return torch.log(self(s).clamp_min(math.exp(-30)))


def inverse_color(rgb: Float[Tensor, "*n"], name: ColorActivation) -> Float[Tensor, "*n"]:
    """What `activate_color` makes that colour of; of sigmoids, no nearer to black and white than 0.01."""
    return torch.logit(rgb.clamp(0.01, 0.99)) if name == "sigmoid" else rgb - 0.5


def activate_color(raw: Float[Tensor, "*n"], name: ColorActivation) -> Float[Tensor, "*n"]:
    """Colour in [0, 1] from what a kind computes."""
    return torch.sigmoid(raw) if name == "sigmoid" else (raw + 0.5).clamp(0, 1)


PAD = 2048  # rows: bfloat16 multiplications are set up anew, at a cost, for each number of rows that they meet


class Network(nn.Module):
    """A small network that can compute in bfloat16 while it is trained: half the time where processors have it.

    What goes in and comes out is float32, and so are the parameters.
    """

    precision: torch.dtype = torch.float32

    def forward(self, *inputs: Float[Tensor, "n _"]) -> Float[Tensor, "n _"]:
        if self.precision == torch.float32:
            return self.run(*inputs)
        rows = len(inputs[0])
        padded = [nn.functional.pad(x.to(self.precision), (0, 0, 0, -rows % PAD)) for x in inputs]
        return self.run(*padded)[:rows].float()

    def run(self, *inputs: Tensor) -> Tensor:
        """What the network computes, in the type of what goes in."""
        raise NotImplementedError


@contextmanager
def trained_in(field: nn.Module, precision: torch.dtype) -> Iterator[None]:
    """Lets the networks of a field compute in another precision, for a while."""
    networks = [module for module in field.modules() if isinstance(module, Network)]
    for network in networks:
        network.precision = precision
    try:
        yield
    finally:
        for network in networks:
            network.precision = torch.float32


def training_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it, float32 elsewhere."""
    has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if device.type == "cpu" and has_bfloat16() else torch.float32


class SigmaNet(Network, nn.Sequential):
    """An encoding to F, or as many features: Linear, ReLU, Linear, without biases (PVD, Instant-NGP) or with them."""

    def __init__(self, inputs: int, hidden: int, features: int = FEATURES, bias: bool = False) -> None:
        nn.Sequential.__init__(
            self, nn.Linear(inputs, hidden, bias=bias), nn.ReLU(), nn.Linear(hidden, features, bias=bias)
        )

    def run(self, *inputs: Tensor) -> Tensor:
        return dense(inputs[0], linear_layers(self))


class Basis(Network, nn.Linear):
    """Components [N, C] to appearance features [N, 15], or so many, linearly (TensoRF's appearance matrix)."""

    def __init__(self, components: int, features: int = FEATURES - 1) -> None:
        nn.Linear.__init__(self, components, features, bias=False)

    def run(self, *inputs: Tensor) -> Tensor:
        return dense(inputs[0], [self])


class ColorNet(Network):
    """Appearance features [N, 15] and directions [N, 3] to raw colour [N, 3]: three layers, commonly without biases."""

    def __init__(self, hidden: int, appearance: int = FEATURES - 1, bias: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(HARMONICS + appearance, hidden, bias=bias),
            nn.ReLU(),
            nn.Linear(hidden, hidden, bias=bias),
            nn.ReLU(),
            nn.Linear(hidden, 3, bias=bias),
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Directions become harmonics in full precision."""
        appearance, d = inputs
        return super().forward(torch.cat([harmonics(d, 3), appearance], -1))

    def run(self, *inputs: Tensor) -> Tensor:
        return dense(inputs[0], linear_layers(self.layers))


def linear_layers(layers: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in layers if isinstance(layer, nn.Linear)]
