"""Recordings on disk: written and read they are the same, and each fault of a file is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fieldcast.errors import InputError
from fieldcast.fields.cameras import Cameras
from fieldcast.reconstruct.bodies import reading as bodies
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.recordings.files import read_recording, require_people, write_recording
from fieldcast.reconstruct.recordings.recording import Person, Recording

BOX = torch.tensor([[x, y, z] for x in (-0.2, 0.2) for y in (0.0, 1.0) for z in (-0.1, 0.1)])
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
FACES = torch.tensor([corners for a, b, c, d in QUADS for corners in ([a, b, c], [a, c, d])])


def box() -> Body:
    """A box of 0.4 x 1 x 0.2 m on the ground, with two joints, of which the second moves its top; one shape: height."""
    top = (BOX[:, 1] > 0.5).long()
    grow = torch.zeros(8, 3, 1)
    grow[:, 1, 0] = top.float()
    return Body(
        name="box",
        joint_names=("root", "neck"),
        parents=(-1, 0),
        vertices=BOX,
        shape_directions=grow,
        joints=torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.8, 0.0]]),
        joint_directions=torch.zeros(2, 3, 1),
        faces=FACES,
        weight_index=top[:, None],
        weights=torch.ones(8, 1),
        keypoints=torch.zeros(17, dtype=torch.int64),
    )


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bodies.BODIES, "box", box)


def recorded(frames: int = 5, size: tuple[int, int] = (64, 48)) -> Recording:
    """Two people of random poses before a camera that turns, in noise."""
    g, body = torch.Generator().manual_seed(0), box()
    width, height = size
    angle = torch.linspace(0, 0.3, frames)
    c2w = torch.eye(4)[:3].repeat(frames, 1, 1)
    c2w[:, 0, 0] = c2w[:, 2, 2] = angle.cos()
    c2w[:, 0, 2], c2w[:, 2, 0] = angle.sin(), -angle.sin()
    c2w[:, :, 3] = torch.randn(frames, 3, generator=g)
    cameras = Cameras(
        c2w, torch.rand(frames, 4, generator=g) * 50 + 20, torch.tensor([[width, height]]).repeat(frames, 1)
    )
    people = tuple(
        Person(
            name,
            body,
            torch.randn(1, generator=g),
            torch.randn(frames, 2, 3, generator=g),
            torch.randn(frames, 3, generator=g),
            torch.arange(frames) != gone,
        )
        for name, gone in (("ann", 1), ("bob", 3))
    )
    return Recording(
        frames=[torch.randint(0, 256, (height, width, 3), generator=g).byte() for _ in range(frames)],
        cameras=cameras,
        people=people,
        labels=[torch.randint(0, 3, (height, width), generator=g).byte() for _ in range(frames)],
        up=(0.0, 0.6, 0.8),
        fps=29.97,
    )


def same(a: Recording, b: Recording) -> bool:
    """Everything but where they come from; of hidden frames, what the nearest others hold."""
    pictures = all(torch.equal(x, y) for x, y in zip(a.frames, b.frames, strict=True))
    labels = (a.labels is None) == (b.labels is None)
    if a.labels is not None and b.labels is not None:
        labels = all(torch.equal(x, y) for x, y in zip(a.labels, b.labels, strict=True))
    cameras = all(torch.equal(getattr(a.cameras, k), getattr(b.cameras, k)) for k in ("c2w", "intrinsics", "size"))
    people = [(p, q) for p, q in zip(a.people, b.people, strict=True)]
    persons = all(
        p.name == q.name
        and p.body.name == q.body.name
        and torch.equal(p.shape, q.shape)
        and torch.equal(p.present, q.present)
        and torch.equal(p.pose[p.present], q.pose[q.present])
        and torch.equal(p.place[p.present], q.place[q.present])
        for p, q in people
    )
    return pictures and labels and cameras and persons and (a.up, a.fps) == (b.up, b.fps)


def test_written_and_read_it_is_the_same(tmp_path: Path) -> None:
    given = recorded()
    write_recording(given, tmp_path / "clip")
    for path in (tmp_path / "clip", tmp_path / "clip" / "scene.json"):
        found = read_recording(path)
        assert same(given, found) and found.source == str(path) and found.warnings == ()
    assert found.people[0].body is found.people[1].body
    bare = replace(given, people=(), labels=None)
    write_recording(bare, tmp_path / "clip", force=True)
    assert same(bare, read_recording(tmp_path / "clip"))
    assert sorted(p.name for p in (tmp_path / "clip").iterdir()) == ["images", "scene.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]


def test_the_file_is_the_one_of_the_documentation(tmp_path: Path) -> None:
    write_recording(recorded(2), tmp_path / "clip")
    found = json.loads((tmp_path / "clip" / "scene.json").read_text())
    assert {k: v for k, v in found.items() if k != "frames"} == {
        "format": "fieldcast-people",
        "version": 1,
        "units": "m",
        "up": [0.0, 0.6, 0.8],
        "fps": 29.97,
        "people": [
            {"name": "ann", "body": "box", "params": "people/ann.npz"},
            {"name": "bob", "body": "box", "params": "people/bob.npz"},
        ],
    }
    assert set(found["frames"][1]) == {"image", "mask", "c2w", "intrinsics"}
    assert found["frames"][1]["mask"] == "masks/0001.png" and np.shape(found["frames"][1]["c2w"]) == (3, 4)
    with np.load(tmp_path / "clip" / "people" / "ann.npz", allow_pickle=False) as arrays:
        assert {k: (str(v.dtype), v.shape) for k, v in arrays.items()} == {
            "shape": ("float32", (1,)),
            "pose": ("float32", (2, 2, 3)),
            "place": ("float32", (2, 3)),
            "present": ("bool", (2,)),
        }


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "recordings.md").read_text(encoding="utf-8")
    given = recorded(1, (640, 360))
    assert given.labels is not None
    one = replace(given, people=given.people[:1], labels=[given.labels[0].clamp(max=1)])
    write_recording(one, tmp_path / "clip")
    (tmp_path / "clip" / "scene.json").write_text(text.split("```json")[1].split("```")[0].replace("makehuman", "box"))
    found = read_recording(tmp_path / "clip")
    assert found.people[0].name == "ann" and found.cameras.centers.tolist() == [[0, pytest.approx(1.3), 4]]


def test_names_that_are_no_file_names_come_back(tmp_path: Path) -> None:
    given = recorded(2)
    for names in (("../ann", "b/ö"), ("ann", "ANN")):
        people = tuple(replace(person, name=name) for person, name in zip(given.people, names, strict=True))
        renamed = replace(given, people=people)
        write_recording(renamed, tmp_path / "clip", force=True)
        assert same(renamed, read_recording(tmp_path / "clip"))
        assert sorted(p.name for p in (tmp_path / "clip" / "people").iterdir()) == ["0.npz", "1.npz"]


def test_shrunk_pictures_have_the_means_and_masks_the_labels_of_squares(tmp_path: Path) -> None:
    given = recorded(2, (63, 48))
    assert given.labels is not None
    blocks = given.labels[0][1::3, 1::3]  # the middles
    write_recording(given, tmp_path / "clip")
    found = read_recording(tmp_path / "clip", downscale=3)
    mean = given.frames[0].double().reshape(16, 3, 21, 3, 3).mean((1, 3))
    assert float((found.frames[0].double() - mean).abs().max()) <= 0.51
    assert found.labels is not None and torch.equal(found.labels[0], blocks)
    assert torch.allclose(found.cameras.intrinsics * 3, given.cameras.intrinsics)
    assert found.cameras.size.tolist() == [[21, 16], [21, 16]]


def test_palette_masks_are_labels(tmp_path: Path) -> None:
    given = recorded(2)
    write_recording(given, tmp_path / "clip")
    assert given.labels is not None
    picture = Image.frombytes("P", (64, 48), given.labels[0].numpy().tobytes())
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "clip" / "masks" / "0000.png")
    found = read_recording(tmp_path / "clip")
    assert found.labels is not None and torch.equal(found.labels[0], given.labels[0])


def test_where_nobody_is_present_the_nearest_frame_speaks(tmp_path: Path) -> None:
    given = recorded(6)
    nan, ann = float("nan"), given.people[0]
    present = torch.tensor([False, True, False, False, False, True])
    blank = ~present
    pose, place = ann.pose.clone(), ann.place.clone()
    pose[blank], place[blank] = nan, nan
    hidden = replace(ann, pose=pose, place=place, present=present)
    write_recording(replace(given, people=(hidden,), labels=None), tmp_path / "clip")
    (found,) = read_recording(tmp_path / "clip").people
    nearest = [1, 1, 1, 1, 5, 5]
    assert torch.equal(found.pose, ann.pose[nearest]) and torch.equal(found.place, ann.place[nearest])


def test_who_needs_people_says_so(tmp_path: Path) -> None:
    given = recorded(2)
    require_people(given)
    with pytest.raises(InputError, match="clip: expected at least one person with poses, found none; name them under"):
        require_people(replace(given, people=(), source="clip"))


def test_masks_without_people_may_hold_any_labels(tmp_path: Path) -> None:
    given = replace(recorded(2), people=())
    write_recording(given, tmp_path / "clip")
    assert same(given, read_recording(tmp_path / "clip"))


def test_an_existing_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = recorded(2)
    write_recording(given, tmp_path / "clip")
    with pytest.raises(InputError, match=r"clip exists; use --force to replace it"):
        write_recording(replace(given, people=()), tmp_path / "clip")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fieldcast.reconstruct.recordings.files.write_person", fail)
    with pytest.raises(KeyboardInterrupt):
        write_recording(given, tmp_path / "clip", force=True)
    assert same(given, read_recording(tmp_path / "clip"))
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A change of scene.json."""

    def apply(folder: Path) -> None:
        document = json.loads((folder / "scene.json").read_text())
        change(document)
        (folder / "scene.json").write_text(json.dumps(document))

    return apply


