"""Where bodies are in a picture: rays are cast at their posed meshes, person by person.

Letters: P people, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.fields.scenes.mesh import Caster
from fieldcast.fields.scenes.surfaces import Surface
from fieldcast.reconstruct.recordings.recording import Person, Recording


@dataclass(frozen=True, eq=False)
class Silhouettes:
    """labels: of each pixel 0, or 1 + the number of the person whose body is nearest. depth: how far along the ray of a
    pixel the nearest face of each body is, in metres; infinity where that body is not, whoever stands before it.
    """

    labels: UInt8[Tensor, "h w"]
    depth: Float[Tensor, "p h w"]

    @property
    def whole(self) -> Bool[Tensor, "p h w"]:
        """Each person's own silhouette, as if nobody else were there."""
        return self.depth.isfinite()


def silhouettes(recording: Recording, frame: int, size: tuple[int, int] | None = None) -> Silhouettes:
    """The bodies of those who are present in a frame. size: width and height in pixels (default: the frame's own)."""
    cameras = recording.cameras[[frame]].to("cpu")
    cameras = cameras if size is None else cameras.resized(*size)
    width, height = cameras.size[0].tolist()
    rays = cameras.image_rays(0)
    origins, directions = rays.origins.double().numpy(), rays.directions.float().numpy()
    depth = torch.full((len(recording.people), height, width), torch.inf)
    for p, person in enumerate(recording.people):
        if bool(person.present[frame]):
            t, _ = Caster([posed_surface(person, frame)]).meet(origins, directions)
            depth[p] = torch.from_numpy(t).float().reshape(height, width)
    return Silhouettes(nearest_labels(depth), depth)


def nearest_labels(depth: Float[Tensor, "p h w"]) -> UInt8[Tensor, "h w"]:
    """1 + the number of the person who is nearest in each pixel, 0 where there is none."""
    if not len(depth):
        return torch.zeros(depth.shape[1:], dtype=torch.uint8)
    near, who = depth.min(0)
    return torch.where(near.isfinite(), who + 1, 0).to(torch.uint8)


def posed_surface(person: Person, frame: int) -> Surface:
    """The body of a person in a frame as triangles in the world, white."""
    vertices = person.posed([frame]).vertices[0].detach().cpu().double().numpy()
    corners = vertices[person.body.faces.cpu().numpy()]
    count = len(corners)
    return Surface(corners, np.zeros((count, 3, 2), np.float32), np.ones((count, 3, 4), np.float32))
