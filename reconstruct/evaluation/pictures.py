"""Masks against masks and pictures against pictures, over frames and people.

Letters: H by W pixels. Labels are those of a recording: 0 for the background, else 1 + the number of a person.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.metrics import SSIM_WINDOW, psnr

EDGE = (SSIM_WINDOW - 1) // 2  # pixels at the edges, whose windows reach beyond the picture


@dataclass(frozen=True)
class Counts:
    """Pixels of a mask in truth, in what was found, and in both."""

    true: int
    found: int
    both: int


def counts(truth: Bool[Tensor, "h w"], found: Bool[Tensor, "h2 w2"]) -> Counts:
    """Of a person in a frame."""
    if truth.shape != found.shape:
        size, other = (" x ".join(map(str, mask.shape[::-1])) for mask in (truth, found))
        raise InputError(f"masks: expected {size} pixels as in truth, found {other}")
    return Counts(int(truth.sum()), int(found.sum()), int((truth & found).sum()))


def mask_numbers(masks: Iterable[Counts]) -> dict[str, float | int | None]:
    """The means over masks: each person in each frame counts the same, however large.

    mask_iou: both / (true + found - both). mask_recall: both / true. mask_f1: 2 both / (true + found). A person who is
    hidden in truth and was not found is left out; who was found there all the same has an IoU and F1 of 0, but no
    recall.
    """
    seen = [c for c in masks if c.true + c.found]
    return {
        "masks": len(seen),
        "mask_iou": mean(c.both / (c.true + c.found - c.both) for c in seen),
        "mask_recall": mean(c.both / c.true for c in seen if c.true),
        "mask_f1": mean(2 * c.both / (c.true + c.found) for c in seen),
    }


def picture_numbers(
    truth: UInt8[Tensor, "h w 3"], found: UInt8[Tensor, "h2 w2 3"], people: Bool[Tensor, "h w"] | None
) -> dict[str, float | None]:
    """PSNR and SSIM of a whole picture, and of its pixels that show people in truth; None where there are none.

    The PSNR of equal pixels is infinite.
    """
    if truth.shape != found.shape:
        size, other = (f"{p.shape[1]} x {p.shape[0]}" for p in (truth, found))
        raise InputError(f"pictures: expected {size} pixels as in truth, found {other}")
    a, b = truth.float() / 255, found.float() / 255
    alike = similarity(a, b)
    numbers: dict[str, float | None] = {"psnr_db": psnr(a, b), "ssim": float(_inner(alike).mean())}
    if people is not None:
        inner = _inner(people)
        numbers["people_psnr_db"] = psnr(a[people], b[people]) if people.any() else None
        numbers["people_ssim"] = float(_inner(alike)[inner].mean()) if inner.any() else None
    return numbers


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """The structural similarity of each pixel's surroundings, as `fields.metrics.ssim` takes the mean of: [H, W]."""
    from skimage.metrics import structural_similarity

    if min(a.shape[:2]) < SSIM_WINDOW:
        raise InputError(f"ssim: expected {SSIM_WINDOW} pixels a side or more, found {a.shape[1]} x {a.shape[0]}")
    _, full = structural_similarity(
        a.double().numpy(),
        b.double().numpy(),
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return torch.from_numpy(np.asarray(full).mean(-1))


def _inner(picture: Tensor) -> Tensor:
    """Without the pixels at the edges."""
    return picture[EDGE:-EDGE, EDGE:-EDGE]


def mean(values: Iterable[float | None]) -> float | None:
    """Of those values that there are; None where there are none, or where it is infinite, which JSON cannot hold."""
    known = [value for value in values if value is not None]
    found = sum(known) / len(known) if known else math.nan
    return found if math.isfinite(found) else None
