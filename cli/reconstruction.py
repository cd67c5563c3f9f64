"""`reconstruct`: several people from one video, as a layered scene."""

from __future__ import annotations

import click

from fieldcast.cli.groups import Verb
from fieldcast.cli.people import evaluate, frame, run
from fieldcast.cli.recording import check
from fieldcast.cli.synthesis import synth


@click.group(cls=Verb, own="run", takes="INPUT OUT", context_settings={"help_option_names": ["-h", "--help"]})
def reconstruct() -> None:
    """Several people from one video: each as a field that moves, with what is behind them.

    INPUT is a video, a folder of images, or a scene.json or its folder (docs/recordings.md). OUT is a folder: animated
    GLBs, films, masks, refined poses and a report (docs/reconstruct.md). OUT.unfinished has a preview meanwhile.

    \b
    fieldcast reconstruct check dance/                what is odd about a recording, before anything is made of it
    fieldcast reconstruct dance/ people --budget 20   in about so many minutes; --resume goes on after Ctrl-C
    fieldcast reconstruct frame people 17 frame.safetensors   everybody at a frame as a field
    fieldcast reconstruct synth pair                  people in a room whose truth is known
    fieldcast reconstruct eval people pair            how near people are to that
    """


for command in (run, check, synth, frame, evaluate):
    reconstruct.add_command(command)
