"""The memory of a text is the end of the text. What tokens gain by it: tests/kernels/test_repeats.py."""

from __future__ import annotations

import numpy as np

from pass_core.decoding.repetition_bonus import HISTORY, TextMemory


def test_the_memory_is_the_end_of_the_text_however_it_grows() -> None:
    rng = np.random.default_rng(1)
    text: list[int] = []
    memory = TextMemory()
    for added in (1, 3, 700, 1, 400, 900, 2, 5000, 0, 1, 1023, 1024, 1025):
        text += rng.integers(0, 50_000, added).tolist()
        assert memory.recent(text).tolist() == text[-HISTORY:]
