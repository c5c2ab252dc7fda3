"""Lists of numbers are read as people write them, or refused in plain words."""

from __future__ import annotations

import pytest

from pass_core.evaluation.number_lists import NumberListError, decimals, numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", [3]), ("0-3, 8", [0, 1, 2, 3, 8]), (" 5 ; 1–2,", [5, 1, 2]), ("1, 1-2", [1, 2]), ("4-4", [4])],
)
def test_whole_numbers_and_ranges(text: str, expected: list[int]) -> None:
    assert numbers(text, "k") == expected


@pytest.mark.parametrize("text", ["", " , ", "one", "-1", "1-", "3-1", "1-2-3", "0.5", "0-99999999999"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(NumberListError):
        numbers(text, "k")


def test_decimals() -> None:
    assert decimals("0, 0.8; 0.8", "temperatures") == [0.0, 0.8]
    for text in ("", "warm"):
        with pytest.raises(NumberListError, match="temperatures"):
            decimals(text, "temperatures")
