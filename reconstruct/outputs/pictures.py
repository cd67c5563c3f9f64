"""What a reconstruction looks like beside what it was made from: panels of a frame, a sheet of frames, and a film.

Letters: H by W pixels, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.images import eight_bit, save_png
from fieldcast.fields.files.video import save_mp4
from fieldcast.reconstruct.outputs.layout import Picture, stacked, table
from fieldcast.reconstruct.outputs.masks import overlay

SHEET = 8  # rows of a sheet
ACROSS = 4  # panels beside each other in a film; more go below
CELL, FILM_CELL = 256, 480  # pixels of the longer side of a panel, at most


@dataclass(frozen=True, eq=False)
class View:
    """A frame of a recording and what was made of it, all of one size.

    frame: the input. rendering: the reconstruction, sRGB 0..1. alone: each person with nobody before them, straight
    RGBA 0..1. normals: of the surfaces that are seen, unit vectors, zero where nothing is; x, y and z become red, green
    and blue. depth: metres, infinity where nothing is. labels: who is seen in each pixel.
    """

    frame: UInt8[Tensor, "h w 3"]
    rendering: Float[Tensor, "h w 3"]
    alone: Sequence[Float[Tensor, "h w 4"]] = ()
    normals: Float[Tensor, "h w 3"] | None = None
    depth: Float[Tensor, "h w"] | None = None
    labels: UInt8[Tensor, "h w"] | None = None


def panels(view: View, names: Sequence[str], depths: tuple[float, float] | None = None) -> dict[str, Picture]:
    """The pictures of a frame, with what they are. names: of the people. depths: as `depth_picture` takes them."""
    found: dict[str, Picture] = {"input": view.frame.cpu()}
    if view.labels is not None:
        found["who is where"] = overlay(found["input"], view.labels.cpu())
    found["reconstruction"] = eight_bit(view.rendering)
    for name, rgba in zip(names, view.alone, strict=True) if view.alone else ():
        found[f"{name} alone"] = eight_bit(rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:])
    if view.normals is not None:
        found["normals"] = eight_bit(normal_picture(view.normals))
    if view.depth is not None:
        found["depth"] = eight_bit(depth_picture(view.depth, depths))
    return found


def normal_picture(normals: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """-1 to 1 as 0 to 1; white where there are none."""
    there = normals.norm(dim=-1, keepdim=True) > 1e-6
    return torch.where(there, 0.5 + 0.5 * torch.nn.functional.normalize(normals, dim=-1), 1.0)


def depth_picture(depth: Float[Tensor, "h w"], limits: tuple[float, float] | None = None) -> Float[Tensor, "h w 3"]:
    """Grey, the nearer the lighter; black where nothing is. limits: metres that become lightest and darkest, the
    nearest and farthest that are seen unless given.
    """
    there = depth.isfinite()
    if not bool(there.any()):
        return torch.zeros(*depth.shape, 3)
    near, far = limits or (float(depth[there].min()), float(depth[there].max()))
    share = ((depth - near) / max(far - near, 1e-6)).clamp(0, 1)
    return torch.where(there, 1 - 0.8 * share, 0.0)[..., None].expand(-1, -1, 3)


def depth_limits(views: Iterable[View]) -> tuple[float, float] | None:
    """The nearest and the farthest of what is seen in frames, metres; None where nothing is."""
    seen = [view.depth[view.depth.isfinite()] for view in views if view.depth is not None]
    seen = [depth for depth in seen if len(depth)]
    if not seen:
        return None
    return min(float(depth.min()) for depth in seen), max(float(depth.max()) for depth in seen)


def chosen(frames: int, count: int = SHEET) -> list[int]:
    """Numbers of frames from the first to the last, about evenly apart, at most so many."""
    last = min(frames, count) - 1
    return [round(i * (frames - 1) / last) for i in range(last + 1)] if last > 0 else [0][:frames]


def save_sheet(path: Path, views: dict[int, View], names: Sequence[str], fps: float, force: bool = False) -> None:
    """A PNG with a row for each of some frames, by their numbers, and a column for each panel."""
    if not views:
        raise InputError(f"{path}: expected at least one frame to show, found none")
    limits = depth_limits(views.values())
    rows = [panels(view, names, limits) for view in views.values()]
    sides = [f"frame {number}, {number / fps:.2f} s" for number in views]
    picture = table([list(row.values()) for row in rows], list(rows[0]), sides, CELL)
    save_png(picture.float() / 255, path, force)


def film(
    views: Iterable[View], names: Sequence[str], depths: tuple[float, float] | None = None
) -> Iterator[Float[Tensor, "h w 3"]]:
    """The panels of each frame, up to ACROSS beside each other; taken one by one, so views may be made on the way.

    depths: metres, the same for all frames, or depth would flicker.
    """
    for view in views:
        found = panels(view, names, depths)
        heads, cells = list(found), list(found.values())
        across = -(-len(cells) // -(-len(cells) // ACROSS))  # rows of about the same length
        parts = [slice(i, i + across) for i in range(0, len(cells), across)]
        yield stacked([table([cells[part]], heads[part], [""], FILM_CELL) for part in parts]).float() / 255


def save_film(
    path: Path,
    views: Iterable[View],
    names: Sequence[str],
    fps: float,
    depths: tuple[float, float] | None = None,
    force: bool = False,
) -> None:
    """The comparison of all frames as MP4."""
    save_mp4(film(views, names, depths), path, fps, force)
