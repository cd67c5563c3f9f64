"""Posed images to a field of any kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, Rays
from fieldcast.fields.field import Field
from fieldcast.fields.kinds import build, default_spec
from fieldcast.fields.occupancy import Occupancy, threshold, unravel
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering.rays import composite
from fieldcast.fields.rendering.sampling import Sampler, Samples
from fieldcast.fields.rendering.visibility import visible
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec
from fieldcast.fields.training import Training, cosine, require_checkpoint

STEPS = 3000
FINAL_RATE = 1e-4
REFRESH = 16  # steps between looks at where the field is empty, and at how much of it is hidden
WARMUP = 16  # of those looks go all over
LOOKS = 1 << 15  # cells that are looked at each time: any ones, and as many of those that were occupied
GENTLE = 2e-3  # the learning rate of networks of colours whose samples all lie at the surface
HIDDEN = 0.4  # of the samples: from here on it pays to find out which they are, and to train on the others alone


def sample_budget(field: Field) -> int:
    """Points per training step that keep the field's device busy without making steps slow."""
    return field.points_per_step * (8 if field.device.type == "cuda" else 1)


def spec_for(scene: Scene, kind: str, steps: int = 512) -> FieldSpec:
    """The spec of a kind at its default sizes, in the space of a scene."""
    return default_spec(kind, space=scene.space, background=scene.background, steps=steps)


