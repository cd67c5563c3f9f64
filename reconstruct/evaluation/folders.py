"""A reconstruction, or its folder, against the folder of a synthetic scene: all measures at once.

Letters: T frames, H by W pixels.
"""

from __future__ import annotations

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
from fieldcast.reconstruct.outputs.sights import Sights
from fieldcast.reconstruct.recordings.files import read_recording
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.synth.files import read_truth
from fieldcast.reconstruct.synth.scenes import Views

MEASURED = 10  # frames


def evaluate_folder(out: Path, scene: Path, frames: int = MEASURED, progress: Progress = silent) -> dict[str, Any]:
    """The numbers of `evaluate` for what `reconstruct` made of the recording in the folder of a synthetic scene.

    frames: in how many, evenly apart, surfaces, masks and pictures are compared.
    """
    truth, made = read_truth(scene), open_reconstruction(out, progress)
    if len(made.recording) != len(truth.recording):
        raise InputError(f"{out}: expected the {len(truth.recording)} frames of {scene}, found {len(made.recording)}")
    return measured(made, Sights.of(made, progress), scene, frames, progress)


def measured(
    made: Reconstruction, sights: Sights, scene: Path, frames: int = MEASURED, progress: Progress = silent
) -> dict[str, Any]:
    """The same for what has just been made.

    Of held-out views only people are told: nobody has seen what is behind them from there.
    """
    truth, given = read_truth(scene), read_recording(scene)
    surfaces = [moving(avatar) for avatar in made.avatars]
    views = Recording(truth.views.images, truth.views.cameras, labels=truth.views.labels)
    numbers = evaluate(
        Truth(truth.recording, {s.name: Moving(s.vertices, s.faces) for s in truth.surfaces}, views),
        Found(
            replace(made.recording, labels=sights.labels),
            lambda t: [surface.get(t) for surface in surfaces],
            sights.pictures,
            _from_elsewhere(made, truth.views, progress),
            given,
        ),
        chosen(len(made.recording), frames),
        progress,
    )
    for whole in ("psnr_db", "ssim"):
        numbers["views"].pop(whole, None)
    return numbers


def _from_elsewhere(made: Reconstruction, views: Views, progress: Progress) -> list[UInt8[Tensor, "h w 3"]]:
    """What held-out cameras see, over the true pictures where nobody is."""
    found = []
    for index, frame in enumerate(views.moments):
        seen = rendered(made.avatars, views.cameras, index, frame)
        found.append(eight_bit(seen.over(views.images[index].float() / 255)))
        progress(index + 1, len(views.moments), "looking from elsewhere")
    return found
