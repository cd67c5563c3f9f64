"""Shap-E as a prior, on a network of random numbers that is written here: against diffusers' own code."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.files.tensors import write_tensors
from fieldcast.fields.space import Space
from fieldcast.morph.attention import Attend, Mixing, paired, plain
from fieldcast.morph.ends import Given
from fieldcast.morph.flow import flow, generate, integrate, invert
from fieldcast.morph.interpolation import joined
from fieldcast.morph.lora import Adapter, adapted, linears, open_adapter, save_adapter, tuned
from fieldcast.morph.priors import Prior, open_prior
from fieldcast.morph.priors.shap_e import ShapEPrior
from fieldcast.morph.priors.shap_e.attention import handed
from fieldcast.morph.priors.shap_e.distilling import distilled, mismatch, samples
from fieldcast.morph.priors.shap_e.renderer import Network
from fieldcast.morph.recipes import Recipe
from fieldcast.morph.sequence import morph
from fieldcast.morph.volumes import BAND, Volume, world_from_grid

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

# Of diffusers' schedulers, with numpy's newest.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HIDDEN, TOKENS, CHANNELS = 8, 32, 16
SHAPES = ((HIDDEN, 93), (HIDDEN, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, HIDDEN))


def tiny_prior() -> Any:
    """A transformer of the real one's architecture."""
    prior = diffusers.PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        embedding_dim=CHANNELS,
        num_embeddings=TOKENS,
        embedding_proj_dim=16,
        time_embed_dim=128,
        clip_embed_dim=2 * CHANNELS,
        additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer",
        encoder_hid_proj_type=None,
        added_emb_type=None,
    )
    torch.nn.init.normal_(prior.positional_embedding, 0, 0.5)
    return prior


def tiny_renderer() -> Any:
    """A renderer of the real one's architecture. High frequencies count less, so that there are surfaces."""
    from diffusers.pipelines.shap_e.renderer import ShapERenderer

    renderer = ShapERenderer(
        param_shapes=SHAPES, d_latent=CHANNELS, d_hidden=HIDDEN, n_output=12, background=(0.1,) * 3
    )
    octave = torch.cat([torch.zeros(3), torch.arange(15).repeat_interleave(3).repeat(2)])
    first = renderer.params_proj.projections["nerstf__mlp__0__weight"]
    with torch.no_grad():
        first.norm.weight.mul_(4.0**-octave)
        first.proj.bias.view(HIDDEN, 93).mul_(4.0**-octave)
        renderer.mlp.mlp[-1].weight.mul_(8)
    return renderer


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, as diffusers writes it."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("shap-e")
    raw = [chr(c) for c in range(33, 127)] + [chr(c) for c in range(161, 173)] + [chr(c) for c in range(174, 324)]
    tokens = [*raw, *(f"{c}</w>" for c in raw), "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt"), model_max_length=24)
    text = transformers.CLIPTextConfig(
        vocab_size=514,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=16,
        max_position_embeddings=24,
        bos_token_id=512,
        eos_token_id=513,
    )
    scheduler = diffusers.HeunDiscreteScheduler(
        beta_schedule="exp",
        num_train_timesteps=1024,
        prediction_type="sample",
        use_karras_sigmas=True,
        clip_sample=True,
        clip_sample_range=1.0,
    )
    encoder = transformers.CLIPTextModelWithProjection(text)
    pipeline = diffusers.ShapEPipeline(tiny_prior(), encoder, tokenizer, scheduler, tiny_renderer())
    pipeline.save_pretrained(path / "tiny")
    return path / "tiny"


@pytest.fixture(scope="session")
def prior(folder: Path) -> ShapEPrior:
    found = open_prior(folder)
    assert isinstance(found, ShapEPrior)
    return found


@pytest.fixture(scope="session")
def pipeline(folder: Path) -> Any:
    """The same, opened by diffusers."""
    found = diffusers.ShapEPipeline.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
    found.set_progress_bar_config(disable=True)
    return found


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(seed))


def test_what_is_opened(prior: ShapEPrior, folder: Path) -> None:
    assert isinstance(prior, Prior) and prior.name == "shap-e" and prior.shape == (TOKENS, CHANNELS)
    assert prior.positions is None and prior.parts == {}
    assert prior.groups is not None
    assert prior.groups.bincount().tolist() == [1, 1, HIDDEN, HIDDEN, HIDDEN, HIDDEN]
    assert not any(value.requires_grad for value in prior.network.parameters())


