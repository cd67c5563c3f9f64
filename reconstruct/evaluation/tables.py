"""Several runs side by side: a row for each, a column for each number, an arrow for the way in which it is better."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from fieldcast.fields.tables import Column, markdown

# Keys are where numbers are in a report, with dots; {row} is whose they are: `found`, or a body's without clothes.
SHAPE = (
    Column("V-IoU ↑", "surfaces.{row}.mean.v_iou", 3),
    Column("Chamfer, cm ↓", "surfaces.{row}.mean.chamfer_cm", 2),
    Column("P2S, cm ↓", "surfaces.{row}.mean.p2s_cm", 2),
    Column("normals ↑", "surfaces.{row}.mean.normal_consistency", 3),
    Column("aligned V-IoU ↑", "surfaces.{row}.mean.aligned.v_iou", 3),
    Column("aligned Chamfer, cm ↓", "surfaces.{row}.mean.aligned.chamfer_cm", 2),
    Column("aligned P2S, cm ↓", "surfaces.{row}.mean.aligned.p2s_cm", 2),
    Column("aligned normals ↑", "surfaces.{row}.mean.aligned.normal_consistency", 3),
)
POSES = (
    Column("MPJPE, mm ↓", "poses.{row}.mean.mpjpe_mm", 1),
    Column("rooted MPJPE, mm ↓", "poses.{row}.mean.mpjpe_rooted_mm", 1),
    Column("MVE, mm ↓", "poses.{row}.mean.mve_mm", 1),
    Column("rooted MVE, mm ↓", "poses.{row}.mean.mve_rooted_mm", 1),
    Column("acceleration error, m/s² ↓", "poses.{row}.mean.acceleration_m_s2", 2),
    Column("PCDR ↑", "pairs.{row}.pcdr", 3),
    Column("contact, mm ↓", "pairs.{row}.contact_mm", 1),
    Column("gap error, mm ↓", "pairs.{row}.gap_error_mm", 1),
    Column("penetration, mm ↓", "pairs.{row}.penetration_mm", 1),
    Column("inside, % ↓", "pairs.{row}.penetration_percent", 2),
)
PICTURES = (
    Column("mask IoU ↑", "masks.mean.mask_iou", 3),
    Column("recall ↑", "masks.mean.mask_recall", 3),
    Column("F1 ↑", "masks.mean.mask_f1", 3),
    Column("input PSNR, dB ↑", "pictures.psnr_db", 2),
    Column("SSIM ↑", "pictures.ssim", 3),
    Column("people PSNR, dB ↑", "pictures.people_psnr_db", 2),
    Column("people SSIM ↑", "pictures.people_ssim", 3),
    Column("new views PSNR, dB ↑", "views.psnr_db", 2),
    Column("SSIM ↑", "views.ssim", 3),
    Column("people PSNR, dB ↑", "views.people_psnr_db", 2),
    Column("people SSIM ↑", "views.people_ssim", 3),
)
TEMPLATES = {
    "given_body": "body as given, no clothes",
    "true_body": "true body, no clothes",
}


def table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: reports by the names of their runs, in three tables: surfaces, poses, pictures.

    Below the surfaces are those of bodies without clothes: a run's own, refined one, and the first run's given and true
    ones. Below the poses are those that the first run was given, and what the truth itself has.
    """
    first = next(iter(runs.values()), {})
    own = [(f"{name}: its body, no clothes", report, "found_body") for name, report in runs.items()]
    bodies = [(title, first, row) for row, title in TEMPLATES.items()]
    found = [(name, report, "found") for name, report in runs.items()]
    start = [("as given", first, "given"), ("truth", first, "truth")]
    parts = [
        ("Surfaces", [*found, *own, *bodies], SHAPE),
        ("Poses and people together", [*found, *start], POSES),
        ("Masks and pictures", found, PICTURES),
    ]
    made = [
        (title, markdown("run", columns, [(name, partial(_value, report, row)) for name, report, row in rows]))
        for title, rows, columns in parts
    ]
    return "\n\n".join([*(f"{title}\n\n{text}" for title, text in made if text), *_notes(runs)]) + "\n"


def _value(report: Mapping[str, Any], row: str, place: str) -> float | None:
    """What a report has at a key, or None."""
    here: Any = report
    for key in place.format(row=row).split("."):
        here = here.get(key) if isinstance(here, Mapping) else None
    return here if isinstance(here, (int, float)) else None


def _notes(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the means leave out: people who were not found, and frames in which somebody has no surface."""
    notes = []
    for name, report in runs.items():
        missing = report["people"]["missing"]
        share = _value(report, "found", "surfaces.{row}.mean.found_share")
        if missing:
            notes.append(f"{name}: means are without {', '.join(missing)}, who was not found.")
        if share is not None and share < 1:
            notes.append(f"{name}: distances are of the {100 * share:.0f} % of people's frames that have a surface.")
    return notes
