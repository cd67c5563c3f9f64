"""A field that becomes another kind inside of nerfstudio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.utils.eval_utils import eval_setup

import fieldcast
from fieldcast.cli.arguments import parsed_sizes
from fieldcast.distill.convert import student_spec
from fieldcast.distill.fidelity import compare, comparison_views
from fieldcast.errors import InputError
from fieldcast.fields import Field
from fieldcast.plugin.renders import RendersConfig

SEED = 0  # that of the fixture `trained`
SIZES = ("resolution=64", "density_channels=8", "appearance_channels=12", "hidden=32")


def distilling(teacher: Path) -> Any:
    def change(config: Any) -> None:
        config.pipeline.datamanager.data = teacher
        config.pipeline.datamanager.dataparser = RendersConfig(views=3, eval_views=2, size=40)
        config.pipeline.model.sizes = SIZES

    return change


@pytest.fixture(scope="module")
def teacher(field: Field, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    fieldcast.save(field, path)
    return path


@pytest.fixture(scope="module")
def student(teacher: Path, trained: Any) -> Path:
    """The `config.yml` of a run of `fieldcast-distill`."""
    path: Path = trained("fieldcast-distill", 100, distilling(teacher))
    return path


def test_the_student_shows_what_the_teacher_shows(student: Path, field: Field) -> None:
    found = fieldcast.open(student)
    assert isinstance(found, Field) and found.spec.kind == "vm" and found.spec.sizes.resolution == 64
    assert found.space == field.space and found.background == field.background
    assert compare(field, found, comparison_views(field, 3, 0, longest=64)).psnr > 24
    assert 0 < found.occupancy.fraction() <= field.occupancy.fraction()
    pictures = eval_setup(student)[1].get_average_eval_image_metrics()
    assert pictures["psnr"] > 24  # those of its data are the teacher's


def test_it_is_the_conversion_that_the_command_makes(student: Path, teacher: Path) -> None:
    """Step by step in another loop, and from the same seed: the same student."""
    found = fieldcast.open(student)
    source = fieldcast.open(teacher)
    assert isinstance(found, Field) and isinstance(source, Field)
    wanted = fieldcast.convert(
        source, student_spec(source.spec, "vm").resized(parsed_sizes(SIZES)), steps=100, seed=SEED
    )
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=1e-6, msg=name)


def test_the_teacher_is_not_in_the_checkpoint(student: Path, field: Field) -> None:
    (checkpoint,) = student.parent.glob("nerfstudio_models/*.ckpt")
    names = torch.load(checkpoint, weights_only=True)["pipeline"]  # noqa: TID251
    found = fieldcast.open(student)
    wanted = {f"_model.field.{name}" for name in found.state_dict()}
    assert {name for name in names if name.startswith("_model.field.")} == wanted


def test_without_a_teacher_it_can_be_looked_at_but_not_trained(student: Path, teacher: Path, trained: Any) -> None:
    pipeline = eval_setup(student)[1]
    model = pipeline.config.model
    model.teacher = teacher.with_name("gone.safetensors")
    alone = model.setup(
        scene_box=pipeline.datamanager.train_dataset.scene_box, num_train_data=3, metadata={}, device="cpu"
    )
    alone.load_state_dict(pipeline.model.state_dict())
    assert torch.equal(alone.field.density_vm.planes, pipeline.model.field.density_vm.planes)

    def change(config: Any) -> None:
        distilling(teacher)(config)
        config.pipeline.model.teacher = teacher.with_name("gone.safetensors")

    with pytest.raises(InputError, match=r"gone\.safetensors: no such file"):
        trained("fieldcast-distill", 2, change)
