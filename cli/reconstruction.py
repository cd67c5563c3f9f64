"""`reconstruct`: several people from one video, as a layered scene."""

from __future__ import annotations

import click

from fieldcast.cli.recording import check
from fieldcast.cli.synthesis import synth


@click.group()
def reconstruct() -> None:
    """People in a video, as fields: what there is so far.

    \b
    fieldcast reconstruct synth pair                  people in a room whose truth is known
    fieldcast reconstruct check pair --out look/      what is odd about a recording, before anything is made of it
    """


for command in (check, synth):
    reconstruct.add_command(command)
