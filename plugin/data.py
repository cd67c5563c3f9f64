"""nerfstudio's plain data manager, which also keeps the transparency of pictures and tells the model what it knows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from PIL import Image as Picture
from torch import Tensor

from fieldcast.fields.space import Vector3
from fieldcast.plugin.views import BLACK, KEY, WHITE, Views, our_cameras


@dataclass
class FieldDataManagerConfig(VanillaDataManagerConfig):
    """Settings of the data manager."""

    _target: type = field(default_factory=lambda: FieldDataManager)
    train_num_rays_per_batch: int = 512
    """Rays of the first step; later ones take as many as keep the device busy."""


class FieldDataManager(VanillaDataManager):
    """Pictures with transparent parts are learned from before random colours: what is transparent becomes empty."""

    def create_train_dataset(self) -> Any:
        found = self.train_dataparser_outputs
        cut_out = has_transparent_parts(found.image_filenames[0])
        kept = replace(found, alpha_color=None) if cut_out else found
        dataset = self.dataset_type(dataparser_outputs=kept, scale_factor=self.config.camera_res_scale_factor)
        dataset.metadata[KEY] = replace(
            Views.of(dataset.metadata),
            cameras=our_cameras(dataset.cameras),
            cut_out=cut_out,
            background=color_of(found.alpha_color) if cut_out else BLACK,
            data=self.config.data,
        )
        return dataset


def color_of(value: Tensor | None) -> Vector3:
    """The colour that a data parser puts behind pictures; white if it leaves that to us."""
    if value is None:
        return WHITE
    red, green, blue = value.tolist()
    return (red, green, blue)


def has_transparent_parts(path: Path) -> bool:
    """Whether a picture has pixels that are not opaque. False if it cannot be read: who renders needs no pictures."""
    try:
        with Picture.open(path) as picture:
            return picture.mode == "RGBA" and bool(np.asarray(picture)[..., 3].min() < 255)
    except OSError:
        return False
