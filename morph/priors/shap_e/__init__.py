"""Shap-E (Jun and Nichol 2023) through diffusers, as a prior (docs/shap-e.md).

Its network predicts the object x of a noisy latent x + sigma n. Our flow is at x_t = t x + (1 - t) n: a noisy latent
times t, with sigma = (1 - t) / t; so the velocity x - n is (predicted x - x_t) / (1 - t).

Letters: B latents, T tokens of C channels. A token is one row of weights of an object's network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.space import Space
from fieldcast.morph.attention import Attend
from fieldcast.morph.flow import early_times
from fieldcast.morph.priors import Condition
from fieldcast.morph.priors.builtin.words import split
from fieldcast.morph.priors.shap_e.attention import handed
from fieldcast.morph.priors.shap_e.distilling import distilled
from fieldcast.morph.priors.shap_e.files import Parts, downloaded, open_parts
from fieldcast.morph.priors.shap_e.renderer import Network
from fieldcast.morph.volumes import Volume

EARLY = 1.5  # how much closer steps are at noise than at objects
TOLD = 2  # tokens before those of the latent: what the network is told, and the time


class ShapEPrior:
    """Shap-E for captions. The whole caption is one feature: there are no words."""

    name = "shap-e"
    adapted = (".to_q", ".to_k", ".to_v", ".to_out.0")
    positions: Float[Tensor, "t 3"] | None = None
    structural: tuple[int, ...] = ()
    grids = False
    parts: dict[str, slice] = {}  # noqa: RUF012 -- shape and texture are not apart

    def __init__(self, parts: Parts) -> None:
        self.diffusers, self.network = parts, parts.prior
        self.shape = (parts.prior.config.num_embeddings, parts.prior.config.embedding_dim)
        rows = torch.tensor([rows for rows, _ in parts.shap_e_renderer.config.param_shapes])
        # What the network is told pairs with itself, and so does the time; a row, with those of its layer.
        layers = torch.arange(TOLD, TOLD + len(rows)).repeat_interleave(rows)
        self.groups: Int64[Tensor, " s"] | None = torch.cat([torch.arange(TOLD), layers])
        clean = parts.scheduler.alphas_cumprod.double().numpy()
        self.log_sigmas = np.log((1 - clean) / clean) / 2  # of the network's time steps, rising

    @staticmethod
    def open(folder: Path | None, device: torch.device | str = "cpu") -> ShapEPrior:
        """Shap-E in a folder that diffusers wrote; None: from the hub, or where a download is kept."""
        return ShapEPrior(open_parts(downloaded() if folder is None else folder, device))

    @property
    def device(self) -> torch.device:
        found: torch.device = self.network.device
        return found

    def encode(self, volume: Volume) -> Float[Tensor, "t c"]:
        """By optimisation; the same object gives the same latent."""
        return distilled(self.diffusers.shap_e_renderer, volume, self.shape)

    @torch.no_grad()
    def embed(self, caption: str) -> Condition:
        """CLIP's feature of a caption, as long as noise of its size would be; of none, zeros."""
        encoder = self.diffusers.text_encoder
        pooled = torch.zeros(1, encoder.config.projection_dim, device=self.device)
        if caption.strip():
            tokens, most = self._tokens(caption), self._most()
            if len(tokens) > most:
                raise InputError(f"caption {caption[:40]!r}: expected at most {most} tokens, found {len(tokens)}")
            found = encoder(torch.tensor([tokens], device=self.device)).text_embeds
            pooled = nn.functional.normalize(found, dim=-1) * pooled.shape[-1] ** 0.5
        return Condition(pooled.new_zeros(1, 1, 1), pooled.new_ones(1, 1), pooled)

    def known(self, name: str) -> str:
        """All words of a name, as many as a caption can have."""
        words = split(name)
        while len(self._tokens(" ".join(words))) > self._most():
            words.pop()
        return " ".join(words)

    def times(self, steps: int) -> list[float]:
        return early_times(steps, EARLY)

    def velocity(
        self, x: Float[Tensor, "b t c"], t: Float[Tensor, " b"], condition: Condition, attend: Attend
    ) -> Float[Tensor, "b t c"]:
        """Where latents go; guidance is others' business.

        The network knows noise from the least to the most sigma of its schedule. Beyond the most (t below 0.0025), its
        last time step is told and the formula goes on. Below the least (t above 0.90), its first is told and 1 - t
        stays as it is there: diffusers' last step would jump onto the prediction, from where no way leads back.
        """
        least = float(np.exp(self.log_sigmas[0]))
        rest = 1 - t
        sigma = np.log((rest / t.clamp_min(1e-9)).clamp_min(1e-9).double().cpu().numpy())
        time = np.interp(sigma, self.log_sigmas, np.arange(len(self.log_sigmas)))
        scaled = x / torch.hypot(t, rest)[:, None, None]  # of mean square 1, if x is: x_t / t / (sigma^2 + 1)^0.5
        with handed(self.network, attend):
            predicted = self.network(scaled, torch.from_numpy(time).to(x), condition.pooled).predicted_image_embedding
        found: Tensor = predicted[..., : self.shape[1]]  # behind it is a variance, which the flow does not need
        scheduler = self.diffusers.scheduler.config
        if scheduler.clip_sample:
            found = found.clamp(-scheduler.clip_sample_range, scheduler.clip_sample_range)
        return (found - x) / rest.clamp_min(least / (1 + least))[:, None, None]

    def volume(self, latent: Float[Tensor, "t c"], space: Space) -> Volume:
        """The textured surface, on a grid."""
        return self._network(latent).volume(space)

    def decode(self, latent: Float[Tensor, "t c"], space: Space) -> Field:
        """The radiance field: all of it, with what is transparent around the surface."""
        return self._network(latent).field(space)

    @torch.no_grad()
    def _network(self, latent: Float[Tensor, "t c"]) -> Network:
        # A flow ends nearly, not exactly, within what latents of Shap-E are trained to be.
        return Network(self.diffusers.shap_e_renderer, latent.to(self.device).clamp(-1, 1))

    def _tokens(self, caption: str) -> list[int]:
        tokens: list[int] = self.diffusers.tokenizer(caption, verbose=False).input_ids
        return tokens

    def _most(self) -> int:
        """Tokens of a caption, with the first and the last."""
        encoder, tokenizer = self.diffusers.text_encoder.config, self.diffusers.tokenizer
        return min(int(encoder.max_position_embeddings), int(tokenizer.model_max_length))
