"""People fitted to a synthetic recording whose camera moves: what is behind them, and who is where, against the truth.

    fieldcast reconstruct synth out/orbit --camera orbit --frames 16 --fps 12 --size 128
    .venv/bin/python benchmarks/people_moving.py out/orbit --steps 300

prints PSNR of the background alone, with neither people nor their shadows: where nobody stands, and behind people, of
what is seen in another frame; mask IoU of grabcut with and without that background, with the poses given and smoothed;
and of what was fitted. DIR of --pictures gets input, rendering and background.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import measure
import numpy as np
import torch
from torch import Tensor

import fieldcast
from fieldcast.fields.files.images import save_png
from fieldcast.reconstruct.avatars.rendering import rendered
from fieldcast.reconstruct.fitting.behind import behind_of
from fieldcast.reconstruct.fitting.fit import Plan, fit_people
from fieldcast.reconstruct.fitting.masks import who_is_where
from fieldcast.reconstruct.poses.smoothing import smoothed
from fieldcast.reconstruct.recordings.files import read_recording
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.segments.agreement import agreement, masks_of
from fieldcast.reconstruct.segments.segmenter import open_segmenter
from fieldcast.reconstruct.synth.files import Truth, read_truth
from fieldcast.reconstruct.synth.room import Room, draw_room
from fieldcast.reconstruct.synth.shooting import project
from fieldcast.reconstruct.synth.shots import SUPERSAMPLE

SEED = 0  # of the scene


def seconds() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def room_of(truth: Truth) -> Room:
    """The room that `synth` drew for a scene."""
    centers = torch.cat([truth.recording.cameras.centers, truth.views.cameras.centers])
    return draw_room(float(centers.abs().max()) + 0.4, np.random.default_rng([SEED, 2]))


def empty_room(room: Room, recording: Recording, t: int) -> tuple[Tensor, Tensor]:
    """Its picture [H, W, 3] without anybody, and where the middle of each pixel is [H, W, 3]."""
    camera = recording.cameras[[t]]
    width, height = camera.size[0].tolist()
    fine = camera.resized(width * SUPERSAMPLE, height * SUPERSAMPLE).image_rays(0)
    x, d = fine.origins.double().numpy(), fine.directions.double().numpy()
    far, side = room.meet(x, d)
    color = room.color(x + far[:, None] * d, side).reshape(height, SUPERSAMPLE, width, SUPERSAMPLE, 3).mean((1, 3))
    rays = camera.image_rays(0)
    x, d = rays.origins.double().numpy(), rays.directions.double().numpy()
    far, _ = room.meet(x, d)
    points = (x + far[:, None] * d).reshape(height, width, 3)
    return torch.from_numpy(color).float(), torch.from_numpy(points).float()


def seen_elsewhere(recording: Recording, labels: Tensor, points: Tensor) -> Tensor:
    """Which places of the room are seen, with nobody before them, in some frame: bool [H, W]."""
    height, width = labels.shape[1:]
    flat = points.reshape(1, -1, 3).expand(len(recording), -1, 3)
    x, y, depth = project(recording.cameras, flat).unbind(-1)
    inside = (depth > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = x.clamp(0, width - 1).long(), y.clamp(0, height - 1).long()
    open_ = labels[torch.arange(len(recording))[:, None], row, column] == 0
    return (inside & open_).any(0).reshape(height, width)


def psnr(off: Tensor) -> float:
    return -10 * math.log10(float(off.square().mean()))


def background_table(color: Tensor, truth: Truth) -> None:
    """color [T, H, W, 3]: what was found behind people."""
    recording, room = truth.recording, room_of(truth)
    labels = torch.stack(recording.labels or [])
    pairs = [empty_room(room, recording, t) for t in range(len(recording))]
    off = color - torch.stack([picture for picture, _ in pairs])
    elsewhere = torch.stack([seen_elsewhere(recording, labels, points) for _, points in pairs])
    print(f"background, where nobody stands: {psnr(off[labels == 0]):.1f} dB")
    print(f"background, behind people, seen in another frame: {psnr(off[(labels > 0) & elsewhere]):.1f} dB")
    unseen = (labels > 0) & ~elsewhere
    print(f"background, never seen: {psnr(off[unseen]):.1f} dB ({float(unseen.float().mean()):.1%} of pixels)")


def mask_table(recording: Recording, truth: Truth, told: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    masks = masks_of(torch.stack(truth.recording.labels or []), len(recording.people))
    for name, behind in (("grabcut, moving camera", None), ("grabcut, told the background", told)):
        found = who_is_where(recording, recording.people, open_segmenter("grabcut", recording, behind=behind))
        print(f"mask IoU of {name}: {agreement(found > 0.5, masks).mean()['iou']:.3f}")


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--background", type=Path, help="a field file, instead of one that is fitted")
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    given, truth = read_recording(options.folder), read_truth(options.folder)
    begun = replace(given, people=tuple(smoothed(person).person for person in given.people))
    before = seconds()
    behind = behind_of(begun, options.background)
    assert behind is not None and behind.told is not None, "expected a camera that moves"
    print(f"background: {seconds() - before:.0f} CPU seconds")
    background_table(behind.color, truth)
    mask_table(begun, truth, behind.told)
    before = seconds()
    fitted = fit_people(begun, Plan(options.steps, background=options.background))
    print(f"people, {options.steps} steps, and the background: {seconds() - before:.0f} CPU seconds")
    looks = [rendered(fitted.avatars, given.cameras, t, t) for t in range(len(given))]
    pictures = torch.stack([look.over(behind) for look, behind in zip(looks, fitted.behind, strict=True)])
    labels = torch.stack([look.labels for look in looks])
    masks = [masks_of(x, len(given.people)) for x in (labels, torch.stack(truth.recording.labels or []))]
    print(f"mask IoU of what was fitted: {agreement(*masks).mean()['iou']:.3f}")
    frames = torch.stack(given.frames).float() / 255
    off = pictures - frames
    print(f"whole pictures: {psnr(off):.1f} dB, people {psnr(off[masks[1].any(1)]):.1f} dB")
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for t in range(0, len(given), 5):
            row = torch.cat([frames[t], pictures[t], fitted.behind[t]], 1)
            save_png(row, options.pictures / f"{t:04d}.png", True)
    print(f"\n{measure.machine()}")


if __name__ == "__main__":
    fieldcast.prepare()
    main()
