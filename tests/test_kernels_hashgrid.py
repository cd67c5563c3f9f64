from __future__ import annotations

from itertools import pairwise

import torch

from fieldcast.fields.kernels.hashgrid import hash_encode_reference, hash_levels


def test_levels_of_pvd() -> None:
    levels = hash_levels(14, 16, 2048, 19)
    assert [level.offset for level in levels[:7]] == [0, 4920, 20552, 63432, 196088, 585112, 1109400]
    assert all(b.offset - a.offset == 524288 for a, b in pairwise(levels[5:]))
    assert levels[-1].offset + levels[-1].rows == 5303704


def test_gradients() -> None:
    levels = hash_levels(3, 2, 9, 6)
    assert [level.dense for level in levels] == [True, False, False]
    u = torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
    table = torch.randn(levels[-1].offset + levels[-1].rows, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u, table: hash_encode_reference(u, table, levels), (u, table))