def test_captions_are_clips(prior: ShapEPrior, pipeline: Any) -> None:
    """As the pipeline computes them, unconditional one included."""
    caption = "a red car"
    with torch.no_grad():
        none, told = pipeline._encode_prompt(caption, torch.device("cpu"), 1, True)
    torch.testing.assert_close(prior.embed(caption).pooled[0], told, rtol=1e-5, atol=1e-6)
    assert torch.equal(prior.embed(" ").pooled[0], none) and not none.any()
    assert float(told.norm()) == pytest.approx(4)  # sqrt(16)
    with pytest.raises(InputError, match=r"caption 'wwwwwwww.*expected at most 24 tokens, found 52"):
        prior.embed(50 * "w")
    assert prior.known("pine-tree_01") == "pine tree"
    assert prior.known("pine tree with snow upon it everywhere") == "pine tree with snow upon it"


def sampled(prior: ShapEPrior, start: Tensor, caption: str, guidance: float, sigmas: list[float]) -> Tensor:
    """Heun's method in the other parametrisation, y = x + sigma n, along our velocities (Karras et al. 2022)."""
    velocity = flow(prior, prior.embed(caption), guidance)

    def slope(y: Tensor, sigma: float) -> Tensor:
        t = 1 / (1 + sigma)
        return (y - (t * y + (1 - t) * velocity(t * y, t, 0.0))) / sigma

    y = start * sigmas[0]
    for sigma, after in itertools.pairwise(sigmas):
        first = slope(y, sigma)
        guess = y + (after - sigma) * first
        y = guess if after == 0 else y + (after - sigma) * (first + slope(guess, after)) / 2
    return y


@pytest.mark.parametrize(("guidance", "clip"), [(1.0, True), (4.0, False)])
def test_velocity_leads_where_their_sampler_does(prior: ShapEPrior, pipeline: Any, guidance: float, clip: bool) -> None:
    """Guided predictions are clipped by them after guidance, by us before: without clipping it is the same."""
    scheduler = diffusers.HeunDiscreteScheduler.from_config(pipeline.scheduler.config, clip_sample=clip)
    theirs = diffusers.ShapEPipeline(
        pipeline.prior, pipeline.text_encoder, pipeline.tokenizer, scheduler, pipeline.shap_e_renderer
    )
    theirs.set_progress_bar_config(disable=True)
    start = noise(1)
    asked = {"num_inference_steps": 12, "guidance_scale": guidance, "output_type": "latent"}
    expected = theirs("a red car", latents=start.flatten(1), **asked).images
    ours = ShapEPrior(replace(prior.diffusers, scheduler=scheduler))
    sigmas = [*scheduler.sigmas.tolist()[::2], 0.0]
    assert len(sigmas) == 13 and sigmas[0] > 400
    with torch.no_grad():
        found = sampled(ours, start, "a red car", guidance, sigmas)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert float(expected.std()) > 0.1


def test_velocity_at_the_ends(prior: ShapEPrior) -> None:
    """Finite everywhere, and without a jump where the schedule of noise begins and ends."""
    told, x = prior.embed("a red car"), noise(1)

    def at(t: float) -> Tensor:
        with torch.no_grad():
            return prior.velocity(x, torch.tensor([t]), told, plain)

    least, most = (1 / (1 + float(s)) for s in torch.from_numpy(prior.log_sigmas).exp()[[-1, 0]])
    assert 0.002 < least < 0.003 and 0.90 < most < 0.91
    for edge in (least, most):
        torch.testing.assert_close(at(edge - 1e-4), at(edge + 1e-4), rtol=0.05, atol=0.05)
    assert bool(at(0.0).isfinite().all()) and bool(at(1.0).isfinite().all())
    assert not torch.equal(at(0.0), at(0.5))


def test_attention_is_theirs_bit_by_bit(prior: ShapEPrior, pipeline: Any) -> None:
    x, told = noise(2), torch.randn(2, 16)
    for network in (prior.network, pipeline.prior):
        assert type(network.transformer_blocks[0].attn1.processor).__name__ == "AttnProcessor2_0"
    with torch.no_grad():
        theirs = pipeline.prior(x, torch.tensor([7.0]), told)[0]
        with handed(prior.network, plain):
            ours = prior.network(x, torch.tensor([7.0]), told)[0]
    assert torch.equal(ours, theirs)


