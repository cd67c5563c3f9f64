"""Parameters of tiny-cuda-nn, which are one vector: taken apart and put together without it.

A network comes first, layer after layer, each a matrix [outputs, inputs], row after row, without biases; then the
encoding that feeds it, if that is part of the module. The inputs of the first matrix and the outputs of the last one
are padded to a multiple of 16 (8 in modules from before September 2022). What feeds a padding input decides what its
column does: hash grids feed 0, everything else feeds 1, which makes the column a bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Layer = tuple[Tensor, Tensor | None]  # a matrix [outputs, inputs] and a bias [outputs]
MULTIPLES = 16, 8


@dataclass(frozen=True)
class Perceptron:
    """The shape of a network: `hidden` layers of `width`, and the layer that makes `outputs` of the last of them."""

    inputs: int
    width: int
    hidden: int
    outputs: int
    multiple: int = 16

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Of the matrices, [outputs, inputs], with padding."""
        ends = [_padded(self.inputs, self.multiple), *[self.width] * self.hidden, _padded(self.outputs, self.multiple)]
        return list(zip(ends[1:], ends, strict=False))

    @property
    def count(self) -> int:
        """How many parameters it has."""
        return sum(rows * columns for rows, columns in self.shapes)

    def unpacked(self, params: Float[Tensor, " p"], fed: float) -> list[Layer]:
        """The layers in the first `count` parameters; the first has a bias if its padding inputs are `fed` 1."""
        parts = params[: self.count].split([rows * columns for rows, columns in self.shapes])
        matrices = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        bias = fed * matrices[0][:, self.inputs :].sum(1) if fed and matrices[0].shape[1] > self.inputs else None
        matrices[0], matrices[-1] = matrices[0][:, : self.inputs], matrices[-1][: self.outputs]
        return [(matrices[0], bias), *((matrix, None) for matrix in matrices[1:])]

    def packed(self, matrices: list[Tensor]) -> Float[Tensor, " p"]:
        """The inverse, of layers without biases: padding is 0."""
        parts = []
        for matrix, shape in zip(matrices, self.shapes, strict=True):
            whole = matrix.new_zeros(shape)
            whole[: matrix.shape[0], : matrix.shape[1]] = matrix
            parts.append(whole.flatten())
        return torch.cat(parts)


def fitting(inputs: int, width: int, hidden: int, outputs: int, count: int) -> Perceptron | None:
    """The network of that shape that has `count` parameters, by the padding of its time; None: there is none."""
    made = [Perceptron(inputs, width, hidden, outputs, multiple) for multiple in MULTIPLES]
    return next((network for network in made if network.count == count), None)


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
