"""Arrays as the compiled library takes them: addresses, and the bits of bfloat16."""

from __future__ import annotations

import ctypes

import numpy as np
import torch


def pointer(array: np.ndarray | None) -> ctypes.c_void_p | None:
    """The array's address; the caller keeps the array alive."""
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


def floats(tensor: torch.Tensor) -> np.ndarray:
    """A copy in float32, contiguous, on the CPU."""
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())


def halves(tensor: torch.Tensor) -> np.ndarray:
    """The bits of a bfloat16 copy as int16."""
    return np.ascontiguousarray(tensor.detach().to(torch.bfloat16).contiguous().view(torch.int16).cpu().numpy())
