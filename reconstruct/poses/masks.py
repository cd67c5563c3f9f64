"""People from masks alone: where they stand, which way they face, and how their limbs are.

First where each stands (`standing`), then the direction: the cheapest path through directions over time, in a neutral
stance (`starts.tracked`). Who walks begins with the gait that fits best (`gaits`). Then all frames of a person are
fitted together: the body fills its outline (`outlines`), and moves as people do (`motions`).

Every fourth frame is not looked at by the fit at first, but for the place that it begins with: how well the body agrees
with the mask there is how sure the motion is. A last, shorter round looks at all frames. What a mask cannot tell stays
a guess: depth and stature, a limb before the trunk, and left and right of somebody who is seen from the front or from
behind.

Letters: T frames, H by W pixels, P people, Y directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.bodies.body import Body, Posed
from fieldcast.reconstruct.poses import standing
from fieldcast.reconstruct.poses.gaits import in_step
from fieldcast.reconstruct.poses.motions import Fit, Motion, fitted, motion
from fieldcast.reconstruct.poses.outlines import Outline, outline, smaller, spread_points
from fieldcast.reconstruct.poses.puppets import sparse
from fieldcast.reconstruct.poses.starts import DIRECTIONS, bridged, tracked, unwrapped
from fieldcast.reconstruct.poses.views import local
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.recordings.silhouettes import silhouettes

STEPS = 160
HELD = 4  # every fourth frame is not looked at first
PARTLY = 0.25  # what a frame counts whose mask lacks a part: legs that a mask has lost are not to be folded away
LAST = 0.4  # of the steps, for all frames
DOUBT = 0.05  # what a frame's outline counts for its direction: frames that follow each other are wrong alike


@dataclass(frozen=True, eq=False)
class Stand:
    """Somebody before limbs are looked at. own, nearer: pixels that show them, and those that show people nearer.
    whole: whether the mask has its head and its feet."""

    own: Bool[Tensor, "t h w"]
    nearer: Bool[Tensor, "t h w"]
    place: Float[Tensor, "t 3"]
    present: Bool[Tensor, " t"]
    whole: Bool[Tensor, " t"]


def fit_masks(
    body: Body,
    cameras: Cameras,
    labels: list[UInt8[Tensor, "h w"]],
    up: Float[Tensor, " 3"],
    fit: Fit | None = None,
    progress: Progress = silent,
) -> list[tuple[Person, Float[Tensor, " t"]]]:
    """For each label a body that fills it, and for each frame how sure that is, 0 to 1: the intersection over union of
    body and mask in the nearest frames that the fit had not seen.

    labels: of each pixel 0 for the background, or 1 + the number of the person.
    """
    if len(labels) != len(cameras):
        raise InputError(f"masks: {len(labels)} frames, but there are {len(cameras)} cameras")
    fit = fit or Fit(STEPS)
    small, reduced = smaller(cameras, labels)
    people = int(reduced.max())
    points = sparse(body, spread_points(body))
    stands = stand(body, small, reduced, people, up)
    found = []
    for p, one in enumerate(stands):
        given = outline(small, one.own, one.nearer, one.present)
        given = replace(given, weight=torch.where(one.whole, 1.0, PARTLY) * given.weight)
        moving, sure = _one(body, points, given, one, up, fit, progress, f"person {p + 1}")
        found.append((moving.person(body, f"person {p + 1}", one.present), sure))
    return found


def stand(
    body: Body, cameras: Cameras, labels: UInt8[Tensor, "t h w"], people: int, up: Float[Tensor, " 3"]
) -> list[Stand]:
    """Where everybody stands, and who is nearer than whom."""
    masks = standing.own_masks(labels, people)
    found, wholes, depths = [], [], []
    for p, own in enumerate(masks):
        known = standing.whole(own, (labels > 0) & ~own)
        if not known.any():
            raise InputError(f"masks: label {p + 1} is seen from head to foot in no frame")
        wholes.append(known)
        found.append(standing.places(body, cameras, standing.ends(own, known), known, up))
        depths.append(-local(cameras, found[-1][:, None])[:, 0, 2])
    nearer = [
        torch.stack([m & (d < depths[p])[:, None, None] for m, d in zip(masks, depths, strict=True)]).any(0)
        for p in range(people)
    ]
    enough = [own.sum((1, 2)) >= standing.LEAST for own in masks]
    return [Stand(*each) for each in zip(masks, nearer, found, enough, wholes, strict=True)]


def _one(
    body: Body, points: Body, given: Outline, one: Stand, up: Tensor, fit: Fit, progress: Progress, name: str
) -> tuple[Motion, Float[Tensor, " t"]]:
    """The motion of one person, and how sure it is."""
    held = _held(one.present)
    seen = given.without(held)
    moving = begin(points, seen, one, up, fit.fps)

    def fill(outline: Outline) -> None:
        def data(posed: Posed, done: float) -> Tensor:
            return outline.cost(posed.vertices).sum()

        steps = fit.steps if outline is seen else int(LAST * fit.steps)
        fitted(moving, data, replace(fit, steps=steps), progress, name)

    fill(seen)
    unseen = held if held.any() else one.present
    agreed = overlaps(moving.person(body, name, one.present), given.cameras, one, unseen)
    if held.any():
        fill(given)
    return moving, torch.where(one.present, bridged(agreed[:, None], unseen)[:, 0], 0.0)


def _held(present: Bool[Tensor, " t"]) -> Bool[Tensor, " t"]:
    """Every fourth frame in which somebody is there, where there are enough."""
    held = torch.zeros_like(present)
    held[present.nonzero()[HELD // 2 :: HELD, 0]] = True
    return held if int(present.sum()) >= 2 * HELD else torch.zeros_like(present)


def begin(points: Body, given: Outline, one: Stand, up: Float[Tensor, " 3"], fps: float) -> Motion:
    """Somebody who faces the likeliest way, and walks in step with the masks if they walk."""
    way, speed, view = standing.ways(one.place, given.cameras, up, fps)
    yaws = torch.arange(DIRECTIONS) * (2 * torch.pi / DIRECTIONS)
    with torch.no_grad():
        fills = [given.cost(motion(points, up, yaw.expand(len(way)), one.place).posed()[0].vertices) for yaw in yaws]
        cost = DOUBT * torch.stack(fills, 1) + standing.facing_cost(yaws, way, speed, view)
        moving = motion(points, up, unwrapped(yaws[tracked(cost, fps)[0]]), one.place)

        def fills_better(turned: Tensor) -> Tensor:
            moving.turned = turned
            return given.cost(moving.posed()[0].vertices).sum()

        moving.turned = in_step(points, speed, fps, fills_better)
    return moving


def overlaps(person: Person, cameras: Cameras, one: Stand, frames: Bool[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Intersection over union of what is seen of a body and its mask, in some frames; 0 in the others."""
    alone = Recording([torch.zeros(0, 0, 3, dtype=torch.uint8)] * len(cameras), cameras, (person,))
    found = torch.zeros(len(cameras))
    for t in frames.nonzero()[:, 0].tolist():
        seen = silhouettes(alone, t).whole[0] & ~one.nearer[t]
        found[t] = float((seen & one.own[t]).sum() / (seen | one.own[t]).sum().clamp_min(1))
    return found
