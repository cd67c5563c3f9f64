"""Fitting: posed images to a field, the same every time, and the same when it was interrupted on the way."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields import KINDS, Cameras, Field, FieldSpec, Occupancy, Space, build, default_spec, fit, training
from fieldcast.fields.cameras import look_at, orbit, pinhole
from fieldcast.fields.evaluate import evaluate, photograph, write_beside
from fieldcast.fields.files.tensors import read_tensors, write_tensors
from fieldcast.fields.fit import OccupancyTracker, Pixels, gentle_rates, seen_cells, spec_for
from fieldcast.fields.occupancy import cell_density, threshold, unravel
from fieldcast.fields.rendering import Sampler
from fieldcast.fields.scenes.scene import Scene
from fieldcast.fields.training import Training, cosine

TINY: dict[str, dict[str, Any]] = {
    "mlp": {"layers": 3, "width": 32, "skip": 1, "octaves": 4, "code": 8, "hidden": 16},
    "hashgrid": {
        "levels": 3, "channels": 2, "log2_table": 12, "base_resolution": 8, "finest_resolution": 24, "hidden": 16
    },
    "vm": {"resolution": 24, "density_channels": 4, "appearance_channels": 4, "hidden": 16},
    "cp": {"resolution": 24, "density_channels": 8, "appearance_channels": 8, "hidden": 16},
    "voxels": {"resolution": 24, "degree": 1},
    "planes": {"resolutions": [12, 24], "channels": 4, "hidden": 16},
    "hybrid": {
        "levels": 2, "log2_table": 12, "base_resolution": 8, "finest_resolution": 32, "vm_resolution": 16,
        "vm_channels": 4, "hidden": 16,
    },
    "nerf": {"layers": 3, "width": 32, "skip": 1, "octaves": 4, "view_octaves": 1, "branch": 16},
    "tensorf": {
        "resolution": [24, 24, 24], "density_channels": [4, 4, 4], "appearance_channels": [4, 4, 4],
        "features": 9, "hidden": 16,
    },
}  # fmt: skip
RADIUS = 0.6


@pytest.fixture(autouse=True)
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training steps of milliseconds."""
    for cls in KINDS.values():
        monkeypatch.setattr(cls, "points_per_step", 1 << 12)


def ball_image(cameras: Cameras, index: int) -> Tensor:
    """An opaque ball, painted by the place on it, as RGBA; by intersection of rays with the sphere."""
    rays = cameras.image_rays(index)
    middle = -(rays.origins * rays.directions).sum(-1)
    square = middle**2 - rays.origins.square().sum(-1) + RADIUS**2
    x = rays.origins + (middle - square.clamp_min(0).sqrt())[:, None] * rays.directions
    rgb = (0.5 + 0.6 * x).clamp(0, 1)
    rgba = torch.where((square > 0)[:, None], torch.cat([rgb, torch.ones(len(x), 1)], -1), torch.zeros(len(x), 4))
    width, height = cameras.size[index].tolist()
    return (rgba * 255).round().to(torch.uint8).reshape(height, width, 4)


def ball(views: int = 24, side: int = 24, turn: float = 0.0, source: str = "ball") -> Scene:
    i = torch.arange(views) + 0.5
    cameras = orbit(
        Space(), i * 2.4 + turn, torch.asin(1 - 2 * i / views) * 0.9, 3.2, width=side, height=side, fov=math.radians(38)
    )
    images = [ball_image(cameras, k) for k in range(views)]
    return Scene(cameras, images, tuple(f"{k}.png" for k in range(views)), Space(), (1.0, 1.0, 1.0), source)


def spec(kind: str = "hashgrid") -> FieldSpec:
    return replace(spec_for(ball(1), kind, steps=64).resized(TINY[kind]), occupancy=16)


def assert_same(a: Field, b: Field) -> None:
    assert a.spec == b.spec
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


# --- what comes out


