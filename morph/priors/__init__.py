"""Priors: generative models of 3D objects, each behind one protocol, so that morphs are written once.

A prior is a rectified flow: from noise at time 0 to the latent of an object at time 1, along velocities.

Letters: B latents, T tokens of C channels, W words of D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.space import Space
from fieldcast.morph.attention import Attend
from fieldcast.morph.volumes import Volume


@dataclass(frozen=True, eq=False)
class Condition:
    """What a prior is told of B objects: features of words, how much each counts (0 to 1), and one feature for all."""

    words: Float[Tensor, "b w d"]
    weights: Float[Tensor, "b w"]
    pooled: Float[Tensor, "b p"]


@runtime_checkable
class Prior(Protocol):
    """A generative model of objects.

    name: for reports. shape: T and C. positions: [T, 3], where each token is in the grid, 0..1; None if nowhere.
    groups: of the tokens that attend to each other, only those with the same number can stand for one another; None:
    all can.
    parts: the channels that say what an object's shape is, and what its texture; empty if they are not apart.
    structural: the blocks of the network without whose attention objects fall apart; empty if that is not known.
    grids: whether its fields are grids, to which what latents leave out can be added.
    network: what LoRA changes, in its linear layers whose names end in one of `adapted`.
    """

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def positions(self) -> Float[Tensor, "t 3"] | None: ...

    @property
    def groups(self) -> Int64[Tensor, " s"] | None: ...

    @property
    def parts(self) -> dict[str, slice]: ...

    @property
    def structural(self) -> tuple[int, ...]: ...

    @property
    def grids(self) -> bool: ...

    @property
    def network(self) -> nn.Module: ...

    @property
    def adapted(self) -> tuple[str, ...]: ...

    def encode(self, volume: Volume) -> Float[Tensor, "t c"]:
        """The latent of an object."""
        ...

    def embed(self, caption: str) -> Condition:
        """What a caption says, of one object. Raises InputError for words that the prior does not know."""
        ...

    def known(self, name: str) -> str:
        """The words of a file's name that can be in a caption."""
        ...

    def times(self, steps: int) -> list[float]:
        """So many steps from 0 to 1, close together where much is decided."""
        ...

    def velocity(
        self, x: Float[Tensor, "b t c"], t: Float[Tensor, " b"], condition: Condition, attend: Attend
    ) -> Float[Tensor, "b t c"]:
        """Where latents go at a time, 0 to 1; attend: the attention of its network."""
        ...

    def volume(self, latent: Float[Tensor, "t c"], space: Space) -> Volume:
        """The object of a latent, on a grid that fills a cube of the world."""
        ...

    def decode(self, latent: Float[Tensor, "t c"], space: Space) -> Field:
        """The object of a latent, as a field in that cube."""
        ...


def open_prior(name: str | Path = "builtin", device: torch.device | str = "cpu") -> Prior:
    """A prior by its name, or from the file or folder that holds it.

    `builtin` is the one that comes with fieldcast; a .safetensors is another of its kind; a folder is Shap-E, as
    diffusers stores it; `shap-e` is that of the hub, which is downloaded.
    """
    from fieldcast.morph.priors.builtin import BuiltinPrior, builtin_file

    if str(name) == "shap-e" or Path(name).is_dir():
        from fieldcast.morph.priors.shap_e import ShapEPrior

        return ShapEPrior.open(None if str(name) == "shap-e" else Path(name), device)
    path = builtin_file() if str(name) == "builtin" else Path(name)
    if path.suffix == ".safetensors":
        return BuiltinPrior.open(path, device)
    raise InputError(f"prior {name}: expected builtin, a .safetensors, a folder of Shap-E, or shap-e")
