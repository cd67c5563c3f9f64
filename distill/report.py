"""What a conversion was worth: numbers, and pictures of teacher and student side by side."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image as Picture
from torch import Tensor

from fieldcast.distill.fidelity import Fidelity, compare, comparison_views, occupancy_iou
from fieldcast.errors import InputError
from fieldcast.fields.field import Field
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.images import eight_bit, save_png
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.rendering import Image

ERROR_GAIN = 5.0  # how much errors are amplified to be seen


@dataclass(frozen=True)
class Report:
    """fidelity of student to teacher; occupancy_iou, 0 to 1; lost: one line for each thing the target cannot hold."""

    teacher: dict[str, Any]
    student: dict[str, Any]
    fidelity: Fidelity
    occupancy_iou: float
    lost: list[str]
    run: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        f = self.fidelity
        fidelity = {"psnr": f.psnr, "ssim": f.ssim, "depth_error": f.depth_error, "views": f.views}
        parts = {"teacher": self.teacher, "student": self.student}
        return {**self.run, "fidelity": fidelity, "occupancy_iou": self.occupancy_iou, **parts, "lost": self.lost}

    def rows(self) -> list[dict[str, object]]:
        """Teacher and student as the lines of a table."""
        return [
            {
                "": name,
                "kind": side["kind"],
                "parameters": f"{side['parameters']:,}",
                "MB": f"{side['bytes'] / 1e6:.1f}",
                "s per view": f"{side['seconds_per_view']:.2f}",
            }
            for name, side in (("teacher", self.teacher), ("student", self.student))
        ]

    def summary(self) -> str:
        f = self.fidelity
        return (
            f"fidelity {f.psnr:.2f} dB, SSIM {f.ssim:.4f}, depth error {f.depth_error:.4f}, over {f.views} views that "
            f"were not trained on; occupancy IoU {self.occupancy_iou:.3f}"
        )


def report(
    teacher: Field, student: Field, *, views: int, seed: int, run: dict[str, Any], progress: Progress = silent
) -> Report:
    """Compares two fields on fresh views and in space. run: what else is known, such as seconds and the recipe."""
    fidelity = compare(teacher, student, comparison_views(teacher, views, seed), progress=progress)
    return Report(
        teacher=describe(teacher, fidelity.seconds[0]),
        student=describe(student, fidelity.seconds[1]),
        fidelity=fidelity,
        occupancy_iou=occupancy_iou(teacher, student),
        lost=lost(teacher, student),
        run=run,
    )


def describe(field: Field, seconds: float) -> dict[str, Any]:
    """A field in numbers; seconds: what one view takes to render."""
    size = sum(t.numel() * t.element_size() for t in field.state_dict().values())
    return {
        "kind": field.spec.kind,
        "parameters": field.parameter_count(),
        "bytes": size,
        "seconds_per_view": seconds,
    }


def lost(teacher: Field, student: Field) -> list[str]:
    """What the student's kind cannot hold of the teacher, one line each."""
    lines = []
    if teacher.shares_features and not student.shares_features:
        degree = student.spec.sizes.degree
        lines.append(f"view-dependent colour beyond spherical harmonics of degree {degree}")
        lines.append("the features between the blocks: the student has none to share with further conversions")
    resolution = getattr(student.spec.sizes, "resolution", None)
    if resolution:
        cell = 2 * student.spec.space.unit / resolution
        lines.append(f"detail finer than its cells, {cell:.3g} world units at {resolution} a side")
    return lines


@runtime_checkable
class Comparison(Protocol):
    """What a page is written about: a `Report`, or one of another kind of target."""

    @property
    def fidelity(self) -> Fidelity: ...
    @property
    def teacher(self) -> dict[str, Any]: ...
    @property
    def student(self) -> dict[str, Any]: ...
    @property
    def lost(self) -> list[str]: ...
    @property
    def run(self) -> dict[str, Any]: ...
    def summary(self) -> str: ...


def write_report(result: Comparison, path: Path, title: str, force: bool = False) -> None:
    """An `.html` page that needs no other file, or a `.png` with the pictures alone."""
    check_report_name(path)
    rows = [triptych(a, b) for a, b in result.fidelity.pairs]
    if path.suffix.lower() == ".png":
        save_png(torch.cat(rows), path, force)
        return
    with atomic_path(path, force) as stump:
        stump.write_text(_page(result, rows, title), encoding="utf-8")


def check_report_name(path: Path) -> None:
    if path.suffix.lower() not in (".html", ".png"):
        raise InputError(f"{path}: expected a report name that ends in .html or .png")


def triptych(teacher: Image, student: Image) -> Tensor:
    """Teacher, student and their amplified difference, side by side: [H, 3 W, 3]."""
    difference = ((teacher.rgb - student.rgb).abs() * ERROR_GAIN).clamp(0, 1)
    return torch.cat([teacher.rgb.clamp(0, 1), student.rgb.clamp(0, 1), difference], 1)


def _page(result: Comparison, rows: list[Tensor], title: str) -> str:
    sides = "".join(
        f"<tr><th>{name}</th><td>{side['kind']}</td><td>{side['parameters']:,}</td>"
        f"<td>{side['bytes'] / 1e6:.1f} MB</td><td>{side['seconds_per_view']:.2f} s</td></tr>"
        for name, side in (("teacher", result.teacher), ("student", result.student))
    )
    run = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in result.run.items())
    pictures = "".join(
        f'<figure><img src="data:image/png;base64,{_png(row)}"><figcaption>{value:.2f} dB</figcaption></figure>'
        for row, value in zip(rows, result.fidelity.psnr_per_view, strict=True)
    )
    missing = "".join(f"<li>{html.escape(line)}</li>" for line in result.lost)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;margin:1rem 0}}td,th{{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ccc}}
img{{width:100%}}figure{{margin:1rem 0}}figcaption{{color:#555}}</style>
<h1>{html.escape(title)}</h1><p>{html.escape(result.summary())}.</p>
<table><tr><th></th><th>kind</th><th>parameters</th><th>size</th><th>a view</th></tr>{sides}</table>
<table>{run}</table>{"<p>The target cannot hold:</p><ul>" + missing + "</ul>" if missing else ""}
<p>Teacher, student, and their difference {ERROR_GAIN:.0f} times amplified:</p>{pictures}</html>"""


def _png(picture: Tensor) -> str:
    buffer = io.BytesIO()
    Picture.fromarray(eight_bit(picture).numpy()).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
