"""Runs of nerfstudio's own nerfacto: what is read is what it computes, and it converts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import Frustums, RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.utils.eval_utils import eval_setup

import fieldcast
from fieldcast.distill import compare, student_spec
from fieldcast.distill.fidelity import comparison_views
from fieldcast.fields.files.checkpoints.nerfstudio import model_settings, newest_checkpoint
from fieldcast.fields.files.checkpoints.pickles import read_pickle
from fieldcast.fields.scenes import open_scene


def test_a_run_of_nerfacto_is_read_as_plain_data(nerfacto: Any) -> None:
    checkpoint = newest_checkpoint(nerfacto.config)
    assert model_settings(checkpoint)["log2_hashmap_size"] == 12
    found = read_pickle(checkpoint)
    assert found["step"] == STEPS - 1
    assert found["pipeline"]["_model.field.mlp_base.model.0.hash_table"].shape == (16 * 2**12, 2)


STEPS = 300


def test_it_is_the_same_function(nerfacto: Any, monkeypatch: pytest.MonkeyPatch, offline: None) -> None:
    """All over the contracted world."""
    # Its checkpoints hold more than tensors, which nerfstudio's own loader trips over.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    theirs = eval_setup(nerfacto.config)[1].model.field.eval()
    ours = fieldcast.open(nerfacto.config)
    assert ours.spec.kind == "hashgrid" and ours.space.contraction == "cube"
    x = torch.cat([torch.randn(2000, 3), 20 * torch.randn(500, 3)])
    d = torch.nn.functional.normalize(torch.randn(2500, 3), dim=-1)
    none = torch.zeros(2500, 1)
    samples = RaySamples(Frustums(x, d, none, none, none + 1), camera_indices=none.long())
    with torch.no_grad():
        sigma, code = theirs.get_density(samples)
        rgb = theirs.get_outputs(samples, code)[FieldHeadNames.RGB]
        found = ours(x, d)
    assert float(sigma.std() / sigma.mean()) > 0.1 and float(rgb.std()) > 0.05
    torch.testing.assert_close(found[0], sigma[:, 0], rtol=1e-4, atol=1e-4 * float(sigma.mean()))
    torch.testing.assert_close(found[1], rgb, rtol=1e-4, atol=1e-4)


def test_it_converts_to_vm(nerfacto: Any) -> None:
    teacher = fieldcast.open(nerfacto.config)
    teacher.views = open_scene(str(nerfacto.data), "train").cameras
    spec = student_spec(teacher.spec, "vm").resized({"resolution": "64", "density_channels": "8"})
    student = fieldcast.convert(teacher, spec, steps=200)
    views = comparison_views(teacher, 2, seed=1, longest=40)
    assert compare(teacher, student, views).psnr > 20  # one colour everywhere has 10
