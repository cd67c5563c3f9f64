"""Pictures of objects on grids, for numbers that compare pictures.

Rays are cast at the surface from VIEWS cameras around, above the ground in turns by LOW and HIGH. It is lit from where
the camera stands, so that its shape shows: a colour is multiplied by AMBIENT + (1 - AMBIENT) times the cosine between
the surface's normal and the ray. What the rays miss is white. The cameras are the cube's, not the object's: frames of
one morph are seen from the same places.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from fieldcast.fields.cameras import Cameras, orbit
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.scenes.mesh import Caster
from fieldcast.fields.scenes.surfaces import to_srgb
from fieldcast.fields.space import Space
from fieldcast.morph.volumes import Volume

VIEWS, SIZE = 8, 96
LOW, HIGH = math.radians(10), math.radians(40)
FOV = math.radians(30)
REACH = 1.4  # half sides of the cube: what a ball about its middle may reach to be seen whole
AMBIENT = 0.4
FINER = 2  # times as many rays a side as pixels


def views(volume: Volume) -> Float[Tensor, "v h w 3"]:
    """What is seen of an object, sRGB 0..1; of an object without a surface, white."""
    mesh = volume.mesh()
    if not len(mesh):
        return torch.ones(VIEWS, SIZE, SIZE, 3)
    seen = _seen(mesh, around(volume.space))
    images = torch.from_numpy(seen).reshape(VIEWS, SIZE, FINER, SIZE, FINER, 3)
    return images.mean((2, 4))


def around(space: Space) -> Cameras:
    """The cameras of a cube."""
    azimuth = (torch.arange(VIEWS) + 0.5) * 2 * math.pi / VIEWS
    elevation = torch.where(torch.arange(VIEWS) % 2 == 0, LOW, HIGH)
    radius = REACH * space.unit / math.sin(FOV / 2)
    return orbit(space, azimuth, elevation, radius, width=SIZE * FINER, height=SIZE * FINER, fov=FOV)


def _seen(mesh: Mesh, cameras: Cameras) -> Float32[np.ndarray, "n 3"]:
    """The shaded colours that the rays of all cameras see, one after the other."""
    caster, normals = Caster([mesh.surface()]), mesh.vertex_normals()
    rays = [cameras.image_rays(i) for i in range(len(cameras))]
    x = torch.cat([r.origins for r in rays]).double().numpy()
    d = torch.cat([r.directions for r in rays]).numpy()
    hit = caster.scene.run(((x - caster.center) / caster.half).astype(np.float32), np.ascontiguousarray(d), output=1)
    found = (hit["primID"] >= 0).nonzero()[0]
    face, u, v = hit["primID"][found], hit["u"][found], hit["v"][found]
    weights = np.stack([1 - u - v, u, v], -1)[..., None]
    normal = (normals[mesh.faces[face]] * weights).sum(1)
    facing = -(normal * d[found]).sum(-1) / np.linalg.norm(normal, axis=-1).clip(1e-12)
    color = to_srgb(caster.shade(face, u, v)[:, :3])
    rgb = np.ones((len(x), 3), np.float32)
    rgb[found] = color * (AMBIENT + (1 - AMBIENT) * facing.clip(0, 1))[:, None]
    return rgb
