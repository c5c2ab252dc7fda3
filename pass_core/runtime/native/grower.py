"""Trees of drafts grown in the compiled library: all levels in one call, without Python between them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pass_core.runtime.draft_heads import DraftHead
from pass_core.runtime.native.heads import NativeHead
from pass_core.runtime.native.runtime import NativeRuntime
from pass_core.runtime.native.top import selects
from pass_core.sampling.noise import Stream, stream_hash


@dataclass(frozen=True, slots=True)
class Growth:
    """How a tree is to grow.

    Attributes:
        seed, position: of the shared noise at depth 1.
        noisy: whether noise takes part in ranking drafts (not at temperature 0).
        before, root: the last two tokens before depth 1.
        temperature, kept: of the draft distributions; `kept` candidates have a probability.
        candidates: likeliest plain look-ahead tokens that the draft head re-scores (`kept` without one).
        branches, width: drafts below a node, and nodes of a level that are branched from.
        shares: by depth, the probability that the true token is among the branches.
        spread: temperature that turns perturbed scores into weights of siblings.
        least: a draft reached less often is left out.
        unlikely: a level whose nodes together are reached less often is the last.
        limit: drafts at most.
        seen, after_one, after_two, of_late: what tokens gain that the text repeats
            (`pass_core.decoding.repetition_bonus`).
    """

    seed: int
    position: int
    before: int
    root: int
    noisy: bool
    temperature: float
    kept: int
    candidates: int
    branches: int
    width: int
    shares: Sequence[float]
    spread: float
    least: float
    unlikely: float
    limit: int
    seen: float = 0.0
    after_one: float = 0.0
    after_two: float = 0.0
    of_late: int = 0


@dataclass(frozen=True, slots=True)
class Grown:
    """The best drafts by falling reach, parents (-1: the root) first. Draft i was drawn from distribution source[i],
    whose tokens and log probabilities are rows of `ids` and `log_p`."""

    tokens: list[int]
    parents: list[int]
    depths: list[int]
    reaches: list[float]
    source: list[int]
    ids: npt.NDArray[np.int64]
    log_p: npt.NDArray[np.float64]


class _Request(ctypes.Structure):
    _fields_ = (
        ("noise", ctypes.c_uint64),
        *((n, ctypes.c_int64) for n in ("position", "before", "root", "text_length", "of_late")),
        *((n, ctypes.c_double) for n in ("temperature", "spread", "least", "unlikely")),
        *((n, ctypes.c_float) for n in ("seen", "after_one", "after_two")),
        *((n, ctypes.c_int32) for n in ("depth", "kept", "candidates", "branches", "width", "limit", "noisy")),
    )


def grow(
    runtime: object,
    head: DraftHead | None,
    hidden: torch.Tensor,
    logits: torch.Tensor,
    at: Sequence[int],
    steps: Sequence[int],
    text: npt.NDArray[np.int64] | None,
    growth: Growth,
) -> Grown | None:
    """Grow a tree below the last token from rows `at` of one call, row d-1 drafting depth d.

    Args:
        hidden, logits: of the call's rows, [n, hidden] and [n, vocabulary].
        steps: 0-based look-ahead step of each of these rows.
        text: tokens that a head's scores are to repeat, if any.

    Returns:
        None where the library does not apply: another runtime, a head in PyTorch, logits that it cannot select from.
    """
    if not isinstance(runtime, NativeRuntime) or not (head is None or isinstance(head, NativeHead)):
        return None
    if growth.kept > growth.candidates or not selects(logits, growth.candidates):
        return None
    depth = len(at)
    most = 1 + (depth - 1) * growth.width  # distributions: the root's, then one for each node of a beam
    tokens = np.empty(growth.limit, dtype=np.int64)
    numbers = np.empty((3, growth.limit), dtype=np.int32)
    reaches = np.empty(growth.limit, dtype=np.float64)
    ids = np.empty((most, growth.kept), dtype=np.int64)
    log_p = np.empty((most, growth.kept), dtype=np.float64)
    places = np.array([at, steps], dtype=np.int32)
    shares = np.array(growth.shares, dtype=np.float64)
    noise = stream_hash(growth.seed, Stream.TARGET)
    request = _Request(
        noise,
        growth.position,
        growth.before,
        growth.root,
        0 if text is None else text.size,
        growth.of_late,
        growth.temperature,
        growth.spread,
        growth.least,
        growth.unlikely,
        growth.seen,
        growth.after_one,
        growth.after_two,
        depth,
        growth.kept,
        growth.candidates,
        growth.branches,
        growth.width,
        growth.limit,
        growth.noisy,
    )
    address = ctypes.c_void_p
    table, output = runtime.embeddings
    count = runtime.lib.pass_grow(
        address(runtime.handle),
        None if head is None else address(head.handle),
        ctypes.byref(request),
        address(hidden.data_ptr()),
        address(logits.data_ptr()),
        ctypes.c_int64(logits.stride(0)),
        address(places.ctypes.data),
        address(places.ctypes.data + places.strides[0]),
        address(shares.ctypes.data),
        None if text is None else address(text.ctypes.data),
        address(table),
        address(output),
        address(tokens.ctypes.data),
        address(numbers.ctypes.data),
        address(numbers.ctypes.data + numbers.strides[0]),
        address(numbers.ctypes.data + 2 * numbers.strides[0]),
        address(reaches.ctypes.data),
        address(ids.ctypes.data),
        address(log_p.ctypes.data),
    )
    if count == -1:
        raise MemoryError("There is not enough memory to draft. Close other programs.")
    if count < 0:
        return None
    parents, depths, source = numbers[:, :count].tolist()
    return Grown(tokens[:count].tolist(), parents, depths, reaches[:count].tolist(), source, ids, log_p)
