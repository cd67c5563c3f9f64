"""`reconstruct`: several people from one video, as a layered scene."""

from __future__ import annotations

import click

from fieldcast.cli.recording import check


@click.group()
def reconstruct() -> None:
    """People in a video, as fields: what there is so far.

    \b
    fieldcast reconstruct check clip/ --out look/          what is odd about a recording, before anything is made of it
    """


for command in (check,):
    reconstruct.add_command(command)
