"""What a teacher shows: rays from many cameras, and what it says at those of their samples that can be seen.

A teacher is asked once and what it said is taught several times: asking costs more than learning does for most kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fieldcast.distill.viewpoints import Viewpoints
from fieldcast.fields.cameras import Cameras, Rays
from fieldcast.fields.field import Field
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering.images import look
from fieldcast.fields.rendering.rays import composite
from fieldcast.fields.rendering.sampling import Sampler, Samples
from fieldcast.fields.rendering.visibility import OPAQUE, ranges

CAMERAS, RAYS = 128, 1 << 13  # looked through at once: fewer take longer for each
POOL = 1 << 21  # samples that are kept at hand: about 200 MB
USES = 4  # times that each is taught


@dataclass(frozen=True)
class Lesson:
    """Samples, and what the teacher says there.

    features: [M, F]. rgb: [M, 3]. color: [R, 3] of the rays, over black; transmittance: [R] behind their samples.
    """

    samples: Samples
    features: Float[Tensor, "m f"]
    rgb: Float[Tensor, "m 3"]
    color: Float[Tensor, "r 3"]
    transmittance: Float[Tensor, " r"]

    def __len__(self) -> int:
        """How many rays."""
        return len(self.transmittance)

    def end(self, first: int, points: int) -> int:
        """The ray before which to stop for at most `points` samples from that of ray `first` on; at least one ray."""
        starts = self.samples.starts
        last = int(torch.searchsorted(starts, starts[first] + points, right=True)) - 1
        return min(max(last, first + 1), len(self))

    def take(self, rays: Int64[Tensor, " k"]) -> Lesson:
        """The lesson of some rays, in the order in which they are given."""
        samples = self.samples
        m, starts = ranges(samples.starts[rays], samples.starts.diff()[rays])
        return Lesson(
            samples.take(m, starts), self.features[m], self.rgb[m], self.color[rays], self.transmittance[rays]
        )

    def rays(self, first: int, last: int) -> Lesson:
        """The lesson of the rays from `first` to before `last`."""
        starts = self.samples.starts[first : last + 1]
        m = slice(int(starts[0]), int(starts[-1]))
        s = self.samples
        samples = Samples(starts - starts[0], s.t[m], s.dt[m], s.x[m], s.d[m])
        return Lesson(samples, self.features[m], self.rgb[m], self.color[first:last], self.transmittance[first:last])


@dataclass(frozen=True)
class Pool:
    """Rays through lots of cameras, without those that hit nothing, and through which of them each was looked.

    looked: lots of CAMERAS. camera: [R], counted through all lots. drawn: [C], how many rays each had in all.
    """

    lesson: Lesson
    looked: list[Cameras]
    camera: Int64[Tensor, " r"]
    drawn: Int64[Tensor, " c"]


class Lessons:
    """An endless course of lessons, the same for the same seed.

    place: [2], the number of the pool of rays that is being taught, and how many of its rays were; continues a course.
    """

    def __init__(
        self, teacher: Field, seed: int, pool: int = POOL, progress: Progress = silent, steps: int | None = None
    ) -> None:
        """pool: how many samples are kept at hand. steps: across the box diagonal, at most the teacher's own."""
        self.teacher, self.seed, self.size, self.progress = teacher, seed, pool, progress
        steps = min(steps or teacher.spec.steps, teacher.spec.steps)
        self.views, self.sampler = Viewpoints(teacher), Sampler.of(teacher, steps)
        self.place = torch.tensor([0, 0])
        self._number = -1
        self._pool: Lesson | None = None

    def next(self, points: int) -> Lesson:
        """The next rays, as many as have at most `points` samples, but one at least if any ray hits anything."""
        number, taught = self.place.tolist()
        pool = self.pool(number)
        first = taught % max(len(pool), 1)
        last = pool.end(first, points)
        taught += last - first
        done = taught >= USES * len(pool)
        self.place.copy_(torch.tensor([number + 1, 0] if done else [number, taught]))
        return pool.rays(first, last)

    def pool(self, number: int) -> Lesson:
        """A pool of rays; the last one is kept at hand."""
        if self._pool is None or self._number != number:
            self._pool = None  # before the next one is made: memory holds one
            self._pool, self._number = self.gather(number, self.look).lesson, number
        return self._pool

    def look(self, generator: torch.Generator) -> Cameras:
        """New cameras to look through at once."""
        return self.views.draw(CAMERAS, generator)

    def gather(self, number: int, look: Callable[[torch.Generator], Cameras]) -> Pool:
        """Enough rays for a pool, or what was found when most of them hit nothing; look: draws lots of cameras."""
        generator = torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + number)
        parts, looked, camera, drawn = [], [], [], []
        found = 0
        for lot in range(8 + 4 * self.size // RAYS):
            looked.append(look(generator))
            rays, which = random_rays(looked[-1], RAYS, generator)
            samples = self.sampler(rays.to(self.teacher.device), generator, jitter=True)
            parts.append(observe(self.teacher, hits(samples)))
            camera.append(which[samples.starts.diff().cpu() > 0] + lot * CAMERAS)
            drawn.append(which.bincount(minlength=CAMERAS))
            found += len(parts[-1].samples)
            self.progress(min(found, self.size), self.size, "asking the teacher")
            if found >= self.size:
                break
        return Pool(joined(parts), looked, torch.cat(camera), torch.cat(drawn))


def random_rays(cameras: Cameras, count: int, generator: torch.Generator) -> tuple[Rays, Int64[Tensor, " n"]]:
    """Rays through random pixel centres of random ones of some cameras, and of which."""
    which = torch.randint(len(cameras), (count,), generator=generator)
    pixel = (torch.rand(count, 2, generator=generator) * cameras.size[which]).floor() + 0.5
    return cameras.rays(which, pixel), which


def hits(samples: Samples) -> Samples:
    """The samples without the rays that have none: there is nothing to learn from them."""
    starts = samples.starts
    kept = torch.cat([starts[:1], starts[1:][starts.diff() > 0]])
    return Samples(kept, samples.t, samples.dt, samples.x, samples.d)


def observe(teacher: Field, samples: Samples, opaque: float = OPAQUE) -> Lesson:
    """What the teacher says at the samples that more than `opaque` of the light reaches; the others are dropped."""
    seen = look(teacher, samples, opaque=opaque)
    rendered = composite(seen.sigma, seen.rgb, seen.samples, seen.rgb.new_zeros(3))
    return Lesson(seen.samples, seen.features, seen.rgb, rendered.rgb, rendered.transmittance)


def joined(parts: list[Lesson]) -> Lesson:
    """Lessons, one behind the other."""
    counts = torch.cat([p.samples.starts.diff() for p in parts])
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    t, dt, x, d = (torch.cat([getattr(p.samples, n) for p in parts]) for n in ("t", "dt", "x", "d"))
    features, rgb, color, left = (
        torch.cat([getattr(p, n) for p in parts]) for n in ("features", "rgb", "color", "transmittance")
    )
    return Lesson(Samples(starts, t, dt, x, d), features, rgb, color, left)
