"""What is behind people: a still picture, if the camera stands still, or a field, rendered from every camera.

A still picture is the median of what is seen where nobody is. It knows nothing of depth: from elsewhere it is shown as
if it was infinitely far away, which is exact for a camera that only turns. Where it was never seen, and where a camera
looks that the recording's never did, there is the mean colour of what was.

Letters: T frames, V views (1 or T), H by W pixels, R rays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, Rays
from fieldcast.fields.field import Field
from fieldcast.fields.files import open_field
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering.images import render, shading
from fieldcast.reconstruct.fitting.room import empty_pixels, fit_room
from fieldcast.reconstruct.fitting.uncovered import uncovered
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.segments.background import background_of
from fieldcast.reconstruct.segments.backgrounds import Backgrounds

LOT = 1 << 13  # rays at a time, which bounds the memory
FRONT = 0.1  # of a direction's length must be along the view for it to be looked up in a picture


@dataclass(frozen=True, eq=False)
class Behind:
    """cameras: from which it is seen, one if they all stand in the same place. color: what these see, sRGB 0..1. field:
    what the colours are rendered from; None: a picture is all there is. told: what segmenters are told of it, or None.
    """

    cameras: Cameras
    color: Float[Tensor, "v h w 3"]
    field: Field | None = None
    told: Backgrounds | None = None

    def view(self, frame: Tensor) -> Tensor:
        """Which of the views is that of a frame."""
        return frame.clamp(max=len(self.color) - 1)

    @torch.no_grad()
    def seen(self, rays: Rays) -> Float[Tensor, "r 3"]:
        """What rays from anywhere see."""
        if self.field is not None:
            return shading(self.field)(rays).rgb
        return _far_away(self.color[0], self.cameras, rays)

    def picture(self, cameras: Cameras, index: int) -> Float[Tensor, "h w 3"]:
        """What a camera anywhere sees, of the recording's or of a path of its own."""
        width, height = cameras.size[index].tolist()
        rays = cameras.image_rays(index)
        lots = range(0, len(rays), LOT)
        return torch.cat([self.seen(rays[slice(i, i + LOT)]) for i in lots]).reshape(height, width, 3)


def behind_of(
    recording: Recording, file: Path | None = None, seed: int = 0, progress: Progress = silent
) -> Behind | None:
    """A field behind the people of a recording: that of a file, or one that is fitted if the camera moves.

    None if the camera stands still: what is behind people is then learned from the pictures, see `still`.
    """
    if file is None and recording.static:
        return None
    empty = empty_pixels(recording)
    if file is None:
        return field_behind(recording, fit_room(recording, empty, seed=seed, progress=progress), empty, progress)
    field = open_field(file)
    found = field_behind(recording, field, empty, progress)
    _check_likeness(recording, found, empty, file)
    return found


def still(recording: Recording, there: Bool[Tensor, "t h w"]) -> Behind:
    """The picture behind people, for a camera that stands still. there: where somebody is."""
    background = background_of(recording.frames, list(there))
    color, known = background.color / 255, background.known
    mean = color[known].mean(0) if bool(known.any()) else torch.zeros(3)
    return Behind(recording.cameras[[0]], torch.where(known[..., None], color, mean)[None])


def field_behind(
    recording: Recording, field: Field, empty: Bool[Tensor, "t h w"], progress: Progress = silent
) -> Behind:
    """What the recording's cameras see of a field. empty: where nobody is."""
    cameras = recording.cameras[[0]] if recording.static else recording.cameras
    color, known = [], []
    for t, image in enumerate(render(field, cameras, progress=progress)):
        rays, depth = cameras.image_rays(t), image.depth.cpu()
        points = rays.origins + depth.reshape(-1, 1) * rays.directions
        color.append(image.rgb.clamp(0, 1).cpu())
        known.append(uncovered(recording.cameras, empty, points).reshape(depth.shape))
    colors, there = torch.stack(color), torch.stack(known)
    every = colors.expand(len(recording), -1, -1, -1), there.expand(len(recording), -1, -1)
    return Behind(cameras, colors, field, Backgrounds.of(recording.frames, *every, empty))


def _check_likeness(recording: Recording, found: Behind, empty: Bool[Tensor, "t h w"], file: Path) -> None:
    """A field in another frame or of another place explains pictures no better than their mean colour does."""
    seen = torch.stack(recording.frames)[empty].float() / 255
    off = (seen - found.color.expand(len(recording), -1, -1, -1)[empty]).square().mean()
    plain = (seen - seen.mean(0)).square().mean()
    if not bool(off < plain):
        found_off, plain_off = (round(255 * float(square.sqrt())) for square in (off, plain))
        raise InputError(
            f"{file}: expected what is behind the people of {recording.source}, in metres and in its world frame; "
            f"found colours that are {found_off} of 255 off, where one plain colour is {plain_off}"
        )


def _far_away(picture: Float[Tensor, "h w 3"], camera: Cameras, rays: Rays) -> Float[Tensor, "r 3"]:
    """A picture by the directions of rays alone, between its pixels; its mean colour where it does not reach."""
    height, width = picture.shape[:2]
    x, y, z = (rays.directions @ camera.c2w[0, :, :3]).unbind(-1)
    fx, fy, cx, cy = camera.intrinsics[0]
    depth = (-z).clamp_min(FRONT)
    at = torch.stack([(fx * x / depth + cx) / width, (cy - fy * y / depth) / height], -1)
    inside = (-z > FRONT) & ((at > 0) & (at < 1)).all(-1)
    found = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None], 2 * at[None, None] - 1, align_corners=False, padding_mode="border"
    )
    return torch.where(inside[:, None], found[0, :, 0].T, picture.mean((0, 1)))
