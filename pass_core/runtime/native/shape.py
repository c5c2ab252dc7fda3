"""The shape of a call, chosen in the compiled library; see `pass_core.decoding.budget`, which says what is chosen."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pass_core.runtime.native.build import library


def native_shape(
    reaches: Sequence[float],
    parents: Sequence[int],
    hits: Sequence[float],
    counts: Sequence[int],
    rows_limit: int,
    seconds: npt.NDArray[np.float64],
    future: float,
    patience: int,
) -> tuple[int, list[int]] | None:
    """How many drafts to verify, and the look-ahead rows of the root and of each of them.

    Args:
        counts: numbers of drafts to try, each at most rows_limit - 1.
        seconds: [rows_limit + 1] what a call of so many rows costs, in tokens.

    Returns:
        None without a compiled library.
    """
    lib = library()
    if lib is None:
        return None
    chains = np.empty(len(reaches) + 1, dtype=np.int32)
    arrays = (
        np.array(reaches, dtype=np.float64),
        np.array(parents, dtype=np.int32),
        np.array(hits, dtype=np.float64),
        np.ascontiguousarray(seconds, dtype=np.float64),
        np.array(counts, dtype=np.int32),
        chains,
    )
    reach, parent, hit, cost, tried, out = (ctypes.c_void_p(a.ctypes.data) for a in arrays)
    drafts: int = lib.pass_plan(
        reach,
        parent,
        len(reaches),
        hit,
        len(hits),
        rows_limit,
        cost,
        ctypes.c_double(future),
        patience,
        tried,
        len(counts),
        out,
    )
    return drafts, chains[: drafts + 1].tolist()
