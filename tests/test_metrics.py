"""The metrics against computations of their own, written from the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.metrics import depth_error, psnr, ssim


def pair(height: int = 24, width: int = 31) -> tuple[Tensor, Tensor]:
    a = torch.rand(height, width, 3)
    return a, (a + 0.1 * torch.randn_like(a)).clamp(0, 1)


def test_psnr_against_numpy() -> None:
    a, b = pair()
    mse = np.mean((a.numpy().astype(np.float64) - b.numpy()) ** 2)
    assert psnr(a, b) == pytest.approx(10 * np.log10(1 / mse), abs=1e-9)
    assert psnr(a, b) == psnr(b, a)


def test_psnr_of_the_same_image_is_infinite() -> None:
    assert psnr(torch.ones(3, 3), torch.ones(3, 3)) == math.inf


def test_psnr_of_nan_is_nan() -> None:
    assert math.isnan(psnr(torch.ones(3, 3), torch.full((3, 3), math.nan)))


def ssim_reference(a: Tensor, b: Tensor) -> float:
    """Wang et al. 2004, eq. 13, at every pixel whose 11x11 window lies inside the image; the mean over channels."""
    offset = np.arange(-5, 6)
    gauss = np.exp(-(offset**2) / (2 * 1.5**2))
    window = np.outer(gauss, gauss) / gauss.sum() ** 2
    height, width, channels = a.shape
    values = []
    for c in range(channels):
        for i in range(5, height - 5):
            for j in range(5, width - 5):
                x = a[i - 5 : i + 6, j - 5 : j + 6, c].double().numpy()
                y = b[i - 5 : i + 6, j - 5 : j + 6, c].double().numpy()
                mx, my = (window * x).sum(), (window * y).sum()
                vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                cov = (window * (x - mx) * (y - my)).sum()
                c1, c2 = 0.01**2, 0.03**2
                values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))


def test_ssim_against_its_definition() -> None:
    a, b = pair()
    assert ssim(a, b) == pytest.approx(ssim_reference(a, b), abs=1e-9)
    assert ssim(a, b) < 0.99


def test_ssim_of_the_same_image_is_one() -> None:
    a, _ = pair(11, 11)
    assert ssim(a, a) == pytest.approx(1, abs=1e-12)


def test_ssim_says_how_large_images_must_be() -> None:
    a, b = pair(10, 40)
    with pytest.raises(InputError, match="ssim: expected images of at least 11 pixels a side, found 40x10"):
        ssim(a, b)


def test_depth_error_counts_shared_surface_only() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0, math.inf]), torch.tensor([1.5, 9.0, 2.0, 1.0])
    opacity_a, opacity_b = torch.tensor([1.0, 0.5, 0.6, 0.0]), torch.tensor([0.9, 1.0, 0.51, 1.0])
    expected = [abs(x - y) for x, y, p, q in zip(a, b, opacity_a, opacity_b, strict=True) if p > 0.5 and q > 0.5]
    assert depth_error(a, b, opacity_a, opacity_b) == pytest.approx(float(sum(expected)) / len(expected))


def test_depth_error_without_shared_surface_is_nan() -> None:
    one = torch.ones(4, 5)
    assert math.isnan(depth_error(one, one, one, 0 * one))
