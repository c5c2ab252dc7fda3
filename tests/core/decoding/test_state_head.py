"""The state head drafts without look-ahead rows, changes no text, and is used where it pays."""

from __future__ import annotations

import pytest

from pass_core.decoding.events import DraftSource
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.cost import CostModel
from pass_core.settings import LookaheadPart, Strategy, Verification
from tests import tiny
from tests.core.decoding.engine import EVERY_PART, Result, random_lookahead, run
from tests.engines import use

VOCABULARY, LENGTH, PROMPT = 12, 4, [1, 5, 2, 7, 1, 5]
STATE = frozenset({LookaheadPart.STATE})
ROWS = {1: 1.0, 48: 1.0}
DEAR_LOOKAHEAD = CostModel({1: 1.0, 2: 9.0, 48: 9.0}, clock=lambda: 0.0, tokens=CostModel(ROWS, clock=lambda: 0.0))
FREE = CostModel(ROWS, clock=lambda: 0.0, tokens=CostModel(ROWS, clock=lambda: 0.0))


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny.FAMILIES[request.param](vocabulary=VOCABULARY)


def sources(result: Result) -> set[DraftSource]:
    return {d.source for s in result.steps for d in s.drafts}


def lookahead_rows(result: Result) -> int:
    return sum(s.lookahead_rows for s in result.steps)


@pytest.mark.parametrize("rule", Verification)
def test_greedy_text_is_the_same_with_a_state_head(model: LanguageModel, rule: Verification) -> None:
    plain = run(model, PROMPT, temperature=0.0)
    for budget, parts in ((2, STATE), (4, EVERY_PART), (16, EVERY_PART)):
        lookahead = random_lookahead(model, LENGTH, parts, seed=budget)
        got = run(
            model,
            PROMPT,
            Strategy.FUSED,
            temperature=0.0,
            lookahead=lookahead,
            row_budget=budget,
            verification=rule,
        )
        assert got.ids == plain.ids, budget
        assert DraftSource.STATE_HEAD in sources(got)


@pytest.mark.parametrize("cost", [FREE, DEAR_LOOKAHEAD], ids=["all rows are free", "look-ahead rows are dear"])
def test_coupled_text_is_the_same_whatever_auto_chooses(model: LanguageModel, cost: CostModel) -> None:
    for seed in range(2):
        plain = run(model, PROMPT, seed=seed, temperature=1.2, top_k=8)
        use(model, cost=cost.fresh())
        lookahead = random_lookahead(model, LENGTH, EVERY_PART, seed=seed)
        got = run(model, PROMPT, Strategy.FUSED, seed=seed, temperature=1.2, top_k=8, auto=True, lookahead=lookahead)
        assert got.ids == plain.ids
        assert DraftSource.STATE_HEAD in sources(got)


def test_no_look_ahead_row_is_bought_where_they_are_dear() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    lookahead = random_lookahead(model, LENGTH, EVERY_PART)
    use(model, cost=DEAR_LOOKAHEAD.fresh())
    got = run(model, PROMPT, Strategy.FUSED, auto=True, lookahead=lookahead)
    assert lookahead_rows(got) == 0
    assert sources(got) == {DraftSource.STATE_HEAD}


def test_the_prompts_last_row_drafts_for_the_first_step() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    got = run(model, PROMPT, Strategy.FUSED, row_budget=8, lookahead=random_lookahead(model, LENGTH, STATE))
    assert got.steps[0].drafts


def test_a_fixed_k_is_the_method_of_the_paper() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    got = run(model, PROMPT, Strategy.FUSED, k=3, lookahead=random_lookahead(model, LENGTH, EVERY_PART))
    assert sources(got) == {DraftSource.LOOKAHEAD}


def test_the_state_head_can_be_switched_off() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    lookahead = random_lookahead(model, LENGTH, EVERY_PART)
    options = {"row_budget": 16, "lookahead": lookahead}
    on = run(model, PROMPT, Strategy.FUSED, **options)
    off = run(model, PROMPT, Strategy.FUSED, disabled_parts=STATE, **options)
    assert DraftSource.STATE_HEAD in sources(on)
    assert DraftSource.STATE_HEAD not in sources(off)
    assert on.ids == off.ids
