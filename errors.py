"""What can go wrong, in two kinds: the user's input is wrong, or the work failed."""

from __future__ import annotations


class FieldcastError(Exception):
    """The work could not be done. One line, written for the person who asked for it."""

    exit_code = 1


class InputError(FieldcastError):
    """A file, an option or a value that was given is wrong: says which, what was expected and what was found."""

    exit_code = 2
