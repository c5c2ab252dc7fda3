"""Comparisons that are worth a click."""

from __future__ import annotations

from app.compare.pane_setup import LOADED, UNTRAINED, PaneWish
from pass_core.settings import BaselineSettings, DecodingSettings, Strategy, Verification

PLAIN = DecodingSettings(strategy=Strategy.AUTOREGRESSIVE)
USUAL = DecodingSettings()
FORCED = DecodingSettings(auto=False)
TWO_CALL = DecodingSettings(strategy=Strategy.TWO_CALL)
REJECTION = DecodingSettings(strategy=Strategy.TWO_CALL, verification=Verification.REJECTION)
LOOKUP = BaselineSettings()


def _usual(settings: DecodingSettings, lookahead: str = LOADED) -> PaneWish:
    return PaneWish(settings, lookahead, usual_k=True)


READY: tuple[tuple[str, PaneWish, PaneWish], ...] = (
    ("Plain against PASS", _usual(PLAIN), _usual(USUAL)),
    ("Two-call against fused", _usual(TWO_CALL), _usual(USUAL)),
    ("Prompt lookup against PASS", PaneWish(LOOKUP), _usual(USUAL)),
    ("k 2 against the usual k", PaneWish(DecodingSettings(k=2, auto=False)), _usual(FORCED)),
    ("Untrained against trained", _usual(FORCED, UNTRAINED), _usual(FORCED)),
    ("Coupled against rejection", _usual(TWO_CALL), _usual(REJECTION)),
)
