"""How well each segmenter finds people whose place is known a little wrong: a table for docs/segments.md.

    python benchmarks/segments.py [--seeds 3] [--alike]

Two bodies in coloured clothes walk past each other before a wall and a floor of patches. Segmenters are prompted with
the silhouettes of the naked bodies, each moved in a direction of its own; IoU is against what is cast. With --alike
both wear the same.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fieldcast.fields.cameras import Cameras, look_at, pinhole
from fieldcast.fields.scenes.mesh import Caster
from fieldcast.fields.scenes.surfaces import Surface, to_linear
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.makehuman import makehuman
from fieldcast.reconstruct.recordings.recording import Person, Recording
from fieldcast.reconstruct.segments.agreement import agreement, masks_of
from fieldcast.reconstruct.segments.background import Subtraction
from fieldcast.reconstruct.segments.grabcut import GrabCut, Known
from fieldcast.reconstruct.segments.prompts import prompts_of
from fieldcast.reconstruct.segments.segmenter import Prompt, Segmenter, labels_of, segment_frames

CLOTH = 0.015  # metres by which clothes stand off the body
SHIFTS = (0.0, 0.04, 0.07)  # metres
NOISE = 2.0  # standard deviation of the sensor, of 255
# Colours of shoes, trousers, shirt, and hair, sRGB; skin is the same for both.
WEAR = (
    ((40, 30, 30), (60, 70, 110), (170, 60, 50), (60, 40, 25)),
    ((90, 60, 40), (50, 50, 55), (70, 130, 90), (30, 25, 20)),
)
SKIN = (200, 150, 125)


def walker(body: Body, name: str, start: float, end: float, z: float, frames: int, phase: float) -> Person:
    """Somebody who walks along x, swinging arms and legs."""
    t = torch.linspace(0, 1, frames)
    swing = torch.sin(2 * math.pi * (2 * t + phase))
    pose = torch.zeros(frames, len(body.parents), 3)
    at = {joint: i for i, joint in enumerate(body.joint_names)}
    pose[:, 0, 1] = math.pi / 2 if end > start else -math.pi / 2
    for side, sign in (("l", 1.0), ("r", -1.0)):
        pose[:, at[f"thigh_{side}"], 0] = -0.45 * sign * swing
        pose[:, at[f"calf_{side}"], 0] = 0.25 + 0.25 * sign * swing
        pose[:, at[f"upperarm_{side}"], 2] = -0.45 * sign
        pose[:, at[f"upperarm_{side}"], 0] = 0.4 * sign * swing
    place = torch.stack([start + (end - start) * t, torch.zeros(frames), torch.full((frames,), z)], -1)
    return Person(name, body, torch.zeros(body.shapes), pose, place, torch.ones(frames, dtype=torch.bool))


def clothes(body: Body, wear: tuple[tuple[int, int, int], ...], generator: np.random.Generator) -> np.ndarray:
    """SRGB 0..255 of each vertex, by its height and how far out it is at rest, a little uneven."""
    x, y = body.vertices[:, 0].abs().numpy(), body.vertices[:, 1].numpy()
    shoe, trousers, shirt, hair = (np.array(c, float) for c in wear)
    color = np.where((y < 0.95)[:, None], trousers, shirt)
    color[y < 0.09] = shoe
    color[(y > 1.42) | ((x > 0.4) & (y > 0.8))] = SKIN
    color[(y > 1.6) | ((y > 1.5) & (body.vertices[:, 2].numpy() < 0.02))] = hair
    return color + generator.normal(0, 6, (len(y), 1))


def normals(vertices: Tensor, faces: Tensor) -> Tensor:
    corners = vertices[faces]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(0, faces[:, k], across)
    return torch.nn.functional.normalize(total, dim=-1)


def surface(vertices: Tensor, faces: Tensor, color: np.ndarray) -> Surface:
    rgba = np.concatenate([to_linear(color.clip(0, 255) / 255), np.ones((len(color), 1), np.float32)], 1)
    index = faces.numpy()
    uv = np.zeros((len(index), 3, 2), np.float32)
    return Surface(vertices.double().numpy()[index], uv, rgba[index].astype(np.float32))


def lit(vertices: Tensor, faces: Tensor, color: np.ndarray) -> np.ndarray:
    """Colours under a soft light from the upper left, which folds of cloth and limbs turn away from."""
    sun = torch.nn.functional.normalize(torch.tensor([-0.5, 0.7, 0.6]), dim=0)
    return color * (0.75 + 0.25 * (normals(vertices, faces) @ sun).clamp(min=-0.5).numpy()[:, None])


def backdrop(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """A wall and a floor of patches in muted colours of all kinds."""
    rows = int(height * 0.72)
    coarse = torch.from_numpy(generator.uniform(50, 200, (1, 3, 9, 12)))
    fine = torch.from_numpy(generator.normal(0, 12, (1, 3, height, width)))
    wall = torch.nn.functional.interpolate(coarse, (height, width), mode="nearest")
    grey = wall.mean(1, keepdim=True)
    picture = (grey + 0.5 * (wall - grey) + fine)[0].permute(1, 2, 0).numpy()
    picture[rows:] = 0.5 * picture[rows:] + 0.5 * np.array([120, 105, 90])
    return picture


def make_clip(frames: int = 12, size: int = 192, seed: int = 0, alike: bool = False) -> Recording:
    """The clip, with its true labels."""
    generator = np.random.default_rng(seed)
    body = makehuman()
    people = (
        walker(body, "ann", -0.9, 0.9, 0.25, frames, 0.0),
        walker(body, "bob", 0.9, -0.9, -0.35, frames, 0.3),
    )
    cameras = view(frames, size)
    behind = backdrop(size, size, generator)
    worn = [clothes(body, wear, generator) for wear in (WEAR[:1] * 2 if alike else WEAR)]
    pictures, labels = [], []
    for t in range(frames):
        parts = []
        for person, color in zip(people, worn, strict=True):
            vertices = person.posed([t]).vertices[0]
            grown = vertices + CLOTH * normals(vertices, body.faces)
            parts.append(surface(grown, body.faces, lit(grown, body.faces, color)))
        caster = Caster(parts)
        labels.append(seen(caster, cameras, t))
        fine = cameras[[t]].resized(2 * size, 2 * size)
        rgba = caster.view(fine, 0).numpy().astype(float)
        rgba = rgba.reshape(size, 2, size, 2, 4).mean((1, 3))
        alpha = rgba[..., 3:] / 255
        picture = rgba[..., :3] + (1 - alpha) * behind + generator.normal(0, NOISE, (size, size, 3))
        pictures.append(torch.from_numpy(picture.round().clip(0, 255).astype(np.uint8)))
    return Recording(pictures, cameras, people, labels, source="benchmark")


def view(frames: int, size: int) -> Cameras:
    eye = torch.tensor([[0.0, 1.1, 4.2]]).expand(frames, 3)
    target = torch.tensor([[0.0, 0.9, 0.0]]).expand(frames, 3)
    return pinhole(look_at(eye, target, torch.tensor([0.0, 1.0, 0.0])), size, size, math.radians(38))


def seen(caster: Caster, cameras: Cameras, t: int) -> Tensor:
    """Labels: who is the nearest along the ray of each pixel."""
    width, height = cameras.size[t].tolist()
    rays = cameras.image_rays(t)
    _, face = caster.meet(rays.origins.double().numpy(), rays.directions.numpy())
    number = np.where(face >= 0, np.searchsorted(caster.first, face, side="right"), 0)
    return torch.from_numpy(number.astype(np.uint8)).reshape(height, width)


def shifted_prompts(recording: Recording, shift: float, seed: int = 0) -> list[list[Prompt | None]]:
    """Prompts of the naked bodies, each moved in the picture's plane by `shift` metres in a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for t in range(len(recording)):
        angle = 2 * math.pi * torch.rand(len(recording.people), generator=generator)
        parts, joints = [], []
        for person, a in zip(recording.people, angle.tolist(), strict=True):
            posed = person.posed([t])
            move = shift * torch.tensor([math.cos(a), math.sin(a), 0.0])
            parts.append(surface(posed.vertices[0] + move, person.body.faces, np.zeros((len(posed.vertices[0]), 3))))
            joints.append(projected(posed.joints[0] + move, recording.cameras, t))
        labels = seen(Caster(parts), recording.cameras, t)
        found.append(prompts_of(masks_of(labels, len(parts)), torch.stack(joints), generator))
    return found


