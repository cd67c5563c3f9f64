"""Morphs: what lies between two ends, and what frames attend to; laws that hold for any prior."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.fields.files.memory import Memory
from fieldcast.fields.space import Space
from fieldcast.morph.arcs import equal_arc, even, finer, unevenness
from fieldcast.morph.attention import Mixing, paired, plain, without
from fieldcast.morph.colors import chroma
from fieldcast.morph.details import Details, detailed
from fieldcast.morph.distance import distance
from fieldcast.morph.ends import Given
from fieldcast.morph.flow import flow, generate, integrate, invert
from fieldcast.morph.frequencies import enhanced
from fieldcast.morph.interpolation import between, joined, slerp
from fieldcast.morph.lora import Adapter, adapted, linears, tuned
from fieldcast.morph.priors.builtin import BuiltinPrior
from fieldcast.morph.recipes import RECIPES, Recipe
from fieldcast.morph.sequence import Between, morph
from fieldcast.morph.volumes import BAND, Volume

POSITIONS = torch.cartesian_prod(*[(torch.arange(4) + 0.5) / 4] * 3)
FEW = Recipe(steps=4, equal_arc=False, face=False)
MIXINGS = [
    Mixing(),
    Mixing("kv"),
    Mixing("out"),
    Mixing("kv", reorder=(0.0, 1.0)),
    Mixing("out", low=1.0, low_window=(0.0, 1.0), previous=0.2),
]


def tensors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def box(corner: tuple[float, float, float], color: tuple[float, float, float]) -> Volume:
    """A box of one colour, about the middle of the grid, with exact distances nowhere but at its faces."""
    at = torch.stack(torch.meshgrid(*[torch.arange(64) + 0.5 - 32] * 3, indexing="ij"), -1).abs()
    sdf = (at - torch.tensor(corner)).amax(-1).clamp(-BAND, BAND)
    return Volume(sdf, torch.tensor(color).expand(64, 64, 64, 3), Space())


@pytest.fixture(scope="module")
def ends() -> tuple[Given, Given]:
    return Given("a", "red car", box((20, 10, 8), (0.9, 0.1, 0.1))), Given(
        "b", "tree", box((6, 8, 24), (0.1, 0.7, 0.2))
    )


# --- attention


def stream(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (tensors(5, 2, 64, 8, seed=seed + i) for i in range(3))
    return q, k, v


@pytest.mark.parametrize("mixing", MIXINGS)
def test_ends_attend_to_themselves_alone(mixing: Mixing) -> None:
    q, k, v = stream(0)
    attend = mixing.at(0.5, torch.tensor([0.2, 0.5, 0.9]), POSITIONS)
    assert torch.equal(attend((0, "self"), q, k, v, None)[:2], plain((0, "self"), q[:2], k[:2], v[:2], None))


def test_no_mixing_is_plain_attention_bit_for_bit() -> None:
    q, k, v = stream(1)
    for mixing in (Mixing(), Mixing("kv", (0.6, 1.0)), Mixing("out", (0.6, 1.0))):
        attend = mixing.at(0.5, torch.tensor([0.2, 0.5, 0.9]), POSITIONS)
        assert torch.equal(attend((0, "self"), q, k, v, None)[2:], plain((0, "self"), q[2:], k[2:], v[2:], None))


@pytest.mark.parametrize("mixing", MIXINGS)
def test_frame_that_is_an_end_attends_as_that_end(mixing: Mixing) -> None:
    """At 0 and at 1, with the end's own tokens, mixing changes nothing."""
    q, k, v = (x[[0, 1, 0, 1]] for x in stream(2))
    quiet = replace(mixing, previous=0.0)  # the frame before is another one
    out = quiet.at(0.5, torch.tensor([0.0, 1.0]), POSITIONS)((0, "self"), q, k, v, None)
    assert torch.allclose(out[2:], out[:2], atol=1e-5)