def test_a_ball_is_learned() -> None:
    """Beyond 22 dB on views that were held out, where a white picture has 10 dB less."""
    scene, unseen = ball(), ball(3, turn=0.7)
    field = fit(scene, spec(), steps=300)
    white = build(spec())
    white.occupancy = Occupancy.of_cells(torch.zeros(16, 16, 16) > 0)
    assert evaluate(white, unseen).psnr < 12
    assert evaluate(field, unseen).psnr > 22
    inside = torch.nn.functional.normalize(torch.randn(200, 3), dim=-1)
    assert bool((field.density(0.97 * inside * RADIUS) > 1).float().mean() > 0.8)
    assert float((field.density(1.5 * inside * RADIUS) > 1).float().mean()) < 0.05
    assert field.occupancy.fraction() < 0.5


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "hashgrid"])
def test_every_kind_learns(kind: str) -> None:
    field, unseen = fit(ball(), spec(kind), steps=140), ball(2, turn=0.7)
    assert evaluate(field, unseen).psnr > evaluate(build(spec(kind)), unseen).psnr + 4
    assert field.spec.kind == kind


def test_a_fitted_field_knows_where_it_was_seen_from() -> None:
    scene = ball()
    distorted = replace(scene, cameras=replace(scene.cameras, distortion=torch.zeros(24, 6)))
    field = fit(distorted, spec("cp"), steps=2)
    assert field.views is not None
    assert torch.equal(field.views.c2w, scene.cameras.c2w)
    assert field.views.distortion is None


def test_a_kind_alone_is_its_default_sizes_in_the_scenes_space(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[FieldSpec] = []

    def remember(wanted: FieldSpec, seed: int) -> Field:
        built.append(wanted)
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("fieldcast.fields.fit"), "build", remember)
    space = Space((-2.0, -2.0, -2.0, 2.0, 2.0, 2.0), "sphere")
    with pytest.raises(KeyboardInterrupt):
        fit(replace(ball(), space=space, background=(0.0, 0.5, 1.0)), "cp")
    assert built == [default_spec("cp", space=space, background=(0.0, 0.5, 1.0), steps=512)]


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    fit(ball(), spec("cp"), steps=5, progress=lambda done, total, note="": told.append((done, total, note)))
    assert [t[:2] for t in told] == [(k, 5) for k in range(1, 6)]
    assert all(t[2].startswith("fit cp: loss 0.") for t in told)


# --- the same every time


def test_the_same_seed_is_the_same_field() -> None:
    first, second, other = (fit(ball(), spec(), steps=40, seed=s) for s in (3, 3, 4))
    assert_same(first, second)
    assert not torch.equal(first.encoding.table, other.encoding.table)


def test_a_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    fit(ball(), spec("cp"), steps=2)
    assert torch.equal(torch.rand(4), expected)


def interrupted(at: int) -> Any:
    def progress(done: int, total: int, note: str = "") -> None:
        if done == at:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("kind", ["hashgrid", "vm", "voxels"])
