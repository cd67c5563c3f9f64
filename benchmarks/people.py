"""People fitted to a synthetic recording, against its truth.

    fieldcast reconstruct synth out/pair
    .venv/bin/python benchmarks/people.py out/pair --steps 4000

smooths the poses that are given, fits people before a still background, and prints the tables of
docs/people-evaluation.md; beside them are the poses that were given and the bodies without clothes.
"""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import measure
import torch

import fieldcast
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.mesh import Mesh
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.people import look_at_people
from fieldcast.reconstruct.avatars.surface import rest_mesh
from fieldcast.reconstruct.evaluation.report import Found, Moving, Truth, evaluate
from fieldcast.reconstruct.evaluation.tables import table
from fieldcast.reconstruct.fitting.fit import Fitted, Plan, fit_people
from fieldcast.reconstruct.outputs.meshes import posed_meshes
from fieldcast.reconstruct.outputs.skin import skin_of
from fieldcast.reconstruct.poses.smoothing import smoothed
from fieldcast.reconstruct.recordings.files import read_recording
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.synth.files import read_truth

LOT = 1 << 13  # rays at a time


@torch.no_grad()
def pictures(fitted: Fitted, cameras: Cameras) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What the recording's cameras see, and who is where."""
    seen, labels = [], []
    for t in range(len(cameras)):
        rays, behind = cameras.image_rays(t), fitted.behind[min(t, len(fitted.behind) - 1)].reshape(-1, 3)
        colors, shares = [], []
        for first in range(0, len(rays), LOT):
            part = slice(first, first + LOT)
            lot = rays[part]
            layers = look_at_people(fitted.avatars, lot, torch.full((len(lot),), t))
            colors.append(layers.rgb + layers.transmittance[:, None] * behind[part])
            shares.append(torch.cat([layers.transmittance[:, None], layers.opacity], 1))
        width, height = cameras.size[t].tolist()
        seen.append((torch.cat(colors).clamp(0, 1) * 255).round().to(torch.uint8).reshape(height, width, 3))
        labels.append(torch.cat(shares).argmax(1).to(torch.uint8).reshape(height, width))
    return seen, labels


def moving(avatar: Avatar) -> dict[int, Mesh]:
    """The surface of somebody, frame by frame."""
    mesh, person = rest_mesh(avatar), avatar.person
    skin = skin_of(mesh, person.body.at_rest(person.shape)[0], person.body)
    return dict(posed_meshes(person, mesh, skin))


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--still", action="store_true", help="keep the poses that are given")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    given, truth = read_recording(options.folder), read_truth(options.folder)
    begun = replace(given, people=tuple(smoothed(person).person for person in given.people))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    fitted = fit_people(begun, Plan(options.steps, moving=not options.still))
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    seen, labels = pictures(fitted, given.cameras)
    surfaces = [moving(avatar) for avatar in fitted.avatars]
    found: Recording = replace(begun, people=tuple(a.person for a in fitted.avatars), labels=labels)
    report = evaluate(
        Truth(truth.recording, {s.name: Moving(s.vertices, s.faces) for s in truth.surfaces}),
        Found(found, lambda t: [surface.get(t) for surface in surfaces], seen, given=begun),
        range(0, len(given), 4),
    )
    print(table({f"{options.steps} steps": report}))
    print(f"\n{seconds:.0f} CPU seconds\n\n{measure.machine()}")


if __name__ == "__main__":
    fieldcast.prepare()
    main()
