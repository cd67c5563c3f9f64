"""Runs of nerfstudio's own methods."""

from __future__ import annotations

from typing import Any

from fieldcast.fields.files.checkpoints.nerfstudio import model_settings, newest_checkpoint
from fieldcast.fields.files.checkpoints.pickles import read_pickle


def test_a_run_of_nerfacto_is_read_as_plain_data(nerfacto: Any) -> None:
    checkpoint = newest_checkpoint(nerfacto.config)
    assert model_settings(checkpoint)["log2_hashmap_size"] == 12
    found = read_pickle(checkpoint)
    assert found["step"] == 29
    assert found["pipeline"]["_model.field.mlp_base.model.0.hash_table"].shape == (16 * 2**12, 2)
