"""Where a text ends: length, context, end-of-sequence, stop strings, cancellation, also inside accepted drafts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pass_core.decoding.events import DraftStatus, StopReason
from pass_core.decoding.loop import PREFILL_ROWS, UnsupportedStrategy
from pass_core.models.language_model import Capabilities, LanguageModel
from pass_core.prompt import PromptError
from pass_core.settings import DecodingSettings, SettingsError, StopConditions, Strategy
from tests import tiny
from tests.core.decoding.engine import TableRuntime, random_lookahead, run, sharp
from tests.engines import engine_of, use

STRATEGIES = Strategy
SENTENCE = "Hello, wörld: 3 < 5! The end.\nAnd more text after it, on and on and on."


def scripted(
    text: bytes = SENTENCE.encode(), *, eos_at: int | None = None, context: int = 256
) -> tuple[LanguageModel, TableRuntime]:
    """A byte model that writes `text` after any one-token prompt, with look-ahead rows that always guess right."""
    model = tiny.tiny_llama(tokenizer=True, context=context)
    script = list(text)
    if eos_at is not None:
        script[eos_at] = tiny.END

    def at(index: int) -> np.ndarray:
        return sharp(tiny.BYTE_VOCABULARY, script[index % len(script)])

    runtime = TableRuntime(tiny.BYTE_VOCABULARY, lambda c: at(len(c) - 1), lambda c, step: at(len(c) + step))
    use(model, runtime=runtime)
    return model, runtime


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("ignore_eos", [False, True])
def test_a_stop_string_that_is_a_special_token_stops(strategy: Strategy, ignore_eos: bool) -> None:
    """It adds no text, so that no search of the text can find it."""
    model, _ = scripted(eos_at=9)
    name = model.tokenizer.convert_ids_to_tokens(tiny.END)
    model.eos_token_ids = frozenset()
    stop = StopConditions(40, ("never", name), ignore_eos)
    lookahead = random_lookahead(model, 5) if strategy.uses_lookahead else None
    steps = run(model, [65], strategy, k=5, lookahead=lookahead, stop=stop).steps
    assert steps[-1].stop_reason is StopReason.STOP_STRING
    assert steps[-1].stop_overlap == 0
    tokens = [t for s in steps for t in s.tokens]
    assert tokens[-1].id == tiny.END
    assert "".join(t.text for t in tokens) == text_of(9)


def text_of(count: int) -> str:
    return (SENTENCE * 20).encode()[:count].decode(errors="replace")


@pytest.mark.parametrize("count", range(1, 16))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_exactly_max_new_tokens(strategy: Strategy, count: int) -> None:
    model, _ = scripted()
    got = run(model, [65], strategy, count=count, k=5, lookahead=random_lookahead(model, 5))
    assert len(got.ids) == count
    assert got.text == text_of(count)
    assert got.stop_reason is StopReason.MAX_NEW_TOKENS
    assert [s.stop_reason for s in got.steps[:-1]] == [None] * (len(got.steps) - 1)
    assert [t.index for s in got.steps for t in s.tokens] == list(range(count))


@pytest.mark.parametrize("eos_at", range(12))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_end_of_sequence_inside_accepted_drafts(strategy: Strategy, eos_at: int) -> None:
    model, _ = scripted(eos_at=eos_at)
    got = run(model, [65], strategy, count=40, k=5, lookahead=random_lookahead(model, 5))
    assert got.stop_reason is StopReason.END_OF_SEQUENCE
    assert got.ids[-1] == tiny.END
    assert got.text == text_of(eos_at)
    last = got.steps[-1]
    kept_drafts = sum(d.status is DraftStatus.ACCEPTED for d in last.drafts)
    assert kept_drafts == last.accepted


def test_end_of_sequence_can_be_ignored() -> None:
    model, _ = scripted(eos_at=3)
    got = run(model, [65], Strategy.FUSED, k=5, stop=StopConditions(20, ignore_eos=True))
    assert got.stop_reason is StopReason.MAX_NEW_TOKENS
    assert len(got.ids) == 20


@pytest.mark.parametrize("stop", ["ö", "lo, w", "end.\n", "<", "rld: 3 < 5! The"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stop_strings_span_tokens_and_end_inside_accepted_drafts(strategy: Strategy, stop: str) -> None:
    model, _ = scripted()
    conditions = StopConditions(60, stop_strings=("never there", stop))
    got = run(model, [65], strategy, k=5, lookahead=random_lookahead(model, 5), stop=conditions)
    assert got.stop_reason is StopReason.STOP_STRING
    assert got.text == SENTENCE[: SENTENCE.index(stop) + len(stop)]
    overlap = got.steps[-1].stop_overlap
    assert got.text[: len(got.text) - overlap] == SENTENCE[: SENTENCE.index(stop)]
    assert [s.stop_overlap for s in got.steps[:-1]] == [0] * (len(got.steps) - 1)


def test_the_first_of_several_stop_strings_counts() -> None:
    model, _ = scripted()
    got = run(model, [65], Strategy.FUSED, k=5, stop=StopConditions(60, stop_strings=("rld", "wörld")))
    assert got.text[: len(got.text) - got.steps[-1].stop_overlap] == "Hello, "


def test_a_broken_character_behind_a_stop_string_belongs_to_the_overlap() -> None:
    """A token may carry the stop string and the first byte of a character that never comes."""
    model, runtime = scripted()
    engine_of(model).token_bytes._cache[ord(",")] = b",\xc3"
    got = run(model, [65], stop=StopConditions(60, stop_strings=(",",)))
    assert got.text == "Hello,\ufffd"
    assert got.steps[-1].stop_overlap == 2
    assert runtime.caches


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("room", range(8))
def test_the_context_limit_is_a_stop_reason_and_no_position_lies_beyond_it(strategy: Strategy, room: int) -> None:
    model, runtime = scripted(context=32)
    prompt = [65] * (32 - room)
    got = run(model, prompt, strategy, count=100, k=5, lookahead=random_lookahead(model, 5))
    assert len(got.ids) == room
    assert got.stop_reason is StopReason.CONTEXT_FULL
    assert got.steps[-1].context_length == 32
    assert max(runtime.positions, default=0) < 32


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_learned_positions_never_leave_their_table(strategy: Strategy) -> None:
    model = tiny.tiny_gpt2(vocabulary=12, context=20)
    plain = run(model, [1, 2, 3], count=100)
    got = run(model, [1, 2, 3], strategy, count=100, k=4, lookahead=random_lookahead(model, 4))
    assert got.ids == plain.ids
    assert len(got.ids) == 17
    assert got.stop_reason is StopReason.CONTEXT_FULL


def test_a_prompt_beyond_the_context_ends_at_once_without_a_call() -> None:
    model, runtime = scripted(context=32)
    got = run(model, [65] * 40, Strategy.FUSED)
    assert len(got.steps) == 1
    assert got.stop_reason is StopReason.CONTEXT_FULL
    assert runtime.positions == []
    assert got.steps[0].prefill is not None
    assert got.steps[0].prefill.prompt_tokens == 40


def test_max_new_tokens_wins_over_a_context_filled_by_the_same_token() -> None:
    model, _ = scripted(context=32)
    assert run(model, [65] * 28, count=4).stop_reason is StopReason.MAX_NEW_TOKENS
    assert run(model, [65] * 28, count=5).stop_reason is StopReason.CONTEXT_FULL


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("after", range(5))
def test_stop_takes_effect_within_one_model_call(strategy: Strategy, after: int) -> None:
    """Cancelled once `after` calls (the prompt's included) were made: at most one more is made."""
    model, runtime = scripted()
    calls: list[int] = []
    forward = runtime.forward

    def counted(*args: object) -> object:
        calls.append(1)
        return forward(*args)  # type: ignore[arg-type]

    runtime.forward = counted  # type: ignore[method-assign, assignment]
    got = run(
        model,
        [65, 66],
        strategy,
        count=100,
        k=3,
        lookahead=random_lookahead(model, 3),
        cancelled=lambda: len(calls) >= after,
    )
    assert got.stop_reason is StopReason.CANCELLED
    assert len(calls) == after
    assert got.text == text_of(len(got.ids) + 1)[1:]


def test_cancelling_during_a_long_prompt_stops_between_its_chunks() -> None:
    model, runtime = scripted(context=4 * PREFILL_ROWS)
    got = run(model, [65] * (3 * PREFILL_ROWS), cancelled=lambda: len(runtime.positions) >= PREFILL_ROWS)
    assert got.stop_reason is StopReason.CANCELLED
    assert got.ids == []
    assert len(runtime.positions) == PREFILL_ROWS


def test_long_prompts_are_processed_in_chunks() -> None:
    model, runtime = scripted(context=4 * PREFILL_ROWS)
    got = run(model, [65] * (2 * PREFILL_ROWS + 2), count=2)
    assert got.steps[0].prefill is not None
    assert got.steps[0].prefill.calls == 3
    assert got.summary.calls == 2
    assert runtime.positions == list(range(2 * PREFILL_ROWS + 3))


def test_chunks_of_the_prompt_change_nothing() -> None:
    model = tiny.tiny_llama(vocabulary=12, context=1024)
    prompt = [int(i) for i in np.random.default_rng(0).integers(0, 12, 2 * PREFILL_ROWS + 5)]
    got = run(model, prompt, temperature=0.0, count=8)
    ids = torch.tensor([prompt])
    expected = model.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    assert got.ids == expected[0, len(prompt) :].tolist()


def test_a_character_split_over_drafts_comes_with_its_last_byte() -> None:
    model, _ = scripted("aé€😀b".encode())
    for strategy in STRATEGIES:
        got = run(model, [65], strategy, count=11, k=4, lookahead=random_lookahead(model, 4))
        assert [t.text for s in got.steps for t in s.tokens] == ["a", "", "é", "", "", "€", "", "", "", "😀", "b"]
        assert b"".join(t.bytes for s in got.steps for t in s.tokens) == "aé€😀b".encode()
        cut = run(model, [65], strategy, count=8, k=4, lookahead=random_lookahead(model, 4))
        assert cut.text == "aé€\ufffd"


def test_an_empty_prompt_needs_a_start_token() -> None:
    model, _ = scripted()
    with pytest.raises(PromptError, match="empty"):
        run(model, "")
    model.tokenizer.bos_token = "<|end|>"
    assert run(model, "", count=3).steps[0].prefill.prompt_tokens == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("token", [-1, tiny.BYTE_VOCABULARY])
def test_ids_outside_the_vocabulary_are_refused(token: int) -> None:
    model, _ = scripted()
    with pytest.raises(PromptError, match=str(tiny.BYTE_VOCABULARY)):
        run(model, [1, token])


def test_a_model_that_cannot_roll_back_decodes_plainly_and_says_why() -> None:
    model, _ = scripted()
    model.capabilities = Capabilities(False, "it keeps a running state.", 256)
    assert len(run(model, [65], count=5).ids) == 5
    assert len(run(model, [65], Strategy.FUSED, k=0, count=5).ids) == 5
    with pytest.raises(UnsupportedStrategy, match="running state"):
        run(model, [65], Strategy.FUSED, k=2)


def test_settings_refuse_what_lies_outside_their_range() -> None:
    for wrong in ({"k": -1}, {"k": 65}, {"row_budget": 0}, {"row_budget": 257}):
        with pytest.raises(SettingsError):
            DecodingSettings(**wrong)  # type: ignore[arg-type]
    for wrong_stop in ({"max_new_tokens": 0}, {"stop_strings": ("",)}):
        with pytest.raises(SettingsError):
            StopConditions(**wrong_stop)  # type: ignore[arg-type]


def test_nothing_runs_before_the_first_step_is_asked_for() -> None:
    model, runtime = scripted()
    steps = engine_of(model).decode([65], DecodingSettings(Strategy.AUTOREGRESSIVE))
    assert runtime.positions == []
    next(steps)
    assert runtime.positions == [0]
