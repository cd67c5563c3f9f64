"""Edits of fields: what is taken out at once, what is trained, and every command as it is typed."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fieldcast
from fieldcast.cli import cli
from fieldcast.distill import Addition, Edits, Move, Place, compare, edit, edited
from fieldcast.distill.convert import frozen_copy, start_as_origin
from fieldcast.distill.editing import FINE, at_once, face_error, result_spec
from fieldcast.distill.edits import parsed_addition, parsed_move
from fieldcast.distill.fidelity import comparison_views
from fieldcast.distill.preview import preview, projected, with_boxes
from fieldcast.distill.pvd import copy_networks, fingerprint
from fieldcast.endings import main_guard
from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields import KINDS, Field, Space, build, default_spec, training
from fieldcast.fields.box import Box
from fieldcast.fields.cameras import orbit
from fieldcast.fields.composed import Composed
from fieldcast.fields.cut import Cut
from fieldcast.fields.files import inspect_native, sha256

Captured = pytest.CaptureFixture[str]
VM = {"resolution": 11, "density_channels": 2, "appearance_channels": 2, "hidden": 8}
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"layers": 2, "width": 16, "skip": 1, "octaves": 2, "code": 16, "hidden": 8},
    "hashgrid": {"levels": 3, "log2_table": 10, "base_resolution": 8, "finest_resolution": 24, "hidden": 16},
    "vm": VM,
    "cp": VM,
    "voxels": {"resolution": 24, "degree": 0},
    "planes": {"resolutions": [8, 16], "channels": 4, "hidden": 8},
    "hybrid": {
        "levels": 2, "log2_table": 8, "base_resolution": 8, "finest_resolution": 16, "vm_resolution": 8,
        "vm_channels": 2, "hidden": 8,
    },
    "nerf": {"layers": 2, "width": 16, "skip": 1, "octaves": 2, "view_octaves": 1, "branch": 8},
    "tensorf": {
        "resolution": [12, 12, 12], "density_channels": [2, 2, 2], "appearance_channels": [2, 2, 2],
        "features": 6, "hidden": 8,
    },
}  # fmt: skip
HALF = Box((-2.0, -2.0, -2.0), (0.0, 2.0, 2.0))
BACK = Box((0.25, -1.0, -1.0), (1.0, 1.0, 1.0))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training steps of milliseconds, coarse occupancy, and no progress however slow the machine."""
    monkeypatch.setattr("fieldcast.console.PATIENCE", math.inf)
    monkeypatch.setattr("fieldcast.distill.editing.FINE", 32)
    monkeypatch.setattr("fieldcast.distill.preview.SIZE", 24)
    for cls in KINDS.values():
        monkeypatch.setattr(cls, "points_per_step", 1 << 11)


def ball() -> Field:
    """The logit 5 - 20 r^2 as a VM field, which holds it exactly at its vertices."""
    field = build(default_spec("vm", occupancy=8, steps=48).resized(VM), seed=1)
    at = torch.linspace(-1, 1, 11)
    with torch.no_grad():
        field.density_vm.planes.zero_()
        field.density_vm.lines.fill_(1)
        field.density_vm.planes[0, :, :, 0] = 5 - 20 * (at[:, None] ** 2 + at**2)
        field.density_vm.planes[0, :, :, 1] = 1
        field.density_vm.lines[0, :, 1] = -20 * at**2
    i = torch.arange(6)
    field.views = orbit(Space(), i * 1.0, 0.1 * i, 3.2, width=24, height=16, fov=0.7)
    return field


def points(count: int = 3000) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1


# --- at once


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_erased_is_gone_at_once_and_the_rest_is_as_it_was(kind: str, tmp_path: Path) -> None:
    """Bit for bit, but for points nearer to a face than half a cell; and so it is from the file."""
    field = build(default_spec(kind, occupancy=8).resized(SMALL[kind]), seed=0)
    box = Box((-0.3, -0.41, -2.0), (0.5, 0.4, 0.27))
    result = edit(field, Edits(erase=(box,)))
    assert result.spec.occupancy == 32
    fieldcast.save(result, tmp_path / "a.safetensors")
    for one in (result, fieldcast.open(tmp_path / "a.safetensors")):
        x = points()
        margin = torch.tensor(face_error(one) + 1e-6)
        inside = Box(*(tuple((torch.tensor(c) + s * margin).tolist()) for c, s in ((box.low, 1), (box.high, -1))))
        outside = Box(*(tuple((torch.tensor(c) + s * margin).tolist()) for c, s in ((box.low, -1), (box.high, 1))))
        deep, off = inside.contains(x), ~outside.contains(x)
        assert int(deep.sum()) > 100
        assert float(one.density(x[deep]).detach().abs().max()) == 0
        assert torch.equal(one.density(x[off]), field.density(x[off]))
        assert torch.equal(one(x[off], x[off])[1], field(x[off], x[off])[1])
    if kind != "voxels":  # which do not store what is empty
        assert one.parameter_count() == field.parameter_count()


