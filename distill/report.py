"""What a conversion was worth: numbers, and pictures of teacher and student side by side."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor, nn

from fieldcast.distill.fidelity import Fidelity, compare, comparison_views, occupancy_iou
from fieldcast.distill.verdict import Verdict
from fieldcast.errors import InputError
from fieldcast.fields.cut import Cut
from fieldcast.fields.field import Field
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.fields.files.images import eight_bit, save_png
from fieldcast.fields.mesh import Mesh
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Renderable
from fieldcast.fields.rendering import Image
from fieldcast.fields.scenes.mesh import Surfaces
from fieldcast.fields.scenes.surfaces import Surface
from fieldcast.fields.space import Space
from fieldcast.fields.splats import Splats

ERROR_GAIN = 5.0  # how much errors are amplified to be seen


@dataclass(frozen=True)
class Report:
    """fidelity of student to teacher; verdict: whether that is enough; occupancy_iou: of two fields, 0 to 1; lost: a
    line for each thing that the target cannot hold; run: what else is known.
    """

    teacher: dict[str, Any]
    student: dict[str, Any]
    fidelity: Fidelity
    verdict: Verdict
    occupancy_iou: float | None
    lost: list[str]
    run: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        f = self.fidelity
        fidelity = {"psnr": f.psnr, "ssim": f.ssim, "depth_error": f.depth_error, "views": f.views}
        parts = {"teacher": self.teacher, "student": self.student}
        judged = {"fidelity": fidelity, "verdict": self.verdict.to_json(), "occupancy_iou": self.occupancy_iou}
        return {**self.run, **judged, **parts, "lost": self.lost}

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
        overlap = "" if self.occupancy_iou is None else f"; occupancy IoU {self.occupancy_iou:.3f}"
        return (
            f"fidelity {f.psnr:.2f} dB, SSIM {f.ssim:.4f}, depth error {f.depth_error:.4f}, over {f.views} views that "
            f"were not trained on{overlap}"
        )

    def remarks(self) -> list[str]:
        """Lines to be told after the summary: what is known of the run, and the verdict."""
        return [*([self.run["note"]] if "note" in self.run else []), self.verdict.summary()]


def report(
    teacher: Field | Renderable,
    student: Field | Renderable | Mesh,
    *,
    views: int,
    seed: int,
    run: dict[str, Any],
    files: tuple[Path | None, Path | None] = (None, None),
    source_psnr: float | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compares two scenes on fresh views and, if both are fields, in space; with a mesh, in depth and distances.

    run: what else is known, such as seconds and the recipe. files: where the two are, if anywhere; a mesh is as large
    as its file. source_psnr: dB of the teacher against its images, if known.
    """
    if isinstance(student, Mesh | Surfaces) or isinstance(teacher, Surfaces):
        from fieldcast.distill.meshing.report import report_on_mesh  # which takes from here how sides are described

        return report_on_mesh(teacher, student, views=views, seed=seed, run=run, files=files, progress=progress)
    fidelity = compare(teacher, student, comparison_views(teacher, views, seed), progress=progress)
    return Report(
        teacher=describe(teacher, fidelity.seconds[0]),
        student=describe(student, fidelity.seconds[1]),
        fidelity=fidelity,
        verdict=Verdict(fidelity.psnr, source_psnr, isinstance(teacher, Field) and isinstance(student, Field)),
        occupancy_iou=occupancy_iou(teacher, student)
        if isinstance(teacher, Field) and isinstance(student, Field)
        else None,
        lost=lost(teacher, student),
        run=run,
    )


def describe(scene: Field | Renderable | Mesh, seconds: float, file: Path | None = None) -> dict[str, Any]:
    """A scene in numbers; seconds: what one view takes to render; file: that of a mesh, if there is one."""
    if isinstance(scene, Mesh | Surfaces):
        vertices = {"vertices": len(scene.vertices)} if isinstance(scene, Mesh) else {}
        size = file.stat().st_size if file else _bytes([scene] if isinstance(scene, Mesh) else scene.parts)
        numbers = {"parameters": scene.parameter_count(), "bytes": size, "seconds_per_view": seconds}
        return {"kind": "mesh", **vertices, "faces": len(scene), **numbers}
    module = scene if isinstance(scene, nn.Module) else nn.Module()
    return {
        "kind": kind_of(scene),
        "parameters": sum(p.numel() for p in module.parameters()),
        "bytes": sum(t.numel() * t.element_size() for t in module.state_dict().values()),
        "seconds_per_view": seconds,
    }


