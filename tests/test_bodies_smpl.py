"""Files of the SMPL family: random ones of their shapes, posed as a slow computation does; and what is refused."""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file
from scipy.spatial.transform import Rotation

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.bodies.reading import open_body
from fieldcast.reconstruct.bodies.smpl import LARGEST

Arrays = dict[str, Any]


def random_file(joints: int = 24, shapes: int = 10, count: int = 90) -> Arrays:
    """The arrays of a body of no sense, whose vertices hang on few joints each."""
    rng = np.random.default_rng(joints)
    weights = rng.random((count, joints)) * (rng.random((count, joints)) < 4 / joints)
    weights[:, 15] += 1e-3
    weights[:5] = np.eye(joints)[15]
    regressor = rng.random((joints, count)) * (rng.random((joints, count)) < 0.2) + 1e-4
    parents = [2**32 - 1, *(int(rng.integers(0, j)) for j in range(1, joints))]
    return {
        "v_template": rng.normal(size=(count, 3)),
        "shapedirs": 0.1 * rng.normal(size=(count, 3, shapes)),
        "posedirs": 0.01 * rng.normal(size=(count, 3, 9 * (joints - 1))),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([parents, range(joints)], np.uint32),
        "f": rng.integers(0, count, (20, 3)).astype(np.uint32),
    }


def slowly(file: Arrays, shape: np.ndarray, pose: np.ndarray, place: np.ndarray) -> np.ndarray:
    """One frame, by SMPL's equations 2 to 10 in float64: matrices of 4 x 4, a sum over all joints for each vertex."""
    v = file["v_template"] + file["shapedirs"][..., : len(shape)] @ shape
    joints = file["J_regressor"] @ v
    turns = Rotation.from_rotvec(pose).as_matrix()
    v = v + file["posedirs"] @ (turns[1:] - np.eye(3)).ravel()
    world: list[np.ndarray] = []
    for j, parent in enumerate(file["kintree_table"][0].astype(np.int64)):
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = turns[j], joints[j] - (joints[parent] if j else 0)
        world.append(world[parent] @ local if j else local)
    found = np.zeros_like(v)
    for i in range(len(v)):
        for j in range(len(world)):
            found[i] += file["weights"][i, j] * (world[j] @ np.append(v[i] - joints[j], 1))[:3]
    return found + place


def assert_poses_as(body: Body, file: Arrays) -> None:
    """The body against the slow computation, to 1e-5."""
    rng = np.random.default_rng(1)
    shape, pose, place = (
        rng.normal(size=body.shapes),
        rng.normal(size=(2, len(body.parents), 3)),
        rng.normal(size=(2, 3)),
    )
    posed = body.posed(*(torch.from_numpy(x).float() for x in (shape, 0.4 * pose, place)))
    for t in range(2):
        assert np.abs(posed.vertices[t].numpy() - slowly(file, shape, 0.4 * pose[t], place[t])).max() < 1e-5


@pytest.mark.parametrize(
    ("joints", "shapes", "used"), [(24, 10, 10), (24, 300, 10), (52, 16, 16), (55, 400, 10), (55, 20, 10), (24, 6, 6)]
)
def test_a_body_from_a_file_is_posed_as_its_arrays_say(tmp_path: Path, joints: int, shapes: int, used: int) -> None:
    file = random_file(joints, shapes)
    np.savez(tmp_path / "body.npz", **file, joint2num=np.array({"pelvis": 0}, object))
    body = open_body("body.npz", tmp_path)
    assert len(body.joint_names) == joints == len(set(body.joint_names)) and body.shapes == used
    assert body.weights.shape[1] < joints and open_body(body.name).name == body.name
    assert_poses_as(body, file)


def test_safetensors_hold_the_same(tmp_path: Path) -> None:
    file = random_file()
    save_file(file, tmp_path / "body.safetensors")
    assert_poses_as(open_body("body.safetensors", tmp_path), file)