def test_cropped_voxels_are_small() -> None:
    field = build(default_spec("voxels", occupancy=8).resized(SMALL["voxels"]), seed=0)
    result = edit(field, Edits(crop=Box((-1.0, -1.0, -1.0), (-0.4, -0.4, -0.4))))
    assert result.spec.sizes.blocks < field.block_table.numel()
    x = points()
    kept = (x < -0.45).all(-1)
    torch.testing.assert_close(result.density(x[kept]), field.density(x[kept]))


def test_what_is_taken_out_at_once_shares_nothing_and_changes_nothing() -> None:
    field = ball()
    before = copy.deepcopy(field)
    result = edit(field, Edits(erase=(BACK,)))
    with torch.no_grad():
        for parameter in result.parameters():
            assert parameter.requires_grad
            parameter.add_(1)
    for name, value in field.state_dict().items():
        assert torch.equal(value, before.state_dict()[name])
    assert result.views is field.views


@pytest.mark.parametrize("contraction", ["sphere", "cube"])
def test_an_unbounded_scene_is_cropped(contraction: Any) -> None:
    space = Space(contraction=contraction)
    field = build(default_spec("vm", occupancy=8, space=space).resized(VM), seed=1)
    result = edit(field, Edits(crop=Box((-0.2, -0.4, -0.3), (0.6, 0.4, 0.3))))
    assert face_error(result) == pytest.approx(2 / 32)
    x = points() * 3
    inner, outer = Box((-0.13, -0.33, -0.23), (0.53, 0.33, 0.23)), Box((-0.27, -0.47, -0.37), (0.67, 0.47, 0.37))
    assert torch.equal(result.density(x[inner.contains(x)]), field.density(x[inner.contains(x)]))
    assert not bool(result.density(x[~outer.contains(x)]).any())


def test_faces_are_half_a_cell_off_at_most() -> None:
    assert FINE == 256
    assert face_error(at_once(Cut(ball(), erased=(BACK,)))) == pytest.approx(2 / 32 / 2)


def test_a_field_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(FieldcastError, match="nothing is left"):
        edit(ball(), Edits(erase=(Box((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)),)))


# --- the edited scene


def test_an_edit_is_what_its_parts_say() -> None:
    """Cropped, erased, moved and added at once: each point is where it should be, and in one place only."""
    field, x = ball(), points()
    crop, erased, box = Box((-0.8, -1.0, -1.0), (1.0, 1.0, 1.0)), Box((-1.0, -1.0, 0.3), (1.0, 1.0, 1.0)), BACK
    shift, place = torch.tensor([0.0, 3.0, 0.0]), Place((0.0, 3.0, 0.0))
    moves = (Move(box, Place((0.0, 0.0, 1.5))),)
    scene = edited(field, Edits(crop, (erased,), moves, (Addition(ball(), place),)))
    assert isinstance(scene, Composed)
    kept = crop.contains(x) & ~erased.contains(x)
    at_home, moved = kept & ~box.contains(x), kept & box.contains(x)
    sigma = field.density(x)
    close = {"rtol": 1e-3, "atol": 1e-3}
    clear = x[:, 2] < 0.4  # of what was moved, which is at 0.5 and above
    far = x + torch.tensor([0.0, 0.0, 1.5])
    torch.testing.assert_close(scene.density(x)[clear], (sigma * at_home)[clear], **close)
    torch.testing.assert_close(scene.density(far)[moved], sigma[moved], **close)
    torch.testing.assert_close(scene.density(x + shift), sigma, **close)
    assert scene.spec.space.aabb[4] > 3
    assert scene.spec.background == field.spec.background


