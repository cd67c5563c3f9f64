"""Training steps per second: fieldcast's `fit` beside the same step of nerfstudio's parts, and nerfstudio's models.

    make peers && build/peers/bin/python benchmarks/steps.py ../shared/data/posed/nerf_synthetic_lego_200

The scene is a folder or `demo`. Our step is that of `fit` itself: the peer's steps are taken between two of its calls
of `progress`, so that both meet the same load, on the same number of rays, in the same occupancy, after `--warmup`
steps that form it. Both count all of a step: choosing pixels, marching, networks, compositing, gradients, Adam, and
every 16 steps a look at where their field is empty. The peer's step: nerfstudio's HashEncoding, MLP and spherical
harmonics in torch, networks as wide and deep as ours, a dense lattice of samples looked up in the occupancy grid,
nerfacc's weights on padded rays, torch.optim.Adam as nerfacto sets it up, float32, as nerfstudio trains on a CPU.

The whole models take their own steps on pixels of the same scene, with the rays of a batch that nerfstudio gives them
unless --rays says otherwise; `samples` are the points that some network of theirs is asked about.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import measure
import peers
import torch
from torch import Tensor

import fieldcast
from fieldcast.fields.cameras import Rays
from fieldcast.fields.encodings.grids import HashSizes
from fieldcast.fields.fit import REFRESH, Pixels, fit, spec_for
from fieldcast.fields.kinds.hashgrid import HashgridSizes
from fieldcast.fields.occupancy import Occupancy, unravel
from fieldcast.fields.rendering.sampling import Sampler, Samples
from fieldcast.fields.scenes import Scene, open_scene

SIZES = {"L8 F4 T=2^17": HashgridSizes(8, 4, 17), "L16 F2 T=2^19": HashgridSizes(16, 2, 19)}
LOOKED_AT = 1 << 17  # cells that a look at where the field is empty visits, ours at most and the peer's


@dataclass
class Seen:
    """What `fit` did in its last step: how many rays and samples, and in which occupancy."""

    rays: int = 0
    samples: int = 0
    occupancy: Occupancy | None = None


@contextmanager
def watched() -> Iterator[Seen]:
    """Looks on while `fit` samples rays."""
    seen, sample = Seen(), Sampler.__call__

    def watch(sampler: Sampler, rays: Rays, *rest: Any, **named: Any) -> Samples:
        samples = sample(sampler, rays, *rest, **named)
        seen.rays, seen.samples, seen.occupancy = len(rays), len(samples), sampler.occupancy
        return samples

    with mock.patch.object(Sampler, "__call__", watch):
        yield seen


@dataclass
class Pace:
    """Seconds, rays and samples of some steps."""

    seconds: list[float] = field(default_factory=list)
    rays: int = 0
    samples: int = 0

    def add(self, seconds: float, rays: int, samples: int) -> None:
        self.seconds.append(seconds)
        self.rays, self.samples = self.rays + rays, self.samples + samples

    def row(self, name: str, other: float | None = None) -> list[object]:
        """other: seconds of a step that this one is compared with."""
        total, steps = sum(self.seconds), len(self.seconds)
        ratio = "" if other is None else f"{other / (total / steps):.1f}"
        middle = f"{statistics.median(self.seconds) * 1e3:.0f}"
        rates = [f"{steps / total:.2f}", f"{self.rays / total:,.0f}", f"{self.samples / total:,.0f}"]
        row = [name, steps, f"{total / steps * 1e3:.0f}", middle, *rates, f"{self.samples / steps:,.0f}", ratio]
        measure.say(*row)
        return row


HEAD = ["step of", "steps", "mean ms", "median ms", "steps/s", "rays/s", "samples/s", "samples a step", "times faster"]


class PeerStep:
    """The step of nerfstudio's parts."""

    def __init__(self, scene: Scene, sizes: HashSizes, steps: int) -> None:
        self.space, self.steps = scene.space, steps
        self.pixels, self.field = Pixels(scene, "cpu"), peers.PeerField(sizes)
        self.optimizer = torch.optim.Adam(self.field.parameters(), lr=1e-2, eps=1e-15)
        self.generator = torch.Generator().manual_seed(0)
        self.taken = 0

    def __call__(self, rays: int, occupancy: Occupancy) -> int:
        """One step; gives the number of samples."""
        if self.taken % REFRESH == 0:
            self.look(occupancy.resolution)
        batch, target = self.pixels.sample(rays, self.generator)
        background = torch.rand(rays, 3, generator=self.generator)
        jitter = torch.rand(rays, generator=self.generator)
        samples = peers.lattice(batch, self.space, occupancy.cells(), self.steps, jitter)
        d = batch.directions[samples.ray]
        x = batch.origins[samples.ray] + samples.t[:, None] * d
        sigma, rgb = self.field(self.space.to_unit(x), d)
        color, opacity = peers.composite(sigma / self.space.unit, rgb, samples, rays)
        seen = color + (1 - opacity) * background
        loss = (seen - target[:, :3] - (1 - target[:, 3:]) * background).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        float(loss.detach())
        self.taken += 1
        return len(samples.t)

    @torch.no_grad()
    def look(self, resolution: int) -> Tensor:
        """Densities in random cells. The cells that it would empty are not used: ours are, by both."""
        index = torch.randint(resolution**3, (LOOKED_AT,), generator=self.generator)
        u = (unravel(index, resolution) + torch.rand(LOOKED_AT, 3, generator=self.generator)) / resolution
        return torch.cat([self.field.sigma_net(self.field.encoding(part))[:, 0] for part in u.split(1 << 16)])


