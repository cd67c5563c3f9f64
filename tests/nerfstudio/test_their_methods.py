"""Runs of nerfstudio's vanilla-nerf and tensorf: what is read is what their own fields compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import Frustums, RaySamples
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.utils.eval_utils import eval_setup

import fieldcast


@pytest.mark.parametrize(
    ("method", "field", "kind"), [("vanilla-nerf", "field_fine", "nerf"), ("tensorf", "field", "tensorf")]
)
def test_it_is_the_same_function(
    method: str, field: str, kind: str, blender: Path, trained: Any, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few steps on, all over their box."""

    def change(config: Any) -> None:
        config.pipeline.datamanager.dataparser = BlenderDataParserConfig(data=blender)
        config.pipeline.datamanager.train_num_rays_per_batch = 64
        if method == "tensorf":
            config.pipeline.model.init_resolution = config.pipeline.model.final_resolution = 32

    config = trained(method, 5, change)
    # Their checkpoints may hold more than tensors, which nerfstudio's own loader trips over.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    theirs = getattr(eval_setup(config)[1].model, field).eval()
    ours = fieldcast.open(config)
    assert ours.spec.kind == kind
    x, d = 2.9 * torch.rand(2000, 3) - 1.45, torch.nn.functional.normalize(torch.randn(2000, 3), dim=-1)
    none = torch.zeros(2000, 1, 1)  # rays of one sample each
    samples = RaySamples(Frustums(x[:, None], d[:, None], none, none, none + 1), camera_indices=none.long())
    with torch.no_grad():
        found = theirs(samples)
        sigma, rgb = ours(x, d)
    assert float(found[FieldHeadNames.DENSITY].std()) > 0 and float(found[FieldHeadNames.RGB].std()) > 0
    mean = float(found[FieldHeadNames.DENSITY].mean())
    torch.testing.assert_close(sigma, found[FieldHeadNames.DENSITY][:, 0, 0], rtol=1e-4, atol=1e-4 * mean)
    torch.testing.assert_close(rgb, found[FieldHeadNames.RGB][:, 0], rtol=1e-4, atol=1e-4)
