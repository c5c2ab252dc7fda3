"""What step events say about tokens and drafts, and that it explains what happened."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import pytest

from pass_core.decoding.events import Candidate, Candidates, DraftStatus, Provenance
from pass_core.decoding.step_recorder import TOP_CANDIDATES
from pass_core.decoding.summary import SummaryBuilder, summarize
from pass_core.models.language_model import LanguageModel
from pass_core.sampling.noise import Stream, gumbel, uniform
from pass_core.settings import Strategy, Verification
from tests import tiny
from tests.core.decoding.engine import Result, random_lookahead, run

PROMPT = [1, 2, 3]
SEED = 11


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny.tiny_llama(vocabulary=12)


def generate(model: LanguageModel, strategy: Strategy, rule: Verification, **options: object) -> Result:
    lookahead = random_lookahead(model, 4)
    return run(model, PROMPT, strategy, k=4, count=60, seed=SEED, verification=rule, lookahead=lookahead, **options)  # type: ignore[arg-type]


CASES = [(s, r) for s in (Strategy.TWO_CALL, Strategy.FUSED) for r in Verification]


@pytest.mark.parametrize(("strategy", "rule"), CASES)
def test_events_are_frozen(model: LanguageModel, strategy: Strategy, rule: Verification) -> None:
    step = generate(model, strategy, rule).steps[3]
    for event in (step, step.tokens[0], step.drafts[0], step.tokens[0].top[0], step.settings):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, dataclasses.fields(event)[0].name, 1)


@pytest.mark.parametrize(("strategy", "rule"), CASES)
def test_candidates_are_the_targets_likeliest(model: LanguageModel, strategy: Strategy, rule: Verification) -> None:
    for step in generate(model, strategy, rule, top_k=6).steps:
        for token in step.tokens:
            probabilities = [c.p_target for c in token.top]
            assert probabilities == sorted(probabilities, reverse=True)
            assert sum(probabilities) == pytest.approx(1.0)
            assert len(token.top) == 6 <= TOP_CANDIDATES
            assert {c.id: c.p_target for c in token.top}[token.id] == token.p_target
            has_draft = token.provenance in (Provenance.ACCEPTED, Provenance.CORRECTED)
            assert (token.p_draft is not None) == has_draft


@pytest.mark.parametrize("strategy", Strategy)
def test_the_noise_explains_every_coupled_choice(model: LanguageModel, strategy: Strategy) -> None:
    """The token emitted is the candidate with the largest log p + g, at its absolute position."""
    for step in generate(model, strategy, Verification.COUPLED, top_k=6).steps:
        for token in step.tokens:
            scores = {c.id: math.log(c.p_target) + (c.noise or 0.0) for c in token.top}
            assert max(scores, key=scores.__getitem__) == token.id
            position = len(PROMPT) + token.index
            assert [c.noise for c in token.top] == [float(gumbel(SEED, position, c.id)) for c in token.top]
            assert token.uniform is None


@pytest.mark.parametrize("strategy", [Strategy.TWO_CALL, Strategy.FUSED])
def test_the_uniform_number_explains_every_rejection(model: LanguageModel, strategy: Strategy) -> None:
    seen = set()
    for step in generate(model, strategy, Verification.REJECTION).steps:
        start = step.tokens[0].index + (1 if strategy is Strategy.TWO_CALL else 0)
        for draft in step.drafts:
            seen.add(draft.status)
            assert draft.noise is None
            if draft.status is DraftStatus.UNREACHED:
                continue
            assert draft.uniform == float(uniform(SEED, len(PROMPT) + start + draft.depth - 1, draft.id, Stream.ACCEPT))
            assert draft.p_draft is not None
            assert draft.p_target is not None
            assert (draft.status is DraftStatus.ACCEPTED) == (draft.uniform * draft.p_draft < draft.p_target)
    assert seen == set(DraftStatus)


@pytest.mark.parametrize(("strategy", "rule"), CASES)
def test_accepted_drafts_are_the_tokens_of_the_text(
    model: LanguageModel, strategy: Strategy, rule: Verification
) -> None:
    for step in generate(model, strategy, rule).steps:
        kept = [(d.id, d.depth, d.p_target, d.p_draft) for d in step.drafts if d.status is DraftStatus.ACCEPTED]
        tokens = [t for t in step.tokens if t.provenance is Provenance.ACCEPTED]
        assert [(t.id, t.draft_position, t.p_target, t.p_draft) for t in tokens] == kept
        for draft in step.drafts:
            if draft.status is DraftStatus.REJECTED:
                corrected = step.tokens[-1]
                assert corrected.provenance is Provenance.CORRECTED
                assert corrected.draft_position == draft.depth
                assert corrected.id != draft.id


def test_candidates_are_described_when_somebody_looks() -> None:
    asked: list[int] = []
    made = (Candidate(3, "c", 0.75), Candidate(1, "a", 0.25))

    def describe() -> tuple[Candidate, ...]:
        asked.append(1)
        return made

    top = Candidates(describe)
    assert not asked
    assert (len(top), top[0], list(top[1:]), list(top)) == (2, made[0], [made[1]], list(made))
    assert (top, hash(top)) == (made, hash(made))
    assert made == top
    assert top != made[:1]
    assert len(asked) == 1
    for copied in (pickle.loads(pickle.dumps(top)), copy.deepcopy(top)):
        assert type(copied) is tuple
        assert copied == made


def test_a_distribution_over_a_large_vocabulary_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pass_core.decoding.step_recorder.SHORT", 11)
    model = tiny.tiny_llama(vocabulary=12)
    kept, cut = (generate(model, Strategy.AUTOREGRESSIVE, Verification.COUPLED, top_k=k) for k in (0, 6))
    assert all(type(t.top) is tuple for s in kept.steps for t in s.tokens)
    assert all(type(t.top) is Candidates for s in cut.steps for t in s.tokens)


def test_greedy_events_carry_no_noise(model: LanguageModel) -> None:
    got = generate(model, Strategy.FUSED, Verification.COUPLED, temperature=0.0)
    assert all(t.p_target == 1.0 and t.top[0].noise is None for s in got.steps for t in s.tokens)


def test_seconds_and_rows(model: LanguageModel) -> None:
    got = generate(model, Strategy.FUSED, Verification.COUPLED)
    for step in got.steps:
        assert 0 < step.forward_seconds <= step.seconds
        assert len(step.rows) == step.calls == 1
    assert [s.prefill is not None for s in got.steps] == [True] + [False] * (len(got.steps) - 1)
    assert [s.index for s in got.steps] == list(range(len(got.steps)))
    assert got.steps[-1].context_length == len(PROMPT) + 60


def test_a_summary_can_be_read_at_any_time(model: LanguageModel) -> None:
    got = generate(model, Strategy.TWO_CALL, Verification.COUPLED)
    builder = SummaryBuilder()
    for count, step in enumerate(got.steps, start=1):
        builder.add(step)
        assert builder.summary() == summarize(got.steps[:count])
    whole = builder.summary()
    assert whole.prompt_tokens == 3
    assert whole.decode_seconds == pytest.approx(sum(s.seconds for s in got.steps))
    assert whole.tokens_per_second == pytest.approx(60 / whole.decode_seconds)
    assert whole.time_to_first_token == pytest.approx(whole.prefill_seconds + got.steps[0].seconds)
    assert (whole.stop_reason, whole.strategy, whole.verification, whole.k) == (
        "max_new_tokens",
        "pass-two-call",
        "coupled",
        4,
    )
    assert whole.as_dict()["new_tokens"] == 60


def test_nothing_summed_up_is_no_error() -> None:
    assert summarize([]).tokens_per_second == 0.0
