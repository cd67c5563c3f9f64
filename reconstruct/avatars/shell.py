"""The field of a surface near a known one: distances to a template, which another field moves and colours.

sigma = Psi(-(d + inset) / beta) / beta, with Psi the cumulative Laplace distribution (VolSDF, Yariv et al. 2021, eq. 2
and 3) and d the template's distance less the offset, at most LIMIT metres, that the inner field tells. VolSDF has no
inset: there rays that graze a surface are stopped outside of it, and what is fitted to outlines becomes too thin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.heads import DensityActivation
from fieldcast.fields.kinds import KINDS, build
from fieldcast.fields.spec import FieldSpec
from fieldcast.reconstruct.avatars.template import Template

LIMIT = 0.08  # metres that the surface may be from the template's
SHORT = 0.01  # metres over which slopes are taken
ROUND = 0.06  # metres: the radius of what people are made of, about
SHARPEST = 1e-5  # metres: the least beta that a file may have
AHEAD = (0.0, 0.0, 1.0)  # the direction along which the inner field is asked for colours


Side = Annotated[int, Meta(ge=2, le=2048)]


@dataclass(frozen=True)
class ShellSizes:
    """of: the spec of the inner field. template: points of the grid of distances along x, y and z. shape: how many
    numbers say which body the template was made of.
    """

    of: FieldSpec
    template: tuple[Side, Side, Side]
    shape: Annotated[int, Meta(ge=0, le=4096)] = 0

    def __post_init__(self) -> None:
        if self.of.kind not in KINDS:
            raise InputError(f"of: expected a kind that is not made of others, found {self.of.kind!r}")


class Shell(Field):
    """Column 0 of the inner field's features is the offset, before it is bounded; the others are its appearance.

    template: distances [X, Y, Z]. shape: of the body that they are of. beta: how sharp the surface is. coarse: the
    distances when `settle` was called last, which files do not hold.
    """

    Sizes = ShellSizes
    template: Tensor
    shape: Tensor
    beta: Tensor
    coarse: Tensor

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: ShellSizes = spec.sizes
        self.inner = build(sizes.of)
        self.shares_features = self.inner.shares_features
        self.register_buffer("template", torch.zeros(sizes.template))
        self.register_buffer("shape", torch.zeros(sizes.shape))
        self.register_buffer("beta", torch.tensor(0.01))
        self.register_buffer("coarse", torch.zeros(sizes.template), persistent=False)

    def distance(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Metres to the surface, about; negative inside."""
        return self._distance(x, self.inner.logit(x))

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        found = self.inner.features(x)
        return torch.cat([self._logit(self._distance(x, found[:, 0]))[:, None], found[:, 1:]], -1)

    def logit(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        return self._logit(self.distance(x))

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """The same from everywhere: a person at rest is seen along other directions than in the world."""
        return self.inner.color(features, d.new_tensor(AHEAD).expand_as(d))

    def check(self, what: str) -> None:
        if not SHARPEST <= float(self.beta) <= 1:
            raise InputError(f"{what}: beta: expected metres from {SHARPEST:g} to 1, found {float(self.beta):g}")
        self.inner.check(what)

    def ready(self) -> None:
        self.coarse = torch.zeros_like(self.template)
        self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Computes the distances at the template's points anew, for `roughly`."""
        distances = self.template.clone()
        near = (distances.abs() < 2 * LIMIT).nonzero()
        last = torch.tensor(distances.shape, device=distances.device) - 1
        x = self.spec.space.from_unit(near / last)
        distances[near.unbind(1)] = torch.cat([self.distance(part) for part in x.split(1 << 16)])
        self.coarse.copy_(distances)

    @torch.no_grad()
    def roughly(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """The distance at the nearest of the template's points, as it was when `settle` was called last."""
        shape = torch.tensor(self.coarse.shape, device=x.device)
        i, j, k = (self.spec.space.to_unit(x) * (shape - 1) + 0.5).long().unbind(-1)
        return self.coarse.reshape(-1)[(i * shape[1] + j) * shape[2] + k]

    def log_density(self, distance: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The logarithm of sigma, 1 / metre, at distances from the surface."""
        return log_laplace(-(distance + inset(self.beta)) / self.beta) - self.beta.log()

    def beneath(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Where rays that meet the surface at places come to an end, whose colours are seen there."""
        steps = SHORT * torch.cat([torch.eye(3), -torch.eye(3)]).to(x.device)
        around = self.spec.space.to_unit(x[:, None] + steps).reshape(-1, 3)
        ahead, back = trilinear(self.template, around).reshape(-1, 2, 3).unbind(1)
        return x - inset(self.beta) * nn.functional.normalize(ahead - back, dim=-1)

    def near(self, count: int, generator: torch.Generator) -> Float[Tensor, "n 3"]:
        """Random places near the surface."""
        near = (self.coarse.abs() < 2 * SHORT).nonzero()
        index = torch.randint(max(len(near), 1), (min(count, len(near)),), generator=generator).to(near.device)
        jitter = torch.rand(len(index), 3, generator=generator).to(near.device)
        last = torch.tensor(self.coarse.shape, device=near.device) - 1
        return self.spec.space.from_unit(((near[index] + jitter - 0.5) / last).clamp(0, 1))

    def offset(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Metres by which the surface is outside of the template's."""
        return LIMIT * torch.tanh(self.inner.logit(x))

    def unevenness(
        self, x: Float[Tensor, "n 3"], generator: torch.Generator
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """How much the offset changes along a metre, over about SHORT metres in random directions; and how many metres
        it differs from that at the place's mirror image (bodies are symmetric about x = 0).
        """
        way = torch.randn(len(x), 3, generator=generator).to(x.device)
        mirrored = x * x.new_tensor([-1.0, 1.0, 1.0])
        here, there, opposite = self.offset(torch.cat([x, x + SHORT * way, mirrored])).chunk(3)
        return (there - here) / (SHORT * way.norm(dim=-1)).clamp_min(1e-4), opposite - here

    def _distance(self, x: Float[Tensor, "n 3"], offset: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return trilinear(self.template, self.spec.space.to_unit(x)) - LIMIT * torch.tanh(offset)

    def _logit(self, distance: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """log(sigma unit): the density activation is exp."""
        return self.log_density(distance) + math.log(self.spec.space.unit)


def shell_of(template: Template, inner: FieldSpec, seed: int = 0, shape: Float[Tensor, " s"] | None = None) -> Shell:
    """A shell whose surface is the template's. inner: a spec whose space is replaced by the template's.

    shape: of the body that the template is of.
    """
    x, y, z = template.distances.shape
    inner, shape = replace(inner, space=template.space), torch.zeros(0) if shape is None else shape
    sizes = ShellSizes(inner, (x, y, z), len(shape))
    spec = replace(inner, kind="shell", sizes=sizes, density=DensityActivation(), occupancy=64, steps=256)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        shell = Shell(spec)
    shell.template.copy_(template.distances)
    shell.shape.copy_(shape)
    shell.settle()
    return shell


def inset(beta: Tensor) -> Tensor:
    """Metres: how deep inside of a surface the density has half its height, for outlines to be at the surface.

    The optical depth along a ray that grazes a ball of radius ROUND, whose density falls outwards as exp(-d / beta), is
    half exp(-inset / beta) sqrt(2 pi ROUND / beta); of light, half comes through where that is log 2.
    """
    return beta * ((2 * math.pi * ROUND / beta).sqrt() / (2 * math.log(2))).log().clamp_min(0)


def log_laplace(u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The logarithm of the cumulative Laplace distribution: of 1/2 exp(u) for u < 0, of 1 - 1/2 exp(-u) beyond."""
    return torch.where(u < 0, u - math.log(2), torch.log1p(-0.5 * torch.exp(-u.clamp_min(0))))


def trilinear(grid: Float[Tensor, "x y z"], u: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Values between the points of a grid over the unit cube, whose corners are grid points; differentiable in u."""
    at = (2 * u - 1).flip(-1)[None, None, None]
    found: Tensor = nn.functional.grid_sample(grid[None, None], at, align_corners=True, padding_mode="border")
    return found.reshape(-1)
