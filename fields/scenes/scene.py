"""What every reader of posed images returns."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import UInt8
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.space import Space, Vector3


@dataclass(frozen=True)
class Scene:
    """One split of a posed image set.

    cameras: V views in the world frame and scale of the data, never recentred or rescaled.
    images: V tensors [height, width, 4], RGBA, sRGB 0..255, straight (not premultiplied) alpha; opaque photographs
        have alpha 255. Sizes agree with `cameras.size`.
    names: a short name of each view, such as its file name.
    space: where the scene is thought to be; a guess from the format or the cameras.
    background: what is seen where nothing is, sRGB 0..1.
    source: where the data came from, for provenance.
    warnings: one line each, for what was odd but usable.
    """

    cameras: Cameras
    images: list[UInt8[Tensor, "h w 4"]]
    names: tuple[str, ...]
    space: Space
    background: Vector3
    source: str
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: list[int]) -> Scene:
        """Some of the views."""
        images, names = [self.images[i] for i in indices], tuple(self.names[i] for i in indices)
        return replace(self, cameras=self.cameras[indices], images=images, names=names)

    def spread(self, count: int) -> Scene:
        """At most `count` views, evenly spread over the order they are in."""
        step = -(-len(self) // count)
        return self.subset(list(range(0, len(self), step)))
