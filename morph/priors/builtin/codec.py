"""Objects to latents and back: blocks of the grid by their principal components, and small convolutions about them.

A grid of 64^3 cells is cut into 8^3 blocks of 8^3 cells. A block is some principal components of its distances, and
some of each of its three colours (bases: orthonormal). Encoders turn these into a few numbers a block, shape and colour
apart; decoders turn them into components again, and add what blocks alone cannot hold: what crosses their borders.
Distances come from the shape's numbers alone, so that an object that is coloured anew keeps its shape.

Grids come as blocks [B, G, G, G, 4, 512]: of each its cells' distances, in BANDs, and their sRGB colours less 1/2.

Letters: B objects, G blocks a side, R = 8 G cells a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional

BLOCK = 8
CELLS = BLOCK**3
Count = Annotated[int, Meta(ge=1, le=512)]


@dataclass(frozen=True)
class CodecSizes:
    """shape_basis, color_basis: components a block, of distances and of each colour. shape, color: numbers of a latent
    a block. width: channels of the convolutions at the blocks; fine: of those at twice as many.
    """

    shape_basis: Count = 64
    color_basis: Count = 12
    shape: Count = 12
    color: Count = 8
    width: Count = 64
    fine: Count = 32


class Codec(nn.Module):
    """shape [B, shape, G, G, G] and color [B, color, G, G, G] latents of grids of distances and colours."""

    shape_basis: Tensor
    color_basis: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, sizes: CodecSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("shape_basis", torch.zeros(CELLS, sizes.shape_basis))
        self.register_buffer("color_basis", torch.zeros(CELLS, sizes.color_basis))
        self.register_buffer("mean", torch.zeros(sizes.shape + sizes.color))
        self.register_buffer("deviation", torch.ones(sizes.shape + sizes.color))
        shape, color, width = sizes.shape_basis, 3 * sizes.color_basis, sizes.width
        self.shape_encoder = _net(shape, width, 1, sizes.shape)
        self.color_encoder = _net(shape + color, width, 1, sizes.color)
        self.shape_decoder = Decoder(sizes.shape, sizes.shape_basis, 1, width, sizes.fine)
        self.color_decoder = Decoder(sizes.shape + sizes.color, sizes.color_basis, 3, width, sizes.fine)

    def analyse(self, blocks: Float[Tensor, "b g g g 4 512"]) -> Float[Tensor, "b k g g g"]:
        """The components of all blocks."""
        shape, color = blocks[..., 0, :] @ self.shape_basis, blocks[..., 1:, :] @ self.color_basis
        return torch.cat([shape, color.flatten(-2)], -1).permute(0, 4, 1, 2, 3)

    def encode(
        self, components: Float[Tensor, "b k g g g"]
    ) -> tuple[Float[Tensor, "b shape g g g"], Float[Tensor, "b color g g g"]]:
        """Latents of shape and of colour; the former knows nothing of colour."""
        return self.shape_encoder(components[:, : self.sizes.shape_basis]), self.color_encoder(components)

    def decode(
        self, shape: Float[Tensor, "b shape g g g"], color: Float[Tensor, "b color g g g"]
    ) -> Float[Tensor, "b g g g 4 512"]:
        """The blocks, whose colours may lie a little outside of -1/2..1/2."""
        distances = self.shape_decoder(shape, self.shape_basis)
        return torch.cat([distances, self.color_decoder(torch.cat([shape, color], 1), self.color_basis)], -2)

    def normalized(self, latent: Float[Tensor, "b c g g g"]) -> Float[Tensor, "b c g g g"]:
        """Latents whose channels have mean 0 and deviation 1 over the objects that were learned."""
        return (latent - self.mean[:, None, None, None]) / self.deviation[:, None, None, None]

    def restored(self, latent: Float[Tensor, "b c g g g"]) -> Float[Tensor, "b c g g g"]:
        """The inverse."""
        restored: Tensor = latent * self.deviation[:, None, None, None] + self.mean[:, None, None, None]
        return restored


class Decoder(nn.Module):
    """Some channels of blocks, from `into` numbers a block and their neighbours'."""

    def __init__(self, into: int, basis: int, channels: int, width: int, fine: int) -> None:
        """basis: components a channel. fine: channels of the convolutions at twice as many cells as blocks."""
        super().__init__()
        self.channels = channels
        self.trunk = _net(into, width, 3, width)
        self.components = nn.Conv3d(width, channels * basis, 1)
        self.twice, self.twice_body = nn.Conv3d(width, 8 * fine, 1), Residual(fine)
        self.cells = nn.Conv3d(fine, channels * 64, 1)

    def forward(
        self, latent: Float[Tensor, "b into g g g"], basis: Float[Tensor, "512 k"]
    ) -> Float[Tensor, "b g g g c 512"]:
        """basis: of each channel."""
        h = self.trunk(latent)
        components = self.components(h).permute(0, 2, 3, 4, 1).unflatten(-1, (self.channels, -1))
        fine = self.twice_body(finer(self.twice(functional.silu(h)), 2))
        crossing = to_blocks(finer(self.cells(functional.silu(fine)), 4))
        return components @ basis.T + crossing  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two convolutions and what went in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv3d(channels, channels, 3, padding=1) for _ in range(2))
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, h: Float[Tensor, "b c g g g"]) -> Float[Tensor, "b c g g g"]:
        return h + self.second(functional.silu(self.first(functional.silu(h))))  # type: ignore[no-any-return]


def _net(into: int, width: int, depth: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(into, width, 1), *(Residual(width) for _ in range(depth)), nn.SiLU(), nn.Conv3d(width, out, 1)
    )


def to_blocks(grid: Float[Tensor, "b c r r r"]) -> Float[Tensor, "b g g g c 512"]:
    """A grid, block by block."""
    g = grid.shape[2] // BLOCK
    cut: Tensor = grid.unflatten(2, (g, BLOCK)).unflatten(4, (g, BLOCK)).unflatten(6, (g, BLOCK))
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(5)


def from_blocks(blocks: Float[Tensor, "b g g g c 512"]) -> Float[Tensor, "b c r r r"]:
    """The inverse of `to_blocks`."""
    cut: Tensor = blocks.unflatten(5, (BLOCK, BLOCK, BLOCK)).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return cut.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def finer(h: Float[Tensor, "b ck g g g"], times: int) -> Float[Tensor, "b c h h h"]:
    """So many times as many cells a side, of fewer channels."""
    cut: Tensor = h.unflatten(1, (-1, times, times, times)).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return cut.flatten(6, 7).flatten(4, 5).flatten(2, 3)
