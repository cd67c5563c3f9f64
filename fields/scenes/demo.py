"""The built-in demo scene: a few toys on a round table, given by formulas, so that no download is needed.

`demo_query` is the scene itself, a density and a colour at every point; `demo_scene` are pictures of it. Letters: `x`
points and `d` directions in world units (+z is up, the scene lies in [-1, 1]^3), `sdf` signed distances to surfaces.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, Rays, look_at, pinhole
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.space import Space

SPACE = Space()
WHITE = (1.0, 1.0, 1.0)
VIEWS = {"train": 60, "val": 10, "test": 20}
RAYS = 1 << 17  # drawn at a time: about 50 MB
DISTANCE, FOV = 3.6, math.radians(38)  # of the cameras: world units from the origin, angle across the image
# Density rises smoothly from 0 at SKIN outside of a surface to SIGMA at SKIN below it; STEP is that of the quadrature.
SIGMA, SKIN, STEP = 400.0, 0.008, 0.003
# The two colours of the pattern of each solid, in the order of `solids`.
COLORS = (
    ((0.80, 0.60, 0.38), (0.70, 0.49, 0.29)),
    ((0.93, 0.29, 0.22), (0.98, 0.62, 0.25)),
    ((0.97, 0.95, 0.90), (0.16, 0.42, 0.80)),
    ((0.98, 0.78, 0.18), (0.30, 0.20, 0.50)),
    ((0.18, 0.62, 0.42), (0.85, 0.93, 0.55)),
    ((0.95, 0.35, 0.60), (0.95, 0.35, 0.60)),
)
LIGHT = (0.45, -0.35, 0.82)  # where it comes from; unit length


def demo_query(x: Float[Tensor, "n 3"], d: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
    """Density [N] in 1/world-unit and colour [N, 3] in sRGB 0..1 at points x [N, 3] seen along unit directions d."""
    distances = solids(x)
    sigma = _density(distances)
    rgb = torch.zeros_like(x)
    some = sigma.nonzero()[:, 0]
    rgb[some] = _shade(x[some], d[some], distances[:, some].argmin(0))
    return sigma, rgb


def _density(distances: Float[Tensor, "6 n"]) -> Float[Tensor, " n"]:
    inside = (0.5 - distances.amin(0) / (2 * SKIN)).clamp(0, 1)
    return SIGMA * inside * inside * (3 - 2 * inside)


def solids(x: Float[Tensor, "n 3"]) -> Float[Tensor, "6 n"]:
    """Signed distance [6, N] to each solid: table, torus, ball, tower, cone, bead."""
    px, py, pz = x.unbind(-1)
    table = _cylinder(px, py, pz + 0.50, 0.92, 0.07) - 0.02
    ring = torch.hypot(torch.hypot(px - 0.38, py + 0.36) - 0.27, pz + 0.29) - 0.12
    ball = torch.sqrt((px + 0.42).square() + (py + 0.34).square() + (pz + 0.09).square()) - 0.32
    tower = _box(torch.stack([px + 0.26, py - 0.42, pz - 0.06], -1), (0.2, 0.2, 0.45)) - 0.02
    cone = _cone(torch.hypot(px - 0.44, py - 0.4), pz + 0.41, 0.3, 0.85)
    bead = torch.sqrt((px - 0.44).square() + (py - 0.4).square() + (pz - 0.49).square()) - 0.1
    return torch.stack([table, ring, ball, tower, cone, bead])


def _cylinder(px: Tensor, py: Tensor, pz: Tensor, radius: float, half: float) -> Tensor:
    return _rounded(torch.stack([torch.hypot(px, py) - radius, pz.abs() - half], -1))


def _box(p: Float[Tensor, "n 3"], half: tuple[float, float, float]) -> Float[Tensor, " n"]:
    return _rounded(p.abs() - p.new_tensor(half))


def _rounded(out: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """The distance to a block from how far [N, k] a point is out of it along each of its axes."""
    beyond: Tensor = torch.linalg.vector_norm(out.clamp_min(0), dim=-1)
    return beyond + out.amax(-1).clamp_max(0)


def _cone(r: Tensor, z: Tensor, radius: float, height: float) -> Tensor:
    """A cone that stands on z = 0; a bound of the distance outside, exact beside its slope."""
    slope = math.hypot(radius, height)
    side = ((r - radius) * height + z * radius) / slope
    return torch.maximum(side, -z)


def _shade(x: Float[Tensor, "n 3"], d: Float[Tensor, "n 3"], solid: Int[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Paint, a soft light from above, and a highlight that moves with the viewer (not on the table)."""
    normal = _normals(x)
    light = x.new_tensor(LIGHT)
    diffuse = 0.62 + 0.38 * (normal @ light)[:, None].clamp(-0.6, 1)
    mirrored = d - 2 * (d * normal).sum(-1, keepdim=True) * normal
    shine = (mirrored @ light).clamp_min(0) ** 24
    gloss = x.new_tensor([0.0, 0.45, 0.35, 0.08, 0.25, 0.5])[solid]
    return (_paint(x, solid) * diffuse + (gloss * shine)[:, None]).clamp(0, 1)


