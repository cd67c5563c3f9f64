"""The encodings, marching and compositing of fieldcast beside their peers, on the same points in the same process.

    make peers && build/peers/bin/python benchmarks/encodings.py

Prints one table, the ceilings of the machine measured in the same run, and the machine. Times are the best of many, in
turns with the peer's. `floor` is what the rows read (and, with the gradient, added to) cost at the rate at which this
machine reads rows of that size at random places of tables of that size, or copies memory where nothing is random; the
column beside it says how many times that the routine takes. What lies together shares pages and lines of the cache,
which random rows do not: points along rays, and corners in voxels, may come near their floor or beat it. `gradient`
is the largest error of the parameters' gradient, relative to the largest gradient, against the plain version in float64
(for the peer's hash encoding: against itself in float64).

The peers are nerfstudio's in plain torch. Its hash encoding hashes all levels, ours stores the coarse ones densely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import measure
import peers
import torch
from torch import Tensor
from torch.nn import functional

from fieldcast.fields.cameras import Rays
from fieldcast.fields.encodings.grids import HashEncoding, HashSizes
from fieldcast.fields.kernels.compositing import (
    accumulate,
    accumulate_reference,
    ray_of_sample,
    ray_weights,
    ray_weights_reference,
)
from fieldcast.fields.kernels.hashgrid import hash_encode, hash_encode_reference
from fieldcast.fields.kernels.lowrank import vm_lookup, vm_lookup_reference
from fieldcast.fields.kernels.marching import march
from fieldcast.fields.kernels.voxels import BLOCK, trilinear, trilinear_reference
from fieldcast.fields.occupancy import Occupancy, unravel
from fieldcast.fields.rendering.sampling import Sampler, entry_and_exit, step_edges
from fieldcast.fields.space import Space

SPACE = Space()
STEPS = 512
CELLS = 128
HEAD = ["what", "pass", "ours ms", "peer ms", "times faster", "floor ms", "ours / floor", "gradient", "peer's gradient"]


class Routine:
    """A function of parameters, and the gradient of a fixed random combination of what it gives."""

    def __init__(self, parameters: list[Tensor], run: Callable[[], Tensor]) -> None:
        self.parameters, self.run = parameters, run
        output = run()
        generator = torch.Generator().manual_seed(1)
        self.direction = torch.randn(output.shape, generator=generator).to(output.dtype)

    def forward(self) -> None:
        with torch.no_grad():
            self.run()

    def gradients(self) -> list[Tensor]:
        """Forward and backward."""
        return list(torch.autograd.grad(self.run(), self.parameters, self.direction))


def routine(run: Callable[..., Tensor], *parameters: Tensor) -> Routine:
    leaves = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    return Routine(leaves, lambda: run(*leaves))


def in_double(run: Callable[..., Tensor], *parameters: Tensor) -> Routine:
    return routine(run, *[parameter.double() for parameter in parameters])


def error(found: Routine, exact: Routine) -> str:
    """The largest error of a gradient, relative to the largest gradient."""
    pairs = zip(found.gradients(), exact.gradients(), strict=True)
    return f"{max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs):.0e}"


def rows(
    name: str, ours: Routine, peer: Routine, floors: tuple[float, float], errors: tuple[str, str], seconds: float
) -> Iterator[list[str]]:
    """Forward, and forward with backward. floors: seconds of both."""
    for index, what in enumerate(("forward", "and backward")):
        calls = [(r.forward, r.gradients)[index] for r in (ours, peer)]
        timed = measure.alternate(dict(zip(("ours", "peer"), calls, strict=True)), seconds)
        yield line(name, what, timed, floors[index], errors if index else ("–", "–"))


def line(
    name: str, what: str, timed: dict[str, measure.Timing], floor: float | None, errors: tuple[str, str]
) -> list[str]:
    ours, peer = timed["ours"].best, timed["peer"].best
    bound = ["–", "–"] if floor is None else [f"{floor * 1e3:.2f}", f"{ours / floor:.1f}"]
    row = [name, what, f"{ours * 1e3:.2f}", f"{peer * 1e3:.1f}", f"{peer / ours:.1f}", *bound, *errors]
    measure.say(*row)
    return row


def power(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def hash_rows(name: str, u: Tensor, sizes: HashSizes, seconds: float) -> Iterator[list[str]]:
    """The hash encoding. Floor: 8 rows a level and point, read from tables of the sizes of the levels."""
    encoding, other = HashEncoding(sizes), peers.hash_encoding(sizes)
    levels, table, exact_u = encoding.levels, torch.randn_like(encoding.table), u.double()
    ours = routine(lambda t: hash_encode(u, t, levels), table)
    peer = Routine([other.hash_table], lambda: other(u))
    exact = in_double(lambda t: hash_encode_reference(exact_u, t, levels), table)
    twin = peers.hash_encoding(sizes).double()
    twin.load_state_dict(other.state_dict())
    errors = error(ours, exact), error(peer, Routine([twin.hash_table], lambda: twin(exact_u)))
    corners = 8 * len(u)
    read = sum(corners / measure.gather_rate(power(level.rows), sizes.channels) for level in levels)
    added = sum(corners / measure.scatter_rate(power(level.rows), sizes.channels) for level in levels)
    yield from rows(name, ours, peer, (read, read + added), errors, seconds)


def vm_rows(name: str, u: Tensor, resolution: int, channels: int, seconds: float) -> Iterator[list[str]]:
    """Vector-matrix components. Floor: 2 pairs of neighbouring rows of 3 planes at random; lines stay in the cache."""
    planes, lines = torch.randn(3, resolution, resolution, channels), torch.randn(3, resolution, channels)
    other = peers.TensorVMEncoding(resolution, channels)
    other.plane_coef.data, other.line_coef.data = planes.permute(0, 3, 1, 2).clone(), lines.mT[..., None].clone()
    n, exact_u = 2 * u - 1, u.double()
    ours = routine(lambda p, v: vm_lookup(u, p, v).flatten(1), planes, lines)
    peer = Routine([other.plane_coef, other.line_coef], lambda: other(n))
    exact = in_double(lambda p, v: vm_lookup_reference(exact_u, p, v).flatten(1), planes, lines)
    same = routine(lambda p, v: peer_vm(n, p, v), planes, lines)
    errors = error(ours, exact), error(same, exact)
    size, pairs = power(resolution**2 // 2), 6 * len(u)
    read = pairs / measure.gather_rate(size, 2 * channels)
    added = pairs / measure.scatter_rate(size, 2 * channels)
    yield from rows(name, ours, peer, (read, read + added), errors, seconds)


def peer_vm(n: Tensor, planes: Tensor, lines: Tensor) -> Tensor:
    """The peer's encoding as a function of our parameters."""
    encoding = peers.TensorVMEncoding(2, 1)
    del encoding.plane_coef, encoding.line_coef
    encoding.plane_coef, encoding.line_coef = planes.permute(0, 3, 1, 2), lines.mT[..., None]
    encoding.num_components = planes.shape[-1]
    output: Tensor = encoding(n)
    return output


