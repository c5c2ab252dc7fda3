"""What strategies are called where people read it: one table for command line, window, reports and export."""

from __future__ import annotations

from collections.abc import Mapping

from pass_core.settings import Strategy

TITLES: Mapping[Strategy, str] = {
    Strategy.AUTOREGRESSIVE: "Plain",
    Strategy.TWO_CALL: "PASS two-call",
    Strategy.FUSED: "PASS fused",
    Strategy.PROMPT_LOOKUP: "transformers lookup",
}
DESCRIPTIONS: Mapping[Strategy, str] = {
    Strategy.AUTOREGRESSIVE: "plain autoregressive decoding",
    Strategy.TWO_CALL: "PASS, two calls per iteration",
    Strategy.FUSED: "PASS, fused",
    Strategy.PROMPT_LOOKUP: "prompt lookup by transformers",
}


def short_title(strategy: Strategy) -> str:
    """For marks in plots: "plain", "two-call", "fused"."""
    return TITLES[strategy].removeprefix("PASS ").lower()


def strategy_text(strategy: Strategy, k: int) -> str:
    """A strategy with its k: "PASS fused, k 5", "Plain", and "transformers plain" where its lookup copies nothing."""
    if strategy is Strategy.AUTOREGRESSIVE:
        return TITLES[strategy]
    if strategy is Strategy.PROMPT_LOOKUP and k == 0:
        return "transformers plain"
    return f"{TITLES[strategy]}, k {k}"
