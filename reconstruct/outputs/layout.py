"""Pictures side by side, with words above the columns and beside the rows.

Lengths are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP, TEXT = 8, 14  # between pictures; the height of letters
PAPER, INK, FRAME = (255, 255, 255), (40, 40, 40), (200, 200, 200)
SMALLEST = 160  # the least width of a column, for its words

Picture = UInt8[Tensor, "h w 3"]
Sheet = UInt8[Tensor, "_ _ 3"]


def table(rows: Sequence[Sequence[Picture]], heads: Sequence[str], sides: Sequence[str], largest: int = 256) -> Sheet:
    """Rows of pictures on white. heads: a line above each column. sides: a line beside each row; all empty for none.

    Pictures are shrunk until their longer side is `largest`, and small ones become whole times as wide as SMALLEST
    asks, so that their pixels stay squares. Rows may differ in how many pictures they have, not in their size.
    """
    cells = [[fitted(picture, largest) for picture in row] for row in rows]
    width, height = cells[0][0].size
    margin = GAP + (max(_length(line) for line in sides) + GAP if any(sides) else 0)
    top = 2 * GAP + TEXT
    columns = max(len(heads), *(len(row) for row in cells))
    paper = Image.new("RGB", (margin + columns * (width + GAP), top + len(cells) * (height + GAP)), PAPER)
    draw = ImageDraw.Draw(paper)
    for j, head in enumerate(heads):
        middle = margin + j * (width + GAP) + width // 2
        draw.text((middle, GAP + TEXT // 2), shortened(head, width), INK, _font(), anchor="mm")
    for i, (row, side) in enumerate(zip(cells, sides, strict=True)):
        y = top + i * (height + GAP)
        draw.text((GAP, y + height // 2), side, INK, _font(), anchor="lm")
        for j, cell in enumerate(row):
            x = margin + j * (width + GAP)
            paper.paste(cell, (x, y))
            draw.rectangle((x - 1, y - 1, x + width, y + height), outline=FRAME)
    return torch.from_numpy(np.array(paper))


def stacked(pictures: Sequence[Sheet]) -> Sheet:
    """Pictures below each other, the narrower ones with white to their right."""
    width = max(picture.shape[1] for picture in pictures)
    paper = [torch.nn.functional.pad(p, (0, 0, 0, width - p.shape[1]), value=255) for p in pictures]
    return torch.cat(paper)


def fitted(picture: Picture, largest: int) -> Image.Image:
    """A picture at the size of a cell."""
    height, width = picture.shape[:2]
    image, longer = Image.fromarray(np.ascontiguousarray(picture.cpu().numpy())), max(height, width)
    if longer > largest:
        size = max(1, round(width * largest / longer)), max(1, round(height * largest / longer))
        return image.resize(size, Image.Resampling.LANCZOS)
    times = min(-(-SMALLEST // width), largest // longer)
    return image.resize((width * times, height * times), Image.Resampling.NEAREST)


def shortened(line: str, width: int) -> str:
    """A line that fits into so many pixels: its end is left out if it must be."""
    if _length(line) <= width:
        return line
    while line and _length(line + "…") > width:
        line = line[:-1]
    return line + "…"


def _length(line: str) -> int:
    return int(np.ceil(_font().getlength(line)))


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The one that comes with Pillow."""
    return ImageFont.load_default(TEXT)