def test_blending_after_attention_is_what_it_says() -> None:
    q, k, v = (x.double() for x in stream(3))
    alphas = torch.tensor([0.25, 0.5, 1.0])
    out = Mixing("out").at(0.5, alphas, None)((0, "self"), q, k, v, None)

    def attention(i: int, end: int) -> Tensor:
        keys, values = torch.cat([k[end], k[2 + i]], 1), torch.cat([v[end], v[2 + i]], 1)
        return torch.softmax(q[2 + i] @ keys.transpose(1, 2) / math.sqrt(8), -1) @ values

    for i, a in enumerate(alphas.tolist()):
        assert torch.allclose(out[2 + i], (1 - a) * attention(i, 0) + a * attention(i, 1), atol=1e-10)


def test_order_of_tokens_matters_only_before_attention() -> None:
    """Output blending gives the same for any order of an end's tokens; blending of keys does not."""
    q, k, v = stream(4)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    shuffled = [x.clone() for x in (k, v)]
    for x in shuffled:
        x[1] = x[1][:, order]
    alphas = torch.tensor([0.3, 0.5, 0.7])
    for mixing, same in ((Mixing("out"), True), (Mixing("kv"), False)):
        attend = mixing.at(0.5, alphas, None)
        first, second = attend((0, "self"), q, k, v, None)[2:], attend((0, "self"), q, *shuffled, None)[2:]
        assert torch.allclose(first, second, atol=1e-5) is same


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_pairs_are_a_permutation_and_undo_one(seed: int) -> None:
    k = tensors(2, 64, 8, seed=seed)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    pair = paired(k, k[:, order], None)
    assert sorted(pair.tolist()) == list(range(64))
    assert torch.equal(order[pair], torch.arange(64))
    assert sorted(paired(k, tensors(2, 64, 8, seed=seed + 1), POSITIONS).tolist()) == list(range(64))


def test_reordering_makes_the_order_of_the_farther_end_irrelevant() -> None:
    q, k, v = stream(5)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    shuffled = [x.clone() for x in (k, v)]
    for x in shuffled:
        x[1] = x[1][:, order]
    attend = Mixing("kv", reorder=(0.0, 1.0)).at(0.5, torch.tensor([0.1, 0.3, 0.4]), None)
    first, second = attend((0, "self"), q, k, v, None)[2:], attend((0, "self"), q, *shuffled, None)[2:]
    assert torch.allclose(first, second, atol=1e-5)


def test_attention_to_the_frame_before() -> None:
    q, k, v = stream(6)
    attend = Mixing(previous=1.0).at(0.5, torch.tensor([0.2, 0.5, 0.9]), None)
    out = attend((0, "self"), q, k, v, None)
    assert torch.allclose(out[3], plain((0, "self"), q[3:4], k[2:3], v[2:3], None)[0], atol=1e-6)
    assert torch.allclose(out[2], plain((0, "self"), q[2:3], k[:1], v[:1], None)[0], atol=1e-6)
    again = Mixing(previous=1.0).at(0.5, torch.tensor([0.5, 0.0, 0.9]), None)((0, "self"), q, k, v, None)
    assert torch.allclose(again[3], plain((0, "self"), q[3:4], k[:1], v[:1], None)[0], atol=1e-6)  # it is the source


def test_tokens_of_some_blocks_see_only_themselves() -> None:
    q, k, v = stream(7)
    attend = without((1, 3), plain)
    assert torch.equal(attend((1, "self"), q, k, v, None), v)
    assert torch.equal(attend((2, "self"), q, k, v, None), plain((2, "self"), q, k, v, None))
    assert torch.equal(attend((3, "cross"), q, k, v, None), plain((3, "cross"), q, k, v, None))


# --- low frequencies


def test_gain_of_low_frequencies_against_numpy() -> None:
    h, gain = tensors(2, 1, 64, 3).double(), torch.tensor([2.0, 1.0])
    out = enhanced(h, POSITIONS, gain, keep=False)
    grid = np.fft.fftn(h[0, 0].numpy().reshape(4, 4, 4, 3), axes=(0, 1, 2))
    waves = np.abs(np.fft.fftfreq(4) * 4)
    low = (waves[:, None, None] <= 1) & (waves[None, :, None] <= 1) & (waves[None, None, :] <= 1)
    wanted = np.fft.ifftn(np.where(low[..., None], 2 * grid, grid), axes=(0, 1, 2)).real
    assert np.abs(out[0, 0].numpy() - wanted.reshape(64, 3)).max() < 1e-5
    assert torch.allclose(out[1], h[1], atol=1e-5)


