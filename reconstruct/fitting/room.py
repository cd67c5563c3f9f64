"""The place in which people are, as a field, learned from a recording whose camera moves with the people left out.

It is a small hash grid in a contracted space: the box holds cameras and people, where detail is; what is farther away
is folded in around it (mip-NeRF 360, eq. 10). Letters: T frames, H by W pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from fieldcast.fields.field import Field
from fieldcast.fields.fit import fit
from fieldcast.fields.kinds import default_spec
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.recordings.silhouettes import silhouettes

STEPS, HASTE = 900, 2.0  # steps, and how much faster than usual they learn: there are few
MARCH = 64  # samples across the box: steps farther away are longer
AROUND = 0.06  # heights of the picture about bodies that are left out too: poses are wrong, and clothes are wide
LEAST = 0.5  # metres: half the side of the box, at least


def empty_pixels(recording: Recording) -> Bool[Tensor, "t h w"]:
    """Where nobody is believed to be: beyond AROUND of bodies as they are given, and of labels where there are any."""
    there = torch.stack([silhouettes(recording, t).labels > 0 for t in range(len(recording))])
    if recording.labels is not None:
        there |= torch.stack(recording.labels) > 0
    margin = max(1, round(AROUND * there.shape[1]))
    return torch.nn.functional.max_pool2d(there[:, None].float(), 2 * margin + 1, 1, margin)[:, 0] == 0


def space_of(recording: Recording) -> Space:
    """A cube around the cameras and the people, contracted beyond."""
    places = [person.place[person.present] for person in recording.people]
    points = torch.cat([recording.cameras.centers, *places])
    low, high = points.amin(0), points.amax(0)
    middle, half = (low + high) / 2, max(float((high - low).amax()) / 2, LEAST)
    (x0, y0, z0), (x1, y1, z1) = (middle - half).tolist(), (middle + half).tolist()
    return Space((x0, y0, z0, x1, y1, z1), contraction="sphere", up=recording.up)


def room_spec(space: Space) -> FieldSpec:
    """A small field that a processor fits in half a minute."""
    spec = default_spec("hashgrid", space=space, steps=MARCH, background=(0.5, 0.5, 0.5))
    sizes = replace(spec.sizes, levels=8, log2_table=16, finest_resolution=512, hidden=32)
    return replace(spec, sizes=sizes, occupancy=64)


def fit_room(
    recording: Recording,
    empty: Bool[Tensor, "t h w"],
    steps: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Field:
    """A field of what a moving camera sees where nobody is. empty: where that is. steps: STEPS unless given."""
    opaque = torch.full_like(recording.frames[0][..., :1], 255)
    images = [torch.cat([frame, opaque], -1) for frame in recording.frames]
    space = space_of(recording)
    names = tuple(str(t) for t in range(len(recording)))
    scene = Scene(recording.cameras, images, names, space, (0.5, 0.5, 0.5), recording.source)
    return fit(
        scene, room_spec(space), steps=steps or STEPS, seed=seed, counted=list(empty), rates=_hasty, progress=progress
    )


def _hasty(field: Field) -> list[tuple[list[nn.Parameter], float]]:
    return [(parameters, HASTE * rate) for parameters, rate in field.learning_rates()]
