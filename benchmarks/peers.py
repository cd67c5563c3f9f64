"""The peers, in one place: parts and models of nerfstudio 1.1.5 in plain torch, as the benchmarks here use them.

    make peers && build/peers/bin/python benchmarks/encodings.py

What they need a GPU for is written in torch instead, in the way that its users write it: marching through an occupancy
grid on a dense lattice of samples, and packed samples spread over a padded [rays, samples] table for compositing.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

warnings.filterwarnings("ignore", category=FutureWarning, message=".*custom_(fwd|bwd)")

# LPIPS wants torchvision and weights; models build it as a metric, and no training step computes it.
_absent: Any = types.ModuleType("torchmetrics.image.lpip")
_absent.LearnedPerceptualImagePatchSimilarity = lambda **_: nn.Identity()
sys.modules[_absent.__name__] = _absent

from nerfacc import accumulate_along_rays, render_weight_from_density  # noqa: E402
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig  # noqa: E402
from nerfstudio.cameras.rays import RayBundle  # noqa: E402
from nerfstudio.data.scene_box import SceneBox  # noqa: E402
from nerfstudio.engine.callbacks import TrainingCallbackAttributes, TrainingCallbackLocation  # noqa: E402
from nerfstudio.engine.optimizers import AdamOptimizerConfig, RAdamOptimizerConfig  # noqa: E402
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig  # noqa: E402
from nerfstudio.field_components.activations import trunc_exp  # noqa: E402
from nerfstudio.field_components.encodings import HashEncoding, SHEncoding, TensorVMEncoding  # noqa: E402
from nerfstudio.field_components.mlp import MLP  # noqa: E402
from nerfstudio.models.nerfacto import NerfactoModelConfig  # noqa: E402
from nerfstudio.models.tensorf import TensoRFModelConfig  # noqa: E402
from nerfstudio.models.vanilla_nerf import VanillaModelConfig  # noqa: E402

from fieldcast.fields.cameras import Rays  # noqa: E402
from fieldcast.fields.encodings.grids import HashSizes  # noqa: E402
from fieldcast.fields.rendering.sampling import entry_and_exit, step_edges  # noqa: E402
from fieldcast.fields.space import Space  # noqa: E402

__all__ = ["MLP", "HashEncoding", "SHEncoding", "TensorVMEncoding"]


def hash_encoding(sizes: HashSizes) -> HashEncoding:
    """nerfstudio's hash encoding in torch: all levels are hashed."""
    return HashEncoding(
        num_levels=sizes.levels,
        min_res=sizes.base_resolution,
        max_res=sizes.finest_resolution,
        log2_hashmap_size=sizes.log2_table,
        features_per_level=sizes.channels,
        implementation="torch",
    )


