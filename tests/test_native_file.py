"""The native file: what is saved is what is opened, to the bit; and what is wrong with a file is said in one line."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import fieldcast
from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields import KINDS, Cameras, Field, Occupancy, Space, build, default_spec, render
from fieldcast.fields.cameras import orbit
from fieldcast.fields.files import Provenance, describe, inspect_native, sha256
from fieldcast.fields.files.tensors import read_tensors, write_tensors

TINY: dict[str, dict[str, Any]] = {
    "mlp": {"layers": 3, "width": 8, "skip": 1, "octaves": 2, "code": 4, "hidden": 4},
    "hashgrid": {"levels": 2, "log2_table": 6, "base_resolution": 3, "finest_resolution": 9, "hidden": 4},
    "vm": {"resolution": 4, "density_channels": 2, "appearance_channels": 2, "hidden": 4},
    "cp": {"resolution": 4, "density_channels": 2, "appearance_channels": 2, "hidden": 4},
    "voxels": {"resolution": 12, "degree": 1},
    "planes": {"resolutions": [3, 5], "channels": 2, "hidden": 4},
    "hybrid": {
        "levels": 2, "log2_table": 6, "base_resolution": 3, "finest_resolution": 9, "vm_resolution": 4,
        "vm_channels": 2, "hidden": 4,
    },
    "nerf": {"layers": 3, "width": 8, "skip": 1, "octaves": 2, "view_octaves": 1, "branch": 4},
    "tensorf": {
        "resolution": [4, 5, 3], "density_channels": [2, 1, 2], "appearance_channels": [1, 2, 2],
        "features": 5, "hidden": 4,
    },
}  # fmt: skip
SPACE = Space((-1.0, -2.0, 0.5, 2.0, 1.0, 2.5), "none", (0.0, 1.0, 0.0))


def ring(count: int = 3) -> Cameras:
    return orbit(SPACE, torch.arange(count) * 1.0, torch.full((count,), 0.4), 5.0, width=14, height=11, fov=0.7)


def some_field(kind: str = "vm", views: bool = True, **shared: Any) -> Field:
    """A tiny field of which nothing is at its default."""
    shared = {"space": SPACE, "background": (0.1, 0.2, 0.3), "occupancy": 8, "steps": 48, **shared}
    field = build(default_spec(kind, **shared).resized(TINY[kind]))
    field.occupancy = Occupancy.of_cells(torch.rand(8, 8, 8) > 0.3)
    field.views = ring() if views else None
    return field


def assert_same(a: Field, b: Field) -> None:
    assert type(a) is type(b)
    assert a.spec == b.spec
    first, second = a.state_dict(), b.state_dict()
    assert list(first) == list(second)
    for name, value in first.items():
        assert value.dtype == second[name].dtype, name
        assert torch.equal(value, second[name]), name
    assert (a.views is None) == (b.views is None)
    if a.views is not None:
        for part in ("c2w", "intrinsics", "size"):
            assert torch.equal(getattr(a.views, part), getattr(b.views, part)), part


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("views", [True, False])
def test_save_and_open_is_the_identity(tmp_path: Path, kind: str, views: bool) -> None:
    field = some_field(kind, views)
    fieldcast.save(field, tmp_path / "a.safetensors")
    opened = fieldcast.open(tmp_path / "a.safetensors")
    assert_same(field, opened)
    x, d = 4 * torch.rand(200, 3) - 2, torch.nn.functional.normalize(torch.randn(200, 3), dim=-1)
    for a, b in zip(field(x, d), opened(x, d), strict=True):
        assert torch.equal(a, b)
    (a,), (b,) = render(field, ring(1)), render(opened, ring(1))
    assert torch.equal(a.rgb, b.rgb)


def test_sparse_voxels_are_saved_sparse(tmp_path: Path) -> None:
    dense = some_field("voxels")
    one = torch.zeros(8, 8, 8, dtype=torch.bool)
    one[0, 0, 0] = True
    sparse = dense.allocate(Occupancy.of_cells(one))
    assert 0 < sparse.spec.sizes.blocks < 8
    for field, name in ((dense, "dense"), (sparse, "sparse")):
        fieldcast.save(field, tmp_path / f"{name}.safetensors")
        assert_same(field, fieldcast.open(tmp_path / f"{name}.safetensors"))
    saved = (tmp_path / "dense.safetensors").stat().st_size - (tmp_path / "sparse.safetensors").stat().st_size
    blocks = 8 - sparse.spec.sizes.blocks
    assert saved == pytest.approx(blocks * 512 * 13 * 4, abs=8)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_opened_can_be_trained(tmp_path: Path, kind: str) -> None:
    fieldcast.save(some_field(kind), tmp_path / "a.safetensors")
    field = fieldcast.open(tmp_path / "a.safetensors")
    assert all(p.requires_grad and p.is_leaf for p in field.parameters())
    before = sha256(tmp_path / "a.safetensors")
    optimizer = torch.optim.SGD(field.parameters(), lr=1.0)
    field(SPACE.from_unit(torch.rand(50, 3)), torch.eye(3)[:1].expand(50, 3))[1].sum().backward()
    optimizer.step()
    assert sha256(tmp_path / "a.safetensors") == before  # it may be mapped into memory, but never written to


def test_the_same_field_is_the_same_file(tmp_path: Path) -> None:
    field = some_field()
    for name in ("a", "b"):
        fieldcast.save(field, tmp_path / f"{name}.field.safetensors")
    assert (tmp_path / "a.field.safetensors").read_bytes() == (tmp_path / "b.field.safetensors").read_bytes()


def test_others_can_read_it_as_documented(tmp_path: Path) -> None:
    """With the safetensors package alone and numpy."""
    field = some_field()
    fieldcast.save(field, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        meta = json.loads(file.metadata()["fieldcast"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert meta["format"] == 1
    assert meta["spec"] == json.loads(json.dumps(field.spec.to_json()))
    assert meta["spec"]["space"]["aabb"] == [-1.0, -2.0, 0.5, 2.0, 1.0, 2.5]
    assert set(meta["provenance"]) == {f.name for f in dataclasses.fields(Provenance)}
    assert tensors["occupancy_bits"].shape == (64,)
    assert tensors["views.c2w"].shape == (3, 3, 4)
    assert (
        sum(t.size for n, t in tensors.items() if t.dtype == "float32" and "views" not in n) == field.parameter_count()
    )


def test_provenance_is_kept(tmp_path: Path) -> None:
    origin = Provenance("lego/", "00ff", "fieldcast fit lego/ a.safetensors", "0.1.0", "blender", [{"source": "x"}])
    fieldcast.save(some_field(), tmp_path / "a.safetensors", provenance=origin)
    assert inspect_native(tmp_path / "a.safetensors").provenance == origin
    fieldcast.save(some_field(), tmp_path / "b.safetensors")
    assert inspect_native(tmp_path / "b.safetensors").provenance.version == fieldcast.__version__


def test_describe_reads_the_header(tmp_path: Path) -> None:
    field = some_field()
    fieldcast.save(field, tmp_path / "a.safetensors")
    facts = describe(tmp_path / "a.safetensors")
    assert facts["kind"] == "vm"
    assert facts["parameters"] == sum(p.numel() for p in field.parameters())
    assert facts["bytes"] == len((tmp_path / "a.safetensors").read_bytes())
    assert facts["views"] == 3
    assert facts["spec"]["sizes"]["resolution"] == 4
    json.dumps(facts)


def test_an_existing_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    first, second = some_field(), some_field()
    fieldcast.save(first, path)
    with pytest.raises(InputError, match="exists; use --force to replace it"):
        fieldcast.save(second, path)
    opened = fieldcast.open(path)
    assert_same(first, opened)
    fieldcast.save(second, path, force=True)
    assert_same(second, fieldcast.open(path))
    assert_same(first, opened)  # what was opened before is not pulled away
    fieldcast.save(opened, path, force=True)  # even onto itself
    assert_same(first, fieldcast.open(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.safetensors.png", "safetensors"])
def test_a_name_without_the_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"expected a name that ends in \.safetensors"):
        fieldcast.save(some_field(), tmp_path / name)
    with pytest.raises(InputError, match=r"expected a name that ends in \.safetensors"):
        fieldcast.open(tmp_path / name)


@pytest.mark.parametrize("name", ["with space.safetensors", "Ünï-場.SAFETENSORS", "-dash.field.safetensors"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    field = some_field("cp")
    fieldcast.save(field, str(tmp_path / name))
    assert_same(field, fieldcast.open(str(tmp_path / name)))


def test_a_device_is_an_argument(tmp_path: Path) -> None:
    fieldcast.save(some_field(), tmp_path / "a.safetensors")
    field = fieldcast.open(tmp_path / "a.safetensors", torch.device("cpu"))
    assert field.device == torch.device("cpu")


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for it: the write fails half-way."""
    fieldcast.save(some_field(), tmp_path / "old.safetensors")
    script = f"""
import resource, fieldcast
from fieldcast.endings import run
field = fieldcast.open({str(tmp_path / "old.safetensors")!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
run(lambda: fieldcast.save(field, {str(tmp_path / "new.safetensors")!r}))
raise SystemExit(run(lambda: fieldcast.save(field, {str(tmp_path / "old.safetensors")!r}, force=True)))
"""
    before = sha256(tmp_path / "old.safetensors")
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0] == f"fieldcast: {tmp_path / 'new.safetensors'}: File too large"
    assert list(tmp_path.iterdir()) == [tmp_path / "old.safetensors"]
    assert sha256(tmp_path / "old.safetensors") == before


