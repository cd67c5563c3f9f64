"""A field of any kind to Gaussian splats: placed where its surfaces are seen, then polished against its pictures.

Letters: `n` a splat's normal, `h` the spacing of splats. The field is rendered from many cameras; each pixel that sees
something has a point at which half of what it sees has been passed (its median depth), a colour and an opacity. The
points are thinned to one a cell of a grid of cells `h` wide. A splat is a disc across the normal, which is minus the
slope of the opacity of a step of length h, as wide as its neighbours are far, as opaque as what the rays saw, and of
the colour that the least squares over their directions gives.

The polish is the optimisation of 3DGS (Kerbl et al. 2023, section 5) without its growing and pruning of splats, against
the same pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int64
from msgspec import Meta
from torch import Tensor

from fieldcast.distill.viewpoints import Viewpoints
from fieldcast.errors import FieldcastError
from fieldcast.fields.cameras import Cameras, Rays
from fieldcast.fields.field import Field
from fieldcast.fields.kernels.compositing import ray_weights
from fieldcast.fields.kernels.harmonics import harmonics
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Image
from fieldcast.fields.rendering import Sampler, composite, look, render_image
from fieldcast.fields.rendering.rays import Rendered
from fieldcast.fields.splats import Splats

STEPS = 400  # of polish
PICTURES = 48  # of the teacher
SOLID = 0.3  # opacity of rays that see something
AROUND = 32  # directions in which normals are looked for
WIDTH, THICKNESS = 0.6, 0.15  # standard deviations across and along the normal, in distances to neighbours
RIDGE = 0.1, 0.5, 2.0, 4.0  # rays' worth of belief that a harmonic of each degree is 0


@dataclass(frozen=True)
class SplatSizes:
    """count: about how many splats. degree: of their harmonics."""

    count: Annotated[int, Meta(ge=1, le=5_000_000)] = 30_000
    degree: Literal[0, 1, 2, 3] = 2


@dataclass(frozen=True)
class Sights:
    """What rays see. x: [R, 3] where; d: [R, 3] from where; rgb: [R, 3] sRGB; opacity: [R]."""

    x: Float[Tensor, "r 3"]
    d: Float[Tensor, "r 3"]
    rgb: Float[Tensor, "r 3"]
    opacity: Float[Tensor, " r"]


def to_splats(
    teacher: Field,
    sizes: SplatSizes,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress = silent,
) -> Splats:
    """Splats that look as a field does, in its frame.

    steps: of polish. Raises FieldcastError for a field in which nothing is seen.
    """
    generator = torch.Generator().manual_seed(seed)
    cameras = Viewpoints(teacher).draw(PICTURES, generator).to(teacher.device)
    pictures, sights = looked_at(teacher, cameras, progress)
    splats = placed(teacher, sights, sizes.count, sizes.degree)
    return polished(splats, cameras, pictures, steps, generator, progress)


@torch.no_grad()
def looked_at(teacher: Field, cameras: Cameras, progress: Progress = silent) -> tuple[list[Image], Sights]:
    """The field's pictures, and what the rays of their pixels see; those that see nothing are left out."""
    sampler, pictures, parts = Sampler.of(teacher), list[Image](), list[Sights]()
    background = cameras.c2w.new_tensor(teacher.background)

    def shade(rays: Rays) -> Rendered:
        seen = look(teacher, sampler(rays))
        rendered = composite(seen.sigma, seen.rgb, seen.samples, background)
        weights, _ = ray_weights(seen.sigma * seen.samples.dt, seen.samples.starts)
        solid = (rendered.opacity > SOLID).nonzero()[:, 0]
        opacity = rendered.opacity[solid]
        rgb = (rendered.rgb[solid] - (1 - opacity[:, None]) * background) / opacity[:, None]
        x = seen.samples.x[median_samples(weights, seen.samples.starts, solid)]
        parts.append(Sights(x, rays.directions[solid], rgb, opacity))
        return rendered

    for index in range(len(cameras)):
        pictures.append(render_image(shade, cameras, index))
        progress(index + 1, len(cameras), "looking at the field")
    if not sum(len(part.x) for part in parts):
        raise FieldcastError("the field is empty: nothing of it shows in any view")
    x, d, rgb, opacity = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "d", "rgb", "opacity"))
    return pictures, Sights(x, d, rgb, opacity)


