"""Settings that change while a text is written take effect with the next step, and break nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest

from pass_core.models.language_model import LanguageModel
from pass_core.settings import (
    DecodingSettings,
    LookaheadPart,
    SamplingSettings,
    StopConditions,
    Strategy,
    Verification,
)
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, Result, random_lookahead, run
from tests.engines import engine_of

PROMPT = [1, 5, 2, 7]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny.tiny_llama(vocabulary=12)


def changing(model: LanguageModel, settings: Sequence[DecodingSettings], count: int = 60) -> Result:
    """A run whose settings go round through a list, one each step."""
    at: Iterator[DecodingSettings] = itertools.cycle(settings)
    current = [next(at)]
    steps = []
    lookahead = random_lookahead(model, 4, ALL_PARTS)
    for step in engine_of(model).decode(
        PROMPT, lambda: current[0], lookahead=lookahead, stop=StopConditions(count), seed=9
    ):
        assert step.settings == current[0]
        steps.append(step)
        current[0] = next(at)
    return Result(steps)


def test_strategy_k_budget_lookup_and_parts_may_change_without_changing_the_text(model: LanguageModel) -> None:
    sampling = SamplingSettings(0.9, 8)
    settings = [
        DecodingSettings(strategy, k, sampling, auto=False, row_budget=budget, prompt_lookup=lookup, disabled_parts=off)
        for strategy, k, budget, lookup, off in (
            (Strategy.FUSED, 4, None, False, frozenset[LookaheadPart]()),
            (Strategy.FUSED, 2, None, False, frozenset[LookaheadPart]()),
            (Strategy.FUSED, 4, 10, True, frozenset[LookaheadPart]()),
            (Strategy.FUSED, 3, 20, False, frozenset({LookaheadPart.SAMPLER})),
            (Strategy.TWO_CALL, 3, None, False, frozenset({LookaheadPart.SAMPLER})),
            (Strategy.FUSED, 3, None, True, ALL_PARTS),
            (Strategy.AUTOREGRESSIVE, 3, None, False, frozenset[LookaheadPart]()),
            (Strategy.FUSED, 0, None, False, frozenset[LookaheadPart]()),
            (Strategy.FUSED, 4, 6, False, frozenset[LookaheadPart]()),
        )
    ]
    got = changing(model, settings)
    plain = run(model, PROMPT, count=60, seed=9, temperature=0.9, top_k=8)
    assert got.ids == plain.ids
    assert got.summary.accepted > 0


def test_greedy_text_stays_greedy_when_the_rule_changes(model: LanguageModel) -> None:
    settings = [
        DecodingSettings(strategy, 3, SamplingSettings(0.0), rule, auto=False)
        for strategy in (Strategy.FUSED, Strategy.TWO_CALL)
        for rule in Verification
    ]
    assert changing(model, settings).ids == run(model, PROMPT, count=60, temperature=0.0).ids


def test_temperature_and_top_k_take_effect_with_the_next_step(model: LanguageModel) -> None:
    cold, hot = (DecodingSettings(Strategy.FUSED, 3, SamplingSettings(t, 4), auto=False) for t in (0.0, 2.0))
    got = changing(model, [cold, hot])
    for step in got.steps:
        for token in step.tokens:
            if step.settings == cold:
                assert token.p_target == 1.0
            else:
                assert 0 < token.p_target < 1
                assert len(token.top) == 4


def test_top_p_and_min_p_take_effect_with_the_next_step(model: LanguageModel) -> None:
    settings = [
        DecodingSettings(Strategy.FUSED, 3, SamplingSettings(1.5, 4, *cut), auto=False)
        for cut in ((1.0, 0.0), (1e-6, 0.0), (1.0, 1.0))
    ]
    for step in changing(model, settings).steps:
        for token in step.tokens:
            assert len(token.top) == (4 if step.settings == settings[0] else 1)


def test_a_step_shows_the_k_in_force(model: LanguageModel) -> None:
    lookahead = random_lookahead(model, 3)
    for strategy in (Strategy.TWO_CALL, Strategy.FUSED):
        got = run(model, PROMPT, strategy, k=10, lookahead=lookahead)
        assert {s.settings.k for s in got.steps} == {3}
    # Prompt lookup drafts deeper than the file's L, but only in fused trees.
    deep = run(model, PROMPT, Strategy.FUSED, k=10, lookahead=lookahead, prompt_lookup=True)
    assert {s.settings.k for s in deep.steps} == {10}
    two = run(model, PROMPT, Strategy.TWO_CALL, k=10, lookahead=lookahead, prompt_lookup=True)
    assert {s.settings.k for s in two.steps} == {3}


def test_a_run_may_follow_another_with_other_embeddings(model: LanguageModel) -> None:
    plain = run(model, PROMPT, count=30).ids
    for seed in range(3):
        for strategy in (Strategy.FUSED, Strategy.TWO_CALL):
            lookahead = random_lookahead(model, 2 + seed, ALL_PARTS if seed % 2 else frozenset(), seed=seed)
            assert run(model, PROMPT, strategy, k=4, count=30, lookahead=lookahead).ids == plain