def test_a_disk_without_space_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of safetensors, which does not raise an OSError."""
    from safetensors import SafetensorError

    from fieldcast.fields.files import tensors

    def full(*args: object, **kwargs: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(FieldcastError, match=r"^disk full while writing .*a\.safetensors$") as caught:
        fieldcast.save(some_field(), tmp_path / "a.safetensors")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


# --- what can be wrong with a file


Parts = tuple[dict[str, torch.Tensor], dict[str, Any]]


def parts_of(field: Field) -> Parts:
    """The tensors and the metadata that `save` would write."""
    views = field.views
    assert views is not None
    tensors = {
        **field.state_dict(),
        "views.c2w": views.c2w,
        "views.intrinsics": views.intrinsics,
        "views.size": views.size,
    }
    return tensors, {"format": 1, "spec": field.spec.to_json(), "provenance": {}}


def test_parts_are_what_is_saved(tmp_path: Path) -> None:
    """So that each fault below is the only one."""
    field = some_field("voxels")
    write_tensors(tmp_path / "a.safetensors", *parts_of(field))
    assert_same(field, fieldcast.open(tmp_path / "a.safetensors"))


def with_tensor(name: str, value: torch.Tensor) -> Callable[[Parts], Parts]:
    return lambda parts: ({**parts[0], name: value}, parts[1])


def without(*names: str) -> Callable[[Parts], Parts]:
    return lambda parts: ({k: v for k, v in parts[0].items() if k not in names}, parts[1])


def with_meta(**entries: Any) -> Callable[[Parts], Parts]:
    return lambda parts: (parts[0], {**parts[1], **entries})


def with_spec(**entries: Any) -> Callable[[Parts], Parts]:
    return lambda parts: (parts[0], {**parts[1], "spec": {**parts[1]["spec"], **entries}})


def with_size(**entries: Any) -> Callable[[Parts], Parts]:
    return lambda parts: with_spec(sizes={**parts[1]["spec"]["sizes"], **entries})(parts)


NAN = torch.full((4096, 13), torch.nan)
FAULTS: dict[str, tuple[Callable[[Parts], Parts], str]] = {
    "format of the future": (with_meta(format=2), "expected format 1, found 2; a newer fieldcast may open it"),
    "no format": (with_meta(format=None), "expected format 1, found None"),
    "no spec": (with_meta(spec=None), "spec: Expected `object`, got `null`"),
    "spec is a list": (with_meta(spec=[1]), "spec: Expected `object`, got `array`"),
    "unknown kind": (with_spec(kind="voxel"), "unknown kind 'voxel': choose from mlp"),
    "unknown size": (with_size(colour=3), "spec.sizes: unknown colour"),
    "size out of range": (with_size(resolution=10**9), "Expected `int` <= 2048"),
    "size of another type": (with_size(resolution="12"), "Expected `int`, got `str`"),
    "box upside down": (with_spec(space={"aabb": [1, 1, 1, 0, 0, 0]}), "expected finite minima below maxima"),
    "occupancy resolution": (with_spec(occupancy=12), "multiple of 8"),
    "provenance": (with_meta(provenance={"source": 3}), "provenance: Expected `str`, got `int`"),
    "missing tensor": (without("data"), "its tensors are not those of a voxels: missing data"),
    "extra tensor": (with_tensor("extra", torch.zeros(3)), "unexpected extra"),
    "wrong shape": (with_tensor("data", torch.zeros(4096, 12)), "tensor data: expected [4096, 13] by the spec, found"),
    "sizes that the tensors do not have": (with_size(resolution=2048), "by the spec, found"),
    "double precision": (
        with_tensor("data", torch.zeros(4096, 13, dtype=torch.float64)),
        "expected torch.float32, found",
    ),
    "whole numbers": (with_tensor("data", torch.zeros(4096, 13, dtype=torch.int32)), "expected torch.float32, found"),
    "nan": (with_tensor("data", NAN), "tensor data holds 53248 values that are NaN or infinite"),
    "infinity": (with_tensor("data", NAN.nan_to_num(torch.inf)), "NaN or infinite"),
    "table beyond the blocks": (
        with_tensor("block_table", torch.full((2, 2, 2), 8, dtype=torch.int32)),
        "block_table: expected rows of 8 blocks or -1",
    ),
    "table below -1": (
        with_tensor("block_table", torch.full((2, 2, 2), -2, dtype=torch.int32)),
        "block_table: expected rows of 8 blocks or -1",
    ),
    "half the views": (without("views.size"), "expected all of views.c2w, views.intrinsics, views.size or none"),
    "no views at all": (
        lambda parts: ({k: v[:0] if k.startswith("views") else v for k, v in parts[0].items()}, parts[1]),
        "do not agree in shape",
    ),
    "mirrored views": (with_tensor("views.c2w", -torch.eye(3, 4).repeat(3, 1, 1)), "views.c2w: expected rotations"),
    "views that differ in number": (with_tensor("views.c2w", torch.zeros(2, 3, 4)), "do not agree in shape"),
    "a view without a shape": (with_tensor("views.c2w", torch.tensor(1.0)), "do not agree in shape"),
    "views of whole numbers": (
        with_tensor("views.c2w", torch.zeros(3, 3, 4, dtype=torch.int64)),
        "tensor views.c2w: expected F32, found I64",
    ),
    "views without a lens": (with_tensor("views.intrinsics", torch.zeros(3, 4)), "views.intrinsics: expected focal"),
    "views of no pixels": (with_tensor("views.size", torch.zeros(3, 2, dtype=torch.int64)), "expected whole numbers"),
    "views of too many pixels": (
        with_tensor("views.size", torch.full((3, 2), 1 << 40, dtype=torch.int64)),
        "expected whole numbers",
    ),
    "views that are no rotations": (with_tensor("views.c2w", torch.ones(3, 3, 4)), "views.c2w: expected rotations"),
    "views with nan": (with_tensor("views.c2w", torch.full((3, 3, 4), torch.nan)), "tensor views.c2w holds 36 values"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_line(tmp_path: Path, fault: str) -> None:
    change, text = FAULTS[fault]
    path = tmp_path / "a.safetensors"
    write_tensors(path, *change(parts_of(some_field("voxels"))))
    with pytest.raises(InputError) as caught:
        fieldcast.open(path)
    message = str(caught.value)
    assert text in message
    assert str(path) in message
    assert "\n" not in message


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file: the length of the header, the header, the numbers."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def header(meta: str, **tensors: Any) -> bytes:
    return json.dumps({"__metadata__": {"fieldcast": meta}, **tensors}).encode()


RAW: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "short": (b"\x01\x02", "not a whole safetensors file"),
    "random": (bytes(range(256)) * 8, "not a whole safetensors file"),
    "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.", "not a whole safetensors file"),
    "header of 2^40 bytes": (raw(b"{}", length=1 << 40), "not a whole safetensors file"),
    "header of 2^64 - 1 bytes": (raw(b"{}", length=(1 << 64) - 1), "not a whole safetensors file"),
    "header that is no JSON": (raw(b"{nonsense"), "not a whole safetensors file"),
    "numbers missing": (
        raw(header("{}", a={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}), b"\0" * 8),
        "not a whole safetensors file",
    ),
    "shape beyond its bytes": (
        raw(header("{}", a={"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 16]}), b"\0" * 16),
        "not a whole safetensors file",
    ),
    "overlap": (
        raw(
            header(
                "{}",
                a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                b={"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
            ),
            b"\0" * 12,
        ),
        "not a whole safetensors file",
    ),
    "somebody else's": (raw(b'{"__metadata__": {"format": "pt"}}'), "not one of fieldcast's"),
    "no metadata": (raw(b"{}"), "not one of fieldcast's"),
    "metadata that is no JSON": (raw(header("{nonsense")), "metadata is not JSON"),
    "metadata that is a list": (raw(header("[1]")), "expected an object, found list"),
    "metadata nested too deeply": (raw(header("[" * 100_000)), "metadata is not JSON"),
    "a number without an end": (raw(header('{"format": ' + "9" * 5000 + "}")), "metadata is not JSON"),
    "a number that is not one": (raw(header('{"format": 1, "spec": {"steps": NaN}}')), "spec: Expected `int`"),
}


@pytest.mark.parametrize("fault", RAW)
def test_bytes_that_are_no_field_are_one_line(tmp_path: Path, fault: str) -> None:
    content, text = RAW[fault]
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for reader in (fieldcast.open, describe):
        with pytest.raises(InputError) as caught:
            reader(path)
        assert text in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("size", [0, 4, 8, 100, -9, -1])
def test_a_file_cut_short(tmp_path: Path, size: int) -> None:
    fieldcast.save(some_field(), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:size])
    with pytest.raises(InputError, match=r"b\.safetensors: "):
        fieldcast.open(tmp_path / "b.safetensors")


def test_a_folder_and_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        fieldcast.open(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(InputError, match="expected a file, found a folder"):
        fieldcast.open(tmp_path / "a.safetensors")


def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    """Gigabytes by the spec, a few bytes on disk: refused by a process that may not have that much."""
    tensors, meta = parts_of(some_field("hashgrid"))
    meta["spec"]["sizes"] = {"levels": 32, "channels": 8, "log2_table": 26, "finest_resolution": 1 << 20}
    write_tensors(tmp_path / "a.safetensors", tensors, meta)
    script = f"""
