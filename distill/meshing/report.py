"""How alike a mesh and another scene are, whichever was made from the other: pictures, depth and distances."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from fieldcast.distill.fidelity import Fidelity, compare, comparison_views
from fieldcast.distill.meshing.sight import CAP, mistakes, sight_of
from fieldcast.distill.meshing.surface import Level
from fieldcast.distill.report import describe, lost
from fieldcast.fields.cameras import Cameras
from fieldcast.fields.field import Field
from fieldcast.fields.mesh import Mesh, Topology, topology
from fieldcast.fields.progress import Progress, silent
from fieldcast.fields.renderable import Renderable
from fieldcast.fields.scenes.mesh import Surfaces
from fieldcast.fields.scenes.surfaces import Surface
from fieldcast.fields.space import Space

POINTS = 1_000_000  # on the mesh, that distances are measured to
ASKED = 100_000  # points of a field's depth, and rays' ends on the mesh, that distances are measured from


@dataclass(frozen=True)
class Chamfer:
    """Mean distances, world units, over what the views see: from the field's depth to the mesh, and from the mesh to
    the field's depth; percent: the larger of them, of the longest side of the box.
    """

    field_to_mesh: float
    mesh_to_field: float
    percent: float


@dataclass(frozen=True)
class Depth:
    """median, mean: of the differences where both have a depth, world units (nan: nowhere); mean counts none as more
    than CAP half box sides. agree: the share of the rays that end in either that end in both.
    """

    median: float
    mean: float
    agree: float


@dataclass(frozen=True)
class Likeness:
    fidelity: Fidelity
    depth: Depth
    chamfer: Chamfer


@dataclass(frozen=True)
class MeshReport:
    """What a conversion to or from a mesh was worth. shape, level: of a mesh that was made; None for one that was read.

    level: None also where nobody says it. lost: one line for each thing that the target cannot hold.
    """

    teacher: dict[str, Any]
    student: dict[str, Any]
    likeness: Likeness
    shape: Topology | None
    level: Level | None
    lost: list[str]
    run: dict[str, Any]

    @property
    def fidelity(self) -> Fidelity:
        return self.likeness.fidelity

    @property
    def verdict(self) -> None:
        """None: nobody knows what a mesh is worth against images."""

    def to_json(self) -> dict[str, Any]:
        f = self.fidelity
        fidelity = {"psnr": f.psnr, "ssim": f.ssim, "depth_error": f.depth_error, "views": f.views}
        distances = {"depth": asdict(self.likeness.depth), "chamfer": asdict(self.likeness.chamfer)}
        made: dict[str, Any] = {}
        if self.shape:
            made["shape"] = {**asdict(self.shape), "watertight": self.shape.watertight}
        if self.level:
            made["level"] = asdict(self.level)
        sides = {"teacher": self.teacher, "student": self.student}
        return {**self.run, "fidelity": fidelity, **distances, **made, **sides, "lost": self.lost}

    def rows(self) -> dict[str, object]:
        """The lines of a table."""
        depth, chamfer, rows = self.likeness.depth, self.likeness.chamfer, dict[str, object]()
        if self.shape:
            rows |= {
                "vertices": f"{self.student['vertices']:,}",
                "faces": f"{self.student['faces']:,}",
                "components": self.shape.components,
                "watertight": f"{'yes' if self.shape.watertight else 'no'}, {self.shape.open_edges} open edges"
                f" and {self.shape.crossed_edges} of more than two faces",
            }
        if self.level:
            rows["surface at"] = f"density {self.level.density:.3g}, opacity {self.level.opacity:.2f} of a cell"
        return rows | {
            "depth": f"median error {depth.median:.3g}; {100 * depth.agree:.1f} % of rays end in both",
            "Chamfer": f"{chamfer.field_to_mesh:.3g} to the mesh, {chamfer.mesh_to_field:.3g} to the field,"
            f" {chamfer.percent:.2f} % of the box",
        }

    def summary(self) -> str:
        f = self.fidelity
        return (
            f"fidelity {f.psnr:.2f} dB, SSIM {f.ssim:.4f}, depth error {f.depth_error:.4f}, over {f.views} views that "
            "were not looked from before"
        )

    def remarks(self) -> list[str]:
        """Lines to be told after the summary: none."""
        return []


def report_on_mesh(
    teacher: Field | Renderable,
    student: Field | Renderable | Mesh,
    *,
    views: int,
    seed: int,
    run: dict[str, Any],
    files: tuple[Path | None, Path | None] = (None, None),
    progress: Progress = silent,
) -> MeshReport:
    """Compares a mesh with what it was made of, or with what was made of it; the rest is as in `report`."""
    shown = student.surfaces() if isinstance(student, Mesh) else student
    like = likeness(teacher, shown, comparison_views(teacher, views, seed), progress=progress)
    return MeshReport(
        teacher=describe(teacher, like.fidelity.seconds[0], files[0]),
        student=describe(student, like.fidelity.seconds[1], files[1]),
        likeness=like,
        shape=topology(student) if isinstance(student, Mesh) else None,
        level=run.get("level"),
        lost=lost(teacher, student),
        run={name: value for name, value in run.items() if name != "level"},
    )


def likeness(
    teacher: Field | Renderable, student: Field | Renderable, cameras: Cameras, *, progress: Progress = silent
) -> Likeness:
    """Looks at a mesh, which is one of the two, and at what is compared with it, from the same cameras."""
    fidelity, first = compare(teacher, student, cameras, progress=progress), isinstance(teacher, Surfaces)
    mesh, other = (teacher, student) if first else (student, teacher)
    assert isinstance(mesh, Surfaces)
    sight = sight_of(other.space, cameras, [pair[first] for pair in fidelity.pairs])
    t, _ = sight.hits(mesh.caster)
    wrong, both = mistakes(sight, t, CAP * other.space.unit)
    median = float(np.median(wrong[both])) if both.any() else math.nan
    depth = Depth(median, float(wrong.mean()) if len(wrong) else math.nan, float(both.mean()) if len(both) else 1.0)
    return Likeness(fidelity, depth, chamfer(sight.points(sight.depth), sight.points(t), mesh.parts, other.space))


def chamfer(
    field: Float64[np.ndarray, "p 3"], mesh: Float64[np.ndarray, "q 3"], surfaces: list[Surface], space: Space
) -> Chamfer:
    """Between points where rays end in a field, points where they end in a mesh, and the whole mesh."""
    from scipy.spatial import cKDTree

    if not len(field) or not len(mesh):
        return Chamfer(math.nan, math.nan, math.nan)
    there = cKDTree(scattered(surfaces, POINTS)).query(_thinned(field))[0].mean()
    back = cKDTree(field).query(_thinned(mesh))[0].mean()
    return Chamfer(float(there), float(back), float(100 * max(there, back) / (2 * space.unit)))


def scattered(surfaces: list[Surface], count: int) -> Float64[np.ndarray, "n 3"]:
    """`count` points spread evenly over surfaces, and their corners; the same ones each time."""
    generator = np.random.default_rng(0)
    a, b, c = np.concatenate([s.corners for s in surfaces]).transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1).cumsum()
    even = (np.arange(count) + generator.random(count)) / count * area[-1]
    face = np.searchsorted(area, even).clip(0, len(area) - 1)
    u, v = generator.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    inside = a[face] + u * (b - a)[face] + v * (c - a)[face]
    points: Float64[np.ndarray, "n 3"] = np.concatenate([inside, a, b, c])
    return points


def _thinned(points: Float64[np.ndarray, "p 3"]) -> Float64[np.ndarray, "q 3"]:
    """At most ASKED of the points."""
    return points[:: -(-len(points) // ASKED)]
