"""GrabCut (Rother, Kolmogorov and Blake 2004) by OpenCV, one run a person, told what all frames say: no weights needed.

GrabCut cuts a picture in two along its edges, by mixtures of colours that it fits to both sides, and keeps to what it
is told for sure. What is told follows from log-odds: how far a pixel is from where the person is believed to be, how
usual its colour is for this person over all frames, and how usual for the background (pixel by pixel, if the camera
stands still or somebody tells what is behind people; otherwise in the person's surroundings in this frame). What two
people claim goes to whoever has the higher odds.

Letters: P people, H by W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.reconstruct.segments.background import FRAMES, Background, around, background_of
from fieldcast.reconstruct.segments.colours import Colours, colours_of
from fieldcast.reconstruct.segments.edges import soft_shares
from fieldcast.reconstruct.segments.regions import distances
from fieldcast.reconstruct.segments.segmenter import HIDDEN, Backdrop, Prompt, labels_of, logits_of

# Lengths are in statures: 0.01 is 1.75 cm of somebody who is seen whole.
EDGE, SLOPE = 0.01, 0.015  # where a person may as well be as not, and over how much more the odds fall e-fold
LEAST_PRIOR, MOST_PRIOR = -8.0, 3.0
CERTAIN = 2.0  # log-odds beyond which GrabCut is told for sure
OWN, OTHER = 0.02, 0.03  # colours are learned nearer to a person than that, and farther from all others
INNER, OUTER = 0.04, 0.25  # those of the surroundings between these
CROP = 0.25  # of the picture, around a person
ROUNDS = 5


@dataclass(frozen=True, eq=False)
class Known:
    """What frames have told. colours: of each person. background: None where the camera moves. behind: what is told of
    each picture's background instead.
    """

    colours: tuple[Colours, ...] = ()
    background: Background | None = None
    behind: Backdrop | None = None

    def of(self, image: UInt8[Tensor, "h w 3"]) -> Background | None:
        """What is behind people in a picture, if that is known."""
        return self.background if self.behind is None else Background(*self.behind(image))


@dataclass(frozen=True, eq=False)
class GrabCut:
    """static: whether the camera stands still. seed: of OpenCV's mixtures. known: None: learned from each picture.
    behind: what is told of backgrounds; then they are not learned.
    """

    static: bool = False
    seed: int = 0
    known: Known | None = None
    behind: Backdrop | None = None

    def learned(self, frames: Sequence[UInt8[Tensor, "h w 3"]], prompts: Sequence[list[Prompt | None]]) -> GrabCut:
        """With the background, and with the colours that everybody has after a first segmentation without them."""
        background = None
        if self.static and self.behind is None and len(frames) >= FRAMES:
            people = [around(asked, image[..., 0].float()) for image, asked in zip(frames, prompts, strict=True)]
            background = background_of(frames, people)
        first = replace(self, known=Known(background=background, behind=self.behind))
        reliable = [first.reliable(image, asked) for image, asked in zip(frames, prompts, strict=True)]
        colours = [colours_of(zip(frames, masks, strict=True)) for masks in zip(*reliable, strict=True)]
        return replace(self, known=Known(tuple(colours), background, self.behind))

    def reliable(self, image: UInt8[Tensor, "h w 3"], prompts: list[Prompt | None]) -> Bool[Tensor, "p h w"]:
        """Where each person is found, near to where it was looked for, and away from others."""
        labels, away = labels_of(self.segment(image, prompts)), distances(prompts, image[..., 0].float())
        masks = torch.zeros(away.shape, dtype=torch.bool)
        for person in range(len(prompts)):
            apart = (_without(away, person) > OTHER).all(0)
            masks[person] = (labels == person + 1) & (away[person] < OWN) & apart
        return masks

    def segment(self, image: UInt8[Tensor, "h w 3"], prompts: list[Prompt | None]) -> Float[Tensor, "p h w"]:
        """See `Segmenter`."""
        if self.known is None:
            return self.learned([image], [prompts]).segment(image, prompts)
        if all(prompt is None for prompt in prompts):
            return torch.full((len(prompts), *image.shape[:2]), HIDDEN)
        away = distances(prompts, image[..., 0].float())
        odds = odds_of(image, away, self.known)
        labels, best = torch.zeros_like(image[..., 0]), torch.full_like(odds[0], -torch.inf)
        for person in range(len(prompts)):
            around_it = away[person] < CROP
            if bool(around_it.any()):
                mine = cut(image, odds[person], around_it, self.seed) & (odds[person] > best)
                labels[mine], best = person + 1, torch.where(mine, odds[person], best)
        return logits_of(soft_shares(labels, len(prompts), image, self.known.of(image)))


def odds_of(image: UInt8[Tensor, "h w 3"], away: Float[Tensor, "p h w"], known: Known) -> Float[Tensor, "p h w"]:
    """Log-odds of each person against everything else, before edges are looked at. away: see `distances`."""
    behind = _behind(image, away.amin(0), known)
    people = ((EDGE - away) / SLOPE).clamp(LEAST_PRIOR, MOST_PRIOR)
    if known.colours:
        people = people + torch.stack([colours.evidence(image) for colours in known.colours])
    every = torch.cat([behind[None], people.masked_fill(away.isposinf(), -torch.inf)])
    return torch.stack([every[k] - _without(every, k).logsumexp(0) for k in range(1, len(every))])


def _behind(image: UInt8[Tensor, "h w 3"], nearest: Float[Tensor, "h w"], known: Known) -> Float[Tensor, "h w"]:
    """Log-odds of the background. What is told of it may be wrong: then it has either the colour that is told or one of
    the surroundings'. nearest: how far whoever is nearest is from each pixel, statures.
    """
    background = known.of(image)
    if background is not None and known.behind is None:
        return -background.evidence(image)
    around_it = torch.zeros_like(nearest)
    if known.colours:
        around_it = colours_of([(image, (nearest > INNER) & (nearest < OUTER))]).evidence(image)
    if background is None:
        return around_it
    told = torch.where(background.known, -background.evidence(image), -torch.inf)
    return torch.logaddexp(told, around_it) - math.log(2)


def cut(
    image: UInt8[Tensor, "h w 3"], odds: Float[Tensor, "h w"], crop: Bool[Tensor, "h w"], seed: int
) -> Bool[Tensor, "h w"]:
    """GrabCut within the rectangle around `crop`."""
    import cv2

    rows, columns = crop.any(1).nonzero()[:, 0], crop.any(0).nonzero()[:, 0]
    window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    told = odds[window]
    guess = torch.where(told > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    guess[told > CERTAIN], guess[told < -CERTAIN] = cv2.GC_FGD, cv2.GC_BGD
    found = torch.zeros_like(crop)
    if bool((told > 0).all()) or not bool((told > 0).any()):  # nothing to be told apart
        found[window] = told > 0
        return found
    bgr, mask = np.ascontiguousarray(image[window].flip(-1).numpy()), guess.to(torch.uint8).numpy()
    cv2.setRNGSeed(seed)
    cv2.grabCut(bgr, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    found[window] = torch.from_numpy(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    return found


def _without(layers: Float[Tensor, "q h w"], k: int) -> Float[Tensor, "r h w"]:
    """All layers but one."""
    return torch.cat([layers[:k], layers[k + 1 :]])
