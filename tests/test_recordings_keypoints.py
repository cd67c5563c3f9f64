"""Keypoints of files come to their frames and people, whatever the detector."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import COCO
from fieldcast.reconstruct.recordings.keypoints import Keypoints, read_keypoints
from fieldcast.reconstruct.recordings.linking import Detection, distance, linked

T, P = 6, 2
# Ann walks from the left to the right behind Bob, who walks to the left; they cross in the middle. Each is 40 pixels
# wide and 100 high; Bob is a little larger.
SHAPE = torch.rand(17, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([40.0, 100.0])


def walked() -> Tensor:
    """[T, P, 17, 2]."""
    start, step = torch.tensor([[0.0, 10.0], [150.0, 60.0]]), torch.tensor([[30.0, 0.0], [-30.0, 0.0]])
    moved = start + torch.arange(T)[:, None, None] * step
    return SHAPE * torch.tensor([1.0, 1.2])[:, None, None] + moved[:, :, None]


def annotation(t: int, p: int, **more: Any) -> dict[str, Any]:
    triples = torch.cat([walked()[t, p], torch.linspace(0.5, 1, 17)[:, None]], 1)
    return {"image_id": t, "category_id": 1, "keypoints": triples.flatten().tolist(), "score": 0.9, **more}


def everybody(numbers: bool) -> list[dict[str, Any]]:
    """In disorder."""
    found = [annotation(t, p, **({"track_id": 7 - p} if numbers else {})) for t in range(T) for p in range(P)]
    random.Random(0).shuffle(found)
    return found


def right(found: Keypoints) -> bool:
    """Whether each person is one of the two from first to last."""
    swapped = bool(found.points[0, 0, 0, 0] > found.points[0, 1, 0, 0])
    points = found.points.flip(1) if swapped else found.points
    confidence = torch.linspace(0.5, 1, 17).expand(T, P, 17)
    return torch.allclose(points, walked(), atol=1e-3) and torch.allclose(found.confidence, confidence)


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("numbers", [True, False])
def test_people_are_followed(numbers: bool, tmp_path: Path) -> None:
    found = read_keypoints(written(tmp_path / "found.json", everybody(numbers)), T)
    assert right(found) and found.numbered == numbers
    found = read_keypoints(written(tmp_path / "found.json", {"annotations": everybody(numbers)}), T)
    assert right(found)


def test_frames_are_found_by_the_numbers_or_the_names_of_pictures(tmp_path: Path) -> None:
    for rename in (
        lambda t: t + 1,  # from 1 on
        lambda t: f"{t}.jpg",
        lambda t: f"clip3/frame_{t + 1:05d}.png",
    ):
        document = [{**one, "image_id": rename(one["image_id"])} for one in everybody(True)]
        assert right(read_keypoints(written(tmp_path / "found.json", document), T))
    images = [{"id": 1000 - t, "file_name": f"f{t}.png", "width": 64} for t in range(T)]
    document = [{**one, "image_id": 1000 - one["image_id"]} for one in everybody(True)]
    both = {"images": images, "annotations": document, "categories": []}
    assert right(read_keypoints(written(tmp_path / "found.json", both), T))


def test_a_number_that_everybody_has_is_none(tmp_path: Path) -> None:
    document = [{**one, "track_id": 0} for one in everybody(True)]
    found = read_keypoints(written(tmp_path / "found.json", document), T)
    assert right(found) and not found.numbered


def test_who_is_away_for_a_while_is_the_same_afterwards(tmp_path: Path) -> None:
    document = [one for one in everybody(True) if not (one["image_id"] == 1 and one["track_id"] == 7)]
    for numbers in (True, False):
        kept = [{k: v for k, v in one.items() if numbers or k != "track_id"} for one in document]
        found = read_keypoints(written(tmp_path / "found.json", kept), T)
        bob, ann = 0, 1  # who is there longest comes first
        assert found.points.shape == (T, 2, 17, 2) and torch.allclose(found.points[:, bob], walked()[:, 1], atol=1e-3)
        assert not bool(found.confidence[1, ann].any()) and not bool(found.points[1, ann].any())
        assert torch.allclose(found.points[2, ann], walked()[2, 0], atol=1e-3)


def test_marks_of_people_are_flags(tmp_path: Path) -> None:
    one = annotation(0, 0)
    one["keypoints"][2::3] = [0, 1, 2] * 5 + [2, 2]
    found = read_keypoints(written(tmp_path / "found.json", [one]), 1)
    assert found.confidence[0, 0].tolist() == [0, 0.5, 1] * 5 + [1, 1]
    assert found.points[0, 0, 0].tolist() == [0, 0] and found.points[0, 0, 1].tolist() != [0, 0]


# The names of OpenPose's documentation, in its order.
BODY_25 = (
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist MidHip RHip RKnee RAnkle LHip LKnee LAnkle REye LEye"
)
BODY_25 += " REar LEar LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel"
BODY_18 = (
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist RHip RKnee RAnkle LHip LKnee LAnkle REye LEye REar LEar"
)


@pytest.mark.parametrize("names", [BODY_25, BODY_18])
def test_joints_of_openpose_are_those_of_coco(names: str, tmp_path: Path) -> None:
    """Each joint lies at a place that is its own by its name."""
    sides = {"left": "L", "right": "R"}
    short = [name if "_" not in name else sides[(part := name.split("_"))[0]] + part[1].title() for name in COCO]
    order = [n.title() if n == "nose" else n for n in short]
    for t in range(T):
        people = []
        for p in range(P):
            place = dict(zip(order, walked()[t, p].tolist(), strict=True))
            numbers = [[*place.get(name, (0.0, 0.0)), 0.5 if name in place else 0.0] for name in names.split()]
            people.append({"person_id": [-1], "pose_keypoints_2d": list(itertools.chain(*numbers)), "hand": []})
        written(tmp_path / f"clip_{t}_keypoints.json", {"version": 1.3, "people": people})
    found = read_keypoints(tmp_path, T)
    assert torch.allclose(found.points.sort(1).values, walked().sort(1).values, atol=1e-3) and not found.numbered
    assert bool((found.confidence == 0.5).all())


def test_links_are_those_of_the_least_distance(tmp_path: Path) -> None:
    """Against all ways to link two frames."""
    from fieldcast.reconstruct.recordings.keypoints import _read_coco

    g = torch.Generator().manual_seed(1)
    document = []
    for t in range(2):
        for _ in range(4):
            points = SHAPE + torch.rand(2, generator=g) * 60
            triples = torch.cat([points, torch.ones(17, 1)], 1)
            document.append({"image_id": t, "keypoints": triples.flatten().tolist()})
    found = _read_coco(written(tmp_path / "found.json", document), 2)
    first, second = found[:4], found[4:]
    best = min(
        itertools.permutations(range(4)), key=lambda way: sum(distance(first[i], second[k]) for i, k in enumerate(way))
    )
    assert max(distance(first[i], second[k]) for i, k in enumerate(best)) < 1  # or they would not be linked
    tracks = linked(found, 2, numbered=False)
    assert [(track[0], track[1]) for track in tracks] == [(first[i], second[k]) for i, k in enumerate(best)]


def boxed(frame: int, x: float, size: float) -> Detection:
    """Somebody whose box has its middle at (x, 0) and a diagonal of `size`."""
    half = size / math.sqrt(8)
    points = np.tile([[x - half, -half], [x + half, half]], (9, 1))[:17]
    return Detection(frame, None, points, np.ones(17))


def test_somebody_small_in_the_same_place_is_another() -> None:
    adult, child = boxed(0, 0, 100), boxed(0, 10, 50)
    later = boxed(1, 9, 100), boxed(1, 1, 50)  # each is where the other was, but as large as before
    tracks = linked([adult, child, *later], 2, numbered=False)
    assert tracks == [[adult, later[0]], [child, later[1]]]


def test_who_appears_far_away_takes_nobody_from_his_track() -> None:
    """All pairs with the new one are too far apart, but not equally: the large one's would be a little cheaper."""
    large, small = boxed(0, 0, 200), boxed(0, 10, 100)
    still, new = boxed(1, 0, 200), boxed(1, 2000, 100)
    assert distance(large, new) + distance(small, still) < distance(large, still) + distance(small, new)
    assert distance(small, still) < 1 < distance(large, new)
    assert linked([large, small, still, new], 2, numbered=False) == [[large, still], [small], [new]]


