from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from fieldcast.fields.kernels.marching import march, march_reference, occupied
from fieldcast.fields.space import Contraction, Space

CONTRACTIONS = pytest.mark.parametrize("contraction", ["none", "sphere", "cube"])
BOTH = pytest.mark.parametrize("marcher", [march, march_reference])


@dataclass
class Scene:
    """Arguments of `march`; far reaches well beyond the box."""

    origins: Tensor
    directions: Tensor
    near: Tensor
    far: Tensor
    offsets: Tensor
    jitter: Tensor
    occupancy: Tensor
    resolution: int
    space: Space

    def run(self, marcher: Any, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        tensors = (self.origins, self.directions, self.near, self.far, self.offsets, self.jitter)
        result: tuple[Tensor, Tensor, Tensor] = marcher(
            *(tensor.to(dtype) for tensor in tensors), self.occupancy, self.resolution, self.space
        )
        return result

    def times(self) -> Tensor:
        """Where the samples of all steps are, [rays, steps]."""
        return self.near[:, None] + self.offsets[:-1] + self.jitter[:, None] * self.offsets.diff()

    def kept(self, result: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Which steps of which ray a result holds, [rays, steps]."""
        starts, t, _ = result
        ray = torch.repeat_interleave(torch.arange(len(self.origins)), starts.diff())
        step = (self.times()[ray] - t[:, None]).abs().argmin(1)
        keep = torch.zeros_like(self.times(), dtype=torch.bool)
        keep[ray, step] = True
        assert keep.sum() == len(t)
        return keep


def pack(full: Tensor) -> Tensor:
    """Bits of the cells [x, y, z], low bit first."""
    flat = torch.nn.functional.pad(full.flatten().to(torch.uint8), (0, -full.numel() % 8)).view(-1, 8)
    return (flat << torch.arange(8, dtype=torch.uint8)).sum(1).to(torch.uint8)


def scene(contraction: Contraction, resolution: int, rays: int = 200, share: float = 0.3, steps: int = 60) -> Scene:
    generator = torch.Generator().manual_seed(resolution)
    space = Space((-1.0, -2.0, -0.5, 1.5, 1.0, 1.0), contraction)
    origins = torch.randn(rays, 3, generator=generator) * 2
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator) - origins, dim=-1)
    offsets = torch.cumsum(torch.rand(steps + 1, generator=generator) * 0.2, 0)
    near, far = torch.rand(rays, generator=generator), 3 + 9 * torch.rand(rays, generator=generator)
    full = torch.rand((resolution,) * 3, generator=generator) < share
    full[resolution // 3 :, resolution // 4 :] = False  # leaves whole blocks empty
    jitter = torch.rand(rays, generator=generator)
    return Scene(origins, directions, near, far, offsets, jitter, pack(full), resolution, space)


def unit_by_hand(x: list[float], space: Space) -> list[float]:
    low, high = space.aabb[:3], space.aabb[3:]
    if space.bounded:
        return [(c - a) / (b - a) for c, a, b in zip(x, low, high, strict=True)]
    n = [(2 * c - a - b) / (b - a) for c, a, b in zip(x, low, high, strict=True)]
    norm = sqrt(sum(c * c for c in n)) if space.contraction == "sphere" else max(abs(c) for c in n)
    shrink = (2 - 1 / norm) / norm if norm > 1 else 1
    return [(c * shrink + 2) / 4 for c in n]


def march_by_hand(s: Scene) -> list[list[tuple[float, float]]]:
    """(t, dt) of the samples of each ray, in Python floats."""
    offsets, rays = s.offsets.tolist(), []
    for o, d, near, far, jitter in zip(
        *(tensor.tolist() for tensor in (s.origins, s.directions, s.near, s.far, s.jitter)), strict=True
    ):
        samples = []
        for k in range(len(offsets) - 1):
            dt = offsets[k + 1] - offsets[k]
            t = near + offsets[k] + jitter * dt
            u = unit_by_hand([a + t * b for a, b in zip(o, d, strict=True)], s.space)
            x, y, z = (min(max(int(c * s.resolution // 1), 0), s.resolution - 1) for c in u)
            flat = (x * s.resolution + y) * s.resolution + z
            if t < far and int(s.occupancy[flat >> 3]) >> (flat & 7) & 1:
                samples.append((t, dt))
        rays.append(samples)
    return rays


@CONTRACTIONS
@BOTH
def test_against_a_loop(marcher: Any, contraction: Contraction) -> None:
    s = scene(contraction, 13, rays=20)
    starts, t, dt = s.run(marcher, torch.float32 if marcher is march else torch.float64)
    expected = march_by_hand(s)
    assert starts.tolist() == [sum(map(len, expected[:i])) for i in range(21)]
    flat = torch.tensor([sample for ray in expected for sample in ray])
    assert len(flat) > 50
    torch.testing.assert_close(torch.stack((t, dt), -1).float(), flat, rtol=0, atol=1e-5)


@CONTRACTIONS
@pytest.mark.parametrize("resolution", [1, 7, 32, 50])
def test_compiled_equals_plain(contraction: Contraction, resolution: int) -> None:
    s = scene(contraction, resolution, rays=400, share=0.1, steps=150)
    fast, plain = s.run(march), s.run(march_reference)
    assert len(fast[1]) == fast[0][-1] == len(fast[2])
    different = s.kept(fast) ^ s.kept(plain)
    for ray, step in different.nonzero().tolist():  # only on the border of two cells
        x = s.origins[ray] + s.times()[ray, step] * s.directions[ray]
        u = s.space.to_unit(x[None])[0] * resolution
        assert ((u - u.round()).abs() < 2e-3).any()
    assert different.sum() <= len(plain[1]) // 500


@BOTH
@pytest.mark.parametrize("full", [False, True])
def test_empty_and_full_grids(marcher: Any, full: bool) -> None:
    s = scene("none", 16, rays=10)
    s.occupancy.fill_(255 if full else 0)
    starts, t, _ = s.run(marcher)
    assert starts.diff().tolist() == ((s.times() < s.far[:, None]).sum(1) * full).tolist()
    assert t.isfinite().all()


@BOTH
def test_rays_that_miss_have_no_samples(marcher: Any) -> None:
    s = scene("none", 16, rays=4, share=1.0)
    s.near[1], s.far[1] = float("inf"), float("-inf")
    s.near[2], s.far[2] = 2.0, 1.0
    counts = s.run(marcher)[0].diff().tolist()
    assert counts[0] > 0 and counts[1] == counts[2] == 0


@BOTH
@pytest.mark.parametrize(("rays", "steps"), [(0, 10), (3, 0)])
def test_nothing_to_march(marcher: Any, rays: int, steps: int) -> None:
    starts, t, dt = scene("cube", 8, rays=rays, steps=steps).run(marcher)
    assert starts.tolist() == [0] * (rays + 1) and len(t) == len(dt) == 0


def test_axis_parallel_rays_skip_nothing() -> None:
    s = scene("none", 24, rays=60, share=0.1, steps=400)
    s.directions = torch.eye(3).repeat(20, 1) * torch.tensor([1.0, -1.0]).repeat(30)[:, None]
    s.origins = s.origins / 4
    s.near, s.offsets = torch.full((60,), -4.0), torch.linspace(0, 8, 401)
    fast, plain = s.run(march), s.run(march_reference)
    assert len(plain[1]) > 500 and (s.kept(fast) ^ s.kept(plain)).sum() <= 2


def test_far_cameras_skip_nothing() -> None:
    s = scene("none", 64, rays=100, share=0.05, steps=300)
    s.origins = s.origins - 300 * s.directions
    s.near, s.far, s.offsets = s.near + 295, s.far + 310, torch.linspace(0, 10, 301)
    fast, plain = s.run(march), s.run(march_reference)
    assert len(plain[1]) > 100 and (s.kept(fast) ^ s.kept(plain)).sum() <= len(plain[1]) // 50


def test_plain_version_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene("sphere", 16)
    whole = s.run(march_reference)
    monkeypatch.setattr("fieldcast.fields.kernels.marching.SAMPLES_PER_CHUNK", 100)
    assert all(torch.equal(a, b) for a, b in zip(whole, s.run(march_reference), strict=True))


def test_infinite_steps_end_at_far() -> None:
    s = scene("cube", 8, rays=5, share=1.0)
    s.offsets[-1] = float("inf")
    for marcher in (march, march_reference):
        assert s.run(marcher)[2].isfinite().all()


def test_inputs_need_not_be_contiguous() -> None:
    s = scene("none", 16)
    expected = s.run(march)
    s.origins, s.directions = s.origins.T.contiguous().T, s.directions.T.contiguous().T
    s.near, s.occupancy = s.near.repeat_interleave(2)[::2], s.occupancy.repeat_interleave(2)[::2]
    assert all(torch.equal(a, b) for a, b in zip(expected, s.run(march), strict=True))


def test_same_bits_at_any_number_of_threads() -> None:
    s, threads, results = scene("none", 32), torch.get_num_threads(), []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            results.append(s.run(march))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_occupied() -> None:
    full = torch.rand(5, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    cells = torch.cartesian_prod(*[torch.arange(5)] * 3)
    assert torch.equal(occupied((cells + 0.5) / 5, pack(full), 5), full.flatten())
    corners = occupied(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), pack(full), 5)
    assert corners.tolist() == [bool(full[0, 0, 0]), bool(full[4, 4, 4])]
    assert occupied(torch.zeros(0, 3), pack(full), 5).shape == (0,)


def test_short_occupancy_is_refused() -> None:
    s = scene("none", 16)
    s.occupancy = s.occupancy[:-1]
    with pytest.raises(ValueError, match=r"occupancy: expected 16\^3 bits, found 4088"):
        s.run(march)


def test_lengths_are_plain_numbers() -> None:
    assert all(isfinite(x) for x in scene("sphere", 8).run(march)[1].tolist())
