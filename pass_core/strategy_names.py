"""What people read as names of strategies and baselines: one table for command line, window, reports and export."""

from __future__ import annotations

from collections.abc import Mapping

from pass_core.settings import Baseline, Method, Strategy

TITLES: Mapping[Method, str] = {
    Strategy.AUTOREGRESSIVE: "Plain",
    Strategy.TWO_CALL: "PASS two-call",
    Strategy.FUSED: "PASS fused",
    Baseline.TRANSFORMERS: "transformers lookup",
}
DESCRIPTIONS: Mapping[Method, str] = {
    Strategy.AUTOREGRESSIVE: "plain autoregressive decoding",
    Strategy.TWO_CALL: "PASS, two calls per iteration",
    Strategy.FUSED: "PASS, fused",
    Baseline.TRANSFORMERS: "prompt lookup by transformers",
}


def short_title(strategy: Method) -> str:
    """For marks in plots: "plain", "two-call", "fused"."""
    return TITLES[strategy].removeprefix("PASS ").lower()


def strategy_text(strategy: Method, k: int) -> str:
    """A strategy with its k: "PASS fused, k 5", "Plain", and "transformers plain" where its lookup copies nothing."""
    if strategy is Strategy.AUTOREGRESSIVE:
        return TITLES[strategy]
    if strategy is Baseline.TRANSFORMERS and k == 0:
        return "transformers plain"
    return f"{TITLES[strategy]}, k {k}"
