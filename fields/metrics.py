"""How alike two renderings are. All of them compare images of one size and give one number."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from fieldcast.errors import InputError

SSIM_WINDOW = 11  # pixels: a Gaussian of sigma 1.5, cut off at 3.5 sigma


def psnr(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"]) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1]: -10 log10 of the mean squared difference.

    Images that are the same give `inf`, which JSON cannot hold: whoever writes it down caps it or writes null.

    >>> import torch
    >>> round(psnr(torch.zeros(2, 2), torch.full((2, 2), 0.1)), 6)
    20.0
    """
    mse = (a.double() - b.double()).square().mean().item()
    return math.inf if mse == 0 else -10 * math.log10(mse)


def ssim(a: Float[Tensor, "h w c"], b: Float[Tensor, "h w c"]) -> float:
    """Structural similarity (Wang et al. 2004) of values in [0, 1]: 1 for the same image, mean over the channels.

    A Gaussian window of sigma 1.5 over 11x11 pixels and no sample correction, as in the paper.
    """
    from skimage.metrics import structural_similarity  # takes a second to import

    height, width, _ = a.shape
    if min(height, width) < SSIM_WINDOW:
        raise InputError(f"ssim: expected images of at least {SSIM_WINDOW} pixels a side, found {width}x{height}")
    images = [image.detach().cpu().double().numpy() for image in (a, b)]
    similarity = structural_similarity(
        *images, channel_axis=-1, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(similarity)


def depth_error(
    a: Float[Tensor, "*shape"],
    b: Float[Tensor, "*shape"],
    opacity_a: Float[Tensor, "*shape"],
    opacity_b: Float[Tensor, "*shape"],
) -> float:
    """Mean absolute difference of two depth images in world units, where both show a surface (opacity above 0.5).

    `nan` where they share no surface.
    """
    both = (opacity_a > 0.5) & (opacity_b > 0.5)
    return (a - b)[both].double().abs().mean().item()
