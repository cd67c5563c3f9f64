"""The verdict on a conversion: its arithmetic, its limits, and what it tells."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldcast.distill.verdict import Verdict, loss, wanted_fidelity
from fieldcast.fields.metrics import psnr

DECIBEL = st.floats(5, 60)


@given(source=DECIBEL, lost=st.floats(0.01, 6))
def test_what_is_wanted_is_what_loses_so_much(source: float, lost: float) -> None:
    assert loss(source, wanted_fidelity(source, lost)) == pytest.approx(lost)


def test_limits_of_the_rule() -> None:
    """0.3 dB take 11.5 dB more than the source has, 1 dB takes 5.9."""
    assert wanted_fidelity(33, 0.3) == pytest.approx(44.5, abs=0.05)
    assert wanted_fidelity(33, 1.0) == pytest.approx(38.9, abs=0.05)
    assert loss(30, 200) == pytest.approx(0, abs=1e-9)
    assert loss(30, 30) == pytest.approx(10 * math.log10(2))


def test_independent_errors_add_up_as_predicted() -> None:
    """Pictures with errors drawn at random: the PSNR that is left is the one that the rule gives."""
    truth = torch.full((400, 400, 3), 0.5)
    source = truth + 0.03 * torch.randn_like(truth)
    student = source + 0.02 * torch.randn_like(truth)
    judged = Verdict(psnr(student, source), psnr(source, truth))
    assert judged.student_psnr == pytest.approx(psnr(student, truth), abs=0.03)


@pytest.mark.parametrize(
    ("fidelity", "level"), [(42.0, "faithful"), (41.3, "close"), (36.0, "close"), (35.7, "unfaithful")]
)
def test_levels(fidelity: float, level: str) -> None:
    assert Verdict(fidelity, 30.0).level == level


def test_what_it_says() -> None:
    assert Verdict(45.0, 30.0).summary() == "verdict: faithful: about 0.1 of its source's 30.0 dB are lost"
    poor = Verdict(33.0, 30.0).summary()
    assert poor.startswith("verdict: unfaithful: about 1.8 of its source's 30.0 dB are lost; a loss of 0.3 takes")
    assert "--target-db 41.5" in poor
    assert Verdict(40.0, 30.0).to_json()["level"] == "close"


def test_a_source_that_nobody_judged() -> None:
    unknown = Verdict(41.5, None)
    assert (unknown.level, unknown.lost, unknown.student_psnr) == ("unknown", None, None)
    assert "at most 30.0 dB" in unknown.summary()
    assert unknown.to_json() == {"level": "unknown", "source_psnr": None, "lost": None, "wanted_fidelity": None}
