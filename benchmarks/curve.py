"""Test PSNR over training time on a CPU: fieldcast's hash grid beside nerfstudio's nerfacto, on the same photographs.

    make peers && build/peers/bin/python benchmarks/curve.py ../shared/data/posed/nerf_synthetic_lego_200 out/curve

Writes curve.md, curve.json and curve.png into the output folder and prints the table. Both are given the same seconds;
time that is spent on looking (rendering the test views) does not count. Our `fit` is run anew for each row, because its
learning rate falls to the end of a run, with as many steps as the pace of the run before fits into the seconds.
nerfacto is trained once with its own schedule and looked at on the way; its settings are in peers.py. Both are looked
at in the same random pixels of the test views, since whole views take nerfacto long.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import measure
import peers
import torch
from torch import Tensor

import fieldcast
from fieldcast.fields.cameras import Rays
from fieldcast.fields.evaluate import photograph
from fieldcast.fields.field import Field
from fieldcast.fields.fit import Pixels, fit
from fieldcast.fields.metrics import psnr
from fieldcast.fields.rendering import shading
from fieldcast.fields.scenes import Scene, open_scene

WHITE = (1.0, 1.0, 1.0)
PACE_STEPS = 150  # of the run that finds the pace


@dataclass(frozen=True)
class Point:
    """seconds of training, steps taken, and the mean PSNR in dB over the test views."""

    method: str
    seconds: float
    steps: int
    psnr: float


@dataclass(frozen=True)
class Test:
    """For each test view: rays through random pixels, and the colours there over white [N, 3]."""

    rays: list[Rays]
    colors: list[Tensor]

    @staticmethod
    def of(scene: Scene, pixels: int) -> Test:
        generator, rays, colors = torch.Generator().manual_seed(0), [], []
        for index in range(len(scene)):
            truth = photograph(scene, index, WHITE).reshape(-1, 3)
            chosen = torch.randperm(len(truth), generator=generator)[:pixels]
            rays.append(scene.cameras.image_rays(index)[chosen])
            colors.append(truth[chosen])
        return Test(rays, colors)

    @torch.no_grad()
    def look(self, render: Callable[[Rays], Tensor]) -> float:
        """The mean PSNR of a renderer of rays over white."""
        values = [psnr(render(rays).clamp(0, 1), truth) for rays, truth in zip(self.rays, self.colors, strict=True)]
        return sum(values) / len(values)


def ours(train: Scene, test: Test, times: list[float]) -> Iterator[Point]:
    """One run of `fit` for each time."""
    start = time.perf_counter()
    fit(train, "hashgrid", steps=PACE_STEPS)  # compiles what is not compiled yet, too
    start = time.perf_counter()
    fit(train, "hashgrid", steps=PACE_STEPS)
    pace = (time.perf_counter() - start) / PACE_STEPS
    for seconds in times:
        steps = max(int(seconds / pace), 1)
        start = time.perf_counter()
        field = fit(train, "hashgrid", steps=steps)
        taken = time.perf_counter() - start
        pace = taken / steps
        yield said(Point("fieldcast, hash grid", taken, steps, test.look(renderer(field))))


def renderer(field: Field) -> Callable[[Rays], Tensor]:
    field.spec = replace(field.spec, background=WHITE)
    shade = shading(field)
    return lambda rays: shade(rays).rgb


def nerfacto(train: Scene, test: Test, times: list[float], rays: int) -> Iterator[Point]:
    """One run, looked at when each time is up."""
    model, pixels = peers.PeerModel("nerfacto", train.space, len(train)), Pixels(train, "cpu")
    generator = torch.Generator().manual_seed(0)
    rays, spent = rays or model.rays, 0.0
    for seconds in times:
        while spent < seconds:
            start = time.perf_counter()
            batch, target = pixels.sample(rays, generator)
            model.train(batch, target[:, :3] + (1 - target[:, 3:]))
            spent += time.perf_counter() - start
        yield said(Point(f"nerfacto, {rays} rays", spent, model.step, test.look(model.render)))


def said(point: Point) -> Point:
    measure.say(f"{point.method}: {point.seconds:.0f} s, {point.steps} steps, {point.psnr:.2f} dB")
    return point


def draw(points: list[Point], path: Path) -> None:
    """PSNR over seconds, one line a method."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), dpi=120)
    for method in dict.fromkeys(point.method for point in points):
        mine = [point for point in points if point.method == method]
        axes.plot([p.seconds for p in mine], [p.psnr for p in mine], marker="o", label=method)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="test PSNR, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def parsed() -> argparse.Namespace:
    parser = measure.options(__doc__)
    parser.add_argument("scene", help="a folder of posed images, or demo")
    parser.add_argument("out", type=Path)
    parser.add_argument("--times", default="15,30,60,120,240", help="seconds of training")
    parser.add_argument("--views", type=int, default=10, help="test views to look at")
    parser.add_argument("--pixels", type=int, default=2000, help="of each test view")
    parser.add_argument("--rays", type=int, default=0, help="nerfacto's batch; 0: nerfstudio's 4096")
    parser.add_argument("--methods", default="ours,nerfacto", help="other lines are kept from curve.json")
    return parser.parse_args()


def main() -> None:
    """See the module's own words."""
    fieldcast.prepare()  # as the command line does
    options = parsed()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    times = sorted(float(text) for text in options.times.split(","))
    train = open_scene(options.scene)
    test = Test.of(open_scene(options.scene, "test").spread(options.views), options.pixels)
    options.out.mkdir(parents=True, exist_ok=True)
    kept, methods = options.out / "curve.json", options.methods.split(",")
    points = [Point(**row) for row in json.loads(kept.read_text())["points"]] if kept.exists() else []
    new = list(ours(train, test, times)) if "ours" in methods else []
    new += nerfacto(train, test, times, options.rays) if "nerfacto" in methods else []
    made = {point.method for point in new}
    points = [point for point in points if point.method not in made] + new
    points.sort(key=lambda point: (point.method, point.seconds))
    kept.write_text(json.dumps({"machine": measure.machine(), "points": [asdict(p) for p in points]}, indent=1))
    rows = [[p.method, f"{p.seconds:.0f}", p.steps, f"{p.psnr:.2f}"] for p in points]
    text = measure.table(["method", "seconds", "steps", f"test dB ({len(test.rays)} views)"], rows)
    (options.out / "curve.md").write_text(f"{text}\n\n{measure.machine()}\n")
    print(f"{text}\n\n{measure.machine()}")
    draw(points, options.out / "curve.png")


if __name__ == "__main__":
    main()
