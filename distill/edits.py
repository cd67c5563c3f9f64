"""What can be asked of an edit, and how it is typed.

    --crop "x0,y0,z0,x1,y1,z1"                     all but the box goes
    --erase "x0,y0,z0,x1,y1,z1"                    what is in the box goes
    --move "x0,y0,z0,x1,y1,z1 by dx,dy,dz"         what is in the box goes elsewhere
    --add "FILE by dx,dy,dz"                       another field comes in

`turn DEGREES` and `scale FACTOR` may follow the last two: about the centre of the box that is moved, or of the added
field's box, and about the scene's up. All boxes are places in the field as it was before the edit: what is cropped off
or erased is not moved, and what was moved or added is neither cropped nor erased.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fieldcast.errors import InputError
from fieldcast.fields.box import Box, numbers
from fieldcast.fields.field import Field
from fieldcast.fields.motion import Motion
from fieldcast.fields.space import Vector3

PLACE = re.compile(
    r"(?P<what>\S|\S.*?\S)(?:\s+by\s+(?P<by>\S.*?))?(?:\s+turn\s+(?P<turn>\S+))?(?:\s+scale\s+(?P<scale>\S+))?"
)


@dataclass(frozen=True)
class Place:
    """Where something goes. by: a shift in world units. turn: degrees about up, anticlockwise from above."""

    by: Vector3 = (0.0, 0.0, 0.0)
    turn: float = 0.0
    scale: float = 1.0

    def motion(self, pivot: Vector3, up: Vector3) -> Motion:
        """Turning and scaling leave `pivot` where it is."""
        return Motion.about(pivot, up, turn=self.turn, scale=self.scale, by=self.by)


@dataclass(frozen=True)
class Move:
    """What is in `box` goes to `place`."""

    box: Box
    place: Place


@dataclass(frozen=True, eq=False)
class Addition:
    """A field that comes in at `place`."""

    field: Field
    place: Place


@dataclass(frozen=True, eq=False)
class Edits:
    """All that is to be changed of a field. Boxes are places in it as it was before."""

    crop: Box | None = None
    erase: tuple[Box, ...] = ()
    moves: tuple[Move, ...] = ()
    additions: tuple[Addition, ...] = ()

    def boxes(self) -> list[tuple[str, Box]]:
        """Every box and what it is for."""
        crop = [] if self.crop is None else [("crop", self.crop)]
        return [*crop, *(("erase", box) for box in self.erase), *(("move", move.box) for move in self.moves)]

    def removes_alone(self) -> bool:
        """Whether nothing is moved or added."""
        return not self.moves and not self.additions


def parsed_box(option: str, text: str) -> Box:
    try:
        return Box.parse(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None


def parsed_move(text: str) -> Move:
    """`BOX by dx,dy,dz turn DEGREES scale FACTOR`; at least one of the three."""
    what, place = parsed_place("--move", text, "a box x0,y0,z0,x1,y1,z1")
    if place == Place():
        raise InputError(f"--move {text}: expected `by dx,dy,dz`, `turn DEGREES` or `scale FACTOR` after the box")
    return Move(parsed_box("--move", what), place)


def parsed_addition(text: str) -> tuple[Path, Place]:
    """`FILE by dx,dy,dz turn DEGREES scale FACTOR`, all but the file optional."""
    what, place = parsed_place("--add", text, "a field file")
    return Path(what), place


def parsed_place(option: str, text: str, what: str) -> tuple[str, Place]:
    """What stands before the place, and the place."""
    found = PLACE.fullmatch(text.strip())
    if not found:
        raise InputError(f"{option}: expected {what}, found {text!r}")
    try:
        by = numbers(found["by"], 3, "a shift dx,dy,dz after `by`") if found["by"] is not None else [0.0] * 3
        turn = numbers(found["turn"] or "0", 1, "degrees after `turn`")[0]
        scale = numbers(found["scale"] or "1", 1, "a factor after `scale`")[0]
    except InputError as error:
        raise InputError(f"{option} {text:.200}: {error}") from None
    if not 1e-3 <= scale <= 1e3:
        raise InputError(f"{option} {text:.200}: expected a scale from 0.001 to 1000, found {scale:g}")
    return found["what"], Place((by[0], by[1], by[2]), turn, scale)