import resource, torch, fieldcast
from fieldcast.fields import files
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), now + (1 << 30)))
try:
    fieldcast.open({str(tmp_path / "a.safetensors")!r})
except fieldcast.errors.InputError as error:
    print(error)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "expected [" in done.stdout, done.stderr
    assert "by the spec, found" in done.stdout


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_a_damaged_file_opens_or_is_refused(tmp_path: Path, damage: list[tuple[int, int]], in_header: bool) -> None:
    """Whatever bytes change, the answer is a field or one line; never another error."""
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    if not source.exists():
        fieldcast.save(some_field("voxels"), source)
    content = bytearray(source.read_bytes())
    limit = 8 + struct.unpack("<Q", content[:8])[0] if in_header else len(content)
    for place, byte in damage:
        content[place % limit] = byte
    target.write_bytes(content)
    try:
        field = fieldcast.open(target)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        x = SPACE.from_unit(torch.rand(20, 3))
        assert torch.isfinite(field(x, torch.eye(3)[:1].expand(20, 3))[1]).all()


def test_tensors_of_a_file_and_their_meta(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3), "b": torch.rand(2, 2).T, "c": torch.tensor(1.5)}
    write_tensors(tmp_path / "t.safetensors", tensors, {"step": 3})
    found, meta = read_tensors(tmp_path / "t.safetensors")
    assert meta == {"step": 3}
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
