"""The walk of the coupled rule through a tree of drafts, in the compiled library: one call for all rows it looks at."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pass_core.runtime.native.arrays import pointer
from pass_core.runtime.native.build import library
from pass_core.runtime.native.top import selects


@dataclass(frozen=True, slots=True)
class NativeWalk:
    """What the walk met, level by level: rows of the logits, the tokens sampled there, and the `kept` largest logits of
    each row with their ids [levels, kept], largest first, ties by lower id."""

    rows: list[int]
    samples: list[int]
    ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


def native_walk(
    logits: torch.Tensor,
    kept: int,
    temperature: float,
    noise: int,
    position: int,
    tokens: Sequence[int],
    parents: Sequence[int],
) -> NativeWalk | None:
    """Walk from row 0 of `logits` [drafts + 1, vocabulary] to where no draft is the token sampled there.

    Args:
        kept: how many of the largest logits can be sampled; only the largest for 1, whatever the temperature.
        noise: hash of seed and stream; position: of the first token to sample.
        tokens, parents: of the drafts, parents (-1: the root) before children; row i + 1 follows draft i.

    Returns:
        None where the library does not apply; see `pass_core.runtime.native.top`.
    """
    lib = library()
    if lib is None or not selects(logits, kept) or logits.shape[0] <= len(tokens):
        return None
    most = len(tokens) + 1
    drafted = np.array(tokens, dtype=np.int64)
    above = np.array(parents, dtype=np.int32)
    rows = np.empty(most, dtype=np.int32)
    samples = np.empty(most, dtype=np.int64)
    ids = np.empty((most, kept), dtype=np.int64)
    values = np.empty((most, kept), dtype=np.float32)
    levels: int = lib.pass_walk(
        ctypes.c_void_p(logits.data_ptr()),
        ctypes.c_int64(logits.stride(0)),
        logits.shape[1],
        kept,
        ctypes.c_double(temperature),
        ctypes.c_uint64(noise),
        ctypes.c_int64(position),
        pointer(drafted),
        pointer(above),
        len(tokens),
        pointer(rows),
        pointer(samples),
        pointer(ids),
        pointer(values),
    )
    if levels < 0:
        return None
    return NativeWalk(rows[:levels].tolist(), samples[:levels].tolist(), ids[:levels], values[:levels])
