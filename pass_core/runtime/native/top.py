"""The largest logits of each row, selected by the compiled library: several times as fast as torch.topk on a CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from pass_core.runtime.native.build import library

_BLOCK = 128  # of the library: it reads a row in whole blocks


def selects(logits: torch.Tensor, count: int) -> bool:
    """Whether the library can select the `count` largest of rows of these logits."""
    vocabulary = logits.shape[1]
    return (
        logits.device.type == "cpu"
        and logits.dtype is torch.float32
        and not vocabulary % _BLOCK
        and (vocabulary == 1 or logits.stride(1) == 1)
        and 0 < count <= vocabulary // _BLOCK
    )


def native_top(
    logits: torch.Tensor, count: int, rows: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None:
    """The `count` largest of some rows of `logits` [n, vocabulary], largest first, ties by lower id.

    Returns:
        ids and values, [len(rows), count] each; None where the library does not apply (another device or dtype, a
        vocabulary that is no multiple of 128 or below 128 times `count`, NaN, no compiler).
    """
    lib = library()
    if lib is None or not selects(logits, count):
        return None
    vocabulary = logits.shape[1]
    which = np.asarray(rows, dtype=np.int32)
    if which.size and not 0 <= int(which.min()) <= int(which.max()) < logits.shape[0]:
        raise IndexError(f"rows {list(rows)} are not all among the {logits.shape[0]} rows of logits")
    ids = np.empty((which.size, count), dtype=np.int64)
    values = np.empty((which.size, count), dtype=np.float32)
    failed = lib.pass_top(
        ctypes.c_void_p(logits.data_ptr()),
        ctypes.c_int64(logits.stride(0)),
        ctypes.c_void_p(which.ctypes.data),
        which.size,
        vocabulary,
        count,
        ctypes.c_void_p(ids.ctypes.data),
        ctypes.c_void_p(values.ctypes.data),
    )
    return None if failed else (ids, values)
