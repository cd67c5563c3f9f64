"""Avatars and people at a frame as fields: against known bodies, the layered renderer, and their own files."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fieldcast
from fieldcast.cli import cli
from fieldcast.distill import Edits
from fieldcast.distill.convert import student_spec
from fieldcast.endings import main_guard
from fieldcast.errors import InputError
from fieldcast.fields import KINDS, Box, Field, build, default_spec
from fieldcast.fields.cameras import Cameras, look_at, pinhole
from fieldcast.fields.composed import Composed
from fieldcast.fields.files.tensors import read_meta, read_tensors, write_tensors
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.occupancy import diagonal
from fieldcast.fields.rendering import render
from fieldcast.fields.scenes.mesh import read_mesh
from fieldcast.fields.spec import FieldSpec
from fieldcast.fields.triangles import Triangles
from fieldcast.reconstruct.avatars.avatar import Avatar
from fieldcast.reconstruct.avatars.files import open_avatar, save_avatar
from fieldcast.reconstruct.avatars.frames import frame_field
from fieldcast.reconstruct.avatars.people import look_at_people
from fieldcast.reconstruct.avatars.posed import Posed, posed_field
from fieldcast.reconstruct.avatars.rays import STEP
from fieldcast.reconstruct.avatars.shell import Shell, inset
from fieldcast.reconstruct.avatars.warp import NEAR
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.capsules import capsules
from fieldcast.reconstruct.recordings.recording import Person

Captured = pytest.CaptureFixture[str]
BETA, FRAMES = 0.006, 2
Made = tuple[dict[str, Tensor], dict[str, Any]]
COARSE = ["--size", "resolution=24", "--steps", 2, "--views", 1]


def small() -> FieldSpec:
    spec = default_spec("planes")
    return replace(spec, sizes=replace(spec.sizes, resolutions=(8,), channels=4, combine="sum", hidden=16))


def somebody(name: str, body: Body, seed: int, place: float) -> Avatar:
    """In some pose, with bumps and in some colours, and of a shape that was learned."""
    g = torch.Generator().manual_seed(seed)
    pose = 0.25 * torch.randn(FRAMES, len(body.parents), 3, generator=g)
    at = torch.tensor([place, 0.1, -0.2]).repeat(FRAMES, 1) + 0.1 * torch.randn(FRAMES, 3, generator=g)
    avatar = Avatar(
        Person(name, body, torch.zeros(body.shapes), pose, at, torch.ones(FRAMES, dtype=torch.bool)), small()
    )
    with torch.no_grad():
        for parameter in avatar.shell.inner.parameters():
            parameter.copy_(0.8 * torch.randn(parameter.shape, generator=g))
        avatar.shape += 0.2
    avatar.shell.beta.fill_(BETA)
    avatar.settle()
    avatar.shell.settle()
    return avatar


@pytest.fixture(scope="module")
def body() -> Body:
    return capsules()


@pytest.fixture(scope="module")
def pair(body: Body) -> list[Avatar]:
    """Two people, one partly before the other. Not to be changed."""
    return [somebody("ann", body, 0, -0.2), somebody("bob", body, 1, 0.25)]


@pytest.fixture(scope="module")
def posed(pair: list[Avatar]) -> Posed:
    """The first of them. Not to be changed."""
    return posed_field(pair[0], 1)


@pytest.fixture(scope="module")
def both(pair: list[Avatar]) -> Field:
    """All of a frame. Not to be changed."""
    return frame_field(pair, 1)


def camera(size: int = 40) -> Cameras:
    eye, target = torch.tensor([[0.4, 1.2, 4.0]]), torch.tensor([[0.0, 0.95, -0.2]])
    return pinhole(look_at(eye, target, torch.tensor([0.0, 1.0, 0.0])), size, size, math.radians(36))


def points(field: Field, count: int = 3000, seed: int = 0) -> Tensor:
    """In the box and around it."""
    u = 1.2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 0.1
    low, high = field.spec.space.box(u)
    return low + u * (high - low)


def ahead(x: Tensor) -> Tensor:
    return torch.tensor([0.0, 0.0, 1.0]).expand_as(x)


# --- somebody at a frame


@torch.no_grad()
def test_a_posed_body_has_volsdfs_density_of_its_distance(body: Body) -> None:
    """A whole body that is turned and moved, without an offset: its surface is known in the world."""
    pose = torch.zeros(1, len(body.parents), 3)
    pose[0, 0] = torch.tensor([0.3, 1.1, -0.4])
    person = Person("ann", body, torch.zeros(body.shapes), pose, torch.tensor([[0.5, -0.2, 2.0]]), torch.ones(1).bool())
    avatar = Avatar(person, small())
    for parameter in avatar.shell.inner.parameters():
        parameter.zero_()
    field = posed_field(avatar, 0)
    vertices = person.posed().vertices[0]
    surface = Triangles.of(Mesh(vertices.double().numpy(), body.faces.numpy()))
    x = vertices[::6] + 0.03 * torch.randn(len(vertices[::6]), 3, generator=torch.Generator().manual_seed(2))
    true = torch.from_numpy(surface.nearest(x.double().numpy()).distance)
    true = torch.where(torch.from_numpy(surface.inside(x.double().numpy())), -true, true)
    beta = float(avatar.shell.beta)
    outside = true + float(inset(avatar.shell.beta))
    expected = (0.5 + 0.5 * outside.sign() * torch.expm1(-outside.abs() / beta)) / beta
    off = 0.004 / beta  # 4 mm, by which a grid of 15 mm and tips between its points may be off
    shown = field.occupancy.contains(field.spec.space.to_unit(x))
    assert bool(shown[true < 0.02].all()) and int(shown.sum()) > 200
    shown &= true.abs() < 0.06
    ratio = (field.density(x).double() / expected).log().abs()[shown]
    assert float(ratio.max()) < 4 * off and float(ratio.mean()) < off / 2


@torch.no_grad()
def test_nothing_is_where_nobody_is_near(pair: list[Avatar], posed: Posed) -> None:
    field, x = posed, points(posed)
    away = torch.cdist(x.double(), pair[0].person.posed([1]).vertices[0].double()).amin(1)
    sigma = field.density(x)
    assert bool((sigma[away > NEAR + 0.03] == 0).all()) and bool((sigma[away < 0.02] >= 0).all())
    assert float(field(x, ahead(x))[0].sub(sigma).abs().max()) < 1e-3 / BETA
    unmasked = field.spec.density(field.logit(x)) / field.spec.space.unit
    assert float(unmasked[away > NEAR + 0.03].max()) < 1e-10  # renderers ask without the mask


@torch.no_grad()
def test_a_posed_field_says_what_the_avatar_says(pair: list[Avatar], posed: Posed) -> None:
    for avatar, frame, field in ((pair[0], 1, posed), (pair[1], 0, posed_field(pair[1], 0))):
        x = points(field)
        at = torch.full((len(x),), frame)
        vertex = avatar.places.at(at, x)
        x, at, vertex = (value[(vertex >= 0) & (field.mask(x) > 0)] for value in (x, at, vertex))
        rest = avatar.to_rest(avatar.transforms(), at, vertex, x)
        expected = avatar.shell.decode(avatar.shell.features(rest), ahead(x))
        for found, known in zip(field(x, ahead(x)), expected, strict=True):
            assert torch.allclose(found, known, rtol=1e-3, atol=1e-3) and len(x) > 100


def test_a_posed_field_is_of_its_own(pair: list[Avatar]) -> None:
    """What is learned later does not change it."""
    avatar = copy.deepcopy(pair[0])
    field = posed_field(avatar, 0)
    x = points(field)
    before = field.density(x).detach().clone()
    with torch.no_grad():
        for parameter in avatar.parameters():
            parameter += 0.1
    assert torch.equal(field.density(x), before)


# --- all of a frame


@torch.no_grad()
def test_a_frame_looks_as_the_layered_renderer_sees_it(pair: list[Avatar], both: Field) -> None:
    """Steps begin elsewhere along rays, so edges differ; means do not, and shorter steps leave little."""
    rays, size = camera().image_rays(0), 40
    layers = look_at_people(pair, rays, torch.ones(len(rays), dtype=torch.int64))
    rgb = (layers.rgb + layers.transmittance[:, None]).reshape(size, size, 3)
    assert isinstance(both, Composed) and both.spec.steps >= diagonal(both.spec.space) / STEP - 1
    (image,) = render(both, camera())
    assert float((image.rgb - rgb).abs().mean()) < 0.004
    assert float((image.opacity - 1 + layers.transmittance.reshape(size, size)).abs().mean()) < 0.004
    assert float((image.opacity > 0.5).float().mean()) > 0.1
    solid = (image.opacity > 0.99) & (layers.transmittance.reshape(size, size) < 0.01)
    assert float((image.rgb - rgb).abs().mean(-1)[solid].median()) < 0.02


@torch.no_grad()
def test_people_of_a_frame_add_up(pair: list[Avatar], posed: Posed, both: Field) -> None:
    field, x, alone = both, points(both), [posed, posed_field(pair[1], 1)]
    said = [one(x, ahead(x)) for one in alone]
    sigma = torch.stack([density for density, _ in said]).sum(0)
    assert torch.allclose(field.density(x), sigma, rtol=1e-3, atol=1e-4)
    mean = torch.stack([density[:, None] * rgb for density, rgb in said]).sum(0) / sigma[:, None]
    seen = sigma > 0.1
    assert torch.allclose(field(x, ahead(x))[1][seen], mean[seen], atol=1e-3)


@torch.no_grad()
def test_a_field_may_be_behind_people(pair: list[Avatar], posed: Posed) -> None:
    space = replace(
        student_spec(pair[0].shell.spec, "cp").space, aabb=(-2.0, -2.0, -2.0, 2.0, 3.0, 2.0), up=(0.0, 0.0, 1.0)
    )
    spec = default_spec("cp", space=space, occupancy=8, steps=32, background=(0.0, 0.5, 1.0))
    room = build(spec.resized({"resolution": 4, "hidden": 4}), seed=0)
    field, x = frame_field(pair[:1], 1, room), points(posed)
    assert torch.allclose(field.density(x), posed.density(x) + room.density(x), rtol=1e-3, atol=1e-3)
    assert (field.spec.background, field.spec.space.up) == ((0.0, 0.5, 1.0), (0.0, 0.0, 1.0))
    assert field.spec.steps >= diagonal(field.spec.space) / STEP - 1


def test_who_is_not_present_is_not_in_the_frame(pair: list[Avatar], posed: Posed) -> None:
    ann, bob = pair[0], copy.deepcopy(pair[1])
    bob.known = replace(bob.known, present=torch.tensor([True, False]))
    found = frame_field([ann, bob], 1)
    assert isinstance(found, Posed) and found.spec == posed.spec
    with pytest.raises(InputError, match=r"^frame 1: expected people who are present, found none$"):
        frame_field([bob], 1)


@pytest.mark.parametrize("frame", [-1, FRAMES])
def test_a_frame_that_there_is_not(pair: list[Avatar], frame: int) -> None:
    with pytest.raises(InputError, match=f"^frame {frame}: expected 0 to 1, the frames of ann$"):
        frame_field(pair, frame)


# --- files


@pytest.fixture(scope="module")
def saved(pair: list[Avatar], posed: Posed, both: Field, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar, somebody at a frame and all of a frame, in files. Read only."""
    folder = tmp_path_factory.mktemp("people")
    save_avatar(folder / "shell.safetensors", pair[0])
    fieldcast.save(posed, folder / "posed.safetensors")
    fieldcast.save(both, folder / "composed.safetensors")
    return folder


