"""What a text repeats: which tokens gain, and that the memory of a text is the text."""

from __future__ import annotations

import numpy as np

from pass_core.decoding.repetition_bonus import AFTER_ONE, AFTER_TWO, HISTORY, OF_LATE, SEEN, TextMemory, bonus


def test_tokens_gain_by_how_much_of_their_past_they_share() -> None:
    text = np.array([1, 2, 3, 9, 2, 4, 7, 2])
    ids = np.array([3, 4, 5, 9])
    # 3 followed (1, 2) and 4 followed (9, 2); 9 stands in the text, 5 does not.
    after_1_2, after_7_2, after_5_8 = bonus(text, [(1, 2), (7, 2), (5, 8)], ids).tolist()
    one, two = float(SEEN + AFTER_ONE), float(SEEN + AFTER_ONE + AFTER_TWO)
    seen = float(SEEN)
    assert after_1_2 == [two, one, 0.0, seen]
    assert after_7_2 == [one, one, 0.0, seen]
    assert after_5_8 == [seen, seen, 0.0, seen]


def test_only_the_last_tokens_count_as_seen() -> None:
    text = np.concatenate(([5], np.zeros(OF_LATE, dtype=np.int64)))
    assert bonus(text, [(-1, 7)], np.array([5, 0])).tolist() == [[0.0, float(SEEN)]]
    assert bonus(text[:OF_LATE], [(-1, 7)], np.array([5, 0])).tolist() == [[float(SEEN)] * 2]


def test_a_text_of_one_token_has_no_pairs() -> None:
    assert bonus(np.array([5]), [(-1, 5)], np.array([5, 6])).tolist() == [[float(SEEN), 0.0]]


def test_the_memory_is_the_end_of_the_text_however_it_grows() -> None:
    rng = np.random.default_rng(1)
    text: list[int] = []
    memory = TextMemory()
    for added in (1, 3, 700, 1, 400, 900, 2, 5000, 0, 1, 1023, 1024, 1025):
        text += rng.integers(0, 50_000, added).tolist()
        assert memory.recent(text).tolist() == text[-HISTORY:]
