"""People from masks alone: where they stand, and roughly which way they face. Limbs are not looked at.

A mask's top and bottom rows are the top of a head and the soles of somebody of mean stature, which gives the place in
closed form (`starts.placed`). People face the way they go, or the camera if they stand. This is little, and its
certainty says so: it is never more than 0.3.

Letters: T frames, H by W pixels, P people.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.poses.motions import motion
from fieldcast.reconstruct.poses.puppets import landmarks_only
from fieldcast.reconstruct.poses.smoothing import spline
from fieldcast.reconstruct.poses.starts import bridged, placed, unwrapped, upright
from fieldcast.reconstruct.poses.views import ideal, turned
from fieldcast.reconstruct.recordings.recording import Person

SURE = 0.3
"""The certainty of somebody who is seen whole."""
WALKING = 0.3
"""Metres a second from which on people face the way they go."""


def fit_masks(
    body: Body, cameras: Cameras, labels: list[UInt8[Tensor, "h w"]], up: Float[Tensor, " 3"], fps: float = 24.0
) -> list[tuple[Person, Float[Tensor, " t"]]]:
    """For each label a body of mean shape that stands, frame by frame, and how sure that is, 0 to `SURE`.

    labels: of each pixel 0 for the background, or 1 + the number of the person. A frame counts only where its mask does
    not reach the upper or lower edge of the picture; what covers feet is not noticed.
    """
    if len(labels) != len(cameras):
        raise InputError(f"masks: {len(labels)} frames, but there are {len(cameras)} cameras")
    found = []
    for p in range(1, int(max(label.max() for label in labels)) + 1):
        ends, whole = _ends(labels, p)
        if not whole.any():
            raise InputError(f"masks: label {p} is seen from head to foot in no frame")
        place = _places(body, cameras, ends, whole, up)
        yaw = _facing(place, cameras, up, fps)
        person = motion(landmarks_only(body), up, yaw, place).person(body, f"person {p}", whole)
        found.append((person, SURE * whole.float()))
    return found


def _ends(labels: list[UInt8[Tensor, "h w"]], label: int) -> tuple[Float[Tensor, "t 2 2"], Bool[Tensor, " t"]]:
    """The middle of a mask's columns at its top and at its bottom, pixels, and whether both are in the picture."""
    ends, whole = torch.zeros(len(labels), 2, 2), torch.zeros(len(labels), dtype=torch.bool)
    for t, picture in enumerate(labels):
        rows, columns = (picture == label).nonzero().unbind(1)
        if len(rows) and int(rows.min()) > 0 and int(rows.max()) < len(picture) - 1:
            x = float(columns.float().median()) + 0.5
            ends[t], whole[t] = torch.tensor([[x, float(rows.min())], [x, float(rows.max()) + 1]]), True
    return ends, whole


def _places(
    body: Body, cameras: Cameras, ends: Float[Tensor, "t 2 2"], whole: Bool[Tensor, " t"], up: Float[Tensor, " 3"]
) -> Float[Tensor, "t 3"]:
    """Where a body of mean stature has its head and soles at the ends of a mask, smooth over time."""
    height = body.vertices[:, 1].amax()
    tall = torch.stack([height * up, torch.zeros(3)]).expand(len(cameras), 2, 3)
    at, _ = placed(turned(cameras, tall)[:, None], ideal(cameras, ends), torch.ones(len(cameras), 2))
    foot = (cameras.c2w[:, :, :3] @ at[:, 0, :, None])[..., 0] + cameras.centers
    # A body's place turns nothing: its root stays above its place along its own y axis, which is the world's up.
    root = body.joints[0]
    foot = bridged(foot + upright(up, torch.zeros(1))[0] @ root - root, whole)
    if int(whole.sum()) < 4:
        return foot
    smooth = [spline(column[:, None].double().numpy(), whole.numpy(), 0.3) for column in foot.T]
    return torch.cat([torch.from_numpy(column) for column in smooth], 1).to(foot)


def _facing(place: Float[Tensor, "t 3"], cameras: Cameras, up: Float[Tensor, " 3"], fps: float) -> Float[Tensor, " t"]:
    """The yaw of the way that somebody goes, or to the camera where they all but stand."""
    frame = upright(up, torch.zeros(1))[0]
    speed = torch.gradient(place, dim=0)[0] * fps if len(place) > 1 else torch.zeros_like(place)
    ways, views = speed @ frame, (cameras.centers - place) @ frame
    walks = ways[:, [0, 2]].norm(dim=1).median() > WALKING
    chosen = ways if walks else views
    return unwrapped(torch.atan2(chosen[:, 0], chosen[:, 2]))
