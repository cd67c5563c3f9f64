"""The folder of a reconstruction: itself a recording that opens again, and everything to look at and to go on with.

scene.json, images/, masks/, people/NAME.npz     a recording: refined people, and masks as the avatars are seen
people/NAME.{glb,safetensors}, NAME.rest.glb     see people.py; people.glb has everybody
background/0000.png                              what is behind them
films/compare.mp4, alone/NAME.mp4, around.mp4    input beside reconstruction; each alone; a free camera
sheet.png                                        some frames of compare.mp4

Letters: T frames, H by W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.files.images import save_png
from fieldcast.fields.files.video import save_mp4
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.avatars.rendering import rendered
from fieldcast.reconstruct.evaluation.pictures import counts, mask_numbers, mean, picture_numbers
from fieldcast.reconstruct.outputs.paths import around
from fieldcast.reconstruct.outputs.pictures import chosen, save_film, save_sheet
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction
from fieldcast.reconstruct.outputs.sights import Sights
from fieldcast.reconstruct.recordings.files import fill, stems

LARGEST = 384  # pixels of the longer side of the film of a free camera, at most
ROUND = 24.0  # its pictures a second


def write_pictures(made: Reconstruction, sights: Sights, folder: Path, progress: Progress = silent) -> None:
    """Everything but people/NAME.* and the report, into a folder that is there."""
    recording, names = made.recording, [person.name for person in made.recording.people]
    fill(replace(recording, labels=sights.labels), folder)
    (folder / "background").mkdir()
    for i, picture in enumerate(made.behind):
        save_png(picture, folder / "background" / f"{i:04d}.png")
    views = {t: sights.view(made, t) for t in chosen(len(recording))}
    save_sheet(folder / "sheet.png", views, names, recording.fps)
    films = folder / "films"
    (films / "alone").mkdir(parents=True)
    every = (sights.view(made, t) for t in range(len(recording)))
    save_film(films / "compare.mp4", every, names, recording.fps)
    for p, stem in enumerate(stems(recording.people)):
        save_mp4(_on_white(sights, p), films / "alone" / f"{stem}.mp4", recording.fps)
    save_mp4(_free(made, progress), films / "around.mp4", ROUND)


def _on_white(sights: Sights, person: int) -> Iterator[Float[Tensor, "h w 3"]]:
    for people in sights.alone:
        rgba = people[person].float() / 255
        yield rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def _free(made: Reconstruction, progress: Progress) -> Iterator[Float[Tensor, "h w 3"]]:
    """People on white, from all around: what is behind them is known from where the camera stood alone."""
    recording = made.recording
    width, height = recording.cameras.size[0].tolist()
    scale = min(1.0, LARGEST / max(width, height))
    size = round(width * scale), round(height * scale)
    cameras, moments = around(recording.people, recording.up, recording.cameras.centers[0], size)
    for index, frame in enumerate(moments):
        yield rendered(made.avatars, cameras, index, frame).over(1.0)
        progress(index + 1, len(moments), "a camera goes around")


def seen_numbers(made: Reconstruction, sights: Sights) -> dict[str, Any]:
    """How like the frames the pictures are, all over and where people are by the masks that were learned from; and how
    those agree with the masks of the reconstruction (means over frames and people of intersection over union).
    """
    recording = made.recording
    assert recording.labels is not None
    asked = recording.labels
    every = [
        picture_numbers(frame, picture, labels > 0)
        for frame, picture, labels in zip(recording.frames, sights.pictures, asked, strict=True)
    ]
    numbers: dict[str, Any] = {key: mean(row[key] for row in every) for key in every[0]}
    agreement = {}
    for p, person in enumerate(recording.people, 1):
        pairs = zip(asked, sights.labels, strict=True)
        agreement[person.name] = mask_numbers(counts(a == p, b == p) for a, b in pairs)["mask_iou"]
    return {**numbers, "mask_agreement": mean(agreement.values()), "mask_agreement_of": agreement}


FILES = {
    "recording": "scene.json",
    "people": "people.glb",
    "sheet": "sheet.png",
    "comparison": "films/compare.mp4",
    "around": "films/around.mp4",
}


def files_of(folder: Path) -> dict[str, str]:
    """What there is to open first, by what it is; of each person the animated file and the film."""
    found = dict(FILES)
    for file in sorted((folder / "people").glob("*.npz")):
        found[f"person {file.stem}"] = f"people/{file.stem}.glb"
        found[f"film of {file.stem}"] = f"films/alone/{file.stem}.mp4"
    return found
