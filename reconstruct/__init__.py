"""Several people from one video, as a layered scene: a field for each person, and one for what is behind them.

recording (frames, cameras, masks, bodies) -> avatars and a background -> a Field at each frame -> files

from fieldcast.reconstruct import Job, open_recording, reconstruct
report = reconstruct(open_recording(Path("dance")), Path("people"), Job(minutes=20))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldcast.reconstruct.fitting.fit import Fitted as Fitted
    from fieldcast.reconstruct.fitting.fit import Plan as Plan
    from fieldcast.reconstruct.fitting.fit import fit_people as fit_people
    from fieldcast.reconstruct.outputs.reconstruction import Reconstruction as Reconstruction
    from fieldcast.reconstruct.outputs.reconstruction import open_reconstruction as open_reconstruction
    from fieldcast.reconstruct.outputs.report import Report as Report
    from fieldcast.reconstruct.pipeline import Job as Job
    from fieldcast.reconstruct.pipeline import reconstruct as reconstruct
    from fieldcast.reconstruct.recordings.opening import open_recording as open_recording
    from fieldcast.reconstruct.recordings.recording import Person as Person
    from fieldcast.reconstruct.recordings.recording import Recording as Recording

# Where each public name lives. Nothing is imported before it is asked for: fields of people are kinds of fields, and
# what knows of kinds must not need all of this.
_HOMES = {
    "Fitted": "fieldcast.reconstruct.fitting.fit",
    "Job": "fieldcast.reconstruct.pipeline",
    "Person": "fieldcast.reconstruct.recordings.recording",
    "Plan": "fieldcast.reconstruct.fitting.fit",
    "Reconstruction": "fieldcast.reconstruct.outputs.reconstruction",
    "Recording": "fieldcast.reconstruct.recordings.recording",
    "Report": "fieldcast.reconstruct.outputs.report",
    "fit_people": "fieldcast.reconstruct.fitting.fit",
    "open_reconstruction": "fieldcast.reconstruct.outputs.reconstruction",
    "open_recording": "fieldcast.reconstruct.recordings.opening",
    "reconstruct": "fieldcast.reconstruct.pipeline",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fieldcast.reconstruct' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
