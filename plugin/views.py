"""Cameras of nerfstudio and of ours, and what a data manager tells a model of the views that it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras as TheirCameras
from nerfstudio.cameras.cameras import CameraType

from fieldcast.fields.cameras import Cameras
from fieldcast.fields.space import Space, Vector3

KEY = "fieldcast"  # in the metadata of a data set
WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Views:
    """cameras: in nerfstudio's frame; None where a lens is none of ours. cut_out: the pictures show an object alone.

    background: what is seen where nothing is, sRGB 0..1. space: where the scene is, if more is known than its box.
    data: what the pictures were read from, or rendered.
    """

    cameras: Cameras | None = None
    cut_out: bool = False
    background: Vector3 = BLACK
    space: Space | None = None
    data: Path | None = None

    @staticmethod
    def of(metadata: Mapping[str, Any] | None) -> Views:
        """What our data manager left there; data managers of others leave nothing."""
        found = (metadata or {}).get(KEY)
        return found if isinstance(found, Views) else Views()


def our_cameras(cameras: TheirCameras) -> Cameras | None:
    """Cameras of nerfstudio as ours; None unless all are ideal or have a lens of one of OpenCV's models."""
    kinds = {CameraType(int(kind)) for kind in cameras.camera_type.flatten()}
    if kinds not in ({CameraType.PERSPECTIVE}, {CameraType.FISHEYE}):
        return None
    fisheye = kinds == {CameraType.FISHEYE}
    columns = [getattr(cameras, name).reshape(-1, 1).float().cpu() for name in ("fx", "fy", "cx", "cy")]
    size = torch.cat([cameras.width.reshape(-1, 1), cameras.height.reshape(-1, 1)], -1).long().cpu()
    lens = cameras.distortion_params
    if lens is not None and (fisheye or bool(lens.any())):
        distortion = lens.reshape(-1, 6).float().cpu()
    else:
        distortion = torch.zeros(len(size), 6) if fisheye else None
    return Cameras(cameras.camera_to_worlds.float().cpu(), torch.cat(columns, -1), size, distortion, fisheye)


def their_cameras(cameras: Cameras) -> TheirCameras:
    """Our cameras, of ideal lenses, as nerfstudio's."""
    fx, fy, cx, cy = cameras.intrinsics.unbind(-1)
    width, height = cameras.size.unbind(-1)
    return TheirCameras(cameras.c2w, fx, fy, cx, cy, width, height, camera_type=CameraType.PERSPECTIVE)
