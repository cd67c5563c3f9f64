"""What the built-in prior makes, unpicked: objects of no caption and of held-out captions, and what its codec keeps.

    .venv/bin/python benchmarks/prior.py ../shared/data/meshes

writes docs/prior-samples.png (64 samples, seeds 0 to 63), docs/prior-words.png (four samples of each of some captions)
and docs/prior-codec.png (32 held-out objects and, below each, its reconstruction), and prints how near reconstructions
are, and the loss of the flow on objects that it knows and on held-out ones.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import measure
import torch
from PIL import Image, ImageDraw

from fieldcast.fields.space import Space
from fieldcast.morph.attention import plain
from fieldcast.morph.distance import distance, filled
from fieldcast.morph.flow import generate
from fieldcast.morph.inputs import volume_in
from fieldcast.morph.pictures import FRONT, around, lit, picture
from fieldcast.morph.priors import Condition, open_prior
from fieldcast.morph.priors.builtin import BuiltinPrior
from fieldcast.morph.priors.builtin.assets import read_index
from fieldcast.morph.priors.builtin.training import MIDDLE, SPREAD
from fieldcast.morph.volumes import Volume

SIZE, COLUMNS = 120, 16
TIMES = 8
SAID = (
    *("brown horse", "car", "red car", "purple chair"),
    *("green tree", "yellow truck", "house building", "sword weapon"),
)


def cell(volume: Volume, text: str) -> Image.Image:
    """A picture with a line below it."""
    seen = picture(lit(volume.mesh()), around(volume.space, torch.tensor([FRONT]), SIZE))
    image = Image.new("RGB", (SIZE, SIZE + 12), "white")
    image.paste(Image.fromarray((seen * 255).round().byte().numpy()))
    ImageDraw.Draw(image).text((2, SIZE), text[:22], fill="black")
    return image


def sheet(cells: list[Image.Image], columns: int) -> Image.Image:
    width, height = cells[0].size
    image = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height), "white")
    for i, one in enumerate(cells):
        image.paste(one, (i % columns * width, i // columns * height))
    return image


@torch.no_grad()
def flow_loss(prior: BuiltinPrior, objects: list[tuple[Volume, str]]) -> float:
    """The mean squared error of velocities, at TIMES times of each of some objects with their captions."""
    generator, found = torch.Generator().manual_seed(0), []
    for volume, caption in objects:
        x1, condition = prior.encode(volume), prior.embed(caption)
        x0 = torch.randn(TIMES, *x1.shape, generator=generator)
        t = (MIDDLE + SPREAD * torch.randn(TIMES, generator=generator)).sigmoid()
        words, weights, pooled = condition.words, condition.weights, condition.pooled
        told = Condition(words.expand(TIMES, -1, -1), weights.expand(TIMES, -1), pooled.expand(TIMES, -1))
        velocity = prior.velocity(torch.lerp(x0, x1, t[:, None, None]), t, told, plain)
        found.append((velocity - (x1 - x0)).square().mean())
    return float(torch.stack(found).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path)
    parser.add_argument("--prior", default="builtin")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    args = parser.parse_args()
    prior = open_prior(args.prior)
    assert isinstance(prior, BuiltinPrior)
    held = [row for row in read_index(args.assets) if row.split == "val"]
    captions = [prior.known(f"{row.name} {row.category}") for row in held[:: max(1, len(held) // 32)]][:32]
    cells = []
    for seed, caption in enumerate([""] * 32 + captions):
        volume = prior.volume(generate(prior, caption, 1, seed)[0], Space())
        cells.append(cell(volume, caption or "-"))
        print(seed, caption, flush=True)
    sheet(cells, COLUMNS).save(args.out / "prior-samples.png", optimize=True)
    words = [cell(prior.volume(z, Space()), caption) for caption in SAID for z in generate(prior, caption, 4, 0)]
    sheet(words, COLUMNS).save(args.out / "prior-words.png", optimize=True)
    found = []
    for row in held:
        volume = volume_in(args.assets / row.path)
        again = prior.volume(prior.encode(volume), volume.space)
        inside, other = filled(volume), filled(again)
        iou = float(torch.minimum(inside, other).sum() / torch.maximum(inside, other).sum())
        found.append((row, volume, again, iou, distance(volume, again)))
    shown = found[:: max(1, len(found) // 32)][:32]
    rows = [shown[i : i + COLUMNS] for i in range(0, len(shown), COLUMNS)]
    both = [
        [[cell(one[1], one[0].name) for one in row], [cell(one[2], f"IoU {one[3]:.2f}") for one in row]] for row in rows
    ]
    sheet(list(itertools.chain(*itertools.chain(*both))), COLUMNS).save(args.out / "prior-codec.png", optimize=True)
    ious, distances = (torch.tensor([one[k] for one in found]) for k in (3, 4))
    print(
        f"{len(found)} held-out objects: IoU mean {ious.mean():.3f}, median {ious.median():.3f}, least {ious.min():.3f}"
    )
    print(f"distance (1 - IoU + half the colour difference): mean {distances.mean():.3f}")
    learned = [row for row in read_index(args.assets) if row.split == "train"]
    learned = learned[:: len(learned) // len(held)][: len(held)]
    known = [(volume_in(args.assets / row.path), prior.known(f"{row.name} {row.category}")) for row in learned]
    new = [(one[1], prior.known(f"{one[0].name} {one[0].category}")) for one in found]
    print(f"loss of the flow: {flow_loss(prior, known):.3f} on objects it knows, {flow_loss(prior, new):.3f} on others")
    print(measure.machine())


if __name__ == "__main__":
    main()
