"""Networks in bfloat16 while they are trained: near enough to float32, and float32 again afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fieldcast.fields import build, default_spec
from fieldcast.fields.heads import Network, trained_in
from fieldcast.fields.training import Training

SIZES = {
    "hashgrid": {"levels": "4", "log2_table": "8", "finest_resolution": "32"},
    "mlp": {"layers": "3", "width": "32"},
}


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("rows", [0, 1, 300, 2048, 2049])
def test_bfloat16_is_float32_but_for_its_rounding(kind: str, rows: int) -> None:
    """Values, and gradients of inputs and of parameters; the padding shows nowhere."""
    field = build(default_spec(kind).resized(SIZES[kind]), seed=0)
    d = torch.nn.functional.normalize(torch.randn(rows, 3), dim=-1)
    appearance = torch.randn(rows, 16)
    weights = torch.randn(rows, 3)
    results = []
    for precision in (torch.float32, torch.bfloat16):
        x = appearance.clone().requires_grad_()
        with trained_in(field, precision):
            rgb = field.color(x, d)
        assert rgb.dtype == torch.float32
        assert rgb.shape == (rows, 3)
        parameters = list(field.color_net.parameters())
        results.append([rgb.detach(), *torch.autograd.grad((rgb * weights).sum(), [x, *parameters])])
    for exact, rounded in zip(*results, strict=True):
        assert exact.dtype == rounded.dtype == torch.float32
        # As a whole: a unit that is nearly 0 may be on in one and off in the other.
        assert float((exact - rounded).norm()) <= 0.12 * float(exact.norm())
    assert torch.allclose(*(rgb for rgb, *_ in results), rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", SIZES)
def test_a_field_computes_in_float32_outside_of_training(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldcast.fields.training.training_precision", lambda device: torch.bfloat16)
    field = build(default_spec(kind).resized(SIZES[kind]), seed=0)
    x, d = torch.rand(64, 3) - 0.5, torch.nn.functional.normalize(torch.randn(64, 3), dim=-1)
    used = []

    def loss(step: int, generator: torch.Generator) -> Tensor:
        used.extend(m.precision for m in field.modules() if isinstance(m, Network))
        sigma, rgb = field(x, d)
        return sigma.mean() + rgb.mean()

    before = field(x, d)[1]
    Training(field, loss, lambda step, rate: 0.0, 2, 0, "still").run()
    assert set(used) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in field.parameters())
    assert all(m.precision == torch.float32 for m in field.modules() if isinstance(m, Network))
    assert torch.equal(field(x, d)[1], before)


def test_precision_is_restored_after_an_error() -> None:
    field = build(default_spec("mlp").resized(SIZES["mlp"]))
    with pytest.raises(ValueError, match="stop"), trained_in(field, torch.bfloat16):
        raise ValueError("stop")
    assert all(m.precision == torch.float32 for m in field.modules() if isinstance(m, Network))
