"""A textured mesh as a scene, and as a source of posed views: rays are cast at it from all around.

What is seen is the surface's own colour (albedo) without any light, so that views agree with each other and a field
fitted to them holds what the file holds. Both sides of each triangle are seen. Letters: `x` points, `d` directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.cameras import Cameras, look_at, pinhole, up_frame
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Image
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
    return mesh_views(read_mesh(path, allow_outside), split, downscale, progress)


def mesh_views(mesh: Surfaces, split: str = "train", downscale: int = 1, progress: Progress = silent) -> Scene:
    """Views of a mesh that is read already."""
    size = SIZE // downscale
    if size < 8:
        raise InputError(f"downscale: expected at most {SIZE // 8} for views of a mesh, found {downscale}")
    splits = list(VIEWS) if split == "all" else [split]
    parts = [mesh.cameras(name, size) for name in splits]
    cameras = Cameras(
        torch.cat([p.c2w for p in parts]), torch.cat([p.intrinsics for p in parts]), torch.cat([p.size for p in parts])
    )
    images = []
    for i in range(len(cameras)):
        images.append(mesh.pixels(cameras, i))
        progress(i + 1, len(cameras), "looking at the mesh")
    names = tuple(f"{name}/{i:03d}" for name in splits for i in range(VIEWS[name]))
    return Scene(cameras, images, names, mesh.space, mesh.background, mesh.source, mesh.warnings)


def read_mesh(path: Path, allow_outside: bool = False, device: torch.device | str = "cpu") -> Surfaces:
    """A mesh file as a scene. glTF has y up; of the others, which do not say, it is taken to be z."""
    parts, warnings = read_surfaces(path, allow_outside)
    up = (0.0, 1.0, 0.0) if path.suffix.lower() in (".glb", ".gltf") else (0.0, 0.0, 1.0)
    return Surfaces(parts, up, str(path), tuple(warnings), torch.device(device))


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


@dataclass(frozen=True, eq=False)
class Surfaces:
    """A textured mesh as a scene that is rendered, not queried.

    parts: its triangles, texture by texture. up: a unit vector. source: where it comes from. warnings: one line each,
    for what was odd but usable. device: where a field that is made of it is to be; it is looked at on the CPU.
    """

    parts: list[Surface]
    up: Vector3 = (0.0, 0.0, 1.0)
    source: str = "a mesh"
    warnings: tuple[str, ...] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    background: Vector3 = WHITE

    def __len__(self) -> int:
        """How many faces."""
        return sum(len(part) for part in self.parts)

    def parameter_count(self) -> int:
        """How many numbers say where it is and how it looks."""
        return 9 * len(self) + sum(part.texture.size for part in self.parts if part.texture is not None)

    @cached_property
    def caster(self) -> Caster:
        return Caster(self.parts)

    @cached_property
    def space(self) -> Space:
        return self.caster.space(self.up)[0]

    @cached_property
    def views(self) -> Cameras:
        """Those that a field which is made of it learns from."""
        return self.cameras("train", SIZE)

    def cameras(self, split: str, size: int) -> Cameras:
        """The cameras of a split, `size` pixels a side, from which all of it is seen."""
        space, radius = self.caster.space(self.up)
        return _cameras(split, space, radius / math.sin(FOV / 2), size)

    def render(self, cameras: Cameras, *, progress: Progress = silent) -> Iterator[Image]:
        """The images of the mesh, one after the other, over its background."""
        cameras = cameras.to("cpu")
        for index in range(len(cameras)):
            yield self.image(cameras, index)
            progress(index + 1, len(cameras), "rendering")

    def image(self, cameras: Cameras, index: int) -> Image:
        """What a camera sees. depth: of the nearest face, the mean over the rays of a pixel that meet one."""
        fine, rgba = _finer(cameras, index), self.pixels(cameras, index).float() / 255
        rays, (width, height) = fine.image_rays(0), fine.size[0].tolist()
        t, _ = self.caster.meet(rays.origins.double().numpy(), rays.directions.numpy())
        near = torch.from_numpy(t).float().reshape(1, height, width)
        layers = torch.cat([near.nan_to_num(posinf=0.0), near.isfinite().float()])
        total, met = torch.nn.functional.avg_pool2d(layers, SUPERSAMPLE)
        rgb = rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:]) * torch.tensor(self.background)
        return Image(rgb, total / met.clamp_min(1e-6), rgba[..., 3])

    def pixels(self, cameras: Cameras, index: int) -> UInt8[Tensor, "h w 4"]:
        """What a camera sees, with straight alpha: SUPERSAMPLE x SUPERSAMPLE rays a pixel."""
        return shrink(self.caster.view(_finer(cameras, index), 0), SUPERSAMPLE)


def _finer(cameras: Cameras, index: int) -> Cameras:
    """One camera with SUPERSAMPLE times as many pixels a side."""
    width, height = cameras.size[index].tolist()
    return cameras[[index]].resized(width * SUPERSAMPLE, height * SUPERSAMPLE)


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
