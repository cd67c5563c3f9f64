"""`fieldcast reconstruct` as it is typed: what is made, how it goes on, and what is said of mistakes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from fieldcast.cli import cli
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras, look_at, pinhole
from fieldcast.fields.files import open_field
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.rendering.images import render
from fieldcast.fields.scenes.mesh import Caster
from fieldcast.reconstruct.avatars.rendering import Rendering
from fieldcast.reconstruct.bodies.capsules import capsules
from fieldcast.reconstruct.fitting.budget import FEWEST, MASKS, Trial, steps_within
from fieldcast.reconstruct.fitting.fit import Fitted, Plan
from fieldcast.reconstruct.outputs.paths import around
from fieldcast.reconstruct.outputs.reconstruction import Reconstruction, open_reconstruction, whose
from fieldcast.reconstruct.pipeline import reconstruct
from fieldcast.reconstruct.poses.beginning import Beginning, Sure
from fieldcast.reconstruct.recordings.files import read_recording, write_recording
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.remembering import Remembered, digest, identity_of
from fieldcast.reconstruct.synth.files import write_synthetic
from fieldcast.reconstruct.synth.scenes import Synthetic, Views, Wanted
from fieldcast.reconstruct.synth.shots import Worn

Captured = pytest.CaptureFixture[str]
FRAMES, SIZE, ROUND = 5, 64, 12
ENDS = [0, FRAMES - 1]
COLORS = ((210, 60, 50), (50, 90, 200))
STEPS = ["--steps", "6", "--quiet"]


def people() -> tuple[Person, ...]:
    """Two who pass each other."""
    body, along, found = capsules(), torch.linspace(-0.5, 0.5, FRAMES), []
    for name, way, depth in (("ann", 1.0, 0.3), ("bob", -1.0, -0.3)):
        place = torch.stack([way * along, torch.zeros(FRAMES), torch.full((FRAMES,), depth)], 1)
        pose = torch.zeros(FRAMES, len(body.parents), 3)
        pose[:, 0, 1] = way * math.pi / 2
        found.append(Person(name, body, torch.zeros(body.shapes), pose, place, torch.ones(FRAMES, dtype=torch.bool)))
    return tuple(found)


def camera(x: float, z: float) -> Cameras:
    eye, target = torch.tensor([[x, 1.0, z]]), torch.tensor([[0.0, 0.85, 0.0]])
    return pinhole(look_at(eye, target, torch.tensor([0.0, 1.0, 0.0])), SIZE, SIZE, math.radians(34))


def shot(cast: tuple[Person, ...], seen_by: Cameras, t: int) -> tuple[torch.Tensor, torch.Tensor]:
    """People in plain colours before a wall; and who is where."""
    meshes = [Mesh(p.posed([t]).vertices[0].double().numpy(), p.body.faces.numpy()) for p in cast]
    rays = seen_by.image_rays(0)
    _, face = Caster([mesh.surface() for mesh in meshes]).meet(rays.origins.double().numpy(), rays.directions.numpy())
    labels = torch.from_numpy(np.where(face < 0, 0, 1 + face // len(meshes[0].faces))).reshape(SIZE, SIZE)
    wall = 150 + 60 * torch.rand(SIZE, SIZE, 1, generator=torch.Generator().manual_seed(0))
    frame = torch.cat([wall, wall, wall], -1)
    for p, color in enumerate(COLORS):
        frame[labels == p + 1] = torch.tensor(color).float()
    return frame.round().to(torch.uint8), labels.to(torch.uint8)


def grey(person: Person) -> np.ndarray:
    return np.full((len(person.body.vertices), 3), 128, np.uint8)


def truth() -> Recording:
    cast, front = people(), camera(0.0, 4.0)
    frames, labels = zip(*(shot(cast, front, t) for t in range(FRAMES)), strict=True)
    return Recording(list(frames), front[[0] * FRAMES], cast, list(labels), source="a clip")


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Everything that is written is small, and measured roughly."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fieldcast.reconstruct.outputs.people.FACES", 3000)
        patched.setattr("fieldcast.reconstruct.outputs.people.TEXELS", 128)
        patched.setattr("fieldcast.reconstruct.outputs.paths.FEWEST", ROUND)
        patched.setattr("fieldcast.reconstruct.outputs.folder.LARGEST", 32)
        patched.setattr("fieldcast.reconstruct.outputs.previews.LONGEST", 24)
        patched.setattr("fieldcast.reconstruct.evaluation.report.SAMPLES", 300)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a synthetic scene of capsules, `pair`, and what was made of it in a few steps, `people`."""
    folder = tmp_path_factory.mktemp("made")
    true, side = truth(), camera(4.0, 0.0)
    image, labels = shot(true.people, side, 2)
    worn = [Worn(p.name, p.posed().vertices.numpy(), p.body.faces.numpy(), grey(p)) for p in true.people]
    g = torch.Generator().manual_seed(1)
    guessed = [replace(p, place=p.place + 0.03 * torch.randn(FRAMES, 3, generator=g)) for p in true.people]
    given = replace(true, people=tuple(guessed), labels=None)
    scene = Synthetic(given, true, tuple(worn), [], Views(side, (2,), [image], [labels]))
    write_synthetic(scene, folder / "scene", {})
    write_recording(given, folder / "pair")  # without the truth beside it
    command = ["reconstruct", str(folder / "pair"), str(folder / "people"), *STEPS, "--meshes", "ply"]
    assert main_guard(cli, command) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the scene, and recordings of which something is wrong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fieldcast.console.PATIENCE", math.inf)
    for name in ("pair", "scene"):
        Path(name).symlink_to(made / name)
    return tmp_path


