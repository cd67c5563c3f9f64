"""`reconstruct check`: what is odd about a recording of people, before anything is made of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldcast.cli import options
from fieldcast.console import Console

if TYPE_CHECKING:
    from fieldcast.fields.progress import Progress
    from fieldcast.reconstruct.poses.beginning import Beginning, Sure
    from fieldcast.reconstruct.recordings.check import PersonCheck
    from fieldcast.reconstruct.recordings.recording import Recording


@click.command()
@click.argument("scene", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="A folder for pictures of the bodies over the frames.")
@click.option("--body", default=None, metavar="FILE", help="The SMPL file that poses are of, where these do not say.")
@click.option("--poses", multiple=True, type=click.Path(path_type=Path), help="A file of poses (may be repeated).")
@click.option("--cameras", type=click.Path(path_type=Path), help="A transforms.json with a camera for each frame.")
@click.option("--people", type=click.IntRange(1, 20), help="Where nobody's poses are known: begin with so many people.")
@click.option("--keypoints", type=click.Path(path_type=Path), help="Begin with these: COCO's JSON, OpenPose's folder.")
@options.DOWNSCALE
@options.OUTSIDE
@options.FORCE
@options.reporting
def check(
    console: Console,
    scene: Path,
    out: Path | None,
    body: str | None,
    poses: tuple[Path, ...],
    cameras: Path | None,
    people: int | None,
    keypoints: Path | None,
    downscale: int,
    allow_outside: bool,
    force: bool,
) -> None:
    """Compares the bodies of a recording with its masks and says what is odd, before anything is trained.

    SCENE is a scene.json, a folder (of ours, MultiPly's, nerfstudio's, or of images) or a video. docs/recordings.md
    says what the numbers are.

    \b
    fieldcast reconstruct check clip/ --out look/
    fieldcast reconstruct check dance.mp4 --people 2 --out look/
    """
    from fieldcast.fields.files.atomic import check_folder_writable
    from fieldcast.reconstruct.recordings.check import check_recording
    from fieldcast.reconstruct.recordings.opening import Known, open_recording
    from fieldcast.reconstruct.recordings.overlays import overlays

    if out:
        check_folder_writable(out, force)
    with console.progress("check") as progress:
        recording = open_recording(scene, downscale, Known(body, poses, cameras), allow_outside, progress)
        begin = not recording.people and (people is not None or keypoints is not None)
        beginning = _begun(recording, people, keypoints, progress) if begin else None
        recording = beginning.recording if beginning else recording
        found = overlays(recording, out, force, progress) if out else check_recording(recording, progress=progress)
    _show(console, recording, found, beginning.sure if beginning else ())


def _begun(recording: Recording, people: int | None, keypoints: Path | None, progress: Progress) -> Beginning:
    """The recording with people who were begun with what there is."""
    from fieldcast.reconstruct.poses.beginning import begun
    from fieldcast.reconstruct.recordings.keypoints import read_keypoints

    known = read_keypoints(keypoints, len(recording)) if keypoints else None
    return begun(recording, people, progress, known)


def _show(console: Console, recording: Recording, found: list[PersonCheck], sure: tuple[Sure, ...] = ()) -> None:
    """Everything as JSON, or a table of the recording, one of the people, and a line for each thing that is odd."""
    from fieldcast.reconstruct.recordings.check import remarks

    odd = [*recording.warnings, *remarks(found)]
    if not found:
        odd.append(
            "nobody's poses are known: give them with --poses, name people in scene.json, or begin with --people N"
        )
    facts: dict[str, Any] = {
        "frames": len(recording),
        "size": "x".join(map(str, recording.cameras.size[0].tolist())),
        "fps": recording.fps,
        "camera": "stands still" if recording.static else "moves",
        "masks": "yes" if recording.labels is not None else "no",
        "people": len(found),
    }
    people = [check.to_json() for check in found]
    if console.json:
        begun = {"begun": [asdict(one) for one in sure]} if sure else {}
        console.emit_json({"source": recording.source, **facts, "people": people, **begun, "remarks": odd})
        return
    console.table(recording.source, facts)
    if found:
        columns = ("name", "height", "present", "overlap", "worst_overlap", "worst_frame", "hidden", "others")
        console.table("people", [{key: _cell(person[key]) for key in columns} for person in people])
    for line in [*(one.sentence for one in sure), *odd]:
        click.echo(line)


def _cell(value: Any) -> Any:
    return "-" if value is None else value