def test_enhancement_keeps_the_size_of_features() -> None:
    h = tensors(3, 2, 64, 8)
    out = enhanced(h, POSITIONS, torch.tensor([1.0, 3.0, 5.0]))
    assert torch.allclose(out.square().mean((1, 2, 3)), h.square().mean((1, 2, 3)), rtol=1e-4)


# --- interpolation


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_slerp_stays_on_the_arc(seed: int, alpha: float) -> None:
    a, b = tensors(4, 6, seed=seed).double(), 2 * tensors(4, 6, seed=seed + 1).double()
    x = slerp(a, b, torch.tensor([0.0, alpha, 1.0], dtype=torch.float64))
    assert torch.allclose(x[0], a) and torch.allclose(x[2], b)
    assert float(x[1].norm()) == pytest.approx((1 - alpha) * float(a.norm()) + alpha * float(b.norm()))
    u, v, w = a / a.norm(), b / b.norm(), x[1] / x[1].norm()
    angle = float((u * v).sum().arccos())
    assert float((u * w).sum().clamp(-1, 1).arccos()) == pytest.approx(alpha * angle, abs=1e-6)


def test_slerp_of_one_noise_is_that_noise() -> None:
    a = tensors(4, 6)
    assert torch.allclose(slerp(a, a, torch.tensor([0.0, 0.3, 1.0])), a.expand(3, 4, 6))


def test_conditions_at_the_ends_are_the_ends(tiny_prior: BuiltinPrior) -> None:
    """Words that only the other end has do not count there, whatever their number."""
    a, b = tiny_prior.embed("red car"), tiny_prior.embed("tree")
    x, t = tensors(1, 64, 32), torch.tensor([0.4])
    mixed = between(a, b, torch.tensor([0.0, 1.0]))
    for i, end in enumerate((a, b)):
        alone = joined(
            [
                replace(
                    mixed,
                    words=mixed.words[i : i + 1],
                    weights=mixed.weights[i : i + 1],
                    pooled=mixed.pooled[i : i + 1],
                )
            ]
        )
        assert torch.allclose(tiny_prior.velocity(x, t, alone, plain), tiny_prior.velocity(x, t, end, plain), atol=1e-5)


# --- flows


def test_heun_has_its_order_on_a_flow_that_is_known() -> None:
    """dx/dt = x cos t: x(1) = x(0) exp(sin 1)."""
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    errors = []
    for steps in (10, 20):
        end = integrate(lambda x, t, part: x * math.cos(t), x, np.linspace(0, 1, steps + 1).tolist())
        errors.append(abs(float(end) - math.exp(math.sin(1))))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    euler = integrate(lambda x, t, part: x * math.cos(t), x, np.linspace(0, 1, 21).tolist(), heun=False)
    assert abs(float(euler) - math.exp(math.sin(1))) > 10 * errors[1]


def test_inversion_comes_back(tiny_prior: BuiltinPrior) -> None:
    latent, told = tensors(1, 64, 32), tiny_prior.embed("red tree")
    noise = invert(tiny_prior, latent, told, 25)
    back = integrate(flow(tiny_prior, told), noise, tiny_prior.times(25))
    assert float((noise - latent).norm() / latent.norm()) > 0.05
    assert float((back - latent).norm() / latent.norm()) < 0.01


def test_guidance_is_what_it_says(tiny_prior: BuiltinPrior) -> None:
    x, told, none = tensors(2, 64, 32), joined([tiny_prior.embed("car")] * 2), joined([tiny_prior.embed("")] * 2)
    t = torch.full((2,), 0.3)
    a, b = (tiny_prior.velocity(x, t, c, plain) for c in (told, none))
    assert torch.allclose(flow(tiny_prior, told, 3.0)(x, 0.3, 0.5), b + 3 * (a - b), atol=1e-5)
    assert torch.equal(flow(tiny_prior, told)(x, 0.3, 0.5), a)


