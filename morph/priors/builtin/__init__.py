"""The built-in prior: a small flow of coloured objects on a 64^3 grid, trained on CC0 models (docs/prior.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.tensors import read_tensors, write_tensors
from fieldcast.fields.space import Space
from fieldcast.fields.spec import read
from fieldcast.morph.attention import Attend
from fieldcast.morph.flow import early_times
from fieldcast.morph.priors import Condition
from fieldcast.morph.priors.builtin.assets import blocks_of
from fieldcast.morph.priors.builtin.codec import Codec, CodecSizes, from_blocks
from fieldcast.morph.priors.builtin.tokens import PATCH, from_tokens, to_tokens
from fieldcast.morph.priors.builtin.transformer import Transformer, TransformerSizes
from fieldcast.morph.priors.builtin.words import known, numbers
from fieldcast.morph.volumes import BAND, Volume

FORMAT = 2
EARLY = 3.0  # how much closer steps are at noise than at objects: half of them are before time 1 / (1 + EARLY)


@dataclass(frozen=True)
class Description:
    """What a file says of the prior in it. prior: the version of the format. words: the vocabulary. made: how."""

    prior: int
    codec: CodecSizes
    network: TransformerSizes
    words: list[str]
    made: dict[str, Any]


class BuiltinPrior:
    """A codec and a transformer. A token is 2^3 blocks: first their shape, then their colours."""

    name = "builtin"
    adapted = (".q", ".kv", ".out")
    groups: Int64[Tensor, " s"] | None = None
    grids = True

    def __init__(self, codec: Codec, network: Transformer, words: list[str], made: dict[str, Any]) -> None:
        """words: the vocabulary. made: how it was made, for its file."""
        self.codec, self.network, self.words, self.made = codec, network, words, made
        self.shape = (network.sizes.tokens, network.sizes.channels)
        side = round(self.shape[0] ** (1 / 3))
        at = (torch.arange(side) + 0.5) / side
        self.positions: Float[Tensor, "t 3"] | None = torch.cartesian_prod(at, at, at)
        split = codec.sizes.shape * PATCH**3
        blocks = network.sizes.blocks
        self.structural = tuple(range(blocks - max(1, blocks // 4), blocks))
        self.parts = {"shape": slice(0, split), "texture": slice(split, self.shape[1])}

    @property
    def device(self) -> torch.device:
        return self.codec.mean.device

    @torch.no_grad()
    def encode(self, volume: Volume) -> Float[Tensor, "t c"]:
        latent = self.codec.encode(self.codec.analyse(blocks_of(volume).to(self.device)))
        return to_tokens(self.codec.normalized(torch.cat(latent, 1)), self.codec.sizes.shape)[0]

    def embed(self, caption: str) -> Condition:
        words = numbers(caption, self.words)[None].to(self.device)
        weights = torch.ones_like(words, dtype=torch.float32)
        features, pooled = self.network.embed(words, weights)
        return Condition(features, weights, pooled)

    def known(self, name: str) -> str:
        return known(name, self.words)

    def times(self, steps: int) -> list[float]:
        return early_times(steps, EARLY)

    def velocity(
        self, x: Float[Tensor, "b t c"], t: Float[Tensor, " b"], condition: Condition, attend: Attend
    ) -> Float[Tensor, "b t c"]:
        velocity: Tensor = self.network(x, t, condition.words, condition.pooled, condition.weights, attend)
        return velocity

    @torch.no_grad()
    def volume(self, latent: Float[Tensor, "t c"], space: Space) -> Volume:
        """The object of a latent, on its grid."""
        side = round(self.shape[0] ** (1 / 3)) * PATCH
        z = self.codec.restored(from_tokens(latent[None].to(self.device), self.codec.sizes.shape, side))
        sizes = self.codec.sizes
        grid = from_blocks(self.codec.decode(*z.split([sizes.shape, sizes.color], 1)))[0].cpu()
        rgb = (grid[1:].permute(1, 2, 3, 0) + 0.5).clamp(0, 1)
        return Volume((grid[0] * BAND).clamp(-BAND, BAND), rgb.contiguous(), space)

    def decode(self, latent: Float[Tensor, "t c"], space: Space) -> Field:
        return self.volume(latent, space).field()

    def save(self, path: Path, force: bool = False) -> None:
        """In half precision."""
        tensors = {f"codec.{k}": v for k, v in self.codec.state_dict().items()}
        tensors |= {f"network.{k}": v for k, v in self.network.state_dict().items()}
        told = Description(FORMAT, self.codec.sizes, self.network.sizes, self.words, self.made)
        meta = msgspec.to_builtins(told)
        write_tensors(path, {k: v.half() for k, v in tensors.items()}, meta, force)

    @staticmethod
    def open(path: Path, device: torch.device | str = "cpu") -> BuiltinPrior:
        """The prior of a file. Raises InputError when it is not whole, of another version or not one."""
        tensors, meta = read_tensors(path)
        if "prior" not in meta:
            raise InputError(f"{path}: expected a prior, found another safetensors file")
        if meta["prior"] != FORMAT:
            raise InputError(
                f"{path}: expected a prior of format {FORMAT}, found {meta['prior']}: made by another version"
            )
        told = read(Description, meta, str(path))
        codec, network = Codec(told.codec), Transformer(told.network)
        for name, module in (("codec.", codec), ("network.", network)):
            own = {k.removeprefix(name): v.float() for k, v in tensors.items() if k.startswith(name)}
            try:
                module.load_state_dict(own)
            except RuntimeError as error:
                raise InputError(f"{path}: not a whole prior: {' '.join(str(error).split())[:300]}") from None
            module.to(device).eval().requires_grad_(False)
        return BuiltinPrior(codec, network, told.words, told.made)


def builtin_file() -> Path:
    """Where the prior that comes with fieldcast is."""
    return Path(__file__).with_name("weights.safetensors")
