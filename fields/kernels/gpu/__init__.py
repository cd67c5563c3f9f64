"""The CUDA versions of the routines, in Triton: when they run.

One file a routine, imported when it is first used, because Triton comes with CUDA builds of torch and is not a
dependency: where it is missing or cannot compile, the plain versions run. Tables get their gradients by atomic
addition, in no fixed order: the last digits differ from run to run.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor


def runs_triton(*tensors: Tensor) -> bool:
    """Whether the tensors are what the CUDA versions take, float32 on one CUDA device, and Triton works there."""
    device = tensors[0].device
    if device.type != "cuda":
        return False
    return all(tensor.device == device and tensor.dtype == torch.float32 for tensor in tensors) and works_on(device)


@cache
def works_on(device: torch.device) -> bool:
    """Whether Triton can be imported, and a kernel be compiled and run: that takes a C compiler and a newer GPU."""
    if not has_triton():
        return False
    from fieldcast.fields.kernels.gpu.launch import probe

    try:
        return probe(device)
    except Exception as error:  # whatever it is: nothing depends on Triton but speed
        text = " ".join(str(error).split())
        warnings.warn(f"Triton does not work on {device}, plain torch is used instead: {text}", stacklevel=2)
        return False


@cache
def has_triton() -> bool:
    """Whether Triton can be imported."""
    try:
        import triton  # noqa: F401
    except (ImportError, OSError):  # not installed, or a library that it needs is not
        return False
    return True
