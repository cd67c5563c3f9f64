"""A textured mesh as a source of posed views: rays are cast at it from all around.

The views show the surface's own colour (albedo) without any light, so that they agree with each other and a field
fitted to them holds what the file holds. Both sides of each triangle are seen. Letters: `x` points, `d` directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.cameras import Cameras, look_at, pinhole, up_frame
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.gltf import read_gltf
from fieldcast.fields.scenes.images import shrink
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.scenes.surfaces import Surface, read_with_trimesh, sample_texture, to_srgb
from fieldcast.fields.space import Space, Vector3

VIEWS = {"train": 100, "val": 20, "test": 20}
SIZE, FOV = 200, math.radians(40)
SUPERSAMPLE = 2
PADDING = 1.05
LAYERS = 8  # how many surfaces that let light through are looked through
WHITE = (1.0, 1.0, 1.0)


def read_mesh_views(
    path: Path, split: str = "train", downscale: int = 1, progress: Progress = silent, allow_outside: bool = False
) -> Scene:
    """Views of a mesh, SIZE / downscale pixels a side, RGBA; directions are spread evenly over the whole sphere."""
    surfaces, warnings = read_surfaces(path, allow_outside)
    size = SIZE // downscale
    if size < 8:
        raise InputError(f"downscale: expected at most {SIZE // 8} for views of a mesh, found {downscale}")
    caster = Caster(surfaces)
    space, radius = caster.space((0.0, 1.0, 0.0) if path.suffix.lower() in (".glb", ".gltf") else (0.0, 0.0, 1.0))
    splits = list(VIEWS) if split == "all" else [split]
    parts = [_cameras(name, space, radius / math.sin(FOV / 2), size) for name in splits]
    cameras = Cameras(
        torch.cat([p.c2w for p in parts]), torch.cat([p.intrinsics for p in parts]), torch.cat([p.size for p in parts])
    )
    fine, images = cameras.resized(size * SUPERSAMPLE, size * SUPERSAMPLE), []
    for i in range(len(cameras)):
        images.append(shrink(caster.view(fine, i), SUPERSAMPLE))
        progress(i + 1, len(cameras), "looking at the mesh")
    names = tuple(f"{name}/{i:03d}" for name in splits for i in range(VIEWS[name]))
    return Scene(cameras, images, names, space, WHITE, str(path), tuple(warnings))


def read_surfaces(path: Path, allow_outside: bool = False) -> tuple[list[Surface], list[str]]:
    """The triangles of a mesh file with their colours, and a line for each odd but usable thing."""
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: expected a mesh, found an empty file")
    except OSError as error:
        raise InputError(f"{path}: expected a mesh file, found: {error.strerror}") from None
    if path.suffix.lower() in (".glb", ".gltf"):
        surfaces, warnings = read_gltf(path, allow_outside), list[str]()
    else:
        surfaces, warnings = read_with_trimesh(path)
    surfaces = [surface for surface in surfaces if len(surface)]
    if not surfaces:
        raise InputError(f"{path}: expected a mesh, found no faces")
    corners = np.concatenate([surface.corners.reshape(-1, 3) for surface in surfaces])
    if not np.abs(corners).max() < 1e30 or np.ptp(corners, axis=0).max() < 1e-12:
        raise InputError(f"{path}: expected a mesh with an extent, found all vertices in one place or infinitely far")
    return surfaces, warnings


class Caster:
    """Casts rays at surfaces, and tells the colour that they see.

    Embree computes in single precision: rays are cast at the mesh moved to the origin and scaled to size 1.
    """

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError:
            raise FieldcastError("views of a mesh need embreex, which is not here: pip install embreex") from None
        self.surfaces = surfaces
        self.first = np.cumsum([0, *(len(surface) for surface in surfaces)])
        corners = np.concatenate([surface.corners for surface in surfaces])
        low, high = corners.min((0, 1)), corners.max((0, 1))
        self.center: Float64[np.ndarray, " 3"] = (low + high) / 2
        self.half = float((high - low).max()) / 2
        self.radius = float(np.linalg.norm(corners - self.center, axis=-1).max())
        self.scene = EmbreeScene(robust=True)
        TriangleMesh(self.scene, ((corners - self.center) / self.half).astype(np.float32))

    def space(self, up: Vector3) -> tuple[Space, float]:
        """A cube around the mesh with a margin, and the radius of a ball about its centre that holds it all."""
        half = PADDING * self.half
        low, high = (self.center - half).tolist(), (self.center + half).tolist()
        return Space((low[0], low[1], low[2], high[0], high[1], high[2]), up=up), PADDING * self.radius

    def view(self, cameras: Cameras, index: int) -> UInt8[Tensor, "h w 4"]:
        """One picture with straight alpha, one ray a pixel."""
        width, height = cameras.size[index].tolist()
        rays = cameras.image_rays(index)
        rgba = self.look(rays.origins.double().numpy(), rays.directions.numpy())
        return torch.from_numpy((rgba * 255).round().astype(np.uint8)).reshape(height, width, 4)

    def look(self, x: Float64[np.ndarray, "n 3"], d: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 4"]:
        """What rays from x along d see: sRGB with straight alpha. What lets light through is looked through."""
        origins = ((x - self.center) / self.half).astype(np.float32)
        color, clear = np.zeros((len(x), 3), np.float32), np.ones((len(x), 1), np.float32)
        live = np.arange(len(x))
        for _ in range(LAYERS):
            hit = self.scene.run(origins[live], np.ascontiguousarray(d[live]), output=1)
            found = hit["primID"] >= 0
            live, t = live[found], hit["tfar"][found, None]
            if not len(live):
                break
            rgba = self.shade(hit["primID"][found], hit["u"][found], hit["v"][found])
            color[live] += clear[live] * rgba[:, 3:] * to_srgb(rgba[:, :3])
            clear[live] *= 1 - rgba[:, 3:]
            origins[live] += (t + 1e-5 * (1 + t)) * d[live]
            live = live[clear[live, 0] > 1e-3]
        alpha = 1 - clear
        return np.concatenate([color / np.maximum(alpha, 1e-6), alpha], -1).clip(0, 1)

    def meet(
        self, x: Float64[np.ndarray, "n 3"], d: Float32[np.ndarray, "n 3"]
    ) -> tuple[Float64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """How far away the first face is that rays from x along unit d meet, and which; infinity and -1 for none."""
        hit = self.scene.run(((x - self.center) / self.half).astype(np.float32), np.ascontiguousarray(d), output=1)
        face = hit["primID"].astype(np.int64)
        return np.where(face >= 0, hit["tfar"] * self.half, np.inf).astype(np.float64), face

    def shade(
        self, face: Int32[np.ndarray, " n"], u: Float32[np.ndarray, " n"], v: Float32[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n 4"]:
        """Linear colour and alpha at points with the barycentric weights (1 - u - v, u, v) of the faces' corners."""
        weight = np.stack([1 - u - v, u, v], -1)[:, :, None]
        rgba = np.zeros((len(face), 4), np.float32)
        for k in np.unique(np.searchsorted(self.first, face, side="right") - 1):
            surface = self.surfaces[k]
            here = ((face >= self.first[k]) & (face < self.first[k + 1])).nonzero()[0]
            part, w = face[here] - self.first[k], weight[here]
            value = (surface.tint[part] * w).sum(1)
            if surface.texture is not None:
                value *= sample_texture(surface.texture, (surface.uv[part] * w).sum(1))
            rgba[here] = value
            if surface.cutoff is not None:
                rgba[here, 3] = value[:, 3] >= surface.cutoff
        return rgba.clip(0, 1)


def _cameras(split: str, space: Space, distance: float, size: int) -> Cameras:
    """Cameras on a Fibonacci sphere about the centre of `space`; the splits' are turned against each other."""
    count, turn = VIEWS[split], 2.0 * list(VIEWS).index(split)
    i = torch.arange(count, dtype=torch.float64)
    height = 1 - (2 * i + 1) / count
    angle = i * math.pi * (3 - math.sqrt(5)) + turn
    ring = (1 - height**2).sqrt()
    direction = torch.stack([ring * angle.cos(), ring * angle.sin(), height], -1).float() @ up_frame(space.up).T
    center = torch.tensor(space.center).expand_as(direction)
    return pinhole(look_at(center + distance * direction, center, torch.tensor(space.up)), size, size, FOV)
