"""`Splats`: 3D Gaussians with opacity and view-dependent colour (3DGS, Kerbl et al. 2023), as a scene."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.kernels.harmonics import harmonics
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Image
from fieldcast.fields.space import Space, Vector3
from fieldcast.fields.splats import rasterize


class Splats(nn.Module):
    """N Gaussians in the world. They are rendered, not queried.

    means: [N, 3] world units. log_scales: [N, 3] logarithms of the standard deviations, world units. quats: [N, 4]
    w, x, y, z of any length, from the axes of the splat to the world. opacities: [N] logits. sh: [N, K, 3] harmonics of
    degree 0 to 3, K = (degree + 1)^2; colour is what they add up to, plus 1/2, and never negative.
    """

    def __init__(
        self,
        means: Float[Tensor, "n 3"],
        log_scales: Float[Tensor, "n 3"],
        quats: Float[Tensor, "n 4"],
        opacities: Float[Tensor, " n"],
        sh: Float[Tensor, "n k 3"],
        *,
        space: Space | None = None,
        background: Vector3 = (1.0, 1.0, 1.0),
        views: Cameras | None = None,
    ) -> None:
        """space: where the scene is; None: where most of the splats are, with -y up as in captures."""
        super().__init__()
        self.means, self.log_scales = nn.Parameter(means), nn.Parameter(log_scales)
        self.quats, self.opacities, self.sh = nn.Parameter(quats), nn.Parameter(opacities), nn.Parameter(sh)
        self.space = space or whereabouts(means, log_scales, opacities)
        self.background, self.views = background, views

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        return math.isqrt(self.sh.shape[1]) - 1

    @property
    def device(self) -> torch.device:
        return self.means.device

    def colors(self, eye: Float[Tensor, " 3"], index: Tensor) -> Float[Tensor, "m 3"]:
        """What the splats `index` look like from a place: sRGB, never negative."""
        d = nn.functional.normalize(self.means[index] - eye, dim=-1)
        basis = harmonics(d, self.degree)
        return ((basis[..., None] * self.sh[index]).sum(1) + 0.5).clamp_min(0)

    def render(self, cameras: Cameras, *, progress: Progress = silent) -> Iterator[Image]:
        """The images of the splats, one after the other, over their background."""
        cameras = cameras.to(self.device)
        for camera in range(len(cameras)):
            with torch.no_grad():
                image = self.image(cameras, camera)
            yield image
            progress(camera + 1, len(cameras), "rendering")

    def image(self, cameras: Cameras, camera: int) -> Image:
        """What one camera sees, differentiable in all parameters."""
        return rasterize.image(self, cameras, camera)


QUANTILES = 0.002, 0.05  # of splats on either side that may lie outside: of the whole scene, and of its middle
OPEN = 4.0  # times as large as its middle is a scene that has no end


def whereabouts(means: Float[Tensor, "n 3"], log_scales: Float[Tensor, "n 3"], opacities: Float[Tensor, " n"]) -> Space:
    """A box around all that shows but strays; of an open world around its middle, with the rest folded in."""
    shown = means.detach()[opacities.detach() > math.log(0.05 / 0.95)]
    shown = (shown if len(shown) else means.detach()).cpu().double()
    if not len(shown):
        return Space(up=(0.0, -1.0, 0.0))
    ordered = shown.sort(dim=0).values
    boxes = []
    for outside in QUANTILES:
        k = int(outside * len(ordered))
        boxes.append((ordered[k], ordered[-1 - k]))
    (low, high), (inner_low, inner_high) = boxes
    unbounded = float((high - low).max()) > OPEN * float((inner_high - inner_low).max())
    if unbounded:
        low, high = inner_low, inner_high
    pad = 0.05 * (high - low).max().clamp_min(1e-6) + 2 * log_scales.detach().median().exp().cpu()
    corners = [*(low - pad).tolist(), *(high + pad).tolist()]
    aabb = (corners[0], corners[1], corners[2], corners[3], corners[4], corners[5])
    return Space(aabb, "sphere" if unbounded else "none", up=(0.0, -1.0, 0.0))
