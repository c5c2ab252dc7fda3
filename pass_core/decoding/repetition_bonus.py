"""A bonus in a draft's scores for tokens that the text has had before, most of all after the same one or two tokens.

Texts repeat their names, phrases and code. Prompt lookup copies whole stretches; this bonus favours single tokens,
wherever a draft head scores them. Only drafts get it, so the text stays exact. The kernels add it up
(`pass_core.kernels.interface.GrowRequest`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pass_core.runtime.rows import IntArray

# Logit bonuses of tokens that occurred recently, after the same token, and after the same two tokens.
SEEN, AFTER_ONE, AFTER_TWO = 0.3, 0.5, 1.5
RECENT = 256  # tokens back that count as recent
HISTORY = 1024


class TextMemory:
    """The tokens of a growing text as an array, added to as they come."""

    def __init__(self) -> None:
        self._tokens: IntArray = np.empty(2 * HISTORY, dtype=np.int64)
        self._count = 0  # of the text's tokens that were taken in
        self._end = 0  # of those kept in the array

    def recent(self, tokens: Sequence[int]) -> IntArray:
        """The last `HISTORY` tokens of a text that begins with the one given before."""
        new = tokens[max(self._count, len(tokens) - HISTORY) :]
        if self._end + len(new) > self._tokens.size:
            kept = self._tokens[max(0, self._end - HISTORY) : self._end].copy()
            self._tokens[: kept.size] = kept
            self._end = kept.size
        self._tokens[self._end : self._end + len(new)] = new
        self._end += len(new)
        self._count = len(tokens)
        return self._tokens[max(0, self._end - HISTORY) : self._end]
