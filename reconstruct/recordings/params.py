"""The numbers of a person on disk: shape (S), pose (T, J, 3), place (T, 3) and present (T), in an .npz of float32.

Nothing is known of somebody where they are not present: what the arrays hold there may be NaN, and is replaced by the
numbers of the nearest frame in which they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64

from fieldcast.errors import InputError
from fieldcast.fields.files.checkpoints.arrays import Archive, open_archive
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.recordings.recording import Person

ARRAYS = ("shape", "pose", "place", "present")


def read_person(path: Path, name: str, body: Body, frames: int) -> Person:
    """The person of a file, who must have `frames` frames and the joints and numbers of shape of `body`."""
    archive = open_archive(path)
    if set(archive.members) != set(ARRAYS):
        raise InputError(f"{path}: expected the arrays {', '.join(ARRAYS)}, found {', '.join(sorted(archive.members))}")
    joints = len(body.parents)
    _expect(archive, "shape", (body.shapes,), f"the numbers of shape of {body.name}")
    _expect(archive, "pose", (frames, joints, 3), f"frames, joints of {body.name}, axis-angle")
    _expect(archive, "place", (frames, 3), "frames, x y z")
    _expect(archive, "present", (frames,), "frames")
    arrays = {key: archive.read(key) for key in ARRAYS}
    if arrays["present"].dtype != np.bool_:
        raise InputError(f"{path}: present: expected true and false, found numbers ({arrays['present'].dtype})")
    return person_of(name, body, arrays, str(path))


def person_of(name: str, body: Body, arrays: dict[str, np.ndarray], source: str) -> Person:
    """A person of arrays of the right sizes: their values checked, and gaps closed. source: for messages."""
    present = arrays["present"].astype(bool)
    if not present.any():
        raise InputError(f"{source}: present: expected {name} in at least one frame, found none of {len(present)}")
    with np.errstate(over="ignore"):
        shape, pose, place = (arrays[key].astype(np.float32) for key in ARRAYS[:3])
    if not np.isfinite(shape).all():
        raise InputError(f"{source}: shape: expected finite numbers, found NaN or infinity")
    for key, values in (("pose", pose), ("place", place)):
        bad = (present & ~np.isfinite(values.reshape(len(values), -1)).all(1)).nonzero()[0]
        if len(bad):
            rest = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise InputError(
                f"{source}: {key}: expected finite numbers where {name} is present, found NaN or infinity in frame "
                f"{bad[0]}{rest}"
            )
    nearest = nearest_present(present)
    return Person(name, body, *map(torch.from_numpy, (shape, pose[nearest], place[nearest], present)))


def nearest_present(present: Bool[np.ndarray, " t"]) -> Int64[np.ndarray, " t"]:
    """For each frame the nearest one in which somebody is present; of two as near, the earlier.

    >>> nearest_present(np.array([False, True, False, False, True])).tolist()
    [1, 1, 1, 4, 4]
    """
    there = present.nonzero()[0]
    found: Int64[np.ndarray, " t"] = there[np.abs(np.arange(len(present))[:, None] - there).argmin(1)].astype(np.int64)
    return found


def closed(person: Person) -> Person:
    """Somebody with the numbers of the nearest frame in which they are present, wherever they are not."""
    if bool(person.present.all()) or not bool(person.present.any()):
        return person
    nearest = torch.from_numpy(nearest_present(person.present.cpu().numpy())).to(person.place.device)
    return replace(person, pose=person.pose[nearest], place=person.place[nearest])


def write_person(person: Person, path: Path) -> None:
    """The .npz of a person, in a folder that is not yet seen by others."""
    arrays = {key: getattr(person, key).detach().cpu() for key in ARRAYS}
    numbers = {key: (value if key == "present" else value.float()).numpy() for key, value in arrays.items()}
    np.savez(path, allow_pickle=False, **numbers)


def _expect(archive: Archive, key: str, shape: tuple[int, ...], meaning: str) -> None:
    found = archive.members[key].shape
    if found != shape:
        raise InputError(f"{archive.path}: {key}: expected shape {list(shape)} ({meaning}), found {list(found)}")
