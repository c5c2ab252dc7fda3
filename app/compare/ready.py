"""Comparisons that are worth a click."""

from __future__ import annotations

from app.compare.pane_setup import UNTRAINED, PaneWish
from pass_core.settings import DecodingSettings, Strategy, Verification

LOOKUP_TOKENS = 10  # as in transformers' documentation
PLAIN = DecodingSettings(strategy=Strategy.AUTOREGRESSIVE)
READY: tuple[tuple[str, PaneWish, PaneWish], ...] = (
    ("Plain against PASS", PaneWish(PLAIN), PaneWish(DecodingSettings())),
    (
        "Two-call against fused",
        PaneWish(DecodingSettings(strategy=Strategy.TWO_CALL)),
        PaneWish(DecodingSettings()),
    ),
    (
        "Prompt lookup against PASS",
        PaneWish(DecodingSettings(strategy=Strategy.PROMPT_LOOKUP, k=LOOKUP_TOKENS)),
        PaneWish(DecodingSettings()),
    ),
    (
        "k 2 against k 5",
        PaneWish(DecodingSettings(k=2, auto=False)),
        PaneWish(DecodingSettings(k=5, auto=False)),
    ),
    (
        "Untrained against trained",
        PaneWish(DecodingSettings(auto=False), UNTRAINED),
        PaneWish(DecodingSettings(auto=False)),
    ),
    (
        "Coupled against rejection",
        PaneWish(DecodingSettings(strategy=Strategy.TWO_CALL)),
        PaneWish(DecodingSettings(strategy=Strategy.TWO_CALL, verification=Verification.REJECTION)),
    ),
)
