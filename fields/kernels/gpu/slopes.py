"""The derivatives of a trilinear interpolation on CUDA.

Letters: `v011` the value at the corner that is the lower one along x and the upper one along y and z; x, y, z the
weights of the upper corners.
"""

from __future__ import annotations

from typing import Any

import triton.language as tl

from fieldcast.fields.kernels.gpu.launch import jit


@jit
def slopes(
    v000: tl.tensor,
    v001: tl.tensor,
    v010: tl.tensor,
    v011: tl.tensor,
    v100: tl.tensor,
    v101: tl.tensor,
    v110: tl.tensor,
    v111: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    z: tl.tensor,
) -> Any:
    """The derivatives by x, y and z, from differences along edges: exactly 0 where all corners are equal."""
    along_x = (1 - z) * ((1 - y) * (v100 - v000) + y * (v110 - v010)) + z * (
        (1 - y) * (v101 - v001) + y * (v111 - v011)
    )
    along_y = (1 - z) * ((1 - x) * (v010 - v000) + x * (v110 - v100)) + z * (
        (1 - x) * (v011 - v001) + x * (v111 - v101)
    )
    along_z = (1 - y) * ((1 - x) * (v001 - v000) + x * (v101 - v100)) + y * (
        (1 - x) * (v011 - v010) + x * (v111 - v110)
    )
    return along_x, along_y, along_z