def test_moves_turn_about_the_middle_of_their_box() -> None:
    """Half a turn about z puts the half with x < 0 of its box where the other was."""
    field = ball()
    scene = edited(field, Edits(moves=(Move(Box((-1.0, -1.0, -1.0), (0.0, 1.0, 1.0)), Place(turn=180)),)))
    x = points()
    x = x[x[:, 0] < 0]
    there = torch.stack([-1 - x[:, 0], -x[:, 1], x[:, 2]], -1)  # the middle is (-0.5, 0, 0)
    torch.testing.assert_close(scene.density(there), field.density(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("edits", "text"),
    [
        (Edits(), "nothing to edit: expected at least one of crop, erase, move and add"),
        (Edits(erase=(Box((2, 2, 2), (3, 3, 3)),)), "erase 2,2,2,3,3,3: lies outside .*, which is -1,-1,-1,1,1,1"),
        (Edits(crop=Box((2, 2, 2), (3, 3, 3))), "crop 2,2,2,3,3,3: lies outside"),
        (Edits(moves=(Move(BACK, Place()), Move(HALF, Place()), Move(BACK, Place()))), "overlaps the moved box"),
        (Edits(crop=HALF, moves=(Move(BACK, Place((1, 0, 0))),)), "lies outside the crop"),
    ],
)  # fmt: skip
def test_edits_that_cannot_be_are_refused(edits: Edits, text: str) -> None:
    with pytest.raises(InputError, match=text):
        edited(ball(), edits)


def test_edited_scenes_are_told_apart() -> None:
    """A run that began with one must not be resumed with another."""
    scenes = [edited(ball(), Edits(erase=(box,))) for box in (BACK, HALF)]
    scenes += [edited(ball(), Edits(moves=(Move(BACK, Place((0.1 * i, 0, 0))),))) for i in (1, 2)]
    assert len({fingerprint(scene) for scene in scenes}) == 4
    assert fingerprint(edited(ball(), Edits(erase=(BACK,)))) == fingerprint(scenes[0])


def test_edited_scenes_teach_without_being_changed() -> None:
    """The copy that teaches shares the tensors, not the flags."""
    scene = edited(ball(), Edits(moves=(Move(BACK, Place((0.0, 0.5, 0.0))),)))
    frozen, x = frozen_copy(scene, scene.occupancy), points(200)
    assert isinstance(frozen, Composed)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in scene.parameters())
    assert {p.data_ptr() for p in frozen.parameters()} == {p.data_ptr() for p in scene.parameters()}
    assert torch.equal(frozen.density(x), scene.density(x))
    assert len(list(frozen.parameters())) == len(list(ball().parameters()))  # one field, in two parts


def test_a_cut_teaches_its_features_and_networks() -> None:
    field = ball()
    student = build(result_spec(Cut(field, erased=(BACK,)), field.spec), seed=3)
    assert copy_networks(Cut(Cut(field, crop=HALF), erased=(BACK,)), student) == ["color_net"]
    assert torch.equal(student.color_net.layers[0].weight, field.color_net.layers[0].weight)


