"""Avatars from a recording: surfaces, colours, poses, places and shapes learned together, and masks asked for anew.

What is fitted: the colours of pixels (L1) and who is where (L1 of opacities), as MultiPly does; and, since depth is
hardly seen by one camera, that places and turns change smoothly (second differences): without it poses drift. Surfaces
are held by small slopes of what they are off from the body.

Letters: T frames, P people, H by W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldcast.fields.kinds import default_spec
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.spec import FieldSpec
from fieldcast.fields.training import Training
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.people import look_at_people
from fieldcast.reconstruct.fitting.behind import Behind, behind_of
from fieldcast.reconstruct.fitting.masks import who_is_where
from fieldcast.reconstruct.fitting.pixels import Batch, People
from fieldcast.reconstruct.fitting.requirements import require_fittable, require_found
from fieldcast.reconstruct.fitting.smoothness import bends
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.segments.segmenter import open_segmenter

RAYS = 1024
TABLES, NETWORKS = 1e-2, 2e-3  # learning rates at first
POSE, PLACE, SHAPE = 3e-3, 1.5e-3, 1e-2
FALL = 0.07  # what is left of rates at the end
WIDE, SHARP, SHARPENED = 0.02, 0.004, 0.75  # metres: beta at first, and from this part of the steps on
MASKS = 0.2
EVEN, PLACES = 0.05, 512  # of squared slopes of offsets, at so many places near a surface: else it is rough
BENDS, TURNS, FAR = 20.0, 1.0, 5e-4  # of second differences of places and of poses, and of leaving the poses given
ASKED = (0.2, 0.5)  # parts of the steps after which masks are asked for anew
LOOKED, SETTLED = 100, 400  # steps between looks at surfaces, and at bodies


@dataclass(frozen=True)
class Plan:
    """steps: of training. segmenter: as `open_segmenter` takes it. moving: whether poses and shapes are learned.
    background: a field file of what is behind people, in the recording's world; None: it is learned.
    """

    steps: int = 4000
    segmenter: str = "grabcut"
    moving: bool = True
    seed: int = 0
    background: Path | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """avatars: of the people, in the order of the recording. shares [T, P, H, W]: who is where. behind: the pictures
    behind them, one or one a frame. backdrop: the same, to be looked at from anywhere.
    """

    avatars: list[Avatar]
    shares: Float[Tensor, "t p h w"]
    behind: Float[Tensor, "v h w 3"]
    backdrop: Behind | None = None


def inner_spec() -> FieldSpec:
    """The field inside a shell: small planes, whose sum is quick to learn on a CPU."""
    spec = default_spec("planes")
    return replace(spec, sizes=replace(spec.sizes, resolutions=(48, 128), channels=16, combine="sum", hidden=32))


def fit_people(recording: Recording, plan: Plan, progress: Progress = silent) -> Fitted:
    """Learns the people of a recording, beginning with the poses that it has.

    Raises InputError, before anything is trained, for a recording without people, of somebody who is never seen, or
    whose camera moves and nobody knows how.
    """
    require_fittable(recording)
    avatars = [Avatar(person, inner_spec(), plan.seed + i) for i, person in enumerate(recording.people)]
    run = _Run(recording, avatars, plan, progress)
    Training(
        nn.ModuleList(avatars),
        run.loss,
        lambda step, initial: initial * FALL ** (step / plan.steps),
        plan.steps,
        plan.seed,
        "people",
        rates=rates(avatars),
    ).run(progress)
    for avatar in avatars:
        avatar.settle()
        avatar.shell.settle()
    return Fitted(avatars, run.pixels.shares, run.pixels.behind.color, run.pixels.behind)


def rates(avatars: Sequence[Avatar]) -> list[tuple[list[nn.Parameter], float]]:
    """Groups of parameters with the rates that they begin with."""
    groups: list[tuple[list[nn.Parameter], float]] = []
    for avatar in avatars:
        tables = [p for name, p in avatar.shell.inner.named_parameters() if name.startswith("encoding.")]
        known = {id(p) for p in tables}
        networks = [p for p in avatar.shell.inner.parameters() if id(p) not in known]
        groups += [(tables, TABLES), (networks, NETWORKS)]
        groups += [([avatar.pose], POSE), ([avatar.place], PLACE), ([avatar.shape], SHAPE)]
    return groups


class _Run:
    """The losses of the steps, and what is done between them."""

    def __init__(self, recording: Recording, avatars: list[Avatar], plan: Plan, progress: Progress) -> None:
        self.recording, self.avatars, self.plan = recording, avatars, plan
        self.behind = behind_of(recording, plan.background, plan.seed, progress)
        told = None if self.behind is None else self.behind.told
        self.segmenter = open_segmenter(plan.segmenter, recording, seed=plan.seed, behind=told)
        self.asked = {round(part * plan.steps) for part in (ASKED if plan.moving else ())}
        self.pixels = self._pixels()
        require_found(recording, self.pixels.shares)

    def _pixels(self) -> People:
        people = [avatar.person for avatar in self.avatars]
        shares = who_is_where(self.recording, people, self.segmenter, self.plan.seed)
        return People.of(self.recording, shares, self.behind)

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        moving = self.plan.moving and step % 2 == 0  # poses cost as much as all else: every other step will do
        self._between(step)
        batch = self.pixels.sample(RAYS, generator)
        loss = seen_loss(self.avatars, batch, generator, moving)
        for avatar in self.avatars:
            loss = loss + EVEN * avatar.shell.slopes(PLACES, generator).square().mean()
            loss = loss + likely(avatar) if moving else loss
        return loss

    def _between(self, step: int) -> None:
        if step in self.asked:
            self.pixels = self._pixels()
        for avatar in self.avatars:
            part = min(1.0, step / (SHARPENED * self.plan.steps))
            avatar.shell.beta.fill_(WIDE * (SHARP / WIDE) ** part)
            if step % LOOKED == 0:
                avatar.shell.settle()
            if step % SETTLED == SETTLED - 1 and self.plan.moving:
                avatar.settle()


def seen_loss(avatars: Sequence[Avatar], batch: Batch, generator: torch.Generator, moving: bool) -> Tensor:
    """How far what is seen is from the pictures and the masks."""
    layers = look_at_people(avatars, batch.rays, batch.frame, generator, moving=moving)
    color = layers.rgb + layers.transmittance[:, None] * batch.behind
    return (color - batch.rgb).abs().mean() + MASKS * (layers.opacity - batch.shares).abs().mean()


def likely(avatar: Avatar) -> Tensor:
    """How unlikely the poses are: bends of the path, of turns, and how far they have left what was given.

    Frames in which somebody is not present say nothing: paths may do anything across them.
    """
    given: Person = avatar.known
    off = (avatar.pose - given.pose)[given.present].square().sum(-1).mean()
    far = FAR * off + FAR * (avatar.shape - given.shape).square().mean()
    return far + BENDS * bends(avatar.place, given.present) + TURNS * bends(avatar.pose, given.present)
