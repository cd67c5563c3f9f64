"""Where somebody stands, from the ends of a mask, and which way they may face: before limbs are looked at.

A mask's top and bottom rows are the top of a head and the soles of somebody of mean stature, which gives the place in
closed form (`starts.placed`). Frames in which a mask is cut off, by the edge of the picture or by somebody nearer, do
not count for that: places are smooth over time, and bridged.

Letters: T frames, H by W pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.poses.gaits import STANDS
from fieldcast.reconstruct.poses.smoothing import spline
from fieldcast.reconstruct.poses.starts import bridged, placed, upright
from fieldcast.reconstruct.poses.views import ideal, turned
from fieldcast.reconstruct.segments.agreement import masks_of

LEAST = 12  # pixels without which nobody is seen
CUT = 0.88  # of the height that is usual: a mask that is lower is cut off, or its person has ducked
MOST = 0.95  # of the weight of heights, for those above the usual one
ASTRAY = 0.2  # radians by which people go other ways than they face
TOWARDS = 0.5  # what it costs to face away from the camera: people are filmed from the front more often


def whole(own: Bool[Tensor, "t h w"], others: Bool[Tensor, "t h w"]) -> Bool[Tensor, " t"]:
    """Whether a mask has its head and its feet: it is as high as usual, and neither end is at an edge of the picture
    or of somebody else."""
    found = torch.zeros(len(own), dtype=torch.bool)
    tall = torch.zeros(len(own))
    for t, (mask, other) in enumerate(zip(own, others, strict=True)):
        rows = mask.any(1).nonzero()[:, 0]
        if int(mask.sum()) < LEAST or int(rows[0]) == 0 or int(rows[-1]) == len(mask) - 1:
            continue
        low = mask[rows[-1]].nonzero()[:, 0]
        beside = other[int(rows[-1]) + 1, int(low[0]) : int(low[-1]) + 1]
        tall[t] = float(rows[-1] - rows[0] + 1)
        found[t] = not bool(beside.any())
    if found.any():
        found[found.clone()] = tall[found] > CUT * _usual(tall[found], found.nonzero()[:, 0])
    return found


def _usual(tall: Float[Tensor, " n"], frames: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """How high a mask is when nothing of it is missing: a parabola over time, since people come and go, above most of
    the heights (expectiles, Newey and Powell 1987)."""
    t = frames.double() / max(1, int(frames.max()))
    powers = torch.stack([t**k for k in range(3 if len(t) >= 8 else 1)], 1)
    weight = torch.ones(len(t), dtype=torch.float64)
    for _ in range(20):
        found = powers @ torch.linalg.lstsq(weight[:, None] * powers, weight * tall.double()).solution
        weight = torch.where(tall > found, MOST, 1 - MOST).sqrt()
    usual: Tensor = found.float()
    return usual


def ends(own: Bool[Tensor, "t h w"], known: Bool[Tensor, " t"]) -> Float[Tensor, "t 2 2"]:
    """The middle of a mask's columns at its top and at its bottom, pixels; 0 where that is not known."""
    found = torch.zeros(len(own), 2, 2)
    for t in known.nonzero()[:, 0].tolist():
        rows, columns = own[t].nonzero().unbind(1)
        x = float(columns.float().median()) + 0.5
        found[t] = torch.tensor([[x, float(rows.min())], [x, float(rows.max()) + 1]])
    return found


def places(
    body: Body, cameras: Cameras, ends: Float[Tensor, "t 2 2"], known: Bool[Tensor, " t"], up: Float[Tensor, " 3"]
) -> Float[Tensor, "t 3"]:
    """Where a body of mean stature has its head and soles at the ends of a mask, smooth over time."""
    height = body.vertices[:, 1].amax()
    tall = torch.stack([height * up, torch.zeros(3)]).expand(len(cameras), 2, 3)
    at, _ = placed(turned(cameras, tall)[:, None], ideal(cameras, ends), torch.ones(len(cameras), 2))
    foot = (cameras.c2w[:, :, :3] @ at[:, 0, :, None])[..., 0] + cameras.centers
    # A body's place turns nothing: its root stays above its place along its own y axis, which is the world's up.
    root = body.joints[0]
    foot = bridged(foot + upright(up, torch.zeros(1))[0] @ root - root, known)
    if int(known.sum()) < 4:
        return foot
    smooth = [spline(column[:, None].double().numpy(), known.numpy(), 0.3) for column in foot.T]
    return torch.cat([torch.from_numpy(column) for column in smooth], 1).to(foot)


def ways(
    place: Float[Tensor, "t 3"], cameras: Cameras, up: Float[Tensor, " 3"], fps: float
) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"], Float[Tensor, " t"]]:
    """The yaw of the way that somebody goes, how fast, in metres a second along the ground, and the yaw to the
    camera."""
    frame = upright(up, torch.zeros(1))[0]
    way, view = _speed(place, fps) @ frame, (cameras.centers - place) @ frame
    return torch.atan2(way[:, 0], way[:, 2]), way[:, [0, 2]].norm(dim=1), torch.atan2(view[:, 0], view[:, 2])


def _speed(place: Float[Tensor, "t 3"], fps: float) -> Float[Tensor, "t 3"]:
    """Metres a second: the slope of the straight line through the places of a second. Who walks is lower at each step,
    and seems to be farther away."""
    from scipy.signal import savgol_filter

    if len(place) < 3:
        return fps * torch.gradient(place, dim=0)[0] if len(place) == 2 else torch.zeros_like(place)
    window = max(3, min((len(place) - 1) // 2 * 2 + 1, 2 * round(fps / 2) + 1))
    found = savgol_filter(place.double().numpy(), window, polyorder=1, deriv=1, axis=0)
    return torch.from_numpy(fps * found).to(place)


def facing_cost(
    yaws: Float[Tensor, " y"], way: Float[Tensor, " t"], speed: Float[Tensor, " t"], view: Float[Tensor, " t"]
) -> Float[Tensor, "t y"]:
    """What it costs to face directions, before the outline is looked at: people face the way they go, or the camera."""
    off = yaws - way[:, None]
    off = torch.atan2(off.sin(), off.cos())
    walks = ((speed - STANDS) / STANDS).clamp(0, 1)[:, None]
    return walks * 0.5 * (off / ASTRAY).square() + TOWARDS * (1 - (yaws - view[:, None]).cos()) / 2


def own_masks(labels: Tensor, people: int) -> list[Bool[Tensor, "t h w"]]:
    """The masks of each person."""
    return list(masks_of(labels, people).unbind(1))