def side_by_side(scene: Scene, sizes: HashgridSizes, warmup: int, steps: int) -> tuple[Pace, Pace]:
    """The pace of `fit` and of the peer's step, in turns."""
    spec = replace(spec_for(scene, "hashgrid"), sizes=sizes)
    peer, ours, theirs = PeerStep(scene, sizes, spec.steps), Pace(), Pace()
    with watched() as seen:
        begun = time.perf_counter()

        def progress(done: int, total: int, note: str = "") -> None:
            nonlocal begun
            taken = time.perf_counter() - begun
            if done == warmup:
                assert seen.occupancy
                peer(seen.rays, seen.occupancy)
                peer.taken = warmup % REFRESH
            elif done > warmup:
                assert seen.occupancy
                ours.add(taken, seen.rays, seen.samples)
                start = time.perf_counter()
                samples = peer(seen.rays, seen.occupancy)
                theirs.add(time.perf_counter() - start, seen.rays, samples)
            begun = time.perf_counter()

        fit(scene, spec, steps=warmup + steps, progress=progress)
    return ours, theirs


def model_pace(name: str, scene: Scene, rays: int, seconds: float) -> Pace:
    """The pace of a whole model: for about `seconds`, three steps at least, after one that does not count."""
    model, pixels, pace = peers.PeerModel(name, scene.space, len(scene)), Pixels(scene, "cpu"), Pace()
    generator = torch.Generator().manual_seed(0)
    rays = rays or model.rays
    while len(pace.seconds) < 4 or sum(pace.seconds) < seconds:
        start = time.perf_counter()
        batch, target = pixels.sample(rays, generator)
        model.train(batch, target[:, :3] + (1 - target[:, 3:]))
        pace.add(time.perf_counter() - start, rays, rays * model.samples)
    first = pace.seconds.pop(0)
    measure.say(f"{name}: the first step took {first:.1f} s")
    pace.rays, pace.samples = pace.rays - rays, pace.samples - rays * model.samples
    return pace


def main() -> None:
    """See the module's own words."""
    parser = measure.options(__doc__)
    parser.add_argument("scene", help="a folder of posed images, or demo")
    parser.add_argument("--warmup", type=int, default=304, help="steps of ours that form the occupancy")
    parser.add_argument("--steps", type=int, default=32, help="steps that are measured, best a multiple of 16")
    parser.add_argument("--sizes", default=";".join(SIZES), help="which rows side by side; empty: none")
    parser.add_argument("--models", default=",".join(peers.RECIPES), help="which whole models; empty: none")
    parser.add_argument("--rays", type=int, default=0, help="of a batch of the whole models; 0: their own")
    parser.add_argument("--seconds", type=float, default=10, help="for each whole model")
    parser.add_argument("--prepare", action="store_true", help="keep freed memory, as the command line does, for all")
    options = parser.parse_args()
    if options.prepare:
        fieldcast.prepare()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    scene = open_scene(options.scene)
    table = []
    for name in filter(None, options.sizes.split(";")):
        ours, theirs = side_by_side(scene, SIZES[name], options.warmup, options.steps)
        slow = sum(theirs.seconds) / len(theirs.seconds)
        table += [ours.row(f"fit, hash grid {name}", slow), theirs.row(f"nerfstudio's parts, hash grid {name}")]
    for name in filter(None, options.models.split(",")):
        pace = model_pace(name, scene, options.rays, options.seconds)
        table.append(pace.row(f"{name}, {options.rays or peers.RECIPES[name].rays} rays"))
    print(f"{scene.source}\n\n{measure.table(HEAD, table)}\n\n{measure.ceilings()}\n\n{measure.machine()}")


if __name__ == "__main__":
    main()
