"""Avatars from a recording: surfaces, colours, poses, places and shapes learned together, and masks asked for anew.

What is fitted: the colours of pixels (L1) and who is where (L1 of opacities), as MultiPly does; and, since depth is
hardly seen by one camera, that places and turns change smoothly (second differences): without it poses drift. Surfaces
are held by small slopes of what they are off from the body.

Letters: T frames, P people, H by W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.training import Training
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.fitting.behind import Behind, behind_of
from fieldcast.reconstruct.fitting.floor import Floor
from fieldcast.reconstruct.fitting.masks import Masks, who_is_where
from fieldcast.reconstruct.fitting.pixels import People
from fieldcast.reconstruct.fitting.recipes import FAST, RECIPES, Recipe
from fieldcast.reconstruct.fitting.requirements import require_fittable, require_found
from fieldcast.reconstruct.fitting.terms import (
    apart_loss,
    near_given,
    order_loss,
    roughness,
    seen_loss,
    smoothness,
)
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.segments.segmenter import open_segmenter

POSE, PLACE, SHAPE = 3e-3, 1.5e-3, 6e-2  # learning rates at first, of runs of at most STEADY steps
STEADY = 2500  # longer ones move poses as far, not farther: they drift, in depth above all
FALL = 0.07  # what is left of rates at the end
WIDE, SHARP, SHARPENED = 0.01, 0.004, 0.75  # metres: beta at first, and from this part of the steps on
ASKED = (0.2, 0.5)  # parts of the steps after which masks are asked for anew
DOUBTED, RELIABLE = 0.5, 0.5  # part of the steps in which surfaces are learned from the better part of frames alone
CONTESTED = 64  # pixels that somebody is seen in who is believed to be behind another, in a step
LOOKED, SETTLED = 100, 400  # steps between looks at surfaces, and at bodies
WATCHED = 60.0  # seconds


@dataclass(frozen=True)
class Plan:
    """steps: of training. segmenter, folder: as `open_segmenter` takes them. recipe: fast or paper. background: a field
    file of what is behind people, in the recording's world; None: it is learned.

    Each of these can be left out: moving: poses and shapes are learned; asking: masks are asked for anew; confident:
    surfaces are learned from frames in which bodies and masks agree, at first; ordered: people stand in the order of
    the masks, and not inside of each other; smooth: poses change steadily; floor: feet are on one floor.
    """

    steps: int = 4000
    segmenter: str = "grabcut"
    folder: Path | None = None
    recipe: str = FAST
    seed: int = 0
    background: Path | None = None
    moving: bool = True
    asking: bool = True
    confident: bool = False
    ordered: bool = False
    smooth: bool = True
    floor: bool = False


@dataclass(frozen=True, eq=False)
class Fitted:
    """avatars: of the people, in the order of the recording. shares: who is where. behind: pictures without them, one
    or one a frame. backdrop: the same, to be looked at from anywhere.
    """

    avatars: list[Avatar]
    shares: Float[Tensor, "t p h w"]
    behind: Float[Tensor, "v h w 3"]
    backdrop: Behind | None = None


def fit_people(
    recording: Recording,
    plan: Plan,
    progress: Progress = silent,
    watch: Callable[[int, Fitted], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Fitted:
    """Learns the people of a recording, beginning with the poses that it has.

    watch: is given the step and the people as they are, about every minute. checkpoint: a file that keeps the state
    while this runs; resume: go on from there, to the same result. Raises InputError, before anything is trained, for a
    recording without people, of somebody who is never seen, or whose camera moves and nobody knows how; and for a
    checkpoint of another plan.
    """
    require_fittable(recording)
    recipe = RECIPES[plan.recipe]
    avatars = [Avatar(person, recipe.inner(), plan.seed + i) for i, person in enumerate(recording.people)]
    run = _Run(recording, avatars, plan, recipe, progress, watch)
    Training(
        nn.ModuleList(avatars),
        run.loss,
        lambda step, initial: initial * FALL ** (step / plan.steps),
        plan.steps,
        plan.seed,
        "people",
        rates=rates(avatars, recipe, plan.steps),
        state=run.state,
        identity={"recipe": plan.recipe, "frames": len(recording), "people": [a.known.name for a in avatars]},
        checkpoint=checkpoint,
        resume=resume,
    ).run(progress)
    for avatar in avatars:
        avatar.settle()
        avatar.shell.settle()
    return run.fitted


def rates(avatars: list[Avatar], recipe: Recipe, steps: int) -> list[tuple[list[nn.Parameter], float]]:
    """Groups of parameters with the rates that they begin with."""
    groups: list[tuple[list[nn.Parameter], float]] = []
    slower = min(1.0, STEADY / steps)
    for avatar in avatars:
        tables = [p for name, p in avatar.shell.inner.named_parameters() if name.startswith("encoding.")]
        known = {id(p) for p in tables}
        networks = [p for p in avatar.shell.inner.parameters() if id(p) not in known]
        groups += [(tables, recipe.tables), (networks, recipe.networks)] if tables else [(networks, recipe.networks)]
        moved = ((avatar.pose, POSE), (avatar.place, PLACE), (avatar.shape, SHAPE))
        groups += [([parameter], rate * slower) for parameter, rate in moved]
    return groups


class _Run:
    """The losses of the steps, and what is done between them.

    state: what besides the avatars' own tensors decides how a run goes on: masks, surfaces as they were looked at last.
    """

    def __init__(
        self,
        recording: Recording,
        avatars: list[Avatar],
        plan: Plan,
        recipe: Recipe,
        progress: Progress,
        watch: Callable[[int, Fitted], None] | None,
    ) -> None:
        self.recording, self.avatars, self.plan, self.recipe, self.watch = recording, avatars, plan, recipe, watch
        self.behind = behind_of(recording, plan.background, plan.seed, progress)
        told = None if self.behind is None else self.behind.told
        self.segmenter = open_segmenter(plan.segmenter, recording, plan.folder, seed=plan.seed, behind=told)
        self.asked = {round(part * plan.steps) for part in (ASKED if plan.moving and plan.asking else ())}
        self.next, self.watched = 0, time.monotonic()
        masks = self._masks()
        require_found(recording, masks.shares)
        self.floor = Floor.of(recording, avatars)
        self.state = {"shares": masks.shares, "believed": masks.believed, "floor": self.floor.height}
        self.state |= {f"{i}.coarse": avatar.shell.coarse for i, avatar in enumerate(avatars)}
        self._see()

    @property
    def fitted(self) -> Fitted:
        return Fitted(self.avatars, self.pixels.shares, self.pixels.behind.color, self.pixels.behind)

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        moving = self.plan.moving and step % 2 == 0  # poses cost as much as all else: every other step will do
        self._between(step)
        doubted = self.plan.confident and self.plan.moving and step < DOUBTED * self.plan.steps
        pool = self.reliable if doubted and not moving else None
        batch = self.pixels.sample(self.recipe.rays, generator, pool)
        for avatar in self.avatars:
            avatar.shell.inner.requires_grad_(not (doubted and moving))
        loss = seen_loss(self.avatars, batch, generator, moving, self.recipe.samples)
        for avatar in self.avatars:
            loss = loss + roughness(avatar, generator)
        return loss + self._poses(generator) if moving else loss

    def _poses(self, generator: torch.Generator) -> Tensor:
        """What is asked of poses alone."""
        centers = self.recording.cameras.centers
        loss = torch.stack([near_given(avatar, centers) for avatar in self.avatars]).sum()
        if self.plan.smooth:
            loss = loss + torch.stack([smoothness(avatar) for avatar in self.avatars]).sum()
        if self.plan.floor:
            loss = loss + self.floor.loss(self.avatars)
        if self.plan.ordered and len(self.avatars) > 1:
            frame = int(torch.randint(len(self.recording), (1,), generator=generator))
            loss = loss + apart_loss(self.avatars, frame, generator)
            if len(self.contested):
                batch = self.pixels.sample(CONTESTED, generator, self.contested)
                believed = self.state["believed"][batch.frame, batch.row, batch.column].long() - 1
                loss = loss + order_loss(self.avatars, batch, believed)
        return loss

    def _between(self, step: int) -> None:
        if step != self.next:  # a run that goes on: what it was is in `state`
            self._see()
            for avatar in self.avatars:
                avatar.resettle()
        self.next = step + 1
        if step in self.asked:
            masks = self._masks()
            self.state["shares"].copy_(masks.shares)
            self.state["believed"].copy_(masks.believed)
            self._see()
        for avatar in self.avatars:
            part = min(1.0, step / (SHARPENED * self.plan.steps))
            avatar.shell.beta.fill_(WIDE * (SHARP / WIDE) ** part)
            if step % LOOKED == 0:
                avatar.shell.settle()
            if step % SETTLED == SETTLED - 1 and self.plan.moving:
                avatar.settle()
        if step % LOOKED == 0:
            self.floor.settle(self.avatars)
        if self.watch and time.monotonic() - self.watched > WATCHED:
            self.watch(step, self.fitted)
            self.watched = time.monotonic()

    def _masks(self) -> Masks:
        people = [avatar.person for avatar in self.avatars]
        return who_is_where(self.recording, people, self.segmenter, self.plan.seed)

    def _see(self) -> None:
        """Takes from the masks what is sampled."""
        masks = Masks(self.state["shares"], self.state["believed"])
        self.pixels = People.of(self.recording, masks.shares, self.behind)
        agreement = masks.agreement()
        reliable = agreement >= agreement.quantile(1 - RELIABLE)
        self.reliable: Int64[Tensor, "n 3"] = self.pixels.pool[reliable[self.pixels.pool[:, 0]]]
        self.contested: Int64[Tensor, "n 3"] = self.pixels.among(masks.contested())
