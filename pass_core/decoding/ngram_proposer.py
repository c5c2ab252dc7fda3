"""Prompt lookup: continuations of the latest n-gram match in the text so far, as a second source of drafts."""

from __future__ import annotations

from collections.abc import Sequence

NGRAMS = (3, 2, 1)


class NgramProposer:
    """Remembers where each n-gram last ended, extended as the text grows."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def propose(self, tokens: Sequence[int], count: int) -> tuple[list[int], int]:
        """Up to `count` tokens that followed the latest earlier match of the text's end.

        Returns:
            The continuation and the length of the n-gram that matched (0 when none did).
        """
        self._index(tokens)
        end = len(tokens)
        for n in NGRAMS:
            if end < n:
                continue
            at = self._ends.get(tuple(tokens[end - n : end]))
            if at is not None:
                return list(tokens[at : at + count]), n
        return [], 0

    def _index(self, tokens: Sequence[int]) -> None:
        """Index n-grams that end before the last token, so that the text's own end never matches itself."""
        for end in range(self._indexed + 1, len(tokens)):
            for n in NGRAMS:
                if end >= n:
                    self._ends[tuple(tokens[end - n : end])] = end
        self._indexed = max(self._indexed, len(tokens) - 1)
