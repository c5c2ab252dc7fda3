"""transformers' prompt lookup as step events: the text is transformers' own, and the events say truly how it came."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from pass_core.decoding.events import DraftSource, DraftStatus, Provenance, StopReason
from pass_core.engine import EngineBusy
from pass_core.evaluation.baselines.transformers_generate import TransformersDecoder
from pass_core.evaluation.baselines.transformers_setup import (
    as_sampled,
    as_transformers_made_it,
    generate_ids,
    generation_config,
)
from pass_core.models.language_model import LanguageModel
from pass_core.sampling.distribution import distributions
from pass_core.settings import Baseline, BaselineSettings, DecodingSettings, SamplingSettings, StopConditions, Strategy
from tests import tiny
from tests.core.decoding.engine import Result, run
from tests.engines import engine_of

PROMPT = [1, 2, 3, 1, 2, 3, 1, 2]
LOOKUP = Baseline.TRANSFORMERS
EDGE = SamplingSettings(0.8, 10)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """Few tokens, so that texts repeat themselves and copied drafts are kept now and then."""
    return tiny.tiny_llama(vocabulary=12)


def by_transformers(model: LanguageModel, count: int, sampling: SamplingSettings, seed: int, k: int) -> list[int]:
    """Its generate without anybody looking on."""
    ids = torch.tensor([PROMPT])
    with as_transformers_made_it(model):
        torch.manual_seed(seed)
        config = generation_config(sampling, new_tokens=count, eos=[], lookup=k)
        out = model.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return out[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_greedy_text_is_our_own(family: str) -> None:
    model = tiny.FAMILIES[family]()
    plain = run(model, PROMPT, temperature=0.0, count=40)
    for k in (0, 4):
        got = run(model, PROMPT, LOOKUP, k=k, temperature=0.0, count=40)
        assert got.ids == plain.ids
        assert got.stop_reason is StopReason.MAX_NEW_TOKENS


@pytest.mark.parametrize(
    "sampling",
    [
        EDGE,
        SamplingSettings(1.2, 0),
        SamplingSettings(0.0, 10),
        SamplingSettings(1.2, 0, 0.6),
        SamplingSettings(1.0, 10, 0.8, 0.3),
    ],
)
@pytest.mark.parametrize("k", [0, 2, 6])
def test_the_text_is_what_transformers_writes_unwatched(
    model: LanguageModel, k: int, sampling: SamplingSettings
) -> None:
    for seed in range(2):
        got = run(model, PROMPT, LOOKUP, k=k, count=40, seed=seed, **asdict(sampling))
        assert got.ids == by_transformers(model, 40, sampling, seed, k)


def test_the_events_add_up(model: LanguageModel) -> None:
    seen: set[Provenance] = set()
    for seed in range(4):
        got = run(model, PROMPT, LOOKUP, k=4, count=80, seed=seed, stop=StopConditions(80, ignore_eos=True))
        check_events(got)
        seen |= {t.provenance for s in got.steps for t in s.tokens}
        summary = got.summary
        assert summary.strategy == "transformers-prompt-lookup"
        assert summary.new_tokens == 80
        assert sum(summary.provenance.values()) == 80
        assert summary.sources == {"prompt-lookup": summary.accepted}
        assert summary.accepted == sum(summary.accepted_by_position)
        assert summary.calls == summary.steps
    assert seen == set(Provenance)


def check_events(got: Result) -> None:
    assert got.steps[0].prefill is not None
    assert (got.steps[0].prefill.prompt_tokens, got.steps[0].prefill.calls) == (len(PROMPT), 1)
    context = len(PROMPT)
    text = list(PROMPT)
    for step in got.steps:
        context += len(step.tokens)
        assert step.context_length == context
        assert step.calls == 1
        assert step.rows == (1 + len(step.drafts),)
        assert step.lookahead_rows == 0
        assert 0 < step.forward_seconds <= step.seconds
        kept = [d for d in step.drafts if d.status is DraftStatus.ACCEPTED]
        lost = [d for d in step.drafts if d.status is DraftStatus.REJECTED]
        assert [d.id for d in kept] == [t.id for t in step.tokens[: len(kept)]]
        assert step.accepted == len(kept)
        assert len(lost) == (step.tokens[-1].provenance is Provenance.CORRECTED)
        assert [d.depth for d in step.drafts] == list(range(1, len(step.drafts) + 1))
        assert all(d.source is DraftSource.LOOKUP for d in step.drafts)
        # The drafts really stand somewhere in the text before, in a row.
        copied = [d.id for d in step.drafts]
        assert any(text[i : i + len(copied)] == copied for i in range(len(text)))
        text += [t.id for t in step.tokens]
        for token in step.tokens:
            assert 0 < token.p_target <= 1
            assert all(c.noise is None for c in token.top)
        for draft in kept:
            assert draft.p_target == next(t.p_target for t in step.tokens if t.draft_position == draft.depth)


def test_plain_generate_drafts_nothing(model: LanguageModel) -> None:
    got = run(model, PROMPT, LOOKUP, k=0, count=20)
    assert got.provenance == ["model"] * 20
    assert [s.rows for s in got.steps] == [(1,)] * 20


def test_probabilities_are_those_of_the_model(model: LanguageModel) -> None:
    got = run(model, PROMPT, LOOKUP, k=3, count=30, temperature=0.7, top_k=0)
    ids = torch.tensor([PROMPT + got.ids])
    logits = model.model(ids).logits[0, len(PROMPT) - 1 : -1]
    wanted = distributions(logits, SamplingSettings(0.7, 0))
    tokens = [t for s in got.steps for t in s.tokens]
    assert [t.p_target for t in tokens] == pytest.approx([d.prob(t.id) for d, t in zip(wanted, tokens)], abs=1e-5)


def test_probabilities_are_those_that_top_p_and_min_p_leave(model: LanguageModel) -> None:
    sampling = SamplingSettings(1.1, 10, 0.8, 0.1)
    got = run(model, PROMPT, LOOKUP, k=3, count=30, **asdict(sampling))
    logits = model.model(torch.tensor([PROMPT + got.ids])).logits[0, len(PROMPT) - 1 : -1]
    tokens = [t for s in got.steps for t in s.tokens]
    found = [t.p_target for t in tokens]
    assert found == pytest.approx([d.prob(t.id) for d, t in zip(distributions(logits, sampling), tokens)], abs=1e-5)
    for ours, theirs in zip(distributions(logits, sampling), as_sampled(logits.float(), sampling), strict=True):
        assert sorted(ours.ids.tolist()) == sorted(theirs.ids.tolist())


def test_ties_at_the_edge_of_top_k_stay_as_in_transformers() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0, 0.0]])
    (kept,) = as_sampled(logits, SamplingSettings(1.0, 2))
    assert kept.ids.tolist() == [1, 2, 3, 4]
    assert np.exp(kept.log_p).sum() == pytest.approx(1.0)
    assert as_sampled(logits, SamplingSettings(0.0, 2))[0].ids.tolist() == [1]
    assert as_sampled(logits, SamplingSettings(1.0, 0))[0].ids.tolist() == list(range(6))


def test_end_of_sequence(model: LanguageModel) -> None:
    free = run(model, PROMPT, LOOKUP, k=4, count=60, seed=1).ids
    end = free[17]
    ending = replace(model, eos_token_ids=frozenset({end}))
    got = run(ending, PROMPT, LOOKUP, k=4, count=60, seed=1)
    assert got.stop_reason is StopReason.END_OF_SEQUENCE
    assert got.ids[-1] == end
    assert end not in got.ids[:-1]
    on = run(ending, PROMPT, LOOKUP, k=4, seed=1, stop=StopConditions(60, ignore_eos=True))
    assert len(on.ids) == 60
    assert end in on.ids


def test_a_model_file_cannot_end_a_text_that_is_to_go_on(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    free = by_transformers(model, 20, EDGE, 1, 3)
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", free[5])
    assert run(model, PROMPT, LOOKUP, k=3, seed=1, stop=StopConditions(20, ignore_eos=True)).ids == free
    # The benchmark's own runner of transformers likewise.
    assert generate_ids(model, PROMPT, EDGE, new_tokens=20, seed=1, lookup=3, ignore_eos=True) == free


def test_a_stop_string_ends_it_inside_a_batch() -> None:
    model = tiny.tiny_llama(tokenizer=True)
    free = run(model, "abcabcabcab", LOOKUP, k=4, count=60, temperature=0.0)
    word = free.text[20:22]
    got = run(model, "abcabcabcab", LOOKUP, k=4, temperature=0.0, stop=StopConditions(60, stop_strings=(word,)))
    assert got.stop_reason is StopReason.STOP_STRING
    shown = got.text[: len(got.text) - got.steps[-1].stop_overlap]
    assert shown == free.text[: free.text.index(word)]


def test_a_full_context_ends_it() -> None:
    model = tiny.tiny_llama(context=24)
    got = run(model, PROMPT, LOOKUP, k=4, count=100)
    assert got.stop_reason is StopReason.CONTEXT_FULL
    assert got.steps[-1].context_length == 24
    full = run(model, [1] * 24, LOOKUP, k=4)
    assert (full.stop_reason, full.ids) == (StopReason.CONTEXT_FULL, [])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_end_of_the_context_under_a_repeating_text(family: str) -> None:
    """Copied tokens would stand beyond the last position, where learned positions have no row (an IndexError)."""
    model = tiny.FAMILIES[family]()
    limit = model.capabilities.context_length
    prompt = ([5, 6, 7] * limit)[: limit - 12]
    for k in (0, 10):
        got = run(model, prompt, LOOKUP, k=k, temperature=0.0, count=100)
        assert got.stop_reason is StopReason.CONTEXT_FULL
        assert len(got.ids) == 12
        assert got.ids == run(model, prompt, temperature=0.0, count=100).ids
    assert len(generate_ids(model, prompt, SamplingSettings(0.0, 0), new_tokens=12, lookup=10)) >= 12


def test_no_more_tokens_than_asked_for() -> None:
    """All copied tokens accepted in the last step: transformers writes on, the text ends where it was asked to."""
    model = tiny.tiny_llama(vocabulary=3)
    for count in range(5, 16):
        got = run(model, [1, 2] * 8, LOOKUP, k=8, temperature=0.0, count=count)
        assert len(got.ids) == count
        assert got.stop_reason is StopReason.MAX_NEW_TOKENS


def test_steps_come_in_the_thread_that_asks(model: LanguageModel) -> None:
    """torch in a second thread would be measured at a fraction of its speed."""
    seen: set[int] = set()
    hook = model.model.register_forward_hook(lambda *_: seen.add(threading.get_ident()))
    try:
        run(model, PROMPT, LOOKUP, k=3)
    finally:
        hook.remove()
    assert seen == {threading.get_ident()}


def test_the_engine_is_busy_meanwhile(model: LanguageModel) -> None:
    steps = TransformersDecoder(engine_of(model), BaselineSettings(k=3)).decode(PROMPT)
    next(steps)
    with pytest.raises(EngineBusy):
        next(engine_of(model).decode(PROMPT, DecodingSettings(Strategy.AUTOREGRESSIVE)))
    steps.close()  # type: ignore[attr-defined]


def test_a_prompt_of_one_token(model: LanguageModel) -> None:
    got = run(model, [3], LOOKUP, k=3, count=12, temperature=0.0)
    assert got.ids == run(model, [3], count=12, temperature=0.0).ids
    assert got.steps[0].prefill is not None
    assert got.steps[0].prefill.calls == 0


def test_stop_takes_effect_within_one_call(model: LanguageModel) -> None:
    calls = 0

    def count_call(*_: object) -> None:
        nonlocal calls
        calls += 1

    steps = []
    hook = model.model.register_forward_hook(count_call)
    try:
        wanted = threading.Event()
        for step in TransformersDecoder(engine_of(model), BaselineSettings(k=3)).decode(
            PROMPT, stop=StopConditions(200), cancelled=wanted.is_set
        ):
            steps.append(step)
            if not wanted.is_set():
                wanted.set()
                until = calls
    finally:
        hook.remove()
    assert steps[-1].stop_reason is StopReason.CANCELLED
    assert steps[-1].tokens == ()
    # transformers may have begun one call before it could know, and whatever ran while this thread slept.
    assert len(steps) <= until + 2


def test_cancelled_before_it_begins(model: LanguageModel) -> None:
    got = run(model, PROMPT, LOOKUP, k=3, cancelled=lambda: True)
    assert [s.stop_reason for s in got.steps] == [StopReason.CANCELLED]
    assert got.ids == []


def test_nothing_is_left_behind(model: LanguageModel) -> None:
    habits, threads = model.model.generation_config, threading.active_count()
    state = torch.random.get_rng_state()
    steps = TransformersDecoder(engine_of(model), BaselineSettings(k=3)).decode(PROMPT, stop=StopConditions(200))
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads
    assert not torch.is_inference_mode_enabled()
    with engine_of(model).exclusive():
        pass
    assert "_get_candidate_generator" not in vars(model.model)
    assert model.model.generation_config is habits
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.model._forward_hooks
    assert not model.model._forward_pre_hooks


def test_an_error_of_transformers_arrives(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no such cache")

    monkeypatch.setattr(model.model, "generate", fail)
    with pytest.raises(ValueError, match="no such cache"):
        run(model, PROMPT, LOOKUP, k=3)