def arrays(**changes: Any) -> Callable[[Path], None]:
    """A change of ann's arrays: a function of the old one, a new one, or None to leave it out."""

    def apply(folder: Path) -> None:
        path = folder / "people" / "ann.npz"
        with np.load(path) as file:
            kept = dict(file)
        for key, value in changes.items():
            kept[key] = value(kept[key]) if callable(value) else value
        np.savez(path, **{key: value for key, value in kept.items() if value is not None})

    return apply


def painted(name: str, picture: Image.Image) -> Callable[[Path], None]:
    return lambda folder: picture.save(folder / name)


def poisoned(value: float, frame: int) -> Callable[[np.ndarray], np.ndarray]:
    def apply(array: np.ndarray) -> np.ndarray:
        array[frame, ..., 0] = value
        return array

    return apply


class Evil:
    def __reduce__(self) -> Any:
        return (Path("evil").touch, ())


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no scene.json": (lambda f: (f / "scene.json").unlink(), r"scene.json: expected a readable JSON file, found: No"),
    "cut short": (lambda f: (f / "scene.json").write_text('{"format": '), r"scene.json: expected JSON, found"),
    "another format": (edited(lambda d: d.update(format="x")), r"scene.json: Invalid enum value 'x' - at `\$.format`"),
    "a later version": (edited(lambda d: d.update(version=2)), r"scene.json: Invalid enum value 2 - at `\$.version`"),
    "feet": (edited(lambda d: d.update(units="ft")), r"Invalid enum value 'ft' - at `\$.units`"),
    "no frames": (edited(lambda d: d.update(frames=[])), r"Expected `array` of length >= 1 - at `\$.frames`"),
    "a stray key": (edited(lambda d: d["frames"][1].update(masc="x")), r"unknown field `masc` - at `\$.frames\[1\]`"),
    "short rows": (
        edited(lambda d: d["frames"][1]["c2w"][2].pop()),
        r"Expected `array` of length 4, got 3 - at `\$.frames\[1\].c2w\[2\]`",
    ),
    "no focal length": (
        edited(lambda d: d["frames"][0].update(intrinsics=[0, 1, 2, 3])),
        r"Expected `float` > 0.0 - at `\$.frames\[0\].intrinsics\[0\]`",
    ),
    "a scaled camera": (
        edited(lambda d: d["frames"][0].update(c2w=[[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])),
        r"frames\[0\].c2w: expected a rotation and a translation, found a rotation scaled by 2",
    ),
    "a long up": (
        edited(lambda d: d.update(up=[0, 2, 0])),
        r"up: expected a vector of length 1, found \[0.0, 2.0, 0.0",
    ),
    "missing pictures": (
        lambda f: [(f / "images" / f"000{i}.png").unlink() for i in (1, 3)],
        r"scene.json: image: expected 5 files, found 3; missing: images/0001.png, images/0003.png$",
    ),
    "pictures of two sizes": (
        painted("images/0002.png", Image.new("RGB", (48, 64))),
        r"images/0002.png: expected 64x48 pixels, as 0000.png has, found 48x64",
    ),
    "a damaged picture": (
        lambda f: (f / "images" / "0001.png").write_bytes((f / "images" / "0001.png").read_bytes()[:2000]),
        r"0001.png: expected a whole image, found a damaged or cut short one",
    ),
    "a mask of another size": (
        painted("masks/0002.png", Image.new("L", (32, 24))),
        r"masks/0002.png: expected a mask of 64x48, as its frame, found 32x24",
    ),
    "a mask of colours": (
        painted("masks/0002.png", Image.new("RGB", (64, 48))),
        r"masks/0002.png: expected a mask of 8-bit grey or palette values, found RGB; write 0 for the background",
    ),
    "a label of nobody": (
        painted("masks/0002.png", Image.new("L", (64, 48), 3)),
        r"masks/0002.png: expected labels from 0 to 2, the number of people, found 3",
    ),
    "some masks": (
        edited(lambda d: d["frames"][1].pop("mask")),
        r"frames\[\].mask: expected a mask for every frame or for none, found 4 of them",
    ),
    "a picture elsewhere": (
        edited(lambda d: d["frames"][0].update(image="../secret.png")),
        r"frames\[0\].image: expected a file inside .*, found '../secret.png'; pass --allow-outside if you trust",
    ),
    "numbers elsewhere": (
        edited(lambda d: d["people"][0].update(params="/etc/ann.npz")),
        r"people\[0\].params: expected a file inside .*, found '/etc/ann.npz'",
    ),
    "no numbers": (
        lambda f: (f / "people" / "bob.npz").unlink(),
        r"scene.json: params: expected 2 files, found 1; missing: people/bob.npz",
    ),
    "an unknown body": (
        edited(lambda d: d["people"][1].update(body="giant")),
        r"scene.json: people: body 'giant': expected .*makehuman",
    ),
    "twins of one name": (
        edited(lambda d: d["people"][1].update(name="ann")),
        r"people: expected names of their own, found 2 people named 'ann'",
    ),
    "a name that steers": (edited(lambda d: d["people"][1].update(name="a\x1b[31m")), r"found 'a\\x1b\[31m'"),
    "another number of frames": (
        arrays(pose=lambda a: a[:4]),
        r"ann.npz: pose: expected shape \[5, 2, 3\] \(frames, joints of box, axis-angle\), found \[4, 2, 3\]",
    ),
    "another number of joints": (arrays(pose=np.zeros((5, 24, 3))), r"expected shape \[5, 2, 3\].*found \[5, 24, 3\]"),
    "another number of shapes": (arrays(shape=np.zeros(10)), r"shape: expected shape \[1\].*of box\), found \[10\]"),
    "NaN": (
        arrays(pose=poisoned(float("nan"), 2)),
        r"ann.npz: pose: expected finite numbers where ann is present, found NaN or infinity in frame 2$",
    ),
    "infinity": (
        arrays(place=lambda a: a + np.float32("inf")),
        r"place: expected finite numbers where ann is present, found NaN or infinity in frame 0 and 3 more",
    ),
    "too large for float32": (arrays(shape=np.full(1, 1e300)), r"shape: expected finite numbers, found NaN or inf"),
    "never there": (
        arrays(present=np.zeros(5, bool)),
        r"ann.npz: present: expected ann in at least one frame, found none of 5",
    ),
    "half there": (arrays(present=np.full(5, 0.5)), r"present: expected true and false, found numbers \(float64\)"),
    "no places": (arrays(place=None), r"expected the arrays shape, pose, place, present, found pose, present, shape"),
    "objects": (arrays(shape=np.array([Evil()])), r"shape: expected numbers, found object"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_recording(recorded(), tmp_path / "clip")
    damage, expected = FAULTS[fault]
    damage(tmp_path / "clip")
    with pytest.raises(InputError, match=expected) as caught:
        read_recording(tmp_path / "clip")
    assert "\n" not in str(caught.value) and "clip" in str(caught.value)
    assert not (tmp_path / "evil").exists()


def test_a_hidden_frame_may_be_nan(tmp_path: Path) -> None:
    write_recording(recorded(), tmp_path / "clip")
    arrays(pose=poisoned(float("nan"), 1))(tmp_path / "clip")  # ann is not there in frame 1
    assert bool(read_recording(tmp_path / "clip").people[0].pose.isfinite().all())


def test_files_elsewhere_are_read_when_trusted(tmp_path: Path) -> None:
    write_recording(recorded(), tmp_path / "clip")
    (tmp_path / "clip" / "images" / "0000.png").rename(tmp_path / "other.png")
    edited(lambda d: d["frames"][0].update(image="../other.png"))(tmp_path / "clip")
    assert same(read_recording(tmp_path / "clip", allow_outside=True), recorded())


def test_lenses_that_bend_are_not_written(tmp_path: Path) -> None:
    given = recorded(2)
    bent = replace(given, cameras=replace(given.cameras, distortion=torch.ones(2, 6)))
    with pytest.raises(InputError, match="no place for the distortion of lenses"):
        write_recording(bent, tmp_path / "clip")
    assert list(tmp_path.iterdir()) == []
