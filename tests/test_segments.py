"""Finding people in pictures: prompts, segmenters, and what they agree with."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from fieldcast.errors import FieldcastError, InputError
from fieldcast.fields.cameras import look_at, pinhole
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.segments import background as behind_people
from fieldcast.reconstruct.segments.agreement import agreement, masks_of
from fieldcast.reconstruct.segments.background import QUIET, Background, Subtraction, background_of
from fieldcast.reconstruct.segments.canvas import MASK_LOGIT, Canvas
from fieldcast.reconstruct.segments.colours import BINS, STRANGE, colours_of
from fieldcast.reconstruct.segments.edges import soft_shares
from fieldcast.reconstruct.segments.grabcut import GrabCut
from fieldcast.reconstruct.segments.masks import MaskFiles
from fieldcast.reconstruct.segments.prompts import LEAST, MARGIN, box_of, prompts_of
from fieldcast.reconstruct.segments.regions import nearness
from fieldcast.reconstruct.segments.sam import TIMES, Sam, open_sam
from fieldcast.reconstruct.segments.segmenter import (
    HIDDEN,
    SEGMENTERS,
    SURE,
    Learner,
    Prompt,
    Segmenter,
    eight_bit_shares,
    labels_of,
    logits_of,
    open_segmenter,
    segment_frames,
    shares_of,
)

H, W = 48, 64
RED, BLUE, GREY = (200.0, 60.0, 50.0), (50.0, 70.0, 190.0), (120.0, 130.0, 110.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disk(x: float, y: float, radius: float, height: int = H, width: int = W) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def painted(*layers: tuple[Tensor, tuple[float, float, float]], noise: float = 4.0, seed: int = 0) -> Tensor:
    """A picture of masks in their colours before grey, the first in front."""
    picture = torch.tensor(GREY).expand(H, W, 3).clone()
    for mask, color in reversed(layers):
        picture[mask] = torch.tensor(color)
    picture += noise * torch.randn(H, W, 3, generator=generator(seed))
    return picture.round().clamp(0, 255).to(torch.uint8)


def prompt_of(mask: Tensor) -> Prompt:
    (found,) = prompts_of(mask[None], torch.full((1, 1, 2), math.nan), generator())
    assert found is not None
    return found


def iou(found: Tensor, truth: Tensor) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def recording_of(frames: list[Tensor], people: int = 2, labels: list[Tensor] | None = None) -> Recording:
    count, body = len(frames), makehuman()
    eye = torch.tensor([[0.0, 1.0, 4.0]]).expand(count, 3)
    cameras = pinhole(look_at(eye, torch.zeros(count, 3), torch.tensor([0.0, 1.0, 0.0])), W, H, 0.6)
    zeros = torch.zeros(count, len(body.parents), 3)
    everybody = tuple(
        Person(name, body, torch.zeros(body.shapes), zeros, zeros[:, 0], torch.ones(count, dtype=torch.bool))
        for name in ("ann", "bob", "cat")[:people]
    )
    return Recording(frames, cameras, everybody, labels, source="a clip")


# What is asked


@pytest.mark.parametrize("seed", range(5))
def test_a_prompt_holds_its_mask_and_its_points_are_on_their_side(seed: int) -> None:
    g = generator(seed)
    labels = torch.randint(0, 4, (6, 8), generator=g).repeat_interleave(8, 0).repeat_interleave(8, 1)
    visible = masks_of(labels.to(torch.uint8), 3)
    joints = torch.rand(3, 12, 2, generator=g) * torch.tensor([W + 20.0, H + 20.0]) - 10
    joints[1, 0] = math.nan
    for person, prompt in enumerate(prompts_of(visible, joints, g)):
        assert prompt is not None
        rows, columns = visible[person].nonzero().unbind(1)
        x0, y0, x1, y1 = prompt.box.tolist()
        assert x0 <= columns.min() and y0 <= rows.min() and x1 >= columns.max() + 1 and y1 >= rows.max() + 1
        assert x0 >= 0 and y0 >= 0 and x1 <= W and y1 <= H
        for points, inside in ((prompt.positive, True), (prompt.negative, False)):
            column, row = points.long().unbind(1)
            assert len(points) and bool((visible[person][row, column] == inside).all())
        in_sight = [
            bool(visible[person][int(y), int(x)]) for x, y in joints[person].tolist() if 0 <= x < W and 0 <= y < H
        ]
        assert len(prompt.positive) == max(sum(in_sight), 1)
        assert torch.equal(prompt.mask > 0.5, visible[person])


def test_boxes_have_a_margin_on_each_side() -> None:
    mask = torch.zeros(100, 200, dtype=torch.bool)
    mask[20:60, 50:150] = True
    expected = torch.tensor([50 - 100 * MARGIN, 20 - 40 * MARGIN, 150 + 100 * MARGIN, 60 + 40 * MARGIN])
    assert torch.allclose(box_of(mask), expected)
    assert box_of(torch.ones(10, 20, dtype=torch.bool)).tolist() == [0, 0, 20, 10]


def test_others_joints_are_negative_only_where_they_are_seen() -> None:
    visible = torch.stack([disk(20, 24, 10), disk(45, 24, 10)])
    joints = torch.tensor([[[20.0, 24.0], [45.0, 24.0]], [[44.0, 20.0], [20.0, 22.0]]])
    first, _ = prompts_of(visible, joints, generator())
    assert first is not None
    assert first.positive.tolist() == [[20.0, 24.0]]  # its other joint is behind the other person
    assert first.negative[0].tolist() == [44.0, 20.0]
    assert [20.0, 22.0] not in first.negative.tolist()


def test_who_is_hidden_or_almost_hidden_has_no_prompt() -> None:
    visible = torch.zeros(3, H, W, dtype=torch.bool)
    visible[1, 3, :LEAST] = True
    visible[2, 5, : LEAST - 1] = True
    found = prompts_of(visible, torch.zeros(3, 4, 2), generator())
    assert [prompt is None for prompt in found] == [True, False, True]


def test_without_a_joint_in_sight_the_middle_of_the_mask_is_the_point() -> None:
    prompt = prompt_of(disk(30.5, 20.5, 9))
    assert prompt.positive.tolist() == [[30.5, 20.5]]
    everywhere = prompt_of(torch.ones(H, W, dtype=torch.bool))
    assert len(everywhere.negative) == 0 and len(everywhere.positive) == 1


def test_prompts_are_permuted_with_people_and_repeat_with_the_seed() -> None:
    visible = torch.stack([disk(15, 24, 9), disk(32, 20, 8), disk(50, 30, 10)])
    joints = torch.rand(3, 9, 2, generator=generator(3)) * torch.tensor([float(W), float(H)])
    order = [2, 0, 1]
    one = prompts_of(visible, joints, generator(5))
    two = prompts_of(visible[order], joints[order], generator(5))
    for i, k in enumerate(order):
        a, b = one[k], two[i]
        assert a is not None and b is not None
        assert torch.equal(a.mask, b.mask) and torch.equal(a.box, b.box) and torch.equal(a.positive, b.positive)
        assert sorted(a.negative.tolist()) == sorted(b.negative.tolist())


def test_nearness_is_the_distance_to_the_other_side() -> None:
    mask = torch.zeros(5, 9)
    mask[:, 3:6] = 1
    assert nearness(mask)[2].tolist() == [3, 2, 1, -1, -2, -1, 1, 2, 3]
    assert nearness(torch.zeros(2, 2)).eq(math.inf).all() and nearness(torch.ones(2, 2)).eq(-math.inf).all()


# How people compete


def test_shares_add_up_and_come_back_from_logits() -> None:
    logits = 2 * torch.randn(3, 5, 7, generator=generator())
    shares = shares_of(logits)
    assert torch.allclose(shares.sum(0), torch.ones(5, 7), atol=1e-6)
    assert torch.allclose(logits_of(shares), logits, atol=1e-4)
    assert torch.allclose(shares_of(logits_of(shares)), shares, atol=1e-6)


def test_nobody_shares_a_label_and_labels_are_permuted_with_people() -> None:
    logits = 3 * torch.randn(3, 20, 30, generator=generator(1))
    masks, order = masks_of(labels_of(logits), 3), [1, 2, 0]
    assert int(masks.sum(0).max()) == 1
    assert torch.equal(masks_of(labels_of(logits[order]), 3), masks[order])
    for p in range(3):
        expected = (logits[p] > 0) & (logits[p] == logits.amax(0))
        assert torch.equal(masks[p], expected)


def test_who_has_more_of_a_pixel_stays_ahead_where_nothing_is_the_backgrounds() -> None:
    logits = logits_of(torch.tensor([0.0, 0.3, 0.7]).view(3, 1, 1))
    assert labels_of(logits).item() == 2
    sure = logits_of(torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)).flatten().tolist()
    assert sure == pytest.approx([SURE, HIDDEN])
    assert logits_of(torch.tensor([1.0, 0.0]).view(2, 1, 1)).item() == pytest.approx(HIDDEN)


def test_shares_of_eight_bits_are_within_half_a_step() -> None:
    logits = 3 * torch.randn(2, 9, 9, generator=generator(2))
    assert float((eight_bit_shares(logits) / 255 - shares_of(logits)[1:]).abs().max()) <= 0.5 / 255 + 1e-6
    assert labels_of(torch.zeros(0, 4, 5)).tolist() == torch.zeros(4, 5).tolist()
    with pytest.raises(ValueError, match="at most 255 people, found 256"):
        labels_of(torch.zeros(256, 1, 1))


def test_agreement_of_hard_masks_is_that_of_sets_of_pixels() -> None:
    g = generator(4)
    found, truth = (torch.rand(2, 3, 6, 8, generator=g) > 0.5 for _ in range(2))
    measured = agreement(found, truth)
    for index in np.ndindex(2, 3):
        a, b = ({tuple(p) for p in mask[index].nonzero().tolist()} for mask in (found, truth))
        precision, recall = len(a & b) / len(a), len(a & b) / len(b)
        assert float(measured.iou[index]) == pytest.approx(len(a & b) / len(a | b))
        assert float(measured.recall[index]) == pytest.approx(recall)
        assert float(measured.f1[index]) == pytest.approx(2 * precision * recall / (precision + recall))


def test_agreement_of_soft_masks_and_of_nothing() -> None:
    half, whole, nothing = torch.full((1, 2), 0.5), torch.ones(1, 2), torch.zeros(1, 2)
    soft = agreement(half, whole)
    assert (float(soft.iou), float(soft.recall), float(soft.f1)) == pytest.approx((0.5, 0.5, 2 / 3))
    both = agreement(torch.stack([nothing, whole, whole]), torch.stack([nothing, whole, nothing]))
    assert both.iou.isnan().tolist() == [True, False, False] and both.recall.isnan().tolist() == [True, False, True]
    assert both.mean() == pytest.approx({"iou": 0.5, "recall": 1.0, "f1": 0.5})


# What is behind people


def moving_square(frames: int = 7, noise: float = 0.0) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """A square that steps over a pattern: pictures, what is behind, and where the square is."""
    g = generator(6)
    behind = torch.randint(60, 140, (H, W, 3), generator=g).float()
    pictures, masks = [], []
    for t in range(frames):
        mask = torch.zeros(H, W, dtype=torch.bool)
        mask[12:24, 2 + 8 * t : 10 + 8 * t] = True
        picture = behind + noise * torch.randn(H, W, 3, generator=g)
        picture[mask] = torch.tensor([250.0, 20.0, 20.0])
        pictures.append(picture.round().clamp(0, 255).to(torch.uint8))
        masks.append(mask)
    return pictures, behind, masks


def test_a_square_that_moves_is_found_exactly() -> None:
    pictures, behind, masks = moving_square()
    background = background_of(pictures)
    assert torch.equal(background.color, behind)
    for picture, mask in zip(pictures, masks, strict=True):
        assert torch.equal(background.evidence(picture) > 0, mask)
    prompts: list[list[Prompt | None]] = [[prompt_of(torch.roll(mask, 1, 1)), None] for mask in masks]
    for logits, mask in zip(segment_frames(Subtraction(), pictures, prompts), masks, strict=True):
        assert torch.equal(labels_of(logits), mask.to(torch.uint8))


def test_evidence_is_the_ratio_of_densities_of_the_background_to_a_uniform_one() -> None:
    """The background: normal in three directions; or, in shadow, normal across its colour and uniform along it."""
    color, noise = torch.full((1, 1, 3), 100.0), torch.full((1, 1), 6.0)
    strange, shaded, least = behind_people.STRANGE, behind_people.SHADED, behind_people.SHADE
    normal, length = stats.norm(0, 6), math.sqrt(3) * 100
    for pixel in ((100, 100, 100), (108, 95, 103), (110, 110, 90), (62, 55, 60), (20, 20, 20)):
        plain = np.prod(normal.pdf(np.array(pixel) - 100))
        light = float(np.clip(np.mean(pixel) / 100, least, 1))
        away = np.linalg.norm(np.array(pixel) - 100 * light)
        dark = normal.pdf(away) * normal.pdf(0) / ((1 - least) * length)
        density = (1 - strange - shaded) * plain + shaded * dark
        image = torch.tensor(pixel, dtype=torch.uint8).view(1, 1, 3)
        expected = -math.log(density * 256**3 + strange)
        assert Background(color, noise).evidence(image).item() == pytest.approx(expected, abs=1e-4)


def test_a_shadow_is_background_and_a_dark_thing_of_another_hue_is_not() -> None:
    background = Background(torch.tensor([150.0, 110.0, 70.0]).expand(1, 3, 3), torch.full((1, 3), 4.0))
    image = torch.tensor([[[90, 66, 42], [150, 110, 70], [60, 80, 90]]], dtype=torch.uint8)  # 0.6 of it, it, another
    assert (background.evidence(image) > 0).tolist() == [[False, False, True]]


def test_noise_is_its_standard_deviation_and_never_less_than_quiet() -> None:
    g = generator(7)
    frames = [(100 + 8 * torch.randn(30, 30, 3, generator=g)).round().to(torch.uint8) for _ in range(60)]
    noise = background_of(frames).noise
    assert 8 < float(noise.median()) < 11  # of three channels the largest, each with a standard error of about 1.2
    assert background_of([frames[0]] * 3).noise.eq(QUIET).all()


def test_where_people_always_are_the_background_is_unknown() -> None:
    frames = [torch.full((4, 4, 3), 90, dtype=torch.uint8)] * 3
    people = [torch.eye(4, dtype=torch.bool)] * 3
    background = background_of(frames, people)
    assert torch.equal(background.known, ~people[0])
    assert background.evidence(frames[0])[people[0]].eq(0).all()


def test_of_many_frames_the_background_is_the_median_of_evenly_spaced_ones() -> None:
    g = generator(8)
    frames = [torch.randint(0, 256, (70, 5, 3), generator=g, dtype=torch.uint8) for _ in range(127)]
    color = background_of(frames).color
    assert torch.equal(color, torch.stack(frames[::2]).float().median(0).values)


def test_a_background_needs_frames_and_a_camera_that_stands_still() -> None:
    frame = torch.zeros(H, W, 3, dtype=torch.uint8)
    with pytest.raises(InputError, match="background: expected at least 3 frames, found 2"):
        background_of([frame] * 2)
    clip = recording_of([frame] * 3)
    cameras = replace(clip.cameras, c2w=clip.cameras.c2w + torch.arange(3.0).view(3, 1, 1))
    with pytest.raises(InputError, match="a clip: segmenter background: expected a camera that stands still"):
        open_segmenter("background", replace(clip, cameras=cameras))


# Colours and edges


def test_colours_are_a_histogram_against_all_colours_alike() -> None:
    image = torch.tensor([[[8, 8, 8], [8, 8, 8], [248, 248, 248]]], dtype=torch.uint8)
    colours = colours_of([(image, torch.tensor([[True, True, False]]))])
    assert float(colours.ratio.sum()) == pytest.approx(BINS**3, rel=1e-5)
    dark, _, light = colours.evidence(image)[0].tolist()
    assert dark > math.log(100) and light == pytest.approx(math.log(STRANGE), abs=1e-3)
    unknown = colours_of([(image, torch.zeros(1, 3, dtype=torch.bool))])
    assert unknown.evidence(image)[0].tolist() == pytest.approx([0, 0, 0], abs=1e-6)


def test_at_edges_shares_are_those_that_the_colours_were_mixed_with() -> None:
    alpha = torch.zeros(20, 20)
    alpha[:, :9], alpha[:, 9], alpha[:, 10] = 1.0, 0.7, 0.2
    behind = torch.tensor(BLUE).expand(20, 20, 3)
    picture = alpha[..., None] * torch.tensor(RED) + (1 - alpha[..., None]) * behind
    labels = (alpha > 0.5).to(torch.uint8)
    known = Background(behind.clone(), torch.full((20, 20), QUIET))
    shares = soft_shares(labels, 1, picture.round().to(torch.uint8), known)
    assert float((shares[1] - alpha).abs().max()) < 0.005  # colours are whole numbers: 1 of 200
    assert torch.allclose(shares.sum(0), torch.ones(20, 20), atol=1e-6)


def test_without_a_background_edges_are_blurred_and_labels_stay() -> None:
    labels = torch.zeros(20, 20, dtype=torch.uint8)
    labels[4:12, 3:10], labels[6:18, 10:15], labels[2, 2:17] = 1, 2, 2
    shares = soft_shares(labels, 2, torch.zeros(20, 20, 3, dtype=torch.uint8), None)
    assert torch.equal(shares.argmax(0), labels.long())
    assert torch.allclose(shares.sum(0), torch.ones(20, 20), atol=1e-6)
    assert 0.05 < float(shares[1, 7, 2]) < 0.5 < float(shares[1, 7, 3]) < 0.95


# GrabCut


@pytest.mark.parametrize("shift", [0, 2, 3])
def test_grabcut_finds_a_disk_whose_prompt_is_displaced(shift: int) -> None:
    truth = disk(30, 24, 12)
    believed = disk(30 + shift, 24, 12)
    logits = GrabCut().segment(painted((truth, RED)), [prompt_of(believed)])
    found = labels_of(logits) == 1
    assert iou(found, truth) > 0.98 and (shift == 0 or iou(believed, truth) < 0.9)


def test_grabcut_gives_each_of_two_disks_its_own() -> None:
    front, back = disk(24, 24, 11), disk(38, 24, 11) & ~disk(24, 24, 11)
    picture = painted((front, RED), (back, BLUE))
    prompts: list[Prompt | None] = [prompt_of(torch.roll(mask, 2, 0)) for mask in (front, back)]
    labels = labels_of(GrabCut().segment(picture, prompts))
    assert iou(labels == 1, front) > 0.95 and iou(labels == 2, back) > 0.95


def test_grabcut_repeats_with_the_seed_and_is_permuted_with_people() -> None:
    masks = [disk(16, 24, 9), disk(33, 20, 9), disk(50, 26, 9)]
    picture = painted(*zip(masks, (RED, BLUE, (70.0, 160.0, 80.0)), strict=True), noise=25.0)
    prompts: list[Prompt | None] = [*(prompt_of(torch.roll(mask, 1, 1)) for mask in masks), None]
    order = [2, 3, 0, 1]
    one = GrabCut(seed=3).segment(picture, prompts)
    assert torch.equal(one, GrabCut(seed=3).segment(picture, prompts))
    assert torch.allclose(one[order], GrabCut(seed=3).segment(picture, [prompts[k] for k in order]), atol=1e-4)
    assert one[3].eq(HIDDEN).all() and float(one.abs().max()) <= SURE


def test_grabcut_of_nobody_of_the_hidden_and_of_a_few_pixels() -> None:
    picture = painted()
    assert GrabCut().segment(picture, []).shape == (0, H, W)
    assert GrabCut().segment(picture, [None, None]).eq(HIDDEN).all()
    for size in (1, 2, 3):
        few = torch.zeros(H, W, dtype=torch.bool)
        few[10 : 10 + size, 20] = True
        prompt = replace(prompt_of(disk(20, 10, 5)), mask=few.float(), box=box_of(few))
        assert GrabCut().segment(picture, [prompt]).isfinite().all()
    whole = prompt_of(torch.ones(H, W, dtype=torch.bool))
    assert labels_of(GrabCut().segment(picture, [whole])).eq(1).all()
    nothing = replace(whole, mask=torch.zeros(H, W))
    assert labels_of(GrabCut().segment(picture, [nothing])).eq(0).all()


def test_what_stood_behind_shows_who_wears_its_colours() -> None:
    """A disk of the wall's two colours: in one picture nothing tells them apart, in all of them the camera does."""
    stripes = torch.tensor(GREY).expand(H, W, 3).clone()
    stripes[:, 0::4], stripes[:, 1::4] = torch.tensor(BLUE), torch.tensor(BLUE)
    shifted = torch.roll(stripes, 2, 1)
    frames, masks, prompts = [], [], list[list[Prompt | None]]()
    for t in range(6):
        mask = disk(10 + 9 * t, 24, 9)
        frames.append(torch.where(mask[..., None], shifted, stripes).to(torch.uint8))
        masks.append(mask)
        prompts.append([prompt_of(torch.roll(mask, 2, 0))])

    def mean(segmenter: Segmenter) -> float:
        found = [labels_of(logits) == 1 for logits in segment_frames(segmenter, frames, prompts)]
        return sum(map(iou, found, masks)) / len(masks)

    moving, still = mean(GrabCut()), mean(GrabCut(static=True))
    assert still > 0.85 and still > moving + 0.1