def fit(
    scene: Scene,
    kind: str | FieldSpec,
    *,
    steps: int = STEPS,
    seed: int = 0,
    device: torch.device | str = "cpu",
    within: Occupancy | None = None,
    counted: list[Bool[Tensor, "h w"]] | None = None,
    rates: Callable[[Field], list[tuple[list[nn.Parameter], float]]] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Field:
    """Trains a field on posed images; returns it with its occupancy and the views it was seen from.

    Each step renders random pixels over random backgrounds and takes the mean squared error; the number of rays
    follows a budget of samples. within: cells outside of which the scene is known to be empty. counted: of each view,
    the pixels that are looked at (default: all). rates: groups of parameters and their learning rates (default: the
    field's own). checkpoint: where resumable state is kept while it
    lasts; resume: continue from it, to the same result. Raises InputError for a scene that cannot be trained on,
    FieldcastError if the loss diverges.
    """
    require_checkpoint(checkpoint, resume)
    if not len(scene):
        raise InputError(f"{scene.source}: has no images to fit")
    field = build(spec_for(scene, kind) if isinstance(kind, str) else kind, seed).to(device)
    if within is not None:
        field = field.allocate(within)  # sparse kinds store nothing elsewhere
    pixels = Pixels(scene, device, counted)
    tracker = OccupancyTracker(field, scene.cameras, within)
    lot = Lot(field)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        if step % REFRESH == 0:
            tracker.update(generator, warmup=step < WARMUP * REFRESH)
        batch, target = pixels.sample(int(lot.rays), generator)
        background = torch.rand(len(batch), 3, generator=generator).to(device)
        samples = lot.samples(batch, generator, look=step % REFRESH == 0)
        seen = composite(*field.decode(field.features(samples.x), samples.d), samples, background)
        return photometric_loss(field, seen.rgb, target, background)

    Training(
        field,
        loss,
        cosine(steps, FINAL_RATE),
        steps,
        seed,
        f"fit {field.spec.kind}",
        rates=rates(field) if rates else None,
        state={"density": tracker.density, "rays": lot.rays, "hidden": lot.hidden},
        identity={"source": scene.source, "views": len(scene), "pixels": len(pixels)},
        checkpoint=checkpoint,
        resume=resume,
    ).run(progress)
    field = field.allocate(tracker.occupancy())
    field.views = scene.cameras.undistorted()
    return field


@dataclass
class Lot:
    """How many rays a step takes for its samples to keep within a budget, and which of them are trained on.

    rays: [1]. hidden: [1], the part of the samples that no light reached when that was last looked at.
    """

    field: Field
    rays: Tensor = attribute(default_factory=lambda: torch.tensor([512]))
    hidden: Tensor = attribute(default_factory=lambda: torch.zeros(1))

    def samples(self, batch: Rays, generator: torch.Generator, look: bool) -> Samples:
        """What to train on of some rays; look: find out again how much of it is hidden."""
        field, rays = self.field, self.rays
        samples = Sampler.of(field)(batch, generator, jitter=True)
        wanted = rays * sample_budget(field) / max(len(samples), 1)
        rays.copy_(wanted.clamp(rays / 2, rays * 2).clamp(64, 1 << 14).long())
        if self.hidden > HIDDEN or look:
            everything, (samples, _) = len(samples), visible(lambda part: (field_density(field, part.x),), samples)
            self.hidden.fill_(1 - len(samples) / max(everything, 1))
        return samples


def photometric_loss(
    field: Field, rgb: Float[Tensor, "r 3"], target: Float[Tensor, "r 4"], background: Float[Tensor, "r 3"]
) -> Tensor:
    """The mean squared error of colours over backgrounds, and the field's own penalty; target: premultiplied RGBA."""
    error = (rgb - target[:, :3] - (1 - target[:, 3:]) * background).square().mean()
    penalty = field.regularizer()
    return error if penalty is None else error + penalty


def field_density(field: Field, x: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Density in 1 / world unit, not masked by box or occupancy."""
    return field.spec.density(field.logit(x)) / field.spec.space.unit


def gentle_rates(field: Field, steps: int) -> list[tuple[list[nn.Parameter], float]]:
    """The field's own learning rates for a run of `steps`, but at most GENTLE for the network of colours.

    For a fit `within` cells near the surface, where it learns colours from the first step on: at the rate of the tables
    its units die where the surface is dark beside bright, and such patches stay grey.
    """
    network, groups = getattr(field, "color_net", None), []
    colors = [] if network is None else list(network.parameters())
    known = {id(p) for p in colors}
    for parameters, rate in field.learning_rates():
        rate *= field.stride(steps)
        for part, limit in ((False, math.inf), (True, GENTLE)):
            group = [p for p in parameters if (id(p) in known) == part]
            if group:
                groups.append((group, min(rate, limit)))
    return groups


class Pixels:
    """All pixels of a scene, or those that count; draws random ones as rays with their premultiplied colours."""

    def __init__(
        self, scene: Scene, device: torch.device | str, counted: list[Bool[Tensor, "h w"]] | None = None
    ) -> None:
        self.cameras = scene.cameras.to(device)
        self.colors = torch.cat([image.reshape(-1, 4) for image in scene.images]).to(device)
        counts = torch.tensor([image.shape[0] * image.shape[1] for image in scene.images])
        self.starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(device)
        self.chosen: Tensor | None = None
        if counted is not None:
            self.chosen = torch.cat([mask.reshape(-1) for mask in counted]).nonzero()[:, 0].to(device)
            if not len(self):
                raise InputError(f"{scene.source}: has no pixels to fit: none of {len(self.colors)} counts")

    def __len__(self) -> int:
        return len(self.colors if self.chosen is None else self.chosen)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Rays, Float[Tensor, "n 4"]]:
        """Rays through random pixel centres, and their premultiplied RGBA in [0, 1]."""
        index = torch.randint(len(self), (count,), generator=generator).to(self.starts.device)
        index = index if self.chosen is None else self.chosen[index]
        camera = torch.searchsorted(self.starts, index, right=True) - 1
        local, width = index - self.starts[camera], self.cameras.size[camera, 0]
        pixel = torch.stack([local % width, local // width], -1) + 0.5
        color = self.colors[index].float() / 255
        return self.cameras.rays(camera, pixel), torch.cat([color[:, :3] * color[:, 3:], color[:, 3:]], -1)


class OccupancyTracker:
    """Where a field in training is not empty: a decaying maximum of the densities found (Instant-NGP, appendix C).

    density: [r^3], 1 / world unit; -1 where nobody has looked yet; -2 where no camera looks, or outside of `within`.
    """

    def __init__(self, field: Field, cameras: Cameras | None, within: Occupancy | None = None) -> None:
        """cameras: None if nothing is known of them."""
        self.field = field
        self.resolution = field.spec.occupancy
        seen = torch.ones((self.resolution,) * 3, dtype=torch.bool)
        if cameras is not None:
            seen = seen_cells(cameras, field.spec.space, self.resolution)
        seen = (seen if within is None else seen & within.cells().cpu()).reshape(-1)
        self.density = torch.where(seen, -1.0, -2.0).to(field.device)
        self._publish()

    def begin_with(self, known: Occupancy) -> None:
        """Takes for empty what is known to be so, of a field that was trained before, until looks say otherwise."""
        empty = ~known.cells().reshape(-1).to(self.density.device)
        self.density[empty & (self.density == -1)] = 0
        self._publish()

    @torch.no_grad()
    def update(self, generator: torch.Generator, warmup: bool) -> None:
        """Looks at random points of some cells: all over at first, then half of them in occupied cells."""
        self.density.copy_(torch.where(self.density > 0, self.density * 0.95, self.density))
        wanted = min(self.density.numel() // 8, 1 << 18) if warmup else LOOKS
        index = torch.randint(self.density.numel(), (wanted,), generator=generator).to(self.density.device)
        if not warmup:
            known = self._occupied().nonzero()[:, 0]
            pick = torch.randint(max(len(known), 1), (min(LOOKS, len(known)),), generator=generator)
            index = torch.cat([index, known[pick.to(known.device)]])
        index = index[self.density[index] > -2]
        jitter = torch.rand(len(index), 3, generator=generator).to(index.device)
        x = self.field.spec.space.from_unit((unravel(index, self.resolution) + jitter) / self.resolution)
        sigma = torch.cat([field_density(self.field, part) for part in x.split(1 << 16)])
        self.density.scatter_reduce_(0, index, sigma, "amax")
        self._publish()

    def occupancy(self) -> Occupancy:
        cells = self._occupied() | (self.density == -1)
        return Occupancy.of_cells(cells.reshape((self.resolution,) * 3))

    def _publish(self) -> None:
        self.field.occupancy = self.occupancy()

    def _occupied(self) -> Bool[Tensor, " c"]:
        """Cells above the threshold, or above the mean density where that is less."""
        known = (self.density >= 0).sum().clamp_min(1)
        limit = threshold(self.field.spec.space, in_training=True)
        return self.density > (self.density.relu().sum() / known).clamp_max(limit)


def seen_cells(cameras: Cameras, space: Space, resolution: int) -> Bool[Tensor, "r r r"]:
    """The cells that some camera may have in its picture, judged on a coarser grid: a cell counts if the sphere around
    it reaches into the pyramid that the rays through the border of the picture span.
    """
    coarse = min(resolution, 32)
    while resolution % coarse:
        coarse -= 1
    low = unravel(torch.arange(coarse**3), coarse) / coarse
    center = space.from_unit(low + 0.5 / coarse)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0 / coarse])] * 3)
    radius = torch.stack([(space.from_unit(low + corner) - center).norm(dim=-1) for corner in corners]).amax(0)
    seen = torch.zeros(len(center), dtype=torch.bool)
    for camera in range(len(cameras)):
        planes = picture_planes(cameras, camera)
        seen |= ((center - cameras.centers[camera]) @ planes.T > -radius[:, None]).all(-1)
    cells = seen.reshape((coarse,) * 3)
    for axis in range(3):
        cells = cells.repeat_interleave(resolution // coarse, axis)
    return cells


def picture_planes(cameras: Cameras, camera: int, points: int = 9) -> Float[Tensor, "p 3"]:
    """Inward unit normals, in the world, of planes through a camera between which all that it shows lies.

    None for a lens that sees a half space or more.
    """
    width, height = cameras.size[camera].tolist()
    along, zero = torch.linspace(0, 1, points), torch.zeros(points)
    sides = [(along, zero), (along, zero + 1), (zero, along), (zero + 1, along)]
    pixel = torch.cat([torch.stack([x * width, y * height], -1) for x, y in sides])
    rays = cameras.rays(torch.full((len(pixel),), camera), pixel)
    rotation = cameras.c2w[camera, :, :3]
    local = rays.directions @ rotation
    if bool((local[:, 2] > -0.05).any()):
        return local.new_zeros(0, 3)
    slope = local[:, :2] / -local[:, 2:]
    (left, down), (right, up) = slope.amin(0).tolist(), slope.amax(0).tolist()
    normals = torch.tensor([[1, 0, left], [-1, 0, -right], [0, 1, down], [0, -1, -up], [0.0, 0.0, -1.0]])
    return torch.nn.functional.normalize(normals, dim=-1) @ rotation.T
