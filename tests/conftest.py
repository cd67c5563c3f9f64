"""What all tests share: the same seed, few threads, real data where it is at hand, and which tests run when."""

from __future__ import annotations

import importlib
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: idle threads must not spin on a busy machine

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton: CUDA kernels are tested on the CPU, line by line

# What runs inside of nerfstudio is tested where that is: `make test-nerfstudio`.
collect_ignore = [] if find_spec("nerfstudio") else ["nerfstudio"]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests that take minutes too")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(max(1, min(4, os.cpu_count() or 1)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skip_slow = pytest.mark.skip(reason="takes minutes: run with --run-slow")
    skip_cuda = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "slow" in item.keywords and not config.getoption("--run-slow"):
            item.add_marker(skip_slow)
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(skip_cuda)


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random numbers in every test, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real scenes beside the checkout; tests that use it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip("needs the folder shared/data beside the checkout")
    return DATA


@pytest.fixture(scope="session")
def gsplat() -> Any:
    """gsplat's plain torch module; tests that compare with it are skipped where it is absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("gsplat")
        return importlib.import_module("gsplat.cuda._torch_impl")


@pytest.fixture(scope="session")
def tiny_prior() -> Any:
    """A prior of the built-in's kind, small and of random weights."""
    from fieldcast.morph.priors.builtin import BuiltinPrior
    from fieldcast.morph.priors.builtin.codec import Codec, CodecSizes
    from fieldcast.morph.priors.builtin.transformer import Transformer, TransformerSizes

    torch.manual_seed(3)
    codec = Codec(CodecSizes(shape_basis=8, color_basis=2, shape=2, color=2, width=8, fine=4))
    x, y, z = torch.cartesian_prod(*[torch.linspace(-1, 1, 8)] * 3).T
    smooth = torch.linalg.qr(torch.stack([torch.ones(512), x, y, z, x * y, y * z, z * x, x * y * z], 1))[0]
    codec.shape_basis.copy_(smooth)
    codec.color_basis.copy_(smooth[:, :2])
    for parameter in codec.shape_decoder.cells.parameters():  # or surfaces would be of crumbs
        torch.nn.init.zeros_(parameter)
    codec.shape_decoder.components.bias.data[0] += 4 * smooth[0, 0].sign()  # and of most of the grid
    words = ["", "blue", "car", "house", "red", "tree"]
    network = Transformer(TransformerSizes(tokens=64, channels=32, words=len(words), width=32, blocks=2, heads=2))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    return BuiltinPrior(codec.requires_grad_(False), network.requires_grad_(False), words, {})
