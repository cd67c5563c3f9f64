"""Ways of looking at a scene: a turntable, a flight through the views it was seen from, a camera path from a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, look_at, orbit, pinhole
from fieldcast.fields.field import Field
from fieldcast.fields.renderable import Renderable

RADIUS = 2.7  # half box sides from the centre to the camera, where no view says otherwise
FOV = math.radians(40)  # across the shorter image side
Size = tuple[int, int]


def camera_path(field: Field | Renderable, path: str, frames: int, size: Size) -> Cameras:
    """Cameras for `path`: `turntable`, `views`, or the name of a camera path file (which brings its own count)."""
    if path == "turntable":
        return turntable(field, frames, size)
    if path == "views":
        if field.views is None:
            raise InputError("--path views: this scene does not know the views it was seen from; use turntable")
        return flight(field.views, frames, size)
    if path.endswith(".json"):
        return read_camera_path(Path(path), size)
    raise InputError(f"--path {path}: expected turntable, views or a .json file")


def default_path(field: Field | Renderable) -> str:
    """`turntable`, but for an open world, of which a capture sees one side, its own views."""
    return "turntable" if field.space.bounded or field.views is None else "views"


def turntable(field: Field | Renderable, frames: int, size: Size) -> Cameras:
    """A circle around the box, from as far, as high and with as wide a lens as the field was seen."""
    space = field.space
    azimuth = torch.arange(frames) / frames * 2 * math.pi
    radius, elevation, fov = RADIUS * space.unit, math.radians(25), FOV
    if field.views is not None:
        offset = field.views.centers.cpu() - torch.tensor(space.center)
        distance = offset.norm(dim=-1)
        radius = float(distance.median())
        elevation = float(torch.asin((offset @ torch.tensor(space.up) / distance).clamp(-1, 1)).median())
        focal = field.views.intrinsics[:, :2].cpu().mean(-1)
        fov = float((2 * torch.atan(field.views.size.cpu().amin(-1) / 2 / focal)).median())
    return orbit(space, azimuth, torch.full_like(azimuth, elevation), radius, width=size[0], height=size[1], fov=fov)


def flight(views: Cameras, frames: int, size: Size) -> Cameras:
    """A closed flight past views, each followed by the nearest one not yet passed; the first view's lens."""
    views = views.to("cpu")
    c2w = views.c2w[nearest_tour(views.centers)]
    at = torch.arange(frames) / frames * len(c2w)
    index, part = at.long(), at.frac()[:, None, None]
    part = part * part * (3 - 2 * part)
    mixed = c2w[index] + part * (c2w[(index + 1) % len(c2w)] - c2w[index])
    poses = look_at(
        mixed[:, :, 3], mixed[:, :, 3] - mixed[:, :, 2], torch.nn.functional.normalize(mixed[:, :, 1], dim=-1)
    )
    width, height = views.size[0].tolist()
    fov = 2 * math.atan(min(width, height) / 2 / float(views.intrinsics[0, 0]))
    return pinhole(poses, *size, fov)


def nearest_tour(points: Float[Tensor, "v 3"]) -> list[int]:
    """An order of the points in which each is followed by the nearest one that is left."""
    distance = torch.cdist(points, points)
    tour = [0]
    distance[:, 0] = math.inf
    while len(tour) < len(points):
        tour.append(int(distance[tour[-1]].argmin()))
        distance[:, tour[-1]] = math.inf
    return tour


def read_camera_path(path: Path, size: Size) -> Cameras:
    """A camera path in the JSON that nerfstudio's viewer writes: a list `camera_path` of `camera_to_world` and `fov`.

    fov: degrees from the upper to the lower edge of the picture, each frame's own.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from None
    frames = data.get("camera_path") if isinstance(data, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{path}: expected an object with a list `camera_path`, as nerfstudio's viewer writes")
    poses = torch.stack([_pose(path, i, frame) for i, frame in enumerate(frames)])
    width, height = size
    focal = torch.tensor([0.5 * height / math.tan(_fov(path, i, frame) / 2) for i, frame in enumerate(frames)])
    center = torch.tensor([width / 2, height / 2]).expand(len(frames), 2)
    return Cameras(poses, torch.cat([focal[:, None].expand(-1, 2), center], -1), torch.tensor([size] * len(frames)))


def _pose(path: Path, index: int, frame: Any) -> Tensor:
    values = frame.get("camera_to_world") if isinstance(frame, dict) else None
    flat = values if isinstance(values, list) else []
    if len(flat) == 4 and all(isinstance(row, list) for row in flat):
        flat = [v for row in flat for v in row]
    if len(flat) != 16 or not all(_is_number(v) for v in flat):
        raise InputError(f"{path}: camera_path[{index}].camera_to_world: expected 16 finite numbers")
    return torch.tensor(flat, dtype=torch.float32).reshape(4, 4)[:3]


def _fov(path: Path, index: int, frame: Any) -> float:
    """Radians."""
    fov = frame.get("fov", 50.0)
    if not _is_number(fov) or not 0 < fov < 180:
        raise InputError(f"{path}: camera_path[{index}].fov: expected degrees between 0 and 180, found {fov!r:.60}")
    return math.radians(fov)


def _is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number that float32 can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -3e38 < value < 3e38
