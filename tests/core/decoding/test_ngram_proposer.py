"""Prompt lookup: the continuation of the latest earlier match of the text's end."""

from __future__ import annotations

import numpy as np
import pytest

from pass_core.decoding.ngram_proposer import NGRAMS, NgramProposer


def naive(tokens: list[int], count: int) -> tuple[list[int], int]:
    """The definition: the longest n-gram first, its latest earlier occurrence."""
    for n in NGRAMS:
        if len(tokens) < n:
            continue
        for end in range(len(tokens) - 1, n - 1, -1):
            if tokens[end - n : end] == tokens[-n:]:
                return tokens[end : end + count], n
    return [], 0


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([1, 2, 3, 9, 8, 1, 2, 3], ([9, 8, 1], 3)),
        ([1, 2, 9, 5, 1, 2], ([9, 5, 1], 2)),
        ([7, 4, 7], ([4, 7], 1)),
        ([5, 1, 5, 2, 5], ([2, 5], 1)),  # the latest of two matches
        ([6, 6, 6], ([6], 2)),
        ([1, 2, 3], ([], 0)),
        ([1], ([], 0)),
    ],
)
def test_examples(tokens: list[int], expected: tuple[list[int], int]) -> None:
    assert NgramProposer().propose(tokens, 3) == expected


@pytest.mark.parametrize("alphabet", [2, 5, 20])
@pytest.mark.parametrize("grow", [1, 3])
def test_the_index_that_grows_with_the_text_equals_a_search(alphabet: int, grow: int) -> None:
    text = np.random.default_rng(alphabet).integers(0, alphabet, 200).tolist()
    lookup = NgramProposer()
    for end in range(1, len(text), grow):
        assert lookup.propose(text[:end], 4) == naive(text[:end], 4)