def test_everything_is_in_the_folder(made: Path) -> None:
    out = made / "people"
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    each = {f"people/{n}{end}" for n in ("ann", "bob") for end in (".npz", ".glb", ".rest.glb", ".safetensors")}
    films = {f"films/{n}.mp4" for n in ("compare", "around", "alone/ann", "alone/bob")}
    frames = {f"{kind}/{t:04d}.png" for kind in ("images", "masks") for t in range(FRAMES)}
    meshes = {f"meshes/{n}/{t:04d}.ply" for n in ("ann", "bob") for t in range(FRAMES)}
    single = {"scene.json", "people.glb", "sheet.png", "report.json", "background/0000.png"}
    assert names == each | films | frames | meshes | single
    assert {p.name for p in made.iterdir()} == {"scene", "pair", "people"}  # nothing unfinished is left
    report = json.loads((out / "report.json").read_text())
    assert all((out / file).is_file() for file in report["files"].values())
    assert report["settings"]["steps"] == 6 and report["frames"] == FRAMES
    assert report["peak_memory_mb"] > 50 and report["seconds"]["all"] >= report["seconds"]["fit"]


def test_what_was_made_opens_again_as_a_recording(made: Path) -> None:
    given, found = read_recording(made / "pair"), read_recording(made / "people")
    assert all(torch.equal(a, b) for a, b in zip(given.frames, found.frames, strict=True))
    assert torch.equal(given.cameras.c2w, found.cameras.c2w) and found.labels is not None
    off = [
        float((person.place - true.place).norm(dim=-1).mean())
        for recording in (given, found)
        for person, true in zip(recording.people, people(), strict=True)
    ]
    assert off[2] != off[0] and max(off[2:]) < 0.15  # refined, and not astray


@pytest.fixture(scope="module")
def opened(made: Path) -> Reconstruction:
    return open_reconstruction(made / "people")


def test_a_reconstruction_is_read_back_as_it_was_seen(opened: Reconstruction) -> None:
    assert opened.recording.labels is not None
    for t in (0, FRAMES - 1):
        assert torch.equal(opened.rendered(t).labels, opened.recording.labels[t])


def test_rigs_have_joints_and_keys(made: Path) -> None:
    scene = trimesh.load(made / "people" / "people.glb")
    data = (made / "people" / "people.glb").read_bytes()
    document = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    assert len(scene.geometry) == 2 and len(document["skins"]) == 2
    keys = document["accessors"][document["animations"][0]["samplers"][0]["input"]]
    assert keys["count"] == FRAMES
    assert all(len(skin["joints"]) == len(capsules().parents) for skin in document["skins"])
    rest = trimesh.load(made / "people" / "people" / "ann.rest.glb", force="mesh")
    assert 1.5 < np.ptp(rest.vertices[:, 1]) < 2.0 and rest.visual.uv is not None  # metres, upright, with a texture


