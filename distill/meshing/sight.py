"""What a teacher shows of its surface: rays and how far they go; and how far off a mesh is.

Letters: R rays, P points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.field import Field
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering import Image, render
from fieldcast.fields.rendering.sampling import entry_and_exit
from fieldcast.fields.scenes.mesh import Caster
from fieldcast.fields.space import Space

SOLID = 0.5  # opacity from which on a ray has a depth
CAP = 0.05  # half box sides: no depth is more wrong than this, and what is missing is as wrong


@dataclass(frozen=True)
class Sight:
    """Rays, and what the teacher says of them.

    origins: [R, 3] and directions: [R, 3], unit. depth: [R] world units, infinity where the teacher lets the light
    through or shows what lies outside its box. near: [R] where the ray enters the box; a camera may stand inside.
    """

    origins: Float64[np.ndarray, "r 3"]
    directions: Float32[np.ndarray, "r 3"]
    depth: Float64[np.ndarray, " r"]
    near: Float64[np.ndarray, " r"]

    def __len__(self) -> int:
        return len(self.depth)

    def thinned(self, most: int) -> Sight:
        """Every n-th ray, so that at most `most` are left."""
        every = slice(None, None, -(-len(self) // most))
        return Sight(self.origins[every], self.directions[every], self.depth[every], self.near[every])

    def points(self, depth: Float64[np.ndarray, " r"]) -> Float64[np.ndarray, "p 3"]:
        """Where rays end that have a depth."""
        ends = np.isfinite(depth)
        points: Float64[np.ndarray, "p 3"] = self.origins[ends] + depth[ends, None] * self.directions[ends]
        return points

    def hits(self, caster: Caster) -> tuple[Float64[np.ndarray, " r"], Int64[np.ndarray, " r"]]:
        """How far away the rays meet a mesh, world units, and in which face; infinity and -1 where they do not."""
        start = self.origins + self.near[:, None] * self.directions
        t, face = caster.meet(start, self.directions)
        return t + self.near, face


def look_around(field: Field, cameras: Cameras, progress: Progress = silent) -> Sight:
    """What a field shows to cameras: its depth along all rays."""
    images = []
    for image in render(field, cameras):
        images.append(Image(image.rgb.cpu(), image.depth.cpu(), image.opacity.cpu()))
        progress(len(images), len(cameras), "looking at the teacher")
    return sight_of(field.space, cameras, images)


def sight_of(space: Space, cameras: Cameras, images: list[Image]) -> Sight:
    """What the pictures that cameras took of a scene say about its depth in its box."""
    rays = [cameras.image_rays(i) for i in range(len(cameras))]
    origins, directions = torch.cat([r.origins for r in rays]), torch.cat([r.directions for r in rays])
    # Bounded or not: where rays enter and leave the box; a camera may stand inside.
    near, far = (t.double().numpy() for t in entry_and_exit(replace(space, contraction="none"), origins, directions))
    depth = torch.cat([i.depth.reshape(-1) for i in images]).double().numpy()
    solid = torch.cat([i.opacity.reshape(-1) for i in images]).numpy() > SOLID
    depth = np.where(solid & (depth >= near) & (depth <= far), depth, np.inf)
    return Sight(origins.double().numpy(), directions.numpy(), depth, near)


def mistakes(
    sight: Sight, t: Float64[np.ndarray, " r"], cap: float
) -> tuple[Float64[np.ndarray, " k"], Bool[np.ndarray, " k"]]:
    """How wrong depths are on the rays that meet a surface in the teacher or in the mesh, at most `cap`; and on which
    of those they meet one in both.
    """
    teacher, mesh = np.isfinite(sight.depth), np.isfinite(t)
    either, both = teacher | mesh, teacher & mesh
    wrong = np.full(len(t), cap)
    wrong[both] = np.minimum(np.abs(t[both] - sight.depth[both]), cap)
    return wrong[either], both[either]
