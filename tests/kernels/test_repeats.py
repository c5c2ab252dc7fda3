"""What a text repeats: how much candidates gain, by how much of their past they share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pass_core.decoding.repetition_bonus import AFTER_ONE, AFTER_TWO, RECENT, SEEN
from pass_core.kernels.interface import DraftRows
from pass_core.lookahead.bigrams import Bigrams
from pass_core.runtime.native.build import library
from pass_core.runtime.native.runtime import NativeRuntime
from tests.kernels.makers import CHAIN, NAMES, VOCABULARY, bfloat16_model, kernels_named

SAMPLED = [3, 4, 5, 9]
FULL = RECENT
ONE, TWO = SEEN + AFTER_ONE, SEEN + AFTER_ONE + AFTER_TWO


@pytest.fixture(scope="module")
def model():
    return bfloat16_model()


@pytest.fixture(scope="module")
def runtime(model):
    return None if library() is None else NativeRuntime(model, threads=1)


def gains(name: str, model, runtime, text: list[int], before: int, last: int, ids: list[int]) -> list[float]:
    """What `ids` gain over a token that the text does not have, the head's own scores being equal."""
    kernels = kernels_named(name, model, runtime)
    nothing = kernels.bigram_head(Bigrams(torch.zeros(VOCABULARY, model.hidden_size, dtype=torch.bfloat16)))
    logits = torch.full((1, VOCABULARY), -9.0)
    logits[0, [*ids, VOCABULARY - 1]] = 0.0  # all other tokens are no candidates, or gain nothing
    rows = DraftRows(torch.zeros(1, model.hidden_size), logits, [0], [0])
    request = replace(CHAIN, before=before, root=last, temperature=1.0, top_k=128, noisy=0, shares=(1.0,))
    tree = kernels.grow_tree(rows, request, nothing, np.array(text))
    found = dict(zip(tree.ids[tree.source[0]].tolist(), tree.log_p[tree.source[0]].tolist(), strict=True))
    return [found[i] - found[VOCABULARY - 1] for i in ids]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("before", "last", "expected"),
    [
        # 3 followed (1, 2) and 4 followed (9, 2); 9 stands in the text, 5 does not.
        (1, 2, [TWO, ONE, 0.0, SEEN]),
        (7, 2, [ONE, ONE, 0.0, SEEN]),
        (5, 8, [SEEN, SEEN, 0.0, SEEN]),
    ],
)
def test_tokens_gain_by_how_much_of_their_past_they_share(name, model, runtime, before, last, expected) -> None:
    got = gains(name, model, runtime, [1, 2, 3, 9, 2, 4, 7, 2], before, last, SAMPLED)
    assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_last_tokens_count_as_seen(name, model, runtime) -> None:
    text = [5, *[0] * FULL]
    assert gains(name, model, runtime, text, -1, 7, [5, 0]) == pytest.approx([0.0, SEEN])
    assert gains(name, model, runtime, text[:FULL], -1, 7, [5, 0]) == pytest.approx([SEEN, SEEN])


@pytest.mark.parametrize("name", NAMES)
def test_a_text_of_one_token_has_no_pairs(name, model, runtime) -> None:
    assert gains(name, model, runtime, [5], -1, 5, [5, 6]) == pytest.approx([SEEN, 0.0])