def test_interrupted_and_resumed_is_the_same_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Interrupted once before and once after occupancy updates; at the end no checkpoint is left."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    checkpoint, scene = tmp_path / ".a.checkpoint.safetensors", ball()
    whole = fit(scene, spec(kind), steps=40)
    for at in (11, 29):
        with pytest.raises(KeyboardInterrupt):
            fit(scene, spec(kind), steps=40, checkpoint=checkpoint, resume=at > 11, progress=interrupted(at))
        assert read_tensors(checkpoint)[1]["step"] == at - 1
    told: list[int] = []
    resumed = fit(
        scene, spec(kind), steps=40, checkpoint=checkpoint, resume=True, progress=lambda d, t, note="": told.append(d)
    )
    assert told == list(range(29, 41))
    assert_same(whole, resumed)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every half minute; a run of seconds writes none."""
    assert training.CHECKPOINT_SECONDS == 30
    checkpoint = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(ball(), spec("cp"), steps=9, checkpoint=checkpoint, progress=interrupted(8))
    assert not checkpoint.exists()


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of an interrupted run: cp, 20 steps, seed 0."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(ball(), spec("cp"), steps=20, checkpoint=path, progress=interrupted(5))
    return path


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seed": 1}, "another seed"),
        ({"steps": 21}, "another steps"),
        ({"kind": spec("vm")}, "another spec"),
        ({"kind": spec("cp").resized({"resolution": 25})}, "another spec"),
        ({"scene": ball(source="sphere")}, "another source"),
        ({"scene": ball(23)}, "another views"),
        ({"scene": ball(side=25)}, "another pixels"),
        ({"seed": 1, "steps": 30}, "another steps, seed"),
    ],
    ids=range(8),
)
def test_resuming_with_other_settings_is_refused(checkpoint: Path, changes: dict[str, Any], text: str) -> None:
    settings = {"scene": ball(), "kind": spec("cp"), "steps": 20, "seed": 0, **changes}
    before = checkpoint.read_bytes()
    with pytest.raises(InputError, match=text) as caught:
        fit(settings.pop("scene"), settings.pop("kind"), checkpoint=checkpoint, resume=True, **settings)
    assert "run without --resume" in str(caught.value)
    assert checkpoint.read_bytes() == before


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing to resume: .* does not exist"):
        fit(ball(), spec("cp"), steps=5, checkpoint=tmp_path / "c.safetensors", resume=True)


def test_a_broken_checkpoint_is_an_input_error(checkpoint: Path) -> None:
    tensors, meta = read_tensors(checkpoint)
    tensors = {name: value.clone() for name, value in tensors.items()}  # off the file, which is cut short below
    whole = checkpoint.read_bytes()
    for content in (b"", whole[:500], b"nonsense" * 100):
        checkpoint.write_bytes(content)
        with pytest.raises(InputError, match=r"c\.safetensors: "):
            fit(ball(), spec("cp"), steps=20, checkpoint=checkpoint, resume=True)
    for name in ("generator", "state.rays", "field.basis.weight"):
        write_tensors(checkpoint, {k: v for k, v in tensors.items() if k != name}, meta, force=True)
        with pytest.raises(InputError, match=r"c\.safetensors: "):
            fit(ball(), spec("cp"), steps=20, checkpoint=checkpoint, resume=True)
    for broken in ({**meta, "step": "three"}, {k: v for k, v in meta.items() if k != "step"}, {"identity": 3}):
        write_tensors(checkpoint, tensors, broken, force=True)
        with pytest.raises(InputError, match=r"c\.safetensors: "):
            fit(ball(), spec("cp"), steps=20, checkpoint=checkpoint, resume=True)


# --- what can go wrong


def test_a_loss_that_is_not_a_number_stops_the_run(checkpoint: Path) -> None:
    """The last good state stays, and the message says where it is."""

    def poison(done: int, total: int, note: str = "") -> None:
        if done == 8:
            monkeypatched.append(done)

    monkeypatched: list[int] = []
    original = Training.run

    def run(self: Training, progress: Any) -> None:
        loss = self.loss
        self.loss = lambda step, generator: loss(step, generator) * (math.nan if monkeypatched else 1)
        original(self, progress)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(FieldcastError) as caught:
        patch.setattr(Training, "run", run)
        fit(ball(), spec("cp"), steps=20, checkpoint=checkpoint, resume=True, progress=poison)
    assert str(caught.value).startswith("fit cp: the loss became nan at step 9 of 20; try another --seed; the state")
    assert str(checkpoint) in str(caught.value)
    assert read_tensors(checkpoint)[1]["step"] == 8


def test_parameters_that_are_not_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(wanted: FieldSpec, seed: int) -> Field:
        field = build(wanted, seed)
        for parameter in field.parameters():
            nn.init.constant_(parameter, math.nan)
        return field

    monkeypatch.setattr(import_module("fieldcast.fields.fit"), "build", poisoned)
    with pytest.raises(FieldcastError, match="the loss became nan at step 1 of 10") as caught:
        fit(ball(), spec("vm"), steps=10)
    assert caught.value.exit_code == 1


def test_a_scene_without_images() -> None:
    with pytest.raises(InputError, match="ball: has no images to fit"):
        fit(ball().subset([]), spec())
    with pytest.raises(InputError, match="ball: has no images to evaluate on"):
        evaluate(build(spec("cp")), ball().subset([]))


@pytest.mark.parametrize("kind", KINDS)
def test_batches_without_samples_do_not_break_training(kind: str) -> None:
    """Cameras that look away from the box see the background alone."""
    scene = ball()
    away = scene.cameras.c2w.clone()
    away[:, :, [0, 2]] *= -1
    field = fit(replace(scene, cameras=replace(scene.cameras, c2w=away)), spec(kind), steps=3)
    assert all(bool(torch.isfinite(p).all()) for p in field.parameters())
    assert field.occupancy.fraction() == 0
    assert kind != "voxels" or field.spec.sizes.blocks == 1  # the least that is stored


def test_a_transparent_scene_becomes_empty() -> None:
    scene = ball()
    clear = replace(scene, images=[torch.zeros_like(image) for image in scene.images])
    field = fit(clear, spec(), steps=150)
    assert evaluate(field, replace(clear, background=(1.0, 1.0, 1.0))).psnr > 30


# --- parts


def test_only_pixels_that_count_are_looked_at() -> None:
    scene, counted = ball(2), [torch.zeros(24, 24, dtype=torch.bool) for _ in range(2)]
    for number, (row, column) in enumerate(((3, 7), (20, 11))):
        counted[number][row, column] = True
        scene.images[number][row, column] = torch.tensor([200, 10 * number, 30, 255], dtype=torch.uint8)
    pixels = Pixels(scene, "cpu", counted)
    rays, color = pixels.sample(64, torch.Generator().manual_seed(0))
    second = color[:, 1] > 0.01
    expected = torch.tensor([[200, 0, 30, 255], [200, 10, 30, 255]]) / 255
    assert len(pixels) == 2 and bool(second.any()) and not bool(second.all())
    assert torch.allclose(color, expected[second.long()], atol=1e-6)
    for number, (row, column) in enumerate(((3, 7), (20, 11))):
        through = scene.cameras.image_rays(number).directions[24 * row + column]
        assert torch.allclose(rays.directions[second == bool(number)], through, atol=1e-6)
    with pytest.raises(InputError, match="ball: has no pixels to fit: none of 1152 counts"):
        Pixels(scene, "cpu", [mask & False for mask in counted])


def test_pixels_are_those_of_the_images() -> None:
    """Of images of different sizes: each ray goes through the pixel whose colour it comes with."""
    small, large = ball(2), ball(2, side=31)
    together = {p: torch.cat([getattr(s.cameras, p) for s in (small, large)]) for p in ("c2w", "intrinsics", "size")}
    scene = replace(small, cameras=Cameras(**together), names=("a", "b", "c", "d"))
    scene.images.extend(large.images)
    for image in scene.images:  # half transparent: colours must come out premultiplied
        image[:, ::2, 3] //= 2
    rays, color = Pixels(scene, "cpu").sample(4000, torch.Generator().manual_seed(0))
    expected = {}
    for index in range(4):
        part = scene.cameras.image_rays(index)
        rgba = scene.images[index].reshape(-1, 4).double().numpy() / 255
        for o, d, c in zip(part.origins.tolist(), part.directions.tolist(), rgba, strict=True):
            expected[tuple(np.round([*o, *d], 4))] = [*(c[:3] * c[3]), c[3]]
    assert len(expected) == 2 * (24**2 + 31**2)
    hit = set()
    for o, d, c in zip(rays.origins.tolist(), rays.directions.tolist(), color.tolist(), strict=True):
        key = tuple(np.round([*o, *d], 4))
        np.testing.assert_allclose(c, expected[key], atol=1e-6)
        hit.add(key)
    assert len(hit) > 0.6 * len(expected)  # 4000 draws of 3074 leave 27 % out


LENSES: dict[str, dict[str, Any]] = {
    "ideal": {},
    "barrel": {"distortion": torch.tensor([[-0.2, 0.02, 0.0, 0.0, 0.001, 0.0]])},
    "fisheye": {  # of 190 degrees from left to right
        "distortion": torch.tensor([[0.05, 0.0, 0.0, 0.0, 0.0, 0.0]]),
        "fisheye": True,
        "intrinsics": torch.tensor([[9.0, 9.0, 15.0, 10.0]]),
    },
}


@pytest.mark.parametrize("contraction", ["none", "sphere", "cube"])
@pytest.mark.parametrize("lens", LENSES)
def test_cells_that_a_ray_passes_are_seen(contraction: Any, lens: str) -> None:
    """From outside and from inside, near and far: what a camera shows is never thought to be hidden."""
    space = Space(contraction=contraction)
    eyes = torch.tensor([[0.2, -0.1, 0.3], [0.9, 0.9, 0.9], [3.0, 1.0, 0.5], [-0.6, 0.0, 0.0]])
    for eye in eyes:
        poses = look_at(eye[None], torch.randn(1, 3) * 0.3, torch.tensor([0.0, 0.0, 1.0]))
        cameras = replace(pinhole(poses, 30, 20, 0.7), **LENSES[lens])
        samples = Sampler(space, Occupancy.full(16), 200)(cameras.image_rays(0))
        seen = Occupancy.of_cells(seen_cells(cameras, space, 16))
        assert bool(seen.contains(space.to_unit(samples.x)).all())


def test_cells_behind_all_cameras_are_not_seen() -> None:
    cameras = pinhole(
        look_at(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0.0, 0.0, 1.0])), 20, 20, 0.7
    )
    seen = seen_cells(cameras, Space(), 16)
    assert 0.02 < float(seen.float().mean()) < 0.1  # a pyramid of 0.7 radians has 2 % of the box
    assert not bool(seen[:6].any())  # behind
    assert bool(seen[12, 8, 8])  # straight ahead
    assert not bool(seen[12, 0, 0])  # beside


def test_occupancy_follows_the_densities_found() -> None:
    """All over at first; what thins out is forgotten after a while, what does not stays."""
    field = build(spec("vm"))
    dense = [lambda x: x[:, 0] > 0]
    field.logit = lambda x: torch.where(dense[-1](x), math.log(1e4), -20.0)  # type: ignore[method-assign]
    tracker = OccupancyTracker(field, ball().cameras)
    assert tracker.occupancy().is_full()  # nobody has looked yet
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):  # each looks into an eighth of the cells, and 1e4 is remembered for 150 of them
        tracker.update(generator, warmup=True)
    cells = tracker.occupancy().cells()
    assert bool(cells[8:].all())
    assert not bool(cells[:8].any())
    assert torch.equal(field.occupancy.bits, tracker.occupancy().bits)
    dense.append(lambda x: (x[:, 0] > 0) & (x[:, 1] > 0))
    for _ in range(200):
        tracker.update(generator, warmup=False)
    cells = tracker.occupancy().cells()
    assert bool(cells[8:, 8:].all())
    assert not bool(cells[:, :8].any())


def test_a_cell_below_the_threshold_hardly_shows() -> None:
    space = Space((0.0, 0.0, 0.0, 4.0, 4.0, 4.0))
    assert 1 - math.exp(-threshold(space) * 4 / 128) < 0.008
    # Instant-NGP: 0.01 per step of sqrt(3) / 1024 in a unit cube, here 4 world units long.
    assert threshold(space, in_training=True) == pytest.approx(0.01 / (math.sqrt(3) / 1024) / 4, rel=0.02)


def test_cell_density_looks_into_every_cell_that_it_should() -> None:
    space = Space((-1.0, 0.0, 0.0, 1.0, 4.0, 2.0))
    within = torch.rand(8, 8, 8) > 0.3
    told: list[tuple[int, int]] = []
    found = cell_density(
        lambda x: x[:, 0] + 10 * x[:, 1] + 100 * x[:, 2] + 2,
        space,
        Occupancy.of_cells(within),
        chunk=100,
        generator=torch.Generator().manual_seed(0),
        progress=lambda done, total, note="": told.append((done, total)),
    )
    low = space.from_unit(unravel(torch.arange(512), 8) / 8).reshape(8, 8, 8, 3)
    floor = low @ torch.tensor([1.0, 10.0, 100.0]) + 2
    assert bool((found[within] >= floor[within]).all())
    assert bool((found <= floor + 0.25 + 5 + 25).all())
    assert bool((found[~within] == 0).all())
    assert told[-1] == (int(within.sum()), int(within.sum()))


def test_cosine_falls_from_start_to_end() -> None:
    rate = cosine(100, 1e-4)
    assert rate(0, 1e-2) == pytest.approx(1e-2)
    assert rate(50, 1e-2) == pytest.approx((1e-2 + 1e-4) / 2)
    assert rate(100, 1e-2) == pytest.approx(1e-4)
    assert rate(60, 1e-5) == pytest.approx(1e-5)  # never up


def test_photographs_lie_over_the_background() -> None:
    scene = ball(1)
    scene.images[0][0, 0] = torch.tensor([255, 0, 51, 51], dtype=torch.uint8)
    seen = photograph(scene, 0, (0.0, 1.0, 0.5))
    torch.testing.assert_close(seen[0, 0], torch.tensor([0.2, 0.8, 0.04 + 0.4]))
    torch.testing.assert_close(seen[12, 12], scene.images[0][12, 12, :3] / 255)


def test_evaluation_is_the_mean_over_views() -> None:
    """Of an empty field: white pictures against the photographs."""
    field = build(spec("cp"))
    field.occupancy = Occupancy.of_cells(torch.zeros(16, 16, 16) > 0)
    scene = ball(3)
    seen = evaluate(field, scene)
    expected = [
        -10 * math.log10(float((1 - photograph(scene, i, (1.0, 1.0, 1.0)).double()).square().mean())) for i in range(3)
    ]
    assert list(seen.psnr_per_view) == pytest.approx(expected, rel=1e-5)
    assert seen.psnr == pytest.approx(sum(expected) / 3, rel=1e-5)
    assert seen.views == 3
    assert seen.names == scene.names
    assert 0 < seen.ssim < 1


def test_pictures_too_small_for_ssim_still_have_a_psnr() -> None:
    field = build(spec("cp"))
    seen = evaluate(field, ball(2, side=8))
    assert math.isnan(seen.ssim)
    assert 0 < seen.psnr < 100


def test_renderings_beside_photographs(tmp_path: Path) -> None:
    """Of twelve views and at most five rows, every third; a view of another size is left out of the picture."""
    from PIL import Image

    field, scene = build(spec("cp")), ball(12)
    scene.images[3] = scene.images[3][:20]
    scene.cameras.size[3, 1] = 20
    write_beside(evaluate(field, scene, keep=5), tmp_path / "beside.png")
    with Image.open(tmp_path / "beside.png") as picture:
        assert picture.size == (48, 24 * 3)
        shown = np.asarray(picture)
    for row, view in enumerate((0, 6, 9)):
        expected = (photograph(scene, view, (1.0, 1.0, 1.0)) * 255).round().numpy()
        np.testing.assert_array_equal(shown[24 * row : 24 * row + 24, 24:], expected)
    assert evaluate(field, scene).kept == ()


@pytest.mark.parametrize("kind", KINDS)
def test_gentle_rates_are_the_fields_own_but_for_colours(kind: str) -> None:
    """Each parameter once; the network of colours at 2e-3 at most, all else as the field asks for."""
    field = build(default_spec(kind, occupancy=8), seed=0)
    own = {id(p): rate * field.stride(500) for group, rate in field.learning_rates() for p in group}
    colors = {id(p) for p in field.color_net.parameters()} if hasattr(field, "color_net") else set()
    found = [(id(p), rate) for group, rate in gentle_rates(field, 500) for p in group]
    assert sorted(i for i, _ in found) == sorted(own)
    for i, rate in found:
        assert rate == pytest.approx(min(own[i], 2e-3) if i in colors else own[i])
