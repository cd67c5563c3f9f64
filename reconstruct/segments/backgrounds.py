"""What stands behind people in each picture of a camera that moves, rendered by something that has learned the place.

A rendering is not exact: it is blurred where there is much to be seen, and nearly right on a plain wall. How far off it
is is looked up where nobody is: the noise of a pixel is the mean difference in a window about it, as large as it has to
be for a quarter of it to count; and more behind people, which fewer frames show. (A median of frames, of a camera that
stands still, needs none of this.)

Letters: T frames, H by W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d

from fieldcast.errors import InputError
from fieldcast.reconstruct.segments.background import QUIET
from fieldcast.reconstruct.segments.segmenter import digest

WINDOWS = (1 / 32, 1 / 8, 1 / 2)  # of the picture's longer side: half widths of windows, the first that will do
WORSE = 1.5  # times the noise beside people is that behind them (measured on `synth`: 23.0 dB against 26.8)
ENOUGH = 0.25  # of a window's pixels must count
DEVIATION = math.sqrt(math.pi / 2)  # the standard deviation of a normal distribution, by its mean absolute deviation


@dataclass(frozen=True, eq=False)
class Backgrounds:
    """colors: what is rendered, 0 to 1. known: what of it some frame shows. counted: where nobody is. numbers: of
    pictures, by their digests.
    """

    colors: Float[Tensor, "t h w 3"]
    known: Bool[Tensor, "t h w"]
    counted: Bool[Tensor, "t h w"]
    numbers: dict[bytes, int]

    @staticmethod
    def of(
        frames: Sequence[UInt8[Tensor, "h w 3"]],
        colors: Float[Tensor, "t h w 3"],
        known: Bool[Tensor, "t h w"],
        counted: Bool[Tensor, "t h w"],
    ) -> Backgrounds:
        """The backgrounds of these pictures. Of pictures that are the same the last one's counts."""
        return Backgrounds(colors, known, counted, {digest(image): t for t, image in enumerate(frames)})

    def __call__(self, image: UInt8[Tensor, "h w 3"]) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
        """See `Backdrop`."""
        number = self.numbers.get(digest(image))
        if number is None:
            raise InputError("background: expected a frame of the recording, found a picture that has none")
        color, counted = self.colors[number] * 255, self.counted[number]
        noise = noise_of((image.float() - color).abs().amax(-1), counted)
        noise = torch.where(counted, noise, WORSE * noise)
        return color, noise.masked_fill(~self.known[number] & ~counted, math.inf)


def noise_of(off: Float[Tensor, "h w"], counted: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """The standard deviation about each pixel, from absolute differences where they count, at least QUIET; infinite
    where nothing counts even in the widest window.
    """
    noise = torch.full_like(off, math.inf)
    layers = torch.stack([off * counted, counted.to(off)])[None]
    for part in reversed(WINDOWS):
        reach = max(1, round(part * max(off.shape)))
        total, share = _means(layers, reach)[0]
        enough = share >= (ENOUGH if part != WINDOWS[-1] else 1e-6)
        noise[enough] = (DEVIATION * total / share.clamp_min(1e-9))[enough]
    return noise.clamp_min(QUIET)


def _means(layers: Float[Tensor, "1 c h w"], reach: int) -> Float[Tensor, "1 c h w"]:
    """Over what of a square window is in the picture: first across, then down, which is quick for wide ones."""
    across = avg_pool2d(layers, (1, 2 * reach + 1), 1, (0, reach), count_include_pad=False)
    return avg_pool2d(across, (2 * reach + 1, 1), 1, (reach, 0), count_include_pad=False)