def projected(points: Tensor, cameras: Cameras, t: int) -> Tensor:
    c2w, (fx, fy, cx, cy) = cameras.c2w[t], cameras.intrinsics[t].tolist()
    x, y, z = ((points - c2w[:, 3]) @ c2w[:, :3]).unbind(-1)
    return torch.stack([cx + fx * x / -z, cy - fy * y / -z], -1)


class Believed:
    """Finds what it is told, and so shows what others add."""

    def segment(self, image: Tensor, prompts: list[Prompt | None]) -> Tensor:
        empty = torch.zeros(image.shape[:2])
        return torch.stack([empty if p is None else p.mask for p in prompts]) * 24 - 12


VARIANTS: dict[str, Callable[[], Segmenter]] = {
    "the prompt itself": Believed,
    "background": Subtraction,
    "grabcut, told by the prompt alone": lambda: GrabCut(known=Known()),
    "grabcut, each frame by itself": GrabCut,
    "grabcut, moving camera": GrabCut,
    "grabcut, camera stands still": lambda: GrabCut(static=True),
}


def found_by(name: str, recording: Recording, prompts: list[list[Prompt | None]]) -> Tensor:
    """Labels [T, H, W]."""
    segmenter = VARIANTS[name]()
    if name in ("grabcut, told by the prompt alone", "grabcut, each frame by itself"):
        logits = [segmenter.segment(*pair) for pair in zip(recording.frames, prompts, strict=True)]
    else:
        logits = list(segment_frames(segmenter, recording.frames, prompts))
    return torch.stack([labels_of(each) for each in logits])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--alike", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    iou = torch.zeros(len(VARIANTS), len(SHIFTS), options.seeds)
    seconds = torch.zeros(len(VARIANTS))
    for seed in range(options.seeds):
        recording = make_clip(seed=seed, alike=options.alike)
        truth = masks_of(torch.stack(recording.labels or []), 2)
        for column, shift in enumerate(SHIFTS):
            prompts = shifted_prompts(recording, shift, seed)
            for row, name in enumerate(VARIANTS):
                start = time.process_time()
                labels = found_by(name, recording, prompts)
                seconds[row] += time.process_time() - start
                iou[row, column, seed] = agreement(masks_of(labels, 2), truth).mean()["iou"]
    asked = options.seeds * len(SHIFTS) * truth[..., 0, 0].numel()
    print("| | " + " | ".join(f"{100 * shift:g} cm" for shift in SHIFTS) + " | s a person and frame |")
    print("|---" * (len(SHIFTS) + 2) + "|")
    for row, name in enumerate(VARIANTS):
        cells = [f"{value:.3f}" for value in iou[row].mean(-1)] + [f"{seconds[row] / asked:.3f}"]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
