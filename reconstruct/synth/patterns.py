"""The colours of clothed people: skin with a face, hair, and cloth with stripes, checks, dots or a logo.

Colours are painted by where a vertex is on MakeHuman's body at rest with a shape of zeros, so that a pattern stays on
its cloth however the body moves. sRGB, 0 to 1.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from fieldcast.reconstruct.synth.clothing import Amount, Covered, Points

Color = tuple[float, float, float]
Colors = Float64[np.ndarray, "v 3"]

SKINS: tuple[Color, ...] = ((0.93, 0.75, 0.65), (0.80, 0.58, 0.45), (0.55, 0.38, 0.28), (0.88, 0.68, 0.52))
HAIRS: tuple[Color, ...] = ((0.12, 0.08, 0.06), (0.35, 0.20, 0.10), (0.75, 0.58, 0.30), (0.45, 0.43, 0.42))
LIPS: Color = (0.72, 0.32, 0.32)


@dataclass(frozen=True)
class Look:
    """Colours of what somebody is and wears, and the pattern of the shirt and of the bottom (keys of PATTERNS)."""

    skin: Color
    hair: Color
    shirt: tuple[Color, Color]
    bottom: tuple[Color, Color]
    shoes: Color
    patterns: tuple[str, str]


def draw_look(number: int, rng: np.random.Generator) -> Look:
    """The colours of the person of a number; shirts of different people have different hues."""
    hue, other = (0.03 + 0.29 * number + rng.uniform(-0.05, 0.05)) % 1, (0.6 + 0.37 * number + rng.uniform()) % 1
    patterns = list(PATTERNS)
    chosen = patterns[(number + int(rng.integers(4))) % 4], str(rng.choice(["plain", "plain", "checks", "dots"]))
    return Look(
        SKINS[(2 * number + int(rng.integers(2))) % len(SKINS)],
        HAIRS[(2 * number + int(rng.integers(2))) % len(HAIRS)],
        (_hsv(hue, 0.72, rng.uniform(0.6, 0.85)), _hsv((hue + rng.uniform(0.1, 0.5)) % 1, 0.25, 0.92)),
        (_hsv(other, 0.45, rng.uniform(0.25, 0.5)), _hsv(other, 0.3, rng.uniform(0.55, 0.75))),
        _hsv(rng.uniform(), rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.9)),
        chosen,
    )


def _hsv(hue: float, saturation: float, value: float) -> Color:
    color: Color = colorsys.hsv_to_rgb(hue, saturation, value)
    return color


def paint(covered: Covered, look: Look) -> UInt8[np.ndarray, "v 3"]:
    """The colour of each vertex, without any light."""
    places = covered.places
    color = _skin(places, look)
    _over(color, covered.bottom, _cloth(places, look.bottom, look.patterns[1]))
    _over(color, covered.shoes, np.array(look.shoes))
    soles = covered.shoes * (places[:, 1] < 0.012)
    _over(color, soles, np.array([0.92, 0.92, 0.9]))
    _over(color, covered.shirt, _cloth(places, look.shirt, look.patterns[0]))
    strands = 1 + 0.25 * np.sin(160 * places[:, 0] + 8 * np.sin(30 * places[:, 1]))
    _over(color, covered.hair, np.array(look.hair) * strands[:, None])
    return np.asarray((color.clip(0, 1) * 255).round().astype(np.uint8))


def _over(color: Colors, much: Amount, top: Colors | Float64[np.ndarray, " 3"]) -> None:
    """Paints over, with an edge as sharp as the vertices allow."""
    hard = (much > 0.5)[:, None]
    color[:] = np.where(hard, top, color)


def _skin(places: Points, look: Look) -> Colors:
    """Skin, with eyes, brows and lips."""
    color = np.tile(look.skin, (len(places), 1))
    x, y, z = places.T
    front, aside = z > 0.08, np.abs(x)
    cheeks = np.exp(-((aside - 0.04) ** 2 + (y - 1.53) ** 2) / 0.02**2) * front
    color = color * (1 - cheeks[:, None] * np.array([0, 0.14, 0.14]))
    for center, size, paint in (
        ((0.031, 1.571), (0.015, 0.0075), (0.95, 0.95, 0.95)),
        ((0.031, 1.571), (0.007, 0.0085), (0.12, 0.09, 0.08)),
        ((0.033, 1.592), (0.019, 0.0045), tuple(0.6 * c for c in look.hair)),
        ((0.0, 1.497), (0.024, 0.0085), LIPS),
    ):
        inside: Bool[np.ndarray, " v"] = ((aside - center[0]) / size[0]) ** 2 + ((y - center[1]) / size[1]) ** 2 < 1
        color[inside & front] = paint
    return np.asarray(color)


def _cloth(places: Points, colors: tuple[Color, Color], pattern: str) -> Colors:
    """Two colours in a pattern; the front of a shirt has buttons or a logo that its back has not."""
    second = PATTERNS[pattern](places)
    weave = 1 + 0.03 * np.sin(300 * places[:, 1]) * np.sin(300 * places[:, 0])
    return np.asarray(np.where(second[:, None], colors[1], colors[0]) * weave[:, None])


def _stripes(places: Points) -> Bool[np.ndarray, " v"]:
    return np.asarray(np.mod(places[:, 1], 0.07) < 0.028)


def _checks(places: Points) -> Bool[np.ndarray, " v"]:
    x, y, z = places.T
    return np.asarray((np.mod(x + 0.25 * z, 0.09) < 0.03) ^ (np.mod(y, 0.09) < 0.03))


def _dots(places: Points) -> Bool[np.ndarray, " v"]:
    x, y, z = places.T
    row = np.floor(y / 0.06)
    u, v = np.mod(x + 0.5 * z + 0.03 * (row % 2), 0.06) - 0.03, np.mod(y, 0.06) - 0.03
    return np.asarray(u**2 + v**2 < 0.016**2)


def _logo(places: Points) -> Bool[np.ndarray, " v"]:
    """A ring and a bar on the chest, and a number of bars on the back."""
    x, y, z = places.T
    radius = np.hypot(x, y - 1.24)
    front = (z > 0.02) & (((radius > 0.045) & (radius < 0.075)) | ((np.abs(x) < 0.015) & (radius < 0.045)))
    back = (z < 0.0) & (np.abs(x) < 0.09) & (y > 1.13) & (y < 1.31) & (np.mod(x, 0.06) < 0.03)
    return np.asarray(front | back)


def _plain(places: Points) -> Bool[np.ndarray, " v"]:
    return np.zeros(len(places), bool)


PATTERNS = {"stripes": _stripes, "logo": _logo, "checks": _checks, "dots": _dots, "plain": _plain}
