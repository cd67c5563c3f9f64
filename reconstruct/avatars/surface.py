"""The surface of an avatar at rest, as a mesh with colours at its vertices, and the colour of any point of it.

Letters: N points, S numbers of shape.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.errors import FieldcastError
from fieldcast.fields.mesh import Mesh
from fieldcast.reconstruct.avatars.avatar import Avatar


@torch.no_grad()
def rest_mesh(avatar: Avatar) -> Mesh:
    """Where the distance is 0, metres, in the shape that was learned. `avatar.shell` has to be settled."""
    from skimage.measure import marching_cubes

    shell = avatar.shell
    distances = shell.coarse.cpu().numpy()
    if not distances.min() < 0 < distances.max():
        raise FieldcastError(f"{avatar.known.name}: nothing is left of the surface; try another --seed")
    at, faces, _, _ = marching_cubes(distances, 0.0, gradient_direction="descent")
    u = torch.from_numpy(at / (np.array(distances.shape) - 1)).float().to(shell.device)
    x = shell.spec.space.from_unit(u)
    rgb = shell.color(shell.features(shell.beneath(x)), torch.zeros_like(x)).cpu().numpy()
    vertices = (x + _added(avatar, x, avatar.known.shape)).cpu().double().numpy()
    return Mesh(vertices, faces.astype(np.int64), colors=(rgb * 255).round().astype(np.uint8), up=(0.0, 1.0, 0.0))


@torch.no_grad()
def surface_color(avatar: Avatar, x: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """The colours, sRGB 0..1, of points of the surface that `rest_mesh` gives."""
    at = x.to(avatar.shell.device)
    at = at - _added(avatar, at, avatar.shape)
    color: Tensor = avatar.shell.color(avatar.shell.features(avatar.shell.beneath(at)), torch.zeros_like(at))
    return color


def _added(avatar: Avatar, x: Float[Tensor, "n 3"], shape: Float[Tensor, " s"]) -> Float[Tensor, "n 3"]:
    """What the change of shape adds to the vertices that are nearest where the body has a shape."""
    from scipy.spatial import cKDTree

    body = avatar.known.body
    vertices, _ = body.at_rest(shape)
    _, nearest = cKDTree(vertices.cpu().numpy()).query(x.cpu().numpy())
    added: Tensor = body.shape_directions[torch.from_numpy(nearest)] @ (avatar.shape - avatar.known.shape)
    return added
