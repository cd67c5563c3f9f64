"""What a check says of recordings whose faults are known: boxes before a camera, whose pixels are computed by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fieldcast.cli.recording import check as command
from fieldcast.endings import main_guard
from fieldcast.fields.cameras import Cameras
from fieldcast.reconstruct.bodies import reading as bodies
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.outputs.masks import COLORS, TINT
from fieldcast.reconstruct.recordings.check import REMARKS, PersonCheck, check_recording, remarks
from fieldcast.reconstruct.recordings.files import write_recording
from fieldcast.reconstruct.recordings.overlays import overlay
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.recordings.silhouettes import silhouettes

Captured = pytest.CaptureFixture[str]
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
T = 4


def box() -> Body:
    """A box of 0.4 x 1 x 0.2 m on the ground, with one joint."""
    return Body(
        name="box",
        joint_names=("root",),
        parents=(-1,),
        vertices=torch.tensor([[x, y, z] for x in (-0.2, 0.2) for y in (0.0, 1.0) for z in (-0.1, 0.1)]),
        shape_directions=torch.zeros(8, 3, 1),
        joints=torch.zeros(1, 3),
        joint_directions=torch.zeros(1, 3, 1),
        faces=torch.tensor([corners for a, b, c, d in QUADS for corners in ([a, b, c], [a, c, d])]),
        weight_index=torch.zeros(8, 1, dtype=torch.int64),
        weights=torch.ones(8, 1),
        keypoints=torch.zeros(17, dtype=torch.int64),
    )


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bodies.BODIES, "box", box)


def person(name: str, x: float, z: float, body: Body) -> Person:
    """Somebody who stands still."""
    place = torch.tensor([[x, 0.0, z]]).repeat(T, 1)
    return Person(name, body, torch.zeros(1), torch.zeros(T, 1, 3), place, torch.ones(T, dtype=torch.bool))


def rectangle(label: int, columns: slice, rows: slice, onto: Tensor | None = None) -> Tensor:
    picture = torch.zeros(48, 64, dtype=torch.uint8) if onto is None else onto.clone()
    picture[rows, columns] = label
    return picture


# A camera at the origin with a focal length of 40 pixels, that looks along -z; the centre of the picture is (32, 24).
# Ann's front is 2.8 m away: 0.2 / 2.8 * 40 = 2.86 pixels to each side, columns 29 to 34; her feet are in the middle row
# and her head is 1 / 2.8 * 40 = 14.3 pixels above it: rows 10 to 23.
# Bob's front is 4 m away, 0.13 m to the right: from 32 - 0.7 to 32 + 3.3, columns 31 to 34; his head is 10 pixels above
# the middle: rows 14 to 23. Where he is 2.2 m to the right, his side is seen too, whose far edge is at
# 2 / 4.2 * 40 = 19.05 pixels from the middle, and his front ends at 2.4 / 4 * 40 = 24: columns 51 to 55.
ANN = (slice(29, 35), slice(10, 24))
BOB = (slice(31, 35), slice(14, 24))
BOB_FAR = (slice(51, 56), slice(14, 24))


def recorded(bob: float = 0.13, masks: list[Tensor] | None = None) -> Recording:
    """Ann and Bob, grey frames, and masks."""
    body = box()
    size = torch.tensor([[64, 48]]).repeat(T, 1)
    cameras = Cameras(torch.eye(4)[:3].repeat(T, 1, 1), torch.tensor([40.0, 40, 32, 24]).repeat(T, 1), size)
    people = (person("ann", 0.0, -2.9, body), person("bob", bob, -4.1, body))
    frames = [torch.full((48, 64, 3), 100, dtype=torch.uint8)] * T
    return Recording(frames, cameras, people, masks, fps=10.0, source="a clip")


def found(recording: Recording) -> tuple[PersonCheck, PersonCheck]:
    ann, bob = check_recording(recording)
    return ann, bob


def nothing_odd(check: PersonCheck) -> bool:
    return not any(getattr(check, remark) for remark in REMARKS)


def test_bodies_are_in_the_pixels_that_the_camera_says() -> None:
    seen = silhouettes(recorded(), 0)
    assert torch.equal(seen.whole[0], rectangle(1, *ANN).bool())
    assert torch.equal(seen.whole[1], rectangle(1, *BOB).bool())
    assert torch.equal(seen.labels, rectangle(1, *ANN))  # who hides him
    row, column = 12, 30
    ray = math.sqrt(1 + ((column + 0.5 - 32) / 40) ** 2 + ((row + 0.5 - 24) / 40) ** 2)
    assert float(seen.depth[0, row, column]) == pytest.approx(2.8 * ray, abs=1e-5)
    assert float(seen.depth[1, 20, 33]) == pytest.approx(4.0 * math.hypot(1, 1.5 / 40, 3.5 / 40), abs=1e-5)
    assert math.isinf(seen.depth[0, 0, 0])


def test_silhouettes_may_be_smaller_and_leave_out_who_is_not_present() -> None:
    given = recorded(2.2)
    ann = replace(given.people[0], present=torch.tensor([True, False, True, True]))
    given = replace(given, people=(ann, given.people[1]))
    assert not bool(silhouettes(given, 1).whole[0].any())
    small = silhouettes(given, 0, (32, 24))
    # Half as large: columns from 14.57 to 17.43, rows from 4.86 to 12.
    expected = torch.zeros(24, 32, dtype=torch.bool)
    expected[5:12, 15:17] = True
    assert torch.equal(small.whole[0], expected)
    assert silhouettes(replace(given, people=()), 0).labels.sum() == 0


def test_who_turns_is_seen_from_the_side() -> None:
    given = recorded()
    turned = replace(given.people[0], pose=torch.tensor([0.0, math.pi / 2, 0.0]).expand(T, 1, 3).contiguous())
    seen = silhouettes(replace(given, people=(turned,)), 0)
    # The front is now 2.7 m away and 0.1 m to each side: 1.48 pixels, columns 31 and 32; and 14.8 pixels high.
    assert torch.equal(seen.whole[0], rectangle(1, slice(31, 33), slice(9, 24)).bool())


def test_masks_that_fit_are_found_to_fit() -> None:
    masks = [rectangle(1, *ANN, onto=rectangle(2, *BOB_FAR))] * T
    ann, bob = found(recorded(2.2, masks))
    for check in (ann, bob):
        assert nothing_odd(check) and set(check.overlaps.values()) == {1.0} and check.present == T
        assert check.hidden == 0 and check.height == 1.0
    assert list(remarks([ann, bob])) == []


def test_overlap_is_intersection_over_union() -> None:
    exact = rectangle(1, *ANN, onto=rectangle(2, *BOB_FAR))
    shifted = rectangle(1, slice(32, 38), ANN[1], onto=rectangle(2, *BOB_FAR))  # 3 of 9 columns in common
    gone = rectangle(2, *BOB_FAR)
    ann, bob = found(recorded(2.2, [exact, shifted, gone, exact]))
    assert ann.overlaps == {0: 1.0, 1: pytest.approx(1 / 3), 2: 0.0, 3: 1.0}
    assert ann.mean_overlap == pytest.approx(7 / 12) and ann.worst == 2
    assert bob.mean_overlap == 1.0


def test_exchanged_names_are_found() -> None:
    right = rectangle(1, *ANN, onto=rectangle(2, *BOB_FAR))
    wrong = rectangle(2, *ANN, onto=rectangle(1, *BOB_FAR))
    ann, bob = found(recorded(2.2, [right, wrong, wrong, right]))
    assert ann.swapped == bob.swapped == [1, 2] and ann.order == bob.order == []
    assert "ann: the names of two people look exchanged in 2 of 4 frames: 1-2" in list(remarks([ann, bob]))


def test_a_name_may_be_exchanged_with_one_who_has_no_pose_there() -> None:
    wrong = rectangle(2, *ANN)
    given = recorded(2.2, [wrong] * T)
    bob = replace(given.people[1], present=torch.tensor([True, False, True, True]))
    ann, _ = found(replace(given, people=(given.people[0], bob)))
    assert ann.swapped == [0, 1, 2, 3]


def test_one_before_the_other_is_not_an_exchange_of_names() -> None:
    behind = rectangle(2, *BOB, onto=rectangle(1, *ANN))  # the masks have bob before ann
    before = rectangle(1, *ANN, onto=rectangle(2, *BOB))
    ann, bob = found(recorded(0.13, [before, behind, before, behind]))
    assert ann.order == bob.order == [1, 3] and ann.swapped == bob.swapped == []


def test_somebody_hidden_is_neither_exchanged_nor_missed() -> None:
    masks = [rectangle(1, *ANN)] * T
    ann, bob = found(recorded(0.03, masks))  # wholly behind ann: columns 30 to 33
    assert nothing_odd(ann) and nothing_odd(bob)
    assert bob.hidden == pytest.approx(1.0) and ann.hidden == 0
    assert bob.overlaps == {} and bob.mean_overlap is None and bob.worst is None
    assert set(ann.overlaps.values()) == {1.0}


def test_one_person_under_two_names_is_noticed() -> None:
    ann, bob = found(recorded(0.13))
    assert ann.others == bob.others == pytest.approx(4 * 10 / (6 * 14)) and ann.doubled == bob.doubled == []
    given = recorded(0.13)
    place = given.people[0].place.clone()
    place[1:3] = torch.tensor([0.02, 0.0, -2.9])  # from 32 - 2.57 to 32 + 3.14: the same pixels as ann's
    ann, bob = found(replace(given, people=(given.people[0], replace(given.people[1], place=place))))
    assert ann.doubled == bob.doubled == [0, 1, 2, 3] and ann.others == 1.0
    place[0] = place[3] = torch.tensor([0.0, 0.0, -2.0])  # before her, as large as 1.5 of her, and 0.9 m away
    ann, bob = found(replace(given, people=(given.people[0], replace(given.people[1], place=place))))
    assert ann.doubled == bob.doubled == [1, 2]


def test_who_is_out_of_the_picture_or_behind_the_camera_is_named() -> None:
    given = recorded(2.2)
    place = given.people[0].place.clone()
    place[1, 0], place[3, 2] = 50.0, 3.0
    ann, bob = found(replace(given, people=(replace(given.people[0], place=place), given.people[1]), fps=0.1))
    assert ann.outside == [1, 3] and bob.outside == []
    assert ann.overlaps == {} and ann.mean_overlap is None  # nobody gave masks


def test_masks_of_people_without_poses_are_named() -> None:
    given = recorded(2.2, [rectangle(1, *ANN, onto=rectangle(2, *BOB_FAR))] * T)
    bob = replace(given.people[1], present=torch.tensor([True, False, False, True]))
    _, check = found(replace(given, people=(given.people[0], bob)))
    assert check.unposed == [1, 2] and check.present == 2 and sorted(check.overlaps) == [0, 3]


def test_moves_that_nobody_makes_are_named() -> None:
    given = recorded(2.2)
    place, pose = given.people[0].place.clone(), given.people[0].pose.clone()
    place[2:, 0] += 1.3  # in 0.1 s: 13 m/s
    pose[1, 0, 1] = math.radians(150)  # in 0.1 s: 1500 degrees a second
    pose[2:, 0, 1] = math.radians(150 + 140)
    moved = replace(given.people[0], place=place, pose=pose)
    ann, bob = found(replace(given, people=(moved, given.people[1])))
    assert ann.fast == [2] and ann.turning == [1] and nothing_odd(bob)
    unseen = replace(moved, present=torch.tensor([True, False, True, True]))  # 0.2 s for 1.3 m
    ann, _ = found(replace(given, people=(unseen, given.people[1])))
    assert ann.fast == [] and ann.turning == []


def test_units_that_are_not_metres_are_named() -> None:
    given = recorded()
    small = replace(given.people[0].body, vertices=given.people[0].body.vertices * 0.3)
    ann = replace(given.people[0], body=small)
    checks = check_recording(replace(given, people=(ann,)))
    assert list(remarks(checks)) == ["ann: is 0.30 m tall: are these numbers in metres?"]


def test_bodies_are_tinted_and_outlined() -> None:
    masks = [rectangle(1, *ANN, onto=rectangle(2, *BOB_FAR))] * T
    given = recorded(2.2)
    picture = overlay(given, 0, silhouettes(given, 0)).float()
    inside = 100 * (1 - TINT) + torch.tensor(COLORS[0]) * TINT
    assert torch.allclose(picture[15, 31], inside, atol=0.51)
    for x, y in ((29, 15), (34, 15), (31, 10), (31, 23)):
        assert picture[y, x].tolist() == list(COLORS[0])
    assert picture[15, 28].tolist() == picture[9, 31].tolist() == [100, 100, 100]
    assert picture[15, 51].tolist() == list(COLORS[1])
    masked = overlay(replace(given, labels=masks), 0, silhouettes(given, 0))
    white = (masked == 255).all(-1)
    assert bool(white.any()) and not bool((white & (rectangle(1, *ANN) + rectangle(1, *BOB_FAR) == 0)).any())


def test_the_command_shows_it(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    right, wrong = rectangle(1, *ANN, onto=rectangle(2, *BOB_FAR)), rectangle(2, *ANN, onto=rectangle(1, *BOB_FAR))
    write_recording(recorded(2.2, [right, wrong, right, right]), Path("clip"))
    assert main_guard(command, ["clip", "--out", "look", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["frames"] == T and told["size"] == "64x48" and told["masks"] == "yes"
    ann = told["people"][0]
    assert ann["name"] == "ann" and ann["overlap"] == pytest.approx(0.75)
    assert ann["worst_overlap"] == 0 and ann["worst_frame"] == 1 and ann["swapped"] == [1]
    assert told["remarks"][0] == "ann: the names of two people look exchanged in 1 of 4 frames: 1"
    assert sorted(p.relative_to("look").as_posix() for p in Path("look").rglob("*.png")) == [
        *(f"frames/{i:04d}.png" for i in range(T)),
        "sheet.png",
    ]
    with Image.open("look/sheet.png") as sheet:
        assert sheet.size == (4 * 64, 48)
        assert np.asarray(sheet)[15, 29 + 64].tolist() in (list(COLORS[0]), [255, 255, 255])
    assert main_guard(command, ["clip"]) == 0
    text = capsys.readouterr().out
    assert "stands still" in text and "worst_overlap" in text and "0.75" in text and "exchanged" in text


def test_of_nobody_the_command_says_what_to_give(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_recording(replace(recorded(), people=(), labels=None), Path("clip"))
    assert main_guard(command, ["clip"]) == 0
    assert "nobody's poses are known: give them with --poses" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_recording(recorded(2.2), Path("clip"))
    Path("look").mkdir()
    for arguments, expected in (
        (["clip", "--out", "look"], "look exists; use --force to replace it"),
        (["nowhere"], "nowhere: expected a scene.json, a folder or a video, found nothing there"),
        (["look"], "look: expected scene.json, normalize_trans.npy, transforms.json or images, found none of them"),
    ):
        assert main_guard(command, arguments) == 2
        assert expected in capsys.readouterr().err
    assert list(Path("look").iterdir()) == []
    (Path("clip") / "people" / "ann.npz").unlink()
    assert main_guard(command, ["clip", "--out", "fresh"]) == 2
    assert sorted(p.name for p in Path().iterdir()) == ["clip", "look"]
