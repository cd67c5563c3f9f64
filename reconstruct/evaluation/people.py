"""What is compared: the truth of a recording and what was found of it, and which person of one is which of the other.

Letters: T frames, V vertices, F faces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.mesh import Mesh
from fieldcast.reconstruct.recordings.recording import Person, Recording


@dataclass(frozen=True, eq=False)
class Moving:
    """A surface that moves, in the world, metres."""

    vertices: Float32[np.ndarray, "t v 3"]
    faces: Int64[np.ndarray, "f 3"]

    def at(self, frame: int) -> Mesh:
        return Mesh(self.vertices[frame].astype(np.float64), self.faces)


@dataclass(frozen=True, eq=False)
class Truth:
    """recording: with the people's true parameters, and labels where masks are to be measured. surfaces: of people by
    name, with clothes. views: pictures from elsewhere that the reconstruction has not seen, with labels where people
    alone are to be measured.
    """

    recording: Recording
    surfaces: Mapping[str, Moving]
    views: Recording | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """recording: with parameters as they were refined, and labels. meshes: for a frame, the surface of each person of
    `recording`, or None. pictures: of the recording's cameras; views: of the cameras of the truth's views. given: what
    the reconstruction began with, to see what it gained.
    """

    recording: Recording
    meshes: Callable[[int], Sequence[Mesh | None]]
    pictures: Sequence[UInt8[Tensor, "h w 3"]] | None = None
    views: Sequence[UInt8[Tensor, "h w 3"]] | None = None
    given: Recording | None = None


@dataclass(frozen=True)
class Matching:
    """pairs: numbers of people in truth and in what was found. by: `name` or `root`."""

    pairs: tuple[tuple[int, int], ...]
    by: str


def matched(truth: Recording, found: Recording) -> Matching:
    """By names where all of the truth's are there. Else by the mean distance of the root joints over the frames in
    which both are present, the least in sum (Kuhn 1955, the Hungarian method); people who share no frame are no pair.
    """
    names = [person.name for person in found.people]
    if all(person.name in names for person in truth.people):
        return Matching(tuple((i, names.index(p.name)) for i, p in enumerate(truth.people)), "name")
    from scipy.optimize import linear_sum_assignment

    apart = np.array([[_apart(a, b) for b in found.people] for a in truth.people])
    apart = apart.reshape(len(truth.people), len(found.people))
    far = 1e9  # metres: dearer than any pair that shares a frame
    rows, columns = linear_sum_assignment(np.where(np.isfinite(apart), apart, far))
    chosen = zip(rows.tolist(), columns.tolist(), strict=True)
    return Matching(tuple((i, j) for i, j in chosen if np.isfinite(apart[i, j])), "root")


def _apart(a: Person, b: Person) -> float:
    """The mean distance of two people's root joints, metres; infinity if they are never there together."""
    both = (a.present & b.present).nonzero()[:, 0].tolist()
    if not both:
        return float("inf")
    return float((a.posed(both).joints[:, 0] - b.posed(both).joints[:, 0]).norm(dim=-1).mean())


def check(truth: Truth, found: Found) -> None:
    """That both are of the same frames and people."""
    frames = len(truth.recording)
    for name, recording in (("found", found.recording), ("given", found.given)):
        if recording is not None and len(recording) != frames:
            raise InputError(f"{name}: expected {frames} frames as in truth, found {len(recording)}")
    for name, recording in (("truth", truth.recording), ("found", found.recording), ("given", found.given)):
        for person in () if recording is None else recording.people:
            _check_finite(person, name)
    for person in truth.recording.people:
        if person.name not in truth.surfaces:
            raise InputError(f"truth: expected a surface of {person.name!r}, found {sorted(truth.surfaces)}")
        if len(truth.surfaces[person.name].vertices) != frames:
            count = len(truth.surfaces[person.name].vertices)
            raise InputError(f"truth: expected {frames} frames of the surface of {person.name!r}, found {count}")
    if found.pictures is not None and len(found.pictures) != frames:
        raise InputError(f"pictures: expected {frames} as in truth, found {len(found.pictures)}")
    if found.views is not None and truth.views is not None and len(found.views) != len(truth.views):
        raise InputError(f"views: expected {len(truth.views)} as in truth, found {len(found.views)}")


def _check_finite(person: Person, where: str) -> None:
    """Where somebody is present."""
    here = person.at(person.present.nonzero()[:, 0].tolist())
    for key in ("shape", "pose", "place"):
        if not bool(getattr(here, key).isfinite().all()):
            raise InputError(f"{where}: expected finite numbers as the {key} of {person.name!r}, found NaN or infinity")
