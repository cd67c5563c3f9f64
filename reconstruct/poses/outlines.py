"""What a mask says of a body: all of the body is to be seen within it, and all of it is to show the body.

Points on the body are looked up in the distance to the mask, and pixels of the mask look for the nearest point on the
body; both distances are told in metres at the depth of the body, and cost no more than a limit (Geman and McClure
1987). Where somebody nearer is seen the body may be too, behind them: that costs nothing.

Letters: T frames, P people, V points on a body, N pixels of a mask, H by W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from fieldcast.fields.cameras import Cameras
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.poses.views import ideal, local, pixels, seen

SIDE = 160  # pixels along the longer side of masks that bodies are compared with
SAMPLES = 128  # pixels of a mask that are looked at
POINTS = 500  # on a body: 6 cm apart, and half of that in a picture, where front and back fall together
WORTH = 60.0  # independent points that a mask is worth
SPREAD = 0.03  # metres by which clothes and pixels put a mask off
LIMIT = 0.4  # metres beyond which distances cost no more
GAP = 0.01  # metres by which clothes stand off a body: a pixel that is no farther off shows the body


@dataclass(frozen=True, eq=False)
class Outline:
    """One person's masks. cameras: of pictures of H by W. away: pixels from where the body may be, 0 there. inside:
    image points at focal length 1 that show the body. weight: 1 where a frame counts, else 0."""

    cameras: Cameras
    away: Float[Tensor, "t h w"]
    inside: Float[Tensor, "t n 2"]
    weight: Float[Tensor, " t"]

    def at(self, frames: Int64[Tensor, " _"]) -> Outline:
        """The same at some frames."""
        return Outline(self.cameras[frames], self.away[frames], self.inside[frames], self.weight[frames])

    def without(self, frames: Bool[Tensor, " t"]) -> Outline:
        """The same, with some frames that do not count."""
        return replace(self, weight=torch.where(frames, 0.0, self.weight))

    def cost(self, points: Float[Tensor, "t v 3"]) -> Float[Tensor, " t"]:
        """What it costs to have points on the body there, frame by frame: half squares by `SPREAD`."""
        there = local(self.cameras, points)
        xy = seen(there)
        # Detached: or whoever comes nearer would have smaller errors.
        depth = (-there[..., 2]).detach().clamp_min(0.3)
        out = self._away(xy) * depth / self.cameras.intrinsics[:, :1]
        nearest = torch.cdist(self.inside, xy.detach()).argmin(-1)
        off = self.inside - xy.gather(1, nearest[..., None].expand(-1, -1, 2))
        gap = (off.square().sum(-1) + 1e-12).sqrt() * depth.gather(1, nearest) - GAP
        both = _limited(out).mean(1) + _limited(gap.clamp_min(0)).mean(1)
        return self.weight * 0.5 * WORTH * both / SPREAD**2

    def _away(self, xy: Float[Tensor, "t v 2"]) -> Float[Tensor, "t v"]:
        """Pixels from the mask; outside of the picture nobody knows more than at its edge."""
        height, width = self.away.shape[1:]
        grid = 2 * pixels(self.cameras, xy) / torch.tensor([width, height]) - 1
        found = torch.nn.functional.grid_sample(
            self.away[:, None], grid[:, :, None], padding_mode="border", align_corners=False
        )
        # From the middles of pixels; a mask ends half a pixel farther out.
        return (found[:, 0, :, 0] - 0.5).clamp_min(0)


def _limited(distance: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    square = distance.square()
    return square / (1 + square / LIMIT**2)


def outline(
    cameras: Cameras, own: Bool[Tensor, "t h w"], nearer: Bool[Tensor, "t h w"], present: Bool[Tensor, " t"]
) -> Outline:
    """The outline of a person whose masks are `own`, behind people who are seen in `nearer`."""
    from scipy.ndimage import distance_transform_edt

    g = torch.Generator().manual_seed(0)
    away, inside = torch.zeros(own.shape), torch.zeros(len(own), SAMPLES, 2)
    for t in present.nonzero()[:, 0].tolist():
        may = own[t] | nearer[t]
        away[t] = torch.from_numpy(distance_transform_edt(~may.numpy())).float()
        at = own[t].nonzero().flip(1) + 0.5
        inside[t] = at[torch.randint(len(at), (SAMPLES,), generator=g)]
    return Outline(cameras, away, ideal(cameras, inside), present.float())


def smaller(cameras: Cameras, labels: list[UInt8[Tensor, "h w"]]) -> tuple[Cameras, UInt8[Tensor, "t h2 w2"]]:
    """Cameras and labels of at most `SIDE` pixels a side: labels in the middles of larger pixels."""
    width, height = cameras.size[0].tolist()
    scale = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rows, columns = (
        ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new)).long()
        for old, new in zip((height, width), size[::-1], strict=True)
    )
    return cameras.resized(*size), torch.stack([label[rows][:, columns] for label in labels])


def spread_points(body: Body, count: int = POINTS) -> Int64[Tensor, " v"]:
    """Vertices that are far from each other: each the farthest one from those before (Gonzalez 1985)."""
    chosen = [0]
    away = torch.full((len(body.vertices),), torch.inf)
    for _ in range(min(count, len(body.vertices)) - 1):
        away = torch.minimum(away, (body.vertices - body.vertices[chosen[-1]]).square().sum(1))
        chosen.append(int(away.argmax()))
    return torch.tensor(chosen)
