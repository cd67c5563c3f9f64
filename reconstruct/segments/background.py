"""What stands behind people, when the camera does: its colours, how much they vary, and what differs from them.

The background is the median over frames of the pixels where nobody is believed to be; its noise is the median absolute
deviation. A pixel's log-odds of showing something else follow from Bayes' rule: the background gives colours that are
normally distributed, anything else gives all colours alike; and so does the background now and then, since things are
moved. Where a shadow falls on it, it keeps its hue: it is darker by a factor, and any down to SHADE is as likely as
another (the brightness distortion of Horprasert et al. 1999, section 2).

Letters: T frames, P people, H by W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.segments.regions import distances
from fieldcast.reconstruct.segments.segmenter import HIDDEN, SURE, Backdrop, Prompt

QUIET = 3.0  # grey levels: the least noise that is believed, since videos are compressed
DEVIATIONS = 1.4826  # the standard deviation of a normal distribution, by its median absolute deviation
STRANGE = 0.02  # the share of the background's pixels that have any colour at all
SHADED, SHADE = 0.05, 0.4  # the share of those on which a shadow falls, and the least part of the light that is left
FRAMES, MOST = 3, 64  # a median of fewer says nothing, and more frames say nothing new
BAND = 32  # rows at a time, so that large videos fit into memory
AROUND = 0.05  # statures around people that are not taken for background
REACH = 0.12  # statures from where somebody is believed to be, beyond which nobody is found


@dataclass(frozen=True, eq=False)
class Background:
    """color: 0..255, 0 where unknown. noise: its standard deviation, infinite where it was never seen."""

    color: Float[Tensor, "h w 3"]
    noise: Float[Tensor, "h w"]

    @property
    def known(self) -> Bool[Tensor, "h w"]:
        return self.noise.isfinite()

    def evidence(self, image: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
        """Log-odds, from -SURE to SURE, of something before the background; 0 where that is unknown."""
        sigma = torch.where(self.known, self.noise, torch.ones_like(self.noise))
        seen, length = image.float(), self.color.norm(dim=-1).clamp_min(1)
        light = ((seen * self.color).sum(-1) / length.square()).clamp(SHADE, 1)
        plain = -(seen - self.color).square().sum(-1) / (2 * sigma.square())
        shaded = -(seen - light[..., None] * self.color).square().sum(-1) / (2 * sigma.square())
        across = -(sigma * math.sqrt(2 * math.pi) / 256).log()  # of a normal distribution, in one of three directions
        along = -((1 - SHADE) * length / 256).log()
        usual = torch.logaddexp(
            math.log(1 - STRANGE - SHADED) + plain + 3 * across, math.log(SHADED) + shaded + 2 * across + along
        )
        odds = -torch.logaddexp(usual, torch.full_like(usual, math.log(STRANGE)))
        return torch.where(self.known, odds, torch.zeros_like(odds)).clamp(-SURE, SURE)


def background_of(
    frames: Sequence[UInt8[Tensor, "h w 3"]], people: Sequence[Bool[Tensor, "h w"]] | None = None
) -> Background:
    """The background of pictures of one camera that stands still.

    people: where somebody is believed to be, frame by frame; None: nobody knows, and what is seen in most frames is
    taken for the background.
    """
    if len(frames) < FRAMES:
        raise InputError(f"background: expected at least {FRAMES} frames, found {len(frames)}")
    chosen = torch.linspace(0, len(frames) - 1, min(len(frames), MOST)).round().long().tolist()
    bands = []
    for row in range(0, frames[0].shape[0], BAND):
        rows = slice(row, row + BAND)
        stack = torch.stack([frames[t][rows] for t in chosen]).float()
        if people is not None:
            stack[torch.stack([people[t][rows] for t in chosen])] = math.nan
        bands.append(_median(stack))
    color, noise = (torch.cat(parts) for parts in zip(*bands, strict=True))
    return Background(color, noise)


def _median(stack: Float[Tensor, "t h w 3"]) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """Colour and noise of pixels, without those that are NaN."""
    color = stack.nanmedian(0).values
    spread = (stack - color).abs().nanmedian(0).values
    noise = (DEVIATIONS * spread).amax(-1).clamp_min(QUIET)
    return color.nan_to_num(), noise.nan_to_num(nan=math.inf)


def around(prompts: list[Prompt | None], like: Float[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Where somebody is believed to be, with AROUND."""
    return (distances(prompts, like) < AROUND).any(0)


@dataclass(frozen=True, eq=False)
class Subtraction:
    """What differs from the background is the nearest person's. background: None until it has been learned. behind:
    what is told of the background of each picture; then nothing is learned.
    """

    background: Background | None = None
    behind: Backdrop | None = None

    @staticmethod
    def open(recording: Recording, behind: Backdrop | None = None) -> Subtraction:
        """For a recording whose camera stands still, or of which it is known what is behind people."""
        if behind is None and not recording.static:
            raise InputError(f"{recording.source}: segmenter background: expected a camera that stands still")
        return Subtraction(background_of(recording.frames) if behind is None else None, behind)

    def learned(self, frames: Sequence[UInt8[Tensor, "h w 3"]], prompts: Sequence[list[Prompt | None]]) -> Subtraction:
        """With the background of these frames, where nobody is believed to be."""
        if self.behind is not None:
            return self
        people = [around(asked, image[..., 0].float()) for image, asked in zip(frames, prompts, strict=True)]
        return Subtraction(background_of(frames, people))

    def segment(self, image: UInt8[Tensor, "h w 3"], prompts: list[Prompt | None]) -> Float[Tensor, "p h w"]:
        """See `Segmenter`."""
        background = self.background if self.behind is None else Background(*self.behind(image))
        if background is None:
            raise ValueError("Subtraction: expected a background; learn it from the frames first")
        logits = torch.full((len(prompts), *image.shape[:2]), HIDDEN)
        if all(prompt is None for prompt in prompts):
            return logits
        odds = background.evidence(image)
        away = distances(prompts, odds)
        nearest = away.argmin(0)
        for person in range(len(prompts)):
            its = (nearest == person) & (away[person] < REACH)
            logits[person] = torch.where(its, odds, logits[person])
        return logits
