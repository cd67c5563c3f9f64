"""Somebody: a surface at rest, and numbers of shape and pose that can be learned with it.

A world point is taken to rest by undoing the skinning of the nearest vertex of the posed body. The shell stays where
the body of its first shape is: when the shape changes, what that adds to the vertex is taken off again.

Letters: T frames, J joints, S numbers of shape, N points, V vertices, K weights a vertex.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fieldcast.fields.kernels.gather import gather_rows
from fieldcast.fields.spec import FieldSpec
from fieldcast.reconstruct.avatars.shell import Shell, shell_of
from fieldcast.reconstruct.avatars.template import template_of
from fieldcast.reconstruct.avatars.warp import Places, inverse, places_of
from fieldcast.reconstruct.recordings.params import closed
from fieldcast.reconstruct.recordings.recording import Person


class Avatar(nn.Module):
    """shell: the surface and its colours at rest. shape [S], pose [T, J, 3] and place [T, 3]: those of the person, to
    be learned. places: where the body is near, for the poses at which `settle` was called last. Where the person is not
    present the numbers are those of the nearest frame in which they are, and nothing of them is seen.
    """

    places: Places
    stood_shape: Tensor
    stood_pose: Tensor
    stood_place: Tensor

    def __init__(self, person: Person, inner: FieldSpec | Shell, seed: int = 0) -> None:
        """inner: the spec of the field inside the shell; or a shell that there is, about the body of its own shape."""
        super().__init__()
        person = closed(person)
        if isinstance(inner, Shell):
            self.shell, self.known = inner, replace(person, shape=inner.shape.clone())
        else:
            self.shell, self.known = _new_shell(person, inner, seed), person
        self.shape, self.pose, self.place = (
            nn.Parameter(value.clone()) for value in (person.shape, person.pose, person.place)
        )
        for name, value in (("shape", self.shape), ("pose", self.pose), ("place", self.place)):
            self.register_buffer(f"stood_{name}", value.detach().clone())
        self.resettle()

    @property
    def person(self) -> Person:
        """Who it is, with the numbers as they are now."""
        shape, pose, place = (value.detach().clone() for value in (self.shape, self.pose, self.place))
        return closed(replace(self.known, shape=shape, pose=pose, place=place))

    @torch.no_grad()
    def settle(self) -> None:
        """Looks again where the body is. To be called when poses have changed by about half a cell."""
        for stood, now in self._stood():
            stood.copy_(now)
        self.resettle()

    @torch.no_grad()
    def resettle(self) -> None:
        """Looks where the body was when `settle` was called last."""
        shape, pose, place = (stood for stood, _ in self._stood())
        self.places = places_of(self.known.body.posed(shape, pose, place).vertices, self.known.present)

    def _stood(self) -> list[tuple[Tensor, Tensor]]:
        """Shape, pose and place as they were at the last look, and as they are now."""
        return [(self.stood_shape, self.shape), (self.stood_pose, self.pose), (self.stood_place, self.place)]

    def transforms(self) -> Float[Tensor, "t j 3 4"]:
        """world_from_rest of the joints at all frames."""
        return self.known.body.transforms(self.shape, self.pose, self.place)

    def to_rest(
        self,
        transforms: Float[Tensor, "t j 3 4"],
        frame: Int64[Tensor, " n"],
        vertex: Int64[Tensor, " n"],
        x: Float[Tensor, "n 3"],
    ) -> Float[Tensor, "n 3"]:
        """World points at rest. vertex: the nearest of each.

        Differentiable in the transforms; and in the shape, if these are.
        """
        count = len(self.known.body.vertices)
        keys, which = torch.unique(frame * count + vertex, return_inverse=True)
        back = self.rest_from_world(transforms, keys // count, keys % count)
        undo = gather_rows(back.flatten(1), which).unflatten(1, (3, 4))
        found: Tensor = (undo[..., :3] * x[:, None]).sum(-1) + undo[..., 3]
        return found

    def rest_from_world(
        self,
        transforms: Float[Tensor, "t j 3 4"],
        frames: Int64[Tensor, " n"],
        vertices: Int64[Tensor, " n"],
    ) -> Float[Tensor, "n 3 4"]:
        """What takes the surroundings of vertices back to where the shell is."""
        body = self.known.body
        place = frames[:, None] * transforms.shape[1] + body.weight_index[vertices]
        joints = gather_rows(transforms.reshape(-1, 12), place.reshape(-1)).unflatten(0, place.shape)
        back = inverse((joints * body.weights[vertices][..., None]).sum(1).unflatten(-1, (3, 4)))
        shape = self.shape if transforms.requires_grad else self.shape.detach()
        added = (body.shape_directions[vertices] * (shape - self.known.shape)).sum(-1)
        return torch.cat([back[..., :3], (back[..., 3] - added)[..., None]], -1)


def _new_shell(person: Person, inner: FieldSpec, seed: int) -> Shell:
    vertices, _ = person.body.at_rest(person.shape)
    return shell_of(template_of(vertices, person.body.faces), inner, seed, person.shape)
