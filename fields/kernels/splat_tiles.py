"""The compiled loops of `splatting`: the picture in tiles, each with the list of the splats that reach it.

Splats reach the pixels in which their alpha is at least 1 / 255: those of an ellipse, whose rows are found exactly. A
splat's share in one tile has a row of its own in the gradients, and the shares of a splat lie behind one another, so
that no two threads add to one place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fieldcast.fields.kernels.compiled import Array, helper, kernel

SIDE = 16  # pixels of a tile
MOST, LEAST, DARK = np.float32(0.999), np.float32(1 / 255), np.float32(1e-4)
HALF, MARGIN = np.float32(0.5), np.float32(0.01)  # pixels are looked at whose centres lie this far outside


@dataclass(frozen=True)
class Shares:
    """Which splats reach which tiles.

    bounds: [N, 4] pixels x0, x1, y0, y1 of each splat, to before x1 and y1. reach: [N] the power up to which it counts,
    twice. first: [N + 1] the row of its first share. starts: [tiles + 1] where the list of each tile begins;
    splats, row: [shares] of those lists, nearest splat first.
    """

    bounds: Array
    reach: Array
    first: Array
    starts: Array
    splats: Array
    row: Array

    @classmethod
    def of(cls, means: Array, conics: Array, opacities: Array, size: tuple[int, int]) -> Shares:
        width, height = size
        columns, rows = -(-width // SIDE), -(-height // SIDE)
        bounds, reach = np.zeros((len(means), 4), np.int32), np.zeros(len(means), np.float32)
        _bounds(len(means), means, conics, opacities, width, height, bounds, reach)
        low, high = bounds[:, ::2] // SIDE, -(-bounds[:, 1::2] // SIDE)
        first = np.concatenate([[0], np.prod(np.maximum(high - low, 0), axis=1, dtype=np.int64).cumsum()])
        count = np.zeros(rows * columns, np.int64)
        _count(rows, bounds, columns, count)
        starts = np.concatenate([[0], count.cumsum()])
        splats, row = np.zeros(starts[-1], np.int32), np.zeros(starts[-1], np.int64)
        _fill(rows, bounds, first, columns, starts, splats, row)
        return cls(bounds, reach, first, starts, splats, row)

    @property
    def arrays(self) -> tuple[Array, ...]:
        return self.bounds, self.reach, self.starts, self.splats, self.row

    @property
    def tiles(self) -> int:
        return len(self.starts) - 1

    @property
    def rows(self) -> int:
        return int(self.first[-1])


@kernel
def _bounds(
    first: int,
    last: int,
    means: Array,
    conics: Array,
    opacities: Array,
    width: int,
    height: int,
    bounds: Array,
    reach: Array,
) -> None:
    """A splat that is too faint, outside the picture or not finite keeps no pixels."""
    for g in range(first, last):
        a, b, c = np.float64(conics[g, 0]), np.float64(conics[g, 1]), np.float64(conics[g, 2])
        det = a * c - b * b
        if not (opacities[g] >= LEAST and det > 0 and a > 0 and det < 1e30):
            continue
        twice = 2 * math.log(np.float64(opacities[g]) / LEAST) + 1e-4
        x, y = np.float64(means[g, 0]), np.float64(means[g, 1])
        dx, dy = math.sqrt(twice * c / det) + MARGIN, math.sqrt(twice * a / det) + MARGIN
        if not (x + dx > 0 and y + dy > 0 and x - dx < width and y - dy < height):
            continue
        reach[g] = twice
        bounds[g, 0] = max(0, math.ceil(max(x - dx, -1.0) - 0.5))
        bounds[g, 1] = min(width, math.floor(min(x + dx, width + 1.0) - 0.5) + 1)
        bounds[g, 2] = max(0, math.ceil(max(y - dy, -1.0) - 0.5))
        bounds[g, 3] = min(height, math.floor(min(y + dy, height + 1.0) - 0.5) + 1)
        if bounds[g, 0] >= bounds[g, 1] or bounds[g, 2] >= bounds[g, 3]:
            bounds[g, :] = 0


@kernel
def _count(first: int, last: int, bounds: Array, columns: int, count: Array) -> None:
    """How many splats reach each tile; the items are rows of tiles."""
    for row in range(first, last):
        for g in range(len(bounds)):
            if bounds[g, 2] < (row + 1) * SIDE and bounds[g, 3] > row * SIDE:
                for column in range(bounds[g, 0] // SIDE, (bounds[g, 1] + SIDE - 1) // SIDE):
                    count[row * columns + column] += 1


@kernel
def _fill(
    first: int, last: int, bounds: Array, shares: Array, columns: int, starts: Array, splats: Array, row_of: Array
) -> None:
    for row in range(first, last):
        end = starts[row * columns : (row + 1) * columns].copy()
        for g in range(len(bounds)):
            if bounds[g, 2] < (row + 1) * SIDE and bounds[g, 3] > row * SIDE:
                left, right = bounds[g, 0] // SIDE, (bounds[g, 1] + SIDE - 1) // SIDE
                share = shares[g] + (row - bounds[g, 2] // SIDE) * (right - left)
                for column in range(left, right):
                    splats[end[column]], row_of[end[column]] = g, share + column - left
                    end[column] += 1


@helper
def _span(dy: float, x: float, a: float, b: float, c: float, reach: float) -> tuple[int, int]:
    """The pixels of a row, `dy` from the centre, in which a splat may count: from the first to before the last."""
    inside = b * b * dy * dy - a * (c * dy * dy - reach)
    if not inside >= 0:
        return 0, 0
    half, middle = math.sqrt(inside) / a + MARGIN, x - b * dy / a - HALF
    return math.ceil(middle - half), math.floor(middle + half) + 1


@kernel
def forward(
    begin: int,
    end: int,
    means: Array,
    conics: Array,
    opacities: Array,
    values: Array,
    bounds: Array,
    reach: Array,
    starts: Array,
    splats: Array,
    row_of: Array,
    totals: Array,
    light: Array,
    last: Array,
) -> None:
    """last: where in its tile's list, counted from 1, a pixel met the last splat that counts."""
    height, width, channels = totals.shape
    columns = (width + SIDE - 1) // SIDE
    for tile in range(begin, end):
        top, left = tile // columns * SIDE, tile % columns * SIDE
        bottom, right = min(top + SIDE, height), min(left + SIDE, width)
        ended = np.zeros((SIDE, SIDE), np.uint8)
        open_pixels = (bottom - top) * (right - left)
        for k in range(starts[tile], starts[tile + 1]):
            g = splats[k]
            x, y, opacity = means[g, 0], means[g, 1], opacities[g]
            a, b, c = conics[g, 0], conics[g, 1], conics[g, 2]
            for j in range(max(bounds[g, 2], top), min(bounds[g, 3], bottom)):
                dy = np.float32(j) + HALF - y
                start, stop = _span(dy, x, a, b, c, reach[g])
                for i in range(max(start, left), min(stop, right)):
                    if ended[j - top, i - left]:
                        continue
                    dx = np.float32(i) + HALF - x
                    power = HALF * (a * dx * dx + c * dy * dy) + b * dx * dy
                    alpha = min(opacity * math.exp(-power), MOST)
                    if alpha < LEAST or power < 0:
                        continue
                    passing = light[j, i] * (np.float32(1) - alpha)
                    if passing <= DARK:
                        ended[j - top, i - left] = 1
                        open_pixels -= 1
                        continue
                    weight = alpha * light[j, i]
                    for channel in range(channels):
                        totals[j, i, channel] += weight * values[g, channel]
                    light[j, i] = passing
                    last[j, i] = k + 1 - starts[tile]
            if open_pixels == 0:
                break


