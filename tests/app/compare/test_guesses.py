"""Which side guessed which token, and that nothing behind a difference is counted."""

from __future__ import annotations

from app.compare.guesses import Guessed, common_tokens, how
from pass_core.decoding.events import Provenance
from tests.app.window.events import step, token

ACCEPTED, BONUS, CORRECTED = Provenance.ACCEPTED, Provenance.BONUS, Provenance.CORRECTED


def test_every_token_of_the_common_text_is_told() -> None:
    a = [step(0, [token(0, "a", ACCEPTED, depth=1), token(1, "b", ACCEPTED, depth=2), token(2, "c", BONUS)])]
    b = [
        step(0, [token(0, "a", ACCEPTED, depth=1), token(1, "b", CORRECTED, depth=2)]),
        step(1, [token(2, "c", ACCEPTED, depth=1), token(3, "d", BONUS)]),
    ]
    a.append(step(1, [token(3, "d")]))
    assert [t.by for t in common_tokens(a, b)] == [Guessed.BOTH, Guessed.A, Guessed.B, Guessed.NEITHER]


def test_nothing_after_a_difference_is_compared() -> None:
    a = [step(0, [token(0, "a"), token(1, "b"), token(2, "c")])]
    b = [step(0, [token(0, "a"), token(9, "x"), token(2, "c")])]
    assert len(common_tokens(a, b)) == 1


def test_how_a_token_came_to_be() -> None:
    assert how(token(0, "a", ACCEPTED, depth=2)) == "guessed at draft position 2, q 25.0 %"
    assert how(token(0, "a", CORRECTED, depth=3)) == "guessed wrongly at draft position 3"
    assert how(token(0, "a")) == "not drafted"
