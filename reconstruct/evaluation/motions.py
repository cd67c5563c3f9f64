"""The numbers of poses of a whole recording: person by person, and of people and each other.

Letters: T frames, J joints, V vertices, P people.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.evaluation.closeness import contact_mm, contacts
from fieldcast.reconstruct.evaluation.people import Matching
from fieldcast.reconstruct.evaluation.pictures import mean
from fieldcast.reconstruct.evaluation.poses import acceleration_m_s2, depth_relations, depths, position_mm, rooted
from fieldcast.reconstruct.recordings.recording import Person, Recording

Numbers = dict[str, Any]


def poses(truth: Recording, found: Recording, match: Matching, frames: list[int]) -> Numbers:
    """Each person's, and their mean."""
    people = {
        truth.people[i].name: person_numbers(truth.people[i], found.people[j], frames, truth.fps)
        for i, j in match.pairs
    }
    keys = ("found_share", "mpjpe_mm", "mpjpe_rooted_mm", "mve_mm", "mve_rooted_mm", "acceleration_m_s2")
    return {"mean": {key: mean(p[key] for p in people.values()) for key in keys}, "people": people}


def person_numbers(truth: Person, found: Person, frames: list[int], fps: float) -> Numbers:
    """Over the frames in which both are present. Of joints and vertices if both have the same body, or else of COCO's
    keypoints alone (`points` says which).
    """
    here = [t for t in frames if truth.present[t] and found.present[t]]
    true, guess = truth.posed(here), found.posed(here)
    same = alike(truth.body, found.body)
    a, b = (_array(p.joints if same else p.landmarks) for p in (true, guess))
    roots = _array(true.joints)[:, 0], _array(guess.joints)[:, 0]
    numbers = {
        "points": "joints" if same else "keypoints",
        "found_share": mean([len(here) / there]) if (there := sum(bool(truth.present[t]) for t in frames)) else None,
        "mpjpe_mm": position_mm(a, b),
        "mpjpe_rooted_mm": position_mm(rooted(a, roots[0]), rooted(b, roots[1])),
        "mve_mm": None,
        "mve_rooted_mm": None,
        "acceleration_m_s2": acceleration_m_s2(a, b, np.array(here, np.int64), fps),
    }
    if same:
        v, w = _array(true.vertices), _array(guess.vertices)
        numbers["mve_mm"] = position_mm(v, w)
        numbers["mve_rooted_mm"] = position_mm(rooted(v, roots[0]), rooted(w, roots[1]))
    return numbers


def pairs(truth: Recording, found: Recording, match: Matching, frames: list[int]) -> Numbers:
    """pcdr: the share of pairs in the right order of depth, seen from the truth's cameras. contact_mm: how far
    vertices of bodies are apart that touch in truth.
    """
    right, total = _depth_order(truth, found, match, frames)
    touching = [_contact(truth, found, one, other, frames) for one, other in itertools.combinations(match.pairs, 2)]
    known = [value for values in touching for value in values]
    return {
        "pcdr": right / total if total else None,
        "pcdr_pairs": total,
        "contact_mm": mean(known),
        "contact_frames": len(known),
    }


def _depth_order(truth: Recording, found: Recording, match: Matching, frames: list[int]) -> tuple[int, int]:
    if not match.pairs:
        return 0, 0
    people = [(truth.people[i], found.people[j]) for i, j in match.pairs]
    c2w = _array(truth.cameras.c2w[frames])
    true, guess = (
        depths(np.stack([_array(p[k].posed(frames).joints)[:, 0] for p in people], 1), c2w) for k in range(2)
    )
    present = np.stack([(a.present & b.present)[frames].cpu().numpy() for a, b in people], 1)
    return depth_relations(true, guess, present)


def _contact(
    truth: Recording, found: Recording, one: tuple[int, int], other: tuple[int, int], frames: list[int]
) -> list[float]:
    """Of two people, for each frame in which they touch in truth."""
    true, guess = [truth.people[i] for i in (one[0], other[0])], [found.people[j] for j in (one[1], other[1])]
    if not all(alike(a.body, b.body) for a, b in zip(true, guess, strict=True)):
        return []
    here = [t for t in frames if all(bool(person.present[t]) for person in (*true, *guess))]
    known: list[float] = []
    for t in here:
        a, b, c, d = (_array(person.posed([t]).vertices)[0] for person in (*true, *guess))
        away = contact_mm(c, d, contacts(a, b))
        known += [] if away is None else [away]
    return known


def alike(a: Body, b: Body) -> bool:
    """Whether vertices and joints of two bodies are the same ones."""
    return a.name == b.name and a.vertices.shape == b.vertices.shape and a.joint_names == b.joint_names


def _array(tensor: Tensor) -> Float64[np.ndarray, "..."]:
    array: Float64[np.ndarray, ...] = tensor.detach().cpu().double().numpy()
    return array