def spread_out(arrays: Arrays) -> Arrays:
    """As the official files have them: the regressor sparse, single arrays in other types and orders."""
    return {
        **arrays,
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "posedirs": np.asfortranarray(arrays["posedirs"]),
        "f": arrays["f"].astype(">u4"),
        "bs_style": "lbs",
        "part2num": np.array({"a": 1}, object),
        "vertex_count": np.float64(3),
    }


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_any_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    file = random_file()
    (tmp_path / "body.pkl").write_bytes(pickle.dumps(spread_out(file), protocol))
    assert_poses_as(open_body("body.pkl", tmp_path), file)


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Classes that are pickled under the names of chumpy's, which is gone again when the pickle is read."""
    made = {}
    for module, name in (("chumpy", ""), ("chumpy.ch", "Ch"), ("chumpy.reordering", "Select")):
        made[name] = type(name, (), {"__module__": module}) if name else None
        stand_in = types.ModuleType(module)
        setattr(stand_in, name or "ch", made[name])
        monkeypatch.setitem(sys.modules, module, stand_in)

    def hold(name: str, **state: Any) -> Any:
        held = made[name]()
        vars(held).update(state, _dirty_vars=set(), _itr=None, _parents={})
        return held

    return hold


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_arrays_of_chumpy_are_read_without_chumpy(
    tmp_path: Path, chumpy: Any, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    file, many = random_file(), random_file(shapes=14)["shapedirs"]
    many[..., :10] = file["shapedirs"]
    chosen = np.arange(many.size).reshape(many.shape)[..., :10].ravel()
    whole = spread_out(file) | {
        "v_template": chumpy("Ch", x=file["v_template"]),
        "shapedirs": chumpy("Select", a=chumpy("Ch", x=many), idxs=chosen, preferred_shape=(90, 3, 10)),
    }
    (tmp_path / "body.pkl").write_bytes(pickle.dumps(whole, protocol))
    for module in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.delitem(sys.modules, module)
    assert_poses_as(open_body("body.pkl", tmp_path), file)


def as_python_2_wrote_it(array: np.ndarray) -> bytes:
    """A pickle of an array in which bytes are what Python 3 takes for text (opcode T), with Python 2's names."""
    text = array.astype("<f8").tobytes()
    shape = b"(" + b"".join(b"K" + bytes([side]) for side in array.shape) + b"t"
    kind = b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = b"T" + len(text).to_bytes(4, "little") + text
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + shape
        + kind
        + b"\x89"
        + raw
        + b"tb"
    )


def test_bytes_of_python_2_are_read(tmp_path: Path) -> None:
    file = random_file()
    rest = pickle.dumps({k: v for k, v in file.items() if k != "v_template"}, 2)
    assert rest[:2] == b"\x80\x02" and rest[-2:] == b"u."
    together = rest[:-1] + b"U\x0av_template" + as_python_2_wrote_it(file["v_template"]) + b"s."
    assert np.array_equal(pickle.loads(together, encoding="latin1")["v_template"], file["v_template"])
    (tmp_path / "body.pkl").write_bytes(together)
    assert_poses_as(open_body("body.pkl", tmp_path), file)


class Runs:
    """What a pickle of it does when it is read: leaves a mark."""

    def __init__(self, act: Any, *told: Any) -> None:
        self.act, self.told = act, told

    def __reduce__(self) -> Any:
        return self.act, self.told


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "body.pkl"
    code = f"open({str(mark)!r}, 'w').close()"
    attacks = [
        Runs(exec, code),
        Runs(eval, code),
        Runs(__import__("os").system, f"touch {mark}"),
        Runs(pickle.loads, pickle.dumps(Runs(exec, code))),
        Runs(getattr, Path, "home"),
        Runs(np.fromfile, str(mark)),
        Runs(Path, str(mark)),
    ]
    for attack in attacks:
        for protocol in (0, 2, 4):
            for place in ({"v_template": attack}, {"unused": attack}):
                path.write_bytes(pickle.dumps(random_file() | place, protocol))
                with pytest.raises(InputError) as caught:
                    open_body("body.pkl", tmp_path)
                said = str(caught.value)
                assert said.startswith(f"{path}: the pickle asks for ") and "nothing was run" in said
                assert "\n" not in said and not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        b"\x80\x04]\x94.",
        pickle.dumps(random_file(), 4)[:-200],
        b"c_codecs\nencode\n(N}U\x07__new__Nst" + b"b.",  # would change what the name stands for
        b"cnumpy\ndtype\n(dU\x05stateNsb.",
        b"r\xff\xff\xff\xff.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x0fx.",
        b"}U\x0av_templatec__builtin__\nobject\n)\x81s.",
    ],
)
def test_a_damaged_pickle_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "body.pkl"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        open_body("body.pkl", tmp_path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    path.write_bytes(pickle.dumps(random_file(), 2))
    assert open_body("body.pkl", tmp_path).shapes == 10  # and what is read after it is as before


def changed(name: str, change: Any) -> Arrays:
    file = random_file()
    return file | {name: change(file[name])}


def with_a(value: Any, *place: int) -> Any:
    """What puts a value in a place of an array."""

    def put(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return put


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ({k: v for k, v in random_file().items() if k not in ("f", "weights")}, "found no weights, f"),
        (changed("kintree_table", lambda a: a[:, :16]), "24 (SMPL), 52 (SMPL-H) or 55 (SMPL-X) joints, found 16"),
        (changed("posedirs", lambda a: a[..., :200]), "posedirs: expected an array [90, 3, 207], found [90, 3, 200]"),
        (changed("shapedirs", lambda a: a[:50]), "shapedirs: expected an array [90, 3, any], found [50, 3, 10]"),
        (changed("weights", with_a(np.nan, 3, 3)), "weights: expected finite numbers"),
        (changed("weights", lambda a: 2 * a), "weights: expected shares that add up to 1, found sums 2 to 2"),
        (changed("f", with_a(90, 2, 1)), "f: expected faces of 90 vertices"),
        (changed("f", lambda a: a.astype(float)), "f: expected whole numbers, found float64"),
        (changed("kintree_table", with_a(9, 0, 4)), "kintree_table: joint 4: expected a parent before it, found 9"),
        (changed("weights", lambda a: np.roll(np.eye(24)[np.zeros(90, int)], 1, 1)), "move with the head, found none"),
    ],
)
def test_a_file_that_is_no_body_is_told_why(tmp_path: Path, file: Arrays, says: str) -> None:
    np.savez(tmp_path / "body.npz", **file)
    with pytest.raises(InputError) as caught:
        open_body("body.npz", tmp_path)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'body.npz'}: ") and says in said and "\n" not in said


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_what_is_no_archive_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"body{suffix}"
    for data in (b"", b"PK\x03\x04 and nothing more", b"\xff" * 64):
        path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            open_body(path.name, tmp_path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_headers_that_python_2_wrote_are_read(tmp_path: Path) -> None:
    file = random_file()
    np.savez(tmp_path / "body.npz", **{k: v for k, v in file.items() if k != "v_template"})
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (90L, 3L), }".ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + file["v_template"].tobytes()
    with zipfile.ZipFile(tmp_path / "body.npz", "a") as archive:
        archive.writestr("v_template.npy", data)
    assert_poses_as(open_body("body.npz", tmp_path), file)


