"""Prompts from where people are believed to be: the silhouettes of their current layers.

As MultiPly does (Jiang et al. 2024, section 3.3): a box around what is seen of a person, its own joints there as points
that are to be included, the joints of others and some points outside as ones that are not. Whoever is hidden gets no
prompt, since there is nothing to be found.

Letters: P people, J joints, H by W pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fieldcast.reconstruct.segments.segmenter import Prompt

MARGIN = 0.03  # of the box's sides, by which it is made larger at each of them
OUTSIDE = 10  # points outside of a person
LEAST = 12  # pixels that must be seen of somebody who is asked for


def prompts_of(
    visible: Bool[Tensor, "p h w"], joints: Float[Tensor, "p j 2"], generator: torch.Generator, least: int = LEAST
) -> list[Prompt | None]:
    """A prompt a person; None for those of whom fewer than `least` pixels are seen.

    visible: where each person is the nearest. joints: image points, in pixels; they may be outside of the picture.
    People in another order get the same prompts in that order.
    """
    chance = torch.rand(OUTSIDE, generator=generator)
    shown = _at(visible, joints)
    return [
        _prompt(visible, joints, shown, person, chance) if int(visible[person].sum()) >= max(least, 1) else None
        for person in range(len(visible))
    ]


def box_of(mask: Bool[Tensor, "h w"]) -> Float[Tensor, " 4"]:
    """Left, top, right and bottom edge of a mask that is not empty, with MARGIN, within the picture."""
    height, width = mask.shape
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    dx, dy = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
    return torch.tensor([max(x0 - dx, 0.0), max(y0 - dy, 0.0), min(x1 + dx, width), min(y1 + dy, height)])


def _at(masks: Bool[Tensor, "p h w"], points: Float[Tensor, "q j 2"]) -> Bool[Tensor, "p q j"]:
    """Which points of each of Q are in which masks; those outside of the picture, or nowhere (NaN), are in none."""
    _, height, width = masks.shape
    x, y = points.unbind(-1)
    there = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = (torch.where(there, v, torch.zeros_like(v)).long() for v in (x, y))
    return masks[:, row, column] & there


def _prompt(
    visible: Bool[Tensor, "p h w"],
    joints: Float[Tensor, "p j 2"],
    shown: Bool[Tensor, "p p j"],
    person: int,
    chance: Float[Tensor, " k"],
) -> Prompt:
    mask = visible[person]
    own = joints[person][shown[person, person]]
    seen = shown.diagonal().T.clone()  # of each person, which joints are in what is seen of it
    seen[person] = False
    return Prompt(
        mask=mask.to(torch.float32),
        box=box_of(mask),
        positive=own if len(own) else _middle(mask)[None],
        negative=torch.cat([joints[seen], _drawn(~mask, chance)]),
    )


def _middle(mask: Bool[Tensor, "h w"]) -> Float[Tensor, " 2"]:
    """The centre of the pixel that is farthest from all that is outside of a mask."""
    from scipy.ndimage import distance_transform_edt

    inside = torch.nn.functional.pad(mask, (1, 1, 1, 1)).numpy()
    deepest = int(distance_transform_edt(inside)[1:-1, 1:-1].argmax())
    return _centre(torch.tensor([deepest]), mask.shape[1])[0]


def _drawn(where: Bool[Tensor, "h w"], chance: Float[Tensor, " k"]) -> Float[Tensor, "n 2"]:
    """Centres of pixels of a mask, by numbers from 0 to 1; none if it is empty."""
    pixels = where.flatten().nonzero()[:, 0]
    if not len(pixels):
        return torch.zeros(0, 2)
    return _centre(pixels[(chance * len(pixels)).long().clamp(max=len(pixels) - 1)], where.shape[1])


def _centre(pixel: Int64[Tensor, " n"], width: int) -> Float[Tensor, "n 2"]:
    return torch.stack([pixel % width, pixel // width], -1) + 0.5
