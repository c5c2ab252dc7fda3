"""The proof of the same text, on a tiny model whose drafts are often accepted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pass_core.decoding.events import StepEvent
from pass_core.evaluation.same_text import prove_same_text
from pass_core.models.language_model import LanguageModel
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.prompt import Prompt
from pass_core.settings import DecodingSettings, SamplingSettings, SettingsError, StopConditions, Strategy
from tests import tiny
from tests.core.decoding.engine import random_lookahead
from tests.engines import engine_of

PROMPT = Prompt("Once upon a time")
STOP = StopConditions(40, ignore_eos=True)
FUSED = DecodingSettings(Strategy.FUSED, k=4, sampling=SamplingSettings(0.3, 3), auto=False)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny.tiny_llama(tokenizer=True)


def write(model: LanguageModel, settings: object = FUSED, **more: object) -> list[StepEvent]:
    lookahead = random_lookahead(model)
    options = {"stop": STOP, "seed": 5, "lookahead": lookahead} | more
    return list(engine_of(model).decode(PROMPT, settings, **options))  # type: ignore[arg-type]


def test_plain_decoding_writes_the_same_text(model: LanguageModel) -> None:
    told: list[Progress] = []
    steps = write(model)
    proof = prove_same_text(engine_of(model), PROMPT, steps, seed=5, stop=STOP, progress=told.append)
    assert proof.same
    assert proof.tokens == proof.calls == 40
    assert proof.given is proof.plain is None
    assert (told[-1].done, told[-1].total) == (40, 40)


def test_sampling_that_was_changed_on_the_way_is_changed_at_the_same_tokens(model: LanguageModel) -> None:
    def changing() -> Iterator[DecodingSettings]:
        for _ in range(3):
            yield FUSED
        while True:
            yield replace(FUSED, sampling=SamplingSettings(2.0, 0))

    schedule = changing()
    steps = write(model, lambda: next(schedule))
    assert len({s.settings.sampling for s in steps if s.tokens}) == 2
    assert prove_same_text(engine_of(model), PROMPT, steps, seed=5, stop=STOP).same


def test_a_text_stopped_by_hand_is_compared_as_far_as_it_goes(model: LanguageModel) -> None:
    asked: list[bool] = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 4

    steps = write(model, cancelled=cancelled)
    count = sum(len(s.tokens) for s in steps)
    assert 0 < count < 40
    proof = prove_same_text(engine_of(model), PROMPT, steps, seed=5, stop=STOP)
    assert proof.same
    assert proof.tokens == count


def test_a_forged_token_is_found_and_named(model: LanguageModel) -> None:
    steps = write(model)
    at = next(i for i, s in enumerate(steps) if s.tokens and s.tokens[0].index >= 12)
    true = steps[at].tokens[0]
    forged = replace(true, id=true.id ^ 1)
    steps[at] = replace(steps[at], tokens=(forged, *steps[at].tokens[1:]))
    proof = prove_same_text(engine_of(model), PROMPT, steps, seed=5, stop=STOP)
    assert not proof.same
    assert proof.tokens == true.index
    assert proof.given == forged
    assert proof.plain is not None
    assert proof.plain.id == true.id
    assert proof.calls == true.index + 1


def test_another_seed_is_no_proof(model: LanguageModel) -> None:
    assert not prove_same_text(engine_of(model), PROMPT, write(model), seed=6, stop=STOP).same


def test_no_token_and_no_patience(model: LanguageModel) -> None:
    with pytest.raises(SettingsError):
        prove_same_text(engine_of(model), PROMPT, [], seed=5, stop=STOP)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        prove_same_text(engine_of(model), PROMPT, write(model), seed=5, stop=STOP, cancel=cancel)