FAULTS: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "short": (lambda d: d[3]["keypoints"].pop(), r"\[3\].keypoints: expected 51 numbers .*, found 50"),
    "huge": (lambda d: d[3]["keypoints"].__setitem__(0, 1e30), r"\[3\].keypoints: expected pixels, found 1e\+30"),
    "text": (lambda d: d[3]["keypoints"].__setitem__(0, "x"), r"Expected `float`, got `str` - at `\$\[3\].keypoints"),
    "no frame": (lambda d: d[3].update(image_id="last"), "image_id: expected the number of a frame, found 'last'"),
    "too many": (
        lambda d: d[3].update(image_id=9),
        "expected at most 6 pictures, as the recording has frames, found 10",
    ),
    "nobody": (lambda d: d.clear(), "expected somebody with keypoints in a tenth of 6 frames, found nobody"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line(fault: str, tmp_path: Path) -> None:
    document = everybody(True)
    change, expected = FAULTS[fault]
    change(document)
    with pytest.raises(InputError, match=expected) as caught:
        read_keypoints(written(tmp_path / "found.json", document), T)
    assert "\n" not in str(caught.value) and "found.json" in str(caught.value)


def test_files_that_are_none_say_so(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('[{"image_id": 1, "keypoints": [NaN]}]')
    with pytest.raises(InputError, match="expected keypoints as COCO or OpenPose write them: JSON is malformed"):
        read_keypoints(tmp_path / "x.json", T)
    with pytest.raises(InputError, match="expected a readable JSON file, found: No such file"):
        read_keypoints(tmp_path / "y.json", T)
    with pytest.raises(InputError, match="expected 6 files of OpenPose's, one a frame, found 1"):
        read_keypoints(tmp_path, T)
    written(tmp_path / "x.json", {"people": [{"pose_keypoints_2d": [0.0] * 30}]})
    with pytest.raises(InputError, match=r"x.json: people\[0\]: expected 25 or 18 keypoints, found 10"):
        read_keypoints(tmp_path, 1)
