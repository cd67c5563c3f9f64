"""What a recording must have for its people to be fitted, looked at before anything is trained."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fieldcast.errors import InputError
from fieldcast.reconstruct.recordings.files import require_people
from fieldcast.reconstruct.recordings.recording import Recording
from fieldcast.reconstruct.recordings.silhouettes import silhouettes
from fieldcast.reconstruct.recordings.steadiness import MOVES
from fieldcast.reconstruct.segments.prompts import LEAST


def require_fittable(recording: Recording) -> None:
    """Raises InputError for a recording of nobody, of somebody whose body is seen in no frame, or whose camera moves
    and nobody knows how.
    """
    require_people(recording)
    if recording.static and any(MOVES in line for line in recording.warnings):
        raise InputError(
            f"{recording.source}: the camera moves, and how is not known: give its places in a transforms.json "
            "(--cameras), which COLMAP or nerfstudio make"
        )
    unseen = {p: person.name for p, person in enumerate(recording.people)}
    for p, name in unseen.items():
        if not bool(recording.people[p].present.any()):
            raise InputError(
                f"{_source(recording)}: {name}: expected to be present in at least one frame, found none; give poses "
                "of theirs, or take them out of `people`"
            )
    for frame in range(len(recording)):
        if not unseen:
            return
        labels = silhouettes(recording, frame).labels
        unseen = {p: name for p, name in unseen.items() if int((labels == p + 1).sum()) < LEAST}
    for name in unseen.values():
        raise InputError(
            f"{_source(recording)}: {name}: expected their body to be seen in at least one frame, found it outside of "
            "the picture or hidden in all; correct poses or cameras (see `reconstruct check`), or take them out of "
            "`people`"
        )


def require_found(recording: Recording, shares: Float[Tensor, "t p h w"]) -> None:
    """Raises InputError for somebody whom the masks show nowhere. shares: who is where."""
    for person, most in zip(recording.people, shares.amax((0, 2, 3)).tolist(), strict=True):
        if most < 0.5:
            raise InputError(
                f"{_source(recording)}: {person.name}: expected at least one pixel that shows them, found none in any "
                "frame; give masks, correct their poses (see `reconstruct check`), or take them out of `people`"
            )


def _source(recording: Recording) -> str:
    return recording.source or "the recording"
