"""Counter-based randomness: a number depends on seed, position, token id and stream, and on nothing else.

The coupled rule ("drafter-invariant" speculative decoding, Daliri, Musco & Suresh 2024) needs noise that drafts and the
target share. A generator with a state cannot give that: its numbers depend on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

SEED, POSITION, TOKEN = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Stream(IntEnum):
    """Independent sequences of noise under one seed."""

    TARGET = 0  # samples of the model's distribution; shared with the drafts under the coupled rule
    DRAFT = 1  # rejection rule: samples of the draft distribution
    ACCEPT = 2  # rejection rule: the number compared with p/q
    RESIDUAL = 3  # rejection rule: the correction's sample


def _mix(h: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(MIX_1)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(MIX_2)
    return h ^ (h >> np.uint64(31))


def mix_one(h: int) -> int:
    """The same for one number."""
    h = (h ^ (h >> 30)) * MIX_1 % 2**64
    h = (h ^ (h >> 27)) * MIX_2 % 2**64
    return h ^ (h >> 31)


@lru_cache(maxsize=256)
def stream_hash(seed: int, stream: int) -> int:
    """What every number of a stream starts from: positions and tokens are mixed into it."""
    return mix_one((seed % 2**64 * SEED + stream + 1) % 2**64)


def uniform(
    seed: int, position: npt.ArrayLike, token: npt.ArrayLike, stream: Stream = Stream.TARGET
) -> npt.NDArray[np.float64]:
    """Uniform numbers in the open interval (0, 1); `position` and `token` broadcast."""
    h = stream_hash(seed, int(stream))
    if isinstance(position, int):  # the common case; Python's integers are faster than arrays of one
        start: npt.NDArray[np.uint64] = np.asarray(mix_one(h ^ (position * POSITION % 2**64)), dtype=np.uint64)
    else:
        start = _mix(np.uint64(h) ^ (np.atleast_1d(np.asarray(position)).astype(np.uint64) * np.uint64(POSITION)))
        start = start.reshape(np.shape(position))
    tokens = np.asarray(token)
    h = _mix(np.atleast_1d(start ^ (np.atleast_1d(tokens).astype(np.uint64) * np.uint64(TOKEN))))
    h = h.reshape(np.broadcast_shapes(np.shape(position), tokens.shape))
    # 52 bits: with 53 the largest number would round to 1, whose Gumbel noise is infinite.
    return ((h >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def gumbel(
    seed: int, position: npt.ArrayLike, token: npt.ArrayLike, stream: Stream = Stream.TARGET
) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise; argmax over tokens of log p + gumbel is an exact sample of p."""
    return -np.log(-np.log(uniform(seed, position, token, stream)))


def gumbels(seed: int, positions: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """The same for each of a few tokens at its position: Python's integers are faster than small arrays."""
    h = stream_hash(seed, int(Stream.TARGET))
    drawn = [
        ((mix_one(mix_one(h ^ (p * POSITION % 2**64)) ^ (t * TOKEN % 2**64)) >> 12) + 0.5) * 2.0**-52
        for p, t in zip(positions, tokens, strict=True)
    ]
    return (-np.log(-np.log(np.array(drawn)))).tolist()