def test_meshes_of_frames_stand_where_people_are(made: Path) -> None:
    found = read_recording(made / "people")
    for person in found.people:
        mesh = trimesh.load(made / "people" / "meshes" / person.name / "0003.ply")
        body = person.posed([3]).vertices[0].numpy()
        assert np.abs(mesh.bounds - [body.min(0), body.max(0)]).max() < 0.12  # what a shell may be off from the body


def test_films_have_all_frames(made: Path) -> None:
    films = made / "people" / "films"
    for name in ("compare", "alone/ann", "alone/bob"):
        assert imageio_ffmpeg.count_frames_and_secs(films / f"{name}.mp4")[0] == FRAMES
    assert imageio_ffmpeg.count_frames_and_secs(films / "around.mp4")[0] == ROUND
    with Image.open(made / "people" / "sheet.png") as sheet:
        assert sheet.width > 5 * SIZE and sheet.height > FRAMES * SIZE


def test_metrics_are_of_the_pictures_that_are_there(made: Path, opened: Reconstruction) -> None:
    metrics = json.loads((made / "people" / "report.json").read_text())["metrics"]
    errors = []
    for t, frame in enumerate(opened.recording.frames):
        picture = (opened.rendered(t).over(opened.background(t)) * 255).round()
        errors.append(-10 * math.log10(float(((picture - frame) / 255).square().mean())))
    assert metrics["seen"]["psnr_db"] == pytest.approx(sum(errors) / FRAMES, abs=0.05)  # the background has 8 bits
    assert 0.5 < metrics["seen"]["mask_agreement"] <= 1
    assert "truth" not in metrics


