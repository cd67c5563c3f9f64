"""One camera's image of splats: by gsplat on CUDA where it is installed, by our own routines elsewhere."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.kernels.splatting import splat
from fieldcast.fields.renderable import Image
from fieldcast.fields.rendering.sampling import NEAR
from fieldcast.fields.splats.projection import project, ray_lengths

if TYPE_CHECKING:
    from fieldcast.fields.splats.splats import Splats


def image(splats: Splats, cameras: Cameras, camera: int) -> Image:
    """What a camera sees over the splats' background. Differentiable in the splats' parameters."""
    near = NEAR * splats.space.unit
    by_gsplat = splats.device.type == "cuda" and has_gsplat()
    values, light = (_gsplat if by_gsplat else _own)(splats, cameras, camera, near)
    opacity = 1 - light
    depth = values[..., 3] / opacity.clamp_min(1e-6) * ray_lengths(cameras, camera)
    rgb = values[..., :3] + light[..., None] * values.new_tensor(splats.background)
    return Image(rgb, depth, opacity)


def _own(
    splats: Splats, cameras: Cameras, camera: int, near: float
) -> tuple[Float[Tensor, "h w 4"], Float[Tensor, "h w"]]:
    """Colour and depth along the axis, summed by weight, and the light that is left."""
    seen = project(splats.means, splats.log_scales.exp(), splats.quats, cameras, camera, near)
    width, height = cameras.size[camera].tolist()
    values = torch.cat([splats.colors(cameras.c2w[camera, :, 3], seen.index), seen.z[:, None]], -1)
    return splat(seen.means, seen.conics, splats.opacities[seen.index].sigmoid(), values, (width, height))


@lru_cache
def has_gsplat() -> bool:
    """Whether the extra [gsplat] is installed."""
    return find_spec("gsplat") is not None


def _gsplat(
    splats: Splats, cameras: Cameras, camera: int, near: float
) -> tuple[Float[Tensor, "h w 4"], Float[Tensor, "h w"]]:
    """`_own`, by gsplat's CUDA kernels. Their depth is also that along the axis."""
    from gsplat import rasterization

    c2w, (fx, fy, cx, cy) = cameras.c2w[camera], cameras.intrinsics[camera].tolist()
    R = (c2w[:, :3] * c2w.new_tensor([1, -1, -1])).T
    view = torch.eye(4, device=c2w.device)
    view[:3] = torch.cat([R, -R @ c2w[:, 3:]], -1)
    width, height = cameras.size[camera].tolist()
    values, opacity, _ = rasterization(
        splats.means,
        splats.quats,
        splats.log_scales.exp(),
        splats.opacities.sigmoid(),
        splats.sh,
        view[None],
        c2w.new_tensor([[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]]),
        width,
        height,
        near_plane=near,
        sh_degree=splats.degree,
        render_mode="RGB+D",
    )
    return values[0], 1 - opacity[0, ..., 0]
