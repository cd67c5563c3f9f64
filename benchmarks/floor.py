"""How far a training step of a hash grid is from what its arithmetic and memory traffic must cost.

    .venv/bin/python benchmarks/floor.py ../shared/data/posed/nerf_synthetic_lego_200

The floor adds up, one after the other as a step does them: the look-ups of a step and of its share of the looks at
where the field is empty, at the rate at which this machine reads random rows of a table of the size of each level; the
gradient's additions likewise; the multiplications of both networks, forward and twice backward, in the precision in
which they are trained, at the rate of [2^15, 64] x [64, 64]; and AdamW's seven passes over the parameters and one that
clears their gradient, at the rate of a copy in main memory. Nothing else is counted: marching, activations, sums along
rays and the copies between them cost nothing in the floor.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any
from unittest import mock

import measure
import torch

import fieldcast
from fieldcast.fields.field import Field
from fieldcast.fields.fit import LOOKS, REFRESH, fit, spec_for
from fieldcast.fields.heads import Network, training_precision
from fieldcast.fields.kernels import hashgrid
from fieldcast.fields.kinds.hashgrid import HashgridSizes
from fieldcast.fields.scenes import Scene, open_scene

SIZES = {
    "L8 F4 T=2^17": HashgridSizes(8, 4, 17),
    "L14 F2 T=2^19, the default": HashgridSizes(),
    "L16 F2 T=2^19": HashgridSizes(16, 2, 19),
}


class Counted:
    """Steps of a fit: what each took, and how many points the hash encoding was asked for with and without gradient."""

    def __init__(self, scene: Scene, sizes: HashgridSizes, warmup: int, steps: int) -> None:
        self.seconds: list[float] = []
        self.trained = self.asked = 0
        encode, counting, begun = hashgrid._HashEncode, False, 0.0
        forward, backward = encode.forward, encode.backward

        def count(ctx: Any, u: torch.Tensor, *rest: Any) -> torch.Tensor:
            self.asked += len(u) * counting
            return forward(ctx, u, *rest)

        def count_back(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            self.trained += len(grad) * counting
            return backward(ctx, grad)

        def progress(done: int, total: int, note: str = "") -> None:
            nonlocal begun, counting
            if done > warmup:
                self.seconds.append(time.perf_counter() - begun)
            counting, begun = done >= warmup, time.perf_counter()

        spec = replace(spec_for(scene, "hashgrid"), sizes=sizes)
        with mock.patch.multiple(encode, forward=staticmethod(count), backward=staticmethod(count_back)):
            self.field: Field = fit(scene, spec, steps=warmup + steps, progress=progress)
        self.trained, self.asked = self.trained // steps, self.asked // steps


def power(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def floor(run: Counted) -> dict[str, float]:
    """Seconds of each part."""
    levels, width = run.field.encoding.levels, run.field.spec.sizes.channels
    precision = training_precision(run.field.device)
    rate = measure.multiplication_rate(precision, 1 << 15)
    weights = [p.numel() for m in run.field.modules() if isinstance(m, Network) for p in m.parameters()]
    first = [p.numel() for p in run.field.sigma_net.parameters()]
    unasked = run.asked - run.trained  # points whose density alone is wanted
    return {
        "look-ups": sum(8 * run.asked / measure.gather_rate(power(v.rows), width) for v in levels),
        "their gradient": sum(8 * run.trained / measure.scatter_rate(power(v.rows), width) for v in levels),
        "networks": 2 * (3 * run.trained * sum(weights) + unasked * sum(first)) / rate,
        "AdamW": 8 * 4 * run.field.parameter_count() / measure.stream_rate(),
    }


def main() -> None:
    """See the module's own words."""
    parser = measure.options(__doc__)
    parser.add_argument("scene", help="a folder of posed images, or demo")
    parser.add_argument("--warmup", type=int, default=304)
    parser.add_argument("--steps", type=int, default=160, help=f"that are measured, best a multiple of {REFRESH}")
    options = parser.parse_args()
    fieldcast.prepare()
    torch.set_num_threads(options.threads)
    scene, rows, head = open_scene(options.scene), [], ["hash grid", "points trained on", "points asked"]
    for name, sizes in SIZES.items():
        run = Counted(scene, sizes, options.warmup, options.steps)
        parts, mean = floor(run), statistics.mean(run.seconds)
        total = sum(parts.values())
        times = [*parts.values(), total, mean, statistics.median(run.seconds)]
        counts = [f"{run.trained:,}", f"{run.asked:,}"]
        rows.append([name, *counts, *(f"{seconds * 1e3:.1f}" for seconds in times), f"{mean / total:.2f}"])
        measure.say(*rows[-1])
    head += [f"{part}, ms" for part in parts] + ["floor, ms", "mean ms", "median ms", "mean / floor"]
    print(f"{measure.table(head, rows)}\n\nLooks: {2 * LOOKS:,} points every {REFRESH} steps.\n")
    print(f"{measure.ceilings()}\n\n{measure.machine()}")


if __name__ == "__main__":
    main()