def _bytes(parts: Sequence[Mesh | Surface]) -> int:
    """What the arrays of triangles take in memory."""
    return sum(array.nbytes for part in parts for array in vars(part).values() if isinstance(array, np.ndarray))


def kind_of(scene: Field | Renderable) -> str:
    """What a scene is: the kind of a field, or `splats`."""
    return scene.spec.kind if isinstance(scene, Field) else type(scene).__name__.lower()


def lost(teacher: Field | Renderable, student: Field | Renderable | Mesh) -> list[str]:
    """What the student's kind cannot hold of the teacher, one line each."""
    lines: list[str] = []
    if isinstance(student, Splats):
        lines.append(f"view-dependent colour beyond spherical harmonics of degree {student.degree}")
    if isinstance(student, Mesh):
        lines += ["view-dependent colour: it is the mean over directions", "translucency: the surface is opaque"]
        lines += [] if teacher.space.bounded else ["the world outside of the box"]
    if not isinstance(student, Field):
        return lines
    if isinstance(teacher, Field) and teacher.shares_features and not student.shares_features:
        if hasattr(student.spec.sizes, "degree"):
            degree = student.spec.sizes.degree
            lines.append(f"view-dependent colour beyond spherical harmonics of degree {degree}")
        lines.append("the features between the blocks: the student has none to share with further conversions")
    whole = teacher.whole if isinstance(teacher, Cut) else teacher
    resolution = getattr(student.spec.sizes, "resolution", None)
    finest = (whole.spec.kind, getattr(whole.spec.sizes, "resolution", None)) if isinstance(whole, Field) else None
    if resolution and finest != (student.spec.kind, resolution):
        lines.append(f"detail finer than its cells, {_cells(student.spec.space, resolution)}")
    return lines


def _cells(space: Space, resolution: int | tuple[int, int, int]) -> str:
    """The size of the cells of a grid, and how many there are a side or along each axis."""
    if isinstance(resolution, int):
        return f"{2 * space.unit / resolution:.3g} world units at {resolution} a side"
    a = space.aabb
    largest = max((a[i + 3] - a[i]) / n for i, n in enumerate(resolution))
    return f"{largest:.3g} world units at {' x '.join(map(str, resolution))}"


@runtime_checkable
class Comparison(Protocol):
    """What a page is written about: a `Report`, or one of another kind of target."""

    @property
    def fidelity(self) -> Fidelity: ...
    @property
    def verdict(self) -> Verdict | None: ...
    @property
    def teacher(self) -> dict[str, Any]: ...
    @property
    def student(self) -> dict[str, Any]: ...
    @property
    def lost(self) -> list[str]: ...
    @property
    def run(self) -> dict[str, Any]: ...
    def to_json(self) -> dict[str, Any]: ...
    def rows(self) -> Any: ...
    def summary(self) -> str: ...
    def remarks(self) -> list[str]: ...


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
    remarks = "".join(f"<p>{html.escape(line)}.</p>" for line in result.remarks())
    missing = "".join(f"<li>{html.escape(line)}</li>" for line in result.lost)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;margin:1rem 0}}td,th{{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ccc}}
img{{width:100%}}figure{{margin:1rem 0}}figcaption{{color:#555}}</style>
<h1>{html.escape(title)}</h1><p>{html.escape(result.summary())}.</p>{remarks}
<table><tr><th></th><th>kind</th><th>parameters</th><th>size</th><th>a view</th></tr>{sides}</table>
<table>{run}</table>{"<p>The target cannot hold:</p><ul>" + missing + "</ul>" if missing else ""}
<p>Teacher, student, and their difference {ERROR_GAIN:.0f} times amplified:</p>{pictures}</html>"""


def _png(picture: Tensor) -> str:
    buffer = io.BytesIO()
    Picture.fromarray(eight_bit(picture).numpy()).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
