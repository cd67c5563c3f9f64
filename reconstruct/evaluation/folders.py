"""The folder of a reconstruction against the folder of a synthetic scene: all measures at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.images import eight_bit
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.avatars.rendering import rendered
from fieldcast.reconstruct.evaluation.report import Found, Moving, Truth, evaluate
from fieldcast.reconstruct.outputs.people import moving
from fieldcast.reconstruct.outputs.pictures import chosen
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction, open_reconstruction
from fieldcast.reconstruct.recordings.files import read_recording
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.synth.files import Truth as Synthetic
from fieldcast.reconstruct.synth.files import read_truth

MEASURED = 10  # frames, evenly apart, in which surfaces, masks and pictures are compared

Pictures = list[UInt8[Tensor, "h w 3"]]


def evaluate_folder(out: Path, scene: Path, progress: Progress = silent) -> dict[str, Any]:
    """The numbers of `evaluate` for what `reconstruct` made of the recording in the folder of a synthetic scene."""
    made = open_reconstruction(out, progress)
    truth = read_truth(scene)
    if len(made.recording) != len(truth.recording):
        raise InputError(f"{out}: expected the {len(truth.recording)} frames of {scene}, found {len(made.recording)}")
    return compared(made, pictures_of(made, progress), truth, read_recording(scene), progress)


def measured(
    made: Reconstruction, pictures: Sequence[Tensor], scene: Path, progress: Progress = silent
) -> dict[str, Any]:
    """The same for what has just been made, with the pictures that the recording's cameras see of it."""
    return compared(made, pictures, read_truth(scene), read_recording(scene), progress)


def compared(
    made: Reconstruction, pictures: Sequence[Tensor], truth: Synthetic, given: Recording, progress: Progress = silent
) -> dict[str, Any]:
    """made: with labels as its avatars are seen. given: what the reconstruction began with.

    Of held-out views only people are told: nobody has seen what is behind them from there.
    """
    surfaces = [moving(avatar) for avatar in made.avatars]
    views = replace(truth.recording, frames=truth.views.images, cameras=truth.views.cameras, labels=truth.views.labels)
    numbers = evaluate(
        Truth(truth.recording, {s.name: Moving(s.vertices, s.faces) for s in truth.surfaces}, views),
        Found(
            made.recording,
            lambda t: [surface.get(t) for surface in surfaces],
            pictures,
            views_of(made, truth, progress),
            given,
        ),
        chosen(len(made.recording), MEASURED),
        progress,
    )
    for whole in ("psnr_db", "ssim"):
        numbers["views"].pop(whole, None)
    return numbers


def pictures_of(made: Reconstruction, progress: Progress = silent) -> Pictures:
    """What the recording's cameras see."""
    found = []
    for t in range(len(made.recording)):
        found.append(eight_bit(made.rendered(t).over(made.background(t))))
        progress(t + 1, len(made.recording), "looking at frames")
    return found


def views_of(made: Reconstruction, truth: Synthetic, progress: Progress = silent) -> Pictures:
    """What held-out cameras see, over the true pictures where nobody is."""
    found = []
    for index, frame in enumerate(truth.views.moments):
        seen = rendered(made.avatars, truth.views.cameras, index, frame)
        found.append(eight_bit(seen.over(truth.views.images[index].float() / 255)))
        progress(index + 1, len(truth.views.moments), "looking from elsewhere")
    return found