def test_structure_is_what_it_says_for_each_latent(tiny_prior: BuiltinPrior) -> None:
    """v + s (v - blind), where blind is told nothing and its tokens do not see each other in the last blocks."""
    x, told, none = tensors(2, 64, 32), joined([tiny_prior.embed("car")] * 2), joined([tiny_prior.embed("")] * 2)
    t, structure = torch.full((2,), 0.3), torch.tensor([0.0, 2.0])
    a = tiny_prior.velocity(x, t, told, plain)
    blind = tiny_prior.velocity(x, t, none, without(tiny_prior.structural, plain))
    found = flow(tiny_prior, told, structure=structure)(x, 0.3, 0.5)
    assert torch.equal(found[0], a[0])
    assert torch.allclose(found[1], a[1] + 2 * (a[1] - blind[1]), atol=1e-5)
    assert not torch.allclose(found[1], a[1], atol=1e-3)
    both = flow(tiny_prior, told, 3.0, structure=structure)(x, 0.3, 0.5)
    untold = tiny_prior.velocity(x, t, none, plain)
    assert torch.allclose(both[1], untold[1] + 3 * (a[1] - untold[1]) + 2 * (a[1] - blind[1]), atol=1e-5)


def test_generation_is_seeded_and_listens(tiny_prior: BuiltinPrior) -> None:
    first = generate(tiny_prior, "red car", 2, seed=1, steps=3)
    assert torch.equal(first, generate(tiny_prior, "red car", 2, seed=1, steps=3))
    assert not torch.allclose(first, generate(tiny_prior, "red car", 2, seed=2, steps=3))
    assert not torch.allclose(first, generate(tiny_prior, "blue house", 2, seed=1, steps=3))


# --- LoRA


def merged(prior: BuiltinPrior, changes: dict[str, Tensor], x: Tensor, told: str) -> Tensor:
    """The velocity of a network whose weights are changed for real."""
    layers = linears(prior)
    before = {name: layers[name].weight.clone() for name in changes}
    for name, change in changes.items():
        layers[name].weight.add_(change)
    out = prior.velocity(x, torch.tensor([0.4]), prior.embed(told), plain)
    for name, weight in before.items():
        layers[name].weight.copy_(weight)
    return out


def random_adapter(prior: BuiltinPrior, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    adapter = Adapter(prior, 2, generator)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return adapter.requires_grad_(False)


def test_adapters_between_ends_are_their_changes_between(tiny_prior: BuiltinPrior) -> None:
    """(1 - a) B0 A0 + a B1 A1, for each latent of a batch by its own a."""
    pair, x = [random_adapter(tiny_prior, i) for i in (0, 1)], tensors(1, 64, 32)
    alphas = torch.tensor([0.0, 0.3, 1.0])
    with adapted(tiny_prior, pair, torch.stack([1 - alphas, alphas], -1)):
        out = tiny_prior.velocity(
            x.expand(3, 64, 32), torch.full((3,), 0.4), joined([tiny_prior.embed("car")] * 3), plain
        )
    for i, a in enumerate(alphas.tolist()):
        changes = {}
        for name in linears(tiny_prior):
            (a0, b0), (a1, b1) = (adapter.pair(name) for adapter in pair)
            changes[name] = (1 - a) * b0 @ a0 + a * b1 @ a1
        assert torch.allclose(out[i], merged(tiny_prior, changes, x, "car")[0], atol=1e-4)


def test_new_adapter_changes_nothing_and_a_trained_one_fits(tiny_prior: BuiltinPrior) -> None:
    adapter, told = Adapter(tiny_prior, 4, torch.Generator().manual_seed(0)), tiny_prior.embed("car")
    latent, x, t = tensors(64, 32), tensors(1, 64, 32, seed=1), torch.tensor([0.5])
    before = tiny_prior.velocity(x, t, told, plain)
    with adapted(tiny_prior, [adapter], torch.ones(1, 1)):
        assert torch.equal(tiny_prior.velocity(x, t, told, plain), before)
    losses: list[float] = []
    tuned(
        tiny_prior,
        adapter,
        latent,
        told,
        Recipe(lora=4, lora_steps=60, lora_rate=1e-2),
        0,
        lambda *a: losses.append(float(a[2].split()[-1])),
    )
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert torch.equal(tiny_prior.velocity(x, t, told, plain), before)  # outside, the prior is as it was


# --- equal steps


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.floats(0.2, 5))
def test_equal_arc_on_a_curve_that_is_known(count: int, power: float) -> None:
    """A path whose length up to a is a^power: its equal parts end at (i / n)^(1 / power)."""
    at = np.linspace(0, 1, 4001) ** 2
    found = equal_arc(at.tolist(), np.diff(at**power).tolist(), count)
    wanted = np.linspace(0, 1, count) ** (1 / power)
    assert found[0] == 0 and found[-1] == 1
    assert np.abs(np.array(found) ** power - wanted**power).max() < 2e-3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 2), min_size=1, max_size=8), st.floats(0.05, 1))
