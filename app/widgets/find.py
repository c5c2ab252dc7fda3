"""Finds words in the shown text: the text is searched as a whole, and each match is a place in the document."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from app.widgets.token_layout import shown, utf16_length

Span = tuple[int, int]
Match = tuple[Span, ...]
"""Places in the document in UTF-16 units; several where something stands between the tokens of one match."""


def find_all(parts: Sequence[tuple[int, str]], wanted: str, *, match_case: bool = False) -> list[Match]:
    """Every place of `wanted` in the joined text of `parts`, in order; they do not overlap.

    Args:
        parts: where each begins in the document, and its text.
    """
    if not wanted or not parts:
        return []
    starts = [0, *accumulate(len(text) for _, text in parts)]
    pattern = re.compile(re.escape(shown(wanted)), 0 if match_case else re.IGNORECASE)
    found = pattern.finditer("".join(text for _, text in parts))
    return [_place(parts, starts, m.start(), m.end()) for m in found]


def _place(parts: Sequence[tuple[int, str]], starts: Sequence[int], first: int, last: int) -> Match:
    spans: list[Span] = []
    number = bisect_right(starts, first) - 1
    while number < len(parts) and starts[number] < last:
        begin, text = parts[number]
        low, high = max(0, first - starts[number]), min(len(text), last - starts[number])
        span = (begin + utf16_length(text[:low]), begin + utf16_length(text[:high]))
        if spans and spans[-1][1] == span[0]:
            spans[-1] = (spans[-1][0], span[1])
        elif span[0] < span[1]:
            spans.append(span)
        number += 1
    return tuple(spans)
