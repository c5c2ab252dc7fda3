"""Which side guessed which token of a text that both wrote. No Qt here.

The text does not depend on drafts, so that two look-ahead files can be compared token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.widgets.text_format import probability_text
from pass_core.decoding.events import Provenance, StepEvent, TokenEvent


class Guessed(StrEnum):
    """Whose accepted draft a token is."""

    BOTH = "both"
    A = "A alone"
    B = "B alone"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class GuessedToken:
    """One token of the common text: how it came to be in A and in B."""

    a: TokenEvent
    b: TokenEvent

    @property
    def by(self) -> Guessed:
        """Whose accepted draft it is."""
        a, b = (t.provenance is Provenance.ACCEPTED for t in (self.a, self.b))
        return (Guessed.BOTH if b else Guessed.A) if a else (Guessed.B if b else Guessed.NEITHER)


def common_tokens(a: Sequence[StepEvent], b: Sequence[StepEvent]) -> list[GuessedToken]:
    """The tokens of both texts, to the first difference."""
    out: list[GuessedToken] = []
    for x, y in zip((t for s in a for t in s.tokens), (t for s in b for t in s.tokens)):
        if x.id != y.id:
            break
        out.append(GuessedToken(x, y))
    return out


def how(token: TokenEvent) -> str:
    """How a token came to be, in a few words."""
    match token.provenance:
        case Provenance.ACCEPTED:
            q = "copied" if token.p_draft is None else f"q {probability_text(token.p_draft)}"
            return f"guessed at draft position {token.draft_position}, {q}"
        case Provenance.CORRECTED:
            return f"guessed wrongly at draft position {token.draft_position}"
        case Provenance.BONUS:
            return "a bonus: no draft reached so far"
        case Provenance.MODEL:
            return "not drafted"