def _normals(x: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Outward unit normals of the nearest surface, by differences at the corners of a tetrahedron."""
    corners = x.new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    values = solids((x[:, None] + 2e-3 * corners).reshape(-1, 3)).amin(0).reshape(-1, 4)
    return torch.nn.functional.normalize(values @ corners, dim=-1)


def _paint(x: Float[Tensor, "n 3"], solid: Int[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """The colour of each solid, with its pattern: rings of wood, ring sectors, stripes, a checkerboard, plain."""
    px, py, pz = x.unbind(-1)
    r, angle = torch.hypot(px, py), torch.atan2(py + 0.36, px - 0.38)
    second = torch.stack(
        [
            torch.sin(45 * r + 1.5 * torch.sin(5 * px + 3 * py)) > 0.3,
            torch.remainder(angle * 6 / math.pi, 2) < 1,
            torch.remainder((pz + 0.3 * px + 0.16) * 7.5, 1) < 0.45,
            _parity(torch.stack([px + 0.26, py - 0.42, pz - 0.06], -1)),
            torch.remainder((pz + 0.41) * 3.6, 1) < 0.3,
            torch.zeros_like(px, dtype=torch.bool),
        ]
    ).gather(0, solid[None])[0]
    first, other = x.new_tensor(COLORS).unbind(1)
    return torch.where(second[:, None], other[solid], first[solid])


def _parity(p: Float[Tensor, "n 3"]) -> Tensor:
    """A checkerboard of cubes whose faces lie off the tower's own."""
    return (torch.floor(p / 0.16 + 0.5).sum(-1) % 2) == 0


def march(rays: Rays) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    """Premultiplied colour [N, 3] and opacity [N] of rays, by quadrature that strides through empty space.

    A step is as long as the distance to the nearest surface allows; across a surface it is STEP.
    """
    n = len(rays)
    color, clear = torch.zeros(n, 3), torch.ones(n)
    active, t = torch.arange(n), torch.full((n,), DISTANCE - 1.2)
    while len(active):
        o, d = rays.origins[active], rays.directions[active]
        sdf = solids(o + t[:, None] * d).amin(0)
        step = (sdf - SKIN).clamp_min(STEP)
        dense = (sdf < SKIN + STEP).nonzero()[:, 0]
        x = o[dense] + (t + step / 2)[dense, None] * d[dense]
        _add(color, clear, active[dense], x, d[dense], step[dense])
        t = t + step
        keep = (t < DISTANCE + 1.2) & (clear[active] > 2e-3)
        active, t = active[keep], t[keep]
    return color, 1 - clear


def _add(color: Tensor, clear: Tensor, ray: Tensor, x: Tensor, d: Tensor, step: Tensor) -> None:
    """Composites, in place, one sample x [M, 3] of thickness step [M] on each of the rays `ray` [M]."""
    distances = solids(x)
    weight = clear[ray] * (1 - torch.exp(-_density(distances) * step))
    clear[ray] -= weight
    some = (weight > 3e-4).nonzero()[:, 0]  # colours cost five times what densities do
    color[ray[some]] += weight[some, None] * _shade(x[some], d[some], distances[:, some].argmin(0))


def draw(cameras: Cameras) -> list[UInt8[Tensor, "h w 4"]]:
    """Pictures with straight alpha, all of one size, drawn together: a step of few rays costs as one of many."""
    width, height = cameras.size[0].tolist()
    rays = [cameras.image_rays(i) for i in range(len(cameras))]
    color, alpha = march(Rays(torch.cat([r.origins for r in rays]), torch.cat([r.directions for r in rays])))
    straight = (color / alpha.clamp_min(1e-6)[:, None]).clamp(0, 1)
    rgba = (torch.cat([straight, alpha[:, None]], -1) * 255).round().to(torch.uint8)
    return list(rgba.reshape(len(cameras), height, width, 4).unbind(0))


def demo_cameras(split: str, size: int) -> Cameras:
    """Cameras on the upper half of a sphere, evenly spread; those of different splits stand at different places."""
    count, turn = VIEWS[split], list(VIEWS).index(split) * 2.1
    i = torch.arange(count) + 0.5
    elevation = torch.asin(0.08 + 0.87 * i / count)
    azimuth = turn + i * math.pi * (3 - math.sqrt(5))
    eye = DISTANCE * torch.stack(
        [azimuth.cos() * elevation.cos(), azimuth.sin() * elevation.cos(), elevation.sin()], -1
    )
    target = torch.tensor([0.0, 0.0, -0.02]).expand_as(eye)
    return pinhole(look_at(eye, target, torch.tensor(SPACE.up)), size, size, FOV)


def demo_scene(split: str = "train", size: int = 128, progress: Progress = silent) -> Scene:
    """Pictures of the demo scene, size x size pixels, RGBA; the same on every run."""
    splits = list(VIEWS) if split == "all" else [split]
    parts = [demo_cameras(name, size) for name in splits]
    cameras = Cameras(
        torch.cat([p.c2w for p in parts]), torch.cat([p.intrinsics for p in parts]), torch.cat([p.size for p in parts])
    )
    images: list[Tensor] = []
    batch = max(1, RAYS // size**2)
    for start in range(0, len(cameras), batch):
        images += draw(cameras[start : start + batch])
        progress(len(images), len(cameras), "drawing the demo scene")
    names = tuple(f"{name}/{i:03d}" for name in splits for i in range(VIEWS[name]))
    return Scene(cameras, images, names, SPACE, WHITE, "demo")


def read_demo(
    path: Path, split: str = "train", downscale: int = 1, progress: Progress = silent, allow_outside: bool = False
) -> Scene:
    """The demo scene as `open_scene` wants it: drawn at the smaller size right away."""
    if downscale > 16:
        raise InputError(f"downscale: expected at most 16 for the demo scene, found {downscale}")
    return demo_scene(split, 128 // downscale, progress)
