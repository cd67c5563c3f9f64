"""How the built-in prior is trained: first the codec, then the network, from meshes alone, on a CPU or a GPU.

Both runs are seeded and leave checkpoints, from which they go on to the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fieldcast.errors import InputError
from fieldcast.fields.files.tensors import read_tensors, write_tensors
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.training import Training
from fieldcast.morph.attention import plain, written_out
from fieldcast.morph.priors.builtin import BuiltinPrior
from fieldcast.morph.priors.builtin.assets import Assets, gather
from fieldcast.morph.priors.builtin.codec import Codec, CodecSizes, from_blocks, to_blocks
from fieldcast.morph.priors.builtin.tokens import to_tokens
from fieldcast.morph.priors.builtin.transformer import Transformer, TransformerSizes
from fieldcast.morph.priors.builtin.words import MOST, known, vocabulary
from fieldcast.morph.volumes import BAND

GRAIN = 0.1  # of noise on latents, that the decoder learns to bear
SMALL = 1e-3  # of the mean square of latents, in the codec's loss
CODEC_BATCH, CODEC_RATE = 8, 1.5e-3
BATCH, RATE, WARM, COOL = 32, 1e-3, 0.02, 0.3  # parts of the steps in which the rate rises, and falls
EMA, RECENT = 0.999, 10  # of the mean of the network: over its last 1000 steps, or the last tenth while that is less
# Of the logit of the times that are learned. The four strongest principal components of latents hold 46 % of what is in
# them, and stand some 30 times above the noise: much of what an object is has been decided by time 0.03.
MIDDLE, SPREAD = -1.2, 1.4
POINTS = 64  # of a curve of losses
HEAD = 32  # channels of one head of attention
SILENT, KEPT = 0.12, 0.85  # captions that say nothing; words of the others that are kept


@dataclass(frozen=True)
class Plan:
    """How long and how large. steps: of the network; codec_steps: of the codec before it."""

    steps: int = 12_000
    codec_steps: int = 5_000
    seed: int = 0
    device: str = "cpu"
    codec: CodecSizes = field(default_factory=CodecSizes)
    width: int = 256
    blocks: int = 8


def train_prior(folder: Path, work: Path, plan: Plan, progress: Progress = silent) -> BuiltinPrior:
    """A prior of the meshes in a folder with an index. work: where what is made on the way is kept, and looked for."""
    assets = gather(folder, work, progress)
    codec = train_codec(assets, work, plan, progress)
    latents = latents_of(codec, assets, plan.device, progress)
    train = assets.of("train")
    rows = [assets.rows[i] for i in train]
    words = vocabulary((row.name for row in rows), (row.category for row in rows))
    captions = [caption_of(assets, i, words) for i in train.tolist()]
    sizes = TransformerSizes(
        latents.shape[2], latents.shape[3], len(words), plan.width, plan.blocks, plan.width // HEAD
    )
    network, curve = train_transformer(latents[train], captions, sizes, work, plan, progress)
    made: dict[str, Any] = {"assets": len(rows), "seed": plan.seed}
    made |= {"steps": plan.steps, "codec_steps": plan.codec_steps, "loss": curve}
    return BuiltinPrior(codec, network, words, made)


def caption_of(assets: Assets, number: int, words: list[str]) -> list[int]:
    """The numbers of the words that are said of an asset: its colours, its name, its category."""
    row = assets.rows[number]
    said = [*assets.colors[number], *known(row.name, words).split(), row.category]
    return [words.index(word) for word in dict.fromkeys(said) if word in words]


def train_codec(assets: Assets, work: Path, plan: Plan, progress: Progress = silent) -> Codec:
    """A codec of the assets that are trained on."""
    done, device, steps = work / "codec.safetensors", plan.device, plan.codec_steps
    torch.manual_seed(plan.seed)
    codec = Codec(plan.codec)
    codec.shape_basis, codec.color_basis = bases(assets, plan.codec)
    codec.to(device)
    train = torch.from_numpy(assets.of("train"))

    def loss(step: int, generator: torch.Generator) -> Tensor:
        pick = train[torch.randint(len(train), (CODEC_BATCH,), generator=generator)]
        turns, flip = torch.randint(4, (2,), generator=generator).tolist()
        grid = from_blocks(assets.grids(pick.numpy()).to(device))
        grid = torch.rot90(grid.flip(2) if flip % 2 else grid, turns, (2, 3))
        blocks = to_blocks(grid).contiguous()
        some = torch.rand(blocks.shape[:4], generator=generator).to(device) < 0.05
        with lower_precision(device):
            latents = codec.encode(codec.analyse(blocks))
            grains = [GRAIN * torch.randn(z.shape, generator=generator).to(device) for z in latents]
            found = codec.decode(latents[0] + grains[0], latents[1] + grains[1])
        counted = has_surface(blocks) | some
        size = latents[0].float().square().mean() + latents[1].float().square().mean()
        return codec_loss(blocks[counted], found[counted].float()) + SMALL * size

    run = Training(
        field=codec,
        loss=loss,
        schedule=rising_and_falling(steps, 0.05, 0.95),
        steps=steps,
        seed=plan.seed,
        title="codec",
        weight_decay=1e-3,
        rates=[(list(codec.parameters()), CODEC_RATE)],
        betas=(0.9, 0.98),
        identity={"sizes": msgspec.to_builtins(plan.codec)},
        checkpoint=work / "codec.checkpoint.safetensors",
    )
    finish(run, done, progress)
    return codec.eval().requires_grad_(False)


def finish(run: Training, done: Path, progress: Progress, result: nn.Module | None = None) -> list[float]:
    """Runs what is left to run, and keeps the result in a file; if it is there already, reads it.

    Returns the mean losses of POINTS equal parts of the steps.
    """
    result, identity = result or run.field, {"identity": run.identity, "steps": run.steps, "seed": run.seed}
    if done.exists():
        tensors, found = read_tensors(done)
        if {k: v for k, v in found.items() if k != "loss"} != identity:
            raise InputError(f"{done}: made with other sizes, steps or seed: use another folder, or remove it")
        result.load_state_dict(tensors)
        return [float(value) for value in found.get("loss", [])]
    run.resume = run.checkpoint is not None and run.checkpoint.exists()
    sums, counts, loss = torch.zeros(POINTS), torch.zeros(POINTS), run.loss

    def counted(step: int, generator: torch.Generator) -> Tensor:
        value = loss(step, generator)
        sums[step * POINTS // run.steps] += float(value.detach())
        counts[step * POINTS // run.steps] += 1
        return value

    run.loss, run.state = counted, run.state | {"losses": sums, "steps": counts}
    run.run(progress)
    curve = [round(value, 4) for value in (sums / counts)[counts > 0].tolist()]
    write_tensors(done, result.state_dict(), identity | {"loss": curve})
    return curve


def codec_loss(blocks: Float[Tensor, "n 4 512"], found: Float[Tensor, "n 4 512"]) -> Tensor:
    """How far found blocks are off: distances and their signs near the surface, distances anywhere, colours at it."""
    sdf, other = blocks[:, 0] * BAND, found[:, 0] * BAND
    near, at = torch.exp(-0.7 * sdf.abs()), (sdf.abs() < 1.5).float()
    distance = (near * functional.smooth_l1_loss(other, sdf, reduction="none", beta=0.3)).sum() / near.sum()
    anywhere = functional.smooth_l1_loss(other, sdf)
    sign = functional.binary_cross_entropy_with_logits(-3 * other, (sdf < 0).float(), reduction="none")
    color = ((found[:, 1:] - blocks[:, 1:]).abs().mean(1) * at).sum() / at.sum().clamp_min(1)
    return distance + 0.3 * anywhere + 0.3 * (near * sign).sum() / near.sum() + 4 * color


def bases(assets: Assets, sizes: CodecSizes) -> tuple[Float[Tensor, "512 k"], Float[Tensor, "512 c"]]:
    """The principal components of blocks that hold a surface: of distances, and of colours."""
    shape, color = torch.zeros(512, 512), torch.zeros(512, 512)
    for part in np.array_split(assets.of("train"), 1 + len(assets.rows) // 16):
        blocks = assets.grids(part)
        blocks = blocks[has_surface(blocks)]
        shape += blocks[:, 0].T @ blocks[:, 0]
        color += torch.einsum("bkp,bkq->pq", blocks[:, 1:], blocks[:, 1:])
    return tuple(
        torch.linalg.eigh(moments)[1].flip(1)[:, :count].contiguous()
        for moments, count in ((shape, sizes.shape_basis), (color, sizes.color_basis))
    )


def has_surface(blocks: Float[Tensor, "*b 4 512"]) -> Tensor:
    """Which blocks have a surface in them or near: only their colours mean anything."""
    return blocks[..., 0, :].abs().amin(-1) < 0.6


@torch.no_grad()
def latents_of(codec: Codec, assets: Assets, device: str, progress: Progress = silent) -> Float[Tensor, "n 2 t c"]:
    """The latents of all assets, and of their mirror images (left is right); each channel has mean 0 and deviation 1.

    What they are divided by becomes the codec's own.
    """
    found = []
    for i in range(0, len(assets.rows), 16):
        grid = from_blocks(assets.grids(np.arange(i, min(i + 16, len(assets.rows)))).to(device))
        sides = [codec.encode(codec.analyse(to_blocks(g).contiguous())) for g in (grid, grid.flip(3))]
        found.append(torch.stack([torch.cat(side, 1) for side in sides], 1).cpu())
        progress(i + len(grid), len(assets.rows), "encoding")
    latents = torch.cat(found)
    train = latents[torch.from_numpy(assets.of("train"))].movedim(2, 0).flatten(1)
    codec.mean, codec.deviation = train.mean(1).to(device), train.std(1).to(device)
    tokens: Tensor = to_tokens(codec.normalized(latents.flatten(0, 1).to(device)), codec.sizes.shape)
    return tokens.reshape(-1, 2, *tokens.shape[1:])


def train_transformer(
    latents: Float[Tensor, "n 2 t c"],
    captions: list[list[int]],
    sizes: TransformerSizes,
    work: Path,
    plan: Plan,
    progress: Progress = silent,
) -> tuple[Transformer, list[float]]:
    """The network, from latents of objects and of their mirror images, and the numbers of the words of each; and the
    curve of its losses.

    A rectified flow (Liu et al. 2022): from noise at time 0 to an object at time 1 on a straight line, whose velocity
    is learned at times of a logit-normal distribution (Esser et al. 2024, section 3.1). What is returned is the mean of
    the network over its last steps.
    """
    device, steps = plan.device, plan.steps
    torch.manual_seed(plan.seed)
    network, mean = Transformer(sizes).to(device), Transformer(sizes).to(device)
    mean.load_state_dict(network.state_dict())
    latents = latents.to(device)
    attend = written_out if torch.device(device).type == "cpu" else plain

    def loss(step: int, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            rate = max(1 - EMA, RECENT / (RECENT + step))
            for a, b in zip(mean.parameters(), network.parameters(), strict=True):
                a.lerp_(b, rate)
        pick = torch.randint(len(latents), (BATCH,), generator=generator)
        side = torch.randint(2, (BATCH,), generator=generator)
        x1 = latents[pick.to(device), side.to(device)]
        x0 = torch.randn(x1.shape, generator=generator).to(device)
        t = (MIDDLE + SPREAD * torch.randn(BATCH, generator=generator)).sigmoid().to(device)
        words, weights = batch_of([captions[i] for i in pick.tolist()], generator)
        x = torch.lerp(x0, x1, t[:, None, None])
        with lower_precision(device):
            features, pooled = network.embed(words.to(device), weights.to(device))
            velocity = network(x, t, features, pooled, weights.to(device), attend)
        return functional.mse_loss(velocity.float(), x1 - x0)

    decayed = [p for name, p in network.named_parameters() if p.ndim == 2 and "words" not in name]
    others = [p for p in network.parameters() if not any(p is q for q in decayed)]
    run = Training(
        field=network,
        loss=loss,
        schedule=rising_and_falling(steps, WARM, COOL),
        steps=steps,
        seed=plan.seed,
        title="flow",
        weight_decay=0.01,
        rates=[(decayed, RATE), (others, RATE)],
        betas=(0.9, 0.98),
        state={f"mean.{name}": value for name, value in mean.state_dict().items()},
        identity={"sizes": msgspec.to_builtins(sizes)},
        checkpoint=work / "flow.checkpoint.safetensors",
    )
    curve = finish(run, work / "flow.safetensors", progress, mean)
    return mean.eval().requires_grad_(False), curve


def batch_of(captions: list[list[int]], generator: torch.Generator) -> tuple[Tensor, Float[Tensor, "b w"]]:
    """Words of captions [B, W], some of which are left out, and how much each counts, 0 or 1."""
    words, weights = (
        torch.zeros(len(captions), MOST, dtype=torch.int64),
        torch.zeros(len(captions), MOST),
    )
    for i, caption in enumerate(captions):
        chance = torch.rand(len(caption) + 1, generator=generator).tolist()
        said = [w for w, c in zip(caption, chance, strict=False) if c < KEPT][:MOST] if chance[-1] > SILENT else []
        said = said or [0]
        words[i, : len(said)], weights[i, : len(said)] = torch.tensor(said), 1.0
    return words, weights


def rising_and_falling(steps: int, warm: float, cool: float) -> Callable[[int, float], float]:
    """Rates that rise for a part of the steps, stay, and fall along half a cosine to nothing in the last part."""

    def rate(step: int, initial: float) -> float:
        done = (step + 1) / steps
        fall = max(0.0, (done - 1 + cool) / cool)
        return initial * min(1.0, done / warm) * 0.5 * (1 + math.cos(math.pi * fall))

    return rate


def lower_precision(device: str) -> AbstractContextManager[Any]:
    """Products in bfloat16, where the processor has them."""
    has_bfloat16 = device != "cpu" or getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=has_bfloat16)
