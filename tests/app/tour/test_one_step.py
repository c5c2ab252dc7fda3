"""One step told in words: the one that kept most, below the right token, with numbers that are the run's."""

from __future__ import annotations

from app.tour.one_step import telling_step
from pass_core.decoding.events import DraftStatus, Provenance
from pass_core.settings import DecodingSettings, Strategy
from tests.app.window.events import draft, step, token

GOOD = step(
    1,
    [
        token(1, " cat", Provenance.ACCEPTED, depth=1),
        token(2, " sat", Provenance.ACCEPTED, depth=2),
        token(3, " on", Provenance.CORRECTED, depth=3),
    ],
    [
        draft(" cat", DraftStatus.ACCEPTED),
        draft(" sat", DraftStatus.ACCEPTED, depth=2, index=1, parent=0),
        draft(" in", DraftStatus.REJECTED, depth=3, index=2, parent=1),
    ],
)


def test_the_step_that_kept_most_is_told() -> None:
    weak = step(2, [token(4, " a", Provenance.CORRECTED, depth=1)], [draft(" the", DraftStatus.REJECTED)])
    one = telling_step([step(0, [token(0, " the")]), GOOD, weak], "Once")
    assert one is not None
    assert (one.number, one.root) == (1, " the")
    assert "one forward pass with 4 rows in all: 2 rows to check tokens, and 2 look-ahead rows" in one.rows
    assert one.drafts == "3 drafts hung below the last token, up to 3 deep, from look-ahead rows."
    assert "agreed with “·cat”, “·sat”: accepted" in one.walk
    assert "model's own “·on” stands in its place" in one.walk
    assert "3 tokens for 1 forward pass, where plain decoding needs 3" in one.saved
    assert "took 3 for 5 tokens" in one.saved


def test_the_first_step_hangs_below_the_prompt_and_two_calls_below_the_sampled_token() -> None:
    first = telling_step([GOOD], "Once upon a time")
    assert first is not None
    assert first.root == "Once upon a time"[-12:]
    settings = DecodingSettings(Strategy.TWO_CALL)
    sampled = step(
        0,
        [token(0, " my"), token(1, " cat", Provenance.ACCEPTED, depth=1)],
        list(GOOD.drafts[:1]),
        calls=2,
        settings=settings,
    )
    two = telling_step([sampled], "Once")
    assert two is not None
    assert two.root == " my"
    assert "2 forward passes" in two.rows


def test_nothing_drafted_nothing_to_tell() -> None:
    assert telling_step([step(0, [token(0, "a")])], "Once") is None
