"""The methods: `ns-train fieldcast-hashgrid` and the others, one for each kind of field."""

from __future__ import annotations

import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification

from fieldcast.fields.fit import STEPS
from fieldcast.fields.kinds import KINDS
from fieldcast.plugin.data import FieldDataManagerConfig
from fieldcast.plugin.distilling import DistillModelConfig
from fieldcast.plugin.model import FieldModelConfig
from fieldcast.plugin.rates import optimizers
from fieldcast.plugin.renders import RendersConfig

DISTILL_STEPS = 500  # between those of the kinds that learn quickly and slowly
ABOUT = {
    "mlp": "a small network of positions (NeRF's, in PVD's size)",
    "hashgrid": "a hash grid and two small networks (Instant-NGP)",
    "vm": "planes times lines (TensoRF-VM)",
    "cp": "lines alone (TensoRF-CP)",
    "voxels": "a grid of densities and harmonics, without networks (Plenoxels)",
    "planes": "three planes at several resolutions (K-Planes)",
    "hybrid": "a hash grid and low-rank planes together",
    "nerf": "NeRF's own network",
    "tensorf": "TensoRF as its authors released it",
}


def trainer(name: str, datamanager: FieldDataManagerConfig, model: FieldModelConfig, steps: int) -> TrainerConfig:
    """How a method is trained; on a CPU where there is no CUDA."""
    return TrainerConfig(
        method_name=f"fieldcast-{name}",
        max_num_iterations=steps,
        steps_per_save=1000,
        mixed_precision=False,
        machine=MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu"),
        pipeline=VanillaPipelineConfig(datamanager=datamanager, model=model),
        optimizers=optimizers(),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 13),
        vis="viewer",
    )


def method(kind: str) -> MethodSpecification:
    """The method that fits a kind of field to pictures."""
    data = FieldDataManagerConfig(dataparser=NerfstudioDataParserConfig())
    model = FieldModelConfig(kind=kind, sizes=KINDS[kind].Sizes())
    return MethodSpecification(trainer(kind, data, model, STEPS), f"fieldcast: {ABOUT[kind]}")


def distilling() -> MethodSpecification:
    """The method whose teacher is another scene; pictures of that are there to look at, not to learn from."""
    data = FieldDataManagerConfig(dataparser=RendersConfig(), train_num_rays_per_batch=64)
    settings = trainer("distill", data, DistillModelConfig(), DISTILL_STEPS)
    return MethodSpecification(settings, "fieldcast: any field as another kind, by distillation, watched in the viewer")


mlp = method("mlp")
hashgrid = method("hashgrid")
vm = method("vm")
cp = method("cp")
voxels = method("voxels")
planes = method("planes")
hybrid = method("hybrid")
nerf = method("nerf")
tensorf = method("tensorf")
distill = distilling()
