"""Checks of what a scene file says: each fault is one line with the file, the place in it, what was expected and found.

A `Node` is a value of a JSON file together with its place, such as `frames[3].transform_matrix`.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float64

from fieldcast.errors import InputError

# How far the entries of R^T R may be from those of the identity: files write poses with five digits or more.
ROTATION_TOLERANCE = 1e-3
MISSING: Any = object()


def describe(value: Any) -> str:
    """A value of a JSON file in a few words, for the `found` half of a message."""
    if value is MISSING:
        return "nothing"
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Node:
    """A value of the JSON file `file` at the place `at`."""

    file: Path
    value: Any
    at: str = ""

    def fail(self, expected: str, found: str | None = None, hint: str = "") -> NoReturn:
        """Raises the one line about this value. hint: what to do next."""
        place = f"{self.file}: {self.at}" if self.at else str(self.file)
        message = f"{place}: expected {expected}, found {describe(self.value) if found is None else found}"
        raise InputError(f"{message}; {hint}" if hint else message)

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def __getitem__(self, key: str) -> Node:
        """The member `key` of an object; one that is not there is a node too, whose checks say so."""
        value = self.value.get(key, MISSING) if isinstance(self.value, dict) else MISSING
        return Node(self.file, value, f"{self.at}.{key}" if self.at else key)

    def items(self, what: str) -> list[Node]:
        """The entries of a list; `what` names them in the message."""
        if not isinstance(self.value, list):
            self.fail(f"a list of {what}")
        return [Node(self.file, value, f"{self.at}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            self.fail("a text")
        return self.value

    def number(self, default: float | None = None) -> float:
        """A finite number; `default` where nothing is written."""
        if self.value is MISSING and default is not None:
            return default
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            self.fail("a number")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail("a finite number", str(number))
        return number

    def positive(self) -> float:
        number = self.number()
        if number <= 0:
            self.fail("a number above 0")
        return number


def read_json(path: Path) -> Node:
    """The object in a JSON file. A byte order mark is accepted; NaN and Infinity, which JSON does not have, are not."""
    try:
        return parse_json(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: expected a readable JSON file, found: {error.strerror}") from None


def parse_json(path: Path, data: bytes) -> Node:
    """The object in the JSON text `data`, which is or is part of the file `path`."""

    def refuse(token: str) -> NoReturn:
        raise InputError(f"{path}: expected finite numbers, found {token}; write the file again without it")

    if not data.strip():
        raise InputError(f"{path}: expected a JSON object, found an empty file")
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected JSON in UTF-8, found other bytes at position {error.start}") from None
    except json.JSONDecodeError as error:
        found = f"{error.msg.lower()} at line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: expected JSON, found {found}; the file may be cut short") from None
    except (RecursionError, ValueError):
        raise InputError(f"{path}: expected JSON, found lists nested too deeply or a number too long") from None
    node = Node(path, value)
    if not isinstance(value, dict):
        node.fail("a JSON object")
    return node


def read_pose(node: Node, frame: str) -> Float64[np.ndarray, "3 4"]:
    """A world_from_camera matrix, 3x4 or 4x4. frame: the name of its image, for the message."""
    rows = node.items("3 or 4 rows")
    if len(rows) not in (3, 4) or any(not isinstance(row.value, list) or len(row.value) != 4 for row in rows):
        shapes = [len(row.value) if isinstance(row.value, list) else row.value for row in rows]
        lengths = sorted({str(shape) for shape in shapes})
        node.fail("a 3x4 or 4x4 matrix", f"{len(rows)} rows of {' and '.join(lengths) or 'nothing'} ({frame})")
    matrix = np.array([[entry.number() for entry in row.items("4 numbers")] for row in rows])
    if len(rows) == 4 and np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-4:
        node.fail("a last row of 0 0 0 1", f"{' '.join(f'{v:g}' for v in matrix[3])} ({frame})")
    fault = rotation_fault(matrix[:3, :3])
    if fault:
        node.fail("a rotation and a translation (world from camera)", f"{fault} ({frame})")
    return matrix[:3]


def rotation_fault(rotation: Float64[np.ndarray, "3 3"]) -> str:
    """What keeps a matrix from being a rotation, in words; empty when it is one."""
    if not np.isfinite(rotation).all():
        return "entries that are not finite"
    with np.errstate(over="ignore", invalid="ignore"):
        gram, det = rotation.T @ rotation, float(np.linalg.det(rotation))
    scale = float(np.cbrt(abs(det)))
    if not scale > 1e-6 * np.abs(rotation).max():
        return "a singular matrix"
    if not np.abs(gram / scale**2 - np.eye(3)).max() <= ROTATION_TOLERANCE:
        return "columns that are not at right angles, or not of one length"
    if np.abs(gram - np.eye(3)).max() > ROTATION_TOLERANCE:
        return f"a rotation scaled by {scale:.4g}"
    return "a mirrored (left-handed) frame" if det < 0 else ""


def find_image(node: Node, root: Path, allow_outside: bool) -> Path:
    """Where the image named by `node` lies; the path may not exist, and its suffix may be left out.

    A name that leads out of `root` is refused: a scene from a stranger has no business with other files.
    Links inside `root` are followed, since the person who has the data made them.
    """
    name = node.text().replace("\\", "/")
    if not name.isprintable():
        node.fail("a file name without control characters")
    path = Path(os.path.normpath(root / name))
    if not allow_outside and not path.is_relative_to(Path(os.path.normpath(root))):
        node.fail(f"an image inside {root}", json.dumps(name), "pass --allow-outside if you trust this file")
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES if path.name)]
    return next((c for c in candidates if os.path.isfile(c)), path)  # noqa: PTH113 (never raises on odd names)


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".PNG", ".JPG", ".JPEG")


def require_images(file: Path, names: Sequence[str], paths: Sequence[Path]) -> None:
    """All images are there, or one line that lists the first five that are not, and how many there are."""
    missing = [name for name, path in zip(names, paths, strict=True) if not os.path.isfile(path)]  # noqa: PTH113
    if missing:
        rest = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(
            f"{file}: frames[].file_path: expected {len(names)} images, found {len(names) - len(missing)}; "
            f"missing: {', '.join(missing[:5])}{rest}"
        )


def duplicate_warnings(file: Path, names: Iterable[str]) -> list[str]:
    """A line for each image that several frames name."""
    counts = Counter(names)
    return [f"{file}: {name} is named by {count} frames" for name, count in counts.items() if count > 1]
