"""Every method, for some steps, on photographs of an open world: pictures without transparent parts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras as TheirCameras
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from PIL import Image

import fieldcast
from fieldcast.fields import KINDS, Field
from fieldcast.plugin.data import has_transparent_parts
from fieldcast.plugin.rates import GROUPS
from fieldcast.plugin.views import our_cameras, their_cameras

TINY: dict[str, dict[str, Any]] = {
    "hashgrid": {"levels": 4, "log2_table": 12},
    "vm": {"resolution": 16},
    "cp": {"resolution": 16},
    "voxels": {"resolution": 16},
    "nerf": {"layers": 2, "width": 32},
    "tensorf": {"resolution": (16, 16, 16)},
}


@pytest.fixture(scope="module")
def opaque(blender: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo scene before grey, without alpha."""
    folder = tmp_path_factory.mktemp("opaque") / "data"
    shutil.copytree(blender, folder)
    for path in folder.rglob("*.png"):
        rgba = np.asarray(Image.open(path)).astype(float) / 255
        rgb = rgba[..., :3] * rgba[..., 3:] + 0.5 * (1 - rgba[..., 3:])
        Image.fromarray((rgb * 255).round().astype("uint8")).save(path)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_trained(kind: str, opaque: Path, trained: Any) -> None:
    def change(config: Any) -> None:
        config.pipeline.datamanager.dataparser = BlenderDataParserConfig(data=opaque)
        config.pipeline.datamanager.train_num_rays_per_batch = 32
        sizes = config.pipeline.model.sizes
        config.pipeline.model.sizes = type(sizes)(**{**vars(sizes), **TINY.get(kind, {})})
        config.pipeline.model.steps = 64

    found = fieldcast.open(trained(f"fieldcast-{kind}", 2, change))
    assert isinstance(found, Field) and found.spec.kind == kind
    assert found.space.contraction == "sphere" and found.background == (0, 0, 0)  # the pictures show a world
    # Each of the kind's learning rates has an optimiser: a third one would be left out.
    assert len(found.learning_rates()) in range(1, len(GROUPS) + 1)


def test_transparent_parts(tmp_path: Path) -> None:
    opaque, cut_out, plain = (tmp_path / name for name in ("opaque.png", "cut.png", "plain.jpg"))
    rgba = np.full((4, 4, 4), 255, dtype=np.uint8)
    Image.fromarray(rgba).save(opaque)
    Image.fromarray(rgba[..., :3]).save(plain)
    rgba[0, 0, 3] = 0
    Image.fromarray(rgba).save(cut_out)
    assert [has_transparent_parts(path) for path in (opaque, cut_out, plain)] == [False, True, False]
    assert not has_transparent_parts(tmp_path / "absent.png")


@pytest.mark.parametrize("kind", [CameraType.PERSPECTIVE, CameraType.FISHEYE])
def test_lenses_are_nerfstudios(kind: CameraType) -> None:
    """Rays through a lens of either of OpenCV's models are the same."""
    pose = torch.tensor([[[0.0, 0, 1, 2], [1, 0, 0, 3], [0, 1, 0, 4]]])
    lens = torch.tensor([[0.05, -0.01, 0.0, 0.0, 0.002, -0.001]])
    if kind == CameraType.FISHEYE:
        lens[:, 4:] = 0
    theirs = TheirCameras(pose, 30.0, 32.0, 20.5, 15.0, 40, 30, distortion_params=lens, camera_type=kind)
    ours = our_cameras(theirs)
    assert ours is not None and ours.fisheye == (kind == CameraType.FISHEYE)
    bundle = theirs.generate_rays(camera_indices=0, keep_shape=True)
    rays = ours.image_rays(0)
    torch.testing.assert_close(bundle.directions.reshape(-1, 3), rays.directions, rtol=0, atol=1e-5)
    torch.testing.assert_close(bundle.origins.reshape(-1, 3), rays.origins)


def test_cameras_there_and_back() -> None:
    pose = torch.tensor([[[0.0, 0, 1, 2], [1, 0, 0, 3], [0, 1, 0, 4]]])
    theirs = TheirCameras(pose, 30.0, 32.0, 20.5, 15.0, 40, 30, camera_type=CameraType.PERSPECTIVE)
    ours = our_cameras(theirs)
    assert ours is not None and ours.distortion is None
    back = our_cameras(their_cameras(ours))
    assert back is not None and torch.equal(back.intrinsics, ours.intrinsics) and torch.equal(back.size, ours.size)
    panorama = TheirCameras(pose, 30.0, 32.0, 20.5, 15.0, 40, 30, camera_type=CameraType.EQUIRECTANGULAR)
    assert our_cameras(panorama) is None
