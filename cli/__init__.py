"""The commands: each parses, calls one function and reports. Only click is imported before a command runs."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import click

from fieldcast.cli.conversion import compare, convert
from fieldcast.cli.editing import edit
from fieldcast.cli.fitting import evaluate, fit
from fieldcast.cli.inspection import info, validate
from fieldcast.cli.installation import demo, doctor
from fieldcast.cli.morphing import morph
from fieldcast.cli.reconstruction import reconstruct
from fieldcast.cli.rendering import render
from fieldcast.endings import main_guard
from fieldcast.process import prepare


class Ordered(click.Group):
    """Lists commands in the order of a day's work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


INTERRUPTED = (129, 130, 143)  # by SIGHUP, Ctrl-C and SIGTERM


@click.group(cls=Ordered, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fieldcast")
def cli() -> None:
    """Neural fields of any kind, and from any kind to any other.

    \b
    fieldcast demo                                         see it work, no data needed
    fieldcast fit lego/ lego.safetensors --kind hashgrid   posed images to a field
    fieldcast convert lego.safetensors lego-vm.safetensors --to vm
    fieldcast render lego-vm.safetensors lego.mp4
    fieldcast convert lego.safetensors lego.ply --to splats       Gaussian splats, and back
    fieldcast reconstruct dance/ people                    people in a video, as fields and animated GLBs
    """


for command in (fit, convert, edit, morph, reconstruct, evaluate, compare, render, info, validate, demo, doctor):
    cli.add_command(command)


def main() -> None:
    """The console script.

    Python waits for threads when it ends, and one that compiles kernels may wait for a lock that the interrupted one
    held and will never give back: work that was interrupted ends at once.
    """
    prepare()
    code = main_guard(cli)
    if code in INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
