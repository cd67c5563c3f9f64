"""Fields that are handed to nerfstudio: as runs that were never trained, and as pictures rendered from them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.scripts.render import DatasetRender
from nerfstudio.scripts.viewer import run_viewer
from nerfstudio.utils.eval_utils import eval_setup

import fieldcast
from fieldcast.cli import cli
from fieldcast.errors import InputError
from fieldcast.fields import KINDS, Cameras, Field, Occupancy, Space, build, default_spec, render
from fieldcast.fields.files import write_run
from fieldcast.plugin.renders import RendersConfig, viewpoints

TINY: dict[str, dict[str, Any]] = {
    "mlp": {},
    "hashgrid": {"levels": 4, "log2_table": 12},
    "vm": {"resolution": 16},
    "cp": {"resolution": 16},
    "voxels": {"resolution": 16},
    "planes": {},
    "hybrid": {},
    "tensorf": {"resolution": (8, 8, 8), "density_channels": (2, 2, 2), "appearance_channels": (2, 2, 2)},
    "nerf": {"layers": 2, "width": 32},
}


def handed_over(source: Path, folder: Path, *options: str) -> Any:
    return CliRunner().invoke(cli, ["convert", str(source), str(folder), "--to", "nerfstudio", *options])


def same(a: Field, b: Field) -> bool:
    theirs = b.state_dict()
    return a.spec == b.spec and all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


@pytest.fixture(scope="module")
def run(hashgrid: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained field, by way of our own file, as a run again."""
    folder = tmp_path_factory.mktemp("handed")
    fieldcast.save(fieldcast.open(hashgrid.config), folder / "demo.safetensors")
    done = handed_over(folder / "demo.safetensors", folder / "run")
    assert done.exit_code == 0, done.output
    return folder / "run"


def test_it_is_the_field_in_nerfstudio_and_back(run: Path, field: Field) -> None:
    config, pipeline, _, _ = eval_setup(run / "config.yml")
    assert config.get_base_dir() == run
    assert same(pipeline.model.field, field)
    assert same(fieldcast.open(run), field) and same(fieldcast.open(run / "config.yml"), field)


def test_its_pictures_are_ours(run: Path, field: Field, tmp_path: Path) -> None:
    """Through `ns-render`, at the places where its data parser puts the cameras of the test."""
    DatasetRender(
        load_config=run / "config.yml", output_path=tmp_path, split="test", image_format="png",
        rendered_output_names=["rgb", "depth"],
    ).main()  # fmt: skip
    cameras = viewpoints(field, 3, 1, 128)
    pictures = sorted((tmp_path / "test" / "rgb").rglob("*.png"))
    assert len(pictures) == 3
    for path, ours in zip(pictures, render(field, cameras), strict=True):
        theirs = imageio.imread(path)[..., :3].astype(float) / 255
        assert np.abs(theirs - ours.rgb.clamp(0, 1).numpy()).max() < 0.02
        assert np.abs(theirs - ours.rgb.clamp(0, 1).numpy()).mean() < 2 / 255


def test_a_part_is_shown_alone(run: Path, field: Field) -> None:
    """As the viewer crops: what lies outside of a box does not show."""
    model, cameras = eval_setup(run / "config.yml")[1].model, viewpoints(field, 1, 0, 64)
    from fieldcast.plugin.views import their_cameras

    box = OrientedBox(R=torch.eye(3), T=torch.tensor([0.0, 0.0, 5.0]), S=torch.ones(3))
    whole = model.get_outputs_for_camera(their_cameras(cameras))
    none = model.get_outputs_for_camera(their_cameras(cameras), obb_box=box)
    assert float(whole["accumulation"].max()) > 0.9
    assert float(none["accumulation"].max()) == 0


def with_small_pictures(config: Any) -> Any:
    parser = config.pipeline.datamanager.dataparser
    parser.views, parser.eval_views, parser.size = 1, 1, 8
    return config


def small(kind: str) -> Field:
    """A field of some kind that has something of all that a field can have."""
    spec = default_spec(kind, space=Space((-1, -2, -1, 3, 1, 1), "sphere", (0, 1, 0)), background=(0.2, 0.4, 0.6))
    cells = torch.zeros((128,) * 3, dtype=torch.bool)
    cells[40:80, 40:80, 40:80] = True
    field = build(spec.resized(TINY[kind]), seed=1).allocate(Occupancy.of_cells(cells))
    size = torch.tensor([[32, 24], [32, 24]])
    pose = torch.eye(4)[:3].repeat(2, 1, 1)
    pose[1, 0, 3] = 0.5
    field.views = Cameras(pose, torch.tensor([[30.0, 31.0, 16.0, 12.0]] * 2), size)
    return field


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_goes_there_and_back(kind: str, tmp_path: Path) -> None:
    field = small(kind)
    write_run(field, tmp_path / "run")
    back = fieldcast.open(tmp_path / "run")
    assert same(back, field)
    assert back.views is not None and field.views is not None and torch.equal(back.views.c2w, field.views.c2w)
    if kind == "voxels":  # of which only some blocks are stored, fewer than its method would train
        found = eval_setup(tmp_path / "run" / "config.yml", update_config_callback=with_small_pictures)[1].model.field
        assert same(found, field)


def test_a_run_that_moved_says_so(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    text = (run / "config.yml").read_text()
    (moved / "config.yml").write_text(text.replace(str(run), str(tmp_path / "gone")))
    with pytest.raises(InputError, match=r"gone: no such run; where a run's folder was moved to is said in its config"):
        eval_setup(moved / "config.yml")


def test_pictures_are_rendered_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fieldcast.plugin import renders

    parser = RendersConfig(data=run, views=2, eval_views=1, size=40).setup()
    first = parser.get_dataparser_outputs("train")
    picture = imageio.imread(first.image_filenames[0])
    assert picture.shape == (40, 40, 4) and picture[..., 3].min() == 0 and picture[..., 3].max() > 240
    assert len(first.image_filenames) == len(first.cameras) == 2
    monkeypatch.setattr(renders, "draw", lambda *_: pytest.fail("rendered again"))
    assert parser.get_dataparser_outputs("train").image_filenames == first.image_filenames


def test_any_method_learns_from_pictures_of_a_field(run: Path, trained: Any, offline: None) -> None:
    """nerfstudio's own NeRF for instance: a way to what fieldcast does not write."""

    def change(config: Any) -> None:
        config.pipeline.datamanager.dataparser = RendersConfig(data=run, views=4, eval_views=1, size=32)
        config.pipeline.datamanager.train_num_rays_per_batch = 32
        config.pipeline.model.num_coarse_samples = config.pipeline.model.num_importance_samples = 8

    assert trained("vanilla-nerf", 2, change).is_file()


class EnoughError(Exception):
    """Ends what would go on for ever."""


def test_the_viewer_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ns-viewer`, up to where it waits for somebody to look."""
    write_run(small("hashgrid"), tmp_path / "run")
    started = []

    class Seen(run_viewer.ViewerState):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    class Clock:
        @staticmethod
        def sleep(_: float) -> None:
            raise EnoughError

    opened = partial(eval_setup, update_config_callback=with_small_pictures)
    monkeypatch.setattr(run_viewer, "eval_setup", opened)
    monkeypatch.setattr(run_viewer, "ViewerState", Seen)
    monkeypatch.setattr(run_viewer, "time", Clock)
    with pytest.raises(EnoughError):
        run_viewer.RunViewer(load_config=tmp_path / "run" / "config.yml").main()
    (viewer,) = started
    viewer.viser_server.stop()
    assert viewer.pipeline.model.field.spec.kind == "hashgrid"
