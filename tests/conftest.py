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
def tiny_prior() -> Any:
    """A BuiltinPrior of random weights, 64 tokens of 32 channels: what it makes is smooth in each block, and nothing.

    The bases are cosines, orthonormal; the flow's last layer and its gates are not zero, as they are before training.
    """
    from fieldcast.morph.priors.builtin import BuiltinPrior
    from fieldcast.morph.priors.builtin.codec import BLOCK, Codec, CodecSizes
    from fieldcast.morph.priors.builtin.transformer import Transformer, TransformerSizes
    from fieldcast.morph.priors.builtin.words import vocabulary

    generator = torch.Generator().manual_seed(0)
    words = vocabulary(["red car", "car"], ["vehicle", "plant"])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        codec = Codec(CodecSizes(shape_basis=8, color_basis=1, shape=2, color=2, width=8, fine=4))
        network = Transformer(TransformerSizes(64, 32, len(words), width=32, blocks=2, heads=2))
        place = (torch.arange(BLOCK) + 0.5) * torch.pi / BLOCK
        waves = torch.stack([torch.ones(BLOCK) / 8**0.5, place.cos() / 2], -1)
        codec.shape_basis = torch.einsum("xi,yj,zk->xyzijk", waves, waves, waves).reshape(BLOCK**3, 8)
        codec.color_basis = codec.shape_basis[:, :1].clone()
        for parameter in codec.cells.parameters():
            parameter.zero_()
        codec.components.weight.mul_(10)
        codec.components.bias[0] = 12.0  # of the mean distance of a block: most are outside
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    for module in (codec, network):
        module.eval().requires_grad_(False)
    return BuiltinPrior(codec, network, words, {})


@pytest.fixture(scope="session")
def gsplat() -> Any:
    """gsplat's plain torch module; tests that compare with it are skipped where it is absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("gsplat")
        return importlib.import_module("gsplat.cuda._torch_impl")
