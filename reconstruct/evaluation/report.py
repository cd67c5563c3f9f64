"""All numbers of a reconstruction, as one nested dictionary that JSON can hold; units are in the keys.

docs/people-evaluation.md says what each number is. A number that cannot be had is None: nobody was there to measure.

Letters: T frames, P people.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.evaluation import motions
from fieldcast.reconstruct.evaluation.closeness import MM, Overlap, overlap
from fieldcast.reconstruct.evaluation.people import Found, Matching, Moving, Truth, check, matched
from fieldcast.reconstruct.evaluation.pictures import counts, mask_numbers, mean, picture_numbers
from fieldcast.reconstruct.evaluation.solids import VOXEL
from fieldcast.reconstruct.evaluation.surfaces import ALIGNED_BY, SAMPLES, Shape, aligned, compare
from fieldcast.reconstruct.recordings.recording import Person, Recording

__all__ = ["Found", "Moving", "Truth", "evaluate"]

Numbers = dict[str, Any]
Surfaces = Callable[[int], Sequence[Mesh | None]]


def evaluate(
    truth: Truth, found: Found, frames: Sequence[int] | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """How near what was found is to the truth, over some frames or all.

    The same truth and result give the same numbers: points are drawn anew in each frame, by its number.
    """
    check(truth, found)
    chosen = list(range(len(truth.recording))) if frames is None else sorted(set(frames))
    if not chosen or chosen[0] < 0 or chosen[-1] >= len(truth.recording):
        raise InputError(f"frames: expected numbers from 0 to {len(truth.recording) - 1}, found {frames}")
    match = matched(truth.recording, found.recording)
    return {
        "settings": {"frames": len(chosen), "samples": SAMPLES, "voxel_cm": 100 * VOXEL, "aligned_by": ALIGNED_BY},
        "people": _people(truth, found, match),
        "surfaces": _surfaces(truth, found, match, chosen, progress),
        "poses": _both(motions.poses, truth.recording, found, match, chosen),
        "pairs": _pairs(truth, found, match, chosen),
        "masks": _masks(truth.recording, found.recording, match, chosen),
        "pictures": _pictures(truth.recording, found.pictures, chosen),
        "views": _pictures(truth.views, found.views, range(len(truth.views or ()))),
    }


def _people(truth: Truth, found: Found, match: Matching) -> Numbers:
    """Who was found as whom, who was not, and who is not there in truth."""
    true, other = truth.recording.people, found.recording.people
    return {
        "matched_by": match.by,
        "found_as": {true[i].name: other[j].name for i, j in match.pairs},
        "missing": [p.name for i, p in enumerate(true) if i not in [pair[0] for pair in match.pairs]],
        "extra": [p.name for j, p in enumerate(other) if j not in [pair[1] for pair in match.pairs]],
    }


def _both(
    measure: Callable[..., Numbers], truth: Recording, found: Found, match: Matching, frames: list[int]
) -> Numbers:
    """Of what was found, and of what it began with."""
    numbers = {"found": measure(truth, found.recording, match, frames)}
    if found.given is not None:
        numbers["given"] = measure(truth, found.given, matched(truth, found.given), frames)
    return numbers


def _surfaces(truth: Truth, found: Found, match: Matching, frames: list[int], progress: Progress) -> Numbers:
    """Of what was found; and, to see whether that is better, of bodies without clothes: as they were refined, as they
    were given, and as they are in truth.
    """
    recording, every = truth.recording, Matching(tuple((i, i) for i in range(len(truth.recording.people))), "name")
    rows: dict[str, tuple[Matching, Surfaces]] = {
        "found": (match, found.meshes),
        "found_body": (match, _bodies(found.recording)),
        "true_body": (every, _bodies(recording)),
    }
    if found.given is not None:
        rows["given_body"] = (matched(recording, found.given), _bodies(found.given))
    seen: dict[str, dict[str, list[Numbers]]] = {row: {p.name: [] for p in recording.people} for row in rows}
    for done, t in enumerate(frames):
        progress(done, len(frames), "measuring surfaces")
        generator = torch.Generator().manual_seed(t)
        shapes = [Shape.of(truth.surfaces[p.name].at(t), generator, SAMPLES) for p in recording.people]
        for row, (pairs, meshes) in rows.items():
            there = meshes(t)
            for i, j in pairs.pairs:
                if recording.people[i].present[t]:
                    name = recording.people[i].name
                    seen[row][name].append(_surface(shapes[i], there[j], generator, f"{name} in frame {t}"))
    progress(len(frames), len(frames), "measuring surfaces")
    return {row: _people_and_mean({n: _means(f) for n, f in people.items() if f}) for row, people in seen.items()}


def _bodies(recording: Recording) -> Surfaces:
    """The surfaces of people without clothes, where they are present."""

    def at(t: int) -> list[Mesh | None]:
        return [_body(person, t) if person.present[t] else None for person in recording.people]

    return at


def _body(person: Person, t: int) -> Mesh:
    return Mesh(person.posed([t]).vertices[0].double().numpy(), person.body.faces.numpy())


def _surface(truth: Shape, mesh: Mesh | None, generator: torch.Generator, where: str) -> Numbers:
    """Of one person in one frame. Nothing that was found there shares no volume with the truth, and has no distance."""
    if mesh is not None and not np.isfinite(mesh.vertices).all():
        raise InputError(f"found: expected finite vertices, found NaN or infinity: {where}")
    shape = None if mesh is None else Shape.of(mesh, generator, SAMPLES)
    if shape is None or not len(shape.samples.points):
        return {"found_share": 0.0, "v_iou": 0.0, "aligned": {"v_iou": 0.0}}
    try:
        return {"found_share": 1.0, **compare(truth, shape), "aligned": compare(truth, aligned(truth, shape))}
    except InputError as error:  # it is too large
        raise InputError(f"{error}: {where}") from None


def _pairs(truth: Truth, found: Found, match: Matching, frames: list[int]) -> Numbers:
    """Of people and each other: depth order and contact of bodies, gaps and penetration of surfaces with clothes."""
    recording = truth.recording
    every = Matching(tuple((i, i) for i in range(len(recording.people))), "name")
    numbers = _both(motions.pairs, recording, found, match, frames)
    numbers["truth"] = motions.pairs(recording, recording, every, frames)
    true: list[Overlap] = []
    other: list[Overlap] = []
    for t in frames:
        there = found.meshes(t)
        for (i, j), (k, m) in itertools.combinations(match.pairs, 2):
            a, b = recording.people[i], recording.people[k]
            one, two = there[j], there[m]
            if a.present[t] and b.present[t] and one is not None and two is not None:
                true.append(overlap(truth.surfaces[a.name].at(t), truth.surfaces[b.name].at(t)))
                other.append(overlap(one, two))
    numbers["truth"] |= _overlaps(true)
    wrong = mean(MM * abs(a.gap - b.gap) for a, b in zip(true, other, strict=True) if np.isfinite([a.gap, b.gap]).all())
    numbers["found"] |= {**_overlaps(other), "gap_error_mm": wrong}
    return numbers


def _overlaps(every: list[Overlap]) -> Numbers:
    """Over all frames and pairs: shares of all vertices, and the mean over those that are inside."""
    total = Overlap(sum(o.vertices for o in every), sum(o.inside for o in every), sum(o.depth for o in every), 0.0)
    depth, share = (total.depth_mm, total.share_percent) if every else (None, None)
    return {"penetration_mm": depth, "penetration_percent": share, "gap_mm": mean(MM * o.gap for o in every)}


def _masks(truth: Recording, found: Recording, match: Matching, frames: list[int]) -> Numbers | None:
    """Of people's labels; None where either has none."""
    if truth.labels is None or found.labels is None:
        return None
    people = {}
    for i, j in match.pairs:
        pairs = [(truth.labels[t] == i + 1, found.labels[t] == j + 1) for t in frames]
        people[truth.people[i].name] = mask_numbers(counts(a, b) for a, b in pairs)
    return _people_and_mean(people)


def _pictures(truth: Recording | None, found: Sequence[Tensor] | None, frames: Iterable[int]) -> Numbers | None:
    """The means over pictures; None where there are none."""
    if truth is None or found is None:
        return None
    labels = truth.labels
    every = [picture_numbers(truth.frames[t], found[t], labels[t] > 0 if labels else None) for t in frames]
    return {"pictures": len(every), **_means(every)}


def _people_and_mean(people: dict[str, Numbers]) -> Numbers:
    """Each person's numbers, and their mean, in which all people count the same."""
    return {"mean": _means(list(people.values())), "people": people}


def _means(rows: Sequence[Numbers]) -> Numbers:
    """Key by key, of those rows that have the number; dictionaries within likewise."""
    found: Numbers = {}
    for key in dict.fromkeys(itertools.chain.from_iterable(rows)):
        values = [row[key] for row in rows if row.get(key) is not None]
        if values and isinstance(values[0], dict):
            found[key] = _means(values)
        elif not values or not isinstance(values[0], str):
            found[key] = mean(values)
    return found