def test_what_claims_to_be_large_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "body.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("v_template.npy", "w") as member:
        for _ in range(1 + (LARGEST >> 26)):
            member.write(bytes(1 << 26))
    with pytest.raises(InputError, match="v_template: unpacks to 603,979,776 bytes: more than a body has"):
        open_body("body.npz", tmp_path)


def test_a_member_of_an_archive_that_is_no_array_counts_as_missing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "body.npz", "w") as archive:
        archive.writestr("v_template", b"bytes")
    with pytest.raises(InputError, match="found no v_template, shapedirs"):
        open_body("body.npz", tmp_path)


def test_half_precision_of_another_kind_is_one_line(tmp_path: Path) -> None:
    tensors = {k: torch.from_numpy(v.astype(np.float32)).bfloat16() for k, v in random_file().items()}
    save_torch_file(tensors, tmp_path / "body.safetensors")
    with pytest.raises(InputError, match="not a whole file of arrays"):
        open_body("body.safetensors", tmp_path)


def test_an_npz_of_pickles_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "body.npz", **random_file() | {"v_template": np.array([Runs(exec, "1 / 0")], object)})
    with pytest.raises(InputError, match="not a whole file of arrays"):
        open_body("body.npz", tmp_path)


@pytest.mark.parametrize("joints", [24, 55])
def test_the_face_is_found_where_it_is(tmp_path: Path, joints: int) -> None:
    human = makehuman()
    file = random_file(joints, count=len(human.vertices))
    dense = torch.zeros(len(human.vertices), 22).scatter(1, human.weight_index, human.weights)
    head = dense[:, human.joint_names.index("head")].double().numpy()
    file |= {"v_template": human.vertices.double().numpy(), "f": human.faces.numpy()}
    file["weights"] = np.zeros((len(head), joints))
    file["weights"][:, 15], file["weights"][:, 0] = head, 1 - head
    np.savez(tmp_path / "body.npz", **file)
    body, still = open_body("body.npz", tmp_path), torch.zeros(1, 3)
    found = body.posed(torch.zeros(10), torch.zeros(1, joints, 3), still).landmarks[0]
    expected = human.posed(torch.zeros(10), torch.zeros(1, 22, 3), still).landmarks[0]
    of_face = [0, 3, 4] if joints == 55 else [0, 1, 2, 3, 4]  # the eyes of SMPL-X are joints
    assert float((found - expected)[of_face].norm(dim=-1).max()) < 0.02
    if joints == 55:
        assert body.keypoints[1:3].tolist() == [23, 24]
    names = [body.joint_names[i] for i in body.keypoints[5:].tolist()]
    limbs = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    assert names == [f"{side}_{limb}" for limb in limbs for side in ("left", "right")]