@pytest.mark.parametrize("kind", ["posed", "both"])
def test_save_and_open_is_the_identity(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    field: Field = request.getfixturevalue(kind)
    fieldcast.save(field, tmp_path / "a.safetensors")
    opened = fieldcast.open(tmp_path / "a.safetensors")
    assert type(opened) is type(field) and opened.spec == field.spec
    x = points(field)
    for a, b in zip(field(x, ahead(x)), opened(x, ahead(x)), strict=True):
        assert torch.equal(a, b)
    (a,), (b,) = render(field, camera(12)), render(opened, camera(12))
    assert torch.equal(a.rgb, b.rgb)
    assert all(p.requires_grad and p.is_leaf for p in opened.parameters())
    fieldcast.save(opened, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@torch.no_grad()
def test_an_avatar_is_kept_to_the_bit(pair: list[Avatar], saved: Path) -> None:
    opened = open_avatar(saved / "shell.safetensors", pair[0].person)
    assert torch.equal(opened.shell.coarse, pair[0].shell.coarse)
    assert torch.equal(opened.known.shape, torch.zeros(4)) and torch.equal(opened.shape, pair[0].shape)
    rays = camera().image_rays(0)
    for frame in range(FRAMES):
        at = torch.full((len(rays),), frame)
        a, b = (look_at_people([avatar, pair[1]], rays, at) for avatar in (pair[0], opened))
        assert torch.equal(a.rgb, b.rgb) and torch.equal(a.opacity, b.opacity) and torch.equal(a.depth, b.depth)
    assert float(a.opacity[:, 0].max()) > 0.9


def test_an_avatar_that_was_opened_can_be_learned_further(pair: list[Avatar], saved: Path, tmp_path: Path) -> None:
    """What was empty then may be full now: it is looked at anew when saved."""
    avatar = open_avatar(saved / "shell.safetensors", pair[0].person)
    with torch.no_grad():
        avatar.shell.template -= 0.05
    save_avatar(tmp_path / "a.safetensors", avatar)
    grown = fieldcast.open(tmp_path / "a.safetensors")
    assert grown.occupancy.fraction() > 1.2 * avatar.shell.occupancy.fraction()


def test_an_avatar_is_saved_whole_and_not_over_another(pair: list[Avatar], saved: Path) -> None:
    with pytest.raises(InputError, match=r"shell\.safetensors exists; use --force to replace it"):
        save_avatar(saved / "shell.safetensors", pair[1])


def test_an_avatar_of_another_body_is_refused(pair: list[Avatar], saved: Path, body: Body) -> None:
    path, person = saved / "shell.safetensors", pair[0].person
    fewer = replace(
        body, shape_directions=body.shape_directions[..., :2], joint_directions=body.joint_directions[..., :2]
    )
    with pytest.raises(InputError, match=r"about capsules, which has 2; found 4 numbers of shape$"):
        open_avatar(path, replace(person, body=fewer, shape=person.shape[:2]))
    with pytest.raises(InputError, match=r"shell\.safetensors: .* it was made about another body$"):
        open_avatar(path, replace(person, body=replace(body, vertices=1.2 * body.vertices)))
    with pytest.raises(InputError, match=r"expected an avatar, a field of kind shell; found posed$"):
        open_avatar(saved / "posed.safetensors", person)


def inside(made: Made, *path: Any, **entries: Any) -> Made:
    """The same file with other entries somewhere in its spec."""
    tensors, meta = made[0], copy.deepcopy(made[1])
    part = meta["spec"]
    for step in path:
        part = part[step]
    part.update(entries)
    return tensors, meta


def boxed(made: Made, levels: int) -> Made:
    """A field in a sum of one in a sum of one, and so on."""
    meta, motion = copy.deepcopy(made[1]), {"shift": [0, 0, 0]}
    for _ in range(levels):
        spec = meta["spec"]
        meta["spec"] = spec | {"kind": "composed", "sizes": {"parts": [{"of": spec, "world_from_part": motion}]}}
    return made[0], meta


def with_tensor(made: Made, name: str, value: Callable[[Tensor], Tensor]) -> Made:
    return {**made[0], name: value(made[0][name])}, made[1]


FAULTS: dict[str, tuple[str, Callable[[Made], Made], str]] = {
    "no inner spec": ("shell", lambda m: inside(m, "sizes", of=None), "spec.sizes: Expected `object`, got `null`"),
    "a shell in a shell": (
        "shell",
        lambda m: inside(m, "sizes", of=m[1]["spec"]),
        "spec.sizes: of: expected a kind that is not made of others, found 'shell'",
    ),
    "an unknown kind within": ("posed", lambda m: inside(m, "sizes", "of", "sizes", "of", kind="cub"), "found 'cub'"),
    "a size of the inner field": (
        "posed",
        lambda m: inside(m, "sizes", "of", "sizes", "of", "sizes", channels="4"),
        "spec.sizes.of.sizes.of.sizes: Expected `int`, got `str`",
    ),
    "a stray key within": (
        "composed",
        lambda m: inside(m, "sizes", "parts", 0, "of", "sizes", colour=1),
        "spec.sizes.parts[0].of.sizes: unknown colour",
    ),
    "somebody of planes": ("posed", lambda m: inside(m, "sizes", "of", kind="planes"), "expected a shell, found"),
    "a huge template": ("shell", lambda m: inside(m, "sizes", template=[10**9] * 3), "Expected `int` <= 2048"),
    "a template that is not there": ("shell", lambda m: inside(m, "sizes", template=[2048] * 3), "by the spec, found"),
    "a huge grid": ("posed", lambda m: inside(m, "sizes", cells=[4096] * 3), "nearest: expected [4096, 4096, 4096] by"),
    "no parts": ("composed", lambda m: inside(m, "sizes", parts=[]), "Expected `array` of length >= 1"),
    "a part that grows without end": (
        "composed",
        lambda m: inside(m, "sizes", "parts", 0, "world_from_part", scale=1e30),
        "expected a scale from 1e-6 to 1e6",
    ),
    "too deep": ("shell", lambda m: boxed(m, 12), "spec: expected at most 40 levels of fields within fields"),
    "deeper than Python goes": ("shell", lambda m: boxed(m, 120), "spec: expected at most 40 levels of"),
    "too many": (
        "composed",
        lambda m: inside(m, "sizes", parts=m[1]["spec"]["sizes"]["parts"] * 500),
        "spec: expected at most 1024 fields within the field",
    ),
    "a missing tensor": (
        "composed",
        lambda m: ({k: v for k, v in m[0].items() if k != "fields.1.shell.template"}, m[1]),
        "its tensors are not those of a composed: missing fields.1.shell.template",
    ),
    "a tensor of another shape": (
        "posed",
        lambda m: with_tensor(m, "rest_from_world", lambda v: v[:-1]),
        "tensor rest_from_world: expected [",
    ),
    "vertices that there are not": (
        "composed",
        lambda m: with_tensor(m, "fields.1.nearest", lambda v: v.abs() + 30_000),
        "nearest: expected numbers of",
    ),
    "vertices below none": ("posed", lambda m: with_tensor(m, "nearest", lambda v: v - 1), "nearest: expected numbers"),
    "no width": ("posed", lambda m: with_tensor(m, "shell.beta", lambda v: 0 * v), "beta: expected metres from 1e-05"),
    "not a number": ("shell", lambda m: with_tensor(m, "template", lambda v: v / 0), "tensor template holds"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_line(saved: Path, tmp_path: Path, fault: str) -> None:
    kind, change, message = FAULTS[fault]
    tensors, meta = read_tensors(saved / f"{kind}.safetensors")
    write_tensors(tmp_path / "a.safetensors", *change((tensors, meta)))
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        fieldcast.open(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{tmp_path / 'a.safetensors'}: ")


# --- every verb


def run(capsys: Captured, *argv: object) -> str:
    """stdout of a command that must succeed."""
    code = main_guard(cli, [str(a) for a in argv])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


@pytest.mark.parametrize("kind", ["shell", "posed", "composed"])
def test_info_and_validate(saved: Path, capsys: Captured, kind: str) -> None:
    facts = json.loads(run(capsys, "info", saved / f"{kind}.safetensors", "--json"))
    assert facts["kind"] == kind and facts["parameters"] > 100
    told = {"shell": "planes", "posed": "shell of planes", "composed": "posed of shell of planes, posed of shell of"}
    assert told[kind] in run(capsys, "info", saved / f"{kind}.safetensors")
    assert json.loads(run(capsys, "validate", saved / f"{kind}.safetensors", "--json"))["warnings"] == []
    assert json.loads(json.dumps(read_meta(saved / f"{kind}.safetensors")[0]["spec"])) == facts["spec"]


@pytest.mark.parametrize("kind", ["shell", "composed"])
def test_verbs_take_avatars_and_frames(
    saved: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for cls in KINDS.values():
        monkeypatch.setattr(cls, "points_per_step", 1 << 10)
    file = saved / f"{kind}.safetensors"
    run(capsys, "render", file, tmp_path / "a.png", "--size", "24x24")
    assert (tmp_path / "a.png").stat().st_size > 100
    run(capsys, "convert", file, tmp_path / "v.safetensors", "--to", "voxels", *COARSE)
    assert fieldcast.open(tmp_path / "v.safetensors").spec.kind == "voxels"
    sizes = ["--size", "levels=2", "--size", "log2_table=8", "--steps", 2, "--views", 1]
    run(capsys, "convert", file, tmp_path / "h.safetensors", "--to", "hashgrid", *sizes)
    assert fieldcast.open(tmp_path / "h.safetensors").spec.space == fieldcast.open(file).spec.space


@torch.no_grad()
def test_the_mesh_of_somebody_is_where_they_are(posed: Posed, tmp_path: Path, capsys: Captured, saved: Path) -> None:
    run(capsys, "convert", saved / "posed.safetensors", tmp_path / "a.ply", "--to", "mesh", "--size", "resolution=64")
    vertices = torch.from_numpy(read_mesh(tmp_path / "a.ply").parts[0].corners.reshape(-1, 3)).float()
    rest = torch.cat([posed.shell.distance(_rest(posed, x)) for x in vertices.split(4096)])
    ends = -float(inset(posed.shell.beta))  # of rays that come straight on: there depths are what a mesh is made of
    assert float((rest - ends).abs().mean()) < 0.006 and len(vertices) > 1000


@torch.no_grad()
def _rest(field: Posed, x: Tensor) -> Tensor:
    back = field.rest_from_world[field._vertex(x).clamp_min(0)]
    return (back[..., :3] * x[:, None]).sum(-1) + back[..., 3]


def test_an_avatar_is_cut_at_once(saved: Path, tmp_path: Path) -> None:
    shell = fieldcast.open(saved / "shell.safetensors")
    assert isinstance(shell, Shell)
    half = fieldcast.edit(shell, Edits(crop=Box((-1.0, 1.0, -1.0), (1.0, 2.5, 1.0))))
    assert isinstance(half, Shell) and torch.equal(half.coarse, shell.coarse)
    fieldcast.save(half, tmp_path / "half.safetensors")
    x = points(shell)
    kept = fieldcast.open(tmp_path / "half.safetensors").density(x)
    assert not bool(kept[x[:, 1] < 0.98].any())
    assert torch.equal(kept[x[:, 1] > 1.02], shell.density(x)[x[:, 1] > 1.02]) and bool(kept.any())


@pytest.mark.parametrize("kind", ["shell", "posed", "composed"])
def test_nothing_is_taught_to_be_made_of_others(saved: Path, kind: str) -> None:
    with pytest.raises(InputError, match=f"^a {kind} is made of other fields, not taught: choose from mlp, "):
        fieldcast.convert(fieldcast.open(saved / "shell.safetensors"), kind)