def median_samples(
    weights: Float[Tensor, " m"], starts: Int64[Tensor, " r1"], rays: Int64[Tensor, " s"]
) -> Int64[Tensor, " s"]:
    """The sample of each of some rays, which have one at least, with which half of its weight is reached."""
    total = torch.cat([weights.new_zeros(1, dtype=torch.float64), weights.double().cumsum(0)])
    half = 0.5 * (total[starts[rays]] + total[starts[rays + 1]])
    return torch.searchsorted(total[1:].contiguous(), half).clamp(starts[rays], starts[rays + 1] - 1)


@torch.no_grad()
def placed(teacher: Field, sights: Sights, count: int, degree: int) -> Splats:
    """Splats on the surfaces, before any polish."""
    cell, spacing = thinned(sights.x, count, teacher.space.unit)
    number = int(cell.max()) + 1
    seen = torch.zeros(number, device=cell.device).index_add(0, cell, torch.ones_like(sights.opacity))
    means = mean_by(cell, sights.x, seen)
    wide = neighbor_distance(means).clamp(0.3 * spacing, 2 * spacing)
    opacity = mean_by(cell, sights.opacity[:, None], seen)[:, 0].clamp(0.1, 0.95)
    scales = torch.stack([WIDTH * wide, WIDTH * wide, THICKNESS * wide], -1)
    return Splats(
        means,
        scales.log(),
        turns_to(normals(teacher, means, spacing)),
        torch.logit(opacity),
        colors(cell, sights, number, degree),
        space=teacher.space,
        background=teacher.background,
        views=teacher.views,
    )


def thinned(x: Float[Tensor, "r 3"], count: int, unit: float) -> tuple[Int64[Tensor, " r"], float]:
    """Which of about `count` occupied cells of a grid each point is in, and how wide the cells are (by bisection)."""
    narrow, wide = 1e-4 * unit, unit
    for _ in range(24):
        side = (narrow * wide) ** 0.5
        cells = len(torch.unique(keys(x, side)))
        narrow, wide = (side, wide) if cells > count else (narrow, side)
    return torch.unique(keys(x, wide), return_inverse=True)[1], wide


def keys(x: Float[Tensor, "r 3"], side: float) -> Int64[Tensor, " r"]:
    """One number for each cell of a grid."""
    cell = ((x - x.amin(0)) / side).long().clamp_max((1 << 20) - 1)
    return cell[:, 0] << 40 | cell[:, 1] << 20 | cell[:, 2]


def mean_by(cell: Int64[Tensor, " r"], values: Float[Tensor, "r c"], seen: Float[Tensor, " n"]) -> Tensor:
    """The means of the rays' values in each cell: [N, C]."""
    return values.new_zeros(len(seen), values.shape[1]).index_add(0, cell, values) / seen[:, None]


def neighbor_distance(x: Float[Tensor, "n 3"], nearest: int = 4) -> Float[Tensor, " n"]:
    """The mean distance to the nearest others."""
    from scipy.spatial import cKDTree  # slow to import

    points = x.cpu().numpy()
    distance, _ = cKDTree(points).query(points, k=min(nearest + 1, len(points)))
    if len(points) == 1:
        return torch.ones_like(x[:, 0])
    return torch.from_numpy(distance[:, 1:].mean(1)).to(x)


