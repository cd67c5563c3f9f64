"""A room around the people: planks, painted walls with pictures, shelves, a door and a window.

It is a box without anything in it, so that the place a ray meets is simple, and its colours are functions of that
place. Letters: N rays; `x` origins, `d` directions, `t` distances. Metres; sRGB 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

Points = Float64[np.ndarray, "n 3"]
Colors = Float64[np.ndarray, "n 3"]
Values = Float64[np.ndarray, " n"]

PAINTS = ((0.80, 0.76, 0.68), (0.66, 0.73, 0.72), (0.78, 0.70, 0.64), (0.72, 0.74, 0.64))
WOODS = ((0.55, 0.39, 0.25), (0.62, 0.48, 0.33), (0.42, 0.30, 0.21))


@dataclass(frozen=True)
class Room:
    """low, high: corners. paint, wood: of walls and floor. turn: which of the walls has what on it, 0 to 3."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    paint: tuple[float, float, float]
    wood: tuple[float, float, float]
    turn: int

    def meet(self, x: Points, d: Points) -> tuple[Values, Int64[np.ndarray, " n"]]:
        """How far away the room's inside is from points in it, and which side that is: 0 to 5 for -x +x -y +y -z +z."""
        bounds = np.where(d > 0, self.high, self.low)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(np.abs(d) > 1e-12, (bounds - x) / d, np.inf)
        axis = t.argmin(1)
        rows = np.arange(len(t))
        return t[rows, axis], 2 * axis + (d[rows, axis] > 0)

    def color(self, points: Points, side: Int64[np.ndarray, " n"]) -> Colors:
        """The colours of places on its sides."""
        found = np.zeros_like(points)
        for k in np.unique(side).tolist():
            here = side == k
            found[here] = self._side(points[here], k)
        return found

    def _side(self, points: Points, k: int) -> Colors:
        if k == 2:
            return self._planks(points)
        if k == 3:
            return np.tile([0.9, 0.9, 0.88], (len(points), 1))
        across = points[:, 2] if k < 2 else points[:, 0]
        return self._wall(across, points[:, 1], (k // 4 * 2 + k % 2 + self.turn) % 4)

    def _planks(self, points: Points) -> Colors:
        """Boards along x, each a little different, with grain and gaps."""
        row = np.floor(points[:, 2] / 0.16)
        board = np.floor(points[:, 0] / 1.3 + 0.37 * row)
        tone = 0.85 + 0.3 * _noise(row, board)
        grain = 1 + 0.08 * np.sin(70 * points[:, 2] + 3 * np.sin(4 * points[:, 0] + row))
        gap = (np.mod(points[:, 2], 0.16) < 0.008) | (np.mod(points[:, 0] / 1.3 + 0.37 * row, 1) < 0.005)
        return np.asarray(np.array(self.wood) * (tone * grain * np.where(gap, 0.55, 1))[:, None]).clip(0, 1)

    def _wall(self, across: Values, height: Values, which: int) -> Colors:
        """Paint with a soft gradient and a skirting board, and what hangs on it."""
        mottled = 0.015 * np.sin(3.1 * across + 2 * np.sin(1.7 * height)) + 0.01 * np.sin(9 * height + 5 * across)
        tone = 0.9 + 0.05 * height / self.high[1] + mottled
        color = np.array(self.paint) * (1.0, 0.93, 0.97, 0.9)[which] * tone[:, None]
        for center, low, size, kind in HANGING[which]:
            u, v = (across - center) / size[0], (height - low) / size[1]
            inside = (np.abs(u) < 0.5) & (v > 0) & (v < 1)
            color[inside] = THINGS[kind](u[inside] + 0.5, v[inside])
        color[height < 0.1] = (0.93, 0.92, 0.9)
        return np.asarray(color.clip(0, 1))


def draw_room(half: float, rng: np.random.Generator) -> Room:
    """A room that reaches `half` metres to each side."""
    paint, wood = PAINTS[int(rng.integers(len(PAINTS)))], WOODS[int(rng.integers(len(WOODS)))]
    return Room((-half, 0.0, -half), (half, 2.9, half), paint, wood, int(rng.integers(2)))


def _noise(a: Values, b: Values) -> Values:
    """Numbers from 0 to 1 that look random, one for each pair."""
    return np.asarray(np.mod(np.sin(12.9898 * a + 78.233 * b) * 43758.5453, 1))


def _picture(u: Values, v: Values) -> Colors:
    """A landscape in a frame."""
    hills = 0.42 + 0.12 * np.sin(7 * u) + 0.05 * np.sin(17 * u + 1)
    sky = np.stack([0.55 + 0.3 * v, 0.7 + 0.1 * v, 0.85 + 0 * v], -1)
    land = np.stack([0.25 + 0.2 * u, 0.42 + 0.1 * v, 0.22 + 0 * v], -1)
    color = np.where((v < hills)[:, None], land, sky)
    color[np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.06] = (0.2, 0.14, 0.1)
    return color


def _poster(u: Values, v: Values) -> Colors:
    """Circles and bars."""
    color = np.tile([0.9, 0.87, 0.78], (len(u), 1))
    color[np.hypot(u - 0.5, v - 0.65) < 0.22] = (0.75, 0.25, 0.2)
    color[(v < 0.35) & (np.mod(v, 0.1) < 0.05) & (u > 0.15) & (u < 0.85)] = (0.2, 0.25, 0.35)
    return color


def _shelf(u: Values, v: Values) -> Colors:
    """Books on boards."""
    row, book = np.floor(4 * v), np.floor(22 * u)
    tone = _noise(row, book)
    color = np.stack([0.3 + 0.5 * tone, 0.25 + 0.4 * _noise(book, row + 3), 0.25 + 0.4 * _noise(book + 7, row)], -1)
    color[np.mod(4 * v, 1) > 0.68 + 0.22 * tone] = (0.16, 0.12, 0.1)
    color[(np.mod(4 * v, 1) < 0.07) | (u < 0.03) | (u > 0.97)] = (0.36, 0.25, 0.17)
    return color


def _door(u: Values, v: Values) -> Colors:
    """Two panels and a handle."""
    color = np.tile([0.82, 0.8, 0.75], (len(u), 1))
    panel = (np.abs(u - 0.5) < 0.33) & (np.abs(np.mod(2 * v, 1) - 0.5) < 0.38)
    color[panel] *= 0.92
    color[(np.minimum(u, 1 - u) < 0.05) | (v > 0.97)] = (0.66, 0.63, 0.58)
    color[np.hypot((u - 0.86) * 0.9, (v - 0.48) * 2) < 0.03] = (0.35, 0.3, 0.2)
    return color


def _window(u: Values, v: Values) -> Colors:
    """The sky, trees, and bars."""
    trees = 0.3 + 0.1 * np.sin(9 * u) + 0.05 * np.sin(31 * u)
    sky = np.stack([0.68 + 0.15 * v, 0.8 + 0.08 * v, 0.95 + 0 * v], -1)
    color = np.where((v < trees)[:, None], (0.35, 0.48, 0.3), sky)
    bars = (np.abs(u - 0.5) < 0.02) | (np.abs(v - 0.55) < 0.02)
    color[bars | (np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < 0.04)] = (0.95, 0.95, 0.93)
    return color


THINGS = {"picture": _picture, "poster": _poster, "shelf": _shelf, "door": _door, "window": _window}
HANGING: tuple[tuple[tuple[float, float, tuple[float, float], str], ...], ...] = (
    ((-1.75, 0.1, (1.0, 1.9), "shelf"), (0.1, 1.35, (0.9, 0.65), "picture"), (1.6, 1.1, (0.6, 0.85), "poster")),
    ((-1.3, 0.0, (0.95, 2.05), "door"), (1.2, 1.2, (0.8, 0.6), "picture")),
    ((-1.1, 0.9, (1.3, 1.3), "window"), (1.3, 0.1, (1.4, 1.7), "shelf")),
    ((-1.4, 1.0, (0.7, 0.95), "poster"), (1.2, 0.9, (1.5, 1.3), "window")),
)
"""On each of the four walls: the middle across it and the lower edge, width and height, and what."""