def test_pieces_that_are_too_long_are_cut_into_equal_ones(lengths: list[float], most: float) -> None:
    """Lengths along pieces of a straight path: with what is found, none is longer than `most`, and no cut is wasted."""
    at = even(len(lengths) + 1)
    found = finer(at, lengths, most)
    way = np.concatenate([[0], np.cumsum(lengths)])
    pieces = np.diff(np.interp(sorted([*at, *found]), at, way))
    assert pieces.max() <= most + 1e-9
    assert len(found) == sum(max(0, math.ceil(length / most) - 1) for length in lengths)
    assert finer(at, [0.0] * len(lengths), 0.0) == []


def test_path_without_length_is_cut_evenly() -> None:
    assert equal_arc([0.0, 0.5, 1.0], [0.0, 0.0], 5) == even(5)
    assert unevenness([2.0, 2.0, 2.0]) == (0, 1)
    assert unevenness([1.0, 3.0]) == pytest.approx((1, 1.5))


# --- whole morphs


@pytest.mark.parametrize("mixing", MIXINGS[:-1])
def test_frames_at_the_ends_are_the_ends(tiny_prior: BuiltinPrior, ends: tuple[Given, Given], mixing: Mixing) -> None:
    made = morph(tiny_prior, *ends, replace(FEW, steps=25, mixing=mixing), 3)
    for frame, end in ((0, 0), (-1, 1)):
        latent = made.ends[end].latent
        assert float((made.latents[frame] - latent).norm() / latent.norm()) < 0.01
    assert bool(torch.isfinite(made.latents).all())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_finite_frames(tiny_prior: BuiltinPrior, ends: tuple[Given, Given], name: str) -> None:
    recipe = replace(RECIPES[name], steps=5, lora_steps=2)
    made = morph(tiny_prior, *ends, recipe, 4, seed=1)
    assert made.latents.shape == (4, 64, 32) and bool(torch.isfinite(made.latents).all())
    assert all(bool(torch.isfinite(v.sdf).all()) and float(v.rgb.min()) >= 0 for v in made.volumes)
    assert made.alphas[0] == 0 and made.alphas[-1] == 1 and made.alphas == sorted(made.alphas)


def test_equal_steps_are_more_even(tiny_prior: BuiltinPrior, ends: tuple[Given, Given]) -> None:
    plainly = morph(tiny_prior, *ends, FEW, 9)
    evenly = morph(tiny_prior, *ends, replace(FEW, equal_arc=True), 9)
    assert unevenness(evenly.lengths)[1] < unevenness(plainly.lengths)[1]


