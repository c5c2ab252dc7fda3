"""The sentence above the text: what was gained, with its numbers, or what would change that nothing was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.generate.story import Circumstances, story
from pass_core.decoding.events import DraftStatus, Provenance
from pass_core.decoding.summary import Summary, summarize
from pass_core.settings import DecodingSettings, Strategy
from tests.app.window.events import draft, step, token

TRAINED = Circumstances(trained=True)


def plain(count: int, settings: DecodingSettings) -> Summary:
    return summarize(step(i, [token(i, "a")], settings=settings) for i in range(count))


def test_what_was_gained_stands_with_its_numbers() -> None:
    first = step(
        0,
        [token(0, "a", Provenance.ACCEPTED, depth=1), token(1, "b", Provenance.BONUS)],
        [draft("a", DraftStatus.ACCEPTED), draft("x", DraftStatus.REJECTED, index=1)],
    )
    other = step(1, [token(2, "c")], [draft("y", DraftStatus.REJECTED), draft("z", DraftStatus.REJECTED, index=1)])
    assert story(summarize([first, other]), TRAINED) == (
        "3 tokens in 2 forward passes; 1 of them (green, underlined) came from an accepted draft, "
        "25 % of the 4 proposed."
    )


@pytest.mark.parametrize(
    ("settings", "circumstances", "expected"),
    [
        (DecodingSettings(Strategy.AUTOREGRESSIVE), TRAINED, "plain decoding drafts nothing. Choose PASS"),
        (DecodingSettings(k=0), TRAINED, "plain decoding drafts nothing. Choose PASS"),
        (DecodingSettings(), Circumstances(trained=False), "drafting did not pay here. Train look-ahead embeddings"),
        (DecodingSettings(), TRAINED, "drafting did not pay here. Switch on prompt lookup"),
        (DecodingSettings(), Circumstances(trained=True, temperature=1.5), "A temperature below 1.5"),
        (DecodingSettings(k=0), Circumstances(trained=True, lookup=True), "trained for longer would help"),
    ],
)
def test_why_nothing_was_gained_and_what_would_change_it(
    settings: DecodingSettings, circumstances: Circumstances, expected: str
) -> None:
    told = story(plain(5, settings), circumstances)
    assert told.startswith("5 tokens in 5 forward passes: ")
    assert expected in told


def test_drafts_that_were_all_rejected_are_counted() -> None:
    s = replace(plain(5, DecodingSettings()), proposed=12)
    assert "none of 12 proposed drafts was accepted" in story(s, TRAINED)


def test_an_empty_run_has_no_sentence() -> None:
    assert story(summarize([]), TRAINED) == ""