@kernel
def backward(
    begin: int,
    end: int,
    means: Array,
    conics: Array,
    opacities: Array,
    values: Array,
    bounds: Array,
    reach: Array,
    starts: Array,
    splats: Array,
    row_of: Array,
    light: Array,
    grad_totals: Array,
    grad_light: Array,
    last: Array,
    rows: Array,
) -> None:
    """Back to front. More alpha lets in more of the splat's values, at the expense of everything `behind` it.

    rows: [shares, 6 + channels], the gradients by mean (2), conic (3), opacity and values.
    """
    height, width, channels = grad_totals.shape
    columns = (width + SIDE - 1) // SIDE
    for tile in range(begin, end):
        top, left = tile // columns * SIDE, tile % columns * SIDE
        bottom, right = min(top + SIDE, height), min(left + SIDE, width)
        passing = light[top:bottom, left:right].copy()
        behind = passing * grad_light[top:bottom, left:right]
        length = last[top:bottom, left:right].max()
        for k in range(starts[tile] + length - 1, starts[tile] - 1, -1):
            g = splats[k]
            grad = rows[row_of[k]]
            x, y, opacity = means[g, 0], means[g, 1], opacities[g]
            a, b, c = conics[g, 0], conics[g, 1], conics[g, 2]
            for j in range(max(bounds[g, 2], top), min(bounds[g, 3], bottom)):
                dy = np.float32(j) + HALF - y
                start, stop = _span(dy, x, a, b, c, reach[g])
                for i in range(max(start, left), min(stop, right)):
                    if k - starts[tile] >= last[j, i]:
                        continue
                    dx = np.float32(i) + HALF - x
                    power = HALF * (a * dx * dx + c * dy * dy) + b * dx * dy
                    falloff = math.exp(-power)
                    alpha = min(opacity * falloff, MOST)
                    if alpha < LEAST or power < 0:
                        continue
                    reaching = passing[j - top, i - left] / (np.float32(1) - alpha)
                    shown = np.float32(0)
                    for channel in range(channels):
                        grad[6 + channel] += alpha * reaching * grad_totals[j, i, channel]
                        shown += values[g, channel] * grad_totals[j, i, channel]
                    by_alpha = reaching * shown - behind[j - top, i - left] / (np.float32(1) - alpha)
                    behind[j - top, i - left] += alpha * reaching * shown
                    passing[j - top, i - left] = reaching
                    if opacity * falloff > MOST:
                        continue
                    by_power = -by_alpha * alpha
                    grad[0] -= by_power * (a * dx + b * dy)
                    grad[1] -= by_power * (c * dy + b * dx)
                    grad[2] += by_power * HALF * dx * dx
                    grad[3] += by_power * dx * dy
                    grad[4] += by_power * HALF * dy * dy
                    grad[5] += by_alpha * falloff


@kernel
def add_up(begin: int, end: int, first: Array, rows: Array, grads: Array) -> None:
    """The gradients of splats: the sums over their shares."""
    for g in range(begin, end):
        for row in range(first[g], first[g + 1]):
            for channel in range(grads.shape[1]):
                grads[g, channel] += rows[row, channel]