def test_leap_is_found_and_cut() -> None:
    """A path that does everything between 0.3 and 0.303: its steps are even nevertheless."""

    class Leaping(Between):
        def latents(self, alphas: list[float], note: str = "") -> Tensor:
            return torch.tensor(alphas, dtype=torch.float64)

        def volumes(self, latents: Tensor, alphas: list[float]) -> list[Volume]:
            heights = ((latents - 0.3) / 0.003).clamp(0, 1) * 24 + 4
            return [box((8, 8, float(h)), (0.5, 0.5, 0.5)) for h in heights]

    leaping = object.__new__(Leaping)
    object.__setattr__(leaping, "recipe", Recipe())
    places = leaping.places(9)
    volumes = leaping.volumes(leaping.latents(places), places)
    lengths = [distance(a, b) for a, b in itertools.pairwise(volumes)]
    assert unevenness(lengths)[1] < 1.3
    assert 0.3 < places[1] < places[-2] < 0.303


def test_shape_alone_and_texture_alone(tiny_prior: BuiltinPrior, ends: tuple[Given, Given]) -> None:
    shape = tiny_prior.parts["shape"]
    whole, formed, painted = (morph(tiny_prior, *ends, FEW, 3, what=what) for what in ("both", "shape", "texture"))
    assert torch.allclose(formed.latents[:, :, shape], whole.latents[:, :, shape], atol=1e-4)
    assert torch.allclose(painted.latents[:, :, shape], whole.latents[:1, :, shape].expand(3, -1, -1), atol=1e-4)
    texture = tiny_prior.parts["texture"]
    assert not torch.allclose(formed.latents[2, :, texture], whole.latents[2, :, texture], atol=1e-2)
    assert not torch.allclose(painted.latents[2, :, texture], painted.latents[0, :, texture], atol=1e-2)
    assert all(torch.equal(volume.sdf, painted.volumes[0].sdf) for volume in painted.volumes)


def test_structure_leaves_the_ends_alone(tiny_prior: BuiltinPrior, ends: tuple[Given, Given]) -> None:
    plainly, steered = (morph(tiny_prior, *ends, replace(FEW, structure=s), 3) for s in (0.0, 1.0))
    assert torch.equal(plainly.latents[0], steered.latents[0]) and torch.equal(plainly.latents[2], steered.latents[2])
    assert not torch.allclose(plainly.latents[1], steered.latents[1], atol=1e-2)


# --- details


def test_details_are_whole_at_an_end_and_gone_half_way(ends: tuple[Given, Given]) -> None:
    given, other = (end.volume for end in ends)
    assert given and other
    kept = box((18, 12, 8), (0.7, 0.2, 0.2))
    own = Details.of(given, kept)
    whole = detailed(kept, (own, None), 0.0, "both")
    assert torch.allclose(whole.sdf, given.sdf) and torch.allclose(whole.rgb, given.rgb)
    assert torch.allclose(detailed(kept, (None, own), 1.0, "both").sdf, given.sdf)
    half = detailed(kept, (own, own), 0.5, "both")
    assert torch.equal(half.sdf, kept.sdf) and torch.equal(half.rgb, kept.rgb)
    assert torch.allclose(detailed(kept, (own, None), 0.25, "both").rgb, torch.lerp(kept.rgb, given.rgb, 0.5))
    assert float(detailed(other, (own, own), 0.1, "both").sdf.abs().max()) <= BAND


def test_details_of_what_does_not_change_stay(ends: tuple[Given, Given]) -> None:
    given, other = (end.volume for end in ends)
    assert given and other
    kept, away = box((18, 12, 8), (0.7, 0.2, 0.2)), box((6, 9, 22), (0.2, 0.6, 0.2))
    own = Details.of(given, kept), Details.of(other, away)
    painted = detailed(replace(kept, rgb=away.rgb), own, 1.0, "texture")
    assert torch.allclose(painted.sdf, given.sdf) and torch.allclose(painted.rgb, other.rgb)
    formed = detailed(replace(away, rgb=kept.rgb), own, 1.0, "shape")
    assert torch.allclose(formed.sdf, other.sdf) and torch.equal(formed.rgb, kept.rgb)


