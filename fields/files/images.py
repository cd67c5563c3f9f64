"""Pictures as PNG files."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from fieldcast.fields.files.atomic import atomic_path


def eight_bit(rgb: Float[Tensor, "h w c"]) -> UInt8[Tensor, "h w c"]:
    """Colours in [0, 1] to whole numbers 0..255 on the CPU: rounded, clamped, NaN to 0."""
    return (rgb.detach().cpu().nan_to_num(nan=0.0).clamp(0, 1) * 255).round().to(torch.uint8)


def save_png(rgb: Float[Tensor, "h w c"], path: Path, force: bool = False) -> None:
    """Writes a picture with 8 bits a channel.

    rgb: sRGB in [0, 1]; c = 3, or 4 with opacity that has not been multiplied in.
    """
    if rgb.shape[-1] not in (3, 4):
        raise ValueError(f"save_png: expected 3 or 4 channels, found shape {tuple(rgb.shape)}")
    picture = Image.fromarray(eight_bit(rgb).numpy())
    with atomic_path(path, force) as stump:
        picture.save(stump, format="PNG")