def test_attention_is_handed_over(prior: ShapEPrior) -> None:
    seen = []

    def attend(place: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        seen.append((place, tuple(q.shape), tuple(k.shape)))
        return plain(place, q, k, v, bias)

    with torch.no_grad():
        prior.velocity(noise(1), torch.tensor([0.5]), prior.embed(""), attend)
    shape = (1, 2, TOKENS + 2, 16)
    assert seen == [((0, "self"), shape, shape), ((1, "self"), shape, shape)]


def fused(prior: ShapEPrior, attend: Attend, x: Tensor) -> Tensor:
    told = joined([prior.embed(caption) for caption in ("a red car", "a tree", "a red car")])
    with torch.no_grad():
        return prior.velocity(x, torch.full((3,), 0.5), told, attend)


@pytest.mark.parametrize(
    "mixing",
    [Mixing("kv"), Mixing("kv", reorder=(0.0, 1.0)), Mixing("out"), Mixing("out", low=0.5), Mixing(previous=0.2)],
)
def test_fusion(prior: ShapEPrior, mixing: Mixing) -> None:
    """A frame that is the source stays it; one half-way does not; the ends never see the frame."""
    start = noise(2)
    x = torch.cat([start, start[:1]])
    alone = fused(prior, plain, x)
    same = fused(prior, mixing.at(0.5, torch.zeros(1), prior.positions, prior.groups), x)
    torch.testing.assert_close(same, alone, rtol=1e-4, atol=1e-5)
    x = torch.cat([start, start.mean(0, keepdim=True)])
    alone, mixed = fused(prior, plain, x), fused(prior, mixing.at(0.5, torch.ones(1) / 2, None, prior.groups), x)
    torch.testing.assert_close(mixed[:2], alone[:2], rtol=1e-4, atol=1e-5)
    assert float((mixed[2] - alone[2]).norm() / alone[2].norm()) > 1e-3


def test_tokens_pair_within_groups(prior: ShapEPrior) -> None:
    """The best pairs of each group alone."""
    assert prior.groups is not None
    source, target = (torch.randn(2, TOKENS + 2, 16, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    pair = paired(source, target, None, prior.groups)
    assert sorted(pair.tolist()) == list(range(TOKENS + 2)) and torch.equal(prior.groups[pair], prior.groups)
    assert not torch.equal(pair, paired(source, target, None))
    rows, others = (torch.nn.functional.normalize(x.transpose(0, 1).flatten(1), dim=-1) for x in (source, target))
    for group in prior.groups.unique():
        own = (prior.groups == group).nonzero()[:, 0]
        _, best = linear_sum_assignment((1 - rows[own] @ others[own].T).numpy())
        assert torch.equal(pair[own], own[best])


def some_adapter(prior: ShapEPrior, seed: int, rank: int = 2) -> Adapter:
    adapter = Adapter(prior, rank, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for value in adapter.parameters():
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)))
    return adapter.requires_grad_(False)


def test_changes_between_adapters_are_linear(prior: ShapEPrior) -> None:
    """Of each layer, W + (1 - a) B0 A0 + a B1 A1."""
    layers = linears(prior)
    assert len(layers) == 8
    first, second = some_adapter(prior, 1), some_adapter(prior, 2)
    alphas = torch.tensor([0.0, 0.25, 1.0])
    with adapted(prior, [first, second], torch.stack([1 - alphas, alphas], -1)):
        for name, layer in layers.items():
            x = torch.randn(3, 5, layer.in_features)
            found = layer(x)
            (a0, b0), (a1, b1) = first.pair(name), second.pair(name)
            for i, alpha in enumerate(alphas):
                weight = layer.weight + (1 - alpha) * b0 @ a0 + alpha * b1 @ a1
                torch.testing.assert_close(found[i], x[i] @ weight.T + layer.bias, rtol=1e-4, atol=1e-4)


def test_an_adapter_is_trained_and_kept(prior: ShapEPrior, tmp_path: Path) -> None:
    told, target = prior.embed("a red car"), noise(1)[0].clamp(-1, 1)
    fresh, recipe = Adapter(prior, 2, torch.Generator().manual_seed(1)), Recipe(lora=2, lora_steps=60, lora_rate=1e-2)
    losses: list[float] = []
    tuned(prior, fresh, target, told, recipe, 0, lambda *a: losses.append(float(a[2].split()[-1])))
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])  # noise of the random times and of the clamped ends remains
    save_adapter(fresh, prior, tmp_path / "car.safetensors")
    again = open_adapter(tmp_path / "car.safetensors", prior)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in fresh.state_dict().items())
    x, t = noise(1), torch.tensor([0.4])
    found = []
    for adapters in ([fresh], [again], []):
        with torch.no_grad(), adapted(prior, adapters, torch.ones(1, len(adapters))):
            found.append(prior.velocity(x, t, told, plain))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_adapters_that_do_not_fit(prior: ShapEPrior, tmp_path: Path) -> None:
    class Other(ShapEPrior):
        name = "other"

    path = tmp_path / "a.safetensors"
    save_adapter(some_adapter(prior, 1), prior, path)
    with pytest.raises(InputError, match="expected an adapter of other, found one of shap-e"):
        open_adapter(path, Other(prior.diffusers))
    wide = ShapEPrior(replace(prior.diffusers, prior=copy.deepcopy(prior.network)))
    wide.network.transformer_blocks = wide.network.transformer_blocks[:1]
    with pytest.raises(InputError, match=r"not for this shap-e: .*Unexpected key") as caught:
        open_adapter(path, wide)
    assert "\n" not in str(caught.value)
    write_tensors(tmp_path / "b.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(InputError, match="expected an adapter of format 1, found none"):
        open_adapter(tmp_path / "b.safetensors", prior)


def test_inversion_comes_back(prior: ShapEPrior) -> None:
    """To under 1 % of the object, and nearer with more steps: Heun's error falls at least with their square."""
    told = prior.embed("a red car")
    objects = generate(prior, "a red car", 1, seed=3, steps=50, structure=0.0)
    errors = []
    for steps in (25, 75):
        back = invert(prior, objects, told, steps)
        with torch.no_grad():
            again = integrate(flow(prior, told), back, prior.times(steps))
        errors.append(float((again - objects).norm() / objects.norm()))
    assert errors[0] < 0.01 and errors[1] < errors[0] / 9


def theirs_at(renderer: Any, latent: Tensor, p: Tensor, mode: str = "nerf") -> Any:
    """What diffusers' own network answers, in double precision, without being changed."""
    renderer = copy.deepcopy(renderer).double()
    own = renderer.params_proj(latent[None].double())
    rows = {name.removeprefix("nerstf."): value[0] for name, value in own.items()}
    given = {"position": p.double(), "direction": None, "ts": None, "nerf_level": "fine", "rendering_mode": mode}
    with torch.no_grad():
        return torch.func.functional_call(renderer.mlp, rows, kwargs=given)


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)])
def test_a_frame_is_their_radiance_field(prior: ShapEPrior, pipeline: Any, up: tuple[float, float, float]) -> None:
    """In a cube of the world, in whose frame their third axis is up, and per its unit of length."""
    latent = (noise(1)[0] * 0.5).clamp(-1, 1)
    center, half = torch.tensor([2.0, -1.0, 0.5]), 3.0
    space = Space((-1.0, -4.0, -2.5, 5.0, 2.0, 3.5), up=up)
    n = torch.rand(500, 3, dtype=torch.float64) * 2 - 1
    turn = world_from_grid(up).double()
    assert turn[:, 2].tolist() == list(up) and float(torch.linalg.det(turn)) == 1
    theirs = theirs_at(pipeline.shap_e_renderer, latent, n @ turn)
    field = prior.decode(latent, space)
    d = torch.nn.functional.normalize(torch.randn(500, 3, dtype=torch.float64), dim=-1)
    with torch.no_grad():
        exact = field.double()(center + half * n, d)
        single = field.float()((center + half * n).float(), d.float())
    assert float((theirs.density[:, 0] > 0.1).double().mean()) > 0.1
    torch.testing.assert_close(exact[0] * half, theirs.density[:, 0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(exact[1], theirs.channels, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(single[0] * half, theirs.density[:, 0].float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single[1], theirs.channels.float(), rtol=1e-4, atol=1e-4)


def test_frequencies_are_theirs(pipeline: Any, prior: ShapEPrior) -> None:
    """Also where high ones count as much as low ones: 1e-9 in double precision."""
    latent, p = noise(1)[0].clamp(-1, 1).double(), torch.rand(200, 3, dtype=torch.float64) * 2 - 1
    renderer = copy.deepcopy(pipeline.shap_e_renderer).double()
    torch.nn.init.normal_(renderer.params_proj.projections["nerstf__mlp__0__weight"].norm.weight)
    theirs = theirs_at(renderer, latent, p, "stf")
    with torch.no_grad():
        found = Network(renderer, latent)(p)
    torch.testing.assert_close(torch.tanh(found[:, :1]), theirs.signed_distance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.sigmoid(found[:, 3:6]), theirs.channels, rtol=1e-9, atol=1e-9)


def object_of(prior: ShapEPrior) -> tuple[Tensor, Volume]:
    """A latent with something in it, and that on a coarse grid."""
    for seed in range(20):
        latent = (noise(1, seed)[0] * 0.5).clamp(-1, 1)
        volume = prior._network(latent).volume(Space(), 24)
        if 0.05 < float(volume.solid.double().mean()) < 0.6:
            return latent, volume
    raise AssertionError("nothing solid")


def test_a_volume_is_their_surface(prior: ShapEPrior, pipeline: Any) -> None:
    latent, volume = object_of(prior)
    side = (torch.arange(24) + 0.5) / 12 - 1
    p = torch.cartesian_prod(side, side, side)
    theirs = theirs_at(pipeline.shap_e_renderer, latent, p, "stf")
    assert torch.equal(volume.solid, (theirs.signed_distance > 0).reshape(24, 24, 24))
    # Between a cell inside and its neighbour outside is the surface: neither is farther than a cell from it.
    a, b = volume.sdf[1:], volume.sdf[:-1]
    crossed = (a < 0) != (b < 0)
    assert bool(crossed.any()) and float(torch.maximum(a.abs(), b.abs())[crossed].max()) <= 1
    # Where the surface is far, none of the cells nearer than 3 is on its other side.
    other = torch.nn.functional.max_pool3d(volume.solid[None].float(), 3, 1, 1)[0] > 0
    assert not bool((other & (volume.sdf == BAND)).any())
    near = (volume.sdf.abs() < 0.3).reshape(-1)
    colors = volume.rgb.reshape(-1, 3)[near] - theirs.channels.float()[near]
    assert int(near.sum()) > 20 and float(colors.abs().mean()) < 0.05
    empty = copy.deepcopy(prior.diffusers.shap_e_renderer)
    with torch.no_grad():
        empty.mlp.mlp[-1].bias[0] -= 1000
        nothing = Network(empty, latent).volume(Space(), 8)
    assert not bool(nothing.solid.any()) and bool(nothing.rgb.isfinite().all())


def ball(resolution: int = 24) -> Volume:
    """Red above, green below."""
    middle = torch.arange(resolution) + 0.5 - resolution / 2
    x, y, z = torch.meshgrid(middle, middle, middle, indexing="ij")
    sdf = ((x**2 + y**2 + z**2).sqrt() - 0.35 * resolution).clamp(-BAND, BAND)
    rgb = torch.stack([(z > 0).float(), (z <= 0).float(), torch.zeros_like(z)], -1)
    return Volume(sdf, rgb, Space())


def test_objects_come_in_by_distillation(prior: ShapEPrior) -> None:
    """The latent answers as the object does: a network of random numbers cannot do it well, but much better."""
    renderer, volume = prior.diffusers.shap_e_renderer, ball()
    latent = distilled(renderer, volume, prior.shape, steps=100)
    assert 0 < float(latent.abs().max()) <= 1
    assert torch.equal(*(distilled(renderer, volume, prior.shape, steps=3) for _ in range(2)))
    points = samples(volume, torch.Generator().manual_seed(9))
    with torch.no_grad():
        before, after = (float(mismatch(Network(renderer, z), 24, *points)) for z in (torch.zeros(prior.shape), latent))
    assert after < 0.4 * before
    found = Network(renderer, latent).volume(Space(), 24)
    both, either = (found.solid & volume.solid).sum(), (found.solid | volume.solid).sum()
    assert float(both / either) > 0.6


def test_samples_say_what_is_where() -> None:
    p, inside, near, rgb = samples(ball(), torch.Generator().manual_seed(0))
    radius = p.norm(dim=-1) * 12
    clear = (radius - 0.35 * 24).abs() > 1  # a point lies up to 0.87 cells from the middle of its own
    assert torch.equal(inside[clear], (radius < 0.35 * 24)[clear]) and float(near.double().mean()) > 0.5
    above = p[:, 2].abs() > 2 / 24
    assert torch.equal(rgb[above][:, 0] > 0.5, p[above][:, 2] > 0)


def test_a_morph(prior: ShapEPrior) -> None:
    """From one caption to another: the ends are those of the flow itself, all is finite, frames are fields."""
    recipe = Recipe(steps=4, mixing=Mixing("kv", reorder=(0.0, 1.0)), equal_arc=False)
    found = morph(prior, Given("car", "a red car"), Given("tree", "a tree"), recipe, 3)
    assert found.latents.shape == (3, TOKENS, CHANNELS) and bool(found.latents.isfinite().all())
    assert all(bool(v.sdf.isfinite().all()) and bool(v.rgb.isfinite().all()) for v in found.volumes)
    for frame, end in ((0, found.ends[0]), (2, found.ends[1])):
        with torch.no_grad():
            own = integrate(flow(prior, end.condition), end.noise[None], prior.times(4))[0]
        torch.testing.assert_close(found.latents[frame], own, rtol=1e-3, atol=1e-3)
    field = prior.decode(found.latents[1], found.space)
    with torch.no_grad():
        sigma, rgb = field(torch.rand(64, 3) * 2 - 1, torch.nn.functional.normalize(torch.randn(64, 3), dim=-1))
    assert bool(sigma.isfinite().all()) and bool((sigma >= 0).all()) and 0 <= float(rgb.min()) <= float(rgb.max()) <= 1


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def emptied(path: Path) -> None:
    """Tensors of a file with one left out."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    del tensors[next(name for name in tensors if "proj" in name)]
    save_file(tensors, path, metadata={"format": "pt"})


def poisoned(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    next(value for value in tensors.values() if value.is_floating_point()).view(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})


WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: shutil.rmtree(f / "prior"), "expected Shap-E as diffusers stores it, found no prior/config.json"),
        (lambda f: shutil.rmtree(f / "tokenizer"), "found no tokenizer/tokenizer_config.json"),
        (lambda f: (f / "prior/config.json").write_text("{"), "prior/config.json: not JSON"),
        (lambda f: (f / "prior" / WEIGHTS).unlink(), "prior: expected weights in .safetensors, found none"),
        (
            lambda f: (f / "prior" / WEIGHTS).rename(f / "prior/diffusion_pytorch_model.bin"),
            r"prior: expected weights in .safetensors, found pickled weights \(.bin\), which can run code",
        ),
        (lambda f: (f / "prior" / WEIGHTS).write_bytes(b"none"), "prior: cannot be read"),
        (lambda f: emptied(f / "prior" / WEIGHTS), "prior: not whole: missing "),
        (lambda f: emptied(f / "text_encoder/model.safetensors"), "text_encoder: not whole: missing "),
        (lambda f: poisoned(f / "shap_e_renderer" / WEIGHTS), "expected finite numbers"),
        (
            lambda f: edit(f / "prior/config.json", _class_name="UNet2DModel"),
            "config.json: expected PriorTransformer, found UNet2DModel",
        ),
        (
            lambda f: edit(f / "text_encoder/config.json", architectures=["CLIPModel"]),
            "expected CLIPTextModelWithProjection, found .*CLIPModel",
        ),
        (lambda f: edit(f / "prior/config.json", num_layers=3), "prior: not whole: missing transformer_blocks.2"),
        (lambda f: edit(f / "prior/config.json", num_embeddings=31), "prior: cannot be read"),
        (
            lambda f: edit(f / "scheduler/scheduler_config.json", prediction_type="epsilon"),
            "not Shap-E: what the prior predicts: expected sample, found epsilon",
        ),
        (lambda f: [p.unlink() for p in (f / "tokenizer").glob("*o*.json") if "config" not in p.name], "tokenizer"),
    ],
)
def test_folders_that_are_not_whole(folder: Path, tmp_path: Path, spoil: Any, message: str) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    spoil(tmp_path / "copy")
    with pytest.raises(InputError, match=message) as caught:
        open_prior(tmp_path / "copy")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_opening_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_prior(folder)
    assert capfd.readouterr() == ("", "")


def test_without_diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for name in (folder, "shap-e"):
        with pytest.raises(FieldcastError, match=r'pip install "fieldcast\[shape\]"') as caught:
            open_prior(name)
        assert "\n" not in str(caught.value)


def test_without_a_network(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked for when the hub is said to be offline, and a download that is kept is found."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        FieldcastError, match=r"openai/shap-e: cannot be downloaded .* a folder that holds it"
    ) as caught:
        open_prior("shap-e")
    assert "\n" not in str(caught.value)
    kept = tmp_path / "models--openai--shap-e"
    shutil.copytree(folder, kept / "snapshots" / (40 * "a"))
    (kept / "refs").mkdir()
    (kept / "refs/main").write_text(40 * "a")
    assert open_prior("shap-e").shape == (TOKENS, CHANNELS)


def test_other_priors_do_not_import_it() -> None:
    code = "import sys, fieldcast.morph.priors.shap_e as _; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