def test_frames_at_the_ends_are_what_was_given(tiny_prior: BuiltinPrior, ends: tuple[Given, Given]) -> None:
    """The codec of this prior keeps little; with details, the first and the last frame are the objects nevertheless."""
    plainly, whole = (morph(tiny_prior, *ends, replace(FEW, steps=25, details=d), 3) for d in (False, True))
    for frame, end in zip((0, -1), ends, strict=True):
        assert end.volume
        assert distance(whole.volumes[frame], end.volume) < 0.05 < distance(plainly.volumes[frame], end.volume)
    assert torch.equal(plainly.volumes[1].sdf, whole.volumes[1].sdf)
    center, down = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -1.0]])
    colors = [made.field(0)(center, down)[1][0].detach() for made in (plainly, whole)]
    assert ends[0].volume
    wanted = ends[0].volume.rgb[32, 32, 32]
    assert float((colors[1] - wanted).abs().max()) < 0.05 < float((colors[0] - wanted).abs().max())


def test_frames_are_no_greyer_than_their_ends(tiny_prior: BuiltinPrior) -> None:
    volumes = box((20, 10, 8), (0.6, 0.4, 0.4)), box((6, 8, 24), (0.45, 0.55, 0.45))
    own = [chroma(volume) or 0.0 for volume in volumes]
    first, second = Given("a", "red car", volumes[0]), Given("b", "tree", volumes[1])
    made = {vivid: morph(tiny_prior, first, second, replace(FEW, steps=8, vivid=vivid), 5) for vivid in (False, True)}
    for place, plainly, frame in zip(made[True].alphas, made[False].volumes, made[True].volumes, strict=True):
        least, before = (1 - place) * own[0] + place * own[1], chroma(plainly) or 0
        assert chroma(frame) == pytest.approx(max(before, min(least, 2 * before)), rel=0.05)
        assert torch.equal(frame.sdf, plainly.sdf)


def test_captions_have_no_details(tiny_prior: BuiltinPrior, ends: tuple[Given, Given]) -> None:
    made = morph(tiny_prior, Given("car", "red car"), ends[1], replace(FEW, details=True), 2)
    assert torch.equal(made.volumes[0].sdf, tiny_prior.volume(made.latents[0], Space()).sdf)


def test_second_object_is_turned_like_the_first(tiny_prior: BuiltinPrior, ends: tuple[Given, Given]) -> None:
    first = ends[0]
    assert first.volume
    second = replace(first, volume=first.volume.turned(1))
    made = morph(tiny_prior, first, second, replace(FEW, face=True), 2)
    assert made.turns % 2 == 1
    assert torch.allclose(made.ends[0].latent, made.ends[1].latent, atol=1e-4)


def test_interrupted_morph_goes_on_to_the_same_frames(
    tiny_prior: BuiltinPrior, ends: tuple[Given, Given], tmp_path: Path
) -> None:
    recipe, path = replace(FEW, equal_arc=True, lora=2, lora_steps=3), tmp_path / "m.safetensors"
    whole = morph(tiny_prior, *ends, recipe, 4)
    calls: list[int] = []

    def stop(done: int, total: int, note: str = "") -> None:
        calls.append(done)
        if len(calls) == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        morph(tiny_prior, *ends, recipe, 4, memory=Memory(path, {"seed": 0}), progress=stop)
    again = Memory(path, {"seed": 0})
    again.load()
    assert again.known
    assert torch.equal(morph(tiny_prior, *ends, recipe, 4, memory=again).latents, whole.latents)
    with pytest.raises(InputError, match="another seed"):
        Memory(path, {"seed": 1}).load()
    again.forget()
    with pytest.raises(InputError, match="nothing to resume"):
        again.load()


def test_frames_of_a_caption_are_in_a_unit_box(tiny_prior: BuiltinPrior, ends: tuple[Given, Given]) -> None:
    made = morph(tiny_prior, Given("car", "red car"), ends[1], FEW, 2)
    assert made.space == Space()
    assert Between(tiny_prior, made.ends, FEW, "both", made.space).latents([0.5]).shape == (1, 64, 32)
