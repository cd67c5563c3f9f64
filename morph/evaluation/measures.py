"""All numbers of one morph, by name: `own/` of frames where the method puts them, `equal/` of frames at equal steps.

docs/morph-evaluation.md defines each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.morph.colors import chroma
from fieldcast.morph.distance import distance
from fieldcast.morph.evaluation.fidelity import fidelity
from fieldcast.morph.evaluation.looks import efflite, flip, stages, summary
from fieldcast.morph.evaluation.plausibility import jump, likeness, pieces
from fieldcast.morph.evaluation.smoothness import smoothness
from fieldcast.morph.evaluation.surface import Surface, surface
from fieldcast.morph.evaluation.views import views
from fieldcast.morph.volumes import Volume

Numbers = dict[str, float | None]
GREY = 5.0  # of chroma: objects with less have no colour that could be lost
MIDDLE = (1 / 3, 2 / 3)  # of the way, between which a frame is a middle one


@dataclass(frozen=True, eq=False)
class Seen:
    """An object with its pictures, and what EffLite says of them (nothing if it is not asked)."""

    volume: Volume
    views: Float[Tensor, "v h w 3"]
    stages: list[Tensor]


DISTANCES: dict[str, Callable[[Seen, Seen], float]] = {
    "3D": lambda a, b: distance(a.volume, b.volume),
    "FLIP": lambda a, b: flip(a.views, b.views),
    "EffLite": lambda a, b: efflite(a.stages, b.stages),
}
"""Of two frames, by name. Only the first takes no extra."""


def seen(volume: Volume, distances: Iterable[str]) -> Seen:
    """An object, looked at as far as some distances need."""
    unknown = [name for name in distances if name not in DISTANCES]
    if unknown:
        raise InputError(f"distance {unknown[0]}: expected one of {', '.join(DISTANCES)}")
    images = views(volume)
    return Seen(volume, images, stages(images) if "EffLite" in distances else [])


def evenness(frames: list[Seen], distances: Iterable[str], prefix: str) -> Numbers:
    """Smoothness by each distance."""
    found: Numbers = {}
    for name in distances:
        for key, value in vars(smoothness(frames, DISTANCES[name])).items():
            found[f"{prefix}/{name}/{key}"] = value
    return found


def ends(frames: list[Seen], given: tuple[Seen, Seen]) -> Numbers:
    """Fidelity of the first frame to the first object and of the last to the second, the mean of both."""
    found = [
        vars(fidelity(a.volume, b.volume, a.views, b.views))
        for a, b in zip(given, (frames[0], frames[-1]), strict=True)
    ]
    return {f"ends/{key}": mean(one[key] for one in found) for key in found[0]}


def objects(volumes: list[Volume], known: UInt8[np.ndarray, "n bytes"]) -> Numbers:
    """Plausibility of objects, the mean of all."""
    hang = [pieces(volume) for volume in volumes]
    return {
        "objects/likeness": mean(likeness(volume, known) for volume in volumes),
        "objects/pieces": mean(float(p.count) for p in hang),
        "objects/largest": mean(p.largest for p in hang),
    }


def surfaces(volumes: list[Volume], given: list[Volume]) -> Numbers:
    """Surfaces of frames over the mean of those of the objects given."""
    found, own = ([surface(volume.mesh()) for volume in some] for some in (volumes, given))

    def relative(of: Callable[[Surface], float | None]) -> float | None:
        return over(mean(map(of, found)), mean(map(of, own)))

    return {
        "surface/bend": relative(lambda s: s.bend),
        "surface/area": relative(lambda s: s.area),
        "surface/tight": mean(float(s.tight) for s in found),
    }


def colors(frames: list[Volume], given: list[Volume]) -> Numbers:
    """Chroma of the middle frames over the mean of that of the objects given; None: these are grey."""
    last = len(frames) - 1
    middle = [frame for i, frame in enumerate(frames) if MIDDLE[0] <= i / last <= MIDDLE[1]]
    own = mean(map(chroma, given))
    known = own if own is not None and own >= GREY else None
    return {"color/chroma": over(mean(map(chroma, middle)), known)}


def of_morph(
    own: list[Seen],
    equal: list[Seen],
    given: tuple[Seen, Seen],
    known: UInt8[np.ndarray, "n bytes"],
    distances: tuple[str, ...],
) -> Numbers:
    """Everything but what it cost. Plausibility, surface and colour are of `equal` without its ends."""
    frames, inputs = [frame.volume for frame in equal], [end.volume for end in given]
    return {
        **evenness(own, distances, "own"),
        **evenness(equal, distances, "equal"),
        **ends(own, given),
        **objects(frames[1:-1], known),
        "objects/jump": jump(frames, (inputs[0], inputs[1])),
        **surfaces(frames[1:-1], inputs),
        **colors(frames, inputs),
    }


def features(frames: list[Seen]) -> Float[Tensor, "n e"]:
    """EffLite's summaries of all views of frames but their ends."""
    return torch.cat([summary(frame.stages) for frame in frames[1:-1]])


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that there are."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def over(value: float | None, whole: float | None) -> float | None:
    return None if value is None or not whole else value / whole
