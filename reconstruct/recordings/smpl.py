"""Poses and shapes as files of the SMPL family write them, for whichever body of that family somebody has.

SMPL has 24 joints, SMPL-H 52 and SMPL-X 55. The first 22 are the same in all of them; after these come two hands in
SMPL, 30 joints of fingers in SMPL-H, and jaw, eyes and the same fingers in SMPL-X.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from fieldcast.errors import InputError
from fieldcast.reconstruct.bodies.body import Body
from fieldcast.reconstruct.bodies.reading import open_body

COMMON = 22
FINGERS = {52: 22, 55: 25}  # where they begin, by the number of joints
JOINTS = (24, 52, 55)


def smpl_body(name: str | None, source: Path) -> Body:
    """The body that the poses of a file are of, which must be of the family."""
    if name is None:
        raise InputError(f"{source}: poses here are those of SMPL, whose file must be named (--body): it is not ours")
    body = open_body(name, Path())
    if len(body.parents) not in JOINTS:
        raise InputError(
            f"{source}: expected a body of the SMPL family, with 24, 52 or 55 joints; {name} has {len(body.parents)}"
        )
    return body


def smpl_pose(pose: Float[np.ndarray, "t n"], body: Body, source: Path) -> Float64[np.ndarray, "t j 3"]:
    """The axis-angle vectors of all joints of the body, from those of another of the family; the rest is at rest."""
    given, joints = pose.shape[1] // 3, len(body.parents)
    if pose.shape[1] % 3 or given not in (COMMON, *JOINTS):
        sizes = ", ".join(str(3 * n) for n in (COMMON, *JOINTS))
        raise InputError(f"{source}: expected poses of {sizes} numbers, found {pose.shape[1]}")
    vectors = pose.reshape(len(pose), given, 3)
    found = np.zeros((len(pose), joints, 3))
    found[:, :COMMON] = vectors[:, :COMMON]
    if given == joints:
        found[:] = vectors
    elif given in FINGERS and joints in FINGERS:
        found[:, FINGERS[joints] :][:, :30] = vectors[:, FINGERS[given] :][:, :30]
    return found


def smpl_shape(betas: Float[np.ndarray, " n"], body: Body) -> Float64[np.ndarray, " s"]:
    """The numbers of shape that the body has; those that a file leaves out are 0, further ones are of no use."""
    found = np.zeros(body.shapes)
    count = min(len(betas), body.shapes)
    found[:count] = betas[:count]
    return found
