"""What can be looked at: scenes that render themselves, such as splats and meshes, beside fields, which are queried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.space import Space, Vector3


@dataclass(frozen=True)
class Image:
    """rgb: [H, W, 3] over the background, sRGB 0..1. depth: [H, W] world units along the ray. opacity: [H, W]."""

    rgb: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    opacity: Float[Tensor, "h w"]


@runtime_checkable
class Renderable(Protocol):
    """A scene that is rendered, not queried.

    space: where it is. background: what is seen where nothing is, sRGB 0..1. views: cameras that it was seen from.
    """

    @property
    def views(self) -> Cameras | None: ...

    @property
    def space(self) -> Space: ...

    @property
    def background(self) -> Vector3: ...

    @property
    def device(self) -> torch.device: ...

    def render(self, cameras: Cameras, *, progress: Progress = silent) -> Iterator[Image]:
        """The images of the scene, one after the other."""
        ...
