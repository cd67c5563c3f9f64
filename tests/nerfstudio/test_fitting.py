"""A field that nerfstudio trained: that it learned, that it is measured as we measure, and that it opens as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.renderers import background_color_override_context
from nerfstudio.utils.eval_utils import eval_setup

import fieldcast
from fieldcast.errors import InputError
from fieldcast.fields import KINDS
from fieldcast.fields.cameras import Rays
from fieldcast.fields.evaluate import evaluate
from fieldcast.fields.rendering import shading
from fieldcast.fields.scenes import open_scene


@pytest.fixture(scope="module")
def pipeline(hashgrid: Any) -> Any:
    """The run, as all of nerfstudio's commands open it."""
    return eval_setup(hashgrid.config)[1]


def test_it_learned_and_is_measured_as_we_measure(hashgrid: Any, pipeline: Any, field: fieldcast.Field) -> None:
    theirs = pipeline.get_average_eval_image_metrics()
    ours = evaluate(field, open_scene(str(hashgrid.data), "test"))
    assert theirs["psnr"] > 20  # white alone is 10.5
    assert theirs["psnr"] == pytest.approx(ours.psnr, abs=0.01)
    assert theirs["ssim"] == pytest.approx(ours.ssim, abs=1e-3)


def test_it_opens_as_the_very_field(hashgrid: Any, pipeline: Any, field: fieldcast.Field) -> None:
    trained = pipeline.model.field
    assert field.spec == trained.spec
    assert field.spec.background == (1, 1, 1) and field.space.aabb == (-1.5, -1.5, -1.5, 1.5, 1.5, 1.5)
    assert field.space.bounded  # the pictures have transparent parts
    assert all(
        torch.equal(a, b) for a, b in zip(field.state_dict().values(), trained.state_dict().values(), strict=True)
    )
    assert 0 < field.occupancy.fraction() < 0.5
    assert field.views is not None
    train = open_scene(str(hashgrid.data), "train").cameras
    torch.testing.assert_close(field.views.c2w, train.c2w)
    torch.testing.assert_close(field.views.intrinsics, train.intrinsics, rtol=1e-6, atol=1e-4)
    x = 3 * torch.rand(1000, 3) - 1.5
    assert torch.equal(field.density(x), trained.density(x))


def test_its_checkpoint_is_plain(hashgrid: Any) -> None:
    """torch reads it as it is by default, without being told to trust it; no network that measures is in it."""
    (checkpoint,) = hashgrid.config.parent.glob("nerfstudio_models/*.ckpt")
    found = torch.load(checkpoint, weights_only=True)  # noqa: TID251
    names = {name.split(".")[1] for name in found["pipeline"]}
    assert names == {"field", "spec", "views", "device_indicator_param"}


def test_the_device_is_what_there_is() -> None:
    from nerfstudio.configs.method_configs import all_methods

    wanted = "cuda" if torch.cuda.is_available() else "cpu"
    ours = {name: config for name, config in all_methods.items() if name.startswith("fieldcast-")}
    assert len(ours) == len(KINDS) + 1
    assert {config.machine.device_type for config in ours.values()} == {wanted}


def bundle(rays: Rays, near: float | None = None, far: float | None = None) -> RayBundle:
    ends = {} if near is None else {"nears": torch.full((len(rays), 1), near), "fars": torch.full((len(rays), 1), far)}
    area = torch.ones(len(rays), 1)
    return RayBundle(origins=rays.origins, directions=rays.directions, pixel_area=area, **ends)


def test_rays_see_what_ours_see(pipeline: Any, field: fieldcast.Field) -> None:
    rays = field.views.image_rays(0)
    seen, outputs = shading(field)(rays), pipeline.model(bundle(rays))
    # Directions are made unit length once more, which may change the last digit.
    close = {"rtol": 0, "atol": 1e-4}
    torch.testing.assert_close(outputs["rgb"], seen.rgb, **close)
    torch.testing.assert_close(outputs["accumulation"][:, 0], seen.opacity, **close)
    torch.testing.assert_close(outputs["depth"][:, 0] * seen.opacity, seen.depth * seen.opacity, **close)