def normals(teacher: Field, x: Float[Tensor, "n 3"], h: float) -> Float[Tensor, "n 3"]:
    """Unit vectors out of what is dense: away from where, on a sphere of radius h around, steps are opaque.

    The opacity of a step has a slope where density itself has only noise.
    """
    out = torch.zeros_like(x)
    for toward in sphere(AROUND).to(x):
        out -= toward * (1 - torch.exp(-h * teacher.density(x + h * toward)))[:, None]
    up = torch.tensor(teacher.space.up).to(x).expand_as(out)
    return torch.nn.functional.normalize(torch.where(out.norm(dim=-1, keepdim=True) > 1e-3, out, up), dim=-1)


def sphere(count: int) -> Float[Tensor, "n 3"]:
    """Directions all over, equally spaced (a Fibonacci lattice)."""
    i = torch.arange(count) + 0.5
    z, turn = 1 - 2 * i / count, math.pi * (1 + 5**0.5) * i
    return torch.stack([turn.cos() * (1 - z * z).sqrt(), turn.sin() * (1 - z * z).sqrt(), z], -1)


def turns_to(n: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Quaternions (w x y z) that turn the z axis to unit vectors, the short way round."""
    flipped = n[:, 2:] < 0  # half a turn about x first keeps away from the opposite of z
    toward = torch.where(flipped, n * n.new_tensor([1, -1, -1]), n)
    w, x, y = 1 + toward[:, 2], -toward[:, 1], toward[:, 0]
    quats = torch.stack([w, x, y, torch.zeros_like(w)], -1)
    half_turn = torch.stack([-quats[:, 1], quats[:, 0], -quats[:, 3], quats[:, 2]], -1)
    return torch.nn.functional.normalize(torch.where(flipped, half_turn, quats), dim=-1)


def colors(cell: Int64[Tensor, " r"], sights: Sights, count: int, degree: int) -> Float[Tensor, "n k 3"]:
    """Harmonics by least squares over the rays that see each splat, weighted by their opacity."""
    basis = harmonics(sights.d, degree)
    ridge = torch.cat([torch.full((2 * band + 1,), RIDGE[band]) for band in range(degree + 1)]).to(basis)
    squares = torch.diag(ridge).repeat(count, 1, 1)
    products = basis.new_zeros(count, basis.shape[1], 3)
    for part in torch.arange(len(cell), device=cell.device).split(1 << 16):
        weighted = basis[part] * sights.opacity[part, None]
        squares.index_add_(0, cell[part], weighted[:, :, None] * basis[part][:, None])
        products.index_add_(0, cell[part], weighted[:, :, None] * (sights.rgb[part] - 0.5)[:, None])
    solved: Tensor = torch.linalg.solve(squares, products)
    return solved


def polished(
    splats: Splats,
    cameras: Cameras,
    pictures: list[Image],
    steps: int,
    generator: torch.Generator,
    progress: Progress = silent,
) -> Splats:
    """The splats after some steps of Adam on pictures, each step on one of them; their number stays."""
    unit = splats.space.unit
    rates = {"means": 1e-3 * unit, "log_scales": 1e-2, "quats": 5e-3, "opacities": 5e-2, "sh": 5e-3}
    groups = [{"params": [getattr(splats, name)], "lr": rate} for name, rate in rates.items()]
    adam = torch.optim.Adam(groups, eps=1e-15)
    slower = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 0.02 ** (step / max(steps, 1)))
    rounds = -(-steps // len(pictures))
    order = [n for _ in range(rounds) for n in torch.randperm(len(pictures), generator=generator).tolist()]
    for step, index in enumerate(order[:steps]):
        adam.zero_grad()
        loss = difference(splats, cameras, index, pictures[index])
        loss.backward()
        adam.step()
        slower.step()
        progress(step + 1, steps, f"polishing, loss {float(loss.detach()):.4f}")
    splats.zero_grad()
    return splats


def difference(splats: Splats, cameras: Cameras, index: int, picture: Image) -> Tensor:
    """The mean absolute difference of colour, over the background that both have, and of opacity."""
    seen = splats.image(cameras, index)
    return (seen.rgb - picture.rgb).abs().mean() + 0.5 * (seen.opacity - picture.opacity).abs().mean()