# All of them, on people


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "segments.py"
    spec = importlib.util.spec_from_file_location("segments_benchmark", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["segments_benchmark"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clip(bench: ModuleType) -> Recording:
    made: Recording = bench.make_clip(frames=6, size=96)
    return made


@pytest.mark.parametrize("shift", [0.0, 0.06])
def test_people_who_pass_each_other_are_found_better_the_more_is_known(
    bench: ModuleType, clip: Recording, shift: float
) -> None:
    assert clip.labels
    truth = masks_of(torch.stack(clip.labels), 2)
    prompts = bench.shifted_prompts(clip, shift)

    def mean(name: str) -> float:
        return agreement(masks_of(bench.found_by(name, clip, prompts), 2), truth).mean()["iou"]

    believed, subtracted, still = map(mean, ("the prompt itself", "background", "grabcut, camera stands still"))
    assert still > believed + 0.1 and still > subtracted + 0.01 and still > 0.9


# SAM


def canvases() -> list[Canvas]:
    return [Canvas.padded(128, 32, 60, 90), Canvas.stretched(128, 32, 60, 90), Canvas.padded(128, 32, 90, 41)]


def test_points_land_where_the_picture_does() -> None:
    """By hand: 60 x 90 pixels become 85 x 128 with SAM, 128 x 128 with SAM 2; the network adds the half back."""
    padded, stretched, upright = canvases()
    point = torch.tensor([45.0, 30.0])
    assert (padded.points(point) + 0.5).tolist() == pytest.approx([64.0, 42.5])
    assert (stretched.points(point) + 0.5).tolist() == pytest.approx([64.0, 64.0])
    assert (upright.tall, upright.wide) == (128, 58)
    assert (upright.points(point) + 0.5).tolist() == pytest.approx([45 * 58 / 41, 30 * 128 / 90])


@pytest.mark.parametrize("which", range(3))
def test_a_bright_spot_is_on_the_canvas_where_its_point_is(which: int) -> None:
    canvas = canvases()[which]
    for row, column in ((20, 30), (5, 3), (50, 38)):
        image = torch.zeros(canvas.height, canvas.width, 3, dtype=torch.uint8)
        image[row, column] = 255
        light = canvas.picture(image, torch.zeros(3), torch.ones(3))[0, 0]
        y, x = (torch.arange(128) + 0.5 for _ in range(2))
        centre = torch.stack([(light.sum(0) * x).sum(), (light.sum(1) * y).sum()]) / light.sum()
        expected = canvas.points(torch.tensor([column + 0.5, row + 0.5])) + 0.5
        assert torch.allclose(centre, expected, atol=0.1)


@pytest.mark.parametrize("which", range(3))
def test_a_mask_comes_back_from_the_canvas(which: int) -> None:
    canvas = canvases()[which]
    mask = disk(22, 26, 14, canvas.height, canvas.width)
    logits = canvas.mask(mask.float())
    assert float(logits.abs().max()) == pytest.approx(MASK_LOGIT)
    assert iou(canvas.back(logits) > 0, mask) > 0.93  # in steps of 4 pixels of the canvas
    assert logits[..., math.ceil(canvas.tall / 4) :, :].eq(-MASK_LOGIT).all()


def tiny(kind: str) -> Any:
    """A network of the real one's architecture, of random numbers that are large enough to say something."""
    transformers = pytest.importorskip("transformers")
    prompts = {"hidden_size": 32, "image_size": 128, "patch_size": 16}
    decoder = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    parts: dict[str, Any] = {"prompt_encoder_config": prompts, "mask_decoder_config": decoder}
    if kind == "sam":
        layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "window_size": 4, "global_attn_indexes": [1]}
        sizes = {"hidden_size": 32, "image_size": 128, "output_channels": 32, "num_pos_feats": 16, "mlp_dim": 64}
        config = transformers.SamConfig(vision_config={**layers, **sizes, "patch_size": 16}, **parts)
        network = transformers.SamModel(config)
    else:
        stages = {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64], "hidden_size": 8}
        heads = {"num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [8, 4, 4, 2]}
        backbone = {**stages, **heads, "image_size": [128, 128], "global_attention_blocks": [3]}
        neck = {"backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}
        vision = {"backbone_config": {**backbone, "model_type": "sam2_hiera_det_model"}, **neck, "fpn_hidden_size": 32}
        network = transformers.Sam2Model(transformers.Sam2Config(vision_config=vision, **parts))
    g = generator(11)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=g)
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for kind in ("sam", "sam2"):
        folders[kind] = tmp_path_factory.mktemp(kind)
        tiny(kind).save_pretrained(folders[kind])
    return folders


def sam_prompts() -> tuple[Tensor, list[Prompt | None]]:
    image = torch.randint(0, 256, (H, W, 3), generator=generator(12), dtype=torch.uint8)
    return image, [prompt_of(disk(20, 24, 10)), None, prompt_of(disk(45, 20, 9))]


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_sam_is_asked_for_each_person_with_its_last_answer(weights: dict[str, Path], kind: str) -> None:
    """Against transformers' own call on the whole picture, question by question."""
    image, prompts = sam_prompts()
    sam = open_segmenter("sam", recording_of([image] * 3, 3), weights[kind])
    assert isinstance(sam, Sam) and isinstance(sam, Segmenter) and not isinstance(sam, Learner)
    logits = sam.segment(image, prompts)
    assert logits.shape == (3, H, W) and logits[1].eq(HIDDEN).all() and float(logits[0].std()) > 0.01
    canvas, prompt = sam.canvas(H, W), prompts[2]
    assert prompt is not None
    mask = canvas.mask(prompt.mask)
    many, few = len(prompt.positive), len(prompt.negative)
    for _ in range(TIMES):
        answer = sam.network(
            pixel_values=canvas.picture(image, sam.mean, sam.std),
            input_points=canvas.points(torch.cat([prompt.positive, prompt.negative]))[None, None],
            input_labels=torch.tensor([[[1] * many + [0] * few]]),
            input_boxes=canvas.points(prompt.box.view(2, 2)).view(1, 1, 4),
            input_masks=mask,
            multimask_output=False,
        )
        mask = answer.pred_masks[:, 0]
    assert torch.allclose(logits[2], canvas.back(mask).clamp(-SURE, SURE), atol=1e-4)
    order = [2, 0, 1]
    assert torch.allclose(sam.segment(image, [prompts[k] for k in order]), logits[order], atol=1e-5)


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_sams_network_sees_points_where_they_are(
    weights: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sam, seen = open_sam(weights[kind]), list[Tensor]()
    embedding = sam.network.prompt_encoder.shared_embedding
    true = embedding.forward

    def watched(coordinates: Tensor, input_shape: Any = None) -> Tensor:
        seen.append(coordinates.clone())
        return true(coordinates, input_shape)  # type: ignore[no-any-return]

    monkeypatch.setattr(embedding, "forward", watched)
    image = torch.zeros(60, 90, 3, dtype=torch.uint8)
    mask = disk(45, 30, 8, 60, 90)
    prompt = Prompt(
        mask.float(), torch.tensor([30.0, 15.0, 60.0, 45.0]), torch.tensor([[45.0, 30.0]]), torch.zeros(0, 2)
    )
    sam.segment(image, [prompt])
    scale = torch.tensor([128 / 90, 85 / 60 if kind == "sam" else 128 / 60])
    assert torch.allclose(seen[0][0, 0, 0], torch.tensor([45.0, 30.0]) * scale, atol=1e-4)
    assert torch.allclose(seen[1][0, 0, :2], torch.tensor([[30.0, 15.0], [60.0, 45.0]]) * scale, atol=1e-4)


def test_pictures_and_points_are_those_of_transformers_own_processor(weights: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    pil = pytest.importorskip("transformers.models.sam.image_processing_pil_sam")
    processor = transformers.SamProcessor(
        pil.SamImageProcessorPil(size={"longest_edge": 128}, pad_size={"height": 128, "width": 128})
    )
    image, _ = sam_prompts()
    image = image[:, :41].contiguous()
    sam = open_sam(weights["sam"])
    canvas = sam.canvas(*image.shape[:2])
    theirs = processor(
        image.numpy(), input_points=[[[10.0, 20.0]]], input_boxes=[[[1.0, 2.0, 30.0, 40.0]]], return_tensors="pt"
    )
    ours = canvas.picture(image, sam.mean, sam.std)
    assert float(((theirs["pixel_values"] - ours) * sam.std[:, None, None] * 255).abs().max()) < 1.01  # grey levels
    points = theirs["input_points"].view(2).float()
    assert torch.allclose(canvas.points(torch.tensor([10.0, 20.0])) + 0.5, points, atol=1e-4)
    assert torch.allclose(
        canvas.points(torch.tensor([[1.0, 2.0], [30.0, 40.0]])).flatten() + 0.5,
        theirs["input_boxes"].view(4).float(),
        atol=1e-4,
    )
    low = torch.randn(1, 1, 32, 32, generator=generator(13))
    (back,) = processor.post_process_masks(
        low[None],
        theirs["original_sizes"],
        theirs["reshaped_input_sizes"],
        binarize=False,
        pad_size={"height": 128, "width": 128},
    )
    assert torch.allclose(canvas.back(low), back[0, 0], atol=1e-5)


def test_weights_of_sam_2_for_videos_segment_pictures(weights: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(weights["sam2"], tmp_path / "video", model_type="sam2_video")
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}')
    image, prompts = sam_prompts()
    opened, other = open_sam(folder), open_sam(weights["sam2"])
    assert opened.mean.tolist() == [0.5] * 3 and opened.std.tolist() == [0.25] * 3
    same = replace(opened, mean=other.mean, std=other.std)
    assert torch.equal(same.segment(image, prompts), other.segment(image, prompts))


def copied(source: Path, target: Path, **changes: Any) -> Path:
    target.mkdir()
    (target / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    config = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **changes}))
    return target


def test_folders_that_are_not_sam(weights: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    good = weights["sam"]
    cases: list[tuple[Path | None, str]] = [
        (None, "segmenter sam: expected a folder with weights of SAM or SAM 2"),
        (tmp_path / "none", "expected SAM as transformers stores it, found no config.json"),
        (copied(good, tmp_path / "a", model_type="bert"), "expected model_type sam, sam2, sam2_video, found bert"),
        (copied(good, tmp_path / "e", vision_config=3), "cannot be read"),
    ]
    pickled = copied(good, tmp_path / "b")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    cases.append((pickled, "expected weights in .safetensors, found pickled weights"))
    broken = copied(good, tmp_path / "c")
    (broken / "config.json").write_text("{")
    cases.append((broken, "config.json: not JSON"))
    for name, change in (("missing", "not whole: missing"), ("nan", "expected finite numbers")):
        folder = copied(good, tmp_path / name)
        tensors = load_file(folder / "model.safetensors")
        key = "mask_decoder.iou_token.weight"
        if name == "missing":
            del tensors[key]
        else:
            tensors[key][0, 0] = math.nan
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        cases.append((folder, change))
    odd = copied(good, tmp_path / "d")
    (odd / "preprocessor_config.json").write_text('{"image_mean": [1, 2]}')
    cases.append((odd, "expected image_mean and image_std of 3 numbers"))
    for folder_, text in cases:
        with pytest.raises(InputError, match=text.replace(".", r"\.")) as caught:
            open_sam(folder_)
        assert "\n" not in str(caught.value) and (folder_ is None or str(folder_) in str(caught.value))


def test_without_transformers_the_extra_is_named(weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(FieldcastError, match=r'SAM needs transformers: pip install "fieldcast\[sam\]"'):
        open_sam(weights["sam"])


# Masks that somebody else made


def labelled(frames: int = 3) -> Recording:
    pictures = [painted((disk(20 + t, 20, 8), RED), (disk(45, 25, 8), BLUE), seed=t) for t in range(frames)]
    labels = [
        (disk(20 + t, 20, 8) + 2 * (disk(45, 25, 8) & ~disk(20 + t, 20, 8))).to(torch.uint8) for t in range(frames)
    ]
    return recording_of(pictures, 2, labels)


def test_the_recordings_labels_are_what_is_found() -> None:
    clip = labelled()
    segmenter = open_segmenter("masks", clip)
    for image, labels in zip(clip.frames, clip.labels or [], strict=True):
        assert torch.equal(labels_of(segmenter.segment(image.clone(), [None, None])), labels)
    with pytest.raises(
        InputError, match="a clip: expected a frame of the recording, found a picture that has no masks"
    ):
        segmenter.segment(painted(), [None, None])
    with pytest.raises(InputError, match="expected masks of 3 people, found 2"):
        segmenter.segment(clip.frames[0], [None] * 3)


@pytest.mark.parametrize("form", ["grey", "palette", "people", "numbers"])
def test_mask_files_are_read_whichever_way_they_are_kept(tmp_path: Path, form: str) -> None:
    clip = labelled(11)  # 10 comes after 2
    for t, labels in enumerate(clip.labels or []):
        if form in ("grey", "palette"):
            image = Image.fromarray(labels.numpy())
            if form == "palette":
                image = image.copy()
                image.putpalette([0, 0, 0, 250, 10, 10, 10, 10, 250])
            image.save(tmp_path / f"{t}.png")
        else:
            for number, name in enumerate(("ann", "bob")):
                folder = tmp_path / (name if form == "people" else str(number))
                folder.mkdir(exist_ok=True)
                Image.fromarray((255 * (labels == number + 1)).to(torch.uint8).numpy()).save(folder / f"{t}.png")
    segmenter = MaskFiles.open(replace(clip, labels=None), tmp_path)
    for image_, labels in zip(clip.frames, clip.labels or [], strict=True):
        assert torch.equal(labels_of(segmenter.segment(image_, [None, None])), labels)


def test_mask_files_that_do_not_fit(tmp_path: Path) -> None:
    clip = labelled()
    with pytest.raises(InputError, match="expected masks in the recording or a folder, found none"):
        open_segmenter("masks", replace(clip, labels=None))
    with pytest.raises(InputError, match="expected a folder of masks, found nothing"):
        MaskFiles.open(clip, tmp_path / "none")
    with pytest.raises(InputError, match="expected 3 PNG files, one a frame, found 0"):
        MaskFiles.open(clip, tmp_path)
    for t in range(3):
        Image.fromarray(np.full((H, W), 2, np.uint8)).save(tmp_path / f"{t}.png")
    for picture, text in (
        (
            Image.fromarray(np.full((H, W), 3, np.uint8)),
            "1.png: expected labels from 0 to 2, the number of people, found 3",
        ),
        (Image.new("RGB", (W, H)), "1.png: expected a mask of 8-bit grey or palette values, found RGB"),
        (Image.new("L", (H, W)), f"1.png: expected a mask of {W}x{H}, as its frame, found {H}x{W}"),
    ):
        picture.save(tmp_path / "1.png")
        with pytest.raises(InputError, match=text):
            MaskFiles.open(clip, tmp_path)
    (tmp_path / "only").mkdir()
    with pytest.raises(InputError, match="expected a folder for each of 2 people, found 1"):
        MaskFiles.open(clip, tmp_path)


def test_segmenters_are_opened_by_name() -> None:
    clip = labelled()
    for name in ("masks", "grabcut", "background"):
        assert isinstance(open_segmenter(name, clip), Segmenter)
    opened = open_segmenter("grabcut", clip, seed=4)
    assert isinstance(opened, GrabCut) and opened.static and opened.seed == 4
    with pytest.raises(InputError, match="segmenter snake: expected one of masks, grabcut, background, sam"):
        open_segmenter("snake", clip)
    assert list(SEGMENTERS) == ["masks", "grabcut", "background", "sam"]
