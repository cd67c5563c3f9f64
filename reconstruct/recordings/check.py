"""What can be wrong with a recording, seen before anything is trained: bodies are compared with the masks, and moves
with what people can do.

For two people whose labels disagree with the masks there are two explanations: their names are exchanged, or who of
them stands before the other. The one that agrees with more pixels is reported, if it agrees with clearly more than
what the recording says.

Letters: T frames, P people, H by W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, pairwise, product
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.fields.progress import Progress, silent
from fieldcast.reconstruct.bodies.body import rotations
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.recordings.silhouettes import Silhouettes, silhouettes

SIDE = 384  # pixels along the longer side of what is compared
SPEED = 12.0  # m/s: nobody runs faster
TURN = 1440.0  # degrees a second: four times around; only skaters are faster
HEIGHT = (0.7, 2.4)  # metres; outside of them the units are not metres
DOUBLED = (0.8, 0.3)  # overlap of silhouettes, and metres between places: more of the one and less of the other is odd
MARGIN = 0.05  # of the pixels of two masks: how many more an explanation must agree with


@dataclass
class PersonCheck:
    """What was found of a person; lists hold the numbers of frames.

    height: of the body at rest, metres. overlaps: intersection over union of what is seen of the body and their mask,
    by frame, where there is either. hidden: the share of the body's silhouette that others hide, mean. others: the
    largest intersection over union of the whole silhouettes of this body and another one. swapped: names look exchanged
    with somebody else's. order: they look to stand before or behind the wrong one. outside: no part of the body is in
    the picture. unposed: the mask shows them, but they are not present. doubled: another body stands in the same place.
    fast, turning: moves since the last frame in which they were present that nobody makes.
    """

    name: str
    height: float
    present: int = 0
    overlaps: dict[int, float] = field(default_factory=dict)
    hidden: float = 0.0
    others: float = 0.0
    swapped: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    outside: list[int] = field(default_factory=list)
    unposed: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    fast: list[int] = field(default_factory=list)
    turning: list[int] = field(default_factory=list)

    @property
    def mean_overlap(self) -> float | None:
        return sum(self.overlaps.values()) / len(self.overlaps) if self.overlaps else None

    @property
    def worst(self) -> int | None:
        """The frame of the least overlap."""
        return min(self.overlaps, key=lambda frame: self.overlaps[frame]) if self.overlaps else None

    def to_json(self) -> dict[str, Any]:
        worst = self.worst
        return {
            "name": self.name,
            "height": self.height,
            "present": self.present,
            "overlap": self.mean_overlap,
            "worst_overlap": None if worst is None else self.overlaps[worst],
            "worst_frame": worst,
            "hidden": self.hidden,
            "others": self.others,
            **{key: getattr(self, key) for key in REMARKS},
        }


REMARKS = {
    "swapped": "the names of two people look exchanged",
    "order": "stands before or behind the wrong person",
    "outside": "no part of the body is in the picture",
    "unposed": "the mask shows somebody whose pose is not known",
    "doubled": "stands where somebody else stands: one person under two names?",
    "fast": f"moves faster than {SPEED:g} m/s",
    "turning": f"turns faster than {TURN:g} degrees a second",
}


def check_recording(
    recording: Recording,
    drawn: Callable[[int, Silhouettes], None] = lambda frame, seen: None,
    progress: Progress = silent,
) -> list[PersonCheck]:
    """Looks at every frame. drawn: is given each frame's silhouettes, of at most SIDE pixels a side."""
    found = [_moves(person, recording.fps) for person in recording.people]
    size = reduced_size(recording)
    for frame in range(len(recording)):
        seen = silhouettes(recording, frame, size)
        mask = None if recording.labels is None else reduced(recording.labels[frame], size)
        _compare(found, recording.people, frame, seen, mask)
        drawn(frame, seen)
        progress(frame + 1, len(recording), "looking at bodies")
    for check in found:
        check.hidden /= max(1, check.present - len(check.outside))
    return found


def reduced_size(recording: Recording) -> tuple[int, int]:
    """Width and height of at most SIDE pixels in the shape of the frames."""
    width, height = recording.cameras.size[0].tolist()
    scale = min(1.0, SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def reduced(labels: UInt8[Tensor, "h w"], size: tuple[int, int]) -> UInt8[Tensor, "h2 w2"]:
    """The labels in the middles of larger pixels."""
    rows, columns = (
        ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new)).long()
        for old, new in zip(labels.shape, size[::-1], strict=True)
    )
    return labels[rows][:, columns]


