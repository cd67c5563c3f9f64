"""Runs that the tests share, each trained once: of our methods and of nerfstudio's own, on a scene of a few pixels."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

torch.set_num_threads(1)  # two spin on a busy machine

from nerfstudio.configs.method_configs import all_methods  # noqa: E402
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig  # noqa: E402
from nerfstudio.scripts.train import train_loop  # noqa: E402

import fieldcast  # noqa: E402
from fieldcast.fields.files.images import save_png  # noqa: E402
from fieldcast.fields.scenes.demo import demo_scene  # noqa: E402

SIZE, VIEWS = 64, {"train": 36, "val": 2, "test": 3}
SEED = 0


@dataclass(frozen=True)
class Run:
    """A run of nerfstudio: its `config.yml`, and the data set that it learned from."""

    config: Path
    data: Path


@pytest.fixture(scope="session", autouse=True)
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches and outputs in a folder of the tests."""
    folder = tmp_path_factory.mktemp("apart")
    before = Path.cwd(), dict(os.environ)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    os.chdir(folder)
    yield folder
    os.chdir(before[0])
    os.environ.clear()
    os.environ.update(before[1])


@pytest.fixture(scope="session")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo scene as a data set of Blender's: pictures with transparency and `transforms_*.json`."""
    folder = tmp_path_factory.mktemp("blender")
    for split, count in VIEWS.items():
        scene = demo_scene(split, SIZE).spread(count)
        (folder / split).mkdir()
        frames = []
        for index, image in enumerate(scene.images):
            save_png(image.float() / 255, folder / split / f"r_{index}.png")
            pose = [*scene.cameras.c2w[index].tolist(), [0.0, 0.0, 0.0, 1.0]]
            frames.append({"file_path": f"./{split}/r_{index}", "transform_matrix": pose})
        focal = float(scene.cameras.intrinsics[0, 0])
        angle = 2 * float(torch.atan(torch.tensor(SIZE / 2 / focal, dtype=torch.float64)))
        document = {"camera_angle_x": angle, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a method in this process, and gives its `config.yml`; change: what to set before."""

    def train(name: str, steps: int, change: Callable[[Any], None]) -> Path:
        config = copy.deepcopy(all_methods[name])
        config.vis, config.max_num_iterations, config.machine.seed = "tensorboard", steps, SEED
        config.machine.device_type = "cpu"
        config.output_dir, config.experiment_name = tmp_path_factory.mktemp("outputs"), "demo"
        config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 10**9
        config.logging.local_writer.enable = False
        change(config)
        config.set_timestamp()
        config.save_config()
        train_loop(0, 1, config)
        path: Path = config.get_base_dir() / "config.yml"
        return path

    return train


@pytest.fixture(scope="session")
def hashgrid(trained: Callable[..., Path], blender: Path) -> Run:
    """`ns-train fieldcast-hashgrid`, 300 steps."""

    def change(config: Any) -> None:
        config.pipeline.datamanager.dataparser = BlenderDataParserConfig(data=blender)
        sizes = config.pipeline.model.sizes
        config.pipeline.model.sizes = type(sizes)(levels=8, log2_table=14, finest_resolution=256, hidden=32)

    return Run(trained("fieldcast-hashgrid", 300, change), blender)


@pytest.fixture(scope="session")
def nerfacto(trained: Callable[..., Path], blender: Path, offline: None) -> Run:
    """A tiny run of nerfstudio's own nerfacto, as it is without tiny-cuda-nn, for tests of who reads such runs."""

    def change(config: Any) -> None:
        config.pipeline.datamanager.dataparser = BlenderDataParserConfig(data=blender)
        config.pipeline.datamanager.train_num_rays_per_batch = 256
        model = config.pipeline.model
        model.implementation, model.log2_hashmap_size, model.max_res = "torch", 12, 128
        # As its users are told to train on pictures of Blender's: a box, and white behind it.
        model.disable_scene_contraction, model.background_color = True, "white"
        model.near_plane, model.far_plane, model.proposal_initial_sampler = 2.0, 6.0, "uniform"
        model.num_nerf_samples_per_ray, model.num_proposal_samples_per_ray = 16, (32, 16)
        for network in model.proposal_net_args_list:
            network["log2_hashmap_size"] = 11
        model.camera_optimizer.mode = "off"
        for group in ("fields", "proposal_networks"):  # at the rates of long runs, all colours are black in short ones
            config.optimizers[group]["optimizer"].lr = 2e-3

    return Run(trained("nerfacto", 300, change), blender)


@pytest.fixture(scope="session")
def offline() -> Iterator[None]:
    """Lets nerfstudio's models be made without the network that they measure with, which they would download."""
    import torchmetrics.image.lpip as lpips

    class Nothing(torch.nn.Module):
        def __init__(self, **_: Any) -> None:
            super().__init__()

        def forward(self, *_: Any) -> torch.Tensor:
            return torch.zeros(())

    before = lpips.LearnedPerceptualImagePatchSimilarity
    lpips.LearnedPerceptualImagePatchSimilarity = Nothing
    yield
    lpips.LearnedPerceptualImagePatchSimilarity = before


@pytest.fixture(scope="session")
def field(hashgrid: Run) -> fieldcast.Field:
    """What the run of `hashgrid` opens as."""
    return fieldcast.open(hashgrid.config)
