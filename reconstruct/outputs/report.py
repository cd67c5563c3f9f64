"""What is to be said of a reconstruction: report.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fieldcast
from fieldcast.console import jsonable
from fieldcast.fields.files.atomic import atomic_path
from fieldcast.reconstruct.outputs.rig import Kept


@dataclass(frozen=True)
class OfPerson:
    """One person. frames_present: in how many frames they are known to be. vertices, faces: of their mesh. rig: what of
    their weights the animated file holds; None without one. begun, sure: where the first poses come from, in a
    sentence, and how sure that is, 0 to 1; None where they were given.
    """

    name: str
    frames_present: int
    vertices: int
    faces: int
    rig: Kept | None = None
    begun: str | None = None
    sure: float | None = None


@dataclass(frozen=True)
class Report:
    """source: what was reconstructed. width_px, height_px: of its frames. seconds: what each step took. metrics: by
    their names, with their units in them (`chamfer_cm`). files: what was written, by what it is. warnings: a line each.
    """

    source: str
    frames: int
    fps: float
    width_px: int
    height_px: int
    people: tuple[OfPerson, ...]
    seconds: Mapping[str, float]
    peak_memory_mb: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words; lengths in metres unless a key says otherwise, and null where there is no number."""
        plain: dict[str, Any] = jsonable(asdict(self))
        return {"version": fieldcast.__version__, **plain}

    def summary(self) -> dict[str, Any]:
        """What a person wants to know first."""
        seen: Mapping[str, Any] = self.metrics.get("seen", {})
        numbers = {"PSNR of people, dB": "people_psnr_db", "PSNR, dB": "psnr_db", "mask agreement": "mask_agreement"}
        sure = {
            f"{person.name} begun": f"{person.begun} ({person.sure:.0%} sure)" for person in self.people if person.begun
        }
        return {
            "frames": self.frames,
            "people": ", ".join(person.name for person in self.people),
            **sure,
            **{name: seen[key] for name, key in numbers.items() if seen.get(key) is not None},
            **self._truth(),
            "steps": self.settings.get("steps"),
            "seconds": self.seconds.get("all"),
            "peak memory, MB": self.peak_memory_mb,
        }

    def _truth(self) -> dict[str, Any]:
        """The numbers by which reconstructions are compared most, where the truth is known."""
        truth = self.metrics.get("truth")
        if truth is None:
            return {}
        surfaces, poses = truth["surfaces"]["found"]["mean"], truth["poses"]
        return {
            "Chamfer to the truth, cm": surfaces.get("chamfer_cm"),
            "V-IoU": surfaces.get("v_iou"),
            "joints off, mm": poses["found"]["mean"].get("mpjpe_mm"),
            "joints off as given, mm": poses["given"]["mean"].get("mpjpe_mm"),
        }


def write_report(report: Report, path: Path, force: bool = False) -> None:
    """The report as a JSON file."""
    write_json(report.to_json(), path, force)


def write_json(value: Mapping[str, Any], path: Path, force: bool = False) -> None:
    """Plain numbers and words as a JSON file."""
    with atomic_path(path, force) as stump:
        stump.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