def voxel_rows(name: str, u: Tensor, resolution: int, channels: int, seconds: float) -> Iterator[list[str]]:
    """A dense grid. Floor: 4 pairs of neighbours at random. The peer is grid_sample on [1, C, z, y, x]."""
    side = resolution // BLOCK
    blocks = torch.arange(side**3, dtype=torch.int32).reshape(side, side, side)
    data, empty = torch.randn(resolution**3, channels), torch.zeros(channels)
    exact_u, place = u.double(), (2 * u - 1)[None, None, None]
    grid = data.reshape(side, side, side, BLOCK, BLOCK, BLOCK, channels).permute(6, 2, 5, 1, 4, 0, 3)
    grid = grid.reshape(1, channels, resolution, resolution, resolution)
    ours = routine(lambda d: trilinear(u, d, blocks, resolution, empty), data)
    exact = in_double(lambda d: trilinear_reference(exact_u, d, blocks, resolution, empty.double()), data)
    peer = routine(lambda g: functional.grid_sample(g, place, align_corners=True)[0, :, 0, 0].T, grid)
    same_values = (ours.run() - peer.run()).abs().max() < 1e-3
    assert same_values, "grid_sample and ours should read the same grid"
    errors = error(ours, exact), "–"
    size, pairs = power(resolution**3 // 2), 4 * len(u)
    read = pairs / measure.gather_rate(size, 2 * channels)
    added = pairs / measure.scatter_rate(size, 2 * channels)
    yield from rows(name, ours, peer, (read, read + added), errors, seconds)


def compositing_rows(name: str, starts: Tensor, dt: Tensor, seconds: float) -> Iterator[list[str]]:
    """Densities and colours of packed samples to the colours of rays. Floor: each number is read or written once."""
    m, count = len(dt), len(starts) - 1
    generator = torch.Generator().manual_seed(2)
    sigma, rgb = torch.rand(m, generator=generator) * 20, torch.rand(m, 3, generator=generator)
    samples = peers.Packed(ray_of_sample(starts, m), torch.zeros(m), dt)

    def packed(s: Tensor, c: Tensor) -> Tensor:
        return accumulate(ray_weights(s * dt, starts)[0], c, starts)

    def plain(s: Tensor, c: Tensor) -> Tensor:
        return accumulate_reference(ray_weights_reference(s * dt.double(), starts)[0], c, starts)

    ours, exact = routine(packed, sigma, rgb), in_double(plain, sigma, rgb)
    peer = routine(lambda s, c: peers.composite(s, c, samples, count)[0], sigma, rgb)
    numbers = 4 * m * (1 + 1 + 3)  # sigma, dt, colour; backward reads them again and writes two gradients
    floors = numbers / measure.stream_rate(), (numbers * 2 + 4 * m * 4) / measure.stream_rate()
    yield from rows(name, ours, peer, floors, (error(ours, exact), error(peer, exact)), seconds)


def marching_row(rays: Rays, occupancy: Occupancy, seconds: float) -> list[str]:
    """Rays to samples; both must find as many, but for a few that rounding puts into the next cell."""
    near, far = entry_and_exit(SPACE, rays.origins, rays.directions)
    edges, jitter, cells = step_edges(SPACE, STEPS), torch.full_like(near, 0.5), occupancy.cells()
    o, d = rays.origins, rays.directions

    def ours() -> int:
        return len(march(o, d, near, far, edges, jitter, occupancy.bits, CELLS, SPACE)[1])

    def peer() -> int:
        return len(peers.lattice(rays, SPACE, cells, STEPS, jitter).t)

    found, expected = ours(), peer()
    assert abs(found - expected) <= 1e-3 * expected, f"expected about {expected} samples, found {found}"
    timed = measure.alternate({"ours": ours, "peer": peer}, seconds)
    name = f"marching {len(rays)} rays, {STEPS} steps, {occupancy.fraction():.0%} full, {found} samples"
    return line(name, "forward", timed, None, ("–", "–"))


def scene(count: int) -> tuple[Rays, Occupancy]:
    """Rays from around at a ball in the middle of the box, and its occupancy: a shell, as of a trained field."""
    generator = torch.Generator().manual_seed(0)
    radius = ((unravel(torch.arange(CELLS**3), CELLS) + 0.5) / CELLS * 2 - 1).norm(dim=-1)
    occupancy = Occupancy.of_cells(((radius > 0.5) & (radius < 0.6)).reshape((CELLS,) * 3))
    o = 3 * functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    target = 0.5 * torch.randn(count, 3, generator=generator)
    return Rays(o, functional.normalize(target - o, dim=-1)), occupancy


def main() -> None:
    """See the module's own words."""
    parser = measure.options(__doc__)
    parser.add_argument("--points", type=int, default=1 << 16)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each number, and once more for its peer's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    n, seconds = options.points, options.seconds
    rays, occupancy = scene(4096)
    samples = Sampler(SPACE, occupancy, STEPS)(rays)
    along, random = SPACE.to_unit(samples.x[:n]), torch.rand(n, 3)
    table: list[list[str]] = []
    for levels, channels, log2 in ((16, 2, 19), (16, 2, 16), (8, 4, 17)):
        for where, u in (("random", random), ("along rays", along)):
            name = f"hash L{levels} F{channels} T=2^{log2}, {where}"
            table += hash_rows(name, u, HashSizes(levels, channels, log2), seconds)
    for channels in (16, 48):
        table += vm_rows(f"VM 300^2 x {channels}, random", random, 300, channels, seconds)
    table += voxel_rows("voxels 128^3 x 28, random", random, 128, 28, seconds)
    table += compositing_rows(f"compositing {len(samples)} samples", samples.starts, samples.dt, seconds)
    table.append(marching_row(rays, occupancy, seconds))
    print(f"{n} points.\n\n{measure.table(HEAD, table)}\n\n{measure.ceilings()}\n\n{measure.machine()}")


if __name__ == "__main__":
    main()