def test_an_edited_scene_has_no_file(tmp_path: Path) -> None:
    for scene, kind in (
        (Cut(ball(), HALF), "cut"),
        (edited(ball(), Edits(additions=(Addition(ball(), Place()),))), "composed"),
    ):
        with pytest.raises(InputError, match=f"a {kind} field is made of others and has no file: convert it"):
            fieldcast.save(scene, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


# --- trained


@pytest.mark.parametrize(
    ("edits", "kind"),
    [(Edits(erase=(HALF,)), "voxels"), (Edits(moves=(Move(HALF, Place((-0.6, 0.0, 0.2), 30)),)), "vm")],
)
def test_an_edited_scene_becomes_a_field(edits: Edits, kind: str) -> None:
    field = ball()
    scene = edited(field, edits)
    spec = result_spec(scene, field.spec, kind).resized(SMALL[kind])
    views = comparison_views(scene, 2, 0, longest=24)
    result = edit(field, edits, spec, steps=60)
    assert result.spec.kind == kind
    before = compare(scene, field, views).psnr  # as it was
    after = compare(scene, result, views).psnr
    assert after > 24
    assert after > before + 4


def test_the_result_has_the_kind_and_the_sizes_of_its_source() -> None:
    field = ball()
    scene = edited(field, Edits(moves=(Move(BACK, Place((1.0, 0.0, 0.0))),)))
    spec = result_spec(scene, field.spec)
    assert (spec.kind, spec.sizes, spec.space) == ("vm", field.spec.sizes, scene.spec.space)
    assert result_spec(scene, field.spec, "cp") == default_spec(
        "cp", space=scene.spec.space, occupancy=scene.spec.occupancy, steps=scene.spec.steps
    )
    with pytest.raises(InputError, match="did you mean voxels"):
        result_spec(scene, field.spec, "voxel")


def test_a_student_begins_as_what_was_edited_where_it_fits() -> None:
    field = ball()
    move = Edits(moves=(Move(BACK, Place(turn=180)),))
    for scene in (edited(field, move), Cut(field, HALF), Cut(Cut(field, HALF), erased=(BACK,))):
        student = build(result_spec(scene, field.spec), seed=5)
        assert start_as_origin(student, scene)
        assert all(torch.equal(p, dict(field.named_parameters())[n]) for n, p in student.named_parameters())
        assert student.density_vm.planes.data_ptr() != field.density_vm.planes.data_ptr()
    grown = edited(
        field, Edits(moves=(Move(BACK, Place((2.0, 0.0, 0.0))),))
    )  # what is where means something else there
    assert not start_as_origin(build(result_spec(grown, field.spec), seed=5), grown)
    assert not start_as_origin(build(result_spec(scene, field.spec, "cp"), seed=5), scene)
    assert not start_as_origin(build(field.spec, seed=5), field)  # what is not edited is taught as ever


# --- how it is typed


def test_moves_and_additions_are_read_as_they_are_typed() -> None:
    box = Box((0, 0, 0), (1, 1, 1))
    assert parsed_move("0,0,0,1,1,1 by 1,-2,3") == Move(box, Place((1, -2, 3)))
    assert parsed_move(" 0,0,0, 1,1,1  by 1, -2, 3 turn -90 scale .5 ") == Move(box, Place((1, -2, 3), -90, 0.5))
    assert parsed_move("0,0,0,1,1,1 turn 45") == Move(box, Place(turn=45))
    assert parsed_addition("a b/turn.safetensors") == (Path("a b/turn.safetensors"), Place())
    assert parsed_addition("a b.safetensors by 1,2,3 scale 2") == (Path("a b.safetensors"), Place((1, 2, 3), 0, 2))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fieldcast.save(ball(), "a.safetensors")
    open_world = default_spec("vm", occupancy=8, space=Space(contraction="cube")).resized(VM)
    fieldcast.save(build(open_world, seed=0), "open.safetensors")
    Path("there.safetensors").write_text("mine")
    return tmp_path


def run(capsys: Captured, *argv: object) -> tuple[str, str]:
    code = main_guard(cli, ["edit", "a.safetensors", *map(str, argv)])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out, err


def run_json(capsys: Captured, *argv: object) -> Any:
    return json.loads(run(capsys, *argv, "--json", "--views", 1)[0])


def test_edit_at_once(folder: Path, capsys: Captured) -> None:
    facts = run_json(
        capsys, "out.safetensors", "--erase", "0,-1,-1,1,1,0", "--erase=-1,-1,0,0,1,1", "--report", "r.html"
    )
    assert (facts["recipe"], facts["steps"], facts["teacher"]["kind"], facts["student"]["kind"]) == (
        "at once",
        0,
        "cut",
        "vm",
    )
    assert facts["faces_within"] == pytest.approx(1 / 32)
    assert facts["fidelity"]["psnr"] > 40
    assert facts["lost"] == []
    result, x = fieldcast.open("out.safetensors"), points()
    gone = (x[:, 0] > 0.01) & (x[:, 2] < -0.01)
    assert float(result.density(x[gone]).detach().max()) == 0
    made_from = inspect_native(Path("out.safetensors")).provenance
    assert made_from.source == "a.safetensors"
    assert "edited" in Path("r.html").read_text()
    out, err = run(capsys, "again.safetensors", "--crop", "0,-1,-1,1,1,0", "--views", 1)
    assert "fidelity" in out
    assert err == ""


def test_edit_with_training(folder: Path, capsys: Captured) -> None:
    """Two fields in one scene, in another kind."""
    fieldcast.save(ball(), "b.safetensors")
    options = ["--to", "cp", *(f"--size={k}={v}" for k, v in VM.items()), "--steps", 3]
    facts = run_json(
        capsys, "out.safetensors", "--add", "b.safetensors by 2,0,0 turn 90 scale 0.5", *options, "--seed", 4
    )
    assert (facts["recipe"], facts["steps"], facts["seed"], facts["teacher"]["kind"]) == ("fast", 3, 4, "composed")
    result = fieldcast.open("out.safetensors")
    assert result.spec.kind == "cp"
    assert 2.2 < result.spec.space.aabb[3] < 2.6
    parents = inspect_native(Path("out.safetensors")).provenance.parents
    assert [p["source"] for p in parents] == ["", "b.safetensors", ""]
    assert parents[1]["sha256"] == sha256(Path("b.safetensors"))
    facts = run_json(capsys, "moved.safetensors", "--move", "0,-1,-1,1,1,1 by 0,0,0.1", "--steps", 2)
    assert facts["student"]["kind"] == "vm"
    facts = run_json(capsys, "erased.safetensors", "--erase", "0,-1,-1,1,1,1", "--steps", 2)
    assert (facts["recipe"], facts["steps"]) == ("fast", 2)


def test_a_box_with_nothing_in_it_is_noted(folder: Path, capsys: Captured) -> None:
    field = ball()
    field.occupancy = field.occupancy & Cut(field, crop=HALF).occupancy
    fieldcast.save(field, "a.safetensors", force=True)
    _, err = run(capsys, "out.safetensors", "--erase", "0.3,0,0,1,1,1", "--views", 1)
    assert err == "note: a.safetensors is empty in the box of --erase 0.3,0,0,1,1,1\n"


def test_a_picture_shows_before_and_after(folder: Path, capsys: Captured) -> None:
    assert run(capsys, "look.png", "--erase=-1,-1,-1,1,1,1", "--add", "a.safetensors by 0,0,0.5") == ("", "")
    with Image.open("look.png") as picture:
        assert picture.size == (4 * 24, 2 * 24)
    assert not Path("look.safetensors").exists()
    before = Path("look.png").read_bytes()
    assert main_guard(cli, ["edit", "a.safetensors", "look.png", "--erase", "0,0,0,1,1,1"]) == 2
    assert Path("look.png").read_bytes() == before


def test_boxes_are_drawn_where_they_are() -> None:
    """Each corner is on the ray through the pixel that it is drawn at."""
    cameras = orbit(Space(), torch.tensor([0.7]), torch.tensor([0.4]), 4.0, width=60, height=40, fov=0.9)
    x = Box((-0.5, -0.4, 0.1), (0.3, 0.6, 0.9)).corners()
    at, depth = projected(cameras, x)
    rays = cameras.rays(torch.zeros(8, dtype=torch.long), at)
    distance = (x - rays.origins).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(rays.origins + distance * rays.directions, x, rtol=0, atol=1e-4)
    assert bool((depth > 0).all())
    white = torch.ones(40, 60, 3)
    drawn = with_boxes(white, cameras, [("erase", Box((-0.5, -0.4, 0.1), (0.3, 0.6, 0.9)))])
    column, row = (int(v) for v in at[0])
    assert float(drawn[row, column, 0] - drawn[row, column, 1]) > 0.5  # red
    assert bool((drawn[0] == 1).all())
    behind = with_boxes(white, cameras, [("crop", Box((9.0, 9.0, 9.0), (10.0, 10.0, 10.0)))])
    assert bool((behind == 1).all())
    field = ball()
    pictures = preview(field, Cut(field, HALF), [("crop", HALF)])
    assert np.isfinite(pictures.numpy()).all()


EDIT = ["edit", "a.safetensors", "out.safetensors"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (EDIT, "nothing to edit"),
        ([*EDIT, "--erase", "1,2,3"], "--erase: expected a box x0,y0,z0,x1,y1,z1 in world units, found '1,2,3'"),
        ([*EDIT, "--erase", ""], "--erase: expected a box"),
        ([*EDIT, "--crop", ""], "--crop: expected a box"),
        ([*EDIT, "--crop", "1,0,0,0,1,1"], "--crop: box: expected finite minima below maxima"),
        ([*EDIT, "--crop", "5,5,5,6,6,6"], "outside the field's box, which is -1,-1,-1,1,1,1"),
        ([*EDIT, "--move", ""], "--move: expected a box x0,y0,z0,x1,y1,z1, found ''"),
        ([*EDIT, "--move", "0,0,0,1,1,1"], "expected `by dx,dy,dz`, `turn DEGREES` or `scale FACTOR` after the box"),
        ([*EDIT, "--move", "0,0,0,1,1,1 by 1,2"], "expected a shift dx,dy,dz after `by`, found '1,2'"),
        ([*EDIT, "--move", "0,0,0,1,1,1 by 1,2,3 turn x"], "expected degrees after `turn`, found 'x'"),
        ([*EDIT, "--move", "0,0,0,1,1,1 scale 0"], "expected a scale from 0.001 to 1000, found 0"),
        ([*EDIT, "--move", "0,0,0,1,1,1 by 1e39,0,0"], "finite shift"),
        ([*EDIT, "--move", "0,0,0,1,1,1 by 1,0,0 scale -1"], "expected a scale"),
        ([*EDIT, "--add", "no.safetensors by 1,0,0"], "no.safetensors: no such file"),
        ([*EDIT, "--add", "open.safetensors by 1,0,0"], "unbounded"),
        ([*EDIT, "--add", "there.safetensors"], "there.safetensors"),
        ([*EDIT, "--add", "  "], "--add: expected a field file, found '  '"),
        ([*EDIT, "--erase", "0,0,0,1,1,1", "--to", "voxel"], "did you mean voxels?"),
        ([*EDIT, "--erase", "0,0,0,1,1,1", "--size", "depth=2"], "vm has no size 'depth'"),
        ([*EDIT, "--erase", "0,0,0,1,1,1", "--recipe", "magic"], "choose from fast, pvd"),
        ([*EDIT, "--erase", "0,0,0,1,1,1", "--resume"], "nothing to resume"),
        ([*EDIT, "--erase", "0,0,0,1,1,1", "--report", "r.pdf"], ".html or .png"),
        ([*EDIT[:2], "there.safetensors", "--erase", "0,0,0,1,1,1"], "--force"),
        ([*EDIT[:2], "out.ply", "--erase", "0,0,0,1,1,1"], "ends in .safetensors"),
        (["edit", "no.safetensors", "out.safetensors", "--erase", "0,0,0,1,1,1"], "no.safetensors: no such file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(folder: Path, capsys: Captured, command: list[str], says: str) -> None:
    before = {p.name for p in folder.iterdir()}
    assert main_guard(cli, command) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert err.startswith("fieldcast: ")
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert {p.name for p in folder.iterdir()} == before


def test_nothing_left_is_exit_code_1(folder: Path, capsys: Captured) -> None:
    assert main_guard(cli, [*EDIT, "--erase=-1,-1,-1,1,1,1"]) == 1
    assert capsys.readouterr().err == "fieldcast: nothing is left of the field\n"
    assert main_guard(cli, [*EDIT, "--erase=-1,-1,-1,1,1,1", "--steps", "2"]) == 1
    assert "the field is empty" in capsys.readouterr().err
    assert not Path("out.safetensors").exists()


def test_what_was_interrupted_is_resumed(folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same field; and not with another edit."""

    def argv(name: str, shift: str = "0.2") -> list[str]:
        return [
            "edit",
            "a.safetensors",
            name,
            "--move",
            f"0,-1,-1,1,1,1 by 0,0,{shift}",
            "--steps",
            "8",
            "--views=1",
            "-q",
        ]

    run(capsys, *argv("whole.safetensors")[2:])
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    save, saved = training.Training._save, []

    def save_and_stop(self: Any, path: Path, step: int, *rest: Any) -> None:
        save(self, path, step, *rest)
        saved.append(step)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Training, "_save", save_and_stop)
    assert main_guard(cli, argv("part.safetensors")) == 130
    assert main_guard(cli, [*argv("part.safetensors", "0.3"), "--resume"]) == 2
    assert "was made with another" in capsys.readouterr().err
    run(capsys, *argv("part.safetensors")[2:], "--resume")
    whole, part = (fieldcast.open(f"{name}.safetensors").state_dict() for name in ("whole", "part"))
    assert all(torch.equal(whole[k], part[k]) for k in whole)
