"""The data parser `fieldcast-renders`: pictures of a scene, rendered from where conversions look at it.

nerfstudio wants pictures of whatever it opens. Here they are made of the scene itself, and any method can learn from
them. They are kept in a folder of the user's cache, by what they were made of: rendered once, whole or not at all.
"""

# Imported while nerfstudio's data managers are: of nerfstudio, nothing may be imported here that imports those.

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from torch import Tensor

import fieldcast
from fieldcast.distill.convert import known_occupancy
from fieldcast.distill.viewpoints import Viewpoints
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.field import Field
from fieldcast.fields.files import sha256
from fieldcast.fields.files.atomic import atomic_folder
from fieldcast.fields.files.images import save_png
from fieldcast.fields.renderable import Image, Renderable
from fieldcast.fields.rendering import render
from fieldcast.plugin.views import KEY, Views, their_cameras


@dataclass
class RendersConfig(DataParserConfig):
    """Settings of the data parser."""

    _target: type = field(default_factory=lambda: Renders)
    data: Path = Path("lego.safetensors")
    """A scene: whatever `fieldcast info` opens, such as a field, splats or a run of nerfstudio."""
    views: int = 12
    """Pictures to learn from."""
    eval_views: int = 3
    """Pictures to evaluate on, from other places."""
    size: int = 128
    """The longer side of the pictures, pixels."""


class Renders(DataParser):
    """Renders the pictures of a split, or finds them rendered."""

    config: RendersConfig

    def _generate_dataparser_outputs(self, split: str = "train", **_: Any) -> DataparserOutputs:
        config, scene = self.config, scene_of(self.config.data)
        count, seed = (config.views, 0) if split == "train" else (config.eval_views, 1)
        cameras = viewpoints(scene, count, seed, config.size)
        made_of = [sha256(config.data), fieldcast.__version__, split, count, config.size]
        folder = cache() / hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:24]
        names = [folder / f"{index:04d}.png" for index in range(count)]
        if not folder.is_dir():
            draw(scene, cameras, folder)
        low, high = scene.space.aabb[:3], scene.space.aabb[3:]
        return DataparserOutputs(
            image_filenames=names,
            cameras=their_cameras(cameras),
            alpha_color=torch.tensor(scene.background),
            scene_box=SceneBox(aabb=torch.tensor([low, high])),
            metadata={KEY: Views(space=scene.space)},
        )


def scene_of(path: Path) -> Field | Renderable:
    """The scene in a file, and where it is empty."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scene = fieldcast.open(path, device)
    if isinstance(scene, Field) and scene.occupancy.is_full():
        scene.occupancy = known_occupancy(scene, 0)
    return scene


def viewpoints(scene: Field | Renderable, count: int, seed: int, longest: int) -> Cameras:
    """Cameras where conversions may look from, with pictures whose longer side is `longest` pixels."""
    generator = torch.Generator().manual_seed(seed)
    cameras = Viewpoints(scene).draw(count, generator)
    width, height = cameras.size[0].tolist()
    scale = longest / max(width, height)
    return cameras.resized(max(1, round(width * scale)), max(1, round(height * scale)))


def draw(scene: Field | Renderable, cameras: Cameras, folder: Path) -> None:
    """All pictures, in a folder that is there when they all are; transparent where a bounded world ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_folder(folder) as stump:
            for index, image in enumerate(render(scene, cameras.to(scene.device))):
                picture = straight(image, scene) if scene.space.bounded else image.rgb
                save_png(picture.clamp(0, 1).cpu(), stump / f"{index:04d}.png")
    except OSError:
        if not folder.is_dir():  # somebody else rendered them meanwhile
            raise


def straight(image: Image, scene: Field | Renderable) -> Tensor:
    """A picture [H, W, 4] with straight alpha, without the background of the scene."""
    alpha = image.opacity[..., None]
    color = image.rgb - (1 - alpha) * image.rgb.new_tensor(scene.background)
    return torch.cat([color / alpha.clamp_min(1e-6), alpha], -1)


def cache() -> Path:
    """Where pictures are kept; nothing is ever removed there."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "fieldcast" / "renders"


renders = DataParserSpecification(RendersConfig(), "fieldcast: pictures rendered from a field, splats or a mesh")
