"""The demo: the built-in scene, fitted, converted to every other kind and rendered."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

import fieldcast
from fieldcast.distill.convert import convert
from fieldcast.distill.report import report, write_report
from fieldcast.errors import InputError
from fieldcast.fields.evaluate import evaluate
from fieldcast.fields.field import Field
from fieldcast.fields.files import Provenance, save
from fieldcast.fields.files.images import save_png
from fieldcast.fields.files.video import save_mp4
from fieldcast.fields.fit import fit, spec_for
from fieldcast.fields.paths import turntable
from fieldcast.fields.progress import Progress
from fieldcast.fields.rendering import render
from fieldcast.fields.scenes.demo import demo_scene

# Sizes that two cores train in under a minute each; the defaults are the papers', for real work.
SOURCE = {"log2_table": "16", "levels": "8", "channels": "4", "finest_resolution": "512"}
TARGETS: dict[str, tuple[int, dict[str, str]]] = {  # steps and sizes
    "vm": (300, {"resolution": "128"}),
    "cp": (700, {"resolution": "128", "density_channels": "32", "appearance_channels": "96"}),
    "voxels": (200, {}),
    "planes": (300, {"resolutions": "64,128"}),
    "hybrid": (300, {"levels": "4", "log2_table": "15"}),
    "mlp": (1500, {"layers": "4", "width": "128", "skip": "2"}),
}
FIT_STEPS, TEST_VIEWS = 700, 6
Shown = Callable[[str], AbstractContextManager[Progress]]


def run_demo(out: Path, seed: int, device: str, force: bool, shown: Shown) -> list[dict[str, Any]]:
    """Fills the folder `out`; returns a table, one row a field. shown: gives a progress for a title."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder, found a file")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise InputError(f"{out} is not empty; use --force to replace what the demo makes")
    out.mkdir(parents=True, exist_ok=True)
    with shown("scene") as progress:
        scene = demo_scene("train", progress=progress)
        test = demo_scene("test", progress=progress).spread(TEST_VIEWS)
    start = time.perf_counter()
    with shown("fit hashgrid") as progress:
        spec = spec_for(scene, "hashgrid", steps=256).resized(SOURCE)
        source = fit(scene, spec, steps=FIT_STEPS, seed=seed, device=device, progress=progress)
    rows = [_row(source, time.perf_counter() - start, test, None)]
    _save(source, out / "demo-hashgrid.safetensors", "demo")
    pictures = [_picture(source)]
    for kind in TARGETS:
        row, picture = _converted(source, kind, seed, out, test, shown)
        rows.append(row)
        pictures.append(picture)
    save_png(torch.cat(pictures, 1), out / "all-kinds.png", force=True)
    with shown("turntable") as progress:
        images = render(source, turntable(source, 36, (200, 200)), progress=progress)
        save_mp4((image.rgb.clamp(0, 1) for image in images), out / "turntable.mp4", fps=18, force=True)
    return rows


def _converted(
    source: Field, kind: str, seed: int, out: Path, test: Any, shown: Shown
) -> tuple[dict[str, Any], torch.Tensor]:
    from fieldcast.distill.convert import resized

    start, (steps, sizes) = time.perf_counter(), TARGETS[kind]
    with shown(f"to {kind}") as progress:
        student = convert(source, resized(source.spec, kind, sizes), steps=steps, seed=seed, progress=progress)
    seconds = time.perf_counter() - start
    result = report(source, student, views=3, seed=seed, run={"seconds": round(seconds, 1)})
    write_report(result, out / f"demo-{kind}.html", f"demo: hashgrid to {kind}", force=True)
    _save(student, out / f"demo-{kind}.safetensors", "demo-hashgrid.safetensors")
    return _row(student, seconds, test, result.fidelity.psnr), _picture(student)


def _row(field: Field, seconds: float, test: Any, fidelity: float | None) -> dict[str, Any]:
    return {
        "kind": field.spec.kind,
        "parameters": field.parameter_count(),
        "seconds": round(seconds, 1),
        "fidelity dB": "-" if fidelity is None else round(fidelity, 2),
        "test dB": round(evaluate(field, test).psnr, 2),
    }


def _picture(field: Field) -> torch.Tensor:
    (image,) = render(field, turntable(field, 8, (200, 200))[[7]])
    return image.rgb.clamp(0, 1).cpu()


def _save(field: Field, path: Path, source: str) -> None:
    save(field, path, provenance=Provenance(source=source, version=fieldcast.__version__), force=True)
