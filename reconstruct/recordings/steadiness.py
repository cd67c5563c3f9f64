"""Whether a camera of which nothing is known stands still: how far most of the picture has moved since the first frame.

By phase correlation (Kuglin and Hines 1975): the Fourier transform of two pictures differs by a phase that grows with
the frequency if one is the other, shifted; the inverse transform of that phase alone has its peak at the shift.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

MOVES = ": the picture moves, "  # begins what is said where a camera that nothing is known of does not stand still
SIDE = 160  # pixels along the longer side of what is compared
FRAMES = 24  # how many are compared with the first
STILL = 0.02  # of the longer side: people's own moves, and a hand that holds the camera, are taken for less


def camera_shift(frames: list[UInt8[Tensor, "h w 3"]]) -> tuple[float, int]:
    """The largest shift of the picture since the first frame, in pixels, and the frame that has it."""
    longer = max(frames[0].shape[:2])
    factor = max(1, longer // SIDE)
    chosen = np.unique(np.linspace(0, len(frames) - 1, FRAMES + 1).round().astype(int)).tolist()
    first = _grey(frames[0], factor)
    shifts = {frame: factor * float(np.hypot(*shift(first, _grey(frames[frame], factor)))) for frame in chosen}
    worst = max(shifts, key=lambda frame: shifts[frame])
    return shifts[worst], worst


def shift(a: Float64[np.ndarray, "h w"], b: Float64[np.ndarray, "h w"]) -> tuple[int, int]:
    """By how many rows and columns b is a, moved down and to the right."""
    height, width = a.shape
    window = np.outer(np.hanning(height), np.hanning(width))  # or the edges of the picture, which stay, would win
    first, second = (np.fft.rfft2((x - x.mean()) * window) for x in (a, b))
    phase = second * first.conj()
    peak = np.fft.irfft2(phase / np.maximum(np.abs(phase), 1e-9), s=a.shape).argmax()
    row, column = np.unravel_index(peak, a.shape)
    return int((row + height // 2) % height - height // 2), int((column + width // 2) % width - width // 2)


def _grey(frame: UInt8[Tensor, "h w 3"], factor: int) -> Float64[np.ndarray, "h2 w2"]:
    """Means over squares of factor x factor pixels."""
    mean = frame.float().mean(-1)[None]
    grey: Float64[np.ndarray, "h2 w2"] = torch.nn.functional.avg_pool2d(mean, factor)[0].double().numpy()
    return grey