def remarks(found: list[PersonCheck]) -> Iterator[str]:
    """A line for each thing that is wrong with somebody."""
    for check in found:
        if not HEIGHT[0] < check.height < HEIGHT[1]:
            yield f"{check.name}: is {check.height:.2f} m tall: are these numbers in metres?"
        for key, meaning in REMARKS.items():
            frames = getattr(check, key)
            if frames:
                yield f"{check.name}: {meaning} in {len(frames)} of {check.present} frames: {spans(frames)}"


def spans(frames: list[int]) -> str:
    """Numbers in order, with runs drawn together.

    >>> spans([3, 4, 5, 9])
    '3-5, 9'
    """
    starts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(frames)) if b != a + 1), len(frames)]
    runs = [(frames[a], frames[b - 1]) for a, b in pairwise(starts) if b > a]
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def _compare(
    found: list[PersonCheck],
    people: tuple[Person, ...],
    frame: int,
    seen: Silhouettes,
    mask: UInt8[Tensor, "h w"] | None,
) -> None:
    """Adds what one frame says."""
    whole = seen.whole
    here = [bool(person.present[frame]) for person in people]
    for p, check in enumerate(found):
        size = int(whole[p].sum())
        if here[p] and not size:
            check.outside.append(frame)
        visible = seen.labels == p + 1
        check.hidden += 1 - int(visible.sum()) / size if size else 0.0
        if mask is not None:
            own = mask == p + 1
            if here[p] and bool((visible | own).any()):
                check.overlaps[frame] = overlap(visible, own)
            if not here[p] and bool(own.any()):
                check.unposed.append(frame)
    for p, q in combinations(range(len(found)), 2):
        verdicts = [explanation(seen, mask, p, q)] if mask is not None else []
        if bool(whole[p].any()) and bool(whole[q].any()):
            shared = overlap(whole[p], whole[q])
            apart = float((people[p].place[frame] - people[q].place[frame]).norm())
            found[p].others, found[q].others = max(found[p].others, shared), max(found[q].others, shared)
            verdicts += ["doubled"] if shared > DOUBLED[0] and apart < DOUBLED[1] else []
        for i, verdict in product((p, q), filter(None, verdicts)):
            frames = getattr(found[i], verdict)
            frames += [frame] if here[i] and frame not in frames else []


def overlap(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two sets of pixels that are not both empty."""
    return int((a & b).sum()) / int((a | b).sum())


def explanation(seen: Silhouettes, mask: UInt8[Tensor, "h w"], p: int, q: int) -> str:
    """Why the labels of two people disagree with the masks: `swapped`, `order`, or nothing if they hardly do."""
    both = seen.whole[p] & seen.whole[q]
    swapped = exchanged(seen.labels, p, q)
    reversed_ = torch.where(both, swapped, seen.labels)
    said, names, order = (_agreement(labels, mask, p, q) for labels in (seen.labels, swapped, reversed_))
    pixels = int(((mask == p + 1) | (mask == q + 1)).sum())
    if max(names, order) <= said + MARGIN * pixels:
        return ""
    return "swapped" if names > order else "order"


def exchanged(labels: UInt8[Tensor, "h w"], p: int, q: int) -> UInt8[Tensor, "h w"]:
    """The labels with two people's names exchanged."""
    table = torch.arange(256, dtype=torch.uint8)
    table[p + 1], table[q + 1] = q + 1, p + 1
    return table[labels.long()]


def _agreement(labels: UInt8[Tensor, "h w"], mask: UInt8[Tensor, "h w"], p: int, q: int) -> int:
    """How many pixels of two people's masks have their labels."""
    return int(((labels == mask) & ((mask == p + 1) | (mask == q + 1))).sum())


def _moves(person: Person, fps: float) -> PersonCheck:
    """What the numbers of a person say without looking at pictures."""
    rest, _ = person.body.at_rest(person.shape)
    tall = float(rest[:, 1].max() - rest[:, 1].min())
    check = PersonCheck(person.name, tall, present=int(person.present.sum()))
    there = person.present.nonzero()[:, 0].tolist()
    turns = rotations(person.pose[:, 0].double())
    for a, b in pairwise(there):
        seconds = (b - a) / fps
        if float((person.place[b] - person.place[a]).norm()) > SPEED * seconds:
            check.fast.append(b)
        if math.degrees(_angle(turns[a].T @ turns[b])) > TURN * seconds:
            check.turning.append(b)
    return check


def _angle(turn: Float[Tensor, "3 3"]) -> float:
    """The angle of a rotation matrix, 0 to pi."""
    return math.acos(max(-1.0, min(1.0, (float(turn.trace()) - 1) / 2)))
