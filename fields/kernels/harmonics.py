"""Real spherical harmonics, the direction encoding of most kinds."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fieldcast.fields.kernels.compiled import Array, arrays, kernel, runs_compiled


def harmonics(d: Float[Tensor, "n 3"], degree: int) -> Float[Tensor, "n k"]:
    """The (degree + 1)^2 real spherical harmonics of bands 0 to `degree` (at most 3) at unit directions.

    Order and signs (Condon-Shortley) are those of tiny-cuda-nn, svox2 and 3D Gaussian splatting. Differentiable.
    """
    if degree < 3 or d.requires_grad or not runs_compiled(d):
        return harmonics_reference(d, degree)
    bands = d.new_empty(len(d), 16)
    _third_degree(len(d), *arrays(d, bands))
    return bands


def harmonics_reference(d: Float[Tensor, "n 3"], degree: int) -> Float[Tensor, "n k"]:
    """`harmonics` in plain torch: any device and precision."""
    x, y, z = d.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    bands = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        bands += [-0.48860251190291987 * y, 0.48860251190291987 * z, -0.48860251190291987 * x]
    if degree >= 2:
        bands += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.94617469575755997 * zz - 0.31539156525251999,
            -1.0925484305920792 * x * z,
            0.54627421529603959 * (xx - yy),
        ]
    if degree >= 3:
        bands += [
            0.59004358992664352 * y * (yy - 3 * xx),
            2.8906114426405538 * x * y * z,
            0.45704579946446572 * y * (1 - 5 * zz),
            0.3731763325901154 * z * (5 * zz - 3),
            0.45704579946446572 * x * (1 - 5 * zz),
            1.4453057213202769 * z * (xx - yy),
            0.59004358992664352 * x * (3 * yy - xx),
        ]
    return torch.stack(bands, -1)


@kernel
def _third_degree(first: int, last: int, d: Array, bands: Array) -> None:
    """The plain version, written out for float32."""
    for i in range(first, last):
        x, y, z = d[i, 0], d[i, 1], d[i, 2]
        xx, yy, zz = x * x, y * y, z * z
        bands[i, 0] = np.float32(0.28209479177387814)
        bands[i, 1] = np.float32(-0.48860251190291987) * y
        bands[i, 2] = np.float32(0.48860251190291987) * z
        bands[i, 3] = np.float32(-0.48860251190291987) * x
        bands[i, 4] = np.float32(1.0925484305920792) * x * y
        bands[i, 5] = np.float32(-1.0925484305920792) * y * z
        bands[i, 6] = np.float32(0.94617469575755997) * zz - np.float32(0.31539156525251999)
        bands[i, 7] = np.float32(-1.0925484305920792) * x * z
        bands[i, 8] = np.float32(0.54627421529603959) * (xx - yy)
        bands[i, 9] = np.float32(0.59004358992664352) * y * (yy - np.float32(3) * xx)
        bands[i, 10] = np.float32(2.8906114426405538) * x * y * z
        bands[i, 11] = np.float32(0.45704579946446572) * y * (np.float32(1) - np.float32(5) * zz)
        bands[i, 12] = np.float32(0.3731763325901154) * z * (np.float32(5) * zz - np.float32(3))
        bands[i, 13] = np.float32(0.45704579946446572) * x * (np.float32(1) - np.float32(5) * zz)
        bands[i, 14] = np.float32(1.4453057213202769) * z * (xx - yy)
        bands[i, 15] = np.float32(0.59004358992664352) * x * (np.float32(3) * yy - xx)
