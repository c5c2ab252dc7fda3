"""Calls, tokens and provenance add up, with drafts that are never, always or sometimes right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pass_core.decoding.events import DraftSource, DraftStatus, Provenance
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.cost import CostModel
from pass_core.settings import Strategy, Verification
from tests import tiny
from tests.core.decoding.engine import Result, TableRuntime, random_lookahead, run, sharp
from tests.engines import engine_of, use

VOCABULARY = 32
LENGTH = 5


def counting_model(guess: Callable[[int, int], int]) -> LanguageModel:
    """A model that counts upwards; `guess` (the token right, 0-based step) gives what a look-ahead row predicts."""
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    table = TableRuntime(
        VOCABULARY,
        lambda c: sharp(VOCABULARY, (c[-1] + 1) % VOCABULARY),
        lambda c, step: sharp(VOCABULARY, guess((c[-1] + 2 + step) % VOCABULARY, step) % VOCABULARY),
    )
    use(model, runtime=table)
    return model


def runtime_of(model: LanguageModel) -> TableRuntime:
    runtime = engine_of(model).runtime
    assert isinstance(runtime, TableRuntime)
    return runtime


def always(right: int, step: int) -> int:
    return right


def never(right: int, step: int) -> int:
    return right + 1


def only_first(correct: int) -> Callable[[int, int], int]:
    """Right at the first `correct` depths."""
    return lambda right, step: right if step < correct else right + 1


def counted(model: LanguageModel, strategy: Strategy, k: int, count: int, rule: Verification) -> Result:
    got = run(
        model, [0], strategy, k=k, count=count, verification=rule, lookahead=random_lookahead(model, LENGTH), top_k=4
    )
    assert got.ids == [(i + 1) % VOCABULARY for i in range(count)]
    return got


@pytest.mark.parametrize("rule", Verification)
@pytest.mark.parametrize("k", range(1, LENGTH + 1))
def test_two_call_always_accepted(k: int, rule: Verification) -> None:
    got = counted(counting_model(always), Strategy.TWO_CALL, k, 3 * (k + 2), rule)
    assert [len(s.tokens) for s in got.steps] == [k + 2] * 3
    assert [s.calls for s in got.steps] == [2] * 3
    assert got.provenance == (["model"] + ["accepted"] * k + ["bonus"]) * 3
    assert [s.rows for s in got.steps] == [(1 + k, 1 + k)] * 3
    assert got.summary.acceptance_rate == 1.0


@pytest.mark.parametrize("rule", Verification)
def test_two_call_never_accepted(rule: Verification) -> None:
    got = counted(counting_model(never), Strategy.TWO_CALL, 3, 10, rule)
    # Where two tokens are left there is no room for a draft, and each takes a plain call.
    assert [len(s.tokens) for s in got.steps] == [2] * 4 + [1, 1]
    assert got.provenance == ["model", "corrected"] * 4 + ["model", "model"]
    assert [d.status.value for d in got.steps[0].drafts] == ["rejected", "unreached", "unreached"]
    assert got.summary.accepted == 0


@pytest.mark.parametrize("rule", Verification)
@pytest.mark.parametrize("right", range(1, 4))
def test_two_call_sometimes_accepted(right: int, rule: Verification) -> None:
    got = counted(counting_model(only_first(right)), Strategy.TWO_CALL, 4, 3 * (right + 2) + 7, rule)
    for step in got.steps[:3]:
        assert [t.provenance.value for t in step.tokens] == ["model", *["accepted"] * right, "corrected"]
        assert [t.draft_position for t in step.tokens] == [None, *range(1, right + 1), right + 1]
        assert [d.status.value for d in step.drafts] == (
            ["accepted"] * right + ["rejected"] + ["unreached"] * (4 - right - 1)
        )
    assert got.summary.accepted_by_position[right - 1] >= 3


@pytest.mark.parametrize("rule", Verification)
@pytest.mark.parametrize("k", range(1, LENGTH + 1))
def test_fused_always_accepted(k: int, rule: Verification) -> None:
    got = counted(counting_model(always), Strategy.FUSED, k, 1 + 3 * (k + 1), rule)
    assert [len(s.tokens) for s in got.steps] == [1] + [k + 1] * 3
    assert [s.calls for s in got.steps] == [1] * 4
    assert got.provenance == ["model"] + (["accepted"] * k + ["bonus"]) * 3
    assert got.steps[1].rows == ((k + 1) ** 2,)


@pytest.mark.parametrize("rule", Verification)
def test_fused_never_accepted(rule: Verification) -> None:
    got = counted(counting_model(never), Strategy.FUSED, 3, 10, rule)
    assert [len(s.tokens) for s in got.steps] == [1] * 10
    assert got.provenance == ["model"] + ["corrected"] * 8 + ["model"]  # the last one has no room for a draft


CASES = [
    (strategy, rule, seed)
    for strategy in (Strategy.TWO_CALL, Strategy.FUSED)
    for rule in Verification
    for seed in range(4)
]


@pytest.fixture(scope="module")
def noisy() -> LanguageModel:
    """Flat random distributions and drafts that follow them half-heartedly: every outcome occurs."""
    model = tiny.tiny_llama(vocabulary=8)
    rng = np.random.default_rng(0)
    table = rng.normal(0, 1.5, (8, 8)).astype(np.float32)
    blurred = [np.log(np.exp(table) @ np.exp(table) / np.exp(table).sum(1) + 1e-3).astype(np.float32)]
    for _ in range(4):
        blurred.append(np.log(np.exp(blurred[-1]) @ np.exp(table) + 1e-3).astype(np.float32))
    use(model, runtime=TableRuntime(8, lambda c: table[c[-1]], lambda c, step: blurred[step][c[-1]]))
    return model


@pytest.mark.parametrize(("strategy", "rule", "seed"), CASES)
def test_what_a_run_counts_adds_up(noisy: LanguageModel, strategy: Strategy, rule: Verification, seed: int) -> None:
    got = run(noisy, [1], strategy, k=4, count=150, seed=seed, verification=rule, lookahead=random_lookahead(noisy, 5))
    summary = got.summary
    assert summary.new_tokens == len(got.ids) == 150
    # a accepted drafts give a + 2 tokens for two calls, or a + 1 for one.
    assert summary.new_tokens == summary.calls + summary.accepted
    for step in got.steps:
        assert len(step.tokens) == step.calls + step.accepted
        assert len(step.rows) == step.calls
        assert step.accepted == sum(d.status is DraftStatus.ACCEPTED for d in step.drafts)
        assert step.proposed == len(step.drafts)
        assert step.tokens[-1].provenance is not Provenance.ACCEPTED
        assert 0 <= step.lookahead_rows <= sum(step.rows)
        ends = [t.provenance for t in step.tokens if t.provenance in (Provenance.CORRECTED, Provenance.BONUS)]
        assert len(ends) <= 1
    assert sum(summary.provenance.values()) == 150
    assert summary.provenance["accepted"] == summary.accepted == sum(summary.accepted_by_position)
    assert summary.sources == {"look-ahead": summary.accepted}
    assert summary.acceptance_rate == summary.accepted / summary.proposed
    assert summary.tokens_per_call == 150 / summary.calls
    if strategy is Strategy.TWO_CALL:
        assert all(s.calls == 2 for s in got.steps[:-2])  # only the end may lack room for drafts
    else:
        assert summary.calls == summary.steps
    # Each depth is reached only past an accepted one, so the counts fall with depth.
    assert list(summary.examined_by_position) == sorted(summary.examined_by_position, reverse=True)
    assert all(a <= e for a, e in zip(summary.accepted_by_position, summary.examined_by_position))
    assert {"model", "accepted", "corrected", "bonus"} <= {p for p, n in summary.provenance.items() if n}


@pytest.mark.parametrize("budget", [2, 7, 30])
def test_a_tree_has_at_most_one_survivor_per_depth(noisy: LanguageModel, budget: int) -> None:
    got = run(
        noisy,
        [1],
        Strategy.FUSED,
        k=4,
        count=150,
        row_budget=budget,
        prompt_lookup=True,
        lookahead=random_lookahead(noisy, 5),
    )
    assert got.summary.new_tokens == got.summary.calls + got.summary.accepted
    widest = 0
    for step in got.steps:
        assert sum(step.rows) <= budget
        by_index = {d.index: d for d in step.drafts}
        for draft in step.drafts:
            above = None if draft.parent is None else by_index[draft.parent]
            assert draft.depth == (1 if above is None else above.depth + 1)
            if above is not None and above.status is not DraftStatus.ACCEPTED:
                assert draft.status is DraftStatus.UNREACHED
        for parent in {d.parent for d in step.drafts}:
            siblings = [d for d in step.drafts if d.parent == parent]
            widest = max(widest, len(siblings))
            assert len({d.id for d in siblings}) == len(siblings)
            assert sum(d.status is DraftStatus.ACCEPTED for d in siblings) <= 1
        assert max((d.depth for d in step.drafts), default=0) <= 4
    assert widest > 1 or budget == 2


def test_wider_trees_accept_more(noisy: LanguageModel) -> None:
    lookahead = random_lookahead(noisy, 5)
    chain = run(noisy, [1], Strategy.FUSED, k=1, count=400, lookahead=lookahead, row_budget=4).summary
    tree = run(noisy, [1], Strategy.FUSED, k=1, count=400, lookahead=lookahead, row_budget=12).summary
    assert tree.tokens_per_call > chain.tokens_per_call


def test_provenance_names_the_source_of_looked_up_drafts() -> None:
    got = run(
        counting_model(never),
        [5, 6, 7, 8, 9, 5],
        Strategy.FUSED,
        k=3,
        count=12,
        row_budget=8,
        prompt_lookup=True,
        temperature=0.0,
    )
    assert got.summary.sources.get(DraftSource.LOOKUP.value, 0) >= 3
    sources = {t.source for s in got.steps for t in s.tokens if t.provenance is Provenance.ACCEPTED}
    assert sources == {DraftSource.LOOKUP}


def test_where_drafting_cannot_pay_auto_makes_plain_calls_and_says_so() -> None:
    model = counting_model(never)
    use(model, runtime=engine_of(model).runtime, cost=CostModel({1: 1.0, 48: 48.0}, clock=lambda: 0.0))
    got = run(model, [0], Strategy.FUSED, k=4, count=60, auto=True)
    late = got.steps[30:]
    assert sum(s.rows == (1,) for s in late) > len(late) * 0.8
    assert any("plain" in s.reason for s in late)


def test_where_rows_are_free_auto_drafts() -> None:
    model = counting_model(always)
    use(model, runtime=engine_of(model).runtime, cost=CostModel({1: 1.0, 48: 1.0}, clock=lambda: 0.0))
    got = run(model, [0], Strategy.FUSED, k=4, count=60, auto=True)
    assert got.summary.tokens_per_call > 3
    assert got.summary.calls == 60 - got.summary.accepted


def test_no_call_ever_writes_beyond_what_the_cache_was_made_for() -> None:
    for strategy in Strategy:
        model = counting_model(only_first(2))
        run(model, [0] * 10, strategy, k=5, count=100, lookahead=random_lookahead(model, 5))
        (cache,) = runtime_of(model).caches
        assert cache.high_water <= cache.capacity  # TokenCache refuses more by itself
        assert cache.length <= 10 + 100


def test_the_cache_holds_exactly_the_text_but_its_last_token() -> None:
    for strategy in Strategy:
        model = counting_model(only_first(2))
        got = run(model, [3, 1], strategy, k=4, count=31, lookahead=random_lookahead(model, 5))
        (cache,) = runtime_of(model).caches
        # What a step emits last is the root of the next step, whose keys and values are not computed yet.
        assert cache.tokens == tuple([3, 1, *got.ids][: cache.length])
        assert cache.length == 2 + 31 - 1