class PeerField(nn.Module):
    """A hash grid field of nerfstudio's parts, with the networks of fieldcast's: 1 and 2 hidden layers."""

    def __init__(self, sizes: HashSizes, hidden: int = 64) -> None:
        super().__init__()
        self.encoding = hash_encoding(sizes)
        self.harmonics = SHEncoding(levels=4, implementation="torch")
        self.sigma_net = MLP(self.encoding.get_out_dim(), 2, hidden, 16, implementation="torch")
        self.color_net = MLP(31, 3, hidden, 3, out_activation=nn.Sigmoid(), implementation="torch")

    def forward(self, u: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Density per half box side [N] and colour [N, 3] at points of the unit cube."""
        features = self.sigma_net(self.encoding(u))
        rgb = self.color_net(torch.cat([self.harmonics((d + 1) / 2), features[:, 1:]], -1))
        return trunc_exp(features[:, 0]), rgb


@dataclass(frozen=True)
class Packed:
    """Samples ordered by ray: the ray of each [M], distances and lengths [M]."""

    ray: Tensor
    t: Tensor
    dt: Tensor


@torch.no_grad()
def lattice(rays: Rays, space: Space, cells: Tensor, steps: int, jitter: Tensor) -> Packed:
    """The samples of rays in occupied cells, found by looking up every step of every ray at once.

    cells: [r, r, r] booleans. jitter: where in their steps the samples of a ray lie, 0 to 1.
    """
    near, far = entry_and_exit(space, rays.origins, rays.directions)
    edges = step_edges(space, steps)
    t = near[:, None] + edges[:-1] + jitter[:, None] * edges.diff()
    x = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
    i, j, k = (space.to_unit(x) * len(cells)).long().clamp(0, len(cells) - 1).unbind(-1)
    ray, step = (cells[i, j, k] & (t < far[:, None])).nonzero(as_tuple=True)
    return Packed(ray, t[ray, step], edges.diff()[step])


def composite(sigma: Tensor, rgb: Tensor, samples: Packed, rays: int) -> tuple[Tensor, Tensor]:
    """The colours of rays [R, 3], over black, and their opacities [R, 1], by nerfacc in torch."""
    count = torch.bincount(samples.ray, minlength=rays)
    rank = torch.arange(len(samples.ray)) - (count.cumsum(0) - count)[samples.ray]
    shape = (rays, max(int(count.max()), 1))
    place = (samples.ray, rank)
    padded = [torch.zeros(shape).index_put(place, v) for v in (samples.t, samples.t + samples.dt, sigma)]
    weights = render_weight_from_density(*padded)[0][place]
    color = accumulate_along_rays(weights, rgb, ray_indices=samples.ray, n_rays=rays)
    return color, accumulate_along_rays(weights, None, ray_indices=samples.ray, n_rays=rays)


@dataclass(frozen=True)
class Recipe:
    """A method of nerfstudio's: how its model and the optimisers of its groups of parameters are set up.

    rays: per batch. samples: points on a ray that some network is asked about.
    """

    model: Callable[[], Any]
    optimizers: dict[str, tuple[Any, Any]]
    rays: int
    samples: int


OFF = CameraOptimizerConfig(mode="off")
FALLING = ExponentialDecaySchedulerConfig

# As nerfstudio's own method configs say (rates, schedules, rays), in torch and without camera optimisation; nerfacto
# as its documentation says for synthetic scenes: a bounded box, no appearance codes, no distortion loss.
RECIPES = {
    "nerfacto": Recipe(
        lambda: NerfactoModelConfig(
            implementation="torch",
            average_init_density=0.01,
            camera_optimizer=OFF,
            background_color="white",
            disable_scene_contraction=True,
            proposal_initial_sampler="uniform",
            near_plane=2.0,
            far_plane=6.0,
            use_average_appearance_embedding=False,
            distortion_loss_mult=0.0,
            eval_num_rays_per_chunk=4096,
        ),
        {
            name: (AdamOptimizerConfig(lr=1e-2, eps=1e-15), FALLING(lr_final=1e-4, max_steps=200000))
            for name in ("proposal_networks", "fields")
        },
        rays=4096,
        samples=256 + 96 + 48,
    ),
    "tensorf": Recipe(
        lambda: TensoRFModelConfig(
            regularization="tv", camera_optimizer=OFF, background_color="white", eval_num_rays_per_chunk=4096
        ),
        {
            "fields": (AdamOptimizerConfig(lr=1e-3), FALLING(lr_final=1e-4, max_steps=30000)),
            "encodings": (AdamOptimizerConfig(lr=2e-2), FALLING(lr_final=2e-3, max_steps=30000)),
        },
        rays=4096,
        samples=200 + 50,
    ),
    "vanilla-nerf": Recipe(
        lambda: VanillaModelConfig(background_color="white", eval_num_rays_per_chunk=1024),
        {"fields": (RAdamOptimizerConfig(lr=5e-4, eps=1e-8), None)},
        rays=1024,
        samples=64 + 64 + 128 + 1,  # the fine network is asked about the coarse samples again
    ),
}


class PeerModel:
    """A whole model of nerfstudio in training: an iteration of its trainer, in float32 as its trainer runs on a CPU."""

    def __init__(self, name: str, space: Space, views: int) -> None:
        recipe = RECIPES[name]
        box = SceneBox(aabb=torch.tensor(space.aabb).reshape(2, 3))
        config = recipe.model()
        self.name, self.rays, self.samples = name, recipe.rays, recipe.samples
        self.model = config.setup(scene_box=box, num_train_data=views).train()
        groups = self.model.get_param_groups()
        self.optimizers, self.schedulers = [], []
        for group, (optimizer, scheduler) in recipe.optimizers.items():
            self.optimizers.append(optimizer.setup(params=groups[group]))
            if scheduler:
                self.schedulers.append(scheduler.setup().get_scheduler(self.optimizers[-1], optimizer.lr))
        # tensorf's only callback makes its grid finer after thousands of iterations, which nobody waits for here.
        attributes = TrainingCallbackAttributes(optimizers=None, grad_scaler=None, pipeline=None, trainer=None)
        self.callbacks = self.model.get_training_callbacks(attributes) if name == "nerfacto" else []
        self.step = 0

    def train(self, rays: Rays, target: Tensor) -> float:
        """One iteration on rays and their colours over white [R, 3]; gives the loss."""
        self._call(TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        outputs = self.model(bundle(rays))
        batch = {"image": target}
        metrics = self.model.get_metrics_dict(outputs, batch)
        loss: Tensor = sum(self.model.get_loss_dict(outputs, batch, metrics).values())  # type: ignore[assignment]
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        for scheduler in self.schedulers:
            scheduler.step()
        self._call(TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        self.step += 1
        return float(loss.detach())

    def _call(self, location: TrainingCallbackLocation) -> None:
        for callback in self.callbacks:
            callback.run_callback_at_location(self.step, location)

    @torch.no_grad()
    def render(self, rays: Rays) -> Tensor:
        """The colours of rays [R, 3]."""
        self.model.eval()
        chunk = self.model.config.eval_num_rays_per_chunk
        parts = []
        for i in range(0, len(rays), chunk):
            outputs = self.model(bundle(rays[i : i + chunk]))
            parts.append(outputs["rgb_fine" if "rgb_fine" in outputs else "rgb"])
        self.model.train()
        return torch.cat(parts)


def bundle(rays: Rays) -> RayBundle:
    """Rays as nerfstudio's; a bounded scene has no use for the camera that they come from."""
    one = torch.ones(len(rays), 1)
    return RayBundle(
        origins=rays.origins, directions=rays.directions, pixel_area=one, camera_indices=torch.zeros_like(one).long()
    )