def test_a_frame_is_a_field_in_a_file(made: Path, opened: Reconstruction, folder: Path, capsys: Captured) -> None:
    assert main_guard(cli, ["reconstruct", "frame", str(made / "people"), "2", "frame.safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["people"] == ["ann", "bob"]
    seen = next(iter(render(open_field(Path("frame.safetensors")), opened.recording.cameras[[2]]))).opacity
    assert float((seen - opened.rendered(2).opacity.sum(-1)).abs().mean()) < 0.02
    assert open_field(made / "people" / "people" / "ann.safetensors").spec.kind == "shell"
    assert main_guard(cli, ["reconstruct", "frame", str(made / "people"), "99", "other.safetensors"]) == 2
    assert f"frame: expected 0 to {FRAMES - 1}, found 99" in capsys.readouterr().err
    assert not Path("other.safetensors").exists()


def off(recording: Recording) -> float:
    """Millimetres from the truth, the mean over people, joints, and the first and the last frame."""
    pairs = zip(recording.at(ENDS).people, truth().at(ENDS).people, strict=True)
    return 1000 * float(
        torch.stack([(a.posed().joints - b.posed().joints).norm(dim=-1).mean() for a, b in pairs]).mean()
    )


def test_eval_compares_a_folder_with_the_truth(made: Path, capsys: Captured) -> None:
    command = ["reconstruct", "eval", str(made / "people"), str(made / "scene"), "--quiet", "--frames", "2"]
    kept = made / "people" / "eval.json"
    try:
        assert main_guard(cli, [*command, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == json.loads(kept.read_text())
        assert main_guard(cli, command) == 2
        assert "eval.json exists; use --force" in capsys.readouterr().err
    finally:
        kept.unlink(missing_ok=True)
    found, true = read_recording(made / "people"), truth().at(ENDS).labels
    assert told["poses"]["found"]["mean"]["mpjpe_mm"] == pytest.approx(off(found), rel=1e-3)
    assert told["poses"]["given"]["mean"]["mpjpe_mm"] == pytest.approx(off(read_recording(made / "pair")), rel=1e-3)
    seen = found.at(ENDS).labels
    assert true is not None and seen is not None
    shares = []
    for p in (1, 2):
        both = [((a == p) & (b == p)).sum() / ((a == p) | (b == p)).sum() for a, b in zip(true, seen, strict=True)]
        shares.append(float(torch.stack(both).mean()))
    assert told["masks"]["mean"]["mask_iou"] == pytest.approx(sum(shares) / 2, rel=1e-3)
    assert 0 < told["surfaces"]["found"]["mean"]["chamfer_cm"] < 5
    assert set(told["views"]) == {"pictures", "people_psnr_db", "people_ssim"}


def files(out: Path) -> dict[str, bytes]:
    """The numbers of people, and what their avatars are."""
    return {p.name: p.read_bytes() for end in ("npz", "safetensors") for p in sorted((out / "people").glob(f"*.{end}"))}


def test_interrupted_work_goes_on_to_the_same_result(
    folder: Path, made: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["reconstruct", "pair", "people", *STEPS[:2], "--json"]

    def until(step: int) -> Callable[[object, str], AbstractContextManager[object]]:
        def progress(done: int, total: int, note: str = "") -> None:
            if total == 6 and done == step:
                raise KeyboardInterrupt

        return lambda console, title: nullcontext(progress)

    with monkeypatch.context() as patched:
        patched.setattr("fieldcast.fields.training.CHECKPOINT_SECONDS", 0.0)
        patched.setattr("fieldcast.reconstruct.fitting.fit.WATCHED", 0.0)
        patched.setattr("fieldcast.console.Console.progress", until(4))
        assert main_guard(cli, command) == 130
    out, err = capsys.readouterr()
    assert "--resume goes on" in err and "interrupted" in err and not out
    assert {p.name for p in folder.iterdir()} == {"pair", "scene", "people.unfinished"}
    assert {p.name for p in Path("people.unfinished").iterdir()} == {
        "memory.safetensors",
        "fit.safetensors",
        "preview.png",
    }
    assert main_guard(cli, command) == 2
    assert "people.unfinished is what an interrupted run left: --resume goes on with it" in capsys.readouterr().err
    for other, says in ((["--seed", "5"], "another seed"), (["--steps", "11"], "another steps")):
        assert main_guard(cli, [*command, *other, "--resume"]) == 2
        assert says in capsys.readouterr().err

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # once more, when all is fitted
        patched.setattr("fieldcast.reconstruct.pipeline.Sights.of", interrupted)
        assert main_guard(cli, [*command, "--resume", "--quiet"]) == 130
    assert {p.name for p in folder.iterdir()} == {"pair", "scene", "people.unfinished"}
    capsys.readouterr()
    assert main_guard(cli, [*command, "--resume", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path("people/report.json").read_text())
    assert {p.name for p in folder.iterdir()} == {"pair", "scene", "people"}
    assert files(Path("people")) == files(made / "people")


def test_another_input_is_another_digest() -> None:
    recording = truth()
    moved = replace(recording.people[0], place=recording.people[0].place + 1e-3)
    frames = [*recording.frames[:-1], 255 - recording.frames[-1]]
    others = [
        replace(recording, people=(moved, recording.people[1])),
        replace(recording, frames=frames),
        replace(recording, labels=None),
        replace(recording, cameras=recording.cameras.resized(32, 32)),
    ]
    assert len({digest(other) for other in [recording, *others]}) == 5
    assert digest(truth()) == digest(recording)


def test_a_budget_becomes_steps() -> None:
    fitted = Fitted([], torch.zeros(1, 0, 1, 1), torch.zeros(1, 1, 1, 3))
    tried = Trial(begin=2.0, step=0.5, fitted=fitted)
    steps = steps_within(60.0, tried)
    assert MASKS * 2.0 + steps * 0.5 <= 60 < MASKS * 2.0 + (steps + 1) * 0.5
    with pytest.raises(InputError, match=f"expected time for {FEWEST} steps or more"):
        steps_within(MASKS * 2.0 + (FEWEST - 1) * 0.5, tried)


def test_steps_of_a_budget_are_kept(tmp_path: Path) -> None:
    recording = truth()
    known = identity_of(recording, Plan(steps=7), 3.0, None)
    first = Remembered.opened(tmp_path / "out", known, resume=False, force=False)
    assert first.steps(lambda: 123) == 123
    again = Remembered.opened(tmp_path / "out", identity_of(recording, Plan(steps=9), 3.0, None), True, False)
    assert again.steps(lambda: 456) == 123
    with pytest.raises(InputError, match="another budget"):
        Remembered.opened(tmp_path / "out", identity_of(recording, Plan(), 4.0, None), True, False)


def test_how_sure_it_is_is_said_before_what_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any) -> Any:
        raise InputError("what takes long")

    sure = (Sure("ann", 0.2, "ann: not to be relied on"),)
    monkeypatch.setattr("fieldcast.reconstruct.pipeline.begun", lambda *_: Beginning(truth(), sure))
    monkeypatch.setattr("fieldcast.reconstruct.pipeline.fit_people", fit)
    said: list[str] = []
    with pytest.raises(InputError, match="what takes long"):
        reconstruct(replace(truth(), people=()), tmp_path / "out", say=said.append)
    assert said == ["ann: not to be relied on"]


def test_how_people_begin_is_kept(tmp_path: Path) -> None:
    true = truth()
    plain = replace(true, people=(), labels=None)
    sure = (Sure("ann", 0.8, "ann: seen, mostly"), Sure("bob", 0.25, "bob: a guess"))
    found = Beginning(replace(true, up=(0.0, 0.6, 0.8)), sure)
    known = identity_of(plain, Plan(), None, 2)
    first = Remembered.opened(tmp_path / "out", known, resume=False, force=False)
    first.begun(plain, lambda: found)

    def never() -> Beginning:
        raise AssertionError

    again = Remembered.opened(tmp_path / "out", known, resume=True, force=False).begun(plain, never)
    assert again.sure == sure and again.recording.up == pytest.approx((0.0, 0.6, 0.8))
    assert again.recording.labels is not None and true.labels is not None
    assert all(torch.equal(a, b) for a, b in zip(again.recording.labels, true.labels, strict=True))
    for a, b in zip(again.recording.people, true.people, strict=True):
        assert a.name == b.name and a.body.name == b.body.name
        assert all(torch.equal(getattr(a, key), getattr(b, key)) for key in ("shape", "pose", "place", "present"))


def test_a_free_camera_sees_everybody_all_around() -> None:
    cast = people()
    start = torch.tensor([0.0, 1.0, 4.0])
    cameras, moments = around(cast, (0.0, 1.0, 0.0), start, (96, 64), 24)
    assert len(moments) == 24 and set(moments) == set(range(FRAMES))
    for index, frame in enumerate(moments):
        x = torch.cat([person.posed([frame]).vertices[0] for person in cast])
        local = (x - cameras.centers[index]) @ cameras.c2w[index, :, :3]
        fx, fy, cx, cy = cameras.intrinsics[index]
        px, py = cx + fx * local[:, 0] / -local[:, 2], cy - fy * local[:, 1] / -local[:, 2]
        assert float(local[:, 2].max()) < 0 and float(px.min()) > 0 and float(px.max()) < 96
        assert float(py.min()) > 0 and float(py.max()) < 64
    first = cameras.centers[0] - cameras.centers.mean(0)
    assert float(first[2]) > 5 * abs(float(first[0]))  # it begins on the side of the camera that was given
    angles = torch.atan2(*(cameras.centers - cameras.centers.mean(0))[:, [0, 2]].T)
    assert len(set((angles / 0.5).round().tolist())) >= 12  # and comes all around


def test_layers_over_a_background() -> None:
    g = torch.Generator().manual_seed(0)
    opacity = torch.rand(4, 5, 2, generator=g) / 2
    color = torch.rand(4, 5, 3, generator=g) * opacity.sum(-1, keepdim=True)
    seen, behind = Rendering(color, opacity), torch.rand(4, 5, 3, generator=g)
    whole = color + (1 - opacity.sum(-1, keepdim=True)) * behind
    assert torch.allclose(seen.over(behind), whole)
    rgba = seen.rgba()
    assert torch.allclose(rgba[..., :3] * rgba[..., 3:] + behind * (1 - rgba[..., 3:]), whole, atol=1e-5)
    left = 1 - opacity.sum(-1)
    brute = [[int(np.argmax([left[i, j], *opacity[i, j]])) for j in range(5)] for i in range(4)]
    assert seen.labels.tolist() == brute == whose(opacity.permute(2, 0, 1)).tolist()


def broken(name: str, **changes: Any) -> None:
    """A copy of the scene whose first person has other arrays."""
    write_recording(replace(truth(), labels=None), Path(name))
    file = Path(name, "people", "ann.npz")
    arrays = dict(np.load(file)) | changes
    np.savez(file, **arrays)


def nobody() -> None:
    still = truth().frames[0]
    write_recording(replace(truth(), frames=[still] * FRAMES, labels=None, people=()), Path("nobody"))


def fewer() -> None:
    write_recording(replace(truth(), labels=None), Path("fewer"))
    Path("fewer/images/0002.png").unlink()


def other_size() -> None:
    write_recording(replace(truth(), labels=None), Path("sizes"))
    with Image.open("sizes/images/0003.png") as picture:
        picture.resize((SIZE, SIZE + 2)).save("sizes/images/0003.png")


def short() -> None:
    broken("short", place=np.zeros((FRAMES - 1, 3), np.float32))


def nan() -> None:
    pose = np.zeros((FRAMES, len(capsules().parents), 3), np.float32)
    pose[4, 1, 1] = math.nan
    broken("nan", pose=pose)


def there() -> None:
    Path("there").mkdir()


MISTAKES = [
    ("people", ["nobody", "out"], "nobody: nobody moves before the background; give masks, keypoints or poses", nobody),
    ("missing", ["fewer", "out"], "expected 5 files, found 4; missing: images/0002.png", fewer),
    ("sizes", ["sizes", "out"], "0003.png: expected 64x64 pixels, as 0000.png has, found 64x66", other_size),
    ("length", ["short", "out"], "place: expected shape [5, 3] (frames, x y z), found [4, 3]", short),
    ("nan", ["nan", "out"], "expected finite numbers where ann is present, found NaN or infinity in frame 4", nan),
    ("there", ["pair", "there"], "there exists; use --force", there),
    ("resume", ["pair", "out", "--resume"], "nothing to resume", None),
    ("budget", ["pair", "out", "--budget", "0"], "budget: expected minutes above 0, found 0", None),
    ("nan-budget", ["pair", "out", "--budget", "nan"], "budget: expected minutes above 0, found nan", None),
    ("both", ["pair", "out", "--budget", "1", "--steps", "5"], "expected --steps or --budget, found both", None),
    ("steps", ["pair", "out", "--steps", "0"], "steps: expected 1 or more, found 0", None),
    ("count", ["pair", "out", "--people", "3"], "people: expected 3, found the poses of 2", None),
    ("segmenter", ["pair", "out", "--segmenter", "eye"], "segmenter eye: expected one of masks, grabcut", None),
    (
        "from",
        ["pair", "out", "--segmenter", "masks", "--from", "no"],
        "no: expected a folder of masks or of weights, found nothing",
        None,
    ),
    ("background", ["pair", "out", "--background", "no.safetensors"], "no.safetensors", None),
    ("recipe", ["pair", "out", "--recipe", "slow"], "recipe slow: expected one of fast, paper", None),
    ("meshes", ["pair", "out", "--meshes", "stl"], "expected the name of a mesh, which ends in", None),
    ("itself", ["pair", "pair", "--force"], "pair: expected another folder than that of the input", None),
    ("eval", ["eval", "pair", "scene"], "pair: expected a folder that `reconstruct` made, found none", None),
    ("truth", ["eval", "pair", "nowhere"], "nowhere: expected a synthetic scene with truth/scene.json", None),
]


@pytest.mark.parametrize(("command", "says", "prepare"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(
    folder: Path, capsys: Captured, command: list[str], says: str, prepare: Callable[[], None] | None
) -> None:
    if prepare is not None:
        prepare()
    before = {p.name for p in folder.rglob("*")}
    assert main_guard(cli, ["reconstruct", *command, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert says in err and len(err.strip().splitlines()) == 1 and not out
    assert {p.name for p in folder.rglob("*")} == before


def test_demo(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldcast.reconstruct.demo.WANTED", Wanted(frames=4, size=32))
    monkeypatch.setattr("fieldcast.reconstruct.demo.STEPS", 2)
    monkeypatch.setattr("fieldcast.reconstruct.demo.MEASURED", 1)
    assert main_guard(cli, ["demo", "people", "--out", "shown", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"]["truth"]["surfaces"]["found"]["mean"]["chamfer_cm"] < 10
    assert Path("shown/clip/truth/preview.mp4").is_file() and Path("shown/people/people.glb").is_file()
    assert main_guard(cli, ["demo", "people", "--out", "shown"]) == 2
    assert "shown is not empty; use --force" in capsys.readouterr().err
