"""A video of people, with what is known of its cameras, of who is where, and how they stand.

Units are metres. Cameras are fieldcast's (docs/conventions.md): `c2w`, OpenGL axes, one a frame.

Letters: T frames, P people, J joints, S numbers of shape, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.space import Vector3
from fieldcast.reconstruct.bodies.body import Body, Posed


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody, frame by frame. shape, pose, place: as `Body.posed` takes them. present: False where nothing is known
    of where they are (they may be hidden, or out of the picture); what the pose holds there is not to be trusted.
    """

    name: str
    body: Body
    shape: Float[Tensor, " s"]
    pose: Float[Tensor, "t j 3"]
    place: Float[Tensor, "t 3"]
    present: Bool[Tensor, " t"]

    def posed(self, frames: slice | list[int] | None = None) -> Posed:
        """The body in the world, at some frames or at all."""
        chosen = slice(None) if frames is None else frames
        return self.body.posed(self.shape, self.pose[chosen], self.place[chosen])

    def at(self, frames: slice | list[int]) -> Person:
        """The same person at some frames alone."""
        return replace(self, pose=self.pose[frames], place=self.place[frames], present=self.present[frames])


@dataclass(frozen=True, eq=False)
class Recording:
    """frames: T pictures, sRGB. cameras: T. people: P. labels: of each pixel, 0 for the background or 1 + the number of
    the person who is seen there, or None where nobody says. up: a unit vector of the world. fps: frames a second.
    source: where it comes from. warnings: one line each, for what was odd but usable.
    """

    frames: list[UInt8[Tensor, "h w 3"]]
    cameras: Cameras
    people: tuple[Person, ...] = ()
    labels: list[UInt8[Tensor, "h w"]] | None = None
    up: Vector3 = (0.0, 1.0, 0.0)
    fps: float = 24.0
    source: str = ""
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        """T."""
        return len(self.frames)

    def at(self, frames: list[int]) -> Recording:
        """Some of the frames."""
        labels = None if self.labels is None else [self.labels[i] for i in frames]
        return replace(
            self,
            frames=[self.frames[i] for i in frames],
            cameras=self.cameras[frames],
            people=tuple(person.at(frames) for person in self.people),
            labels=labels,
        )

    @property
    def static(self) -> bool:
        """Whether the camera stands still."""
        return bool(torch.equal(self.cameras.c2w, self.cameras.c2w[:1].expand_as(self.cameras.c2w)))
