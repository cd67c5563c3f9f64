"""People from 2-D keypoints: where they are, how they stand, and how sure that is.

First each frame alone (`starts`), then all frames of a person together (`motions`): the keypoints of the moving body
are to be seen where they were found. A keypoint that is far off costs no more than a limit (Geman and McClure 1987),
so that a wrong one does not pull.

Letters: T frames, P people, 17 keypoints of COCO.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.bodies.body import Body, Posed
from fieldcast.reconstruct.poses import starts
from fieldcast.reconstruct.poses.limbs import limbs
from fieldcast.reconstruct.poses.motions import Fit, fitted, motion
from fieldcast.reconstruct.poses.puppets import Puppet, landmarks_only
from fieldcast.reconstruct.poses.views import ideal, local, seen, turned
from fieldcast.reconstruct.recordings.recording import Person

TRUSTED = 0.1
"""A keypoint of less confidence is as good as not seen."""
ENOUGH = 6
"""Keypoints that somebody who is present shows."""
NOISE = 0.01
"""Metres, at the depth of the body, by which keypoints are off."""
LIMIT = (1.0, 0.1)
"""Metres beyond which a keypoint is taken to be wrong: at first, when limbs are far from where they belong, and in the
second half (graduated non-convexity, Blake and Zisserman 1987)."""
RIGID = torch.tensor([1.0] * 5 + [1.0, 1.0, 0.2, 0.2, 0.05, 0.05, 1.0, 1.0, 0.4, 0.4, 0.3, 0.3])
"""How far keypoints stay where a neutral stance has them: the head and the trunk do, hands do not."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of one person. xy: image points at focal length 1. weight: 0 to 1."""

    cameras: Cameras
    xy: Float[Tensor, "t 17 2"]
    weight: Float[Tensor, "t 17"]

    @property
    def present(self) -> Bool[Tensor, " t"]:
        return (self.weight > 0).sum(1) >= ENOUGH


def fit_keypoints(
    body: Body,
    cameras: Cameras,
    points: Float[Tensor, "t p 17 2"],
    confidence: Float[Tensor, "t p 17"],
    up: Float[Tensor, " 3"] | None = None,
    fit: Fit | None = None,
    progress: Progress = silent,
) -> list[tuple[Person, Float[Tensor, " t"]]]:
    """For each person their motion, and for each frame how sure it is, 0 to 1.

    points: pixels, with person p the same one in all frames. confidence: 0 (not seen) to 1. up: of the world; without
    it that of the first camera stands for it, and feet need not keep to a floor.
    """
    _checked(cameras, points, confidence)
    fit = fit or Fit()
    if up is None:
        up, fit = cameras.c2w[0, :, 1], Fit(fit.steps, fit.fps, floor=False)
    found = []
    for p in range(points.shape[1]):
        weight = torch.where(confidence[:, p] >= TRUSTED, confidence[:, p], 0.0).clamp_max(1.0)
        xy = ideal(cameras, points[:, p].nan_to_num())
        found.append(_one(body, Seen(cameras, xy, weight), up, fit, progress, f"person {p + 1}"))
    return found


def _checked(cameras: Cameras, points: Float[Tensor, "t p 17 2"], confidence: Float[Tensor, "t p 17"]) -> None:
    if len(points) != len(cameras):
        raise InputError(f"keypoints: {len(points)} frames, but there are {len(cameras)} cameras")
    if not torch.isfinite(points[confidence >= TRUSTED]).all():
        raise InputError("keypoints: a point that is not finite has confidence; expected confidence 0 where unknown")
    for p, seen_ in enumerate(((confidence >= TRUSTED).sum(-1) >= ENOUGH).any(0).tolist()):
        if not seen_:
            raise InputError(f"keypoints: person {p + 1} shows {ENOUGH} keypoints in no frame")


def _one(
    body: Body, given: Seen, up: Tensor, fit: Fit, progress: Progress, name: str
) -> tuple[Person, Float[Tensor, " t"]]:
    """One person: the start, the fit, and what it is worth."""
    start = begun(body, given, up, fit.fps)
    moving = motion(landmarks_only(body), up, start.yaw, start.place)
    depth = (-local(given.cameras, moving.posed()[0].joints[:, :1])[..., 2]).detach().clamp_min(0.3)
    weight = torch.where(given.present[:, None], given.weight, 0.0)

    def data(posed: Posed, done: float) -> Tensor:
        limit = LIMIT[0] * (LIMIT[1] / LIMIT[0]) ** min(1.0, 2 * done)
        off = (seen(local(given.cameras, posed.landmarks)) - given.xy).square().sum(-1) * depth.square()
        cost: Tensor = 0.5 * (weight * off / (1 + off / limit**2)).sum() / NOISE**2
        return cost

    fitted(moving, data, fit, progress, name)
    with torch.no_grad():
        off = (seen(local(given.cameras, moving.posed()[0].landmarks)) - given.xy).norm(dim=-1) * depth
    return moving.person(body, name, given.present), certainty(off, weight, start.sure, given.present)


def certainty(
    off: Float[Tensor, "t 17"], weight: Float[Tensor, "t 17"], sure: Float[Tensor, " t"], present: Bool[Tensor, " t"]
) -> Float[Tensor, " t"]:
    """0 to 1: the product of how near keypoints are seen to where they were found (half at 5 cm, root mean square), how
    many of them there are (all that is hoped for: 12 of confidence 1), and how much likelier this direction is."""
    total = weight.sum(1)
    mean = (weight * off.square()).sum(1) / total.clamp_min(1e-6)
    near = 1 / (1 + mean / 0.05**2)
    return torch.where(present, near * (total / 12).clamp_max(1) * (2 * sure - 1), 0.0)


def begun(body: Body, given: Seen, up: Float[Tensor, " 3"], fps: float) -> starts.Start:
    """The place and direction of a body in its neutral stance, tracked over time and bridged where nothing is seen."""
    yaws = torch.arange(starts.DIRECTIONS) * (2 * torch.pi / starts.DIRECTIONS)
    turns = limbs(body).neutral.repeat(len(yaws), 1, 1, 1)
    turns[:, 0] = starts.upright(up, yaws)
    marks = Puppet(landmarks_only(body)).at(torch.zeros(body.shapes), turns, torch.zeros(len(yaws), 3)).landmarks
    frames = len(given.xy)
    q = turned(given.cameras, marks.reshape(1, -1, 3).expand(frames, -1, -1)).unflatten(1, (len(yaws), -1))
    at, cost = starts.placed(q, given.xy, given.weight * RIGID)
    path, through = starts.tracked(torch.where(given.present[:, None], cost, 0.0), fps)
    chosen = at[torch.arange(frames), path]
    place = (given.cameras.c2w[:, :, :3] @ chosen[..., None])[..., 0] + given.cameras.centers
    known = given.present
    yaw = starts.bridged(starts.unwrapped(yaws[path])[:, None], known)[:, 0]
    return starts.Start(starts.bridged(place, known), yaw, starts.surely(path, through))
