"""How colourful objects are, and frames that are as colourful as what they lie between.

Colours that are averages of others are greyer than these, whoever averages: grids, latents, or a prior that does not
know what lies between two objects.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch

from fieldcast.morph.volumes import Volume

AT = 1.0  # cells: what lies nearer to a surface has its colour
MOST = 2.0  # times the chroma that colours get at most: what is nearly grey has no hue to go by


def chroma(volume: Volume) -> float | None:
    """The mean CIELAB chroma of the colours at the surface, 0 for greys; None: there is no surface."""
    from skimage.color import rgb2lab

    rgb = volume.rgb[volume.sdf.abs() < AT]
    if not len(rgb):
        return None
    lab = torch.from_numpy(np.asarray(rgb2lab(rgb.double().clamp(0, 1).numpy())))
    return float(lab[:, 1:].norm(dim=-1).mean())


def vivid(volume: Volume, least: float) -> Volume:
    """The object in colours of the same hue and lightness whose chroma is `least` in the mean, if it is less now."""
    from skimage.color import lab2rgb, rgb2lab

    own = chroma(volume)
    if not own or own >= least:
        return volume
    lab = rgb2lab(volume.rgb.double().clamp(0, 1).numpy())
    lab[..., 1:] *= min(MOST, least / own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that colours which no screen can show are cut off
        rgb = lab2rgb(lab)
    return replace(volume, rgb=torch.from_numpy(rgb).to(volume.rgb).clamp(0, 1))
