"""Runs of nerfstudio's own nerfacto: what is read is what it computes, and it converts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import Frustums, RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.fields.nerfacto_field import NerfactoField
from nerfstudio.utils.eval_utils import eval_setup

import fieldcast
from fieldcast.distill import compare, student_spec
from fieldcast.distill.fidelity import comparison_views
from fieldcast.fields.files.checkpoints.nerfstudio import model_settings, newest_checkpoint
from fieldcast.fields.files.checkpoints.pickles import read_pickle
from fieldcast.fields.scenes import open_scene

STEPS = 300  # of the fixture's run


def test_a_run_of_nerfacto_is_read_as_plain_data(nerfacto: Any) -> None:
    checkpoint = newest_checkpoint(nerfacto.config)
    assert model_settings(checkpoint)["log2_hashmap_size"] == 12
    found = read_pickle(checkpoint)
    assert found["step"] == STEPS - 1
    assert found["pipeline"]["_model.field.mlp_base.model.0.hash_table"].shape == (16 * 2**12, 2)


def assert_same(theirs: NerfactoField, ours: Any, x: torch.Tensor) -> None:
    """Density and colour at points, of nerfstudio's own code and of what was opened."""
    d = torch.nn.functional.normalize(torch.randn(len(x), 3), dim=-1)
    none = torch.zeros(len(x), 1)
    samples = RaySamples(Frustums(x, d, none, none, none + 1), camera_indices=none.long())
    with torch.no_grad():
        sigma, code = theirs.get_density(samples)
        rgb = theirs.get_outputs(samples, code)[FieldHeadNames.RGB]
        found = ours(x, d)
    assert float(sigma.std() / sigma.mean()) > 0.1 and float(rgb.std()) > 0.02
    torch.testing.assert_close(found[0], sigma[:, 0], rtol=1e-4, atol=1e-4 * float(sigma.mean()))
    torch.testing.assert_close(found[1], rgb, rtol=1e-4, atol=1e-4)


def test_it_is_the_same_function(nerfacto: Any, monkeypatch: pytest.MonkeyPatch, offline: None) -> None:
    # Its checkpoints hold more than tensors, which nerfstudio's own loader trips over.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    theirs = eval_setup(nerfacto.config)[1].model.field.eval()
    ours = fieldcast.open(nerfacto.config)
    assert ours.spec.kind == "hashgrid" and ours.space.bounded and ours.background == (1, 1, 1)
    assert_same(theirs, ours, 3 * torch.rand(3000, 3) - 1.5)


def test_it_is_the_same_function_in_a_contracted_world(tmp_path: Path) -> None:
    theirs = NerfactoField(
        torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]),
        num_images=7,
        log2_hashmap_size=12,
        spatial_distortion=SceneContraction(order=float("inf")),
        average_init_density=0.01,
        use_average_appearance_embedding=True,
        implementation="torch",
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.3 if len(parameter) > 1000 else 1.5 / parameter.shape[-1] ** 0.5)
    state = {f"_model.field.{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"step": 1, "pipeline": state}, tmp_path / "a.ckpt")
    settings = "average_init_density: 0.01, use_average_appearance_embedding: true"
    (tmp_path / "config.yml").write_text(f"pipeline: {{model: {{{settings}}}}}\n")
    ours = fieldcast.open(tmp_path / "a.ckpt")
    assert ours.space.contraction == "cube"
    assert_same(theirs, ours, torch.cat([torch.randn(2000, 3), 20 * torch.randn(500, 3)]))


def test_it_converts_to_vm(nerfacto: Any) -> None:
    teacher = fieldcast.open(nerfacto.config)
    teacher.views = open_scene(str(nerfacto.data), "train").cameras
    spec = student_spec(teacher.spec, "vm").resized({"resolution": "64", "density_channels": "8"})
    student = fieldcast.convert(teacher, spec, steps=200)
    views = comparison_views(teacher, 2, seed=1, longest=40)
    assert compare(teacher, student, views).psnr > 28  # measured: 35 and 36 dB of the two views
