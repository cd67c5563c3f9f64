"""A field as a model of nerfstudio: rendered, fitted, saved and loaded as fieldcast does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.model_components import renderers
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils import colormaps
from torch import Tensor, nn
from tyro.conf import Suppress

from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.checkpoints.fieldcast_run import FIELD, field_of_state, state_of
from fieldcast.fields.fit import FINAL_RATE, photometric_loss
from fieldcast.fields.kinds import build
from fieldcast.fields.kinds.hashgrid import HashgridSizes
from fieldcast.fields.metrics import SSIM_WINDOW, psnr, ssim
from fieldcast.fields.space import Space
from fieldcast.fields.spec import FieldSpec
from fieldcast.fields.training import adam_groups, cosine, own_rates
from fieldcast.plugin.fitting import Fitting
from fieldcast.plugin.rates import following, parameter_groups
from fieldcast.plugin.seeing import Looked, looked_at, rays_of
from fieldcast.plugin.views import Views
from fieldcast.process import prepare

Outputs = dict[str, Tensor]


@dataclass
class FieldModelConfig(ModelConfig):
    """Settings of a field that is fitted to pictures."""

    _target: type = field(default_factory=lambda: FieldModel)
    enable_collider: bool = False
    eval_num_rays_per_chunk: int = 1 << 13
    kind: Suppress[str] = "hashgrid"
    """The kind of field; each has its method."""
    sizes: Any = field(default_factory=HashgridSizes)
    """The sizes of the kind."""
    contraction: Literal["auto", "none", "sphere", "cube"] = "auto"
    """How the world outside of the scene box is folded in, by which norm; none: it is empty, and so is auto where
    pictures have transparent parts (elsewhere sphere)."""
    steps: int = 512
    """Samples across the diagonal of the scene box."""


class FieldModel(Model):
    """One field, which is all that a checkpoint holds."""

    config: FieldModelConfig

    def populate_modules(self) -> None:
        prepare()  # memory; threads were told before, if anybody told them
        super().populate_modules()
        self.views = Views.of(self.kwargs.get("metadata"))
        self.generator = torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        self.fitting: Fitting | None = None
        self.field = self.new_field()
        self.loaded = False  # from a checkpoint
        self.is_another = False  # than the configuration asks for: a checkpoint brought it

    def new_field(self) -> Field:
        """The field before it learns anything."""
        config, views = self.config, self.views
        return build(
            FieldSpec(
                kind=config.kind,
                sizes=config.sizes,
                space=self.space(),
                background=views.background,
                steps=config.steps,
            )
        )

    def space(self) -> Space:
        """The scene box, in nerfstudio's frame, unless more is known."""
        if self.views.space is not None:
            return self.views.space
        contraction = self.config.contraction
        if contraction == "auto":
            contraction = "none" if self.views.cut_out else "sphere"
        x0, y0, z0, x1, y1, z1 = self.scene_box.aabb.flatten().tolist()
        return Space((x0, y0, z0, x1, y1, z1), contraction)

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        return parameter_groups(self.field)

    # --- learning

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        given = training_callback_attributes
        assert given.trainer is not None and given.optimizers is not None and given.pipeline is not None
        if self.is_another:
            raise InputError(
                f"load-dir: its {self.field.spec.kind} has other sizes than the one that is to be trained: give its own"
            )
        steps = given.trainer._start_step + given.trainer.config.max_num_iterations
        return [following(given.optimizers, *self.rates(steps)), *self.lessons(given.pipeline)]

    def rates(self, steps: int) -> tuple[list[dict[str, Any]], Any]:
        """Groups of parameters with their learning rates, in a run of `steps`, and the schedule of these."""
        return adam_groups(own_rates(self.field, steps)), cosine(steps, FINAL_RATE)

    def lessons(self, pipeline: Any) -> list[TrainingCallback]:
        """What happens before each step besides: here, looks at where the field is empty."""
        self.field.views = None if self.views.cameras is None else self.views.cameras.undistorted()
        manager = pipeline.datamanager
        self.fitting = Fitting.of(
            self.field, self.views.cameras, manager.get_train_rays_per_batch(), self.generator, self.loaded
        )

        def prepare_step(step: int) -> None:
            assert self.fitting is not None
            self.fitting.begin(step)
            if manager.train_pixel_sampler is not None:
                manager.train_pixel_sampler.set_num_rays_per_batch(self.fitting.rays)

        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], prepare_step)]

    def get_loss_dict(self, outputs: Outputs, batch: dict[str, Any], metrics_dict: Any = None) -> dict[str, Tensor]:
        target = self.premultiplied(batch["image"])
        background = outputs.get("background", self.background())
        loss = photometric_loss(self.field, outputs["rgb"], target, background.expand_as(outputs["rgb"]))
        return {"rgb_loss": self.differentiable(loss)}

    def differentiable(self, loss: Tensor) -> Tensor:
        """The loss: of rays through nothing it has no gradient, which nerfstudio asks for all the same."""
        return loss if loss.requires_grad else loss + 0 * next(self.field.parameters()).sum()

    def get_metrics_dict(self, outputs: Outputs, batch: dict[str, Any]) -> dict[str, Any]:
        rgb, target = outputs["rgb"].detach(), self.premultiplied(batch["image"])
        background = outputs.get("background", self.background())
        return {"psnr": psnr(rgb, target[:, :3] + (1 - target[:, 3:]) * background)}

    def premultiplied(self, image: Tensor) -> Tensor:
        """RGB or RGBA [..., 3 or 4] as premultiplied RGBA."""
        image = image.to(self.device)
        alpha = image[..., 3:] if image.shape[-1] == 4 else torch.ones_like(image[..., :1])
        return torch.cat([image[..., :3] * alpha, alpha], -1)

    # --- looking

    def get_outputs(self, ray_bundle: RayBundle) -> Outputs:
        """Colour over the background, `rgb` [..., 3]; accumulation and depth along the ray, world units [..., 1]."""
        rays, shape = rays_of(ray_bundle), ray_bundle.origins.shape[:-1]
        if self.training and self.fitting is not None:
            seen, background = self.fitting.observe(rays)
            return Looked(seen, shape).outputs() | {"background": background}
        return Looked(looked_at(self.field, rays, ray_bundle, self.background()), shape).outputs()

    def background(self) -> Tensor:
        """The colour where nothing is; nerfstudio may ask for another one when it renders a part of a scene."""
        asked = renderers.BACKGROUND_COLOR_OVERRIDE
        own = torch.tensor(self.field.spec.background, device=self.device)
        return asked.to(own) if isinstance(asked, Tensor) else own

    def get_rgba_image(self, outputs: Outputs, output_name: str = "rgb") -> Tensor:
        """Straight alpha: the colour without the background, and the accumulation."""
        alpha = outputs["accumulation"]
        color = outputs[output_name] - (1 - alpha) * self.background().to(alpha.device)
        return torch.cat([(color / alpha.clamp_min(1e-6)).clamp(0, 1), alpha], -1)

    def get_image_metrics_and_images(
        self, outputs: Outputs, batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        rgb, target = outputs["rgb"].clamp(0, 1), self.premultiplied(batch["image"])
        rgb = rgb.to(target)
        truth = target[..., :3] + (1 - target[..., 3:]) * self.background()
        metrics = {"psnr": float(psnr(rgb, truth))}
        if min(truth.shape[:2]) >= SSIM_WINDOW:
            metrics["ssim"] = float(ssim(rgb, truth))
        accumulation = colormaps.apply_colormap(outputs["accumulation"])
        depth = colormaps.apply_depth_colormap(outputs["depth"], accumulation=outputs["accumulation"])
        return metrics, {"img": torch.cat([truth, rgb], 1), "accumulation": accumulation, "depth": depth}

    # --- saving and loading

    def state_dict(self, *args: Any, prefix: str = "", **kwargs: Any) -> dict[str, Any]:
        """nerfstudio's, with what rebuilds the field beside its tensors."""
        found: dict[str, Any] = super().state_dict(*args, prefix=prefix, **kwargs)
        for name, value in state_of(self.field).items():
            if not name.startswith(FIELD):
                found[prefix + name] = value
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Strict, whatever is asked for: nerfstudio asks again, less strictly, after a RuntimeError."""
        loaded = field_of_state(Path("checkpoint"), state_dict)
        self.loaded = True
        shapes = [{name: value.shape for name, value in f.state_dict().items()} for f in (self.field, loaded)]
        self.is_another = loaded.spec.kind != self.field.spec.kind or shapes[0] != shapes[1]
        if self.is_another:
            self.field = loaded.to(self.device)
            return None
        self.field.spec, self.field.views = loaded.spec, loaded.views
        return self.field.load_state_dict(loaded.state_dict())
