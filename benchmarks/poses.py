"""First poses from keypoints, from masks and from pictures alone, and poses that were made smooth, against the truth.

    .venv/bin/python benchmarks/poses.py --threads 1

makes synthetic scenes of two people and prints the tables of docs/poses.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import measure
import torch

import fieldcast
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.poses.beginning import Sure, begun
from fieldcast.reconstruct.poses.masks import overlaps, stand
from fieldcast.reconstruct.poses.motions import motion
from fieldcast.reconstruct.poses.outlines import smaller
from fieldcast.reconstruct.poses.smoothing import smoothed
from fieldcast.reconstruct.poses.standing import STANDS, ways
from fieldcast.reconstruct.poses.starts import unwrapped
from fieldcast.reconstruct.poses.views import local, pixels, seen
from fieldcast.reconstruct.recordings.keypoints import Keypoints
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.segments.agreement import agreement, masks_of
from fieldcast.reconstruct.synth.scenes import Synthetic, Wanted, make

HEAD = ("scene", "from", "joints", "from the root", "overlap", "sure", "CPU s")


def off(found: Person, true: Person) -> tuple[float, float]:
    """Mean distance of joints, and of joints from the root's, mm, where the true one is present."""
    here = true.present.nonzero()[:, 0].tolist()
    a, b = found.posed(here).joints, true.posed(here).joints
    rooted = (a - a[:, :1]) - (b - b[:, :1])
    return 1000 * float((a - b).norm(dim=-1).mean()), 1000 * float(rooted.norm(dim=-1).mean())


def stood(truth: Recording) -> list[Person]:
    """What masks say before limbs are looked at: people who stand and face the way they go, or the camera."""
    cameras, labels = smaller(truth.cameras, truth.labels or [])
    up, body = torch.tensor(truth.up), makehuman()
    found = []
    for one in stand(body, cameras, labels, len(truth.people), up):
        way, speed, view = ways(one.place, cameras, up, truth.fps)
        yaw = unwrapped(way if float(speed.median()) > STANDS else view)
        found.append(motion(body, up, yaw, one.place).person(body, "", one.present))
    return found


def agreed(truth: Recording, people: Iterable[Person]) -> float:
    """Mean intersection over union of what is seen of bodies and true masks."""
    cameras, labels = smaller(truth.cameras, truth.labels or [])
    places = stand(makehuman(), cameras, labels, len(truth.people), torch.tensor(truth.up))
    every = [overlaps(p, cameras, one, one.present)[one.present] for p, one in zip(people, places, strict=True)]
    return float(torch.cat(every).mean())


def keypoints_of(truth: Recording, noise: float, missing: float) -> Keypoints:
    """True ones, off by so many pixels along each axis, and some of them not there."""
    g = torch.Generator().manual_seed(0)
    points = [pixels(truth.cameras, seen(local(truth.cameras, p.posed().landmarks))) for p in truth.people]
    xy = torch.stack(points, 1)
    there = (torch.rand(xy.shape[:3], generator=g) >= missing).float()
    return Keypoints(xy + noise * torch.randn(xy.shape, generator=g), there, True)


def row(scene: str, name: str, truth: Recording, people: tuple[Person, ...], sure: str, start: float) -> list[str]:
    errors = torch.tensor([off(found, true) for found, true in zip(people, truth.people, strict=True)]).mean(0)
    seconds = f"{time.process_time() - start:.1f}"
    cells = [f"{errors[0]:.0f}", f"{errors[1]:.0f}", f"{agreed(truth, people):.2f}"]
    measure.say(scene, name, *cells, sure, seconds)
    return [scene, name, *cells, sure, seconds]


def begin(scene: str, truth: Recording) -> list[list[str]]:
    """A row for each thing that people can be begun from."""
    bare, rows = replace(truth, people=(), labels=None), []
    for name, noise, missing in (("perfect keypoints", 0.0, 0.0), ("keypoints, 2 px off, a tenth missing", 2.0, 0.1)):
        start = time.process_time()
        found = begun(bare, keypoints=keypoints_of(truth, noise, missing))
        rows.append(row(scene, name, truth, found.recording.people, _mean(found.sure), start))
    start = time.process_time()
    rows.append(row(scene, "true masks, standing", truth, tuple(stood(truth)), "", start))
    start = time.process_time()
    found = begun(replace(bare, labels=truth.labels))
    rows.append(row(scene, "true masks", truth, found.recording.people, _mean(found.sure), start))
    return rows


def alone(scene: str, truth: Recording) -> list[str]:
    """From pictures and a camera that is known."""
    start = time.process_time()
    found = begun(replace(truth, people=(), labels=None), 2)
    labels, true = torch.stack(found.recording.labels or []), torch.stack(truth.labels or [])
    iou = agreement(masks_of(labels, 2), masks_of(true, 2)).iou.nanmean(0)
    order = [0, 1] if iou.mean() > agreement(masks_of(labels, 2).flip(1), masks_of(true, 2)).iou.nanmean() else [1, 0]
    people = tuple(found.recording.people[i] for i in order)
    name = f"pictures (masks: {float(agreement(masks_of(labels, 2)[:, order], masks_of(true, 2)).iou.nanmean()):.2f})"
    return row(scene, name, truth, people, _mean(found.sure), start)


def _mean(sure: tuple[Sure, ...]) -> str:
    return f"{sum(one.number for one in sure) / len(sure):.2f}"


def smooth(scene: str, made: Synthetic) -> list[str]:
    """Noise of places and of all joints, before and after."""
    cells = []
    for people in (made.recording.people, [smoothed(person).person for person in made.recording.people]):
        places = [a.place - b.place for a, b in zip(people, made.truth.people, strict=True)]
        rooted = [off(a, b)[1] for a, b in zip(people, made.truth.people, strict=True)]
        cells.append((1000 * float(torch.cat(places).square().sum(1).mean().sqrt()), sum(rooted) / len(rooted)))
    (place, joints), (place_after, joints_after) = cells
    return [scene, f"{place:.0f} to {place_after:.0f}", f"{joints:.0f} to {joints_after:.0f}"]


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--fps", type=float, default=12.0)
    parser.add_argument("--scenes", nargs="*", default=["cross", "turn"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows, even = [], []
    for scene in options.scenes:
        made = make(Wanted(scene, frames=options.frames, size=options.size, fps=options.fps))
        rows += begin(scene, made.truth)
        if scene == "cross":
            rows.append(alone(scene, made.truth))
        even.append(smooth(scene, made))
    print(measure.table(HEAD, rows), "\n")
    print(measure.table(("scene", "places, mm", "joints from the root, mm"), even))
    print(f"\n{measure.machine()}")


if __name__ == "__main__":
    fieldcast.prepare()
    main()
