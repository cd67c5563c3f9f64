"""What several methods make of held-out pairs, at equal steps, below each other.

    .venv/bin/python benchmarks/morphs.py ../shared/data/meshes

writes docs/morph-methods.png: two pairs of the evaluation, a row for each method, seven frames of eleven. The papers'
methods get a tenth of their steps, as in the tables of README.md. Before that it prints how fast the prior's network is
evaluated, beside products of matrices of its size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import measure
import torch
from PIL import Image, ImageDraw
from torch.utils.flop_counter import FlopCounterMode

from fieldcast.morph.arcs import even
from fieldcast.morph.attention import plain
from fieldcast.morph.evaluation.methods import at_equal_steps, method
from fieldcast.morph.evaluation.pairs import held_out_pairs, opened
from fieldcast.morph.interpolation import joined
from fieldcast.morph.pictures import FRONT, around, lit, picture
from fieldcast.morph.priors import Prior, open_prior

PAIRS = ("house_type08 to Tree_Floating_3", "cookie-chocolate to Potion")
METHODS = ("grid", "latent", "transport", "noise", "paper", "default")
FRAMES, SHOWN = 11, (0, 2, 4, 5, 6, 8, 10)
SIZE, MARGIN = 128, 70
BATCH = FRAMES + 2


def rate(call: Callable[[], object], seconds: float = 3.0) -> float:
    """Calls in a second."""
    for _ in range(3):
        call()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - start)


@torch.no_grad()
def pace(prior: Prior) -> str:
    """How fast the network is evaluated for BATCH latents, and how fast it could be."""
    x, told = torch.randn(BATCH, *prior.shape), joined([prior.embed("red car")] * BATCH)
    t, a, b = torch.full((BATCH,), 0.3), torch.randn(BATCH * prior.shape[0], 256), torch.randn(256, 1024)
    with FlopCounterMode(display=False) as counter:
        exact = prior.velocity(x, t, told, plain)
    work = counter.get_total_flops() / BATCH / 1e9
    full = BATCH * rate(lambda: prior.velocity(x, t, told, plain))
    products = 2e-9 * len(a) * b.numel() * rate(lambda: a @ b)
    with torch.autocast("cpu", torch.bfloat16):
        half = BATCH * rate(lambda: prior.velocity(x, t, told, plain))
        off = float((prior.velocity(x, t, told, plain) - exact).norm() / exact.norm())
    return (
        f"an evaluation: {work:.2f} GFLOP; {full:.0f} a second, {work * full:.0f} GFLOP/s, where products reach "
        f"{products:.0f}; in bfloat16 {half:.0f} a second, {100 * off:.1f} % off"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/morph-methods.png"))
    args = parser.parse_args()
    prior = open_prior()
    print(pace(prior), measure.machine(), sep="\n", flush=True)
    wanted = {one.name: one for one in held_out_pairs(args.assets)}
    image = Image.new("RGB", (MARGIN + len(SHOWN) * SIZE, len(PAIRS) * len(METHODS) * SIZE), "white")
    draw = ImageDraw.Draw(image)
    for i, pair in enumerate(opened(wanted[name], prior) for name in PAIRS):
        camera = around(pair.first.space, torch.tensor([FRONT]), SIZE)
        for k, name in enumerate(METHODS):
            chosen, y = method(name, 0.1), (i * len(METHODS) + k) * SIZE
            way = chosen.start(prior, pair, 0)
            if chosen.equal:
                frames = way.frames(way.own(FRAMES))
            else:
                frames = at_equal_steps(way.frames, way.frames(even(FRAMES)))
            draw.text((2, y + SIZE // 2), name, fill="black")
            for column, frame in enumerate(SHOWN):
                seen = picture(lit(frames[frame].mesh()), camera)
                shown = Image.fromarray((seen * 255).round().byte().numpy())
                image.paste(shown, (MARGIN + column * SIZE, y))
            print(pair.captions, name, flush=True)
    image.quantize(255).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
