"""Plenoxels: a sparse grid of density logits and spherical harmonics, without networks (PVD's `tensors`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from msgspec import Meta
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.field import Field, shortage
from fieldcast.fields.heads import activate_color
from fieldcast.fields.kernels.harmonics import harmonics
from fieldcast.fields.kernels.voxels import BLOCK, trilinear
from fieldcast.fields.occupancy import Occupancy
from fieldcast.fields.spec import FieldSpec

EMPTY_LOGIT = -10.0  # of vertices that are not stored: e^-10 per half box side is nothing
Side = Annotated[int, Meta(ge=2, le=2048)]


@dataclass(frozen=True)
class VoxelsSizes:
    """PVD's sizes. resolution: vertices a side. degree: of spherical harmonics. blocks: 8^3 blocks stored; 0: all.

    The outermost vertices lie on the faces of the box. Not so with cells, how many the box has along x, y and z, as
    Plenoxels has them: a vertex is in the middle of each, and what is beyond the outermost ones is as at them. Then
    resolution says nothing.
    """

    resolution: Side = 128
    degree: Literal[0, 1, 2, 3] = 2
    blocks: Annotated[int, Meta(ge=0, le=1 << 24)] = 0
    cells: Annotated[tuple[Side, ...], Meta(min_length=0, max_length=3)] = ()

    def __post_init__(self) -> None:
        if len(self.cells) not in (0, 3):
            raise InputError(f"cells: expected how many along x, y and z, or none, found {len(self.cells)} numbers")

    @property
    def sides(self) -> tuple[int, ...]:
        """Vertices along x, y and z."""
        return self.cells or (self.resolution,) * 3

    @property
    def longest(self) -> int:
        return max(self.sides)

    @property
    def blocks_per_side(self) -> int:
        return -(-self.longest // BLOCK)

    def position(self, u: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Points of the unit cube counted in vertices, the first of which is 0."""
        if not self.cells:
            return u * (self.resolution - 1)
        sides = u.new_tensor(self.cells)
        return torch.minimum((u * sides - 0.5).clamp_min(0), sides - 1)


class VoxelsField(Field):
    """`features` are the values themselves: the density logit and 3 x (degree + 1)^2 harmonics, colour by colour."""

    Sizes = VoxelsSizes
    shares_features = False
    points_per_step = 1 << 16  # without networks a point costs little, and AdamW the same for any number of them
    block_table: Tensor

    def __init__(self, spec: FieldSpec) -> None:
        super().__init__(spec)
        sizes: VoxelsSizes = spec.sizes
        side = sizes.blocks_per_side
        stored = sizes.blocks or side**3
        channels = 1 + 3 * (sizes.degree + 1) ** 2
        table = torch.arange(side**3, dtype=torch.int32)
        self.register_buffer("block_table", torch.where(table < stored, table, -1).reshape(side, side, side))
        self.data = nn.Parameter(torch.empty(stored * BLOCK**3, channels).normal_(0, 0.02))

    def features(self, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        u = self._in_lattice(self.spec.space.to_unit(x))
        return trilinear(u, self.data, self.block_table, self.spec.sizes.longest, self._empty())

    def spread(self, u: Float[Tensor, "n 3"], values: Float[Tensor, "n c"]) -> Float[Tensor, "rows c"]:
        """Values at points of the unit cube, added to the vertices around them by their trilinear weights."""
        rows = values.new_zeros(len(self.data), values.shape[1], requires_grad=True)
        with torch.enable_grad():
            looked_up = trilinear(
                self._in_lattice(u), rows, self.block_table, self.spec.sizes.longest, rows.detach()[0]
            )
        return torch.autograd.grad(looked_up, rows, values)[0]

    def _in_lattice(self, u: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Points of the unit cube that reaches from the first to the last vertex."""
        sizes: VoxelsSizes = self.spec.sizes
        return sizes.position(u) / (sizes.longest - 1) if sizes.cells else u

    def _empty(self) -> Float[Tensor, " c"]:
        """What a vertex that is not stored holds; of relu, no less than what nothing needs (Plenoxels' zero)."""
        empty, density = self.data.new_zeros(self.data.shape[1]), self.spec.density
        empty[0] = -density.shift if density.name == "relu" else EMPTY_LOGIT
        return empty

    def learning_rates(self) -> list[tuple[list[nn.Parameter], float]]:
        # Colours have a smaller range than the logits of colours: 2 dB more of a conversion of lego at a fifth.
        return [(list(self.parameters()), 2e-3 if self.spec.color == "shifted_clamp" else 1e-2)]

    def stride(self, steps: int) -> float:
        # The parameters are the logits themselves, which have far to go: from 0 to 7 takes 700 steps of 0.01. Measured
        # from 150 to 650 steps of distillation.
        return math.pow(shortage(steps), 0.6)

    def check(self, what: str) -> None:
        table, stored = self.block_table, self.spec.sizes.blocks or self.block_table.numel()
        if int(table.min()) < -1 or int(table.max()) >= stored:
            raise InputError(f"{what}: block_table: expected rows of {stored} blocks or -1")

    def color(self, features: Float[Tensor, "n f"], d: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        basis = harmonics(d, self.spec.sizes.degree)
        coefficients = features[:, 1:].unflatten(1, (3, -1))
        return activate_color((coefficients * basis[:, None]).sum(-1), self.spec.color)

    def allocate(self, occupancy: Occupancy) -> VoxelsField:
        """A field with blocks just where `occupancy` needs them; values that both store are kept."""
        sizes: VoxelsSizes = self.spec.sizes
        wanted = needed_blocks(occupancy, sizes).to(self.device) & (self.block_table >= 0)
        if not bool(wanted.any()):
            wanted.view(-1)[int((self.block_table.view(-1) >= 0).nonzero()[0])] = True
        table = torch.full_like(self.block_table, -1)
        table[wanted] = torch.arange(int(wanted.sum()), dtype=torch.int32, device=self.device)
        spec = replace(self.spec, sizes=replace(sizes, blocks=int(wanted.sum())))
        with torch.device("meta"):
            field = VoxelsField(spec)
        rows = self.data.detach().reshape(-1, BLOCK**3, self.data.shape[1])[self.block_table[wanted].long()]
        field.data = nn.Parameter(rows.reshape(-1, self.data.shape[1]).clone())
        field.block_table = table
        field.occupancy_bits, field.views = occupancy.bits.to(self.device), self.views
        return field


def needed_blocks(occupancy: Occupancy, sizes: VoxelsSizes) -> Bool[Tensor, "g g g"]:
    """The blocks that hold a corner of a voxel that touches an occupied cell."""
    cells = occupancy.cells()
    last = torch.tensor(sizes.sides, device=cells.device) - 1
    needed = torch.zeros((sizes.blocks_per_side,) * 3, dtype=torch.bool, device=cells.device)
    low = cells.nonzero() / occupancy.resolution
    first = sizes.position(low).floor().long()
    final = torch.minimum(sizes.position(low + 1 / occupancy.resolution).ceil().long(), last)
    # A cell spans few blocks: mark those of all vertices from its first to its last, in strides of at most a block.
    # Rounding outwards makes it up to two vertices longer than its share of the grid.
    strides = 1 + (sizes.longest // occupancy.resolution + 2) // BLOCK
    for fraction in torch.cartesian_prod(*[torch.linspace(0, 1, strides + 1)] * 3):
        vertex = (first + ((final - first) * fraction.to(first.device)).round().long()) // BLOCK
        needed[vertex[:, 0], vertex[:, 1], vertex[:, 2]] = True
    return needed
