"""The prior in the package: that it is small, knows its words, keeps objects, and finds back to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import fieldcast
from fieldcast.cli import cli
from fieldcast.endings import main_guard
from fieldcast.fields.space import Space
from fieldcast.morph import demo, given_by, open_prior
from fieldcast.morph.distance import distance
from fieldcast.morph.flow import flow, generate, integrate, invert
from fieldcast.morph.priors.builtin import BuiltinPrior, builtin_file

ASSETS = Path(demo.__file__).with_name("assets")


@pytest.fixture(scope="module")
def prior() -> BuiltinPrior:
    found = open_prior()
    assert isinstance(found, BuiltinPrior)
    return found


def test_it_fits_in_the_package(prior: BuiltinPrior) -> None:
    assert builtin_file().stat().st_size < 25e6
    assert len(prior.words) > 500 and {"car", "tree", "red", "animal"} <= set(prior.words)
    assert prior.made["steps"] > 0


@pytest.mark.parametrize("name", [demo.FIRST, demo.SECOND])
def test_objects_come_through_its_codec_and_its_flow(prior: BuiltinPrior, name: str) -> None:
    """Neither was learned from."""
    given = given_by(prior, str(ASSETS / name))
    assert given.volume
    latent, told = prior.encode(given.volume), prior.embed(given.caption)
    assert distance(given.volume, prior.volume(latent, given.volume.space)) < 0.15
    noise = invert(prior, latent[None], told, 25)
    with torch.no_grad():
        back = integrate(flow(prior, told), noise, prior.times(25))[0]
    assert float((back - latent).norm() / latent.norm()) < 0.01
    assert 0.7 < float(noise.std()) < 1.3


@pytest.mark.parametrize(("caption", "channel"), [("red car", 0), ("blue bottle", 2)])
def test_it_listens(prior: BuiltinPrior, caption: str, channel: int) -> None:
    volumes = [prior.volume(z, Space()) for z in generate(prior, caption, 3, seed=0, steps=12)]
    colors = torch.cat([v.rgb[v.sdf.abs() < 1] for v in volumes]).mean(0)
    assert int(colors.argmax()) == channel
    assert all(0.001 < float(v.solid.float().mean()) < 0.7 for v in volumes)


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_guard(cli, ["demo", "morph", "--out", str(tmp_path / "demo"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frames"] == 16 and told["longest_step"] < 1.5
    assert told["first"]["distance_to_input"] < 0.15 and told["second"]["distance_to_input"] < 0.15
    assert isinstance(fieldcast.open(tmp_path / "demo" / "frames" / "007.safetensors"), fieldcast.Field)
    assert (tmp_path / "demo" / "morph.mp4").stat().st_size > 10_000
