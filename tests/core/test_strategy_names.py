"""One table of names: every strategy has a title and a description."""

from __future__ import annotations

from pass_core.settings import Baseline, Strategy
from pass_core.strategy_names import DESCRIPTIONS, TITLES, short_title, strategy_text


def test_every_strategy_has_its_own_names() -> None:
    assert set(TITLES) == set(DESCRIPTIONS) == {*Strategy, *Baseline}
    assert len(set(TITLES.values())) == len(set(DESCRIPTIONS.values())) == len(Strategy) + len(Baseline)


def test_forms() -> None:
    assert strategy_text(Strategy.FUSED, 5) == "PASS fused, k 5"
    assert strategy_text(Strategy.AUTOREGRESSIVE, 0) == "Plain"
    assert short_title(Strategy.TWO_CALL) == "two-call"