def test_transparency_is_real(pipeline: Any, field: fieldcast.Field) -> None:
    outputs = pipeline.model(bundle(field.views.image_rays(0)))
    rgba = pipeline.model.get_rgba_image(outputs)
    alpha = rgba[:, 3:]
    assert float(alpha.min()) < 0.05 and float(alpha.max()) > 0.95
    torch.testing.assert_close(rgba[:, :3] * alpha + (1 - alpha), outputs["rgb"], atol=2e-3, rtol=0)


def test_a_crop_is_heeded(pipeline: Any, field: fieldcast.Field) -> None:
    """Where nothing lies between near and far there is the background, also another one."""
    rays = field.views.image_rays(0)
    everything, nothing = pipeline.model(bundle(rays, 0, 100)), pipeline.model(bundle(rays, 50, 100))
    torch.testing.assert_close(everything["rgb"], pipeline.model(bundle(rays))["rgb"])
    assert float(nothing["accumulation"].max()) == 0
    with background_color_override_context(torch.tensor([1.0, 0.0, 0.0])):
        red = pipeline.model(bundle(rays, 50, 100))["rgb"]
    assert torch.equal(red, torch.tensor([1.0, 0.0, 0.0]).expand_as(red))


def copied(hashgrid: Any, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The `config.yml` of a copy of the run, the tensors of which are changed."""
    config = yaml.load(hashgrid.config.read_text(), yaml.Loader)
    (checkpoint,) = hashgrid.config.parent.glob("nerfstudio_models/*.ckpt")
    found = torch.load(checkpoint, weights_only=True)  # noqa: TID251
    change(found["pipeline"])
    config.output_dir = tmp_path
    config.save_config()
    config.get_checkpoint_dir().mkdir()
    torch.save(found, config.get_checkpoint_dir() / checkpoint.name)
    return Path(config.get_base_dir() / "config.yml")


DAMAGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "missing encoding": lambda p: p.pop(next(k for k in p if k.startswith("_model.field.encoding"))),
    "unexpected _model.stray": lambda p: p.update({"_model.stray": torch.zeros(1)}),
    "unexpected field.stray": lambda p: p.update({"_model.field.stray": torch.zeros(1)}),
    "expected finite numbers": lambda p: p["_model.field.sigma_net.0.weight"].fill_(torch.nan),
    "has no _model.spec": lambda p: p.pop("_model.spec"),
}


@pytest.mark.parametrize("line", DAMAGES)
def test_a_damaged_checkpoint_is_refused(hashgrid: Any, tmp_path: Path, line: str) -> None:
    """nerfstudio tries a second time, and then takes what fits: a missing table would be noise."""
    path = copied(hashgrid, tmp_path, DAMAGES[line])
    with pytest.raises(InputError) as caught:
        eval_setup(path)
    wanted = line.removeprefix("unexpected field.")
    assert wanted.split()[-1] in str(caught.value)


def resumed(hashgrid: Any, **sizes: Any) -> Any:
    config = copy.deepcopy(yaml.load(hashgrid.config.read_text(), yaml.Loader))
    config.load_dir, config.max_num_iterations = config.get_checkpoint_dir(), 2
    config.pipeline.model.sizes = type(config.pipeline.model.sizes)(**vars(config.pipeline.model.sizes) | sizes)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def test_training_goes_on_from_where_it_was(hashgrid: Any, field: fieldcast.Field) -> None:
    trainer = resumed(hashgrid)
    model = trainer.pipeline.model
    assert all(torch.equal(a, b) for a, b in zip(model.field.parameters(), field.parameters(), strict=True))
    for callback in trainer.callbacks:
        callback.func(step=300)
    rates = [group["lr"] for o in trainer.optimizers.optimizers.values() for group in o.param_groups]
    assert all(1e-4 <= rate < 2e-4 for rate in rates)  # the end of the cosine of 302 steps
    assert model.field.occupancy.fraction() < 0.5  # and what is empty is known
    loss = float(trainer.train_iteration(300)[0])
    assert loss < 0.02


def test_training_of_other_sizes_does_not_go_on(hashgrid: Any) -> None:
    with pytest.raises(InputError, match="load-dir: its hashgrid has other sizes"):
        resumed(hashgrid, log2_table=13)
