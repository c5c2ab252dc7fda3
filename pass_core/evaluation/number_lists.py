"""Lists of numbers as people write them: "0-3, 8", "0, 0.8"."""

from __future__ import annotations

import re

MOST = 10_000
_RANGE = re.compile(r"(\d{1,18})(?:\s*[-–]\s*(\d{1,18}))?")


class NumberListError(ValueError):
    """It is no such list; the message says what to write."""


def numbers(text: str, name: str) -> list[int]:
    """Whole numbers between commas, also as ranges: "0-3, 8" is 0, 1, 2, 3, 8.

    Raises:
        NumberListError: none, or something else than a number.
    """
    found: dict[int, None] = {}
    for word in (part.strip() for part in text.replace(";", ",").split(",")):
        if not word:
            continue
        if (match := _RANGE.fullmatch(word)) is None or (match[2] and int(match[2]) < int(match[1])):
            raise NumberListError(f"“{word}” is no list of numbers for {name}: write them like 0-4, 10.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last - first >= MOST:
            raise NumberListError(f"“{word}” asks for too many: at most {MOST:,} can be listed.")
        found.update(dict.fromkeys(range(first, last + 1)))
    if not found:
        raise NumberListError(f"Give at least one value for {name}.")
    return list(found)


def decimals(text: str, name: str) -> list[float]:
    """Numbers between commas, each once.

    Raises:
        NumberListError: none, or something else than a number.
    """
    try:
        found = list(dict.fromkeys(float(word) for word in text.replace(";", ",").split(",") if word.strip()))
    except ValueError:
        raise NumberListError(f"“{text}” is no list of numbers for {name}: write them like 0, 0.8.") from None
    if not found:
        raise NumberListError(f"Give at least one value for {name}.")
    return found
